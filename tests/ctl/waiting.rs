//! `--wait`: told node by node, and ended by the outcome.

use serde_json::{Value, json};

use super::scripted::{Asked, Reply, Scripted};
use super::{ctl, told};

fn activity(id: u64, status: &str) -> Value {
    json!({"id": id, "node_id": id % 10, "runtime": "iggy", "action": "restart", "status": status})
}

fn nodes() -> Value {
    json!({"items": [{"id": 1, "name": "one"}, {"id": 2, "name": "the-second"}], "total_results": 2})
}

/// Two nodes; the first ends at the first look, the second at the third.
fn two(asked: &Asked, second: &Value, looks: usize) -> Reply {
    match asked.line.split('?').next().unwrap() {
        "POST /deployments/9/activities/iggy/restart" => {
            Reply::Json(202, json!({"items": [activity(101, "processing"), activity(102, "processing")]}))
        }
        "GET /deployments/9/nodes" => Reply::Json(200, nodes()),
        "GET /deployments/9/activities" => {
            let mut open = activity(102, "processing");
            open["step"] = json!("waits until iggy.service stays active");
            Reply::Json(200, json!({"items": [open], "total_results": 1}))
        }
        "GET /deployments/9/activities/101" => {
            let mut ended = activity(101, "completed");
            ended["result"] = json!({"unit": "iggy.service", "took_ms": 1300,
                "after": {"active_state": "active", "sub_state": "running", "main_pid": 4711}});
            Reply::Json(200, ended)
        }
        "GET /deployments/9/activities/102" if looks < 6 => Reply::Json(200, activity(102, "processing")),
        "GET /deployments/9/activities/102" => Reply::Json(200, second.clone()),
        other => panic!("{other}"),
    }
}

#[test]
fn every_node_is_told_as_it_ends_and_all_completed_is_0() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|asked, before| two(asked, &activity(102, "completed"), before));
    let arguments = ["restart", "iggy", "--wait", "--deployment", "9", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    let expected = concat!(
        "completed  one (1)         iggy.service is active (running), main PID 4711, took 1.3 s\n",
        "completed  the-second (2)\n",
        "restart of iggy: 2 completed\n",
    );
    assert_eq!(told(&output), (Some(0), expected, "the-second (2): waits until iggy.service stays active\n"));
}

#[test]
fn one_rejected_is_1_with_the_reason_and_the_journal() {
    let home = tempfile::tempdir().unwrap();
    let mut rejected = activity(102, "rejected");
    rejected["reason"] = json!({"code": "job_failed", "reason": "systemd's job ended as failed"});
    rejected["result"] = json!({"unit": "iggy.service", "journal": ["no such config file"]});
    let server = Scripted::new(move |asked, before| two(asked, &rejected, before));
    let arguments = ["restart", "iggy", "--wait", "--deployment", "9", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    let expected = concat!(
        "completed  one (1)         iggy.service is active (running), main PID 4711, took 1.3 s\n",
        "rejected   the-second (2)  job_failed: systemd's job ended as failed\n",
        "           | no such config file\n",
        "restart of iggy: 1 completed, 1 rejected\n",
    );
    assert_eq!((told(&output).0, told(&output).1), (Some(1), expected));
    let json = ctl(home.path(), &[&arguments[..], &["--json"]].concat())
        .env("WARDEN_API_KEY", "k")
        .output()
        .unwrap();
    let told: Value = serde_json::from_slice(&json.stdout).unwrap();
    assert_eq!((json.status.code(), &told["items"][1]["reason"]["code"]), (Some(1), &json!("job_failed")));
}

#[test]
fn a_supervisor_that_is_away_for_a_moment_is_asked_again() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|asked, before| match before {
        2..6 => Reply::Nothing,
        _ => two(asked, &activity(102, "completed"), before),
    });
    let arguments = ["restart", "iggy", "--wait", "--deployment", "9", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
}

#[test]
fn what_has_not_ended_in_time_is_2_and_named() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|asked, _| two(asked, &Value::Null, 0));
    let arguments =
        ["restart", "iggy", "--wait", "--timeout", "1", "--deployment", "9", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let error = told(&output).2.lines().last().unwrap();
    assert_eq!(
        error,
        "error: not ended after 1 s: the-second (2); it goes on: warden ctl activities list --status processing"
    );
}

#[test]
fn a_runtime_that_is_none_is_not_asked_for() {
    let home = tempfile::tempdir().unwrap();
    let output = ctl(home.path(), &["stop", "../sshd"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).2.contains("expected iggy, connectors, connector:sink:KEY"), "{output:?}");
}
