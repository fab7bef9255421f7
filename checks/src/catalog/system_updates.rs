//! system-updates: does a security update or a reboot wait.

use std::cmp::Ordering;

use warden_host::quantity::{count, duration};
use warden_host::{Host, IfAny};

use crate::{Advice, Area, Check, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "system-updates",
    area: Area::System,
    title: "Does an update or a reboot wait?",
    why: "An installed kernel protects nobody until the machine runs it, and io_uring, on which Iggy lives, is the part of \
          the kernel with the most security fixes. A node that has not been rebooted for long also shows old faults at the worst time.",
    reads: &[
        Read::Path("/run/reboot-required"),
        Read::Path("/run/reboot-required.pkgs"),
        Read::Path("/boot"),
        Read::Path("/var/lib/apt/lists"),
        Read::Path("/var/cache/apt/pkgcache.bin"),
        Read::Path("/var/lib/dpkg/status"),
        Read::Command("apt-pending"),
        Read::Command("dpkg-kernels"),
    ],
    thresholds: &[
        "warns when a reboot is asked for, or a newer kernel than the running one is installed",
        "warns when security updates wait",
        "notes that waiting updates cannot be told, or that the package lists are older than 14 days",
    ],
    advice: "Install the updates and reboot one node at a time.",
    deadline: crate::DEADLINE,
    run,
};

const STALE_LISTS_SECONDS: i64 = 14 * 86_400;

fn run(host: &Host) -> Result<Finding> {
    let uname = host.uname()?;
    let reboot = host.stat("/run/reboot-required").if_any()?;
    let asking = host.read("/run/reboot-required.pkgs").if_any()?.unwrap_or_default();
    let mut asking: Vec<&str> = asking.lines().map(str::trim).filter(|name| !name.is_empty()).collect();
    asking.sort_unstable();
    asking.dedup();

    let mut finding = Finding::new("");
    if reboot.is_some() {
        let packages = if asking.is_empty() { String::new() } else { format!(" by {}", asking.join(", ")) };
        finding
            .warn(format!("a reboot is asked for{packages}"), Advice::run(CHECK.advice, "systemctl reboot"));
    }
    // A container has no kernels of its own.
    let kernels: Vec<String> = host
        .list("/boot")
        .if_any()?
        .unwrap_or_default()
        .into_iter()
        .filter_map(|entry| Some(entry.name.strip_prefix("vmlinuz-")?.to_owned()))
        .collect();
    if let Some(newer) = newest_of_kind(&kernels, &uname.release)
        .filter(|newest| natural(newest, &uname.release) == Ordering::Greater)
    {
        let text = format!("kernel {newer} is installed, but {} runs", uname.release);
        finding.warn(text, Advice::run("Reboot this node when its load can be moved.", "systemctl reboot"));
    }
    let rebuilt = rebuilt_package(host, &uname.release, &uname.version);
    if let Some(version) = &rebuilt {
        let text = format!(
            "package linux-image-{} is at {version}, but an earlier build of it runs ({})",
            uname.release, uname.version
        );
        finding.warn(text, Advice::run("Reboot this node when its load can be moved.", "systemctl reboot"));
    }
    let updates = updates(host, &mut finding)?;

    let waiting = updates.as_ref().map_or_else(
        || "waiting updates cannot be told".to_owned(),
        |updates| {
            let security = updates.iter().filter(|update| update.is_security).count();
            format!(
                "{} waiting, {security} of them for security",
                count(updates.len() as u64, "update is", "updates are")
            )
        },
    );
    let due =
        finding.problems.iter().any(|problem| problem.advice.command.as_deref() == Some("systemctl reboot"));
    finding.summary = format!("{waiting}; {} reboot is due", if due { "a" } else { "no" });
    finding.show(Evidence::Fields(
        Fields::new("Kernel")
            .row("running", Value::Code(uname.release))
            .row("running build", Value::Code(uname.version))
            .row(
                "installed",
                if kernels.is_empty() { Value::Nothing } else { Value::Code(kernels.join(" ")) },
            )
            .row("reboot asked for", reboot.is_some())
            .row("asked for by", asking.join(", ")),
    ));
    if let Some(updates) = updates.filter(|updates| !updates.is_empty()) {
        finding.show(Evidence::Table(table(updates)));
    }
    Ok(finding)
}

/// An update that apt would install.
#[derive(Debug, PartialEq, Eq)]
struct Update {
    package: String,
    installed: String,
    candidate: String,
    is_security: bool,
}

impl Update {
    /// `Inst name [installed] (candidate Origin:release/suite, ... [arch])`; a new package has no `[installed]`.
    fn parse(line: &str) -> Option<Update> {
        let (package, rest) = line.strip_prefix("Inst ")?.split_once(' ')?;
        let (before, offer) = rest.split_once('(')?;
        let offer = offer.split_once(')').map_or(offer, |(offer, _)| offer);
        let (candidate, origins) = offer.split_once(' ')?;
        Some(Update {
            package: package.to_owned(),
            installed: before.trim().trim_matches(['[', ']']).to_owned(),
            candidate: candidate.to_owned(),
            is_security: origins.contains("-security") || origins.contains("-Security"),
        })
    }
}

/// What waits, by the package lists on disk; `None` where that cannot be told.
fn updates(host: &Host, finding: &mut Finding) -> Result<Option<Vec<Update>>> {
    if host.stat("/var/lib/dpkg/status").if_any()?.is_some() && !has_fresh_cache(host)? {
        let text = "apt keeps no package cache here, and working one out takes seconds of CPU: waiting updates were not looked for";
        finding.note(text, Advice::run("Ask it by hand.", "apt list --upgradable"));
        return Ok(None);
    }
    let output = match host.run("apt-pending").if_any() {
        Ok(Some(output)) if output.status == Some(0) => output,
        Ok(None) => {
            let advice = Advice::run(
                "Warden asks only apt, which is not installed; ask the package manager of this system.",
                "dnf updateinfo list --security || zypper list-patches --category security",
            );
            finding.note("waiting updates cannot be told without apt", advice);
            return Ok(None);
        }
        Ok(Some(output)) => {
            let reason = output.stderr.lines().next().unwrap_or("no reason given").to_owned();
            finding.note(
                format!("apt cannot tell what waits: {reason}"),
                Advice::run("Mend the package database.", "apt-get check"),
            );
            return Ok(None);
        }
        Err(error) => {
            finding.note(
                format!("apt cannot tell what waits: {error}"),
                Advice::run("Ask it by hand.", "apt list --upgradable"),
            );
            return Ok(None);
        }
    };
    let updates: Vec<Update> = output.stdout.lines().filter_map(Update::parse).collect();
    let security: Vec<&str> =
        updates.iter().filter(|update| update.is_security).map(|update| update.package.as_str()).collect();
    if !security.is_empty() {
        const NAMED: usize = 8;
        let more = if security.len() > NAMED {
            format!(" and {} more", security.len() - NAMED)
        } else {
            String::new()
        };
        let text = format!(
            "{}: {}{more}",
            count(security.len() as u64, "security update waits", "security updates wait"),
            security[..security.len().min(NAMED)].join(", ")
        );
        finding.warn(text, Advice::run(CHECK.advice, "apt-get update && apt-get upgrade"));
    }
    let advice = || Advice::run("Fetch the lists regularly.", "apt-get update");
    match host.stat("/var/lib/apt/lists").if_any()? {
        None => finding.note("apt has no package lists, so it knows of no updates", advice()),
        Some(lists) => {
            let age = host.clock()?.seconds().saturating_sub(lists.modified);
            if age > STALE_LISTS_SECONDS {
                let age = duration(age as f64);
                finding.note(format!("the package lists are {age} old, so newer updates may wait"), advice());
            }
        }
    }
    Ok(Some(updates))
}

/// Whether apt can answer from its own cache, without reading all its lists and without writing anything.
fn has_fresh_cache(host: &Host) -> Result<bool> {
    let modified = |path: &str| Ok::<_, crate::Error>(host.stat(path).if_any()?.map(|stat| stat.modified));
    let sources = modified("/var/lib/dpkg/status")?.max(modified("/var/lib/apt/lists")?);
    Ok(modified("/var/cache/apt/pkgcache.bin")?.is_some_and(|cache| Some(cache) >= sources))
}

/// The version of the running kernel's package, where the running build is another one. Debian writes the
/// package's version into the build: `#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)`.
fn rebuilt_package(host: &Host, release: &str, build: &str) -> Option<String> {
    let running = build.split_once("Debian ")?.1.split(' ').next()?.to_owned();
    let output = host.run("dpkg-kernels").ok()?;
    let wanted = format!("linux-image-{release}");
    let installed = output.stdout.lines().find_map(|line| {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        matches!(words[..], ["ii", package, _] if package == wanted).then(|| words[2].to_owned())
    })?;
    (natural(&installed, &running) == Ordering::Greater).then_some(installed)
}

/// The newest of those that are built for the same purpose as `running` (`amd64`, `generic`, `aws`).
fn newest_of_kind<'a>(kernels: &'a [String], running: &str) -> Option<&'a str> {
    let same = kernels.iter().filter(|release| flavour(release) == flavour(running));
    same.map(String::as_str).max_by(|a, b| natural(a, b))
}

/// A release from its first letter on, without digits: `amd`, `generic`, `el_.x_`.
fn flavour(release: &str) -> String {
    let letters = release.trim_start_matches(|character: char| !character.is_ascii_alphabetic());
    letters.chars().filter(|character| !character.is_ascii_digit()).collect()
}

/// Compares runs of digits as numbers and everything between them as text.
fn natural(a: &str, b: &str) -> Ordering {
    let numbers = |text: &str| -> Vec<u64> {
        text.split(|character: char| !character.is_ascii_digit())
            .filter_map(|digits| digits.parse().ok())
            .collect()
    };
    numbers(a).cmp(&numbers(b)).then_with(|| a.cmp(b))
}

fn table(mut updates: Vec<Update>) -> Table {
    updates.sort_by(|a, b| (!a.is_security, &a.package).cmp(&(!b.is_security, &b.package)));
    let mut table = Table::new("Waiting updates", ["package", "installed", "update", "for security"]);
    for update in updates {
        let is_security = update.is_security;
        let installed =
            if update.installed.is_empty() { Value::Nothing } else { Value::Code(update.installed) };
        let cells =
            [Value::Code(update.package), installed, Value::Code(update.candidate), is_security.into()];
        if is_security { table.marked_row(Verdict::Warn, cells) } else { table.row(cells) }
    }
    table
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Data, Entry, Kind, Output, Recorded, Request, Stat, Uname};

    use super::*;

    const NOW: i64 = 1_795_262_400;
    const RUNNING: &str = "6.1.0-28-amd64";

    fn stat(modified: i64) -> Data {
        Data::Stat(Stat {
            kind: Kind::Directory,
            mode: 0o755,
            uid: 0,
            gid: 0,
            size: 0,
            allocated: 0,
            modified,
            device: 0,
            inode: 0,
        })
    }

    fn command(host: Recorded, name: &str, stdout: &str) -> Recorded {
        let output = Output { status: Some(0), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
        host.with(Request::Command { name: name.to_owned(), argument: None }, Data::Output(output))
    }

    fn host(kernels: &[&str], apt: &str) -> Recorded {
        let version = "#1 SMP PREEMPT_DYNAMIC Debian 6.1.119-1 (2024-11-22)".to_owned();
        let uname = Uname {
            release: RUNNING.to_owned(),
            version,
            system: String::new(),
            node: String::new(),
            machine: String::new(),
        };
        let entries = kernels
            .iter()
            .map(|release| Entry { name: format!("vmlinuz-{release}"), kind: Kind::File })
            .collect();
        let host = Recorded::complete()
            .at(NOW, 90_000)
            .with(Request::Uname, Data::Uname(uname))
            .with(Request::List { path: "/boot".to_owned() }, Data::Entries { entries, left_out: 0 })
            .with(Request::Stat { path: "/var/lib/apt/lists".to_owned() }, stat(NOW - 3600))
            .with(Request::Stat { path: "/var/lib/dpkg/status".to_owned() }, stat(NOW - 7200))
            .with(Request::Stat { path: "/var/cache/apt/pkgcache.bin".to_owned() }, stat(NOW));
        command(host, "apt-pending", apt)
    }

    const SECURITY: &str = "Inst libssl3 [3.0.11-1] (3.0.15-1 Debian:12.8/stable, Debian-Security:12/stable-security [amd64]) []\nConf libssl3 (3.0.15-1 x [amd64])\n";

    #[test]
    fn an_up_to_date_machine_passes() {
        let finding = run(&host(&[RUNNING, "6.1.0-27-amd64"], "").host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "0 updates are waiting, 0 of them for security; no reboot is due");
    }

    #[test]
    fn a_security_update_warns_and_another_update_does_not() {
        let finding = run(&host(&[], SECURITY).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "1 security update waits: libssl3");
        let other = "Inst bash [5.2-2] (5.2-3 Debian:12.15/oldstable [amd64])\n";
        assert_eq!(
            run(&host(&[], other).host()).unwrap().summary,
            "1 update is waiting, 0 of them for security; no reboot is due"
        );
    }

    #[test]
    fn a_newer_kernel_of_the_same_kind_warns() {
        let finding =
            run(&host(&[RUNNING, "6.1.0-101-amd64", "6.9.0-1-cloud-amd64", "0-rescue-77"], "").host())
                .unwrap();
        assert_eq!(finding.problems[0].text, "kernel 6.1.0-101-amd64 is installed, but 6.1.0-28-amd64 runs");
        assert!(finding.summary.ends_with("; a reboot is due"));
    }

    #[test]
    fn kernels_are_compared_by_number_and_kind() {
        assert_eq!(natural("5.14.0-503.el9_5.x86_64", "5.14.0-427.99.el9_4.x86_64"), Ordering::Greater);
        assert_eq!(flavour("5.14.0-503.el9_5.x86_64"), flavour("5.14.0-427.el9_4.x86_64"));
        assert_ne!(flavour("6.8.0-1017-aws"), flavour("6.8.0-45-generic"));
    }

    #[test]
    fn a_rebuilt_package_of_the_running_kernel_warns() {
        let rebuilt = command(
            host(&[RUNNING], ""),
            "dpkg-kernels",
            "ii  linux-image-6.1.0-28-amd64 6.1.124-1\nrc  linux-image-6.1.0-9-amd64 6.1.27-1\n",
        );
        let finding = run(&rebuilt.host()).unwrap();
        assert!(finding.problems[0].text.starts_with(
            "package linux-image-6.1.0-28-amd64 is at 6.1.124-1, but an earlier build of it runs"
        ));
        let same =
            command(host(&[RUNNING], ""), "dpkg-kernels", "ii  linux-image-6.1.0-28-amd64 6.1.119-1\n");
        assert_eq!(run(&same.host()).unwrap().verdict(), Verdict::Pass);
    }

    #[test]
    fn a_reboot_that_is_asked_for_warns_and_names_the_packages() {
        let asked = host(&[], "")
            .with(Request::Stat { path: "/run/reboot-required".to_owned() }, stat(NOW))
            .file("/run/reboot-required.pkgs", "linux-base\nlibc6\nlibc6\n");
        assert_eq!(
            run(&asked.host()).unwrap().problems[0].text,
            "a reboot is asked for by libc6, linux-base"
        );
    }

    #[test]
    fn old_lists_and_a_system_without_apt_are_noted() {
        let lists = |age| {
            host(&[], "").with(Request::Stat { path: "/var/lib/apt/lists".to_owned() }, stat(NOW - age))
        };
        assert_eq!(run(&lists(STALE_LISTS_SECONDS).host()).unwrap().verdict(), Verdict::Pass);
        let old = run(&lists(STALE_LISTS_SECONDS + 86_400).host()).unwrap();
        assert_eq!(old.problems[0].text, "the package lists are 15 d old, so newer updates may wait");
        let no_cache = host(&[], "")
            .without(Request::Stat { path: "/var/cache/apt/pkgcache.bin".to_owned() }, Cause::Absent);
        let finding = run(&no_cache.host()).unwrap();
        assert!(finding.problems[0].text.starts_with("apt keeps no package cache here"));
        let without = host(&[], "")
            .without(Request::Command { name: "apt-pending".to_owned(), argument: None }, Cause::Absent);
        let finding = run(&without.host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Note, "waiting updates cannot be told; no reboot is due")
        );
    }

    #[test]
    fn a_boot_folder_that_is_closed_is_unknown() {
        let closed = host(&[], "").without(Request::List { path: "/boot".to_owned() }, Cause::Denied);
        assert!(run(&closed.host()).is_err());
    }
}
