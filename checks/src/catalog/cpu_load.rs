//! cpu-load: is there CPU time left, on the whole and on each core.

use warden_host::Host;
use warden_host::proc::{CpuTimes, counter, pressure};
use warden_host::quantity::{self, count, number};

use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Series, Unit, Value,
};

pub const CHECK: Check = Check {
    id: "cpu-load",
    area: Area::Cpu,
    title: "Is there CPU time left?",
    why: "Each shard of Iggy is one thread pinned to one core. When that core is busy with something else, the partitions \
          of the shard wait although other cores idle, so the busiest core counts more than the average.",
    reads: &[Read::Sample("/proc/stat"), Read::Path("/proc/loadavg"), Read::Path("/proc/pressure/cpu")],
    thresholds: &[
        "warns when the load of the last minute is over twice the number of cores",
        "warns when some program waited for a CPU for over 25 % of the last 10 s",
        "warns when a core is busy for 95 % of the sample or more",
        "warns when a core spends over half of the sample on interrupts",
    ],
    advice: "See which processes take the time (process-top); keep them off Iggy's cores with CPUAffinity= or AllowedCPUs=.",
    deadline: DEADLINE,
    run,
};

const WARN_LOAD_PER_CORE: f64 = 2.0;
const WARN_PRESSURE_PERCENT: f64 = 25.0;
const PINNED_PERCENT: f64 = 95.0;
const WARN_INTERRUPT_PERCENT: f64 = 50.0;
/// Bars that still can be read.
const CHART_CORES: usize = 64;

struct Core {
    name: String,
    times: CpuTimes,
}

impl Core {
    fn busy(&self) -> f64 {
        self.times.percent(|times| times.total() - times.idle - times.iowait)
    }

    fn interrupts(&self) -> f64 {
        self.times.percent(|times| times.irq + times.softirq)
    }
}

fn run(host: &Host) -> Result<Finding> {
    let (first, second, seconds) = host.sample_file("/proc/stat")?;
    let (whole, cores) = between(&first, &second)?;
    let loadavg = host.value("/proc/loadavg")?;
    let load = loads(&loadavg).ok_or_else(|| Error::parse("/proc/loadavg", format!("`{loadavg}`")))?;
    // Kernels without pressure accounting have no such file, or refuse to read it.
    let some = host.read("/proc/pressure/cpu").ok().and_then(|text| pressure(&text, "some"));

    let online = cores.len().max(1) as u64;
    let shown = count(online, "core", "cores");
    let mut finding = Finding::new(format!(
        "{} % of {shown} was busy over {}, the load of the last minute is {}",
        number(whole.busy()),
        quantity::duration(seconds),
        number(load[0])
    ));
    let advice = || Advice::run(CHECK.advice, "top -b -n 1 -o %CPU | head -n 22");
    if load[0] > WARN_LOAD_PER_CORE * online as f64 {
        finding.warn(format!("the load of the last minute is {} on {shown}", number(load[0])), advice());
    }
    if let Some(some) = some.filter(|&some| some > WARN_PRESSURE_PERCENT) {
        finding
            .warn(format!("some program waited for a CPU for {} % of the last 10 s", number(some)), advice());
    }
    name_cores(&mut finding, &cores, "busy for 95 % of the time or more", advice, |core| {
        core.busy() >= PINNED_PERCENT
    });
    let spread = || {
        Advice::run(
            "Spread the interrupts over the cores with irqbalance or receive-side scaling.",
            "cat /proc/interrupts",
        )
    };
    name_cores(&mut finding, &cores, "on interrupts for over half of the time", spread, |core| {
        core.interrupts() > WARN_INTERRUPT_PERCENT
    });

    finding.show(Evidence::Series(chart(&cores)));
    let rate = |name| {
        let change = counter(&second, name)?.saturating_sub(counter(&first, name)?);
        Some(change as f64 / seconds.max(f64::MIN_POSITIVE))
    };
    let percent = |part: fn(&CpuTimes) -> u64| Value::Percent(whole.times.percent(part));
    finding.show(Evidence::Fields(
        Fields::new("All cores together")
            .row("user", percent(|times| times.user + times.nice))
            .row("system", percent(|times| times.system))
            .row("interrupts", percent(|times| times.irq + times.softirq))
            .row("waiting for disks", percent(|times| times.iowait))
            .row("stolen by the hypervisor", percent(|times| times.steal))
            .row(
                "load of 1, 5 and 15 minutes",
                format!("{} {} {}", number(load[0]), number(load[1]), number(load[2])),
            )
            .row("some program waited, last 10 s", some.map_or(Value::Nothing, Value::Percent))
            .row("context switches per second", rate("ctxt"))
            .row("processes started per second", rate("processes"))
            .row("threads ready to run", counter(&second, "procs_running"))
            .row("threads waiting for a disk", counter(&second, "procs_blocked")),
    ));
    Ok(finding)
}

/// What went by on the whole and on each core that was online both times.
fn between(first: &str, second: &str) -> Result<(Core, Vec<Core>)> {
    let before = CpuTimes::parse_all(first)?;
    let mut cores = CpuTimes::parse_all(second)?.into_iter().filter_map(|(name, after)| {
        let (_, before) = before.iter().find(|(other, _)| *other == name)?;
        Some(Core { times: after.since(before), name })
    });
    let whole = cores
        .next()
        .filter(|core| core.name == "cpu")
        .ok_or_else(|| Error::parse("/proc/stat", "no line for all CPUs"))?;
    Ok((whole, cores.collect()))
}

fn loads(loadavg: &str) -> Option<[f64; 3]> {
    let loads: Vec<f64> =
        loadavg.split_ascii_whitespace().take(3).map(|word| word.parse().ok()).collect::<Option<_>>()?;
    loads.try_into().ok()
}

fn name_cores(
    finding: &mut Finding,
    cores: &[Core],
    what: &str,
    advice: impl Fn() -> Advice,
    is_meant: impl Fn(&Core) -> bool,
) {
    const NAMED: usize = 8;
    let names: Vec<&str> =
        cores.iter().filter(|core| is_meant(core)).map(|core| core.name.as_str()).collect();
    if names.is_empty() {
        return;
    }
    let more = if names.len() > NAMED { format!(" and {} more", names.len() - NAMED) } else { String::new() };
    let listed = names[..names.len().min(NAMED)].join(", ");
    finding.warn(
        format!("{} {what}, of {}: {listed}{more}", count(names.len() as u64, "core", "cores"), cores.len()),
        advice(),
    );
}

fn chart(cores: &[Core]) -> Series {
    let mut shown: Vec<&Core> = cores.iter().collect();
    let title = if shown.len() > CHART_CORES {
        shown.sort_by(|a, b| b.busy().total_cmp(&a.busy()));
        shown.truncate(CHART_CORES);
        format!("The {CHART_CORES} busiest of {} cores", cores.len())
    } else {
        "Use of each core".to_owned()
    };
    let mut chart = Series::bars(title, Unit::Percent, ["user", "system", "iowait", "steal"]);
    (chart.top, chart.limit) = (Some(100.0), Some(PINNED_PERCENT));
    for core in shown {
        let percent = |part: fn(&CpuTimes) -> u64| core.times.percent(part);
        chart.point(
            &core.name,
            [
                percent(|times| times.user + times.nice),
                percent(|times| times.system + times.irq + times.softirq),
                percent(|times| times.iowait),
                percent(|times| times.steal),
            ],
        );
    }
    chart
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::Verdict;

    /// Two cores of which the second did `user` and `softirq` in a hundred ticks.
    fn host(load: &str, user: u64, softirq: u64) -> Recorded {
        let idle = 100 - user - softirq;
        let first = "cpu  0 0 0 0 0 0 0 0\ncpu0 0 0 0 0 0 0 0 0\ncpu1 0 0 0 0 0 0 0 0\nctxt 100\n";
        let second = format!(
            "cpu  {user} 0 0 {} 0 0 {softirq} 0\ncpu0 0 0 0 100 0 0 0 0\ncpu1 {user} 0 0 {idle} 0 0 {softirq} 0\nctxt 300\nprocs_running 2\n",
            100 + idle
        );
        Recorded::complete()
            .sample("/proc/stat", first, &second, 1.0)
            .file("/proc/loadavg", &format!("{load} 0.50 0.20 1/99 7\n"))
    }

    #[test]
    fn an_idle_machine_passes() {
        let finding = run(&host("0.40", 20, 0).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "10 % of 2 cores was busy over 1 s, the load of the last minute is 0.4");
        let Evidence::Series(chart) = &finding.evidence[0] else { panic!("no chart") };
        assert_eq!((chart.points.len(), &chart.points[1].values), (2, &vec![20.0, 0.0, 0.0, 0.0]));
    }

    #[test]
    fn a_load_over_twice_the_cores_warns() {
        assert_eq!(run(&host("4.00", 0, 0).host()).unwrap().verdict(), Verdict::Pass);
        let finding = run(&host("4.01", 0, 0).host()).unwrap();
        assert_eq!(finding.problems[0].text, "the load of the last minute is 4.01 on 2 cores");
    }

    #[test]
    fn one_pinned_core_warns_though_the_other_idles() {
        assert_eq!(run(&host("1.00", 94, 0).host()).unwrap().verdict(), Verdict::Pass);
        let finding = run(&host("1.00", 95, 0).host()).unwrap();
        assert_eq!(finding.problems[0].text, "1 core busy for 95 % of the time or more, of 2: cpu1");
    }

    #[test]
    fn a_core_that_only_serves_interrupts_warns() {
        assert_eq!(run(&host("1.00", 0, 50).host()).unwrap().verdict(), Verdict::Pass);
        let finding = run(&host("1.00", 0, 51).host()).unwrap();
        assert_eq!(finding.problems[0].text, "1 core on interrupts for over half of the time, of 2: cpu1");
    }

    #[test]
    fn programs_that_wait_for_a_cpu_warn() {
        let at = |some: &str| {
            run(&host("1.00", 0, 0)
                .file("/proc/pressure/cpu", &format!("some avg10={some} avg60=0 avg300=0 total=1\n"))
                .host())
            .unwrap()
        };
        assert_eq!([at("25.00").verdict(), at("25.01").verdict()], [Verdict::Pass, Verdict::Warn]);
    }

    #[test]
    fn of_hundreds_of_cores_the_busiest_are_drawn() {
        let line = |core: u64, user: u64, idle: u64| {
            format!(
                "cpu{core} {user} 0 0 {idle} 0 0 0 0
"
            )
        };
        let first: String = (0..200).map(|core| line(core, 0, 0)).collect();
        let second: String = (0..200).map(|core| line(core, core, 1000 - core)).collect();
        let (_, cores) =
            between(&format!("cpu 0 0 0 0\n{first}"), &format!("cpu 1 0 0 9\n{second}")).unwrap();
        let chart = chart(&cores);
        assert_eq!((chart.points.len(), chart.points[0].label.as_str()), (CHART_CORES, "cpu199"));
        assert_eq!(chart.title, "The 64 busiest of 200 cores");
    }

    #[test]
    fn torn_or_denied_files_are_unknown() {
        assert!(run(&host("much", 0, 0).host()).is_err());
        assert!(run(&host("1", 0, 0).denied("/proc/loadavg").host()).is_err());
        assert!(between("cpu0 1 2", "cpu0 1 2").is_err());
    }
}
