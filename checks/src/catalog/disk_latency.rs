//! disk-latency: do the disks keep up with what is asked of them.

mod slowness;

use warden_host::diskstats::{Pace, Work};
use warden_host::proc::{Mount, pressure};
use warden_host::{Host, IfAny};

use self::slowness::{Slowness, WARN_AWAIT_MS, WARN_BUSY_PERCENT, slowness, told_below};
use crate::block::{
    DISKS, Disk, MAPPED, MODELS, MOUNTS_OF_PROCESS, PARTITIONS, REMOVABLE, SIZES, SLAVES, data_mount,
    stores_data,
};
use crate::iggy::{self, DataDirectory};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Series, Table, Unit, Value,
    Verdict, quantity,
};

pub const CHECK: Check = Check {
    id: "disk-latency",
    area: Area::Disk,
    title: "Are the disks keeping up?",
    why: "A shard that flushes a segment waits for the disk, and with it every producer that wants its messages \
          confirmed. Slow flushes show as slow sends, and a disk at its limit makes the page cache fill with dirty \
          pages until writers are stopped.",
    reads: &[
        Read::Sample("/proc/diskstats"),
        Read::Path(DISKS),
        Read::Path(PARTITIONS),
        Read::Path(SLAVES),
        Read::Path(MAPPED),
        Read::Path(SIZES),
        Read::Path(REMOVABLE),
        Read::Path(MODELS),
        Read::Path("/sys/block/*/queue/scheduler"),
        Read::Path("/sys/block/*/queue/rotational"),
        Read::Path("/sys/block/*/queue/nr_requests"),
        Read::Path("/proc/pressure/io"),
        Read::Path("/proc/self/mountinfo"),
        Read::Path(MOUNTS_OF_PROCESS),
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "warns when requests took over 20 ms on average (of 10 or more), fails over 100 ms",
        "warns when a disk was busy more than 90 % of the time",
        "warns when requests waited and none completed during the pause, fails when it lasted 1 s or more",
        "warns when every task waited for I/O over 20 % of the last 10 s",
        "warns when the data disk rotates (noted where a hypervisor may only say so)",
    ],
    advice: "Find what reads and writes (iotop, pidstat -d), move it elsewhere, or give Iggy a faster disk.",
    deadline: DEADLINE,
    run,
};

const WARN_PRESSURE_PERCENT: f64 = 20.0;
/// Bars that a chart carries, the slowest first: more cannot be read.
const CHART_POINTS: usize = 64;

fn run(host: &Host) -> Result<Finding> {
    examine(host, iggy::data_directory(host))
}

fn examine(host: &Host, data: Option<DataDirectory>) -> Result<Finding> {
    let (first, second, seconds) = host.sample_file("/proc/diskstats")?;
    let disks = Disk::all(host)?;
    let schedulers = host.read_all("/sys/block/*/queue/scheduler")?;
    let rotational = host.read_all("/sys/block/*/queue/rotational")?;
    let depths = host.read_all("/sys/block/*/queue/nr_requests")?;
    let models = host.read_all(MODELS).unwrap_or_default();
    let data_mount = match &data {
        Some(data) => host
            .read("/proc/self/mountinfo")
            .and_then(|mountinfo| data_mount(host, data, &Mount::parse_all(&mountinfo))),
        None => iggy::hidden_data_directory(host).map_or(Ok(None), Err),
    };
    let data_disk = data_mount.as_ref().ok().and_then(|mount| Disk::holding(&disks, mount.as_ref()?));

    // What holds the data is the stack of disks, and each disk below it.
    let data_bottoms: Vec<&Disk> = data_disk.map(|disk| disk.bottoms(&disks)).unwrap_or_default();
    let data_stack: Vec<String> = data_disk.map(|disk| disk.stack(&disks)).unwrap_or_default();

    let before = Work::parse_all(&first);
    let mut measured: Vec<(String, Pace)> = Vec::new();
    for (name, after) in Work::parse_all(&second) {
        let is_whole = disks.is_empty() && stores_data(&name) || disks.iter().any(|disk| disk.name == name);
        let Some((_, before)) = before.iter().find(|(other, _)| *other == name) else { continue };
        if is_whole && after != Work::default() {
            measured.push((name, after.since(before, seconds)));
        }
    }
    if measured.is_empty() {
        return Ok(Finding::skip("no disk here has ever been used"));
    }
    measured.sort_by(|(_, one), (_, other)| other.await_ms.total_cmp(&one.await_ms));
    let told = |name: &str| told_below(&disks, &measured, name, seconds);

    let mut finding = Finding::new("");
    let columns = [
        "disk",
        "reads/s",
        "writes/s",
        "read/s",
        "written/s",
        "average wait ms",
        "flush ms",
        "busy",
        "in flight",
        "queue",
        "scheduler",
        "rotates",
        "holds",
    ];
    let mut table = Table::new("Disks", columns);
    let mut waits = Series::bars("Average wait of a request", Unit::Milliseconds, ["wait"]);
    waits.limit = Some(WARN_AWAIT_MS);
    let mut busy = Series::bars("Time busy", Unit::Percent, ["busy"]);
    (busy.top, busy.limit) = (Some(100.0), Some(WARN_BUSY_PERCENT));

    for (name, pace) in &measured {
        let disk = disks.iter().find(|disk| disk.name == *name);
        let holds_data = data_stack.contains(name);
        let value = |files| disk.and_then(|disk| disk.value(files));
        let rotates = value(&rotational).map(|value| value == "1");
        let severity = judge(&mut finding, name, pace, holds_data, seconds, &told(name));
        let cells = [
            Value::Code(name.clone()),
            pace.reads.into(),
            pace.writes.into(),
            Value::Bytes(pace.read_bytes as u64),
            Value::Bytes(pace.written_bytes as u64),
            (pace.requests > 0).then_some(pace.await_ms).into(),
            (pace.flushes > 0).then_some(pace.flush_ms).into(),
            Value::Percent(pace.busy),
            pace.in_flight.into(),
            value(&depths).and_then(|depth| depth.parse::<u64>().ok()).into(),
            value(&schedulers).map(in_use).into(),
            rotates.into(),
            if holds_data { "Iggy's data".into() } else { Value::Nothing },
        ];
        match severity {
            Some(severity) => table.marked_row(severity, cells),
            None => table.row(cells),
        }
        if waits.points.len() < CHART_POINTS {
            waits.point(name, [pace.await_ms]);
            busy.point(name, [pace.busy]);
        }
        if rotates == Some(true) && disk.is_some_and(|disk| data_bottoms.contains(&disk)) {
            judge_rotation(&mut finding, name, disk.is_some_and(|disk| disk.is_virtual(&models)));
        }
    }
    if let Err(error) = &data_mount {
        finding.note(
            format!("which disk holds Iggy's data is not known: {error}"),
            Advice::text("Run Warden as root."),
        );
    }

    // A stack shows the work of its disks again: it is counted only where none of them is.
    let is_bottom = |name: &str| !disks.iter().any(|disk| disk.name == name && disk.is_stack());
    let bottoms: Vec<&(String, Pace)> = measured.iter().filter(|(name, _)| is_bottom(name)).collect();
    let counted = if bottoms.is_empty() { measured.iter().collect() } else { bottoms };
    if let Some((slowest, pace)) = counted.first() {
        let busiest = counted.iter().map(|(_, pace)| pace.busy).fold(0.0, f64::max);
        finding.summary = format!(
            "the slowest of {}, {slowest}, took {} ms for a request over {}; the busiest was {} % busy",
            quantity::count(counted.len() as u64, "disk", "disks"),
            quantity::number(pace.await_ms),
            quantity::duration(seconds),
            quantity::number(busiest),
        );
    }
    finding.show(Evidence::Series(waits));
    finding.show(Evidence::Series(busy));
    finding.show(Evidence::Table(table));
    if let Some(text) = host.read("/proc/pressure/io").if_any()? {
        judge_pressure(&mut finding, &text);
    }
    Ok(finding)
}

fn judge(
    finding: &mut Finding,
    name: &str,
    pace: &Pace,
    holds_data: bool,
    seconds: f64,
    told: &[(Slowness, Verdict)],
) -> Option<Verdict> {
    let whose = if holds_data { ", which holds Iggy's data," } else { "" };
    let over = quantity::duration(seconds);
    let mut worst = None;
    for (slowness, severity) in slowness(pace, seconds) {
        worst = worst.max(Some(severity));
        if told.iter().any(|(other, as_bad)| *other == slowness && *as_bad >= severity) {
            continue;
        }
        let (text, advice) = match slowness {
            Slowness::Stuck => (
                format!(
                    "{name}{whose} completed nothing in {over} while {} waited",
                    quantity::count(pace.in_flight, "request", "requests")
                ),
                Advice::run(
                    "See what the kernel says of the disk; it may be gone or failing.",
                    "dmesg | tail -n 50",
                ),
            ),
            Slowness::Slow => (
                format!(
                    "{name}{whose} took {} ms for a request, averaged over {} in {over}",
                    quantity::number(pace.await_ms),
                    pace.requests
                ),
                Advice::run(CHECK.advice, "pidstat -d 1 5"),
            ),
            Slowness::Busy => (
                format!("{name}{whose} was busy {} % of {over}", quantity::number(pace.busy)),
                Advice::run(CHECK.advice, "pidstat -d 1 5"),
            ),
        };
        finding.problem(severity, text, advice);
    }
    worst
}

fn judge_rotation(finding: &mut Finding, name: &str, is_virtual: bool) {
    if is_virtual {
        let text =
            format!("{name}, which holds Iggy's data, says it rotates; virtual disks often say so without");
        let advice =
            "If it is backed by flash, tell the kernel, which then schedules and reads ahead for flash.";
        finding.note(text, Advice::run(advice, format!("echo 0 > /sys/block/{name}/queue/rotational")));
    } else {
        let text = format!("{name}, which holds Iggy's data, is a rotating disk: about 10 ms for each seek");
        finding.warn(text, Advice::text("Move the data directory to an SSD or NVMe disk."));
    }
}

fn judge_pressure(finding: &mut Finding, text: &str) {
    let (some, full) = (pressure(text, "some"), pressure(text, "full"));
    if let Some(full) = full.filter(|&full| full > WARN_PRESSURE_PERCENT) {
        let text = format!(
            "every task that had work waited for I/O during {} % of the last 10 s",
            quantity::number(full)
        );
        finding.warn(text, Advice::run(CHECK.advice, "pidstat -d 1 5"));
    }
    let fields = Fields::new("Time lost to I/O, last 10 s")
        .row("some task waited", some.map(Value::Percent).unwrap_or(Value::Nothing))
        .row("every task waited", full.map(Value::Percent).unwrap_or(Value::Nothing));
    finding.show(Evidence::Fields(fields));
}

/// `mq-deadline` of `none [mq-deadline] kyber`.
fn in_use(schedulers: &str) -> &str {
    let chosen = schedulers.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    chosen.map_or(schedulers, |(name, _)| name)
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    /// One second in which `requests` writes waited `ms` together and the disk was busy for `busy_ms`.
    fn second(requests: u64, ms: u64, busy_ms: u64, in_flight: u64) -> Recorded {
        let line = |writes, ms, busy| {
            format!(
                "   8       0 sda 10 0 80 5 {writes} 0 {} {ms} {in_flight} {busy} 0 0 0 0 0 {writes} {ms}\n",
                writes * 8
            )
        };
        let loops = "   7       0 loop0 1 0 1 1 1 0 1 1 0 1 1\n   8       1 sda1 1 0 1 1 1 0 1 1 0 1 1\n   8 2 torn 1\n";
        let first = line(100, 100, 100) + loops;
        let second = line(100 + requests, 100 + ms, 100 + busy_ms) + loops;
        Recorded::complete()
            .sample("/proc/diskstats", &first, &second, 1.0)
            .file("/sys/block/sda/dev", "8:0\n")
            .file("/sys/block/sda/sda1/dev", "8:1\n")
            .file("/sys/block/sda/queue/scheduler", "none [mq-deadline] kyber\n")
            .file("/sys/block/sda/queue/rotational", "0\n")
            .file("/proc/self/mountinfo", "22 20 8:1 / /var/lib/iggy rw - ext4 /dev/sda1 rw\n")
    }

    fn examined(host: Recorded) -> Finding {
        let data = DataDirectory { path: "/var/lib/iggy".to_owned(), found_by: "test".to_owned() };
        examine(&host.host(), Some(data)).unwrap()
    }

    fn texts(finding: &Finding) -> Vec<&str> {
        finding.problems.iter().map(|problem| problem.text.as_str()).collect()
    }

    #[test]
    fn a_fast_disk_passes_and_partitions_and_loops_are_left_out() {
        let finding = examined(second(100, 150, 300, 0));
        assert_eq!((finding.verdict(), texts(&finding)), (Verdict::Pass, vec![]));
        assert_eq!(
            finding.summary,
            "the slowest of 1 disk, sda, took 1.5 ms for a request over 1 s; the busiest was 30 % busy"
        );
        let Evidence::Table(table) = &finding.evidence[2] else { panic!("a table") };
        assert_eq!(table.rows.len(), 1);
        let shown: Vec<String> = table.rows[0].cells.iter().map(Value::to_string).collect();
        assert_eq!(
            shown[4..],
            ["400 KiB", "1.5", "1.5", "30 %", "0", "–", "mq-deadline", "no", "Iggy's data"]
        );
    }

    #[test]
    fn slow_requests_warn_then_fail_and_a_few_are_not_judged() {
        let verdict = |requests, ms| examined(second(requests, ms, 0, 0)).verdict();
        assert_eq!(verdict(100, 2000), Verdict::Pass);
        assert_eq!(verdict(100, 2100), Verdict::Warn);
        assert_eq!(verdict(100, 10_000), Verdict::Warn);
        assert_eq!(verdict(9, 9_000), Verdict::Pass);
        let worst = examined(second(100, 15_000, 0, 0));
        assert_eq!(worst.verdict(), Verdict::Fail);
        let text = "sda, which holds Iggy's data, took 150 ms for a request, averaged over 100 in 1 s";
        assert_eq!(texts(&worst), [text]);
    }

    #[test]
    fn a_busy_disk_warns() {
        assert_eq!(examined(second(100, 100, 900, 0)).verdict(), Verdict::Pass);
        let finding = examined(second(100, 100, 950, 0));
        assert_eq!(texts(&finding), ["sda, which holds Iggy's data, was busy 95 % of 1 s"]);
        assert_eq!(finding.verdict(), Verdict::Warn);
    }

    #[test]
    fn a_disk_that_answers_nothing_fails() {
        let finding = examined(second(0, 0, 1000, 3));
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(
            texts(&finding),
            ["sda, which holds Iggy's data, completed nothing in 1 s while 3 requests waited"]
        );
    }

    #[test]
    fn a_disk_that_answers_nothing_for_a_moment_warns() {
        let line = |discards| format!("8 0 sda 10 0 80 5 9 0 72 9 2 9 0 {discards} 0 0 0 0 0\n");
        let paused = |after| second(0, 0, 0, 0).sample("/proc/diskstats", &line(0), &line(after), 0.25);
        assert_eq!(examined(paused(0)).verdict(), Verdict::Warn);
        assert_eq!(examined(paused(1)).verdict(), Verdict::Pass);
    }

    #[test]
    fn a_rotating_data_disk_warns_and_io_pressure_too() {
        let finding = examined(second(1, 1, 1, 0).file("/sys/block/sda/queue/rotational", "1\n"));
        assert_eq!(
            texts(&finding),
            ["sda, which holds Iggy's data, is a rotating disk: about 10 ms for each seek"]
        );
        let psi = "some avg10=60.00 avg60=0.30 avg300=0.00 total=9\nfull avg10=25.50 avg60=0.00 avg300=0.00 total=1\n";
        let finding = examined(second(1, 1, 1, 0).file("/proc/pressure/io", psi));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            texts(&finding),
            ["every task that had work waited for I/O during 25.5 % of the last 10 s"]
        );
    }

    #[test]
    fn a_volume_on_a_slow_disk_is_told_once_and_the_disk_below_is_the_datas() {
        let line = |number: u32, name: &str, requests: u64, ms: u64| {
            format!("253 {number} {name} 10 0 80 5 {requests} 0 {} {ms} 0 {ms} 0 0 0 0 0 0 0\n", requests * 8)
        };
        let lines = |requests, ms| line(0, "dm-0", requests, ms) + &line(1, "sda", requests, ms);
        let host = Recorded::complete()
            .sample("/proc/diskstats", &lines(100, 100), &lines(120, 1100), 1.0)
            .file("/sys/block/sda/dev", "8:0\n")
            .file("/sys/block/sda/queue/rotational", "1\n")
            .file("/sys/block/sda/device/model", "QEMU HARDDISK   \n")
            .file("/sys/block/dm-0/dev", "253:0\n")
            .file("/sys/block/dm-0/queue/rotational", "1\n")
            .file("/sys/block/dm-0/slaves/sda/dev", "8:0\n")
            .file("/proc/self/mountinfo", "22 20 253:0 / /var/lib/iggy rw - ext4 /dev/mapper/vg-data rw\n");
        let finding = examined(host);
        assert_eq!(
            texts(&finding),
            [
                "sda, which holds Iggy's data, took 50 ms for a request, averaged over 20 in 1 s",
                "sda, which holds Iggy's data, was busy 100 % of 1 s",
                "sda, which holds Iggy's data, says it rotates; virtual disks often say so without",
            ]
        );
        assert!(finding.summary.starts_with("the slowest of 1 disk, sda, took 50 ms"), "{}", finding.summary);
    }

    #[test]
    fn a_virtual_disk_that_claims_to_rotate_is_noted() {
        let mut finding = Finding::new("");
        judge_rotation(&mut finding, "vda", true);
        assert_eq!(finding.verdict(), Verdict::Note);
    }

    #[test]
    fn a_host_without_disks_is_skipped_and_denied_counters_are_an_error() {
        let none =
            Recorded::complete().sample("/proc/diskstats", "", "", 1.0).file("/proc/self/mountinfo", "");
        assert_eq!(examined(none).verdict(), Verdict::Skip);
        assert!(run(&Recorded::complete().host()).is_err());
    }

    #[test]
    fn an_unknown_data_disk_is_said() {
        let finding = examined(second(1, 1, 1, 0).denied("/proc/self/mountinfo"));
        assert_eq!(finding.verdict(), Verdict::Note);
        let text = "which disk holds Iggy's data is not known: /proc/self/mountinfo: permission denied";
        assert_eq!(texts(&finding), [text]);
    }
}
