//! What is called completed: a stop that was no clean one is told as such, and what was started stays and answers.
//!
//! The runtimes here are this program of the tests, started as a service of the sandbox.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::{Duration, Instant};

use warden::config;
use warden::protocol::{Code, UnitChange};

use super::node::{Node, Start};
use super::runs;
use crate::support::sandbox::Sandbox;
use crate::support::until;

/// Set for the process that is to be a runtime: where it listens.
const ADDRESS: &str = "WARDEN_TEST_RUNTIME";
/// How long it takes to open its API.
const AFTER: &str = "WARDEN_TEST_RUNTIME_AFTER_MS";
/// Short; what is tested is the same.
const SETTLE: Duration = Duration::from_millis(300);

/// Does not heed SIGTERM.
const DEAF: &str =
    "[Service]\nExecStart=/bin/sh -c 'trap \"\" TERM; echo flushing for ever; while :; do sleep 0.1; done'\n";

fn quick() -> Start<'static> {
    Start { settle: SETTLE, answer: Duration::from_secs(3), ..Start::default() }
}

fn is_forced(change: &UnitChange) {
    assert!(change.forced, "{change:?}");
    let lines = change.journal.join("\n");
    assert!(lines.contains("with signal SIGKILL"), "{lines}");
}

#[test]
fn a_stop_and_a_restart_that_end_in_sigkill_are_completed_and_told_as_forced() {
    let sandbox = Sandbox::boot();
    sandbox.unit("iggy.service", &format!("{DEAF}TimeoutStopSec=500ms\n"));
    let mut node = Node::start_as(&sandbox, &quick()).unwrap();
    node.request(1, "iggy start");
    assert!(!node.completed(1).forced);
    until("it is deaf", || {
        sandbox.output(&["journalctl", "-u", "iggy.service", "-g", "flushing"]).status.success().then_some(())
    });
    node.request(2, "iggy restart");
    let change = node.completed(2);
    is_forced(&change);
    assert_eq!(change.job_result.as_deref(), Some("done"));
    assert_eq!(change.after.unwrap().active_state, "active");
    node.request(3, "iggy stop");
    let change = node.completed(3);
    is_forced(&change);
    let after = change.after.unwrap();
    assert_eq!((after.active_state.as_str(), after.result.as_str()), ("failed", "timeout"));
    // How that run ended says nothing of what comes next.
    node.request(4, "iggy restart");
    let change = node.completed(4);
    assert!(!change.forced && change.journal.is_empty(), "{change:?}");
}

#[test]
fn sigkill_is_seen_whatever_systemd_makes_of_it_and_a_clean_stop_is_none() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy-connectors.service");
    let unit = "[Service]\nExecStart=/bin/sh -c 'echo flushing for ever; exec sleep 1000'\nKillSignal=SIGKILL\n\
                SuccessExitStatus=SIGKILL\n";
    sandbox.unit("iggy.service", unit);
    let mut node = Node::start_as(&sandbox, &quick()).unwrap();
    for (request, what) in (1..).zip(["iggy start", "connectors start", "iggy restart", "connectors restart"])
    {
        node.request(request, what);
        let change = node.completed(request);
        assert_eq!(change.forced, what == "iggy restart", "{what}");
    }
    for (request, what) in (11..).zip(["iggy stop", "connectors stop"]) {
        node.request(request, what);
        let change = node.completed(request);
        assert_eq!(change.forced, what == "iggy stop", "{what}");
        assert_eq!(change.after.unwrap().result, "success");
    }
}

#[test]
fn an_agent_that_was_away_while_systemd_waited_hears_how_the_stop_ends() {
    let sandbox = Sandbox::boot();
    sandbox.unit("iggy.service", &format!("{DEAF}TimeoutStopSec=3s\n"));
    let mut node = Node::start_as(&sandbox, &quick()).unwrap();
    node.request(1, "iggy start");
    assert!(!node.completed(1).forced);
    for (request, what) in [(2, "iggy restart"), (3, "iggy stop")] {
        node.request(request, what);
        until("it is being stopped", || {
            (sandbox.property("iggy.service", "ActiveState") == "deactivating").then_some(())
        });
        node.kill();
        node = Node::start_as(&sandbox, &quick()).unwrap();
        is_forced(&node.completed(request));
    }
}

#[test]
fn a_crash_loop_of_four_seconds_is_not_completed() {
    let sandbox = Sandbox::boot();
    let unit =
        "[Service]\nRestart=always\nRestartSec=100ms\nExecStart=/bin/sh -c 'sleep 4; echo no room; exit 7'\n";
    sandbox.unit("iggy.service", unit);
    let settle = Duration::from_secs(config::SETTLE_SECONDS.into());
    let mut node = Node::start_as(&sandbox, &Start { settle, ..Start::default() }).unwrap();
    node.request(1, "iggy restart");
    let (reason, change) = node.rejected(1);
    assert_eq!(reason.code, Code::UnitNotStable);
    assert!(change.unwrap().journal.contains(&"sh: no room".to_owned()));
}

/// A service that is this program, listening at `address` when so many milliseconds have passed.
fn runtime(sandbox: &Sandbox, unit: &str, address: &str, after: u32, environment: &[&str]) {
    let program = std::env::current_exe().unwrap();
    let mut text = format!(
        "[Service]\nExecStart={} --exact systemd::ends::is_a_runtime_when_it_is_told_so --nocapture\n\
         Environment={ADDRESS}={address}\nEnvironment={AFTER}={after}\n",
        program.display()
    );
    for variable in environment {
        text += &format!("Environment={variable}\n");
    }
    sandbox.unit(unit, &text);
}

/// HTTP alone, at its default.
const ONLY_HTTP: [&str; 3] =
    ["IGGY_TCP_ENABLED=false", "IGGY_QUIC_ENABLED=false", "IGGY_WEBSOCKET_ENABLED=false"];
const PONG: &str = "http://127.0.0.1:3000/ping says pong";

#[test]
fn iggy_is_completed_when_it_answers_and_listens_where_it_is_configured_to() {
    let sandbox = Sandbox::boot();
    let mut node = Node::start_as(&sandbox, &quick()).unwrap();
    // Later than the unit had to stay, and in time.
    runtime(&sandbox, "iggy.service", "127.0.0.1:3000", 1_000, &ONLY_HTTP);
    node.request(1, "iggy restart");
    let change = node.completed(1);
    assert_eq!((change.answers, change.answer.as_deref()), (Some(true), Some(PONG)));

    // It answers, and one of its listeners is not there.
    runtime(&sandbox, "iggy.service", "127.0.0.1:3000", 0, &ONLY_HTTP[1..]);
    node.request(2, "iggy restart");
    let (reason, change) = node.rejected(2);
    assert_eq!(reason.code, Code::RuntimeSilent);
    let silent = format!("{PONG}, and nobody listens at 127.0.0.1:8090, which it has for tcp");
    assert!(reason.reason.ends_with(&format!(" s after its restart: {silent}")), "{reason:?}");
    let change = change.unwrap();
    assert_eq!((change.answers, change.answer), (Some(false), Some(silent)));
    assert_eq!(change.after.unwrap().active_state, "active");

    // It never answers.
    runtime(&sandbox, "iggy.service", "127.0.0.1:3000", 3_600_000, &ONLY_HTTP);
    node.request(3, "iggy restart");
    assert_eq!(node.rejected(3).0.code, Code::RuntimeSilent);
    node.request(4, "iggy stop");
    assert_eq!(node.completed(4).answers, None);
}

#[test]
fn the_connectors_are_completed_when_their_runtime_answers_at_its_own_address() {
    let sandbox = Sandbox::boot();
    let mut node = Node::start_as(&sandbox, &quick()).unwrap();
    sandbox.write("/etc/iggy/connectors.toml", "[http]\nenabled = true\naddress = \"127.0.0.1:9981\"\n");
    let file = "IGGY_CONNECTORS_CONFIG_PATH=/etc/iggy/connectors.toml";
    runtime(&sandbox, "iggy-connectors.service", "127.0.0.1:9981", 500, &[file]);
    node.request(1, "connectors start");
    let change = node.completed(1);
    let said = "http://127.0.0.1:9981/health says status 200";
    assert_eq!((change.answers, change.answer.as_deref()), (Some(true), Some(said)));
    runtime(&sandbox, "iggy-connectors.service", "127.0.0.1:9982", 0, &[file]);
    node.request(2, "connectors restart");
    assert_eq!(node.rejected(2).0.code, Code::RuntimeSilent);
}

#[test]
fn where_the_api_is_off_or_nothing_tells_where_it_is_the_unit_alone_decides_and_that_is_said() {
    let sandbox = Sandbox::boot();
    let mut node = Node::start_as(&sandbox, &quick()).unwrap();
    runtime(&sandbox, "iggy.service", "127.0.0.1:1", 3_600_000, &["IGGY_HTTP_ENABLED=false"]);
    node.request(1, "iggy start");
    let change = node.completed(1);
    let off = "iggy-server was not asked: its HTTP API is switched off in its configuration";
    assert_eq!((change.answers, change.answer.as_deref()), (None, Some(off)));
    runs(&sandbox, "iggy.service");
    node.request(2, "iggy restart");
    let change = node.completed(2);
    let said = change.answer.unwrap();
    assert!(
        said.ends_with("of the unit is `sleep`, and nothing tells where what it starts would listen"),
        "{said}"
    );
    assert_eq!(change.answers, None);
}

/// Not a test of anything: a runtime whose HTTP API says pong to everything.
#[test]
fn is_a_runtime_when_it_is_told_so() {
    let Ok(address) = std::env::var(ADDRESS) else { return };
    let after = Duration::from_millis(std::env::var(AFTER).unwrap().parse().unwrap());
    std::thread::sleep(after);
    let (listener, began) = (TcpListener::bind(address).unwrap(), Instant::now());
    for stream in listener.incoming() {
        let mut stream = stream.unwrap();
        let _ = stream.read(&mut [0; 1024]);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\nConnection: close\r\n\r\npong");
        assert!(began.elapsed() < Duration::from_secs(3600));
    }
}
