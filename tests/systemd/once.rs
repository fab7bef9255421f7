//! Once: whatever comes twice, too early, too late or not at all, and whoever is restarted in the middle.

use std::time::Duration;

use warden::protocol::{Code, FromNode, Outcome, ToNode};

use super::node::{Node, Start, asked};
use super::{counted, runs};
use crate::support::sandbox::Sandbox;
use crate::support::until;

/// A service that is ready when somebody says so: `touch /run/ready`.
const READY_WHEN_TOLD: &str = "[Service]\nType=notify\nNotifyAccess=all\nTimeoutStartSec=infinity\nExecStart=/bin/sh -c \
     'echo %n >> /run/starts; until [ -e /run/ready ]; do sleep 0.02; done; systemd-notify --ready; exec sleep 1000'\n";

fn hanging(sandbox: &Sandbox, unit: &str) {
    sandbox.unit(unit, READY_WHEN_TOLD);
}

fn is_hanging(sandbox: &Sandbox, unit: &str) {
    until("the job hangs", || (sandbox.property(unit, "SubState") == "start").then_some(()));
    until("the process is there", || (counted(sandbox, unit) > 0).then_some(()));
}

fn let_it(sandbox: &Sandbox) {
    sandbox.write("/run/ready", "");
}

#[test]
fn copies_of_a_request_are_answered_and_not_done() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    for _ in 0..3 {
        node.request(1, "iggy restart");
    }
    let outcome = node.outcome(1);
    assert!(outcome.is_completed());
    node.request(1, "iggy restart");
    assert_eq!(node.outcome(1), outcome);
    node.send(&ToNode::Settled { request: 1 });
    node.send(&ToNode::Settled { request: 1 });
    node.request(1, "iggy restart");
    assert_eq!(node.outcome(1), outcome, "known from the ledger");
    node.send(&ToNode::Cancel { request: 1 });
    assert_eq!(node.outcome(1), outcome);
    assert_eq!(counted(&sandbox, "iggy.service"), 1);
}

#[test]
fn a_cancel_that_overtakes_its_request_holds() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    node.send(&ToNode::Cancel { request: 1 });
    assert_eq!(node.rejected(1).0.code, Code::Cancelled);
    node.kill();
    let mut node = Node::start(&sandbox);
    assert_eq!(node.open, [1]);
    assert_eq!(node.rejected(1).0.code, Code::Cancelled);
    node.request(1, "iggy restart");
    assert_eq!(node.rejected(1).0.code, Code::Cancelled);
    assert_eq!(counted(&sandbox, "iggy.service"), 0);
}

#[test]
fn one_runtime_waits_for_itself_and_not_for_another() {
    let sandbox = Sandbox::boot();
    hanging(&sandbox, "iggy.service");
    runs(&sandbox, "iggy-connectors.service");
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy start");
    node.request(2, "iggy stop");
    node.request(3, "iggy start");
    node.request(4, "connectors restart");
    assert!(node.outcome(4).is_completed());
    assert_eq!(counted(&sandbox, "iggy.service"), 1);
    let_it(&sandbox);
    for request in [1, 2, 3] {
        assert_eq!(node.completed(request).job_result.as_deref(), Some("done"), "{request}");
    }
    assert_eq!(counted(&sandbox, "iggy.service"), 2);
}

#[test]
fn d_bus_may_be_restarted_under_it_while_it_waits_for_a_job() {
    let sandbox = Sandbox::boot();
    hanging(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy start");
    is_hanging(&sandbox, "iggy.service");
    restart_d_bus(&sandbox);
    let_it(&sandbox);
    assert!(node.outcome(1).is_completed());
    restart_d_bus(&sandbox);
    node.request(2, "iggy restart");
    assert_eq!(node.completed(2).job_result.as_deref(), Some("done"));
    assert_eq!(counted(&sandbox, "iggy.service"), 2);
}

/// As a package upgrade or an out-of-memory kill does it: the daemon dies and a new one comes.
fn restart_d_bus(sandbox: &Sandbox) {
    let before = sandbox.property("dbus.service", "MainPID");
    sandbox.run(&["systemctl", "kill", "--signal=KILL", "dbus.service"]);
    until("a new bus is there", || {
        sandbox.output(&["systemctl", "start", "dbus.service"]);
        let now = sandbox.property("dbus.service", "MainPID");
        let answers = sandbox.output(&["busctl", "status", "org.freedesktop.systemd1"]).status.success();
        (now != before && answers).then_some(())
    });
}

#[test]
fn systemd_may_execute_itself_anew_while_a_job_runs() {
    let sandbox = Sandbox::boot();
    hanging(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy start");
    is_hanging(&sandbox, "iggy.service");
    sandbox.run(&["systemctl", "daemon-reexec"]);
    let_it(&sandbox);
    assert!(node.outcome(1).is_completed());
    assert_eq!(counted(&sandbox, "iggy.service"), 1);
}

#[test]
fn without_a_bus_nothing_is_done_and_that_is_said() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    sandbox.run(&["systemctl", "mask", "--runtime", "dbus.service", "dbus.socket"]);
    sandbox.run(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    node.request(1, "iggy restart");
    let (reason, _) = node.rejected(1);
    assert_eq!(reason.code, Code::SystemdUnavailable);
    assert!(reason.reason.starts_with("cannot restart iggy.service; nothing was done: "), "{reason:?}");
    assert_eq!(counted(&sandbox, "iggy.service"), 0);
}

#[test]
fn an_agent_that_is_told_to_stop_leaves_what_hangs_to_the_next() {
    let sandbox = Sandbox::boot();
    hanging(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy start");
    node.request(2, "iggy stop");
    is_hanging(&sandbox, "iggy.service");
    node.stop();
    let mut node = Node::start(&sandbox);
    assert_eq!(node.open, [1, 2]);
    let_it(&sandbox);
    assert!(node.outcome(1).is_completed());
    assert_eq!(node.completed(2).after.unwrap().active_state, "inactive");
    assert_eq!(counted(&sandbox, "iggy.service"), 1);
}

#[test]
fn a_deadline_goes_on_while_the_agent_is_down() {
    let sandbox = Sandbox::boot();
    hanging(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    node.send(&asked(1, "iggy start", Duration::from_secs(30)));
    node.send(&asked(2, "iggy stop", Duration::from_millis(200)));
    assert_eq!(node.rejected(2).0.code, Code::DeadlineExceeded);
    node.send(&asked(3, "iggy stop", Duration::from_millis(500)));
    assert!(matches!(node.report(), Some(FromNode::Accepted { request: 3 })));
    node.kill();
    std::thread::sleep(Duration::from_millis(500));
    let mut node = Node::start(&sandbox);
    assert_eq!(node.rejected(3).0.code, Code::DeadlineExceeded);
    let_it(&sandbox);
    assert!(node.outcome(1).is_completed());
}

#[test]
fn what_was_open_when_the_host_went_down_is_interrupted() {
    let state = tempfile::tempdir().unwrap();
    let at = state.path().to_str().unwrap();
    let here = Start { state: at, ..Start::default() };
    let sandbox = Sandbox::boot_showing(&[state.path()]);
    hanging(&sandbox, "iggy.service");
    let mut node = Node::start_as(&sandbox, &here).unwrap();
    node.request(1, "iggy start");
    node.request(2, "iggy stop");
    is_hanging(&sandbox, "iggy.service");
    drop((node, sandbox));

    let sandbox = Sandbox::boot_showing(&[state.path()]);
    runs(&sandbox, "iggy.service");
    let mut node = Node::start_as(&sandbox, &here).unwrap();
    assert_eq!(node.open, [1, 2]);
    let (reason, change) = node.rejected(1);
    assert_eq!(reason.code, Code::Interrupted);
    assert!(reason.reason.starts_with("the host went down during the start of iggy.service"), "{reason:?}");
    assert_eq!(change.unwrap().after.unwrap().active_state, "inactive");
    let (reason, _) = node.rejected(2);
    assert_eq!((reason.code, reason.reason.as_str()), {
        (Code::Interrupted, "the host went down before it was begun; nothing was done")
    });
    assert_eq!(counted(&sandbox, "iggy.service"), 0);
}

#[test]
fn the_policy_of_the_host_holds_from_the_moment_it_is_written() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    let denied = |outcome: Outcome| match outcome {
        Outcome::Rejected { reason, .. } if reason.code == Code::PolicyDenied => reason.reason,
        other => panic!("{other:?}"),
    };
    let rules = "[[rule]]\nname = \"no stops\"\nactions = [\"stop\"]\nthen = \"deny\"\n[[rule]]\nname = \"seldom\"\n\
                 authors = [\"*@example.com\"]\nthen = \"allow\"\nat_most = 1\nwithin = \"1h\"\n";
    sandbox.write("/etc/warden/policy.toml", rules);
    node.request(1, "iggy stop");
    assert_eq!(
        denied(node.outcome(1)),
        "the rule \"no stops\" of the policy of this host denies the stop of iggy by ops@example.com"
    );
    let log = sandbox.read("/var/lib/warden/audit.jsonl");
    let events: Vec<serde_json::Value> =
        log.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let of_denied: Vec<_> =
        events.iter().filter(|line| line["request"] == 1).map(|line| &line["event"]).collect();
    assert_eq!(of_denied, ["received", "denied"]);
    node.request(2, "iggy restart");
    assert!(node.outcome(2).is_completed());
    node.kill();
    let mut node = Node::start(&sandbox);
    node.request(3, "iggy restart");
    assert!(
        denied(node.outcome(3))
            .starts_with("the rule \"seldom\" of the policy of this host allows 1 within 1h")
    );
    for (text, told) in [("[[rule]\n", "is not understood; mend it"), (rules, "must be root's")] {
        sandbox.write("/etc/warden/policy.toml", text);
        sandbox.run(&["chmod", if text == rules { "666" } else { "644" }, "/etc/warden/policy.toml"]);
        let request = 4 + text.len() as u64;
        node.request(request, "iggy start");
        assert!(denied(node.outcome(request)).contains(told), "{told}");
    }
    assert_eq!(counted(&sandbox, "iggy.service"), 1);
}
