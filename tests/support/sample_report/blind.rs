//! Checks that could not tell, and checks that do not apply.

use warden::snapshot::report::{CheckReport, Outcome};
use warden_host::{Area, Finding};

use super::Question;

pub fn checks() -> Vec<CheckReport> {
    let certificate = Question {
        id: "certificates-served",
        area: Area::Certificates,
        title: "Is what is served what is on disk?",
        why: "Iggy reads its certificate once. A renewed file does nothing until the restart.",
        thresholds: &["warns when the served certificate differs from the file"],
        asked: &["tls 127.0.0.1:8090"],
    };
    let health = Question {
        id: "runtime-iggy-health",
        area: Area::Runtime,
        title: "Does Iggy answer?",
        why: "A server whose shards are dead still holds its port open.",
        thresholds: &["warns when an answer takes over 500 ms", "fails when there is none"],
        asked: &["http 127.0.0.1:3000/stats"],
    };
    let disks = Question {
        id: "disk-health",
        area: Area::Disk,
        title: "Is a disk failing?",
        why: "A disk that reports media errors loses segments next.",
        thresholds: &["fails on any media error"],
        asked: &["command nvme-smart-log", "/proc/mdstat"],
    };
    let modules = Question {
        id: "kernel-modules",
        area: Area::Kernel,
        title: "Is the kernel tainted?",
        why: "A tainted kernel is one that its makers do not support.",
        thresholds: &["warns when it is tainted"],
        asked: &["/proc/modules", "/proc/sys/kernel/tainted"],
    };
    let mut checks = vec![
        certificate.unanswered(Outcome::Unknown, "tls 127.0.0.1:8090: connection refused"),
        health.unanswered(Outcome::TimedOut, "no answer within 10 s; left behind"),
        disks.unanswered(Outcome::Unknown, "command nvme-smart-log: permission denied"),
        modules.unanswered(Outcome::Panicked, "index out of bounds: the len is 3 but the index is 3"),
    ];
    let skipped = [
        ("memory-numa", Area::Memory, "Is memory local?", "this host has one NUMA node"),
        (
            "network-conntrack",
            Area::Network,
            "Is connection tracking full?",
            "connection tracking is not loaded",
        ),
        ("cgroup-limits", Area::Cgroup, "Is a unit throttled?", "no runtime runs in a cgroup with limits"),
        (
            "supervisor-reachability",
            Area::Supervisor,
            "Can this node reach its Supervisor?",
            "no Supervisor is configured that the agent calls without a proxy and a certificate of its own",
        ),
    ];
    checks.extend(skipped.map(|(id, area, title, reason)| {
        let why = "It would matter if it were there.";
        Question { id, area, title, why, thresholds: &[], asked: &[] }.answered(Finding::skip(reason))
    }));
    checks
}
