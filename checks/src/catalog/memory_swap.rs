//! memory-swap: does the machine swap.

use warden_host::proc::{counter, kibibytes};
use warden_host::quantity::{bytes, number};
use warden_host::{Host, IfAny};

use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Series, Table, Unit,
    Value, Verdict, iggy,
};

pub const CHECK: Check = Check {
    id: "memory-swap",
    area: Area::Memory,
    title: "Does the machine swap?",
    why: "A shard whose memory was swapped out waits for the disk in the middle of its loop, and every partition and \
          client of that shard waits with it. Swap that is full of idle things and does not move does no harm.",
    reads: &[
        Read::Path("/proc/meminfo"),
        Read::Path("/proc/swaps"),
        Read::Sample("/proc/vmstat"),
        Read::Path("/proc/sys/vm/swappiness"),
        Read::Path("/proc/[pid]/status"),
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "warns when swap is in use and pages move in or out, fails above 1000 pages a second",
        "warns when memory of a runtime is in swap",
    ],
    advice: "Free memory or add some; keep vm.swappiness at 10 or lower, or switch swap off on a dedicated broker.",
    deadline: DEADLINE,
    run,
};

/// At 4 KiB a page, 4 MiB/s of random I/O beside the broker's own.
const FAIL_PAGES_PER_SECOND: f64 = 1000.0;

fn run(host: &Host) -> Result<Finding> {
    let meminfo = host.read("/proc/meminfo")?;
    let of =
        |name| kibibytes(&meminfo, name).ok_or_else(|| Error::parse("/proc/meminfo", format!("no {name}")));
    let (total, free) = (of("SwapTotal")?, of("SwapFree")?);
    if total == 0 {
        return Ok(Finding::skip("this machine has no swap"));
    }
    let used = total.saturating_sub(free);
    let (before, after, seconds) = host.sample_file("/proc/vmstat")?;
    let rate = |name: &str| -> Result<f64> {
        let counter = |text: &str| {
            counter(text, name).ok_or_else(|| Error::parse("/proc/vmstat", format!("no {name}")))
        };
        Ok(counter(&after)?.saturating_sub(counter(&before)?) as f64 / seconds.max(f64::MIN_POSITIVE))
    };
    let (pages_in, pages_out) = (rate("pswpin")?, rate("pswpout")?);

    let percent = used as f64 * 100.0 / total as f64;
    let mut finding = Finding::new(format!(
        "{} of {} swap is in use ({} %), {} pages/s in and {} pages/s out",
        bytes(used),
        bytes(total),
        number(percent),
        number(pages_in),
        number(pages_out)
    ));
    let moving = pages_in + pages_out;
    if used > 0 && moving > 0.0 {
        let severity = if moving > FAIL_PAGES_PER_SECOND { Verdict::Fail } else { Verdict::Warn };
        let text = format!("{} swap is in use and {} pages a second move", bytes(used), number(moving));
        finding.problem(
            severity,
            text,
            Advice::run(CHECK.advice, "grep VmSwap /proc/[0-9]*/status | sort -k2 -n | tail -n 15"),
        );
    }
    let mut chart = Series::bars("Swap", Unit::Bytes, ["used", "free"]);
    chart.top = Some(total as f64);
    chart.point("swap", [used as f64, free.min(total) as f64]);
    finding.show(Evidence::Series(chart));
    let swappiness = host.value("/proc/sys/vm/swappiness").if_any()?;
    finding.show(Evidence::Fields(
        Fields::new("Swapping")
            .row("pages in per second", pages_in)
            .row("pages out per second", pages_out)
            .row("vm.swappiness", swappiness.map_or(Value::Nothing, Value::Code)),
    ));
    if let Some(swaps) = host.read("/proc/swaps").if_any()? {
        finding.show(Evidence::Table(areas(&swaps)));
    }
    judge_runtimes(host, &mut finding);
    Ok(finding)
}

fn judge_runtimes(host: &Host, finding: &mut Finding) {
    for process in iggy::processes(host) {
        let path = format!("/proc/{}/status", process.pid);
        let swapped = host.read(&path).ok().and_then(|status| kibibytes(&status, "VmSwap")).unwrap_or(0);
        if swapped > 0 {
            let text = format!(
                "{} of {} (pid {}) is in swap",
                bytes(swapped),
                process.runtime.program(),
                process.pid
            );
            let advice = Advice::text("Restart it once there is memory, and give its unit MemorySwapMax=0.");
            finding.warn(text, advice);
        }
    }
}

/// /proc/swaps: name, type, size and use in KiB, priority.
fn areas(swaps: &str) -> Table {
    let mut table = Table::new("Swap areas", ["area", "type", "size", "used", "priority"]);
    for line in swaps.lines().skip(1) {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let [name, kind, size, used, priority] = words[..] else { continue };
        let size_of = |text: &str| {
            text.parse::<u64>().map_or(Value::Nothing, |kib| Value::Bytes(kib.saturating_mul(1024)))
        };
        table.row([Value::Code(name.to_owned()), kind.into(), size_of(size), size_of(used), priority.into()]);
    }
    table
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn host(total: u64, free: u64, moved: u64) -> Recorded {
        Recorded::complete()
            .file("/proc/meminfo", &format!("SwapTotal: {total} kB\nSwapFree: {free} kB\n"))
            .file(
                "/proc/swaps",
                "Filename Type Size Used Priority\n/dev/zram0 partition 1000 500 100\ntorn\n",
            )
            .sample(
                "/proc/vmstat",
                "pswpin 10\npswpout 5\n",
                &format!("pswpin {}\npswpout 5\n", 10 + moved),
                2.0,
            )
    }

    fn finding(total: u64, free: u64, moved: u64) -> Finding {
        run(&host(total, free, moved).host()).unwrap()
    }

    #[test]
    fn no_swap_skips() {
        let finding = finding(0, 0, 0);
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Skip, "this machine has no swap")
        );
    }

    #[test]
    fn swap_in_use_that_does_not_move_passes() {
        let finding = finding(1024, 512, 0);
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "512 KiB of 1 MiB swap is in use (50 %), 0 pages/s in and 0 pages/s out");
        assert!(matches!(&finding.evidence[2], Evidence::Table(table) if table.rows.len() == 1));
    }

    #[test]
    fn moving_pages_warn_then_fail() {
        let verdicts = [1, 2000, 2001].map(|moved| finding(1024, 512, moved).verdict());
        assert_eq!(verdicts, [Verdict::Warn, Verdict::Warn, Verdict::Fail]);
        assert_eq!(
            finding(1024, 512, 5).problems[0].text,
            "512 KiB swap is in use and 2.5 pages a second move"
        );
    }

    #[test]
    fn a_runtime_in_swap_warns() {
        let stat = "7 (iggy-server) S 1 7 7 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0";
        let host = host(1024, 512, 0)
            .file("/proc/7/stat", stat)
            .file("/proc/7/status", "Name: iggy-server\nVmSwap: 300 kB\n");
        let finding = run(&host.host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "300 KiB of iggy-server (pid 7) is in swap");
    }

    #[test]
    fn counters_that_step_back_count_as_no_movement_and_missing_ones_are_unknown() {
        let back =
            host(1024, 512, 0).sample("/proc/vmstat", "pswpin 9\npswpout 9\n", "pswpin 1\npswpout 1\n", 1.0);
        assert_eq!(run(&back.host()).unwrap().verdict(), Verdict::Pass);
        let missing = host(1024, 512, 0).sample("/proc/vmstat", "a 1\n", "a 1\n", 1.0);
        assert_eq!(
            run(&missing.host()).unwrap_err().to_string(),
            "cannot understand /proc/vmstat: no pswpin"
        );
        assert!(run(&Recorded::complete().denied("/proc/meminfo").host()).is_err());
    }
}
