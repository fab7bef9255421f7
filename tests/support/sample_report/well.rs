//! Checks that found all well.

use warden::snapshot::report::CheckReport;
use warden_host::{Area, Evidence, Fields, Finding, Value};

use super::Question;

const WELL: [(&str, Area, &str, &str, &str); 25] = [
    (
        "system-updates",
        Area::System,
        "Is a reboot or a security update waiting?",
        "nothing is waiting; the running kernel is the installed one",
        "/proc/sys/kernel/osrelease",
    ),
    (
        "system-security-modules",
        Area::System,
        "What confines processes?",
        "AppArmor enforces 14 profiles; no denial in 24 h",
        "/sys/kernel/security/lsm",
    ),
    (
        "cpu-steal",
        Area::Cpu,
        "Does the hypervisor take time?",
        "0.3 % of the time was taken",
        "sample /proc/stat",
    ),
    (
        "cpu-frequency",
        Area::Cpu,
        "Is the processor throttled?",
        "no throttling; governor performance on 16 cores",
        "/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor",
    ),
    (
        "cpu-vulnerabilities",
        Area::Cpu,
        "Which mitigations are on?",
        "all 16 known vulnerabilities are mitigated or do not apply",
        "/sys/devices/system/cpu/vulnerabilities/meltdown",
    ),
    (
        "memory-usage",
        Area::Memory,
        "Is there memory left?",
        "18.2 GiB of 64 GiB available (28 %)",
        "/proc/meminfo",
    ),
    ("memory-swap", Area::Memory, "Does it swap?", "no swap in use", "/proc/swaps"),
    (
        "memory-huge-pages",
        Area::Memory,
        "Are huge pages set as they should be?",
        "transparent huge pages: madvise",
        "/sys/kernel/mm/transparent_hugepage/enabled",
    ),
    (
        "disk-inodes",
        Area::Disk,
        "Are inodes left?",
        "the fullest filesystem, /, uses 12 % of its inodes",
        "space /",
    ),
    (
        "disk-mounts",
        Area::Disk,
        "Are the filesystems the right ones?",
        "the data directory is on xfs, noatime",
        "/proc/self/mountinfo",
    ),
    (
        "network-interfaces",
        Area::Network,
        "Are the links clean?",
        "3 links, no error or drop in 1 s",
        "sample /proc/net/dev",
    ),
    (
        "network-addresses",
        Area::Network,
        "Are addresses and routes in order?",
        "default route by 10.4.0.1 on ens3",
        "command ip-route",
    ),
    (
        "network-dns",
        Area::Network,
        "Do names resolve?",
        "iggy-node-07 resolves in 1.4 ms",
        "resolve iggy-node-07",
    ),
    (
        "network-tcp",
        Area::Network,
        "Is TCP healthy?",
        "0.02 % of segments were sent again; no overflow",
        "/proc/net/snmp",
    ),
    (
        "network-firewall",
        Area::Network,
        "What is filtered?",
        "12 rules, none rejects a port of Iggy",
        "command nft-ruleset",
    ),
    (
        "process-top",
        Area::Process,
        "Who uses the machine?",
        "iggy-server uses 6.1 of 16 cores and 60 % of the memory",
        "sample /proc/[pid]/stat",
    ),
    (
        "process-states",
        Area::Process,
        "Are processes stuck?",
        "211 processes, none stuck, 1 zombie",
        "/proc/[pid]/stat",
    ),
    (
        "runtime-versions",
        Area::Runtime,
        "What is installed?",
        "iggy-server 0.8.0, iggy-connectors 0.3.1, both as on disk",
        "command iggy-server-version",
    ),
    ("units-failed", Area::Units, "Did any other unit fail?", "none of 84 other units failed", "units"),
    (
        "kernel-parameters",
        Area::Kernel,
        "Are the kernel's settings right for a broker?",
        "31 settings looked at, all within their range",
        "/proc/sys/vm/swappiness",
    ),
    (
        "kernel-io-uring",
        Area::Kernel,
        "Can Iggy use io_uring?",
        "io_uring is on; memlock of the unit is unlimited",
        "/proc/sys/kernel/io_uring_disabled",
    ),
    (
        "kernel-log",
        Area::Kernel,
        "What did the kernel say?",
        "1204 lines in 24 h, none worse than a notice",
        "kernel-log",
    ),
    (
        "logs-journal",
        Area::Logs,
        "Is the journal healthy?",
        "persistent, 1.2 GiB of 4 GiB, nothing suppressed",
        "command journalctl-disk-usage",
    ),
    (
        "warden-self",
        Area::Warden,
        "Is the agent itself well?",
        "9.4 MiB resident, 41 descriptors, 0 reconnects in 24 h",
        "/proc/self/status",
    ),
    (
        "warden-setup",
        Area::Warden,
        "Is Warden installed right?",
        "configuration and policy are valid; hardening score 1.9",
        "/etc/warden/warden.toml",
    ),
];

pub fn checks() -> Vec<CheckReport> {
    let checks = WELL.into_iter().enumerate();
    checks.map(|(at, (id, area, title, summary, asked))| well(id, area, title, summary, asked, at)).collect()
}

fn well(
    id: &'static str,
    area: Area,
    title: &'static str,
    summary: &str,
    asked: &'static str,
    at: usize,
) -> CheckReport {
    let mut finding = Finding::new(summary);
    let fields = Fields::new("Seen")
        .row("read from", Value::Code(asked.to_owned()))
        .row("value", Value::Percent(at as f64 * 1.7))
        .row("size", Value::Bytes(1 << (at + 10)))
        .row("for", Value::Seconds(at as f64 * 1000.0));
    finding.show(Evidence::Fields(fields));
    let asked: &'static [&'static str] = Box::leak(Box::new([asked]));
    let why = "Shown also when all is well, so that an expert sees what the verdict rests on.";
    Question { id, area, title, why, thresholds: &["warns when it is not so"], asked }.answered(finding)
}
