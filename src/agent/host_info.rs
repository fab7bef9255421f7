//! What this host is: told once per connection.

use anyhow::Context;
use sysinfo::{MemoryRefreshKind, System};
use warden_protocol::About;

/// Bytes of a name, as far as it is worth telling.
const NAME_LIMIT: usize = 255;

/// This host as the kernel and os-release(5) tell; what cannot be read stays empty.
pub fn about() -> About {
    let system = nix::sys::utsname::uname().ok();
    let name = |part: fn(&nix::sys::utsname::UtsName) -> &std::ffi::OsStr| {
        let text = system.as_ref().map(|system| part(system).to_string_lossy().into_owned());
        bounded(text.unwrap_or_default())
    };
    let os_release = ["/etc/os-release", "/usr/lib/os-release"]
        .iter()
        .find_map(|path| std::fs::read_to_string(path).ok())
        .unwrap_or_default();
    About {
        hostname: name(|system| system.nodename()),
        os: bounded(pretty_name(&os_release)),
        kernel: name(|system| system.release()),
        architecture: name(|system| system.machine()),
        cpus: std::thread::available_parallelism()
            .map_or(0, |count| u32::try_from(count.get()).unwrap_or(u32::MAX)),
        memory_bytes: memory_bytes(),
    }
}

fn memory_bytes() -> u64 {
    let Ok(mut system) = System::new() else { return 0 };
    system.refresh_memory_specifics(MemoryRefreshKind::nothing().with_ram());
    system.total_memory()
}

/// Changes with each boot of the kernel.
pub fn boot_id() -> anyhow::Result<String> {
    let path = "/proc/sys/kernel/random/boot_id";
    let text = std::fs::read_to_string(path).with_context(|| format!("cannot read {path}"))?;
    Ok(text.trim().to_owned())
}

/// Tells this start of the agent from every other, on whatever host.
pub fn instance() -> anyhow::Result<String> {
    Ok(warden_platform::secret::Secret::draw("")?.hash()[..32].to_owned())
}

fn pretty_name(os_release: &str) -> String {
    let value = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    value.unwrap_or_default().trim().trim_matches(['"', '\'']).to_owned()
}

fn bounded(mut text: String) -> String {
    let end = (0..=NAME_LIMIT.min(text.len())).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
    text.truncate(end);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_host_is_told() {
        let about = about();
        assert!(!about.hostname.is_empty() && !about.kernel.is_empty() && about.cpus > 0, "{about:?}");
        assert!(about.memory_bytes > 1 << 20, "{about:?}");
        assert_eq!(boot_id().unwrap().len(), 36);
        assert_ne!(instance().unwrap(), instance().unwrap());
    }

    #[test]
    fn the_name_of_the_system_is_read_without_its_quotes() {
        assert_eq!(pretty_name("NAME=x\nPRETTY_NAME=\"Debian GNU/Linux 12\"\n"), "Debian GNU/Linux 12");
        assert_eq!(pretty_name("NAME=x\n"), "");
        assert_eq!(bounded("é".repeat(200)).len(), 254);
    }
}
