//! kernel-log: what the kernel complained about in the last 24 hours.

mod signs;

use warden_host::shape::{self, Group};
use warden_host::{Host, Level, LogLine};

use self::signs::{KERNEL_FAILED, SIGNS, Sign};
use crate::block::{EmptyDrives, OPTICAL, REMOVABLE, SIZES};
use crate::hardware_errors::{Class, hardware_errors};
use crate::storage_errors::{log_window, storage_errors};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Value, Verdict, quantity,
};

pub const CHECK: Check = Check {
    id: "kernel-log",
    area: Area::Kernel,
    title: "What did the kernel complain about?",
    why: "A dying disk, failing memory, a stuck task or a flapping link shows in the kernel's log before anything \
          else does. Iggy itself sees only slow or failed writes and may log nothing at all.",
    reads: &[
        Read::KernelLog,
        Read::Path(SIZES),
        Read::Path(REMOVABLE),
        Read::Path(OPTICAL),
        Read::Path(UNCORRECTED),
        Read::Path(CORRECTED),
    ],
    thresholds: &[
        "fails on an oops, a lockup, an uncorrected hardware error or a disk error in the last 24 h",
        "warns on a hung task, a kernel warning, a full kernel table, a crash of Iggy, or 3 lost links in 24 h",
        "warns on 10 corrected errors of memory or processor in 24 h, 100 of a PCIe link, and one of unknown kind",
        "notes fewer of them, fewer lost links, crashes of other programs, and a log too long to be read whole",
    ],
    advice: "Read the lines before and after each complaint, and mend what they name.",
    deadline: DEADLINE,
    run,
};

/// What the memory controllers have counted since their drivers were loaded
/// (Documentation/ABI/testing/sysfs-devices-edac).
const UNCORRECTED: &str = "/sys/devices/system/edac/mc/*/ue_count";
const CORRECTED: &str = "/sys/devices/system/edac/mc/*/ce_count";
/// Corrected errors in a day from which a memory module should be watched: mcelog(8) takes a page out of use at as many.
const WARN_CORRECTED: u64 = 10;
/// A link that sends again so often is badly seated or has a bad cable.
const WARN_CORRECTED_LINK: u64 = 100;

/// Lines that tell of the same kind of trouble.
struct Trouble<'a> {
    lines: Vec<&'a LogLine>,
    /// How often it happened: an event can write several lines.
    count: u64,
    one: &'static str,
    many: &'static str,
    severity: Verdict,
    advice: &'static str,
}

fn run(host: &Host) -> Result<Finding> {
    let log = host.kernel_log()?;
    let clock = host.clock()?;
    let window = log_window(host);
    let lines: Vec<&LogLine> = shape::newest(&log, clock, window).collect();
    let (troubles, mut others) = troubles(host, &lines);
    let over = over(window);

    let mut finding = Finding::new("");
    let mut counted = Vec::new();
    for trouble in &troubles {
        let groups = shape::group(trouble.lines.iter().copied());
        let count = quantity::count(trouble.count, trouble.one, trouble.many);
        let command = format!("journalctl -k -o short-iso --since=-{window}s");
        finding.problem(
            trouble.severity,
            sentence(&count, &over, &groups),
            Advice::run(trouble.advice, command),
        );
        finding.show(Evidence::Table(shape::table(trouble.many, &groups, |_| Some(trouble.severity))));
        counted.push(count);
    }
    let total = quantity::count(lines.len() as u64, "line", "lines");
    finding.summary = if counted.is_empty() {
        format!("nothing bad in the {total} that the kernel logged in {over}")
    } else {
        format!("{} in the {total} that the kernel logged in {over}", counted.join(", "))
    };
    note_what_was_cut(&mut finding, &log, &lines, clock.seconds(), window);
    others.retain(|line| line.level >= Some(Level::Warn));
    if !others.is_empty() {
        let groups = shape::group(others.iter().copied());
        finding.show(Evidence::Table(shape::table("Other warnings and errors", &groups, |_| None)));
    }
    let mut read = Fields::new("Read")
        .row("source", log.source.as_str())
        .row("lines", lines.len())
        .row("older lines cut", log.cut);
    for (name, pattern) in
        [("corrected memory errors", CORRECTED), ("uncorrected memory errors", UNCORRECTED)]
    {
        if let Some(count) = memory_errors(host, pattern) {
            read = read.row(format!("{name} counted since boot"), count);
        }
    }
    finding.show(Evidence::Fields(read));
    Ok(finding)
}

/// What the memory controllers count together; `None` without one that tells.
fn memory_errors(host: &Host, pattern: &str) -> Option<u64> {
    let files = host.read_all(pattern).ok().filter(|files| !files.is_empty())?;
    Some(files.iter().filter_map(|file| file.text.trim().parse::<u64>().ok()).sum())
}

/// The troubles in the order of their weight, and the lines that tell of none.
fn troubles<'a>(host: &Host, lines: &[&'a LogLine]) -> (Vec<Trouble<'a>>, Vec<&'a LogLine>) {
    let mut signs: Vec<Vec<&LogLine>> = SIGNS.iter().map(|_| Vec::new()).collect();
    let hardware = hardware_errors(lines);
    let empty = EmptyDrives::of(host);
    let storage = storage_errors(lines, |device| empty.has(device));
    let mut storage_lines = (Vec::new(), Verdict::Pass);
    let mut others = Vec::new();
    for ((line, hardware), storage) in lines.iter().zip(&hardware.lines).zip(storage) {
        let sign = SIGNS.iter().position(|sign| (sign.matches)(&line.text));
        match (sign, hardware, storage) {
            (Some(at), ..) if at < KERNEL_FAILED => signs[at].push(*line),
            (_, Some(_), _) => {}
            (_, None, Some(error)) => {
                storage_lines.0.push(*line);
                storage_lines.1 = storage_lines.1.max(error.severity);
            }
            (Some(at), None, None) => signs[at].push(*line),
            (None, None, None) => others.push(*line),
        }
    }
    let of_class = |class: Class| {
        let is_of = |(_, of): &(&&'a LogLine, &Option<Class>)| **of == Some(class);
        lines.iter().zip(&hardware.lines).filter(is_of).map(|(line, _)| *line).collect::<Vec<_>>()
    };
    let mut unclear = hardware.unclear;
    let mut corrected = hardware.corrected;
    // `Machine check events logged` alone is a corrected error where the controllers have counted no other.
    let counts = [CORRECTED, UNCORRECTED].map(|pattern| memory_errors(host, pattern));
    if hardware.uncorrected == 0 && matches!(counts, [Some(1..), Some(0)]) {
        corrected += std::mem::take(&mut unclear);
    }
    let at_least = |count: u64, limit: u64| if count >= limit { Verdict::Warn } else { Verdict::Note };
    let mut found = Vec::new();
    let mut add = |lines: Vec<&'a LogLine>, count: u64, names: [&'static str; 2], severity, advice| {
        if count > 0 {
            found.push(Trouble { lines, count, one: names[0], many: names[1], severity, advice });
        }
    };
    let of_signs = |range: std::ops::Range<usize>, add: &mut dyn FnMut(Vec<&'a LogLine>, &Sign)| {
        for at in range {
            add(signs[at].clone(), &SIGNS[at]);
        }
    };
    of_signs(0..KERNEL_FAILED, &mut |lines, sign| {
        let (count, severity) = (lines.len() as u64, (sign.severity)(&lines));
        add(lines, count, [sign.one, sign.many], severity, sign.advice);
    });
    add(
        of_class(Class::Uncorrected),
        hardware.uncorrected,
        ["uncorrected hardware error", "uncorrected hardware errors"],
        Verdict::Fail,
        "Move the load away and have the memory, CPU or PCIe device that is named replaced.",
    );
    add(
        of_class(Class::Unclear),
        unclear,
        [
            "hardware error of a kind that the log does not say",
            "hardware errors of kinds that the log does not say",
        ],
        Verdict::Warn,
        "Ask what the machine check was: `ras-mc-ctl --errors` (rasdaemon) or `mcelog --client`, and the event log of the BMC (`ipmitool sel list`).",
    );
    let of_corrected = [Class::Corrected].into_iter().chain((unclear == 0).then_some(Class::Unclear));
    add(
        of_corrected.flat_map(of_class).collect(),
        corrected,
        ["corrected hardware error", "corrected hardware errors"],
        at_least(corrected, WARN_CORRECTED),
        "Nothing was lost. One needs no action; ten in a day, or more each day, mean that the module that is named should be replaced at the next maintenance.",
    );
    add(
        of_class(Class::CorrectedLink),
        hardware.corrected_link,
        ["corrected error of a PCIe link", "corrected errors of PCIe links"],
        at_least(hardware.corrected_link, WARN_CORRECTED_LINK),
        "Nothing was lost: the link sent again. Many of them mean a badly seated card, a bad riser or power saving (pcie_aspm) that it does not bear.",
    );
    let (storage, severity) = storage_lines;
    let count = storage.len() as u64;
    add(
        storage,
        count,
        ["disk or filesystem error", "disk or filesystem errors"],
        severity,
        "See disk-health for the device that is named and whose it is; restore or move the data before a repair.",
    );
    of_signs(KERNEL_FAILED..SIGNS.len(), &mut |lines, sign| {
        let count = lines.len() as u64;
        let severity = if lines.is_empty() { Verdict::Pass } else { (sign.severity)(&lines) };
        add(lines, count, [sign.one, sign.many], severity, sign.advice);
    });
    (found, others)
}

/// `24 h`, as a day is called in the questions of this check.
fn over(seconds: i64) -> String {
    if seconds == 86_400 { "24 h".to_owned() } else { quantity::duration(seconds as f64) }
}

fn sentence(count: &str, over: &str, groups: &[Group]) -> String {
    let last = groups.iter().filter_map(|group| group.last_us).max();
    let newest = groups.iter().max_by_key(|group| group.last_us).map_or("", |group| group.newest.as_str());
    let when =
        last.map_or_else(String::new, |at| format!(", last at {}", Value::Time(at.div_euclid(1_000_000))));
    format!("{count} in {over}{when}: {newest}")
}

/// A log that was cut inside the window may have held more.
fn note_what_was_cut(
    finding: &mut Finding,
    log: &warden_host::LogText,
    lines: &[&LogLine],
    now: i64,
    window: i64,
) {
    if !log.cut || lines.len() < log.lines.len() {
        return;
    }
    let oldest = lines.iter().filter_map(|line| line.at_us).min();
    let back = oldest.map_or("an unknown time".to_owned(), |at| {
        quantity::duration(now.saturating_sub(at.div_euclid(1_000_000)).max(0) as f64)
    });
    finding.note(
        format!(
            "only the newest {} lines were read, which go back {back}, not {}",
            lines.len(),
            over(window)
        ),
        Advice::run(
            "Read the rest yourself.",
            format!("journalctl -k -o short-iso --since=-{window}s -p warning"),
        ),
    );
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, LogText, Recorded, Request};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn log(lines: &[(i64, &str)]) -> LogText {
        let lines = lines.iter().map(|(ago, text)| LogLine {
            at_us: Some((NOW - ago) * 1_000_000),
            level: Some(Level::Warn),
            origin: String::new(),
            text: (*text).to_owned(),
        });
        LogText { lines: lines.collect(), cut: false, source: "journal".to_owned() }
    }

    fn finding(log: LogText) -> Finding {
        run(&Recorded::complete().at(NOW, 90_000).log(Request::KernelLog, log).host()).unwrap()
    }

    #[test]
    fn a_quiet_kernel_passes_and_yesterdays_trouble_is_over() {
        let quiet = finding(log(&[
            (90_000, "I/O error, dev sda, sector 1"),
            (50, "EXT4-fs (vda): mounted filesystem"),
        ]));
        assert_eq!(quiet.verdict(), Verdict::Pass);
        assert_eq!(quiet.summary, "nothing bad in the 1 line that the kernel logged in 24 h");
    }

    #[test]
    fn disk_errors_fail_and_are_counted_by_shape() {
        let lines = [
            (90, "I/O error, dev sda, sector 17"),
            (60, "I/O error, dev sda, sector 18"),
            (30, "XFS (sda): Corruption detected"),
        ];
        let bad = finding(log(&lines));
        assert_eq!(bad.verdict(), Verdict::Fail);
        assert_eq!(bad.problems.len(), 1);
        assert_eq!(
            bad.problems[0].text,
            "3 disk or filesystem errors in 24 h, last at 2027-01-15T07:59:30Z: XFS (sda): Corruption detected"
        );
        assert!(matches!(&bad.evidence[0], Evidence::Table(table) if table.rows.len() == 2));
    }

    #[test]
    fn every_sign_is_told_from_the_others() {
        let lines = [
            ("Oops: 0002 [#1] SMP", "1 kernel oops"),
            ("watchdog: BUG: soft lockup - CPU#1 stuck for 22s! [kworker:7]", "1 lockup or stall"),
            ("rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:", "1 lockup or stall"),
            ("mce: [Hardware Error]: Machine check events logged", "1 hardware error of a kind that the log"),
            ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0", "1 corrected hardware error"),
            ("EDAC MC0: 1 UE memory read error on CPU_SrcID#0", "1 uncorrected hardware error"),
            (
                "pcieport 0000:00:1c.5: AER: Corrected error received: id=00e5",
                "1 corrected error of a PCIe link",
            ),
            ("nvme nvme0: I/O 12 QID 3 timeout, aborting", "1 disk or filesystem error"),
            ("INFO: task shard-0:812 blocked for more than 120 seconds.", "1 hung task"),
            ("nf_conntrack: nf_conntrack: table full, dropping packet", "1 full kernel table"),
            ("WARNING: CPU: 0 PID: 9 at mm/slab.c:1", "1 kernel warning"),
            ("igb 0000:01:00.0 eth0: igb: eth0 NIC Link is Down", "1 lost link"),
            ("cron[12]: segfault at 0 ip 00007f sp 00007f error 4", "1 crashed program"),
        ];
        for (text, expected) in lines {
            let problems = finding(log(&[(10, text)])).problems;
            assert_eq!(problems.len(), 1, "{text}");
            assert!(problems[0].text.starts_with(expected), "{text}: {}", problems[0].text);
        }
        for harmless in [
            "mce: CPU0 supports 32 MCE banks",
            "EDAC MC: Ver: 3.0.0",
            "EXT4-fs (vda): re-mounted. Opts: errors=remount-ro",
            "nvme nvme0: Shutdown timeout set to 10 seconds",
            "Buffer I/O error on dev fd0, logical block 0, async page read",
            "ata3: SATA link down (SStatus 0 SControl 300)",
        ] {
            assert_eq!(finding(log(&[(10, harmless)])).verdict(), Verdict::Pass, "{harmless}");
        }
    }

    #[test]
    fn one_corrected_memory_error_of_two_lines_is_a_note_and_ten_a_day_warn() {
        let event = |ago| {
            [
                (ago, "mce: [Hardware Error]: Machine check events logged"),
                (ago, "EDAC MC0: 1 CE memory read error on CPU_SrcID#0"),
            ]
        };
        let one = finding(log(&event(10)));
        assert_eq!((one.verdict(), one.problems.len()), (Verdict::Note, 1));
        assert!(one.problems[0].text.starts_with("1 corrected hardware error in 24 h"), "{:?}", one.problems);
        let ten: Vec<_> = (0..10).rev().flat_map(|at| event(at * 100)).collect();
        assert_eq!(finding(log(&ten)).verdict(), Verdict::Warn);
    }

    #[test]
    fn a_machine_check_of_unknown_kind_is_what_the_memory_controllers_counted() {
        let lines = log(&[(10, "mce: [Hardware Error]: Machine check events logged")]);
        let counted = |uncorrected: &str| {
            let host = Recorded::complete()
                .at(NOW, 90_000)
                .file("/sys/devices/system/edac/mc/mc0/ce_count", "1\n")
                .file("/sys/devices/system/edac/mc/mc0/ue_count", uncorrected);
            run(&host.log(Request::KernelLog, lines.clone()).host()).unwrap()
        };
        assert_eq!((counted("0\n").verdict(), counted("1\n").verdict()), (Verdict::Note, Verdict::Warn));
        assert!(counted("0\n").problems[0].text.starts_with("1 corrected hardware error"));
    }

    #[test]
    fn two_lost_links_are_noted_and_three_warn() {
        let down = (10, "virtio_net eth0: Link is Down");
        assert_eq!(finding(log(&[down, down])).verdict(), Verdict::Note);
        assert_eq!(finding(log(&[down, down, down])).verdict(), Verdict::Warn);
    }

    #[test]
    fn a_crash_of_iggy_weighs_more_than_another() {
        assert_eq!(finding(log(&[(10, "traps: cron[1] trap int3")])).verdict(), Verdict::Note);
        assert_eq!(finding(log(&[(10, "traps: iggy-server[1] trap int3")])).verdict(), Verdict::Warn);
    }

    #[test]
    fn a_log_cut_within_the_day_is_noted() {
        let cut = LogText { cut: true, ..log(&[(3600, "a"), (10, "b")]) };
        let finding = finding(cut);
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(
            finding.problems[0].text,
            "only the newest 2 lines were read, which go back 1 h, not 24 h"
        );
    }

    #[test]
    fn a_denied_log_is_unknown() {
        let host = Recorded::complete().at(NOW, 9).without(Request::KernelLog, Cause::Denied).host();
        assert_eq!(run(&host).unwrap_err().to_string(), "kernel-log: permission denied");
    }
}
