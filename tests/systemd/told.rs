//! What an operator is told with `warden ctl`, with a Supervisor, an agent and units of systemd as they are on a host.

use serde_json::Value;

use super::automatic::Host;
use crate::support::sandbox::Sandbox;
use crate::support::until;

const RUNS: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

fn json(host: &Host, arguments: &[&str]) -> Value {
    serde_json::from_str(&host.says(&[arguments, &["--json"]].concat())).unwrap()
}

/// What the newest heartbeat says of a runtime.
fn state(host: &Host, runtime: &str) -> String {
    let beats = json(host, &["heartbeats", "list"]);
    let runtimes = beats["items"][0]["runtimes"].as_array().cloned().unwrap_or_default();
    let of_runtime = runtimes.iter().find(|state| state["runtime"] == runtime);
    of_runtime.map_or_else(String::new, |state| state["active_state"].as_str().unwrap().to_owned())
}

fn report(host: &Host, snapshot: &Value) -> (Value, Vec<String>) {
    let at = format!("/root/{}.zip", snapshot["id"].as_str().unwrap());
    host.says(&["snapshots", "download", snapshot["id"].as_str().unwrap(), "--output", &at]);
    let archive = std::fs::read(host.sandbox.root().join(at.trim_start_matches('/'))).unwrap();
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let names = zip.file_names().map(|name| name.unwrap().into_owned()).collect();
    let mut text = String::new();
    std::io::Read::read_to_string(&mut zip.by_name("report.json").unwrap(), &mut text).unwrap();
    (serde_json::from_str(&text).unwrap(), names)
}

#[test]
fn without_its_data_directory_a_snapshot_is_completed_and_its_report_fails_for_that() {
    let sandbox = Sandbox::boot();
    sandbox.unit("iggy.service", &format!("{RUNS}Environment=IGGY_SYSTEM_PATH=/mnt/data/iggy\n"));
    let host = Host::enrolled_on(sandbox);
    let node = json(&host, &["nodes", "list"])["items"][0]["name"].as_str().unwrap().to_owned();
    for stopped in [false, true] {
        if stopped {
            host.sandbox.run(&["systemctl", "stop", "iggy.service"]);
        }
        let wait = ["snapshots", "create", "--wait", "--node", &node, "--only", "runtime", "--since", "2h"];
        let taken = json(&host, &[&wait[..], &["--anonymize"]].concat())["items"][0].clone();
        assert_eq!((&taken["status"], &taken["verdict"]), (&"completed".into(), &"fail".into()), "{taken:#}");
        let (report, names) = report(&host, &taken);
        assert!(!names.contains(&"iggy.zip".to_owned()), "{names:?}");
        let data = &report["data_directory"];
        assert_eq!(data["outcome"], "fail", "{data:#}");
        let why = data["left_out"]["why"].as_str().unwrap();
        assert!(why.contains("/mnt/data/iggy"), "{why}");
        assert_eq!(
            (&report["run"]["only"], &report["run"]["since_seconds"]),
            (&serde_json::json!(["runtime"]), &7200.into())
        );
        let checks = report["checks"].as_array().unwrap();
        assert!(checks.iter().all(|check| check["area"] == "runtime") && checks.len() > 1);
        assert!(report["host"]["name"].as_str().unwrap().starts_with("[host:"), "{}", report["host"]);
        host.says(&["snapshots", "delete", taken["id"].as_str().unwrap()]);
    }
    let refused = host.ctl(&["snapshots", "create", "--only", "nothing-like-it"]);
    let told = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(
        refused.status.code() == Some(2) && told.contains("there is no check and no area called"),
        "{told}"
    );
}

#[test]
fn a_request_that_ended_and_a_unit_that_changed_are_told_at_once_and_a_node_that_left_is_offline() {
    let sandbox = Sandbox::boot();
    sandbox.unit("iggy.service", RUNS);
    sandbox.unit("iggy-connectors.service", RUNS);
    let mut host = Host::enrolled_on(sandbox);
    until("the first heartbeat is there", || (state(&host, "iggy") == "active").then_some(()));
    let done = json(&host, &["stop", "iggy", "--wait"]);
    assert_eq!(done["items"][0]["result"]["forced"], Value::Null);
    // Heartbeats come each 30 s, and this one within some: `until` waits for no longer than a minute.
    until("the stop is in a heartbeat", || (state(&host, "iggy") == "inactive").then_some(()));
    host.sandbox.run(&["systemctl", "kill", "--signal=KILL", "iggy-connectors.service"]);
    until("the failure is in a heartbeat", || (state(&host, "connectors") == "failed").then_some(()));
    host.sandbox.run(&["rm", "/etc/systemd/system/iggy.service"]);
    host.sandbox.run(&["systemctl", "daemon-reload"]);
    until("the unit is told to be gone", || (state(&host, "iggy") == "not-found").then_some(()));

    let status =
        |host: &Host| json(host, &["nodes", "list"])["items"][0]["status"].as_str().unwrap().to_owned();
    assert_eq!(status(&host), "online");
    host.stops_agent();
    until("the node is offline", || (status(&host) == "unreachable").then_some(()));
    let seen = json(&host, &["nodes", "list"])["items"][0].clone();
    let at = |field: &str| seen[field].as_str().unwrap().parse::<jiff::Timestamp>().unwrap().as_second();
    assert!(at("unreachable_since") - at("last_seen_at") < 60, "{seen:#}");
    host.starts_agent();
    until("it is back", || (status(&host) == "online").then_some(()));
}

#[test]
fn a_crash_loop_never_reads_active() {
    let sandbox = Sandbox::boot();
    sandbox.unit("iggy.service", RUNS);
    let looping = "[Unit]\nStartLimitIntervalSec=0\n[Service]\nRestart=always\nRestartSec=100ms\nExecStart=/bin/sh -c 'sleep 1; exit 7'\n";
    sandbox.unit("iggy-connectors.service", looping);
    let host = Host::enrolled_on(sandbox);
    until("systemd started it again", || {
        host.sandbox
            .property("iggy-connectors.service", "NRestarts")
            .parse::<u32>()
            .is_ok_and(|n| n > 2)
            .then_some(())
    });
    for _ in 0..30 {
        let told = host.sandbox.output(&[env!("CARGO_BIN_EXE_warden"), "status", "--json"]);
        let told: Value = serde_json::from_slice(&told.stdout).unwrap();
        let runtimes = told["runtimes"].as_array().unwrap();
        let loops = runtimes.iter().find(|state| state["runtime"] == "connectors").unwrap();
        assert_ne!(loops["active_state"], "active", "{loops:#}");
        std::thread::sleep(std::time::Duration::from_millis(100));
    }
}

#[test]
fn a_forced_stop_is_warned_of_where_it_is_waited_for() {
    let sandbox = Sandbox::boot();
    let deaf = "[Service]\nTimeoutStopSec=500ms\nExecStart=/bin/sh -c 'trap \"\" TERM; echo flushing for ever; while :; do sleep 0.1; done'\n";
    sandbox.unit("iggy.service", deaf);
    let host = Host::enrolled_on(sandbox);
    until("it is deaf", || {
        host.sandbox
            .output(&["journalctl", "-u", "iggy.service", "-g", "flushing"])
            .status
            .success()
            .then_some(())
    });
    let told = host.says(&["restart", "iggy", "--wait"]);
    assert!(told.starts_with("completed "), "{told}");
    assert!(told.contains("warning: it did not stop by itself and got SIGKILL"), "{told}");
    assert!(told.contains("| sh: flushing for ever"), "{told}");
    assert!(told.contains("judged by its unit alone: Iggy was not asked: iggy_api is none"), "{told}");
    let listed = json(&host, &["activities", "list"]);
    assert_eq!(listed["items"][0]["result"]["forced"], true);
}
