//! units-timers: does what shall run from time to time really run.

use serde_json::Value as Json;
use warden_host::quantity::{count, duration};
use warden_host::{Cause, Clock, Error, Failure, Host, UnitProperties, UnitRow};

use crate::units::{self, time};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Table, Value, Verdict, quoted};

pub const CHECK: Check = Check {
    id: "units-timers",
    area: Area::Units,
    title: "Do the timers run when they should?",
    why: "Log rotation, certificate renewal and trimming of SSDs hang on timers, and so do the backups that compete with \
          Iggy for the disk. A timer that no longer elapses is missed only when the disk is full or the certificate old.",
    reads: &[Read::Units],
    thresholds: &[
        "warns when an active timer should have elapsed over 5 minutes (and its accuracy) ago and has not",
        "warns when a timer will not run again: it has no next run and is not one that runs once, it is enabled and not started, or what it starts cannot be loaded",
        "warns when what a timer started has not ended for 3 days, and notes it after a day: until then it is not started again",
        "warns when a timer failed",
    ],
    advice: "Look at the timer and at the unit it starts; restart the timer.",
    deadline: DEADLINE,
    run,
};

/// systemd may be late by a timer's accuracy, a minute by default, and a busy machine by some more.
const SLACK_SECONDS: i64 = 300;
/// Backups and scrubs may take a night; a timer of each day has missed a run by then.
const NOTE_RUNNING_SECONDS: i64 = 86_400;
/// Two runs missed, and nobody has seen to it.
const WARN_RUNNING_SECONDS: i64 = 3 * 86_400;
/// Timers that are asked for, one question each; a host has ten to thirty.
const LOOKED_INTO: usize = 200;

fn run(host: &Host) -> Result<Finding> {
    let units = match host.units() {
        Err(Error::Host(Failure { cause: Cause::Unavailable(reason), .. })) => {
            return Ok(Finding::skip(format!("there is no systemd to ask: {reason}")));
        }
        units => units?,
    };
    let clock = host.clock()?;
    let mut timers = Vec::new();
    for row in
        units.iter().filter(|row| row.name.ends_with(".timer") && row.load == "loaded").take(LOOKED_INTO)
    {
        if let Some(unit) = units::find(host, &row.name)?.loaded() {
            timers.push((row, unit));
        }
    }
    if timers.is_empty() {
        return Ok(Finding::skip("systemd has no timer here"));
    }
    let monotonic = monotonic_now(&clock, timers.iter().map(|(_, unit)| &**unit));

    let mut finding = Finding::new("");
    let mut table = Table::new("Timers", ["timer", "state", "starts", "last run", "next run", "late by"]);
    let mut late_timers = 0_u64;
    for (row, unit) in &timers {
        let next = next(unit, &clock, monotonic);
        let slack = SLACK_SECONDS.saturating_add(accuracy(unit));
        let late = next
            .map(|at| clock.seconds() - at)
            .filter(|&late| late > slack && row.active == "active" && row.sub == "waiting");
        let last = time(unit, "LastTriggerUSec");
        let starts = unit.text("Unit").unwrap_or_default();
        let cells = [
            Value::Code(row.name.clone()),
            row.sub.as_str().into(),
            Value::Code(starts.to_owned()),
            last.map(Value::Time).into(),
            next.map(Value::Time).into(),
            late.map(|late| Value::Seconds(late as f64)).into(),
        ];
        let ran = last.map_or_else(|| "never".to_owned(), warden_host::quantity::time);
        let status = || format!("systemctl status --no-pager {} {}", quoted(&row.name), quoted(starts));
        let problem = if let Some(late) = late {
            late_timers += 1;
            let text = format!("{} is overdue by {}; it last ran {ran}", row.name, duration(late as f64));
            let command = format!("systemctl restart {}", quoted(&row.name));
            let advice = Advice::run("Restart the timer, and see whether the clock jumped.", command);
            Some((Verdict::Warn, text, advice))
        } else if row.active == "failed" {
            let result = unit.text("Result").unwrap_or("unknown");
            let advice = Advice::run("See why.", status());
            Some((Verdict::Warn, format!("{} failed: {result}", row.name), advice))
        } else {
            let started = units.iter().find(|other| other.name == starts);
            stuck(row, unit, started, &clock, &ran).map(|(severity, text)| {
                let advice = "See why, then start the timer again or disable it if it is not wanted.";
                (severity, text, Advice::run(advice, status()))
            })
        };
        match problem {
            Some((severity, text, advice)) => {
                finding.problem(severity, text, advice);
                table.marked_row(severity, cells);
            }
            None => table.row(cells),
        }
    }
    finding.summary =
        format!("{} loaded, {late_timers} overdue", count(timers.len() as u64, "timer is", "timers are"));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

/// Why a timer that is neither late nor failed will not run, or not for now.
fn stuck(
    row: &UnitRow,
    unit: &UnitProperties,
    started: Option<&UnitRow>,
    clock: &Clock,
    ran: &str,
) -> Option<(Verdict, String)> {
    let name = &row.name;
    let starts = unit.text("Unit").unwrap_or("what it starts");
    let cannot_load = started.map(|other| other.load.as_str()).filter(|load| is_not_loadable(load));
    if let (Some(load), "active") = (cannot_load, row.active.as_str()) {
        return Some((Verdict::Warn, format!("{name} starts {starts}, which does not load ({load})")));
    }
    match (row.active.as_str(), row.sub.as_str()) {
        ("active", "elapsed") if !(runs_once(unit) && time(unit, "LastTriggerUSec").is_some()) => Some((
            Verdict::Warn,
            format!("{name} is active and has no next run: it will not run again; it last ran {ran}"),
        )),
        ("active", "running") => {
            let since = clock.seconds().saturating_sub(time(unit, "LastTriggerUSec")?);
            let severity = match since {
                // What runs once may start what stays.
                _ if runs_once(unit) => return None,
                WARN_RUNNING_SECONDS.. => Verdict::Warn,
                NOTE_RUNNING_SECONDS.. => Verdict::Note,
                _ => return None,
            };
            let stays = match started.map(|other| other.sub.as_str()) {
                Some("exited") => ": it stays active after its process has ended (RemainAfterExit)",
                _ => "",
            };
            let text = format!(
                "{starts}, which {name} started {} ago, has not ended since, so the timer does not run{stays}",
                duration(since as f64)
            );
            Some((severity, text))
        }
        ("inactive", _) if matches!(unit.text("UnitFileState"), Some("enabled" | "enabled-runtime")) => {
            // It says no until the first start is tried, too.
            let was_checked = time(unit, "ConditionTimestamp").is_some();
            if was_checked && unit.flag("ConditionResult") == Some(false) {
                return None;
            }
            Some((
                Verdict::Warn,
                format!(
                    "{name} is enabled and not started: it does not run until the next boot; it last ran {ran}"
                ),
            ))
        }
        _ => None,
    }
}

fn is_not_loadable(load: &str) -> bool {
    matches!(load, "masked" | "not-found" | "bad-setting" | "error")
}

/// Whether all that the timer is set to lies at one moment: so long after boot, or at a date. Recordings by hand may
/// not tell, and then it is one that repeats.
fn runs_once(unit: &UnitProperties) -> bool {
    let settings =
        |name: &str| unit.properties.get(name).and_then(Json::as_array).cloned().unwrap_or_default();
    let (monotonic, calendar) = (settings("TimersMonotonic"), settings("TimersCalendar"));
    let word =
        |setting: &Json, at: usize| setting.get(at).and_then(Json::as_str).unwrap_or_default().to_owned();
    let is_once =
        |setting: &Json| matches!(word(setting, 0).as_str(), "OnActiveUSec" | "OnBootUSec" | "OnStartupUSec");
    // 2026-11-21 12:00:00, without `*`, lists, ranges or steps.
    let is_date = |setting: &Json| {
        let specification = word(setting, 1);
        let date = specification.split(' ').find(|word| word.contains('-'));
        date.is_some_and(|date| date.bytes().all(|byte| byte.is_ascii_digit() || byte == b'-'))
            && !specification.contains(['*', ',', '/'])
            && !specification.contains("..")
    };
    !(monotonic.is_empty() && calendar.is_empty())
        && monotonic.iter().all(is_once)
        && calendar.iter().all(is_date)
}

/// How late systemd may be on purpose, in seconds.
fn accuracy(unit: &UnitProperties) -> i64 {
    unit.number("AccuracyUSec").and_then(|accuracy| i64::try_from(accuracy / 1_000_000).ok()).unwrap_or(0)
}

/// When the timer elapses next, in Unix seconds: the earlier of its two clocks, absent when never.
fn next(unit: &UnitProperties, clock: &Clock, monotonic: i64) -> Option<i64> {
    let microseconds = |name| unit.number(name).filter(|&at| at > 0).and_then(|at| i64::try_from(at).ok());
    let wall = microseconds("NextElapseUSecRealtime").map(|at| at / 1_000_000);
    let since_boot = microseconds("NextElapseUSecMonotonic")
        .map(|at| clock.seconds().saturating_add(at.saturating_sub(monotonic) / 1_000_000));
    match (wall, since_boot) {
        (Some(wall), Some(since_boot)) => Some(wall.min(since_boot)),
        (wall, since_boot) => wall.or(since_boot),
    }
}

/// CLOCK_MONOTONIC, which stands still while the machine sleeps; what is known is the time since boot, which does
/// not. A timer that ran tells both clocks of that moment. The lesser of the two can only make a timer look early.
fn monotonic_now<'a>(clock: &Clock, timers: impl Iterator<Item = &'a UnitProperties>) -> i64 {
    let pairs = timers.filter_map(|unit| {
        let wall = i64::try_from(unit.number("LastTriggerUSec").filter(|&at| at > 0)?).ok()?;
        let monotonic = i64::try_from(unit.number("LastTriggerUSecMonotonic").filter(|&at| at > 0)?).ok()?;
        Some((wall, monotonic))
    });
    let latest = pairs.max_by_key(|&(_, monotonic)| monotonic);
    latest.map_or(clock.up_us, |(wall, monotonic)| {
        clock.up_us.min(clock.unix_us.saturating_sub(wall).saturating_add(monotonic))
    })
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use warden_host::{Data, Recorded, Request, UnitRow};

    use super::*;

    const NOW: i64 = 1_795_000_000;
    const UP: i64 = 100_000;

    fn with_state(active: &str, sub: &str, mut properties: Json) -> Recorded {
        properties["LoadState"] = json!("loaded");
        properties["Unit"] = json!("logrotate.service");
        let row = |name: &str| UnitRow {
            name: name.to_owned(),
            description: String::new(),
            load: "loaded".to_owned(),
            active: active.to_owned(),
            sub: sub.to_owned(),
        };
        let service = UnitRow {
            load: properties["service_load"].as_str().unwrap_or("loaded").to_owned(),
            sub: properties["service_sub"].as_str().unwrap_or("dead").to_owned(),
            ..row("logrotate.service")
        };
        let units = vec![row("logrotate.timer"), row("ssh.service"), service];
        let host = Recorded::complete().at(NOW, UP).with(Request::UnitList, Data::Units { units });
        host.unit("logrotate.timer", properties)
    }

    fn waiting(properties: Json) -> Finding {
        run(&with_state("active", "waiting", properties).host()).unwrap()
    }

    #[test]
    fn a_timer_that_is_due_passes_up_to_five_minutes_late() {
        for late in [-3600, 0, 300] {
            let finding = waiting(json!({"NextElapseUSecRealtime": (NOW - late) * 1_000_000}));
            assert_eq!(finding.verdict(), Verdict::Pass, "{late}");
        }
        let finding = waiting(json!({"NextElapseUSecRealtime": u64::MAX, "NextElapseUSecMonotonic": 0}));
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "1 timer is loaded, 0 overdue")
        );
    }

    #[test]
    fn an_overdue_timer_warns() {
        let finding = waiting(json!({
            "NextElapseUSecRealtime": (NOW - 7200) * 1_000_000, "LastTriggerUSec": (NOW - 93_600) * 1_000_000
        }));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "logrotate.timer is overdue by 2 h; it last ran 2026-11-17T09:06:40Z"
        );
    }

    #[test]
    fn a_timer_since_boot_is_judged_by_the_clock_that_stands_still_in_sleep() {
        let next = (UP - 1000) * 1_000_000;
        assert_eq!(waiting(json!({"NextElapseUSecMonotonic": next})).verdict(), Verdict::Warn);
        // It ran an hour ago, when 5,000 s had passed on that clock: the machine has slept for most of its time.
        let slept = json!({
            "NextElapseUSecMonotonic": next,
            "LastTriggerUSec": (NOW - 3600) * 1_000_000, "LastTriggerUSecMonotonic": 5000 * 1_000_000_u64
        });
        assert_eq!(waiting(slept).verdict(), Verdict::Pass);
    }

    #[test]
    fn a_timer_whose_unit_runs_is_not_late_and_a_failed_one_warns() {
        let late = json!({"NextElapseUSecRealtime": (NOW - 7200) * 1_000_000, "Result": "resources"});
        let running = run(&with_state("active", "running", late.clone()).host()).unwrap();
        assert_eq!(running.verdict(), Verdict::Pass);
        let failed = run(&with_state("failed", "failed", late).host()).unwrap();
        assert_eq!(failed.verdict(), Verdict::Warn);
        assert_eq!(failed.problems[0].text, "logrotate.timer failed: resources");
    }

    fn problem(active: &str, sub: &str, properties: Json) -> Option<(Verdict, String)> {
        let finding = run(&with_state(active, sub, properties).host()).unwrap();
        let first = finding.problems.into_iter().next();
        first.map(|problem| (problem.severity, problem.text))
    }

    const RAN: i64 = (NOW - 60 * 86_400) * 1_000_000;

    #[test]
    fn a_timer_without_a_next_run_warns_unless_it_runs_once() {
        let never = problem("active", "elapsed", json!({"LastTriggerUSec": RAN}));
        let expected = "logrotate.timer is active and has no next run: it will not run again; it last ran 2026-09-19T11:06:40Z";
        assert_eq!(never, Some((Verdict::Warn, expected.to_owned())));
        let of = |monotonic: Json, calendar: Json, last: i64| {
            let timers =
                json!({"TimersMonotonic": monotonic, "TimersCalendar": calendar, "LastTriggerUSec": last});
            problem("active", "elapsed", timers)
        };
        let after_boot = json!([["OnBootUSec", 900_000_000, 0]]);
        assert_eq!(of(after_boot.clone(), json!([]), RAN), None);
        assert!(of(after_boot.clone(), json!([]), 0).is_some(), "it never ran");
        assert!(of(json!([["OnUnitActiveUSec", 900_000_000, 0]]), json!([]), RAN).is_some());
        assert_eq!(of(json!([]), json!([["OnCalendar", "2026-11-01 12:00:00", 0]]), RAN), None);
        assert!(of(after_boot, json!([["OnCalendar", "*-*-* 06:00:00", 0]]), RAN).is_some());
    }

    #[test]
    fn what_does_not_end_keeps_its_timer_from_running() {
        let running = |days: i64, more: Json| {
            let mut properties = json!({"LastTriggerUSec": (NOW - days * 86_400) * 1_000_000});
            for (name, value) in more.as_object().unwrap() {
                properties[name] = value.clone();
            }
            problem("active", "running", properties)
        };
        assert_eq!(running(28, json!({})), Some((Verdict::Warn, "logrotate.service, which logrotate.timer started 28 d ago, has not ended since, so the timer does not run".to_owned())));
        let severity = |days| running(days, json!({})).map(|(severity, _)| severity);
        assert_eq!(
            [0, 1, 2, 3].map(severity),
            [None, Some(Verdict::Note), Some(Verdict::Note), Some(Verdict::Warn)]
        );
        assert!(running(3, json!({"service_sub": "exited"})).unwrap().1.ends_with("(RemainAfterExit)"));
        assert_eq!(running(28, json!({"TimersMonotonic": [["OnBootUSec", 1, 0]]})), None);
    }

    #[test]
    fn a_timer_that_is_not_started_or_starts_nothing_warns() {
        let stopped = problem("inactive", "dead", json!({"UnitFileState": "enabled"}));
        assert!(stopped.unwrap().1.starts_with("logrotate.timer is enabled and not started"));
        assert_eq!(problem("inactive", "dead", json!({"UnitFileState": "disabled"})), None);
        let condition =
            |at: i64| json!({"UnitFileState": "enabled", "ConditionResult": false, "ConditionTimestamp": at});
        assert_eq!(problem("inactive", "dead", condition(NOW * 1_000_000)), None);
        assert!(problem("inactive", "dead", condition(0)).is_some(), "its conditions were never looked at");
        let next = (NOW + 60) * 1_000_000;
        let masked =
            problem("active", "waiting", json!({"NextElapseUSecRealtime": next, "service_load": "masked"}));
        assert_eq!(
            masked.unwrap().1,
            "logrotate.timer starts logrotate.service, which does not load (masked)"
        );
    }

    #[test]
    fn a_timer_may_be_as_late_as_its_accuracy() {
        let late = |accuracy: i64| {
            waiting(
                json!({"NextElapseUSecRealtime": (NOW - 1800) * 1_000_000, "AccuracyUSec": accuracy * 1_000_000}),
            )
        };
        assert_eq!((late(60).verdict(), late(3600).verdict()), (Verdict::Warn, Verdict::Pass));
    }

    #[test]
    fn without_systemd_or_timers_it_skips() {
        let none =
            Recorded::complete().without(Request::UnitList, Cause::Unavailable("no system bus".to_owned()));
        assert_eq!(run(&none.host()).unwrap(), Finding::skip("there is no systemd to ask: no system bus"));
        let empty =
            Recorded::complete().at(NOW, UP).with(Request::UnitList, Data::Units { units: Vec::new() });
        assert_eq!(run(&empty.host()).unwrap(), Finding::skip("systemd has no timer here"));
    }
}
