//! Units of the runtimes in all their states.

use serde_json::{Value as Json, json};
use warden_host::{Cause, LogLine, Recorded, Request};

use super::*;
use crate::Verdict;
use crate::units::testing::settings;

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
    let expected =
        "systemd restarted iggy.service 2 times in the last 24 h; its last process was killed by signal 9";
    assert_eq!(only_problem(restarted), (Verdict::Warn, expected.to_owned()));
    assert_eq!(judged(with(json!({"NRestarts": 2}))).verdict(), Verdict::Pass, "two restarts ten days ago");
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
    let never_tried = json!({"ActiveState": "inactive", "ConditionResult": false, "ConditionTimestamp": 0});
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
