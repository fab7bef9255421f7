//! units-runtimes: are the runtimes' units loaded, enabled, running, and staying up.

use crate::host::{Clock, Host, LogText, Unit};
use crate::iggy::Runtime;
use crate::process::{self, Runtimes};
use crate::quantity::{count, duration};
use crate::systemd::{self, Found, time};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Log, Read, Result, Value};

pub const CHECK: Check = Check {
    id: "units-runtimes",
    area: Area::Units,
    title: "Are the runtimes' units in order?",
    why: "systemd starts Iggy at boot, restarts it after a crash and sets its limits. A unit that is not enabled is \
          gone after the next reboot; one that restarts every hour hides a crash behind a process that looks young.",
    reads: &[Read::Units, Read::Journal, Read::Iggy],
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
    judge(host, &process::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let clock = host.clock()?;
    let mut finding = Finding::new("");
    let mut sentences = Vec::new();
    let mut seen = 0;
    for (runtime, name) in systemd::runtime_units(host)? {
        let unit = match systemd::find(host, &name)? {
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

fn sentence(name: &str, unit: &Unit, clock: &Clock) -> String {
    let (active, sub) =
        (unit.text("ActiveState").unwrap_or("unknown"), unit.text("SubState").unwrap_or("unknown"));
    let since = time(unit, "StateChangeTimestamp")
        .map_or_else(String::new, |at| format!(" for {}", duration((clock.seconds() - at).max(0) as f64)));
    format!("{name} is {active} ({sub}){since}")
}

/// Restarts by systemd in the last day: counted in the journal where it tells, else its own counter when the
/// unit came up in that time.
fn restarts(unit: &Unit, journal: Option<&LogText>, clock: &Clock) -> u64 {
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

fn state(finding: &mut Finding, name: &str, unit: &Unit) {
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

fn is_enabled(unit: &Unit) -> bool {
    matches!(
        unit.text("UnitFileState"),
        Some("enabled" | "enabled-runtime" | "alias" | "linked" | "static" | "generated")
    )
}

/// How the last main process ended. Codes are si_code of waitid(2).
fn last_exit(unit: &Unit) -> Option<String> {
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
    unit: &Unit,
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

fn setup(host: &Host, finding: &mut Finding, name: &str, unit: &Unit) {
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
        finding.note(text, systemd::drop_in(host, name, "Restart=on-failure"));
    }
}

fn fields(name: &str, unit: &Unit) -> Fields {
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
mod tests {
    use super::*;
    use serde_json::{Value as Json, json};

    use crate::Verdict;
    use crate::host::{Cause, LogLine, Recorded, Request};
    use crate::systemd::testing::settings;

    const NOW: i64 = 1_795_000_000;

    /// Up for ten days, like the unit in it.
    fn healthy() -> Json {
        json!({
            "LoadState": "loaded", "ActiveState": "active", "SubState": "running", "Result": "success",
            "UnitFileState": "enabled", "Restart": "on-failure", "NRestarts": 0, "MemoryMax": u64::MAX,
            "StateChangeTimestamp": (NOW - 864_000) * 1_000_000, "ActiveEnterTimestamp": (NOW - 864_000) * 1_000_000
        })
    }

    fn with(changes: Json) -> Recorded {
        let mut unit = healthy();
        for (name, value) in changes.as_object().unwrap() {
            unit[name] = value.clone();
        }
        Recorded::complete().settings(settings()).at(NOW, 864_060).unit("iggy.service", unit)
    }

    fn judged(host: Recorded) -> Finding {
        judge(&host.host(), &Runtimes::new()).unwrap()
    }

    fn only_problem(changes: Json) -> (Verdict, String) {
        let mut finding = judged(with(changes));
        assert_eq!(finding.problems.len(), 1, "{:?}", finding.problems);
        let problem = finding.problems.remove(0);
        (problem.severity, problem.text)
    }

    #[test]
    fn a_unit_that_runs_since_boot_passes() {
        let finding = judged(with(json!({})));
        assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
        assert_eq!(
            finding.summary,
            "iggy.service is active (running) for 10 d; iggy-connectors.service is not loaded (not-found)"
        );
    }

    #[test]
    fn a_failed_unit_fails_with_the_way_it_ended() {
        let failed = json!({
            "ActiveState": "failed", "SubState": "failed", "Result": "exit-code", "ExecMainCode": 1, "ExecMainStatus": 101
        });
        let expected = "iggy.service failed: exit-code, its process exited with status 101";
        assert_eq!(only_problem(failed), (Verdict::Fail, expected.to_owned()));
    }

    #[test]
    fn a_crash_loop_fails_and_a_restart_in_the_last_day_warns() {
        let recent = (NOW - 3600) * 1_000_000;
        let looping = json!({"ActiveState": "activating", "SubState": "auto-restart", "NRestarts": 7});
        let expected = "iggy.service is waiting to be restarted, after 7 restarts";
        assert_eq!(only_problem(looping), (Verdict::Fail, expected.to_owned()));
        let restarted = json!({
            "NRestarts": 2, "ActiveEnterTimestamp": recent, "StateChangeTimestamp": recent,
            "ExecMainCode": 2, "ExecMainStatus": 9
        });
        let expected = "systemd restarted iggy.service 2 times in the last 24 h; its last process was killed by signal 9";
        assert_eq!(only_problem(restarted), (Verdict::Warn, expected.to_owned()));
        assert_eq!(
            judged(with(json!({"NRestarts": 2}))).verdict(),
            Verdict::Pass,
            "two restarts ten days ago"
        );
    }

    #[test]
    fn the_journal_counts_restarts_better_than_the_unit_and_is_shown() {
        let line = |hours: i64, text: &str| LogLine {
            at_us: Some((NOW - hours * 3600) * 1_000_000),
            level: None,
            origin: "systemd".to_owned(),
            text: text.to_owned(),
        };
        let scheduled = "iggy.service: Scheduled restart job, restart counter is at 1.";
        let killed = "iggy.service: Main process exited, code=killed, status=9/KILL";
        let lines = vec![
            line(30, scheduled),
            line(3, scheduled),
            line(2, killed),
            line(2, scheduled),
            line(1, "a message"),
        ];

        let journal = Request::Journal { unit: "iggy.service".to_owned() };
        let log = LogText { lines, cut: false, source: "journal".to_owned() };
        let finding = judged(with(json!({})).log(journal, log));
        assert_eq!(
            finding.problems[0].text,
            "systemd restarted iggy.service 2 times in the last 24 h; its last process ended with code=killed, \
             status=9/KILL; it was started by hand since and runs"
        );
        assert!(matches!(&finding.evidence[1], Evidence::Log(log) if log.lines.len() == 4));
    }

    #[test]
    fn a_unit_that_will_not_be_there_after_a_reboot_warns() {
        let expected = "iggy.service is disabled: it does not start at the next boot";
        assert_eq!(only_problem(json!({"UnitFileState": "disabled"})), (Verdict::Warn, expected.to_owned()));
        let stopped = json!({"ActiveState": "inactive", "SubState": "dead"});
        let never_tried =
            json!({"ActiveState": "inactive", "ConditionResult": false, "ConditionTimestamp": 0});
        assert!(only_problem(never_tried).1.starts_with("iggy.service is enabled but not running"));
        let expected = "iggy.service is enabled but not running";
        assert_eq!(only_problem(stopped), (Verdict::Warn, expected.to_owned()));
        let expected = "the file of iggy.service changed since systemd read it";
        assert_eq!(only_problem(json!({"NeedDaemonReload": true})), (Verdict::Warn, expected.to_owned()));
    }

    #[test]
    fn drop_ins_and_a_start_by_hand_are_noted() {
        let path = "/etc/systemd/system/iggy.service.d/limits.conf";
        let expected = format!("1 drop-in changes iggy.service: {path}");
        assert_eq!(only_problem(json!({"DropInPaths": [path]})), (Verdict::Note, expected));
        let started = json!({"ActiveEnterTimestamp": (NOW - 7200) * 1_000_000});
        let expected = "iggy.service was started 2 h ago, by someone: neither at boot nor by Restart=";
        assert_eq!(only_problem(started), (Verdict::Note, expected.to_owned()));
    }

    #[test]
    fn a_runtime_without_a_unit_is_noted_and_nothing_at_all_skips() {
        let bare = Recorded::complete().settings(settings()).at(NOW, 60);
        let finding = judge(&bare.clone().host(), &Runtimes::from([(9, Runtime::Iggy)])).unwrap();
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(judged(bare).verdict(), Verdict::Skip);
    }

    #[test]
    fn without_systemd_it_skips_and_when_denied_it_cannot_tell() {
        let request = Request::Unit { name: "iggy.service".to_owned() };
        let none = with(json!({})).without(request.clone(), Cause::Unavailable("no system bus".to_owned()));
        assert_eq!(judged(none), Finding::skip("there is no systemd to ask: no system bus"));
        let denied = with(json!({})).without(request, Cause::Denied);
        assert!(judge(&denied.host(), &Runtimes::new()).is_err());
    }
}
