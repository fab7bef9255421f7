//! kernel-log: what the kernel complained about in the last 24 hours.

use crate::host::{Host, Level, LogLine};
use crate::shape::{self, Group};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Value, Verdict, quantity,
};

pub const CHECK: Check = Check {
    id: "kernel-log",
    area: Area::Kernel,
    title: "What did the kernel complain about?",
    why: "A dying disk, failing memory, a stuck task or a flapping link shows in the kernel's log before anything \
          else does. Iggy itself sees only slow or failed writes and may log nothing at all.",
    reads: &[Read::KernelLog],
    thresholds: &[
        "fails on an oops, a lockup, a hardware error or a disk error in the last 24 h",
        "warns on a hung task, a kernel warning, a full kernel table, a crash of Iggy, or 3 lost links in 24 h",
        "notes fewer lost links, crashes of other programs, and a log too long to be read whole",
    ],
    advice: "Read the lines before and after each complaint, and mend what they name.",
    deadline: DEADLINE,
    run,
};

const WINDOW_SECONDS: i64 = 86_400;
/// One or two lost links are a maintained switch; three in a day are a bad cable or port.
const WARN_LOST_LINKS: u64 = 3;

/// What a line can be a sign of.
struct Sign {
    /// One and many: `oops`, `oopses`.
    one: &'static str,
    many: &'static str,
    matches: fn(&str) -> bool,
    severity: fn(&[&LogLine]) -> Verdict,
    advice: &'static str,
}

/// In this order; a line is counted for the first that it matches.
const SIGNS: &[Sign] = &[
    Sign {
        one: "kernel oops",
        many: "kernel oopses",
        matches: |text| {
            holds(
                text,
                &["Oops:", "kernel BUG at", "BUG: unable to handle", "Kernel panic", "BUG: kernel NULL"],
            ) || text.starts_with("general protection fault")
        },
        severity: |_| Verdict::Fail,
        advice: "Reboot this node soon: a kernel that has faulted may hang or corrupt data. Then update the kernel.",
    },
    Sign {
        one: "lockup or stall",
        many: "lockups or stalls",
        matches: |text| {
            holds(
                text,
                &[
                    "soft lockup",
                    "hard LOCKUP",
                    "detected stall",
                    "detected expedited stall",
                    "self-detected stall",
                ],
            )
        },
        severity: |_| Verdict::Fail,
        advice: "On a virtual machine look for stolen CPU time first, then for a driver named in the stack below the line.",
    },
    Sign {
        one: "hardware error",
        many: "hardware errors",
        matches: |text| {
            holds(
                text,
                &["[Hardware Error]", "Machine Check Exception", "Uncorrected error", "severity=Uncorrected"],
            ) || text.contains("EDAC") && holds(text, &[" CE ", " UE "])
        },
        severity: |_| Verdict::Fail,
        advice: "Move the load away and have the memory, CPU or PCIe device that is named replaced.",
    },
    Sign {
        one: "disk or filesystem error",
        many: "disk or filesystem errors",
        matches: |text| {
            let filesystem = holds(text, &["XFS (", "BTRFS", "EXT4-fs", "EXT2-fs", "F2FS-fs"])
                && holds(text, &["error (", "orruption", "hutdown", "hutting down", "shut down"]);
            let controller =
                text.contains("nvme") && holds(text, &["timeout, ", "controller is down", "Abort status"]);
            filesystem
                || controller
                || holds(
                    text,
                    &["I/O error", "medium error", "Remounting filesystem read-only", "failed command:"],
                )
        },
        severity: |_| Verdict::Fail,
        advice: "Check the health of the device that is named and the cabling; restore or move the data before a repair.",
    },
    Sign {
        one: "hung task",
        many: "hung tasks",
        matches: |text| text.contains("blocked for more than"),
        severity: |_| Verdict::Warn,
        advice: "A task waits on a disk, network filesystem or lock for minutes: see what its stack below the line waits on.",
    },
    Sign {
        one: "full kernel table",
        many: "full kernel tables",
        matches: |text| {
            holds(
                text,
                &[
                    "table overflow",
                    "table full",
                    "possible SYN flooding",
                    "TCP: out of memory",
                    "VFS: file-max limit",
                ],
            )
        },
        severity: |_| Verdict::Warn,
        advice: "Raise the limit that the line names; see the checks of the area `network` and kernel-limits.",
    },
    Sign {
        one: "kernel warning",
        many: "kernel warnings",
        matches: |text| text.starts_with("WARNING: ") || text.contains("] WARNING: CPU:"),
        severity: |_| Verdict::Warn,
        advice: "A check inside the kernel failed: look the function up in the distribution's bug tracker and update the kernel.",
    },
    Sign {
        one: "lost link",
        many: "lost links",
        matches: |text| {
            let text = text.to_ascii_lowercase();
            holds(&text, &["link is down", "link down", "carrier lost", "lost carrier"])
        },
        severity: |lines| if lines.len() as u64 >= WARN_LOST_LINKS { Verdict::Warn } else { Verdict::Note },
        advice: "Check the cable, the switch port and the interface's driver.",
    },
    Sign {
        one: "crashed program",
        many: "crashed programs",
        matches: |text| text.contains("segfault at") || text.starts_with("traps: "),
        severity: |lines| {
            if lines.iter().any(|line| line.text.contains("iggy")) { Verdict::Warn } else { Verdict::Note }
        },
        advice: "See logs-crashes for the core; a crash of a program that is not Iggy's matters only if Iggy needs it.",
    },
];

fn holds(text: &str, needles: &[&str]) -> bool {
    needles.iter().any(|needle| text.contains(needle))
}

fn run(host: &Host) -> Result<Finding> {
    let log = host.kernel_log()?;
    let clock = host.clock()?;
    let lines: Vec<&LogLine> = shape::newest(&log, clock, WINDOW_SECONDS).collect();
    let mut of_sign: Vec<Vec<&LogLine>> = SIGNS.iter().map(|_| Vec::new()).collect();
    let mut others = Vec::new();
    for line in &lines {
        match SIGNS.iter().position(|sign| (sign.matches)(&line.text)) {
            Some(index) => of_sign[index].push(line),
            None => others.push(*line),
        }
    }

    let mut finding = Finding::new("");
    let mut counted = Vec::new();
    for (sign, lines) in SIGNS.iter().zip(&of_sign).filter(|(_, lines)| !lines.is_empty()) {
        let severity = (sign.severity)(lines);
        let groups = shape::group(lines.iter().copied());
        let count = quantity::count(lines.len() as u64, sign.one, sign.many);
        let command = "journalctl -k -o short-iso --since=-24h".to_owned();
        finding.problem(severity, sentence(&count, &groups), Advice::run(sign.advice, command));
        finding.show(Evidence::Table(shape::table(sign.many, &groups, |_| Some(severity))));
        counted.push(count);
    }
    let total = quantity::count(lines.len() as u64, "line", "lines");
    finding.summary = if counted.is_empty() {
        format!("nothing bad in the {total} that the kernel logged in 24 h")
    } else {
        format!("{} in the {total} that the kernel logged in 24 h", counted.join(", "))
    };
    note_what_was_cut(&mut finding, &log, &lines, clock.seconds());
    others.retain(|line| line.level >= Some(Level::Warn));
    if !others.is_empty() {
        let groups = shape::group(others.iter().copied());
        finding.show(Evidence::Table(shape::table("Other warnings and errors", &groups, |_| None)));
    }
    let read = Fields::new("Read")
        .row("source", log.source.as_str())
        .row("lines in 24 h", lines.len())
        .row("older lines cut", log.cut);
    finding.show(Evidence::Fields(read));
    Ok(finding)
}

fn sentence(count: &str, groups: &[Group]) -> String {
    let last = groups.iter().filter_map(|group| group.last_us).max();
    let newest = groups.iter().max_by_key(|group| group.last_us).map_or("", |group| group.newest.as_str());
    let when =
        last.map_or_else(String::new, |at| format!(", last at {}", Value::Time(at.div_euclid(1_000_000))));
    format!("{count} in 24 h{when}: {newest}")
}

/// A log that was cut inside the 24 hours may have held more.
fn note_what_was_cut(finding: &mut Finding, log: &crate::host::LogText, lines: &[&LogLine], now: i64) {
    if !log.cut || lines.len() < log.lines.len() {
        return;
    }
    let oldest = lines.iter().filter_map(|line| line.at_us).min();
    let back = oldest.map_or("an unknown time".to_owned(), |at| {
        quantity::duration(now.saturating_sub(at.div_euclid(1_000_000)).max(0) as f64)
    });
    finding.note(
        format!("only the newest {} lines were read, which go back {back}, not 24 h", lines.len()),
        Advice::run("Read the rest yourself.", "journalctl -k -o short-iso --since=-24h -p warning"),
    );
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Cause, LogText, Recorded, Request};

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
            ("mce: [Hardware Error]: Machine check events logged", "1 hardware error"),
            ("EDAC MC0: 1 CE memory read error on CPU_SrcID#0", "1 hardware error"),
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
        ] {
            assert_eq!(finding(log(&[(10, harmless)])).verdict(), Verdict::Pass, "{harmless}");
        }
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
