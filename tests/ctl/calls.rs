//! Calls: what is sent, what is tried again, what is told when it was not done.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use super::scripted::{Asked, Reply, Scripted};
use super::{ctl, told};

fn problem(code: &str, reason: &str) -> Value {
    json!({"type": "about:blank", "title": "x", "code": code, "reason": reason})
}

#[test]
fn a_call_that_is_turned_away_and_then_lost_is_done_once_under_one_key() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|_, before| match before {
        0 => Reply::With(429, "retry-after", "1", problem("rate_limited", "too many requests")),
        1 => Reply::Nothing,
        2 => {
            Reply::Json(409, problem("idempotent_request_in_progress", "the first of these calls still runs"))
        }
        _ => Reply::With(201, "ld-deployment", "611298765432109056", Value::Null),
    });
    let arguments = ["deployments", "create", "events-prod", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "wk_secret").output().unwrap();
    assert_eq!(told(&output), (Some(0), "611298765432109056\n", ""));
    let asked = server.asked();
    assert_eq!(asked.len(), 4);
    let keys: Vec<_> = asked.iter().map(|asked| asked.header("idempotency-key").unwrap()).collect();
    assert!(keys[0].len() == 32 && keys.iter().all(|key| *key == keys[0]), "{keys:?}");
    for asked in &asked {
        assert_eq!(
            (asked.line.as_str(), &asked.body),
            ("POST /deployments", &json!({"name": "events-prod", "plan": "basic"}))
        );
        assert_eq!(asked.header("ld-api-key"), Some("wk_secret"));
    }
}

#[test]
fn a_wait_longer_than_two_minutes_is_not_begun() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|_, _| {
        Reply::With(503, "retry-after", "600", problem("unavailable", "the store is being moved"))
    });
    let arguments = ["audit", "list", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    let expected = "error: the store is being moved (unavailable, status 503, ld-request \
                    0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f)\n";
    assert_eq!(told(&output), (Some(2), "", expected));
    assert_eq!(server.asked().len(), 1);
}

#[test]
fn a_refusal_is_told_with_every_field_and_cannot_drive_the_terminal() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|_, _| {
        let mut problem = problem("validation_error", "nodes[0]: no such \u{1b}[2Jnode, and 1 more");
        let issue = |path: &str| json!({"code": "node_not_found", "reason": "no such node", "path": path});
        problem["field_issues"] = json!([issue("nodes[0]"), issue("nodes[2]")]);
        Reply::Json(400, problem)
    });
    let arguments = ["restart", "iggy", "--node", "7", "--deployment", "1", "--url", &server.url];
    let output = ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap();
    let expected = "error: nodes[0]: no such \\u{1b}[2Jnode, and 1 more (validation_error, status 400, ld-request \
                    0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f0f)\n  nodes[0]: no such node (node_not_found)\n  nodes[2]: no \
                    such node (node_not_found)\n";
    assert_eq!(told(&output), (Some(2), "", expected));
    let Asked { line, body, .. } = &server.asked()[0];
    assert_eq!(
        (line.as_str(), body),
        ("POST /deployments/1/activities/iggy/restart", &json!({"nodes": [7]}))
    );
}

#[test]
fn a_redirect_does_not_take_the_key_along() {
    let home = tempfile::tempdir().unwrap();
    let elsewhere = Scripted::new(|_, _| Reply::Json(200, json!([])));
    let to: &'static str = Box::leak(elsewhere.url.clone().into_boxed_str());
    let server = Scripted::new(move |_, _| Reply::With(307, "location", to, Value::Null));
    let output = ctl(home.path(), &["keys", "list", "--url", &server.url])
        .env("WARDEN_API_KEY", "k")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    assert!(elsewhere.asked().is_empty());
}

#[test]
fn a_proxy_of_the_environment_does_not_get_the_key_for_this_host() {
    let home = tempfile::tempdir().unwrap();
    let proxy = Scripted::new(|_, _| Reply::Json(200, json!([])));
    let server = Scripted::new(|_, _| Reply::Json(200, json!({"items": [], "total_results": 0})));
    let output = ctl(home.path(), &["keys", "list", "--url", &server.url])
        .env("WARDEN_API_KEY", "k")
        .env("http_proxy", &proxy.url)
        .output()
        .unwrap();
    assert_eq!(told(&output), (Some(0), "no keys\n", ""));
    assert!(proxy.asked().is_empty());
}

#[test]
fn nobody_there_is_told_with_the_address() {
    let home = tempfile::tempdir().unwrap();
    let address = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let output = ctl(home.path(), &["audit", "list", "--url", &format!("http://{address}")])
        .env("WARDEN_API_KEY", "k")
        .output()
        .unwrap();
    let expected = format!("error: cannot reach http://{address}: Connection refused (os error 111)\n");
    assert_eq!(told(&output), (Some(2), "", &*expected));
}

#[test]
fn the_key_comes_from_a_private_file_and_never_from_an_argument() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|_, _| Reply::Json(200, json!({"items": [], "total_results": 0})));
    let file = home.path().join("key");
    std::fs::write(&file, "wk_filed\n").unwrap();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o640)).unwrap();
    let arguments = ["keys", "list", "--url", &server.url, "--key-file", file.to_str().unwrap()];
    let output = ctl(home.path(), &arguments).output().unwrap();
    let expected = format!("error: others may read the API key in {0}; run: chmod 600 {0}\n", file.display());
    assert_eq!(told(&output), (Some(2), "", &*expected));
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o600)).unwrap();
    assert_eq!(ctl(home.path(), &arguments).output().unwrap().status.code(), Some(0));
    assert_eq!(server.asked()[0].header("ld-api-key"), Some("wk_filed"));
    let output = ctl(home.path(), &["keys", "list", "--key", "wk_x"]).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let output = ctl(home.path(), &["keys", "list", "--url", &server.url]).output().unwrap();
    assert_eq!(
        told(&output).2,
        "error: no API key is known; set WARDEN_API_KEY, or name a file by --key-file or in the profile\n"
    );
}

#[test]
fn all_pages_of_a_list_that_grows_meanwhile_name_each_item_once() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|asked, before| {
        let (_, page) = asked.line.split_once("page=").unwrap();
        let page: u64 = page.split('&').next().unwrap().parse().unwrap();
        // 150 items; one more comes before each page.
        let total = 150 + before as u64;
        let from = (page - 1) * 100;
        let items: Vec<Value> =
            (from..total.min(from + 100)).map(|place| json!({"id": total - place, "name": "x"})).collect();
        Reply::Json(200, json!({"items": items, "page": page, "total_results": total, "total_pages": 2}))
    });
    let output = ctl(home.path(), &["deployments", "list", "--all", "--json", "--url", &server.url])
        .env("WARDEN_API_KEY", "k")
        .output()
        .unwrap();
    let body: Value = serde_json::from_slice(&output.stdout).unwrap();
    let ids: Vec<u64> = body["items"]
        .as_array()
        .unwrap()
        .iter()
        .map(|item| item["id"].as_str().unwrap().parse().unwrap())
        .collect();
    assert_eq!(ids, (1..=150).rev().collect::<Vec<_>>());
}

#[test]
fn a_secret_is_shown_alone_or_goes_into_a_private_file() {
    let home = tempfile::tempdir().unwrap();
    let server = Scripted::new(|_, _| Reply::Json(201, json!({"id": 5, "token": "we_5_abc"})));
    let run = |more: &[&str]| {
        let arguments = [&["enrolments", "create", "--deployment", "1", "--url", &server.url], more].concat();
        ctl(home.path(), &arguments).env("WARDEN_API_KEY", "k").output().unwrap()
    };
    assert_eq!(told(&run(&[])), (Some(0), "we_5_abc\n", "shown only this once\n"));
    let output = run(&["--into", "token"]);
    assert_eq!(told(&output), (Some(0), "written to token\n", ""));
    let file = home.path().join("token");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), "we_5_abc\n");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let output = run(&["--into", "token", "--json"]);
    assert_eq!(serde_json::from_slice::<Value>(&output.stdout).unwrap(), json!({"id": "5"}));
}
