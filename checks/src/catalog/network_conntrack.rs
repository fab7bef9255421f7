//! network-conntrack: is there room in the table of tracked connections.

use warden_host::{Host, IfAny};

use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Series, Unit, Value, quantity,
};

pub const CHECK: Check = Check {
    id: "network-conntrack",
    area: Area::Network,
    title: "Is there room to track connections?",
    why: "With a stateful firewall or NAT every connection takes an entry. When the table is full the kernel drops \
          the first packet of each new one: clients of Iggy see connects that time out while those already open work.",
    reads: &[
        Read::Path("/proc/sys/net/netfilter/nf_conntrack_count"),
        Read::Path("/proc/sys/net/netfilter/nf_conntrack_max"),
        Read::Path("/proc/net/stat/nf_conntrack"),
    ],
    thresholds: &[
        "warns when the table is 80 % full",
        "fails at 95 %",
        "notes packets dropped for want of room since boot",
    ],
    advice: "Raise net.netfilter.nf_conntrack_max, or exempt Iggy's ports from tracking (notrack).",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 80.0;
const FAIL_PERCENT: f64 = 95.0;

fn run(host: &Host) -> Result<Finding> {
    let value = |name| host.number(&format!("/proc/sys/net/netfilter/{name}"));
    let (Some(count), Some(most)) =
        (value("nf_conntrack_count").if_any()?, value("nf_conntrack_max").if_any()?)
    else {
        return Ok(Finding::skip("the kernel tracks no connections here"));
    };
    let statistics = host.read("/proc/net/stat/nf_conntrack");
    let lost = statistics.as_deref().map(|text| (total(text, "drop"), total(text, "early_drop")));
    let (count, most) = (count.max(0) as u64, most.max(0) as u64);
    if most == 0 {
        return Ok(Finding::new(format!("{count} connections are tracked, without a limit")));
    }

    let used = count as f64 * 100.0 / most as f64;
    let mut finding =
        Finding::new(format!("{count} of {most} tracked connections, {} %", quantity::number(used)));
    let advice = || {
        let command = format!("sysctl -w net.netfilter.nf_conntrack_max={}", most.saturating_mul(2));
        Advice::run(
            "Double the table (about 320 bytes an entry) and keep the value in /etc/sysctl.d.",
            command,
        )
    };
    let text =
        format!("the table of tracked connections is {} % full: {count} of {most}", quantity::number(used));
    if used >= FAIL_PERCENT {
        finding.fail(text, advice());
    } else if used >= WARN_PERCENT {
        finding.warn(text, advice());
    }
    let mut fields = Fields::new("Tracked connections").row("now", count).row("limit", most);
    if let Ok((dropped, early)) = lost {
        fields = fields.row("packets dropped since boot", dropped).row("entries evicted since boot", early);
        if let Some(dropped) = dropped.filter(|&dropped| dropped > 0) {
            finding.note(
                format!("{dropped} packets were dropped since boot because they could not be tracked"),
                advice(),
            );
        }
    } else {
        fields = fields.row("packets dropped since boot", Value::Nothing);
        // Some kernels have no such file; one that may not be read hides drops.
        if let Err(error) = statistics.if_any() {
            let text = format!("whether packets were dropped for want of room is not known: {error}");
            finding.note(text, Advice::text("Run Warden as root."));
        }
    }
    let mut chart = Series::bars("How full", Unit::Percent, ["used"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    chart.point("connections", [used]);
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Fields(fields));
    Ok(finding)
}

/// The sum over all CPUs of a column of /proc/net/stat/nf_conntrack: a line of names, then hexadecimal numbers.
fn total(text: &str, column: &str) -> Option<u64> {
    let mut lines = text.lines();
    let at = lines.next()?.split_ascii_whitespace().position(|name| name == column)?;
    let of_cpu = |line: &str| u64::from_str_radix(line.split_ascii_whitespace().nth(at)?, 16).ok();
    Some(lines.filter_map(of_cpu).fold(0, u64::saturating_add))
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::Verdict;

    fn tracking(count: &str, most: &str) -> Recorded {
        Recorded::complete()
            .file("/proc/sys/net/netfilter/nf_conntrack_count", count)
            .file("/proc/sys/net/netfilter/nf_conntrack_max", most)
    }

    fn verdict(count: &str) -> Verdict {
        run(&tracking(count, "1000\n").host()).unwrap().verdict()
    }

    #[test]
    fn the_thresholds_are_80_and_95_percent() {
        let verdicts = ["0\n", "799\n", "800\n", "949\n", "950\n", "1001\n"].map(verdict);
        use Verdict::{Fail, Pass, Warn};
        assert_eq!(verdicts, [Pass, Pass, Warn, Warn, Fail, Fail]);
        let finding = run(&tracking("950\n", "1000\n").host()).unwrap();
        assert_eq!(finding.problems[0].text, "the table of tracked connections is 95 % full: 950 of 1000");
        let command = finding.problems[0].advice.command.as_deref();
        assert_eq!(command, Some("sysctl -w net.netfilter.nf_conntrack_max=2000"));
    }

    #[test]
    fn drops_of_all_cpus_are_summed_and_noted() {
        let statistics =
            "entries  drop early_drop\n000000ff 0000000a 00000000\n000000ff 00000001 00000002\ntorn\n";
        let finding =
            run(&tracking("1", "1000").file("/proc/net/stat/nf_conntrack", statistics).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Note);
        let text = "11 packets were dropped since boot because they could not be tracked";
        assert_eq!(finding.problems[0].text, text);
    }

    #[test]
    fn drops_that_may_not_be_read_are_said() {
        let finding = run(&tracking("1", "1000").denied("/proc/net/stat/nf_conntrack").host()).unwrap();
        let text = "whether packets were dropped for want of room is not known: /proc/net/stat/nf_conntrack: permission denied";
        assert_eq!((finding.verdict(), finding.problems[0].text.as_str()), (Verdict::Note, text));
        assert_eq!(run(&tracking("1", "1000").host()).unwrap().verdict(), Verdict::Pass);
    }

    #[test]
    fn no_tracking_is_skipped_and_no_limit_passes() {
        assert_eq!(run(&Recorded::complete().host()).unwrap().verdict(), Verdict::Skip);
        assert_eq!(run(&tracking("5", "0").host()).unwrap().verdict(), Verdict::Pass);
    }

    #[test]
    fn a_denied_or_odd_count_is_an_error() {
        assert!(
            run(&tracking("5", "9").denied("/proc/sys/net/netfilter/nf_conntrack_count").host()).is_err()
        );
        assert!(run(&tracking("five", "9").host()).is_err());
    }
}
