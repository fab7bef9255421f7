//! What counts as worse and as better, and what two hosts that differ in everything come to.

use super::*;

fn side(json: serde_json::Value) -> Side {
    Side::of_json(json.to_string().into_bytes()).unwrap()
}

fn report(checks: serde_json::Value) -> serde_json::Value {
    serde_json::json!({ "version": 1, "warden": "0.1.0", "host": { "name": "a" }, "run": {}, "checks": checks })
}

fn check(outcome: &str, problems: &[(&str, &str)]) -> serde_json::Value {
    let problems: Vec<_> = problems
        .iter()
        .map(|(severity, text)| serde_json::json!({ "severity": severity, "text": text, "advice": { "text": "" } }))
        .collect();
    serde_json::json!({ "id": "x", "outcome": outcome, "problems": problems })
}

fn turn(before: serde_json::Value, after: serde_json::Value) -> Option<CheckChange> {
    let [before, after] = [before, after].map(|check| side(report(serde_json::json!([check]))));
    compare(&before, &after).checks.pop()
}

#[test]
fn each_turn_of_a_check_is_worse_better_or_neither() {
    use Direction::{Better, Changed, Worse};
    let cases = [
        ("pass", "warn", Some(Worse)),
        ("warn", "fail", Some(Worse)),
        ("skip", "fail", Some(Worse)),
        ("pass", "unknown", Some(Worse)),
        ("warn", "timed_out", Some(Worse)),
        ("unknown", "warn", Some(Worse)),
        ("fail", "warn", Some(Better)),
        ("fail", "pass", Some(Better)),
        ("unknown", "pass", Some(Better)),
        ("warn", "note", Some(Better)),
        ("warn", "skip", Some(Changed)),
        ("pass", "note", Some(Changed)),
        ("unknown", "timed_out", Some(Changed)),
        ("pass", "pass", None),
        ("fail", "fail", None),
    ];
    for (before, after, expected) in cases {
        let direction = turn(check(before, &[]), check(after, &[])).map(|change| change.direction);
        assert_eq!(direction, expected, "{before} to {after}");
    }
}

#[test]
fn a_problem_stays_when_only_its_numbers_changed() {
    let before = check("warn", &[("warn", "/ is 86 % full"), ("warn", "/var is 90 % full"), ("note", "old")]);
    let after = check(
        "warn",
        &[("warn", "/var is 95 % full"), ("warn", "/srv is 99 % full"), ("warn", "/ is 86 % full")],
    );
    let change = turn(before, after).unwrap();
    assert_eq!(change.direction, Direction::Worse);
    let texts = |problems: &[ProblemSaid]| problems.iter().map(|one| one.text.clone()).collect::<Vec<_>>();
    assert_eq!(
        (texts(&change.came), texts(&change.went)),
        (vec!["/srv is 99 % full".to_owned()], vec!["old".to_owned()])
    );
    let stayed: Vec<_> =
        change.stayed.iter().map(|one| (one.before.text.as_str(), one.after.text.as_str())).collect();
    assert_eq!(stayed, [("/ is 86 % full", "/ is 86 % full"), ("/var is 90 % full", "/var is 95 % full")]);

    let graver = turn(
        check("fail", &[("warn", "a 1"), ("fail", "b")]),
        check("fail", &[("fail", "a 2"), ("fail", "b")]),
    );
    assert_eq!(graver.unwrap().direction, Direction::Worse, "the same problem, and worse");
}

#[test]
fn reports_of_other_versions_are_compared_as_far_as_they_are_known() {
    let older = side(serde_json::json!({ "version": 1, "checks": [check("pass", &[])] }));
    let newer = side(serde_json::json!({
        "version": 7, "warden": "9.0.0", "host": { "name": "a", "planet": "Mars", "cores": "many" },
        "checks": [
            { "id": "x", "outcome": "melted", "area": "space", "evidence": [{ "kind": "hologram", "title": "t" }] },
            { "id": "new", "outcome": "fail", "summary": "s" }
        ],
        "galaxy": []
    }));
    let difference = compare(&older, &newer);
    assert_eq!(difference.checks[0].after, Outcome::Unknown);
    assert_eq!(difference.only_after[0].id, "new");
    assert!(difference.host.iter().any(|fact| fact.name == "planet" && fact.after == "Mars"));
    assert!(difference.remarks.iter().any(|remark| remark.starts_with("a report is of a newer form")));
    assert!(difference.worse, "that it cannot be told is no improvement");
    assert!(Side::of_json(b"{}".to_vec()).is_err());
}

#[test]
fn a_reboot_and_another_machine_are_told() {
    let with = |machine: &str, boot: &str, at: &str| {
        let mut report = report(serde_json::json!([]));
        report["host"] = serde_json::json!({ "name": "a", "machine_id": machine, "boot_id": boot });
        report["run"] = serde_json::json!({ "started_at": at });
        side(report)
    };
    let first = with("m", "b1", "2026-11-21T12:00:00Z");
    assert_eq!(compare(&first, &with("m", "b2", "2026-11-21T13:00:00Z")).remarks, ["rebooted in between"]);
    assert_eq!(
        compare(&first, &with("n", "b2", "2026-11-21T13:00:00Z")).remarks,
        ["these are two different machines"]
    );
    assert_eq!(
        compare(&first, &with("m", "b1", "2026-11-21T11:00:00Z")).remarks,
        ["the second is 1 h older than the first: worse and better are as the two are given"]
    );
}
