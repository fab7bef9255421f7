//! cgroup-limits: does a control group hold a runtime back.

use warden_host::proc::{Mount, pressure};
use warden_host::quantity::{bytes, count, number};
use warden_host::{Host, IfAny, Samples};

use crate::cgroup::{self, Group, Place, Version, counter};
use crate::process_samples::{self, Runtimes};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Row, Table, Value, Verdict,
};

pub const CHECK: Check = Check {
    id: "cgroup-limits",
    area: Area::Cgroup,
    title: "Is a runtime throttled or capped?",
    why: "A CPU quota stops every shard of Iggy at once until the next period: latency jumps by tens of milliseconds \
          while the machine looks idle. A memory limit counts the page cache too, so Iggy rereads from disk what it \
          wrote a moment ago.",
    reads: &[
        Read::Sample(STAT_TWO),
        Read::Sample(STAT_ONE),
        Read::Path("/proc/[pid]/cgroup"),
        Read::Path("/proc/self/mountinfo"),
        Read::Path("/sys/fs/cgroup/**"),
        Read::Group(crate::iggy::READS),
    ],
    thresholds: &[
        "warns when a group was throttled between the looks, fails when in over half of the periods",
        "warns when it was throttled in over 5 % of all periods so far, notes when in fewer",
        "warns when memory.high or memory.max was hit, fails when something was killed for it",
        "warns when memory besides the page cache is over 90 % of the limit",
    ],
    advice: "Raise or drop CPUQuota= and MemoryMax= of the unit, or of the slice or container around it.",
    deadline: DEADLINE,
    run,
};

/// Services and containers of the second hierarchy, two levels down, where systemd keeps them.
const STAT_TWO: &str = "/sys/fs/cgroup/*/*/cpu.stat";
/// The same in the first, below its controller.
const STAT_ONE: &str = "/sys/fs/cgroup/cpu*/*/*/cpu.stat";

const FAIL_PERIODS_PERCENT: f64 = 50.0;
const WARN_PERIODS_PERCENT: f64 = 5.0;
const RESIDENT_PERCENT: f64 = 90.0;
/// memory.limit_in_bytes without a limit is the largest number of whole pages; nothing real comes near.
const UNLIMITED: u64 = 1 << 60;

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process_samples::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    if runtimes.is_empty() {
        return Ok(Finding::skip("no runtime runs here"));
    }
    let mounts = Mount::all(host)?;
    let mut finding = Finding::new("");
    let columns = [
        "group",
        "CPU limit",
        "periods",
        "throttled",
        "throttled between looks",
        "throttled for",
        "CPU pressure",
    ];
    let mut cpu_table = Table::new("CPU", columns);
    let columns =
        ["group", "in use", "besides cache", "high", "limit", "high hit", "limit hit", "killed", "pressure"];
    let mut memory_table = Table::new("Memory", columns);
    let mut other_table =
        Table::new("Tasks and I/O", ["group", "tasks", "tasks limit", "I/O limits", "I/O pressure"]);
    let mut judged = 0_u64;
    let mut done = Vec::new();
    let mut hidden: Vec<String> = Vec::new();
    for (&pid, &runtime) in runtimes {
        let Some(cgroup) = host.read(&format!("/proc/{pid}/cgroup")).if_any()? else { continue };
        judged += 1;
        let who = runtime.program();
        let mut groups = |controller: &str| match cgroup::of_process(&mounts, &cgroup, controller) {
            Place::Here(group) => group.with_parents(),
            Place::Hidden(path) => {
                hidden.push(format!("{controller} of {who} (pid {pid}): {path}"));
                Vec::new()
            }
            Place::Nowhere => Vec::new(),
        };
        let (of_cpu, of_memory, of_pids) = (groups("cpu"), groups("memory"), groups("pids"));
        let mut new = |group: &Group, kind: &str| {
            let file = group.file(kind);
            let is_new = !done.contains(&file);
            done.push(file);
            is_new
        };
        for group in of_cpu.iter().filter(|group| new(group, "cpu")) {
            cpu(host, &mut finding, &mut cpu_table, who, group)?;
        }
        for group in of_memory.iter().filter(|group| new(group, "memory")) {
            memory(host, &mut finding, &mut memory_table, who, group)?;
        }
        for group in of_pids.iter().filter(|group| new(group, "pids")) {
            others(host, &mut finding, &mut other_table, who, group)?;
        }
    }
    if judged == 0 {
        return Ok(Finding::skip("the runtimes ended while this host was looked at"));
    }
    if let Some(first) = hidden.first() {
        if cpu_table.rows.is_empty() && memory_table.rows.is_empty() {
            return Err(Error::parse("the control groups", format!("no mount here shows {first}")));
        }
        let groups = count(hidden.len() as u64, "control group lies", "control groups lie");
        let text = format!("{groups} outside of what is mounted here, so its limits are unknown: {first}");
        finding.note(text, Advice::text("Run Warden on the host, outside of the container."));
    }
    if cpu_table.rows.is_empty() && memory_table.rows.is_empty() {
        return Ok(Finding::skip("the runtimes are in no control group that has limits (cpu, memory)"));
    }
    let limited = |table: &Table, columns: &[usize]| {
        let is_set = |row: &Row| columns.iter().any(|&at| row.cells.get(at) != Some(&Value::Nothing));
        match table.rows.is_empty() {
            true => "not looked at",
            false if table.rows.iter().any(is_set) => "limited",
            false => "not limited",
        }
    };
    finding.summary = format!(
        "{} looked at: CPU {}, memory {}",
        count(judged, "runtime", "runtimes"),
        limited(&cpu_table, &[1]),
        limited(&memory_table, &[3, 4]),
    );
    for table in [cpu_table, memory_table, other_table] {
        if !table.rows.is_empty() {
            finding.show(Evidence::Table(table));
        }
    }
    Ok(finding)
}

/// A file of the group; absent where the controller is not switched on for it.
fn text(host: &Host, group: &Group, name: &str) -> Result<Option<String>> {
    host.read(&group.file(name)).if_any()
}

/// A number that stands alone; `max`, `-1` and what only means "no limit" are absent.
fn limit(host: &Host, group: &Group, name: &str) -> Result<Option<u64>> {
    let text = text(host, group, name)?;
    Ok(text.and_then(|text| text.trim().parse().ok()).filter(|&limit| limit < UNLIMITED))
}

fn avg10(host: &Host, group: &Group, name: &str) -> Value {
    let text = host.quietly(|host| host.read(&group.file(name))).unwrap_or_default();
    pressure(&text, "some").map(Value::Percent).into()
}

fn cpu(host: &Host, finding: &mut Finding, table: &mut Table, who: &str, group: &Group) -> Result<()> {
    let Some(stat) = text(host, group, "cpu.stat")? else { return Ok(()) };
    let cores = match group.version {
        Version::Two => text(host, group, "cpu.max")?.and_then(|max| {
            let (quota, period) = max.trim().split_once(' ')?;
            share(quota.parse().ok()?, period.parse().ok()?)
        }),
        Version::One => {
            let period = limit(host, group, "cpu.cfs_period_us")?;
            limit(host, group, "cpu.cfs_quota_us")?
                .zip(period)
                .and_then(|(quota, period)| share(quota, period))
        }
    };
    let (periods, throttled) =
        (counter(&stat, "nr_periods").unwrap_or(0), counter(&stat, "nr_throttled").unwrap_or(0));
    let seconds = match group.version {
        Version::Two => counter(&stat, "throttled_usec").unwrap_or(0) as f64 / 1e6,
        Version::One => counter(&stat, "throttled_time").unwrap_or(0) as f64 / 1e9,
    };
    let recent = between(host, group)?;
    let percent = |part: u64, whole: u64| if whole == 0 { 0.0 } else { part as f64 * 100.0 / whole as f64 };
    let limit = cores.map_or_else(String::new, |cores| format!(" at {} cores", number(cores)));
    let severity = match recent {
        Some((periods, throttled)) if throttled > 0 => {
            let share = percent(throttled, periods);
            let severity = if share > FAIL_PERIODS_PERCENT { Verdict::Fail } else { Verdict::Warn };
            let text = format!(
                "{who} is throttled{limit}: in {throttled} of {periods} periods between the looks ({})",
                group.path
            );
            finding.problem(severity, text, advice(group, "CPUQuota="));
            Some(severity)
        }
        _ if throttled > 0 => {
            let share = percent(throttled, periods);
            let severity = if share > WARN_PERIODS_PERCENT { Verdict::Warn } else { Verdict::Note };
            let text = format!(
                "{who} was throttled{limit} in {} % of its periods so far ({})",
                number(share),
                group.path
            );
            finding.problem(severity, text, advice(group, "CPUQuota="));
            Some(severity)
        }
        _ => None,
    };
    let cells = [
        Value::Code(group.path.clone()),
        cores.map(|cores| format!("{} cores", number(cores))).into(),
        periods.into(),
        throttled.into(),
        recent.map(|(_, throttled)| throttled).into(),
        Value::Seconds(seconds),
        avg10(host, group, "cpu.pressure"),
    ];
    match severity {
        Some(severity) => table.marked_row(severity, cells),
        None => table.row(cells),
    }
    Ok(())
}

fn share(quota: u64, period: u64) -> Option<f64> {
    (period > 0).then(|| quota as f64 / period as f64)
}

/// Periods and throttled periods between the two looks; absent for a group that no sample pattern meets.
fn between(host: &Host, group: &Group) -> Result<Option<(u64, u64)>> {
    let pattern = match group.version {
        Version::Two => STAT_TWO,
        Version::One => STAT_ONE,
    };
    let path = group.file("cpu.stat");
    let samples: Option<Samples> = host.sample(pattern).if_any()?;
    let sample = samples.and_then(|samples| samples.files.into_iter().find(|sample| sample.path == path));
    let Some((first, second)) = sample.and_then(|sample| sample.first.zip(sample.second)) else {
        return Ok(None);
    };
    let grown = |name| Some(counter(&second, name)?.saturating_sub(counter(&first, name)?));
    Ok(grown("nr_periods").zip(grown("nr_throttled")))
}

fn memory(host: &Host, finding: &mut Finding, table: &mut Table, who: &str, group: &Group) -> Result<()> {
    let (current, high, max) = match group.version {
        Version::Two => ("memory.current", "memory.high", "memory.max"),
        Version::One => ("memory.usage_in_bytes", "memory.soft_limit_in_bytes", "memory.limit_in_bytes"),
    };
    let Some(current) = limit(host, group, current)? else { return Ok(()) };
    let (high, max) = (limit(host, group, high)?, limit(host, group, max)?);
    let stat = text(host, group, "memory.stat")?.unwrap_or_default();
    let resident = counter(&stat, "anon").or_else(|| counter(&stat, "total_rss"));
    let (high_hits, max_hits, kills) = match group.version {
        Version::Two => {
            let events = text(host, group, "memory.events")?.unwrap_or_default();
            (counter(&events, "high"), counter(&events, "max"), counter(&events, "oom_kill"))
        }
        Version::One => {
            let control = text(host, group, "memory.oom_control")?.unwrap_or_default();
            (None, limit(host, group, "memory.failcnt")?, counter(&control, "oom_kill"))
        }
    };

    let mut worst = None;
    let mut problem = |severity: Verdict, text: String, setting: &str| {
        finding.problem(severity, format!("{text} ({})", group.path), advice(group, setting));
        worst = worst.max(Some(severity));
    };
    let of = |limit: Option<u64>| limit.map_or_else(String::new, |limit| format!(" of {}", bytes(limit)));
    if let Some(kills) = kills.filter(|&kills| kills > 0) {
        let times = count(kills, "process was", "processes were");
        problem(
            Verdict::Fail,
            format!("{times} killed at the memory limit{} of {who}", of(max)),
            "MemoryMax=",
        );
    }
    if let Some(hits) = high_hits.filter(|&hits| hits > 0) {
        let times = count(hits, "time", "times");
        problem(
            Verdict::Warn,
            format!("{who} went over its memory.high{} {times} and was slowed down for it", of(high)),
            "MemoryHigh=",
        );
    }
    if let Some(hits) = max_hits.filter(|&hits| hits > 0) {
        let times = count(hits, "time", "times");
        problem(
            Verdict::Warn,
            format!("{who} reached its memory limit{} {times}: page cache was given up", of(max)),
            "MemoryMax=",
        );
    }
    if let Some((resident, max)) = resident.zip(max).filter(|&(_, max)| max > 0) {
        let percent = resident as f64 * 100.0 / max as f64;
        if percent > RESIDENT_PERCENT {
            let text = format!(
                "{who} holds {} besides the page cache, {} % of its limit",
                bytes(resident),
                number(percent)
            );
            problem(Verdict::Warn, text, "MemoryMax=");
        }
    }
    let cells = [
        Value::Code(group.path.clone()),
        Value::Bytes(current),
        resident.map(Value::Bytes).into(),
        high.map(Value::Bytes).into(),
        max.map(Value::Bytes).into(),
        high_hits.into(),
        max_hits.into(),
        kills.into(),
        avg10(host, group, "memory.pressure"),
    ];
    match worst {
        Some(severity) => table.marked_row(severity, cells),
        None => table.row(cells),
    }
    Ok(())
}

fn others(host: &Host, finding: &mut Finding, table: &mut Table, who: &str, group: &Group) -> Result<()> {
    let Some(tasks) = limit(host, group, "pids.current")? else { return Ok(()) };
    let io = match group.version {
        Version::Two => text(host, group, "io.max")?.unwrap_or_default(),
        Version::One => String::new(),
    };
    let io = io.trim().replace('\n', ", ");
    if !io.is_empty() {
        finding.note(
            format!("the I/O of {who} is limited: {io} ({})", group.path),
            advice(group, "IOReadBandwidthMax="),
        );
    }
    table.row([
        Value::Code(group.path.clone()),
        tasks.into(),
        limit(host, group, "pids.max")?.into(),
        Value::Code(io),
        avg10(host, group, "io.pressure"),
    ]);
    Ok(())
}

/// The last component of a group's path is the unit or slice that made it.
fn advice(group: &Group, setting: &str) -> Advice {
    let name = group.path.rsplit('/').next().unwrap_or_default();
    if [".service", ".slice", ".scope"].iter().any(|kind| name.ends_with(kind)) {
        return Advice::run(
            format!("Raise {setting} of {name}, or drop it."),
            format!(
                "systemctl show '{name}' -p CPUQuotaPerSecUSec -p MemoryHigh -p MemoryMax -p FragmentPath -p DropInPaths"
            ),
        );
    }
    Advice::text("Raise the limit where the container is defined.")
}

#[cfg(test)]
mod tests;
