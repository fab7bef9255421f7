//! cpu-frequency: do the cores run as fast as they can.

use std::collections::BTreeMap;

use warden_host::quantity::count;
use warden_host::{Host, IfAny, Sample};

use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Series, Table, Unit, Value,
    Verdict,
};

pub const CHECK: Check = Check {
    id: "cpu-frequency",
    area: Area::Cpu,
    title: "Do the cores run at full speed?",
    why: "A core that is held at a low frequency, or that slows itself down because it is hot, serves its shard more \
          slowly at the same load. Latency then grows without any other sign.",
    reads: &[
        Read::Path("/sys/devices/system/cpu/cpufreq/*/*"),
        Read::Path("/sys/devices/system/cpu/cpufreq/boost"),
        Read::Path("/sys/devices/system/cpu/intel_pstate/no_turbo"),
        Read::Path("/sys/devices/system/cpu/smt/*"),
        Read::Sample("/sys/devices/system/cpu/*/thermal_throttle/*_throttle_count"),
    ],
    thresholds: &[
        "warns when the powersave governor holds a core at its lowest frequency, or a driver is told to prefer saving power",
        "warns when a core throttled itself for heat during the sample",
        "notes heat since boot, powersave under a driver that scales anyway, a capped frequency, and turbo switched off",
    ],
    advice: "Set the performance governor, and mend the cooling where a core throttles.",
    deadline: DEADLINE,
    run,
};

const PERFORMANCE: &str =
    "for g in /sys/devices/system/cpu/cpufreq/policy*/scaling_governor; do echo performance > $g; done";
const THROTTLE_COUNTS: &str = "/sys/devices/system/cpu/*/thermal_throttle/*_throttle_count";
/// Bars that still can be read.
const CHART_POLICIES: usize = 64;
/// Under these, `powersave` still follows the load, within what the energy preference says. Under others it does so
/// where there is such a preference, or where the cores are seen above their lowest frequency.
const DRIVERS_THAT_SCALE: [&str; 2] = ["intel_pstate", "amd-pstate-epp"];

/// Cores that change frequency together.
#[derive(Default)]
struct Policy {
    governor: String,
    driver: String,
    preference: String,
    now: Option<u64>,
    lowest: Option<u64>,
    highest: Option<u64>,
    capped_at: Option<u64>,
}

fn run(host: &Host) -> Result<Finding> {
    let policies = policies(host)?;
    let throttles = host.sample(THROTTLE_COUNTS)?;
    let number = |path| host.number(path).if_any();
    let no_turbo = number("/sys/devices/system/cpu/intel_pstate/no_turbo")?;
    let boost = number("/sys/devices/system/cpu/cpufreq/boost")?;
    if policies.is_empty() && throttles.files.is_empty() {
        return Ok(Finding::skip(
            "this machine shows no frequencies and no throttling, as virtual machines do not",
        ));
    }

    let mut finding = Finding::new("");
    judge_governors(&mut finding, &policies);
    let (since_boot, during) = throttled(&throttles.files);
    if during > 0 {
        let text = format!("cores throttled for heat {} during the sample", count(during, "time", "times"));
        finding.warn(
            text,
            Advice::run(
                "Mend the cooling, or move the load away.",
                format!("grep . {THROTTLE_COUNTS} | grep -v ':0$'"),
            ),
        );
    } else if since_boot > 0 {
        let text = format!(
            "cores throttled for heat {} since boot, none during the sample",
            count(since_boot, "time", "times")
        );
        finding.note(
            text,
            Advice::run(
                "Watch whether the count grows under load.",
                format!("grep . {THROTTLE_COUNTS} | grep -v ':0$'"),
            ),
        );
    }
    let capped = policies
        .values()
        .filter(|policy| policy.capped_at < policy.highest && policy.capped_at.is_some())
        .count() as u64;
    if capped > 0 {
        let text = format!(
            "{} may not use the full frequency (scaling_max_freq is lower)",
            count(capped, "group of cores", "groups of cores")
        );
        finding.note(text, Advice::run("Lift the cap.", "for p in /sys/devices/system/cpu/cpufreq/policy*; do cat $p/cpuinfo_max_freq > $p/scaling_max_freq; done"));
    }
    if no_turbo == Some(1) || boost == Some(0) {
        finding.note(
            "turbo is switched off",
            Advice::text(
                "Fine where steady latency matters more than speed; else switch it on in firmware or sysfs.",
            ),
        );
    }

    let governors: Vec<String> = tally(policies.values().map(|policy| policy.governor.as_str()));
    let governors = if governors.is_empty() { "no governor".to_owned() } else { governors.join(", ") };
    finding.summary =
        format!("{governors}; throttled for heat {} since boot", count(since_boot, "time", "times"));
    if !policies.is_empty() {
        finding.show(Evidence::Series(chart(&policies)));
        finding.show(Evidence::Table(table(&policies)));
    }
    let smt = host.value("/sys/devices/system/cpu/smt/control").if_any()?;
    finding.show(Evidence::Fields(
        Fields::new("All cores")
            .row("throttled during the sample", during)
            .row("throttled since boot", since_boot)
            .row("turbo", no_turbo.map(|off| off == 0).or_else(|| boost.map(|on| on == 1)))
            .row("simultaneous threads", smt.map_or(Value::Nothing, Value::Code)),
    ));
    Ok(finding)
}

fn policies(host: &Host) -> Result<BTreeMap<u32, Policy>> {
    const FILES: [&str; 7] = [
        "scaling_governor",
        "scaling_driver",
        "energy_performance_preference",
        "scaling_cur_freq",
        "cpuinfo_min_freq",
        "cpuinfo_max_freq",
        "scaling_max_freq",
    ];
    let mut policies: BTreeMap<u32, Policy> = BTreeMap::new();
    for name in FILES {
        let files = host.read_all(&format!("/sys/devices/system/cpu/cpufreq/policy*/{name}"));
        // Older recordings were never asked for it.
        let files = if name == "cpuinfo_min_freq" { files.unwrap_or_default() } else { files? };
        for file in files {
            let id = file
                .path
                .split('/')
                .nth_back(1)
                .and_then(|policy| policy.strip_prefix("policy")?.parse().ok());
            let Some(id) = id else { continue };
            let (policy, text) = (policies.entry(id).or_default(), file.text.trim());
            match name {
                "scaling_governor" => text.clone_into(&mut policy.governor),
                "scaling_driver" => text.clone_into(&mut policy.driver),
                "energy_performance_preference" => text.clone_into(&mut policy.preference),
                "scaling_cur_freq" => policy.now = text.parse().ok(),
                "cpuinfo_min_freq" => policy.lowest = text.parse().ok(),
                "cpuinfo_max_freq" => policy.highest = text.parse().ok(),
                _ => policy.capped_at = text.parse().ok(),
            }
        }
    }
    Ok(policies)
}

fn judge_governors(finding: &mut Finding, policies: &BTreeMap<u32, Policy>) {
    let saving = || policies.values().filter(|policy| policy.governor == "powersave");
    // Of an unknown driver it is not known what powersave means.
    let scales = |policy: &&Policy| {
        let is_above = policy.lowest.zip(policy.now).is_some_and(|(lowest, now)| now > lowest);
        policy.driver.is_empty()
            || DRIVERS_THAT_SCALE.contains(&policy.driver.as_str())
            || !policy.preference.is_empty()
            || is_above
    };
    let advice = || Advice::run("Set the performance governor.", PERFORMANCE);
    let held = saving().filter(|policy| !scales(policy)).count() as u64;
    if held > 0 {
        let text = format!(
            "powersave holds {} at the lowest frequency",
            count(held, "group of cores", "groups of cores")
        );
        finding.warn(text, advice());
    }
    let thrifty =
        saving().filter(scales).filter(|policy| policy.preference.ends_with("power")).count() as u64;
    if thrifty > 0 {
        let text = format!(
            "{} told to prefer saving power over speed",
            count(thrifty, "group of cores is", "groups of cores are")
        );
        finding.warn(text, advice());
    }
    let following = saving().filter(scales).count() as u64 - thrifty;
    if following > 0 {
        let text = format!(
            "powersave is set for {}, under a driver that still follows the load",
            count(following, "group of cores", "groups of cores")
        );
        finding.note(text, advice());
    }
}

/// Throttle events since boot and between the samples; of a package, each of its cores shows the same count.
fn throttled(files: &[Sample]) -> (u64, u64) {
    let parse = |text: &Option<String>| text.as_deref().and_then(|text| text.trim().parse::<u64>().ok());
    let cores = files.iter().filter(|file| file.path.ends_with("/core_throttle_count"));
    let packages = files.iter().filter(|file| file.path.ends_with("/package_throttle_count"));
    let counts = |file: &Sample| {
        let (first, second) = (parse(&file.first), parse(&file.second));
        (second.unwrap_or(0), second.unwrap_or(0).saturating_sub(first.or(second).unwrap_or(0)))
    };
    let add = |(all, new): (u64, u64), file: &Sample| {
        let (since_boot, during) = counts(file);
        (all.saturating_add(since_boot), new.saturating_add(during))
    };
    let most = |(all, new): (u64, u64), file: &Sample| {
        let (since_boot, during) = counts(file);
        (all.max(since_boot), new.max(during))
    };
    let (of_cores, of_package) = (cores.fold((0, 0), add), packages.fold((0, 0), most));
    (of_cores.0.saturating_add(of_package.0), of_cores.1.saturating_add(of_package.1))
}

/// `8 × powersave` for each name, sorted by name.
fn tally<'a>(names: impl Iterator<Item = &'a str>) -> Vec<String> {
    let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
    for name in names {
        *counts.entry(name).or_default() += 1;
    }
    counts.into_iter().map(|(name, count)| format!("{count} × {name}")).collect()
}

fn chart(policies: &BTreeMap<u32, Policy>) -> Series {
    let mut chart = Series::bars("Frequency now, of the highest", Unit::Percent, ["now"]);
    chart.top = Some(100.0);
    for (id, policy) in policies.iter().take(CHART_POLICIES) {
        if let (Some(now), Some(highest @ 1..)) = (policy.now, policy.highest) {
            chart.point(format!("cpu{id}"), [now as f64 * 100.0 / highest as f64]);
        }
    }
    chart
}

fn table(policies: &BTreeMap<u32, Policy>) -> Table {
    let mut table = Table::new(
        "Frequencies",
        ["first core", "governor", "driver", "preference", "now MHz", "highest MHz", "cap MHz"],
    );
    let megahertz =
        |kilohertz: Option<u64>| kilohertz.map_or(Value::Nothing, |kilohertz| (kilohertz / 1000).into());
    let code = |text: &str| if text.is_empty() { Value::Nothing } else { Value::Code(text.to_owned()) };
    for (id, policy) in policies {
        let cells = [
            u64::from(*id).into(),
            code(&policy.governor),
            code(&policy.driver),
            code(&policy.preference),
            megahertz(policy.now),
            megahertz(policy.highest),
            megahertz(policy.capped_at),
        ];
        if policy.governor == "powersave" { table.marked_row(Verdict::Note, cells) } else { table.row(cells) }
    }
    table
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Recorded, Request, Samples};

    use super::*;

    fn host(governor: &str, driver: &str, throttled: (u64, u64)) -> Recorded {
        let directory = "/sys/devices/system/cpu/cpufreq/policy0";
        let file = Sample {
            path: "/sys/devices/system/cpu/cpu0/thermal_throttle/core_throttle_count".to_owned(),
            first: Some(format!("{}\n", throttled.0)),
            second: Some(format!("{}\n", throttled.1)),
        };
        Recorded::complete()
            .file(&format!("{directory}/scaling_governor"), &format!("{governor}\n"))
            .file(&format!("{directory}/scaling_driver"), &format!("{driver}\n"))
            .file(&format!("{directory}/scaling_cur_freq"), "1200000\n")
            .file(&format!("{directory}/cpuinfo_max_freq"), "2400000\n")
            .file(&format!("{directory}/scaling_max_freq"), "2400000\n")
            .with(
                Request::Sample { pattern: THROTTLE_COUNTS.to_owned() },
                Data::Samples(Samples { elapsed_us: 1_000_000, files: vec![file], left_out: 0 }),
            )
    }

    #[test]
    fn a_virtual_machine_without_frequencies_skips() {
        let nothing = Data::Samples(Samples { elapsed_us: 1, files: Vec::new(), left_out: 0 });
        let host =
            Recorded::complete().with(Request::Sample { pattern: THROTTLE_COUNTS.to_owned() }, nothing);
        assert_eq!(run(&host.host()).unwrap().verdict(), Verdict::Skip);
    }

    #[test]
    fn the_performance_governor_passes() {
        let finding = run(&host("performance", "acpi-cpufreq", (0, 0)).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "1 × performance; throttled for heat 0 times since boot");
    }

    #[test]
    fn powersave_warns_where_it_holds_the_frequency_and_is_noted_where_it_does_not() {
        let held = run(&host("powersave", "acpi-cpufreq", (0, 0)).host()).unwrap();
        assert_eq!(held.verdict(), Verdict::Warn);
        assert_eq!(held.problems[0].text, "powersave holds 1 group of cores at the lowest frequency");
        assert_eq!(run(&host("powersave", "intel_pstate", (0, 0)).host()).unwrap().verdict(), Verdict::Note);
        let lowest = "/sys/devices/system/cpu/cpufreq/policy0/cpuinfo_min_freq";
        let seen = |lowest_khz| {
            run(&host("powersave", "acpi-cpufreq", (0, 0)).file(lowest, lowest_khz).host()).unwrap().verdict()
        };
        assert_eq!((seen("1200000\n"), seen("800000\n")), (Verdict::Warn, Verdict::Note));
        let preference = "/sys/devices/system/cpu/cpufreq/policy0/energy_performance_preference";
        let thrifty = host("powersave", "intel_pstate", (0, 0)).file(preference, "balance_power\n");
        assert_eq!(run(&thrifty.host()).unwrap().verdict(), Verdict::Warn);
    }

    #[test]
    fn heat_now_warns_and_heat_in_the_past_is_noted() {
        let now = run(&host("performance", "x", (3, 5)).host()).unwrap();
        assert_eq!(now.problems[0].text, "cores throttled for heat 2 times during the sample");
        assert_eq!(now.verdict(), Verdict::Warn);
        let past = run(&host("performance", "x", (5, 5)).host()).unwrap();
        assert_eq!(
            past.problems[0].text,
            "cores throttled for heat 5 times since boot, none during the sample"
        );
        assert_eq!(run(&host("performance", "x", (5, 0)).host()).unwrap().verdict(), Verdict::Pass);
    }

    #[test]
    fn a_cap_and_no_turbo_are_noted() {
        let capped = host("performance", "x", (0, 0))
            .file("/sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq", "1000000")
            .file("/sys/devices/system/cpu/intel_pstate/no_turbo", "1\n");
        let finding = run(&capped.host()).unwrap();
        assert_eq!((finding.verdict(), finding.problems.len()), (Verdict::Note, 2));
    }

    #[test]
    fn an_odd_turbo_file_is_unknown() {
        assert!(
            run(&host("performance", "x", (0, 0))
                .file("/sys/devices/system/cpu/cpufreq/boost", "maybe")
                .host())
            .is_err()
        );
    }
}
