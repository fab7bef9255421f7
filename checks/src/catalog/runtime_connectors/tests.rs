//! Connectors runtimes in all their states.

use serde_json::json;
use warden_host::{Data, HttpAnswer, Kind, Recorded, Request};

use super::*;
use crate::iggy::tests::{link, settings, stat, stat_line};

const STATS: &str = r#"{"connectors_runtime_version":"0.5.0-edge.4","sources_total":1,"connectors":[
    {"key":"random","connector_type":"source","version":"0.5.0","status":"running","enabled":true,"messages_produced":395,"messages_sent":395,"messages_filtered":0,"errors":0},
    {"key":"postgres","connector_type":"sink","version":"unknown","status":"running","enabled":true,"messages_consumed":7,"messages_processed":7,"errors":0}]}"#;
const SINKS: &str = r#"[{"id":3,"key":"postgres","path":"/usr/lib/pg","enabled":true,"status":"error","last_error":{"message":"Plugin library not found","timestamp":1}}]"#;
const FILE: &str = "type = \"sink\"\nkey = \"postgres\"\nenabled = true\npath = \"/usr/lib/pg\"\n";
const BASE: &str = "http://127.0.0.1:8081";

fn http(recorded: Recorded, path: &str, status: u16, body: &str) -> Recorded {
    let answer = HttpAnswer { status, body: body.to_owned(), millis: 2.0, date: None };
    recorded.with(Request::Http { url: format!("{BASE}/{path}") }, Data::Http(answer))
}

fn healthy() -> Recorded {
    let recorded = Recorded::complete()
        .settings(settings())
        .file("/proc/71/stat", &stat_line(71, "iggy-connectors", 'S'))
        .file("/proc/71/environ", "IGGY_CONNECTORS_CONFIG_PATH=/etc/iggy/c.toml\0")
        .file("/etc/iggy/c.toml", "[connectors]\nconfig_type = \"local\"\nconfig_dir = \"d\"\n")
        .file("/srv/d/pg.toml", FILE)
        .with(Request::Stat { path: "/usr/lib/pg.so".to_owned() }, Data::Stat(stat(Kind::File, 9)));
    let recorded = link(recorded, "/proc/71/cwd", "/srv");
    let recorded = http(recorded, "health", 200, r#"{"status":"healthy"}"#);
    http(http(http(recorded, "stats", 200, STATS), "sinks", 200, SINKS), "sources", 200, "[]")
}

fn of(recorded: Recorded) -> Finding {
    run(&recorded.host()).unwrap()
}

fn with_stats(from: &str, to: &str) -> Finding {
    let (before, after) = STATS.rsplit_once(from).unwrap();
    of(http(healthy(), "stats", 200, &format!("{before}{to}{after}")))
}

#[test]
fn connectors_that_run_pass() {
    let finding = of(healthy());
    assert_eq!(
        (finding.verdict(), finding.summary.as_str()),
        (Verdict::Pass, "2 of 2 enabled connectors run")
    );
}

#[test]
fn a_sink_in_error_fails_with_what_it_said() {
    let finding = with_stats("\"running\"", "\"error\"");
    assert_eq!(
        (finding.verdict(), finding.summary.as_str()),
        (Verdict::Fail, "1 of 2 enabled connectors run")
    );
    assert_eq!(finding.problems[0].text, "sink postgres is in state error: Plugin library not found");
}

#[test]
fn a_stopped_one_and_counted_errors_warn_a_starting_one_is_noted_and_a_disabled_one_is_fine() {
    assert_eq!(with_stats("\"running\"", "\"stopped\"").verdict(), Verdict::Warn);
    assert_eq!(with_stats("\"running\"", "\"starting\"").verdict(), Verdict::Note);
    let errors = with_stats("\"errors\":0", "\"errors\":1");
    assert_eq!(errors.problems[0].text, "sink postgres runs and has counted 1 error");
    let disabled =
        with_stats("\"status\":\"running\",\"enabled\":true", "\"status\":\"stopped\",\"enabled\":false");
    assert_eq!(
        (disabled.verdict(), disabled.summary.as_str()),
        (Verdict::Pass, "1 of 1 enabled connector run")
    );
}

#[test]
fn a_missing_plugin_and_a_broken_file_fail_and_one_that_is_not_loaded_warns() {
    let plugin = Request::Stat { path: "/usr/lib/pg.so".to_owned() };
    let finding = of(healthy().without(plugin, Cause::Absent));
    assert_eq!(finding.problems[0].text, "the plugin of connector postgres is missing: /usr/lib/pg.so");
    assert_eq!(of(healthy().file("/srv/d/x.toml", "key =")).verdict(), Verdict::Fail);
    let more = of(healthy().file("/srv/d/x.toml", "key = \"extra\"\n"));
    assert_eq!(more.problems[0].text, "connector extra is configured in /srv/d/x.toml and not loaded");
}

#[test]
fn a_refusal_is_said_and_not_repeated() {
    let host = http(healthy(), "stats", 401, "").host();
    let finding = run(&host).unwrap();
    assert_eq!(finding.verdict(), Verdict::Note);
    let asked = host.asked();
    let asked = asked.lock().unwrap();
    assert_eq!(asked.iter().filter(|request| matches!(request, Request::Http { .. })).count(), 2);
}

#[test]
fn a_silent_api_fails_and_an_answer_of_another_form_is_an_error() {
    let silent = healthy().without(Request::Http { url: format!("{BASE}/health") }, Cause::TimedOut);
    assert_eq!(of(silent).verdict(), Verdict::Fail);
    assert!(run(&http(healthy(), "stats", 200, "<html>").host()).is_err());
    assert!(run(&http(healthy(), "stats", 500, "").host()).is_err());
    let off = healthy().file("/etc/iggy/c.toml", "[http]\nenabled = false\n");
    assert_eq!(of(off).verdict(), Verdict::Note);
}

#[test]
fn a_runtime_that_should_run_fails_and_one_that_need_not_is_skipped() {
    let stopped = Recorded::complete().settings(settings());
    assert_eq!(of(stopped.clone()).verdict(), Verdict::Skip);
    let unit =
        |state: &str| json!({ "LoadState": "loaded", "UnitFileState": state, "ActiveState": "failed" });
    assert_eq!(
        of(stopped.clone().unit("iggy-connectors.service", unit("disabled"))).verdict(),
        Verdict::Skip
    );
    assert_eq!(of(stopped.unit("iggy-connectors.service", unit("enabled"))).verdict(), Verdict::Fail);
}
