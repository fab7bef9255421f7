//! What keeps a host in order from here on: a clock that is still set, and timers that still run.

use serde_json::{Value, json};
use warden::snapshot::report::{CheckReport, Outcome};

use crate::support::changed_host::ChangedHost;

/// The recorded time of the healthy host, in microseconds.
const NOW_US: i64 = 1_795_263_600_000_000;
const DAY_US: i64 = 86_400_000_000;

fn texts(check: &CheckReport) -> Vec<&str> {
    check.problems.iter().map(|problem| problem.text.as_str()).collect()
}

#[test]
fn a_clock_that_was_synchronised_once_and_is_set_by_nothing_warns() {
    let kernel = json!({"synchronised": true, "max_error_us": 9_800_000, "estimated_error_us": 900});
    let request = json!({"ask": "command", "name": "timedatectl", "argument": null});
    let stdout = "Timezone=Etc/UTC\nLocalRTC=no\nCanNTP=yes\nNTP=no\nNTPSynchronized=yes\n";
    let output = json!({"is": "output", "status": 0, "stdout": stdout, "stderr": "", "cut": false});
    let judged = ChangedHost::of("healthy-debian")
        .edit("fact/clock.json", |clock| clock["answer"]["kernel"] = kernel)
        .answer("command/timedatectl.json", &json!({"request": request, "answer": output}))
        .without(".host/command/chronyc-tracking.json")
        .judge("system-time");
    let expected = "nothing has set the clock for about 5 h 27 min: the kernel's largest error has grown to 9.8 s, \
                    and no time service is enabled";
    assert_eq!((judged.outcome, texts(&judged)), (Outcome::Warn, vec![expected]));
}

/// What is said of a timer in `state` that last ran so many days ago.
fn timer(state: &str, days: i64) -> CheckReport {
    let is_timer = |unit: &&mut Value| unit["name"] == "apt-daily.timer";
    let of_list = |list: &mut Value| {
        let units = list["answer"]["units"].as_array_mut().unwrap();
        units.iter_mut().find(is_timer).unwrap()["sub"] = json!(state);
    };
    let of_unit = |unit: &mut Value| {
        let properties = &mut unit["answer"]["properties"];
        properties["SubState"] = json!(state);
        properties["LastTriggerUSec"] = json!(NOW_US - days * DAY_US);
        properties["NextElapseUSecRealtime"] = json!(0);
    };
    let host = ChangedHost::of("healthy-debian");
    host.edit("fact/units.json", of_list).edit("unit/apt-daily.timer.json", of_unit).judge("units-timers")
}

#[test]
fn a_timer_that_will_not_run_again_or_does_not_end_warns() {
    let elapsed = timer("elapsed", 60);
    let expected = "apt-daily.timer is active and has no next run: it will not run again; \
                    it last ran 2026-09-22T12:20:00Z";
    assert_eq!((elapsed.outcome, texts(&elapsed)), (Outcome::Warn, vec![expected]));
    let running = timer("running", 28);
    let expected = "apt-daily.service, which apt-daily.timer started 28 d ago, has not ended since, \
                    so the timer does not run";
    assert_eq!((running.outcome, texts(&running)), (Outcome::Warn, vec![expected]));
    assert_eq!(timer("running", 0).outcome, Outcome::Pass);
}
