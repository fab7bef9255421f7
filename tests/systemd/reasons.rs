//! What leads a host to a snapshot by itself when no unit has failed: a filesystem that fills up, a certificate that runs
//! out, and the kernel, which kills for memory.

use std::path::PathBuf;
use std::time::Duration;

use serde_json::Value;

use super::automatic::Host;
use crate::support::pki::Authority;
use crate::support::sandbox::Sandbox;
use crate::support::until;

/// The reason of the snapshot of this kind.
fn reason(snapshots: &[Value], kind: &str) -> String {
    let of_kind = snapshots.iter().find(|snapshot| snapshot["trigger"]["kind"] == kind);
    let of_kind = of_kind.unwrap_or_else(|| panic!("{kind}: {snapshots:#?}"));
    assert_eq!(of_kind["status"], "completed", "{of_kind:#}");
    of_kind["trigger"]["reason"].as_str().unwrap().to_owned()
}

#[test]
fn a_full_filesystem_and_a_certificate_near_its_end_lead_to_a_snapshot_each() {
    let sandbox = Sandbox::boot();
    // 4 MiB that are storage to the agent: the writable half of an overlay, as of this host itself. By a path that leads
    // nowhere from elsewhere, or it would be known to lie in memory.
    sandbox.run(&["mkdir", "-p", "/small", "/var/lib/iggy"]);
    sandbox.run(&["mount", "-t", "tmpfs", "-o", "size=4m", "none", "/small"]);
    sandbox.run(&["mkdir", "/small/lower", "/small/upper", "/small/work"]);
    let layers = "lowerdir=lower,upperdir=upper,workdir=work";
    let mounted = format!("cd /small && mount -t overlay -o {layers} none /var/lib/iggy");
    sandbox.run(&["sh", "-c", &mounted]);
    sandbox.run(&["dd", "if=/dev/zero", "of=/var/lib/iggy/filler", "bs=4k", "count=1000"]);

    let in_three_days = Duration::from_secs(3 * 86_400);
    let certified = Authority::new("warden tests").server_for("iggy.example.com", in_three_days);
    sandbox.write("/etc/iggy/certificate.pem", &certified.certificate);
    let config = "[tcp]\nenabled = true\naddress = \"127.0.0.1:8090\"\n[tcp.tls]\nenabled = true\nself_signed = false\n\
                  cert_file = \"/etc/iggy/certificate.pem\"\nkey_file = \"/etc/iggy/key.pem\"\n";
    sandbox.write("/etc/iggy/config.toml", config);
    let service =
        "[Service]\nExecStart=/bin/sleep infinity\nEnvironment=IGGY_CONFIG_PATH=/etc/iggy/config.toml\n";
    sandbox.unit("iggy.service", service);

    let host = Host::enrolled_on(sandbox);
    let snapshots = host.has_snapshots(2);
    assert_eq!(reason(&snapshots, "filesystem_full"), "/var/lib/iggy is 97 % full");
    let expires = reason(&snapshots, "certificate_expires");
    assert!(expires.starts_with("the certificate /etc/iggy/certificate.pem expires at 20"), "{expires}");
}

/// 32 MiB for the processes of a unit, by whichever memory controller this machine lets tests use.
enum Limit {
    /// systemd limits them itself: the cgroup2 hierarchy of the sandbox has the controller.
    BySystemd,
    /// A group of the older hierarchy, gone with this.
    Group(PathBuf),
}

impl Limit {
    const BYTES: u64 = 32 << 20;

    /// Before the sandbox needs it; a machine that cannot limit memory says so at once.
    fn of_machine(sandbox: &Sandbox) -> Limit {
        let controllers = std::fs::read_to_string(sandbox.cgroup().join("init/cgroup.controllers")).unwrap();
        if controllers.split_whitespace().any(|controller| controller == "memory") {
            return Limit::BySystemd;
        }
        let mounts = std::fs::read_to_string("/proc/self/mountinfo").unwrap();
        let mut mounted = mounts.lines().filter_map(|line| {
            let (place, kind) = line.split_once(" - cgroup ")?;
            kind.split([' ', ',']).any(|option| option == "memory").then(|| place.split(' ').nth(4))?
        });
        let name = format!("warden-tests.{}", std::process::id());
        let group = mounted.next().map(|top| PathBuf::from(top).join(name));
        let made = group.filter(|group| std::fs::create_dir(group).is_ok());
        let group = made.unwrap_or_else(|| {
            panic!(
                "this test needs a memory limit, and this machine lets nobody set one: there is neither a cgroup2 \
                 hierarchy with the memory controller for {} nor a memory hierarchy of cgroup v1 to write to; \
                 run the tests where the memory controller is delegated",
                sandbox.cgroup().display()
            )
        });
        // Without swap: what does not fit must not be written out instead.
        for (file, value) in [
            ("memory.limit_in_bytes", Limit::BYTES),
            ("memory.memsw.limit_in_bytes", Limit::BYTES),
            ("memory.swappiness", 0),
        ] {
            if group.join(file).exists() {
                std::fs::write(group.join(file), value.to_string()).unwrap();
            }
        }
        Limit::Group(group)
    }

    /// Puts the processes of `unit` under the limit.
    fn hold(&self, sandbox: &Sandbox, unit: &str) {
        let Limit::Group(group) = self else { return };
        // As they are numbered out here.
        let found =
            std::process::Command::new("find").arg(sandbox.cgroup()).args(["-name", unit]).output().unwrap();
        let of_unit = PathBuf::from(String::from_utf8(found.stdout).unwrap().trim());
        let processes = std::fs::read_to_string(of_unit.join("cgroup.procs")).unwrap();
        // The shell's children are done within a tenth of a second: one may be gone before it is moved.
        for process in processes.lines() {
            match std::fs::write(group.join("cgroup.procs"), process) {
                Err(error) if error.raw_os_error() != Some(nix::libc::ESRCH) => panic!("{process}: {error}"),
                _ => {}
            }
        }
        let held = std::fs::read_to_string(group.join("cgroup.procs")).unwrap();
        let left = |process: &&str| {
            let is_there = std::path::Path::new("/proc").join(process).exists();
            is_there && held.lines().all(|held| held != *process)
        };
        let free: Vec<&str> = processes.lines().filter(left).collect();
        assert!(!held.is_empty() && free.is_empty(), "{free:?} of {} are not in {held:?}", of_unit.display());
    }
}

impl Drop for Limit {
    fn drop(&mut self) {
        if let Limit::Group(group) = self {
            // The kernel counts what it killed as inside for a moment.
            for _ in 0..100 {
                if std::fs::remove_dir(&*group).is_ok() {
                    return;
                }
                std::thread::sleep(Duration::from_millis(10));
            }
        }
    }
}

#[test]
fn a_unit_that_the_kernel_kills_for_memory_leads_to_a_snapshot_that_says_so() {
    let sandbox = Sandbox::boot();
    let limit = Limit::of_machine(&sandbox);
    // It wants 200 MiB, once, when it is told to; started again, it waits for the next word.
    let script = "until rm /run/grow 2>/dev/null; do sleep 0.1; done; exec dd if=/dev/zero of=/dev/null bs=200M count=1";
    let service = format!(
        "[Service]\nExecStart=/bin/sh -c '{script}'\nRestart=always\nRestartSec=1\nMemoryMax=32M\nMemorySwapMax=0\n"
    );
    sandbox.unit("iggy.service", &service);
    let host = Host::enrolled_on(sandbox);
    until("the agent has looked at the unit", || {
        let recorder = host.sandbox.root().join("var/lib/warden/recorder");
        let files = std::fs::read_dir(recorder).ok()?;
        let samples = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        (samples.map(|text| text.matches("\tactive\t").count()).sum::<usize>() >= 4).then_some(())
    });
    limit.hold(&host.sandbox, "iggy.service");
    host.sandbox.write("/run/grow", "");
    until("systemd has started it again", || {
        (host.sandbox.property("iggy.service", "NRestarts") == "1").then_some(())
    });
    drop(limit);
    let snapshots = host.has_snapshots(1);
    assert_eq!(reason(&snapshots, "out_of_memory"), "iggy.service was killed for memory");
}
