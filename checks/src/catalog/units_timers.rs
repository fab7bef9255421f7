//! units-timers: does what shall run from time to time really run.

use crate::check::Error;
use crate::host::{Cause, Clock, Failure, Host, Unit};
use crate::quantity::{count, duration};
use crate::systemd::{self, time};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "units-timers",
    area: Area::Units,
    title: "Do the timers run when they should?",
    why: "Log rotation, certificate renewal and trimming of SSDs hang on timers, and so do the backups that compete with \
          Iggy for the disk. A timer that no longer elapses is missed only when the disk is full or the certificate old.",
    reads: &[Read::Units],
    thresholds: &[
        "warns when an active timer should have elapsed over 5 minutes ago and has not",
        "warns when a timer failed",
    ],
    advice: "Look at the timer and at the unit it starts; restart the timer.",
    deadline: DEADLINE,
    run,
};

/// systemd may be late by a timer's accuracy, a minute by default.
const SLACK_SECONDS: i64 = 300;
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
        if let Some(unit) = systemd::find(host, &row.name)?.loaded() {
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
        let late = next
            .map(|at| clock.seconds() - at)
            .filter(|&late| late > SLACK_SECONDS && row.active == "active" && row.sub == "waiting");
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
        let status = format!("systemctl status --no-pager '{}' '{starts}'", row.name);
        if let Some(late) = late {
            late_timers += 1;
            let ran = last.map_or_else(|| "never".to_owned(), crate::quantity::time);
            let text = format!("{} is overdue by {}; it last ran {ran}", row.name, duration(late as f64));
            finding.warn(
                text,
                Advice::run(
                    "Restart the timer, and see whether the clock jumped.",
                    format!("systemctl restart '{}'", row.name),
                ),
            );
            table.marked_row(Verdict::Warn, cells);
        } else if row.active == "failed" {
            let result = unit.text("Result").unwrap_or("unknown");
            finding.warn(format!("{} failed: {result}", row.name), Advice::run("See why.", status));
            table.marked_row(Verdict::Warn, cells);
        } else {
            table.row(cells);
        }
    }
    finding.summary =
        format!("{} loaded, {late_timers} overdue", count(timers.len() as u64, "timer is", "timers are"));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

/// When the timer elapses next, in Unix seconds: the earlier of its two clocks, absent when never.
fn next(unit: &Unit, clock: &Clock, monotonic: i64) -> Option<i64> {
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
fn monotonic_now<'a>(clock: &Clock, timers: impl Iterator<Item = &'a Unit>) -> i64 {
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
    use super::*;
    use serde_json::{Value as Json, json};

    use crate::host::{Data, Recorded, Request, UnitRow};

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
        let units = vec![row("logrotate.timer"), row("ssh.service")];
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
