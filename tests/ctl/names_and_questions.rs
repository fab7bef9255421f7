//! Names wherever ids work, and questions on a terminal before something stops or goes.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};

use super::scripted::{Asked, Reply, Scripted};
use super::{ctl, told};

fn list(items: &Value) -> Reply {
    Reply::Json(200, json!({"items": items, "total_results": 2}))
}

/// Two deployments, two nodes of the second one.
fn supervisor() -> Scripted {
    Scripted::new(|Asked { line, .. }, _| match line.split('?').next().unwrap() {
        "GET /deployments" => list(&json!([{"id": 1, "name": "test"}, {"id": 9, "name": "events-prod"}])),
        "GET /deployments/9/nodes" => list(&json!([{"id": 71, "name": "vm-a"}, {"id": 72, "name": "vm-b"}])),
        "POST /deployments/9/activities/iggy/stop" => Reply::Json(202, json!({"items": []})),
        "DELETE /deployments/9/nodes/72" => Reply::Json(204, Value::Null),
        "GET /deployments/9" => Reply::Json(200, json!({"id": 9, "name": "events-prod", "plan": "pro"})),
        "PATCH /deployments/9" => Reply::Json(200, json!({"id": 9, "name": "events-prod", "plan": "basic"})),
        "DELETE /deployments/9" => Reply::Json(204, Value::Null),
        "DELETE /deployments/9/enrolments/5" => Reply::Json(204, Value::Null),
        "POST /deployments/9/snapshots" => Reply::With(204, "ld-snapshot", "8", Value::Null),
        other => panic!("{other}"),
    })
}

fn lines(server: &Scripted) -> Vec<String> {
    let path = |asked: Asked| asked.line.split('?').next().unwrap().to_owned();
    server.asked().into_iter().map(path).collect()
}

#[test]
fn a_deployment_and_nodes_are_named_as_well_as_numbered() {
    let home = tempfile::tempdir().unwrap();
    let server = supervisor();
    let arguments =
        ["stop", "iggy", "--node", "vm-b,71", "--deployment", "events-prod", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    assert_eq!(told(&output).0, Some(0), "{output:?}");
    assert_eq!(server.asked().last().unwrap().body, json!({"nodes": [72, 71]}));
    let arguments = ["stop", "iggy", "--node", "vm-c", "--deployment", "9", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    assert_eq!(told(&output), (Some(2), "", "error: no node is named `vm-c`; nodes are vm-a, vm-b\n"));
}

/// Runs `arguments` on a terminal of its own, with `answer` typed.
fn on_a_terminal(home: &Path, arguments: &str, answer: &str) -> Output {
    let command = format!("{} ctl {arguments}", env!("CARGO_BIN_EXE_warden"));
    let mut script = Command::new("script");
    script.args(["-q", "-e", "-c", &command, "/dev/null"]).env_clear().env("HOME", home);
    script
        .env("PATH", "/usr/bin:/bin")
        .env("WARDEN_API_KEY", "k")
        .env("TERM", "dumb")
        .env("SHELL", "/bin/sh");
    script.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = script.spawn().expect("script(1) of util-linux");
    child.stdin.take().unwrap().write_all(answer.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

#[test]
fn on_a_terminal_a_stop_of_several_nodes_names_them_and_waits_for_a_yes() {
    let home = tempfile::tempdir().unwrap();
    let server = supervisor();
    let stop = format!("stop iggy --deployment 9 --url {}", server.url);
    let refused = on_a_terminal(home.path(), &stop, "n\n");
    let shown = String::from_utf8_lossy(&refused.stdout).into_owned();
    assert!(
        shown.contains("stop iggy on 2 nodes (vm-a (71), vm-b (72)), all at the same time? [y/N]"),
        "{shown}"
    );
    assert!(shown.contains("error: not confirmed; nothing was done"), "{shown}");
    assert_eq!(
        (refused.status.code(), lines(&server)),
        (Some(2), vec!["GET /deployments/9/nodes".to_owned()])
    );
    let done = on_a_terminal(home.path(), &stop, "y\n");
    assert_eq!(done.status.code(), Some(0), "{done:?}");
    assert_eq!(lines(&server).last().unwrap(), "POST /deployments/9/activities/iggy/stop");
    let unasked = on_a_terminal(home.path(), &format!("{stop} --yes"), "");
    assert!(!String::from_utf8_lossy(&unasked.stdout).contains("[y/N]"), "{unasked:?}");
    assert_eq!(unasked.status.code(), Some(0));
}

#[test]
fn a_node_is_removed_only_after_a_yes() {
    let home = tempfile::tempdir().unwrap();
    let server = supervisor();
    let delete = format!("nodes delete vm-b --deployment 9 --url {}", server.url);
    assert_eq!(on_a_terminal(home.path(), &delete, "\n").status.code(), Some(2));
    assert_eq!(lines(&server), ["GET /deployments/9/nodes"]);
    assert_eq!(on_a_terminal(home.path(), &delete, "yes\n").status.code(), Some(0));
    assert_eq!(lines(&server).last().unwrap(), "DELETE /deployments/9/nodes/72");
}

#[test]
fn a_deployment_an_enrolment_and_what_a_smaller_plan_does_not_keep_go_only_after_a_yes() {
    let home = tempfile::tempdir().unwrap();
    let server = supervisor();
    let question = |arguments: &str, expected: &str, done: &str| {
        let arguments = format!("{arguments} --url {}", server.url);
        let before = lines(&server).len();
        let refused = on_a_terminal(home.path(), &arguments, "n\n");
        let shown = String::from_utf8_lossy(&refused.stdout).into_owned();
        assert!(refused.status.code() == Some(2) && shown.contains(&format!("{expected} [y/N]")), "{shown}");
        assert!(lines(&server)[before..].iter().all(|line| line.starts_with("GET ")));
        assert_eq!(on_a_terminal(home.path(), &arguments, "y\n").status.code(), Some(0));
        assert_eq!(lines(&server).last().unwrap(), done);
    };
    question(
        "deployments delete 9",
        "Delete deployment 9 with its snapshots and enrolments?",
        "DELETE /deployments/9",
    );
    question(
        "deployments delete events-prod --force",
        "Delete deployment events-prod with its snapshots and enrolments, and remove 2 nodes (vm-a (71), vm-b (72))? \
         They must enroll again.",
        "DELETE /deployments/9",
    );
    assert_eq!(server.asked().last().unwrap().line, "DELETE /deployments/9?force=true");
    question(
        "deployments update 9 --plan basic",
        "Change the plan of 9 to basic? It keeps 3 snapshots; those older than 7 days are removed.",
        "PATCH /deployments/9",
    );
    assert_eq!(server.asked().last().unwrap().body, json!({"plan": "basic"}));
    question(
        "enrolments revoke 5 --deployment 9",
        "Revoke enrolment 5? Its token is void from then on.",
        "DELETE /deployments/9/enrolments/5",
    );
    // A larger plan takes nothing away, and is not asked about.
    let larger = format!("deployments update 9 --plan enterprise --url {}", server.url);
    assert!(!String::from_utf8_lossy(&on_a_terminal(home.path(), &larger, "").stdout).contains("[y/N]"));
}

#[test]
fn the_oldest_snapshot_is_replaced_only_when_it_is_said() {
    let home = tempfile::tempdir().unwrap();
    let server = supervisor();
    let create = ["snapshots", "create", "--deployment", "9", "--url", &server.url];
    for (more, body) in [
        (&[][..], json!({"include_iggy": true})),
        (&["--replace-oldest"], json!({"include_iggy": true, "replace_oldest": true})),
    ] {
        let output = ctl(home.path(), &[&create, more].concat()).env("WARDEN_API_KEY", "k").output().unwrap();
        assert_eq!(told(&output).0, Some(0), "{output:?}");
        assert_eq!(server.asked().last().unwrap().body, body);
    }
}
