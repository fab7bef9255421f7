//! cpu-steal: does the hypervisor take time that Iggy's shards should have.

use warden_host::Host;
use warden_host::proc::CpuTimes;

use crate::{Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Series, Unit, quantity};

pub const CHECK: Check = Check {
    id: "cpu-steal",
    area: Area::Cpu,
    title: "Does the hypervisor take time away?",
    why: "Stolen time is time in which a virtual CPU wanted to run and was not let. Iggy pins one shard to each \
          core, so a stolen core stalls every partition of its shard.",
    reads: &[Read::Sample("/proc/stat")],
    thresholds: &["warns when more than 5 % of the time was stolen", "fails above 20 %"],
    advice: "Move the machine to a less busy host or to dedicated cores; a burstable instance may be out of credit.",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 5.0;
const FAIL_PERCENT: f64 = 20.0;

fn run(host: &Host) -> Result<Finding> {
    let (first, second, seconds) = host.sample_file("/proc/stat")?;
    let (before, after) = (CpuTimes::parse_all(&first)?, CpuTimes::parse_all(&second)?);

    let mut chart = Series::bars("Stolen time per core", Unit::Percent, ["steal"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    let mut stolen = 0.0;
    for (name, after) in &after {
        let Some((_, before)) = before.iter().find(|(other, _)| other == name) else { continue };
        let percent = after.since(before).percent(|times| times.steal);
        if name == "cpu" {
            stolen = percent;
        } else {
            chart.point(name, [percent]);
        }
    }

    let over = quantity::duration(seconds);
    let mut finding =
        Finding::new(format!("{} % of CPU time was stolen over {over}", quantity::number(stolen)));
    let problem = || format!("the hypervisor took {} % of the CPU time", quantity::number(stolen));
    if stolen > FAIL_PERCENT {
        finding.fail(problem(), Advice::text(CHECK.advice));
    } else if stolen > WARN_PERCENT {
        finding.warn(problem(), Advice::text(CHECK.advice));
    }
    finding.show(Evidence::Series(chart));
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::Verdict;

    fn after_one_second(steal: u64) -> Finding {
        let first = "cpu  1000 0 500 8000 0 0 0 100 0 0\ncpu0 1000 0 500 8000 0 0 0 100 0 0\n";
        let times = format!("1050 0 500 {} 0 0 0 {} 0 0", 8050 - steal, 100 + steal);
        let second = format!("cpu  {times}\ncpu0 {times}\n");
        run(&Recorded::new().sample("/proc/stat", first, &second, 1.0).host()).unwrap()
    }

    #[test]
    fn a_machine_of_its_own_passes() {
        let finding = after_one_second(0);
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "0 % of CPU time was stolen over 1 s");
    }

    #[test]
    fn stolen_time_warns_then_fails() {
        assert_eq!(after_one_second(6).verdict(), Verdict::Warn);
        let worst = after_one_second(30);
        assert_eq!(worst.verdict(), Verdict::Fail);
        assert_eq!(worst.problems[0].text, "the hypervisor took 30 % of the CPU time");
    }
}
