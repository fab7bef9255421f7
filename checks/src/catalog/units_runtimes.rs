//! units-runtimes: are the runtimes' units loaded, enabled, running, and staying up.

use warden_host::quantity::{count, duration};
use warden_host::{Clock, Host, LogText, UnitProperties};

use crate::iggy::Runtime;
use crate::process_samples::{self, Runtimes};
use crate::units::{self, Found, time};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Log, Read, Result, Value};

pub const CHECK: Check = Check {
    id: "units-runtimes",
    area: Area::Units,
    title: "Are the runtimes' units in order?",
    why: "systemd starts Iggy at boot, restarts it after a crash and sets its limits. A unit that is not enabled is \
          gone after the next reboot; one that restarts every hour hides a crash behind a process that looks young.",
    reads: &[Read::Units, Read::Journal, Read::Group(crate::iggy::READS)],
    thresholds: &[
        "fails when a unit failed, or waits to be restarted after a failure",
        "warns when systemd restarted it in the last 24 h, when it is not enabled, when it is enabled but not running, \
         and when its file changed without a daemon-reload",
        "notes drop-ins, Restart=no, a start in the last 24 h that was neither boot nor systemd's own, and a runtime \
         that runs outside its unit",
    ],
    advice: "Read the unit's last lines in the journal, mend the cause, then enable and start it.",
    deadline: DEADLINE,
    run,
};

const DAY: i64 = 86_400;
/// A unit that came up within this time after the boot was started by it.
const BOOT_SECONDS: i64 = 600;
/// Lines of the journal about starts and ends that the report shows.
const SHOWN_LINES: usize = 50;

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process_samples::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let clock = host.clock()?;
    let mut finding = Finding::new("");
    let mut sentences = Vec::new();
    let mut seen = 0;
    for (runtime, name) in units::runtime_units(host)? {
        let unit = match units::find(host, &name)? {
            Found::NoManager(reason) => {
                return Ok(Finding::skip(format!("there is no systemd to ask: {reason}")));
            }
            Found::NotLoaded(state) => {
                sentences.push(not_loaded(&mut finding, runtimes, runtime, &name, &state));
                continue;
            }
            Found::Loaded(unit) => unit,
        };
        seen += 1;
        sentences.push(sentence(&name, &unit, &clock));
        let journal = host.journal(&name);
        let restarts = restarts(&unit, journal.as_ref().ok(), &clock);
        let exit = last_exit(&unit).or_else(|| exit_in_journal(journal.as_ref().ok()?));
        state(&mut finding, &name, &unit);
        history(&mut finding, &name, &unit, restarts, exit, &clock);
        setup(host, &mut finding, &name, &unit);
        finding.show(Evidence::Fields(fields(&name, &unit)));
        if let Ok(journal) = journal {
            show_transitions(&mut finding, &name, journal);
        }
    }
    finding.summary = sentences.join("; ");
    if seen == 0 && finding.problems.is_empty() {
        return Ok(Finding::skip(finding.summary));
    }
    Ok(finding)
}

fn not_loaded(
    finding: &mut Finding,
    runtimes: &Runtimes,
    runtime: Runtime,
    name: &str,
    state: &str,
) -> String {
    let pid = runtimes.iter().find(|&(_, &other)| other == runtime).map(|(pid, _)| pid);
    match (state, pid) {
        ("not-found", None) => {}
        ("not-found", Some(pid)) => {
            let text = format!(
                "{} (pid {pid}) runs, but not from {name}: systemd neither restarts it nor starts it at boot",
                runtime.program()
            );
            let advice = "Install a unit for it, or set the name of its unit in Warden's configuration.";
            finding.note(text, Advice::run(advice, format!("systemctl status {pid}")));
        }
        ("masked", _) => {
            let advice =
                Advice::run("Unmask it, if the node shall run it.", format!("systemctl unmask {name}"));
            finding.warn(format!("{name} is masked: it cannot be started"), advice);
        }
        (state, _) => {
            let advice = Advice::run(
                "See what systemd says about the unit file.",
                format!("systemd-analyze verify {name}"),
            );
            finding.fail(format!("{name} does not load: {state}"), advice);
        }
    }
    format!("{name} is not loaded ({state})")
}

fn sentence(name: &str, unit: &UnitProperties, clock: &Clock) -> String {
    let (active, sub) =
        (unit.text("ActiveState").unwrap_or("unknown"), unit.text("SubState").unwrap_or("unknown"));
    let since = time(unit, "StateChangeTimestamp")
        .map_or_else(String::new, |at| format!(" for {}", duration((clock.seconds() - at).max(0) as f64)));
    format!("{name} is {active} ({sub}){since}")
}

/// Restarts by systemd in the last day: counted in the journal where it tells, else its own counter when the
/// unit came up in that time.
fn restarts(unit: &UnitProperties, journal: Option<&LogText>, clock: &Clock) -> u64 {
    let since = clock.unix_us - DAY * 1_000_000;
    let recent = |at: Option<i64>| at.is_some_and(|at| at >= since);
    let lines = journal.into_iter().flat_map(|log| &log.lines);
    let in_journal =
        lines.filter(|line| recent(line.at_us) && line.text.contains("Scheduled restart job")).count();
    let changed = time(unit, "StateChangeTimestamp").max(time(unit, "ActiveEnterTimestamp"));
    let counter = match changed {
        Some(at) if at >= clock.seconds() - DAY => unit.number("NRestarts").unwrap_or(0),
        _ => 0,
    };
    if in_journal > 0 { in_journal as u64 } else { counter }
}

fn state(finding: &mut Finding, name: &str, unit: &UnitProperties) {
    let (active, sub) =
        (unit.text("ActiveState").unwrap_or_default(), unit.text("SubState").unwrap_or_default());
    let read_journal = |text: &str| Advice::run(text, format!("journalctl -u {name} -n 100 --no-pager"));
    let ended = last_exit(unit).map_or_else(String::new, |exit| format!(", its process {exit}"));
    if active == "failed" {
        let result = unit.text("Result").unwrap_or("unknown");
        let advice = read_journal("Read why it ended, mend that, then `systemctl restart` it.");
        finding.fail(format!("{name} failed: {result}{ended}"), advice);
    } else if sub.starts_with("auto-restart") {
        let times = count(unit.number("NRestarts").unwrap_or(0), "restart", "restarts");
        let advice = read_journal("It does not stay up: read why it ended.");
        finding.fail(format!("{name} is waiting to be restarted, after {times}{ended}"), advice);
    } else if active == "inactive" && is_enabled(unit) {
        let advice =
            Advice::run("Start it, unless it was stopped on purpose.", format!("systemctl start {name}"));
        // It says no until the first start is tried, too.
        let was_checked = time(unit, "ConditionTimestamp").is_some();
        if was_checked && unit.flag("ConditionResult") == Some(false) {
            finding.warn(format!("{name} was not started: a Condition of the unit does not hold"), advice);
        } else {
            finding.warn(format!("{name} is enabled but not running{ended}"), advice);
        }
    }
}

fn is_enabled(unit: &UnitProperties) -> bool {
    matches!(
        unit.text("UnitFileState"),
        Some("enabled" | "enabled-runtime" | "alias" | "linked" | "static" | "generated")
    )
}

/// How the last main process ended. Codes are si_code of waitid(2).
fn last_exit(unit: &UnitProperties) -> Option<String> {
    let status = unit.number("ExecMainStatus")?;
    match unit.number("ExecMainCode")? {
        1 => Some(format!("exited with status {status}")),
        2 => Some(format!("was killed by signal {status}")),
        3 => Some(format!("dumped core on signal {status}")),
        _ => None,
    }
}

/// A unit that runs again no longer knows how it ended; `Main process exited, code=killed, status=9/KILL` stays.
fn exit_in_journal(journal: &LogText) -> Option<String> {
    let mut exits =
        journal.lines.iter().rev().filter_map(|line| line.text.split_once("Main process exited, "));
    exits.next().map(|(_, how)| format!("ended with {how}"))
}

fn history(
    finding: &mut Finding,
    name: &str,
    unit: &UnitProperties,
    restarts: u64,
    exit: Option<String>,
    clock: &Clock,
) {
    // systemd forgets its count when somebody starts the unit: whoever did has seen to what ended it.
    let is_over = unit.text("ActiveState") == Some("active") && unit.number("NRestarts") == Some(0);
    if restarts > 0 {
        let times = count(restarts, "time", "times");
        let ended = exit.map_or_else(String::new, |exit| format!("; its last process {exit}"));
        let command = format!(
            "journalctl -u {name} --since=-24h --no-pager | grep -E 'exited|Scheduled|Failed' | tail -n 40"
        );
        let advice = Advice::run("Read why it ended each time.", command);
        let text = format!("systemd restarted {name} {times} in the last 24 h{ended}");
        match is_over {
            true => finding.note(format!("{text}; it was started by hand since and runs"), advice),
            false => finding.warn(text, advice),
        }
        return;
    }
    let (Some(started), "active") =
        (time(unit, "ActiveEnterTimestamp"), unit.text("ActiveState").unwrap_or_default())
    else {
        return;
    };
    let (now, booted) = (clock.seconds(), clock.seconds() - clock.up_us / 1_000_000);
    if started > now - DAY && started > booted + BOOT_SECONDS {
        let text = format!(
            "{name} was started {} ago, by someone: neither at boot nor by Restart=",
            duration((now - started) as f64)
        );
        finding.note(
            text,
            Advice::run(
                "See who did, if that is news.",
                format!("journalctl -u {name} --since=-24h --no-pager"),
            ),
        );
    }
}

fn setup(host: &Host, finding: &mut Finding, name: &str, unit: &UnitProperties) {
    match unit.text("UnitFileState") {
        Some(state @ ("disabled" | "enabled-runtime" | "linked-runtime" | "masked-runtime")) => {
            let text = format!("{name} is {state}: it does not start at the next boot");
            finding.warn(text, Advice::run("Enable it.", format!("systemctl enable {name}")));
        }
        Some("indirect" | "transient") => {
            let text = format!("{name} has no unit file of its own that starts it at boot");
            finding.note(text, Advice::run("See where it comes from.", format!("systemctl cat {name}")));
        }
        _ => {}
    }
    if unit.flag("NeedDaemonReload") == Some(true) {
        let text = format!("the file of {name} changed since systemd read it");
        finding.warn(
            text,
            Advice::run(
                "Let systemd read it again; it holds from the next start.",
                "systemctl daemon-reload",
            ),
        );
    }
    let drop_ins = unit.list("DropInPaths");
    if !drop_ins.is_empty() {
        let files = count(drop_ins.len() as u64, "drop-in changes", "drop-ins change");
        let text = format!("{files} {name}: {}", drop_ins.join(", "));
        finding.note(text, Advice::run("See the unit as it is in effect.", format!("systemctl cat {name}")));
    }
    if unit.text("Restart") == Some("no") {
        let text = format!("{name} has Restart=no: after a crash it stays down");
        finding.note(text, units::drop_in(host, name, "Restart=on-failure"));
    }
}

fn fields(name: &str, unit: &UnitProperties) -> Fields {
    let text = |property: &str| Value::from(unit.text(property));
    let at = |property: &str| Value::from(time(unit, property).map(Value::Time));
    let size = |property: &str| Value::from(unit.number(property).map(Value::Bytes));
    let seconds = |property: &str, scale: f64| {
        Value::from(
            unit.number(property).filter(|&time| time > 0).map(|time| Value::Seconds(time as f64 / scale)),
        )
    };
    Fields::new(name)
        .row("description", text("Description"))
        .row("unit file", Value::from(unit.text("FragmentPath").map(|path| Value::Code(path.to_owned()))))
        .row("load", text("LoadState"))
        .row("active", text("ActiveState"))
        .row("sub", text("SubState"))
        .row("result", text("Result"))
        .row("enabled", text("UnitFileState"))
        .row("drop-ins", Value::Code(unit.list("DropInPaths").join(" ")))
        .row("type", text("Type"))
        .row("restart", text("Restart"))
        .row("restarts by systemd", Value::from(unit.number("NRestarts")))
        .row("active since", at("ActiveEnterTimestamp"))
        .row("inactive since", at("InactiveEnterTimestamp"))
        .row("main pid", Value::from(unit.number("MainPID").filter(|&pid| pid > 0)))
        .row("last exit", Value::from(last_exit(unit)))
        .row("last exit at", at("ExecMainExitTimestamp"))
        .row("status text", text("StatusText"))
        .row("watchdog", seconds("WatchdogUSec", 1e6))
        .row("last watchdog ping", at("WatchdogTimestamp"))
        .row("memory now", size("MemoryCurrent"))
        .row("memory peak", size("MemoryPeak"))
        .row("memory limit", size("MemoryMax"))
        .row("CPU time", seconds("CPUUsageNSec", 1e9))
        .row("tasks", Value::from(unit.number("TasksCurrent")))
        .row("read from disk", size("IOReadBytes"))
        .row("written to disk", size("IOWriteBytes"))
        .row("received", size("IPIngressBytes"))
        .row("sent", size("IPEgressBytes"))
}

/// What systemd itself said of the unit's starts and ends.
fn show_transitions(finding: &mut Finding, name: &str, journal: LogText) {
    const TELLING: [&str; 7] = [
        "Scheduled restart job",
        "Main process exited",
        "Failed with result",
        "Failed to start",
        "Started ",
        "Stopped ",
        "Deactivated successfully",
    ];
    let mut lines: Vec<_> = journal
        .lines
        .into_iter()
        .filter(|line| TELLING.iter().any(|words| line.text.contains(words)))
        .collect();
    let older = lines.len().saturating_sub(SHOWN_LINES);
    lines.drain(..older);
    if !lines.is_empty() {
        finding.show(Evidence::Log(Log {
            title: format!("Starts and ends of {name}"),
            lines,
            cut: journal.cut || older > 0,
        }));
    }
}

#[cfg(test)]
mod tests;
