//! Checks of the machine that found something.

use warden::snapshot::report::CheckReport;
use warden_host::{
    Advice, Area, Evidence, Fields, Finding, Series, Shape, Table, Text, Unit, Value, Verdict,
};

use super::{GIB, HOSTILE, NOW_US, Question};

pub fn checks() -> Vec<CheckReport> {
    vec![
        disk_space(),
        memory_oom(),
        cpu_load(),
        system_time(),
        disk_latency(),
        network_listeners(),
        system_identity(),
    ]
}

fn disk_space() -> CheckReport {
    let mut finding =
        Finding::new("the fullest filesystem, /var/lib/iggy, is 97 % used (12.4 GiB available)");
    finding.fail(
        "/var/lib/iggy, which holds Iggy's data, is 97 % full: 12.4 GiB of 500 GiB available",
        Advice::run(
            "Shorten the retention of large topics, purge what is no longer read, or grow the filesystem.",
            "du -xh --max-depth=2 '/var/lib/iggy' | sort -h | tail -n 20",
        ),
    );
    finding.warn(
        "/var is 88 % full: 4.8 GiB of 40 GiB available",
        Advice::run(
            "See what takes the room, then remove it or grow the filesystem.",
            "du -xh --max-depth=2 '/var' | sort -h | tail -n 20",
        ),
    );
    let mut chart = Series::bars("How full", Unit::Percent, ["used"]);
    (chart.top, chart.limit) = (Some(100.0), Some(85.0));
    let mut table = Table::new("Filesystems", ["mounted on", "type", "size", "available", "used", "holds"]);
    let rows = [
        ("/", "ext4", 60 * GIB, 34 * GIB, 43.3, None),
        ("/boot", "ext2", GIB / 2, GIB / 4, 50.0, None),
        ("/var", "ext4", 40 * GIB, 48 * GIB / 10, 88.0, Some(Verdict::Warn)),
        ("/var/lib/iggy", "xfs", 500 * GIB, 124 * GIB / 10, 97.5, Some(Verdict::Fail)),
        ("/srv/backup", "xfs", 2048 * GIB, 1500 * GIB, 26.8, None),
    ];
    for (point, kind, size, available, used, severity) in rows {
        let holds = if severity == Some(Verdict::Fail) { "Iggy's data".into() } else { Value::Nothing };
        let cells = [
            Value::Code(point.into()),
            kind.into(),
            Value::Bytes(size),
            Value::Bytes(available),
            Value::Percent(used),
            holds,
        ];
        chart.point(point, [used]);
        match severity {
            Some(severity) => table.marked_row(severity, cells),
            None => table.row(cells),
        }
    }
    let fields = Fields::new("Where Iggy's data is")
        .row("data directory", Value::Code("/var/lib/iggy/data".into()))
        .row("found by", "open file of process 1412")
        .row("device", Value::Code("/dev/nvme1n1p1".into()))
        .row("segments", 1_204_i64)
        .row("growth", Value::Text("2.1 GiB an hour".into()))
        .row("full in", Value::Seconds(21_240.0));
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Fields(fields));
    finding.show(Evidence::Table(table));
    Question {
        id: "disk-space",
        area: Area::Disk,
        title: "Is there room on the disks?",
        why: "When the filesystem of the data directory is full, an Iggy shard dies at its next write while the server stays up and /ping still answers pong. Producers hang until the node is restarted with room.",
        thresholds: &["warns when a filesystem is 85 % full", "fails at 95 %"],
        asked: &["/proc/self/mountinfo", "space /", "space /boot", "space /var", "space /var/lib/iggy", "space /srv/backup", "unit iggy-server.service"],
    }
    .answered(finding)
}

fn memory_oom() -> CheckReport {
    let mut finding =
        Finding::new("the kernel killed 3 processes for memory in 24 h, one of them iggy-server");
    finding.fail(
        "iggy-server (process 1187) was killed for memory at 2026-11-21T03:12:44Z with 41.2 GiB resident",
        Advice::run(
            "Lower Iggy's memory pool or give the unit more room.",
            "systemctl set-property iggy-server.service MemoryHigh=48G",
        ),
    );
    let mut table = Table::new("Killed", ["at", "process", "pid", "resident", "cgroup"]);
    let killed = [
        (31_636, "iggy-server", 1187, 41 * GIB),
        (54_000, "python3", 22_871, 3 * GIB),
        (54_900, "python3", 22_990, 2 * GIB),
    ];
    for (ago, name, pid, resident) in killed {
        let cells = [
            Value::Time(NOW_US / 1_000_000 - ago),
            Value::Code(name.into()),
            Value::Count(pid),
            Value::Bytes(resident),
            Value::Code(format!("/system.slice/{name}.service")),
        ];
        if name == "iggy-server" { table.marked_row(Verdict::Fail, cells) } else { table.row(cells) }
    }
    finding.show(Evidence::Table(table));
    finding.show(Evidence::Text(Text {
        title: "The kernel's account".into(),
        text: "[Sat Nov 21 03:12:44 2026] oom-kill:constraint=CONSTRAINT_NONE,nodemask=(null),cpuset=/,mems_allowed=0,global_oom,task_memcg=/system.slice/iggy-server.service,task=iggy-server,pid=1187,uid=998\n[Sat Nov 21 03:12:44 2026] Out of memory: Killed process 1187 (iggy-server) total-vm:61204512kB, anon-rss:43201244kB, file-rss:0kB, shmem-rss:0kB, UID:998 pgtables:86112kB oom_score_adj:0\n".into(),
    }));
    Question {
        id: "memory-oom",
        area: Area::Memory,
        title: "Was anything killed for memory?",
        why: "A killed Iggy loses what it had not yet flushed, and its clients see the connection reset. That systemd started it again hides it from everyone but the journal.",
        thresholds: &["warns on any kill within 24 h", "fails when a runtime was killed"],
        asked: &["kernel-log", "/proc/vmstat", "/sys/fs/cgroup/system.slice/iggy-server.service/memory.events"],
    }
    .answered(finding)
}

fn cpu_load() -> CheckReport {
    let mut finding = Finding::new("the 16 cores are 41 % busy; core 5 is at 100 %");
    finding.warn(
        "core 5, to which shard-5 is pinned, has no time left: 0 % idle over 1 s",
        Advice::run("See which partitions that shard serves and spread them.", "iggy -u iggy topic get 1 4"),
    );
    let mut cores = Series::bars("Each core", Unit::Percent, ["user", "system", "iowait"]);
    cores.top = Some(100.0);
    for core in 0..16_u16 {
        let busy = f64::from(core * 37 % 23);
        let user = if core == 5 { 71.0 } else { 14.0 + busy };
        cores.point(
            format!("cpu{core}"),
            [user, if core == 5 { 24.5 } else { 6.0 + busy / 2.0 }, if core == 5 { 4.5 } else { busy / 3.0 }],
        );
    }
    let mut load = Series::bars("Load over the last hour", Unit::Count, ["load"]);
    (load.shape, load.limit) = (Shape::Line, Some(32.0));
    for minute in 0..30_u32 {
        let wave = f64::from(minute * 17 % 11);
        load.point(format!("11:{:02}", minute * 2), [8.0 + wave + f64::from(minute) / 2.0]);
    }
    finding.show(Evidence::Series(cores));
    finding.show(Evidence::Series(load));
    finding.show(Evidence::Fields(
        Fields::new("Load")
            .row("1 min", 21.4)
            .row("5 min", 18.2)
            .row("15 min", 12.9)
            .row("pressure, some, 60 s", Value::Percent(11.2)),
    ));
    Question {
        id: "cpu-load",
        area: Area::Cpu,
        title: "Is there CPU left?",
        why: "Iggy pins one shard to each core and never moves it. A single full core stalls the partitions of its shard while the machine looks idle on average.",
        thresholds: &["warns when the load is over twice the cores, or one core is full", "warns when pressure (some) is over 25 %"],
        asked: &["sample /proc/stat", "/proc/loadavg", "/proc/pressure/cpu"],
    }
    .answered(finding)
}

fn system_time() -> CheckReport {
    let mut finding = Finding::new("the clock is 340 ms off and synchronised by chrony");
    finding.warn("the clock is 340 ms behind its source", Advice::run("Step it once.", "chronyc makestep"));
    let mut offset = Series::bars("Offset", Unit::Milliseconds, ["offset", "jitter"]);
    offset.shape = Shape::Line;
    for (hour, value) in [12.0, 31.0, 55.0, 120.0, 218.0, 340.0].into_iter().enumerate() {
        offset.point(format!("{:02}:00", hour + 7), [value, value / 4.0 + 8.0]);
    }
    finding.show(Evidence::Series(offset));
    finding.show(Evidence::Fields(
        Fields::new("Clock")
            .row("source", "chrony")
            .row("stratum", 3_i64)
            .row("synchronised", true)
            .row("clock source", Value::Code("kvm-clock".into()))
            .row("last step", Value::Nothing),
    ));
    Question {
        id: "system-time",
        area: Area::System,
        title: "Is the clock right?",
        why: "Message timestamps and retention follow the clock. Nodes that disagree delete segments at different times.",
        thresholds: &["warns when the clock is 100 ms off", "fails at 1 s"],
        asked: &["command chronyc-tracking", "/sys/devices/system/clocksource/clocksource0/current_clocksource"],
    }
    .answered(finding)
}

fn disk_latency() -> CheckReport {
    let mut finding = Finding::new("the slowest disk, nvme1n1, took 27 ms a write over 1 s");
    finding.warn(
        "nvme1n1, which holds Iggy's data, takes 27 ms a write (util 93 %)",
        Advice::run("See who writes.", "pidstat -d 1 5"),
    );
    let mut chart = Series::bars("Written", Unit::BytesPerSecond, ["read", "write"]);
    for (name, read, write) in [("nvme0n1", 1.2e6, 3.4e6), ("nvme1n1", 8.4e7, 4.1e8), ("nvme2n1", 0.0, 0.0)] {
        chart.point(name, [read, write]);
    }
    let mut table = Table::new("Disks", ["disk", "await", "util", "scheduler"]);
    table.row([Value::Code("nvme0n1".into()), Value::Seconds(0.0009), Value::Percent(4.0), "none".into()]);
    table.marked_row(
        Verdict::Warn,
        [Value::Code("nvme1n1".into()), Value::Seconds(0.027), Value::Percent(93.0), "none".into()],
    );
    table.row([Value::Code("nvme2n1".into()), Value::Seconds(0.0), Value::Percent(0.0), "none".into()]);
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Table(table));
    Question {
        id: "disk-latency",
        area: Area::Disk,
        title: "Are the disks keeping up?",
        why: "A producer that asks for an acknowledged flush waits for the slowest write.",
        thresholds: &["warns when a write takes over 20 ms or a disk is over 90 % busy"],
        asked: &["sample /proc/diskstats", "/sys/block/nvme1n1/queue/scheduler"],
    }
    .answered(finding)
}

fn network_listeners() -> CheckReport {
    let mut finding = Finding::new("19 listeners; the 4 configured ports of Iggy are held by iggy-server");
    finding.note(
        "the HTTP API listens on every address (0.0.0.0:3000)",
        Advice::text("Bind it to 127.0.0.1 unless clients outside need it."),
    );
    let mut table = Table::new("Listeners", ["address", "port", "protocol", "process"]);
    for (port, name) in [
        (22, "sshd"),
        (3000, "iggy-server"),
        (8080, "iggy-server"),
        (8090, "iggy-server"),
        (8092, "iggy-server"),
        (9100, HOSTILE[2]),
    ] {
        table.row([
            Value::Code("0.0.0.0".into()),
            Value::Count(port),
            "tcp".into(),
            Value::Code(name.into()),
        ]);
    }
    finding.show(Evidence::Table(table));
    Question {
        id: "network-listeners",
        area: Area::Network,
        title: "Who listens where?",
        why: "A port held by another process keeps Iggy from starting; an open one lets strangers in.",
        thresholds: &["warns when a configured port has no listener"],
        asked: &["/proc/net/tcp", "/proc/net/tcp6", "/proc/net/udp"],
    }
    .answered(finding)
}

fn system_identity() -> CheckReport {
    let mut finding = Finding::new("Debian GNU/Linux 12 on KVM, up for 12 d 4 h");
    finding.note("Debian 12 leaves long-term support in 19 months", Advice::text("Plan the next release."));
    finding.show(Evidence::Fields(
        Fields::new("Machine")
            .row("vendor", "QEMU")
            .row("cloud", Value::Nothing)
            .row("virtualisation", "kvm")
            .row("boot id", Value::Code("5f1d3c2b-9a8e-4d7c-b6a5-1f2e3d4c5b6a".into()))
            .row("booted", Value::Time(1_794_211_200)),
    ));
    Question {
        id: "system-identity",
        area: Area::System,
        title: "What machine is this?",
        why: "Whoever reads the report must know what it is about before judging anything else.",
        thresholds: &["warns when the release is past its end of life"],
        asked: &["/etc/os-release", "/proc/sys/kernel/osrelease", "/sys/class/dmi/id/sys_vendor"],
    }
    .answered(finding)
}
