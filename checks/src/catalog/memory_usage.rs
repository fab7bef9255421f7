//! memory-usage: is there memory left, and do programs wait for it.

use warden_host::arc::{ARC_STATISTICS, ArcSize};
use warden_host::proc::{field, kibibytes, pressure};
use warden_host::quantity::{bytes, number};
use warden_host::{Cause, Failure, Host, IfAny};

use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Series, Table, Unit,
    Value, iggy,
};

pub const CHECK: Check = Check {
    id: "memory-usage",
    area: Area::Memory,
    title: "Is there memory left?",
    why: "Iggy keeps a memory pool (4 GiB unless configured) and the newest messages of each partition in memory, and \
          reads the rest through the page cache. With little memory left, reads go to the disk and the kernel looks \
          for a process to kill.",
    reads: &[
        Read::Path("/proc/meminfo"),
        Read::Path("/proc/pressure/memory"),
        Read::Path("/proc/spl/kstat/zfs/arcstats"),
        Read::Path("/proc/[pid]/status"),
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "warns when less than 10 % of memory is available (the cache of ZFS down to its least size included), fails under 5 %",
        "warns when all programs waited for memory for over 5 % of the last 10 s",
        "warns when the hardware lost pages",
    ],
    advice: "See what takes the memory (process-top), lower Iggy's memory_pool.size, or give the machine more.",
    deadline: DEADLINE,
    run,
};

const WARN_AVAILABLE_PERCENT: f64 = 10.0;
const FAIL_AVAILABLE_PERCENT: f64 = 5.0;
const WARN_FULL_PERCENT: f64 = 5.0;

fn run(host: &Host) -> Result<Finding> {
    let meminfo = host.read("/proc/meminfo")?;
    let of = |name| kibibytes(&meminfo, name);
    let missing = |name: &str| Error::parse("/proc/meminfo", format!("no {name}"));
    let total = of("MemTotal").filter(|&total| total > 0).ok_or_else(|| missing("MemTotal"))?;
    let free = of("MemFree").ok_or_else(|| missing("MemFree"))?;
    let cache =
        [of("Buffers"), of("Cached"), of("SReclaimable")].into_iter().flatten().fold(0, u64::saturating_add);
    // Kernels before 3.14 do not estimate it; shared memory is in the cache but cannot be taken back.
    let available = of("MemAvailable")
        .unwrap_or_else(|| free.saturating_add(cache).saturating_sub(of("Shmem").unwrap_or(0)));
    // The kernel does not count it as a cache, and can have it back.
    let arc = cache_of_zfs(host);
    let gives_way = arc.as_ref().ok().copied().flatten().map_or(0, ArcSize::gives_way);
    let available = available.saturating_add(gives_way).min(total);
    let percent = available as f64 * 100.0 / total as f64;
    // Kernels without pressure accounting have no such file, or refuse to read it.
    let pressures = host.read("/proc/pressure/memory").ok();
    let stalled = |kind| pressures.as_deref().and_then(|text| pressure(text, kind));

    let mut finding = Finding::new(format!(
        "{} of {} is available ({} %)",
        bytes(available),
        bytes(total),
        number(percent)
    ));
    let text =
        || format!("only {} of {} is available ({} %)", bytes(available), bytes(total), number(percent));
    let advice = || Advice::run(CHECK.advice, "ps -eo rss,pid,comm --sort=-rss | head -n 15");
    if percent < WARN_AVAILABLE_PERCENT {
        // What the cache of ZFS would give back decides.
        arc.clone()?;
    }
    if percent < FAIL_AVAILABLE_PERCENT {
        finding.fail(text(), advice());
    } else if percent < WARN_AVAILABLE_PERCENT {
        finding.warn(text(), advice());
    }
    if let Some(full) = stalled("full").filter(|&full| full > WARN_FULL_PERCENT) {
        finding.warn(
            format!("every program waited for memory for {} % of the last 10 s", number(full)),
            advice(),
        );
    }
    if let Some(lost) = of("HardwareCorrupted").filter(|&lost| lost > 0) {
        finding.warn(
            format!("{} of memory is lost to hardware errors", bytes(lost)),
            Advice::text("Have the memory module replaced; kernel-log names it."),
        );
    }

    let arc = arc.ok().flatten();
    let cache = cache.saturating_add(arc.as_ref().map_or(0, |arc| arc.size));
    finding.show(Evidence::Series(chart(total, free, cache)));
    let mut fields = fields(&meminfo, total, available, stalled("some"), stalled("full"));
    if let Some(arc) = arc {
        fields = fields
            .row("cache of ZFS (ARC)", Value::Bytes(arc.size))
            .row("of which gives way", Value::Bytes(arc.gives_way()));
    }
    finding.show(Evidence::Fields(fields));
    if let Some(table) = runtimes(host, total) {
        finding.show(Evidence::Table(table));
    }
    Ok(finding)
}

/// None without ZFS, and in recordings that were never asked.
fn cache_of_zfs(host: &Host) -> Result<Option<ArcSize>> {
    let statistics = match host.read(ARC_STATISTICS).if_any() {
        Err(Error::Host(Failure { cause: Cause::Unrecorded, .. })) => None,
        statistics => statistics?,
    };
    let parse = |text: &str| ArcSize::parse(text).ok_or_else(|| Error::parse(ARC_STATISTICS, "no size"));
    statistics.as_deref().map(parse).transpose()
}

fn chart(total: u64, free: u64, cache: u64) -> Series {
    let cache = cache.min(total.saturating_sub(free));
    let used = total.saturating_sub(free).saturating_sub(cache);
    let mut chart = Series::bars("Memory", Unit::Bytes, ["used", "cache", "free"]);
    chart.top = Some(total as f64);
    chart.point("memory", [used as f64, cache as f64, free as f64]);
    chart
}

fn fields(meminfo: &str, total: u64, available: u64, some: Option<f64>, full: Option<f64>) -> Fields {
    const NAMES: [(&str, &str); 15] = [
        ("MemFree", "free"),
        ("Buffers", "buffers"),
        ("Cached", "page cache"),
        ("AnonPages", "of programs (anonymous)"),
        ("Mapped", "mapped files"),
        ("Shmem", "shared and tmpfs"),
        ("Mlocked", "locked"),
        ("SReclaimable", "kernel, reclaimable"),
        ("SUnreclaim", "kernel, not reclaimable"),
        ("PageTables", "page tables"),
        ("KernelStack", "kernel stacks"),
        ("Dirty", "waiting to be written"),
        ("Writeback", "being written"),
        ("Committed_AS", "promised to programs"),
        ("CommitLimit", "limit of promises"),
    ];
    let mut fields =
        Fields::new("Memory").row("total", Value::Bytes(total)).row("available", Value::Bytes(available));
    for (name, shown) in NAMES {
        fields = fields.row(shown, kibibytes(meminfo, name).map_or(Value::Nothing, Value::Bytes));
    }
    let percent = |value: Option<f64>| value.map_or(Value::Nothing, Value::Percent);
    fields
        .row("some program waited, last 10 s", percent(some))
        .row("every program waited, last 10 s", percent(full))
}

/// What the runtimes take; none when none runs.
fn runtimes(host: &Host, total: u64) -> Option<Table> {
    let mut table =
        Table::new("Runtimes", ["program", "pid", "resident", "of memory", "most ever", "locked", "swapped"]);
    for process in iggy::processes(host) {
        let Ok(status) = host.read(&format!("/proc/{}/status", process.pid)) else { continue };
        let of = |name| kibibytes(&status, name);
        let share = of("VmRSS").map(|resident| resident as f64 * 100.0 / total as f64);
        let size = |name| of(name).map_or(Value::Nothing, Value::Bytes);
        table.row([
            Value::Code(field(&status, "Name").unwrap_or_else(|| process.runtime.program()).to_owned()),
            i64::from(process.pid).into(),
            size("VmRSS"),
            share.map_or(Value::Nothing, Value::Percent),
            size("VmHWM"),
            size("VmLck"),
            size("VmSwap"),
        ]);
    }
    (!table.rows.is_empty()).then_some(table)
}

#[cfg(test)]
mod tests {
    use warden_host::{Recorded, Request};

    use super::*;
    use crate::Verdict;

    fn with_available(kibibytes: u64) -> Recorded {
        let meminfo = format!(
            "MemTotal: 1000000 kB\nMemFree: 20000 kB\nMemAvailable: {kibibytes} kB\nBuffers: 0 kB\nCached: 300000 kB\nSReclaimable: 80000 kB\n"
        );
        Recorded::complete().file("/proc/meminfo", &meminfo)
    }

    #[test]
    fn memory_to_spare_passes_and_is_drawn_whole() {
        let finding = run(&with_available(400_000).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "391 MiB of 977 MiB is available (40 %)");
        let Evidence::Series(chart) = &finding.evidence[0] else { panic!("no chart") };
        assert_eq!(chart.points[0].values, [600_000.0 * 1024.0, 380_000.0 * 1024.0, 20_000.0 * 1024.0]);
    }

    #[test]
    fn under_ten_percent_warns_and_under_five_fails() {
        let verdicts = [100_000, 99_999, 50_000, 49_999]
            .map(|available| run(&with_available(available).host()).unwrap().verdict());
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Warn, Verdict::Warn, Verdict::Fail]);
        let finding = run(&with_available(40_000).host()).unwrap();
        assert_eq!(finding.problems[0].text, "only 39.1 MiB of 977 MiB is available (4 %)");
    }

    #[test]
    fn the_cache_of_zfs_is_available_down_to_its_least_size() {
        let stats = |size: u64, least: u64| {
            format!(
                "13 1 0x01 123 33456 7358410 1048311\nname type data\nsize 4 {size}\nc 4 {size}\nc_min 4 {least}\n"
            )
        };
        let with = |text: &str| {
            run(&with_available(40_000).file("/proc/spl/kstat/zfs/arcstats", text).host()).unwrap()
        };
        let cached = with(&stats(400_000 << 10, 100_000 << 10));
        assert_eq!(
            (cached.verdict(), cached.summary.as_str()),
            (Verdict::Pass, "332 MiB of 977 MiB is available (34 %)")
        );
        assert_eq!(with(&stats(100_000 << 10, 100_000 << 10)).verdict(), Verdict::Fail);
        let torn = with_available(40_000).file("/proc/spl/kstat/zfs/arcstats", "torn");
        let denied = with_available(40_000).denied("/proc/spl/kstat/zfs/arcstats");
        assert!(run(&torn.host()).is_err() && run(&denied.host()).is_err());
    }

    #[test]
    fn programs_that_all_wait_warn() {
        let pressure = |full: &str| {
            format!("some avg10=9.00 avg60=0 avg300=0 total=1\nfull avg10={full} avg60=0 avg300=0 total=1\n")
        };
        let at = |full| {
            run(&with_available(400_000).file("/proc/pressure/memory", &pressure(full)).host()).unwrap()
        };
        assert_eq!(at("5.00").verdict(), Verdict::Pass);
        assert_eq!(at("5.01").verdict(), Verdict::Warn);
    }

    #[test]
    fn lost_pages_warn() {
        let meminfo = "MemTotal: 1000 kB\nMemFree: 900 kB\nHardwareCorrupted: 4 kB\n";
        let finding = run(&Recorded::complete().file("/proc/meminfo", meminfo).host()).unwrap();
        assert_eq!(finding.problems[0].text, "4 KiB of memory is lost to hardware errors");
    }

    #[test]
    fn an_old_kernel_is_judged_by_what_is_free_or_cached() {
        let meminfo = "MemTotal: 1000 kB\nMemFree: 100 kB\nBuffers: 50 kB\nCached: 150 kB\nShmem: 100 kB\n";
        let finding = run(&Recorded::complete().file("/proc/meminfo", meminfo).host()).unwrap();
        assert_eq!(finding.summary, "200 KiB of 1000 KiB is available (20 %)");
    }

    #[test]
    fn a_torn_or_denied_meminfo_is_unknown_and_pressure_switched_off_is_not() {
        assert!(run(&Recorded::complete().file("/proc/meminfo", "MemTotal: 0 kB\n").host()).is_err());
        assert!(run(&Recorded::complete().denied("/proc/meminfo").host()).is_err());
        let request = Request::File { path: "/proc/pressure/memory".to_owned() };
        let off =
            with_available(400_000).without(request, Cause::Other("operation not supported".to_owned()));
        assert_eq!(run(&off.host()).unwrap().verdict(), Verdict::Pass);
    }
}
