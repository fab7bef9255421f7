//! disk-health: is a disk, a filesystem or an array failing.

use std::collections::BTreeMap;
use std::time::Duration;

mod filesystems;

use warden_host::{Host, LogLine, shape};

use self::filesystems::judge_filesystems;
use crate::block::{
    DISKS, Disk, EmptyDrives, MAPPED, MOUNTS_OF_PROCESS, OPTICAL, PARTITIONS, REMOVABLE, SIZES, SLAVES,
};
use crate::disk_roles::Roles;
use crate::raid::{
    BCACHE, BTRFS_DEVICES, BTRFS_ERRORS, BTRFS_MISSING, CONTROLLERS, Copies, MAPPED_UUIDS, POOL_STATES,
    Redundancy,
};
use crate::smart::Health;
use crate::storage_errors::{StorageError, log_window, storage_errors};
use crate::{Advice, Area, Check, Evidence, Finding, Read, Result, Table, Value, Verdict, quantity, raid};

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
        Read::Path("/sys/fs/ext4/*/last_error_time"),
        Read::Path(SLAVES),
        Read::Path(MAPPED),
        Read::Path(MAPPED_UUIDS),
        Read::Path(SIZES),
        Read::Path(REMOVABLE),
        Read::Path(OPTICAL),
        Read::Path(BTRFS_ERRORS),
        Read::Path(BTRFS_MISSING),
        Read::Path(BTRFS_DEVICES),
        Read::Path(POOL_STATES),
        Read::Path(BCACHE),
        Read::Path(CONTROLLERS),
        Read::Path("/proc/mdstat"),
        Read::Path("/proc/drbd"),
        Read::Path("/proc/swaps"),
        Read::Path("/proc/self/mountinfo"),
        Read::Path(MOUNTS_OF_PROCESS),
        Read::Group(crate::iggy::READS),
        Read::Command("drbdsetup-status"),
        Read::Command("zpool-status"),
        Read::Command("dmsetup-status"),
        Read::Command("storcli"),
        Read::Command("megacli"),
        Read::Command("ssacli"),
        Read::Command("arcconf"),
        Read::Command("smartctl"),
        Read::Command("nvme-smart-log"),
        Read::KernelLog,
    ],
    thresholds: &[
        "fails when a disk says it is failing, is offline, or has sectors it cannot read",
        "fails when the kernel logged an I/O error, or a set of copies (RAID, DRBD, ZFS, LVM, btrfs) lost one or is full",
        "warns on any media error, replaced sector or recorded filesystem error, and while an array rebuilds",
        "warns at most about the counters of a disk that holds neither Iggy's data nor the system",
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
    let roles = Roles::of(host, &disks);
    let mut finding = Finding::new("");
    let mut states = Table::new("Redundancy", ["name", "state", "holds"]);
    let copies = raid::ask(host, &roles.mounts);
    if disks.is_empty() && copies.sets.is_empty() && copies.unknown.is_empty() {
        return Ok(Finding::skip("there is no disk here"));
    }
    for one in &copies.sets {
        judge_copies(&mut finding, &mut states, one, &roles);
    }
    for unknown in &copies.unknown {
        let text = format!("whether the copies of {} are whole is not known: {}", unknown.what, unknown.why);
        let is_data = roles.is_data_on(&unknown.mounted_as);
        let severity = if is_data { Verdict::Warn } else { Verdict::Note };
        finding.problem(severity, text, unknown.advice.clone());
    }

    for file in host.read_all("/sys/block/*/device/state")? {
        let (Some(name), state) = (file.path.split('/').nth(3), file.text.trim()) else { continue };
        if ["offline", "transport-offline", "blocked", "dead"].contains(&state) {
            let command = "dmesg --level=emerg,alert,crit,err | tail -n 50";
            finding.fail(
                format!("the kernel says that {} is {state}", roles.named(name)),
                Advice::run("Check cable and controller, then the disk.", command),
            );
        }
    }
    judge_filesystems(host, &mut finding, &roles)?;
    let table = ask_disks(host, &disks, &mut finding, &roles);
    let log_lines = judge_kernel_log(host, &mut finding, &roles);

    finding.summary = summary(&finding, &disks, &table, &copies, log_lines);
    if !table.rows.is_empty() {
        finding.show(Evidence::Table(table));
    }
    if !states.rows.is_empty() {
        finding.show(Evidence::Table(states));
    }
    Ok(finding)
}

/// What was found, and in what: that nothing is known to be at fault is worth what was looked at.
fn summary(
    finding: &Finding,
    disks: &[Disk],
    table: &Table,
    copies: &Redundancy,
    log_lines: Option<usize>,
) -> String {
    let faults = finding.problems.iter().filter(|problem| problem.severity > Verdict::Note).count();
    let bottoms = disks.iter().filter(|disk| !disk.is_stack()).count();
    let on = quantity::count(bottoms as u64, "disk", "disks");
    if faults > 0 {
        return format!("{} on {on}", quantity::count(faults as u64, "fault", "faults"));
    }
    let mut looked: Vec<String> = Vec::new();
    if let Some(lines) = log_lines {
        looked.push(format!("{} of the kernel", quantity::count(lines as u64, "line", "lines")));
    }
    if !table.rows.is_empty() {
        looked.push(format!(
            "the health that {} told",
            quantity::count(table.rows.len() as u64, "disk", "disks")
        ));
    }
    if !copies.sets.is_empty() {
        looked.push(quantity::count(copies.sets.len() as u64, "set of copies", "sets of copies"));
    }
    if looked.is_empty() {
        return format!("nothing could be asked of {on}");
    }
    format!("no fault of {on} in {}", looked.join(", "))
}

fn judge_copies(finding: &mut Finding, table: &mut Table, one: &Copies, roles: &Roles) {
    let is_data = roles.is_data_on(&one.mounted_as);
    let holds = if is_data { "Iggy's data".into() } else { Value::Nothing };
    let cells = [Value::Code(one.name.clone()), one.state.clone().into(), holds];
    let Some(fault) = one.fault else { return table.row(cells) };
    table.marked_row(fault.severity(), cells);
    let whose = if is_data { ", which holds Iggy's data," } else { "" };
    finding.problem(
        fault.severity(),
        format!("{}{whose} {}: {}", one.name, fault.words(), one.state),
        Advice::run(fault.advice(), one.command.clone()),
    );
}

fn ask_disks(host: &Host, disks: &[Disk], finding: &mut Finding, roles: &Roles) -> Table {
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
        let mut problems = health.problems();
        if !roles.matters(&disk.name) && health.passed != Some(false) {
            // Its counters cost Iggy nothing.
            problems.iter_mut().for_each(|(severity, _)| *severity = (*severity).min(Verdict::Warn));
        }
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
            finding.problem(severity, format!("{} {text}", roles.named(&disk.name)), advice);
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

/// Judges the lines that blame a disk; how many lines there were, `None` when the log was not read.
fn judge_kernel_log(host: &Host, finding: &mut Finding, roles: &Roles) -> Option<usize> {
    let (log, clock) = match host.kernel_log().and_then(|log| Ok((log, host.clock()?))) {
        Ok(read) => read,
        Err(error) => {
            let advice = Advice::run(
                "Run Warden as root, or let its user read the kernel log.",
                "sysctl kernel.dmesg_restrict",
            );
            finding.note(
                format!("the kernel log was not read, so I/O errors in it are not known: {error}"),
                advice,
            );
            return None;
        }
    };
    let lines: Vec<&LogLine> = shape::newest(&log, clock, log_window(host)).collect();
    let empty = EmptyDrives::of(host);
    let mut seen: BTreeMap<(String, &str), (u64, StorageError, &str)> = BTreeMap::new();
    for (line, error) in lines.iter().zip(storage_errors(&lines, |device| empty.has(device))) {
        let Some(error) = error else { continue };
        let key = (error.device.clone(), error.what);
        let (count, worst, last) = seen.entry(key).or_insert_with(|| (0, error.clone(), ""));
        (*count, *last) = (*count + 1, &line.text);
        worst.severity = worst.severity.max(error.severity);
    }
    for ((device, what), (count, error, last)) in seen {
        let times = if count == 1 { String::new() } else { format!(" {count} times") };
        let of = if device.is_empty() { String::new() } else { format!(" of {}", roles.named(&device)) };
        let article = if what.starts_with(['a', 'e', 'i', 'o', 'u', 'I']) { "an" } else { "a" };
        let command = match device.as_str() {
            "" => "journalctl -k -p err | tail -n 50".to_owned(),
            device => format!("journalctl -k --grep '{device}' | tail -n 50"),
        };
        let subject = format!("{what}{of}{times}");
        let text = format!("the kernel logged {article} {}, the last: {last}", subject.trim_end_matches(','));
        finding.problem(error.severity, text, Advice::run(error.advice(), command));
    }
    Some(lines.len())
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Data, LogLine, LogText, Output, Recorded, Request};

    use super::*;
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
            (Verdict::Pass, "no fault of 1 disk in 0 lines of the kernel, the health that 1 disk told")
        );
    }

    #[test]
    fn a_failing_disk_fails_and_one_that_wears_out_warns() {
        let failing = command(healthy(), "smartctl", "/dev/sda", r#"{"smart_status":{"passed":false}}"#);
        assert_eq!(problems(failing), one(Verdict::Fail, "sda says that it is failing"));
        let nvme = healthy().file("/sys/block/nvme0n1/dev", "259:0\n");
        let nvme = command(nvme, "nvme-smart-log", "/dev/nvme0n1", r#"{"media_errors":3}"#);
        assert_eq!(problems(nvme), one(Verdict::Warn, "nvme0n1 has 3 media errors since it was made"));
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
                (Verdict::Fail, format!("the kernel logged an I/O error of sda, the last: {}", lines[3].1)),
                (Verdict::Fail, format!("the kernel logged an I/O error of sda1, the last: {}", lines[2].1)),
            ]
        );
    }

    #[test]
    fn arrays_filesystems_and_offline_disks_are_judged() {
        let degraded = healthy().file("/proc/mdstat", "md0 : active raid1 sda1[0]\n  1 blocks [2/1] [U_]\n");
        assert_eq!(
            problems(degraded),
            one(Verdict::Fail, "md0 is degraded, a copy is missing: active raid1 [2/1]")
        );
        let counted = healthy().file("/sys/fs/ext4/sda1/errors_count", "4\n");
        assert_eq!(
            problems(counted),
            one(Verdict::Warn, "ext4 on sda1 has recorded 4 errors since it was last checked")
        );
        let stats = healthy().file("/sys/fs/btrfs/u1/devinfo/1/error_stats", "write_errs 2\nread_errs 1\n");
        assert_eq!(
            problems(stats),
            one(
                Verdict::Warn,
                "the btrfs u1 has counted 3 errors of its devices since the count was last reset"
            )
        );
        let offline = healthy().file("/sys/block/sda/device/state", "offline\n");
        assert_eq!(problems(offline), one(Verdict::Fail, "the kernel says that sda is offline"));
        let drbd = healthy().file("/proc/drbd", "version: 9.1.4 (api:2/proto:110-121)\n");
        assert_eq!(
            problems(drbd),
            one(
                Verdict::Note,
                "whether the copies of DRBD are whole is not known: command drbdsetup-status: does not exist"
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
