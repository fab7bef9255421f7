//! disk-health: is a disk, a filesystem or an array failing.

use std::collections::BTreeMap;
use std::time::Duration;

use crate::block::{DISKS, Disk, PARTITIONS, device_in_error};
use crate::host::{Host, IfAny};
use crate::redundancy::{Copies, Fault, arrays, drbd_devices, drbd_resources};
use crate::smart::Health;
use crate::{Advice, Area, Check, Evidence, Finding, Read, Result, Table, Value, Verdict, quantity};

pub const CHECK: Check = Check {
    id: "disk-health",
    area: Area::Disk,
    title: "Is a disk failing?",
    why: "Iggy has one copy of each partition on a single node. A sector that cannot be read makes the server refuse \
          to start, or serve nothing from the damaged offset on without an error; an array that lost a member is one \
          fault away from losing all.",
    reads: &[
        Read::Path(DISKS),
        Read::Path(PARTITIONS),
        Read::Path("/sys/block/*/device/state"),
        Read::Path("/sys/fs/ext4/*/errors_count"),
        Read::Path("/sys/fs/btrfs/*/devinfo/*/error_stats"),
        Read::Path("/proc/mdstat"),
        Read::Path("/proc/drbd"),
        Read::Command("drbdsetup-status"),
        Read::Command("smartctl"),
        Read::Command("nvme-smart-log"),
        Read::KernelLog,
    ],
    thresholds: &[
        "fails when a disk says it is failing, is offline, or has sectors it cannot read",
        "fails when the kernel logged an I/O error, or an array (RAID, DRBD) lost a copy",
        "warns on any media error, replaced sector or recorded filesystem error, and while an array rebuilds",
        "warns when an NVMe disk has used 100 % of its life, notes 90 %",
    ],
    advice: "Copy the data while it can be read, then replace the disk.",
    // Asking a disk takes some 50 ms, one that spins up several seconds.
    deadline: Duration::from_secs(20),
    run,
};

/// Disks that are asked for their health: at 50 ms each, two seconds.
const DISKS_ASKED: usize = 40;

fn run(host: &Host) -> Result<Finding> {
    let disks = Disk::all(host)?;
    let mut finding = Finding::new("");
    let mut states = Table::new("Redundancy", ["name", "state"]);
    let sets = copies(host, &mut finding)?;
    for one in &sets {
        judge_copies(&mut finding, &mut states, one);
    }
    if disks.is_empty() && sets.is_empty() {
        return Ok(Finding::skip("there is no disk here"));
    }

    for file in host.read_all("/sys/block/*/device/state")? {
        let (Some(name), state) = (file.path.split('/').nth(3), file.text.trim()) else { continue };
        if ["offline", "transport-offline", "blocked", "dead"].contains(&state) {
            let command = "dmesg --level=emerg,alert,crit,err | tail -n 50";
            finding.fail(
                format!("the kernel says that {name} is {state}"),
                Advice::run("Check cable and controller, then the disk.", command),
            );
        }
    }
    judge_filesystems(host, &mut finding)?;
    let table = ask_disks(host, &disks, &mut finding);
    judge_kernel_log(host, &mut finding);

    let asked = table.rows.len();
    finding.summary = match finding.problems.iter().filter(|problem| problem.severity > Verdict::Note).count()
    {
        0 => format!(
            "no fault is known of {}; {asked} told their health",
            quantity::count(disks.len() as u64, "disk", "disks")
        ),
        faults => format!(
            "{} on {}",
            quantity::count(faults as u64, "fault", "faults"),
            quantity::count(disks.len() as u64, "disk", "disks")
        ),
    };
    if asked > 0 {
        finding.show(Evidence::Table(table));
    }
    if !states.rows.is_empty() {
        finding.show(Evidence::Table(states));
    }
    Ok(finding)
}

fn copies(host: &Host, finding: &mut Finding) -> Result<Vec<Copies>> {
    let mut found = arrays(&host.read("/proc/mdstat").if_any()?.unwrap_or_default());
    let Some(drbd) = host.read("/proc/drbd").if_any()? else { return Ok(found) };
    found.extend(drbd_devices(&drbd));
    // DRBD 9 tells its resources only to its tool.
    if drbd.starts_with("version: 9") {
        let said = host.run("drbdsetup-status").map(|output| drbd_resources(&output.stdout));
        match said {
            Ok(Some(resources)) => found.extend(resources),
            Ok(None) => finding.note(
                "the state of DRBD could not be read",
                Advice::run("Run Warden as root.", "drbdsetup status"),
            ),
            Err(error) => finding.note(
                format!("the state of DRBD could not be read: {error}"),
                Advice::run("Run Warden as root.", "drbdsetup status"),
            ),
        }
    }
    Ok(found)
}

fn judge_copies(finding: &mut Finding, table: &mut Table, one: &Copies) {
    let cells = [Value::Code(one.name.clone()), one.state.clone().into()];
    let (severity, what) = match one.fault {
        None => return table.row(cells),
        Some(Fault::Broken) => (Verdict::Fail, "has no good copy here"),
        Some(Fault::Degraded) => (Verdict::Fail, "is degraded"),
        Some(Fault::Recovering) => (Verdict::Warn, "is being made whole again"),
    };
    table.marked_row(severity, cells);
    let command = match one.name.strip_prefix("DRBD ") {
        Some(_) => "drbdadm status".to_owned(),
        None => format!("mdadm --detail /dev/{}", one.name),
    };
    finding.problem(
        severity,
        format!("{} {what}: {}", one.name, one.state),
        Advice::run("Replace or reconnect the missing copy and let it rebuild.", command),
    );
}

fn judge_filesystems(host: &Host, finding: &mut Finding) -> Result<()> {
    for file in host.read_all("/sys/fs/ext4/*/errors_count")? {
        let (device, errors) = (file.path.split('/').nth(4).unwrap_or_default(), file.text.trim());
        if errors.parse().is_ok_and(|errors: u64| errors > 0) {
            let text = format!("ext4 on {device} has recorded {errors} errors since it was last checked");
            finding.warn(
                text,
                Advice::run("Stop Iggy, unmount, check and mount again.", format!("e2fsck -f /dev/{device}")),
            );
        }
    }
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    for file in host.read_all("/sys/fs/btrfs/*/devinfo/*/error_stats")? {
        let counts =
            file.text.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
        let sum = errors.entry(file.path.split('/').nth(4).unwrap_or_default().to_owned()).or_default();
        *sum = counts.fold(*sum, u64::saturating_add);
    }
    for (filesystem, count) in errors.into_iter().filter(|(_, count)| *count > 0) {
        let text = format!("the btrfs {filesystem} has counted {count} errors of its devices");
        finding.warn(
            text,
            Advice::run(
                "See which device, then scrub.",
                format!("btrfs device stats /dev/disk/by-uuid/{filesystem}"),
            ),
        );
    }
    Ok(())
}

fn ask_disks(host: &Host, disks: &[Disk], finding: &mut Finding) -> Table {
    let columns = [
        "disk",
        "own verdict",
        "media errors",
        "replaced sectors",
        "unreadable sectors",
        "life used %",
        "°C",
        "hours on",
    ];
    let mut table = Table::new("What the disks say", columns);
    let mut silent: BTreeMap<String, Vec<&str>> = BTreeMap::new();
    // Stacked and virtual disks have no health of their own.
    let physical: Vec<&Disk> = disks
        .iter()
        .filter(|disk| ["sd", "hd", "nvme"].iter().any(|kind| disk.name.starts_with(kind)))
        .collect();
    for disk in physical.iter().take(DISKS_ASKED) {
        let health = match ask(host, &disk.name) {
            Ok(health) => health,
            Err(reason) => {
                silent
                    .entry(reason.replace(&format!("/dev/{}", disk.name), "the device"))
                    .or_default()
                    .push(&disk.name);
                continue;
            }
        };
        let problems = health.problems();
        let cells = [
            Value::Code(disk.name.clone()),
            health.passed.map(|passed| if passed { "passed" } else { "failing" }).into(),
            health.media_errors.into(),
            health.reallocated.into(),
            health.pending.into(),
            health.wear.into(),
            health.celsius.into(),
            health.hours.into(),
        ];
        match problems.iter().map(|(severity, _)| *severity).max() {
            Some(severity) => table.marked_row(severity, cells),
            None => table.row(cells),
        }
        for (severity, text) in problems {
            let advice = Advice::run(CHECK.advice, format!("smartctl --all /dev/{}", disk.name));
            finding.problem(severity, format!("{} {text}", disk.name), advice);
        }
    }
    for (reason, names) in silent {
        let advice = Advice::run(
            "Install smartmontools and run Warden as root; a virtual disk has nothing to tell.",
            "apt-get install smartmontools || dnf install smartmontools",
        );
        finding.note(format!("{} did not tell their health: {reason}", names.join(", ")), advice);
    }
    if physical.len() > DISKS_ASKED {
        let text = format!(
            "{} of {} disks were not asked for their health",
            physical.len() - DISKS_ASKED,
            physical.len()
        );
        finding.note(text, Advice::text("Run smartd, which watches all of them."));
    }
    table
}

fn ask(host: &Host, name: &str) -> Result<Health, String> {
    let device = format!("/dev/{name}");
    let asked = |command: &str| host.run_with(command, &device).map_err(|error| error.to_string());
    let by_smartctl = asked("smartctl").and_then(|output| Health::of_smartctl(&output.stdout));
    match by_smartctl {
        Err(reason) if name.starts_with("nvme") => {
            asked("nvme-smart-log").and_then(|output| Health::of_nvme(&output.stdout)).map_err(|_| reason)
        }
        answer => answer,
    }
}

fn judge_kernel_log(host: &Host, finding: &mut Finding) {
    let log = match host.kernel_log() {
        Ok(log) => log,
        Err(error) => {
            let advice = Advice::run(
                "Run Warden as root, or let its user read the kernel log.",
                "sysctl kernel.dmesg_restrict",
            );
            finding.note(
                format!("the kernel log was not read, so I/O errors in it are not known: {error}"),
                advice,
            );
            return;
        }
    };
    let since = host.settings().ok().zip(host.clock().ok()).map(|(settings, clock)| {
        clock.unix_us.saturating_sub(
            i64::try_from(settings.since_seconds).unwrap_or(i64::MAX).saturating_mul(1_000_000),
        )
    });
    let mut seen: BTreeMap<String, (u64, String)> = BTreeMap::new();
    for line in log.lines.iter().filter(|line| line.at_us.zip(since).is_none_or(|(at, since)| at >= since)) {
        if let Some(device) = device_in_error(&line.text) {
            let (count, last) = seen.entry(device).or_default();
            (*count, *last) = (*count + 1, line.text.clone());
        }
    }
    for (device, (count, last)) in seen {
        let lines = quantity::count(count, "I/O error", "I/O errors");
        let advice = Advice::run(CHECK.advice, format!("journalctl -k --grep '{device}' | tail -n 50"));
        finding.fail(format!("the kernel logged {lines} of {device}, the last: {last}"), advice);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Cause, Data, LogLine, LogText, Output, Recorded, Request};
    use crate::iggy::tests::settings;

    fn kernel(recorded: Recorded, lines: &[(i64, &str)]) -> Recorded {
        let line = |(at, text): &(i64, &str)| LogLine {
            at_us: Some(at * 1_000_000),
            level: None,
            origin: String::new(),
            text: (*text).to_owned(),
        };
        let log =
            LogText { lines: lines.iter().map(line).collect(), cut: false, source: "kernel".to_owned() };
        recorded.log(Request::KernelLog, log)
    }

    fn command(recorded: Recorded, name: &str, device: &str, stdout: &str) -> Recorded {
        let output = Output { status: Some(0), stdout: stdout.to_owned(), stderr: String::new(), cut: false };
        recorded.with(
            Request::Command { name: name.to_owned(), argument: Some(device.to_owned()) },
            Data::Output(output),
        )
    }

    fn healthy() -> Recorded {
        let recorded =
            Recorded::complete().settings(settings()).at(1_000_000, 500).file("/sys/block/sda/dev", "8:0\n");
        command(kernel(recorded, &[]), "smartctl", "/dev/sda", r#"{"smart_status":{"passed":true}}"#)
    }

    fn problems(recorded: Recorded) -> Vec<(Verdict, String)> {
        let finding = run(&recorded.host()).unwrap();
        finding.problems.into_iter().map(|problem| (problem.severity, problem.text)).collect()
    }

    fn one(severity: Verdict, text: &str) -> Vec<(Verdict, String)> {
        vec![(severity, text.to_owned())]
    }

    #[test]
    fn a_disk_that_says_it_is_well_passes() {
        let finding = run(&healthy().host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "no fault is known of 1 disk; 1 told their health")
        );
    }

    #[test]
    fn a_failing_disk_fails_and_one_that_wears_out_warns() {
        let failing = command(healthy(), "smartctl", "/dev/sda", r#"{"smart_status":{"passed":false}}"#);
        assert_eq!(problems(failing), one(Verdict::Fail, "sda says that it is failing"));
        let nvme = healthy().file("/sys/block/nvme0n1/dev", "259:0\n");
        let nvme = command(nvme, "nvme-smart-log", "/dev/nvme0n1", r#"{"media_errors":3}"#);
        assert_eq!(problems(nvme), one(Verdict::Warn, "nvme0n1 has 3 media errors"));
    }

    #[test]
    fn a_disk_that_cannot_be_asked_is_noted_and_a_virtual_one_is_not_asked() {
        let silent = healthy().file("/sys/block/sdb/dev", "8:16\n").file("/sys/block/vda/dev", "254:0\n");
        assert_eq!(
            problems(silent),
            one(Verdict::Note, "sdb did not tell their health: command smartctl the device: does not exist")
        );
    }

    #[test]
    fn errors_in_the_kernel_log_fail_when_they_are_recent() {
        let lines = [
            (900_000, "I/O error, dev sda, sector 1 op 0x0:(READ)"),
            (999_998, "I/O error, dev sr0, sector 0"),
            (999_998, "Buffer I/O error on dev sda1, logical block 0, async page read"),
            (999_999, "critical medium error, dev sda, sector 9"),
        ];
        assert_eq!(
            problems(kernel(healthy(), &lines)),
            [
                (Verdict::Fail, format!("the kernel logged 1 I/O error of sda, the last: {}", lines[3].1)),
                (Verdict::Fail, format!("the kernel logged 1 I/O error of sda1, the last: {}", lines[2].1)),
            ]
        );
    }

    #[test]
    fn arrays_filesystems_and_offline_disks_are_judged() {
        let degraded = healthy().file("/proc/mdstat", "md0 : active raid1 sda1[0]\n  1 blocks [2/1] [U_]\n");
        assert_eq!(problems(degraded), one(Verdict::Fail, "md0 is degraded: active raid1 [2/1]"));
        let counted = healthy().file("/sys/fs/ext4/sda1/errors_count", "4\n");
        assert_eq!(
            problems(counted),
            one(Verdict::Warn, "ext4 on sda1 has recorded 4 errors since it was last checked")
        );
        let stats = healthy().file("/sys/fs/btrfs/u1/devinfo/1/error_stats", "write_errs 2\nread_errs 1\n");
        assert_eq!(problems(stats), one(Verdict::Warn, "the btrfs u1 has counted 3 errors of its devices"));
        let offline = healthy().file("/sys/block/sda/device/state", "offline\n");
        assert_eq!(problems(offline), one(Verdict::Fail, "the kernel says that sda is offline"));
        let drbd = healthy().file("/proc/drbd", "version: 9.1.4 (api:2/proto:110-121)\n");
        assert_eq!(
            problems(drbd),
            one(
                Verdict::Note,
                "the state of DRBD could not be read: command drbdsetup-status: does not exist"
            )
        );
    }

    #[test]
    fn a_denied_kernel_log_is_said_and_a_host_without_disks_is_skipped() {
        let denied = healthy().without(Request::KernelLog, Cause::Denied);
        let text =
            "the kernel log was not read, so I/O errors in it are not known: kernel-log: permission denied";
        assert_eq!(problems(denied), one(Verdict::Note, text));
        assert_eq!(run(&Recorded::complete().host()).unwrap().verdict(), Verdict::Skip);
    }
}
