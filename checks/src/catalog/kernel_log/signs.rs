//! Signs of trouble that a single line of the kernel's log is, apart from those of storage and hardware.

use warden_host::LogLine;

use crate::Verdict;

/// One or two lost links are a maintained switch; three in a day are a bad cable or port.
const WARN_LOST_LINKS: u64 = 3;

/// What a line can be a sign of.
pub struct Sign {
    /// One and many: `oops`, `oopses`.
    pub one: &'static str,
    pub many: &'static str,
    pub matches: fn(&str) -> bool,
    pub severity: fn(&[&LogLine]) -> Verdict,
    pub advice: &'static str,
}

/// The signs that a kernel itself has failed: the first of [`SIGNS`].
pub const KERNEL_FAILED: usize = 2;

/// In this order; a line is counted for the first that it matches.
pub const SIGNS: &[Sign] = &[
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
            // An ATA port without a disk says `SATA link down` at each boot.
            !text.starts_with("ata")
                && holds(&text, &["link is down", "link down", "carrier lost", "lost carrier"])
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
