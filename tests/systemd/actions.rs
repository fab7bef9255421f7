//! Units started, stopped and restarted, and what is told of it.

use std::time::Duration;

use warden::protocol::{Code, FromNode, Outcome, ToNode};

use super::node::{Node, asked};
use super::{counted, runs};
use crate::support::sandbox::Sandbox;
use crate::support::until;

#[test]
fn a_restart_gives_the_unit_one_new_main_process_and_tells_of_both() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    sandbox.run(&["systemctl", "start", "iggy.service"]);
    let before = sandbox.property("iggy.service", "MainPID");
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy restart");
    assert_eq!(node.report(), Some(FromNode::Accepted { request: 1 }));
    let change = node.completed(1);
    let (was, is) = (change.before.unwrap(), change.after.unwrap());
    assert_eq!(was.main_pid.to_string(), before);
    assert_eq!(is.main_pid.to_string(), sandbox.property("iggy.service", "MainPID"));
    assert_ne!(is.main_pid, was.main_pid);
    assert_eq!(is.invocation_id, sandbox.property("iggy.service", "InvocationID"));
    assert_eq!((is.active_state.as_str(), is.sub_state.as_str()), ("active", "running"));
    assert_eq!((change.unit.as_str(), change.job_result.as_deref()), ("iggy.service", Some("done")));
    assert!(change.took_ms.is_some() && change.journal.is_empty());
    assert_eq!(counted(&sandbox, "iggy.service"), 2);

    // Not settled: told again to the next connection, and no longer once it is.
    node.kill();
    let mut node = Node::start(&sandbox);
    assert_eq!(node.open, [1]);
    assert!(node.outcome(1).is_completed());
    node.send(&ToNode::Settled { request: 1 });
    node.stop();
    assert_eq!(Node::start(&sandbox).open, [0_u64; 0]);
    assert_eq!(counted(&sandbox, "iggy.service"), 2);
}

#[test]
fn what_is_so_already_needs_no_job() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy stop");
    let change = node.completed(1);
    assert_eq!(
        (change.job_result, change.took_ms, change.before.clone()),
        (None, None, change.after.clone())
    );
    assert_eq!(change.after.unwrap().active_state, "inactive");

    node.request(2, "iggy start");
    assert_eq!(node.completed(2).job_result.as_deref(), Some("done"));
    node.request(3, "iggy start");
    let change = node.completed(3);
    assert_eq!((change.job_result, change.after.unwrap().active_state.as_str()), (None, "active"));
    assert_eq!(counted(&sandbox, "iggy.service"), 1);

    node.request(4, "iggy stop");
    let change = node.completed(4);
    assert_eq!((change.job_result.as_deref(), change.after.unwrap().main_pid), (Some("done"), 0));
    assert_eq!(sandbox.property("iggy.service", "ActiveState"), "inactive");
}

#[test]
fn a_connector_is_an_instance_of_its_template() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy-connector@.service");
    let mut node = Node::start(&sandbox);
    node.request(1, "connector:sink:orders-pg start");
    assert_eq!(node.completed(1).unit, "iggy-connector@sink-orders-pg.service");
    assert_eq!(sandbox.property("iggy-connector@sink-orders-pg.service", "ActiveState"), "active");
    assert_eq!(counted(&sandbox, "iggy-connector@sink-orders-pg.service"), 1);
}

#[test]
fn what_is_not_there_and_what_the_agent_cannot_do_is_told_as_such() {
    let sandbox = Sandbox::boot();
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy restart");
    let (reason, result) = node.rejected(1);
    assert_eq!((reason.code, result), (Code::UnitNotFound, None));
    assert_eq!(reason.reason, "iggy.service does not exist on this host");
    node.request(2, "iggy reconfigure:7");
    assert_eq!(node.rejected(2).0.code, Code::UnsupportedAction);

    sandbox.run(&["ln", "-s", "/dev/null", "/etc/systemd/system/iggy.service"]);
    sandbox.run(&["systemctl", "daemon-reload"]);
    node.request(3, "iggy start");
    let (reason, _) = node.rejected(3);
    assert_eq!(reason.code, Code::JobFailed);
    assert_eq!(reason.reason, "systemd refused to start iggy.service: Unit iggy.service is masked.");
}

#[test]
fn a_unit_that_does_not_come_up_is_rejected_with_its_last_words_masked() {
    let sandbox = Sandbox::boot();
    let script = "for line in $(seq 30); do echo line $line; done; echo password=hunter2-canary >&2; exit 3";
    sandbox.unit(
        "iggy.service",
        &format!("[Service]\nType=notify\nExecStart=/bin/sh -c '{}'\n", script.replace('$', "$$")),
    );
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy start");
    let (reason, change) = node.rejected(1);
    let change = change.unwrap();
    // systemd says `protocol` of a service that ends without having said that it is ready, whatever its status.
    assert_eq!(reason.code, Code::JobFailed);
    assert!(reason.reason.starts_with("systemd's job to start iggy.service ended as failed: "), "{reason:?}");
    assert_eq!(change.job_result.as_deref(), Some("failed"));
    let after = change.after.unwrap();
    assert_eq!((after.active_state.as_str(), after.exit_status), ("failed", Some(3)));
    assert!(
        change.journal.len() <= 20 && change.journal.contains(&"sh: line 30".to_owned()),
        "{:?}",
        change.journal
    );
    assert!(!change.journal.contains(&"sh: line 1".to_owned()), "the newest stay");
    let all = change.journal.join("\n");
    assert!(all.contains("password=[secret:") && !all.contains("canary"), "{all}");
}

#[test]
fn a_unit_that_dies_after_two_seconds_was_not_restarted_well() {
    let sandbox = Sandbox::boot();
    sandbox.unit(
        "iggy.service",
        "[Service]\nExecStart=/bin/sh -c 'sleep 2; echo panicked at the disco; exit 101'\n",
    );
    sandbox.unit(
        "iggy-connectors.service",
        "[Service]\nRestart=always\nRestartSec=100ms\nExecStart=/bin/sh -c 'sleep 1; exit 7'\n",
    );
    let mut node = Node::start(&sandbox);
    node.request(1, "iggy restart");
    node.request(2, "connectors start");
    let (connectors, _) = node.rejected(2);
    assert_eq!(connectors.code, Code::UnitNotStable);
    let (reason, change) = node.rejected(1);
    let change = change.unwrap();
    assert_eq!(reason.code, Code::UnitNotStable);
    assert!(
        reason.reason.starts_with("iggy.service held for ")
            && reason.reason.contains("exit-code, status 101")
    );
    assert_eq!((change.job_result.as_deref(), change.after.unwrap().exit_status), (Some("done"), Some(101)));
    assert!(change.journal.contains(&"sh: panicked at the disco".to_owned()), "{:?}", change.journal);
}

/// A service that is never ready.
const NEVER_READY: &str = "[Service]\nType=notify\nTimeoutStartSec=infinity\nExecStart=/bin/sleep 1000\n";

#[test]
fn a_job_that_hangs_until_the_deadline_is_rejected_and_systemd_goes_on_with_it() {
    let sandbox = Sandbox::boot();
    sandbox.unit("iggy.service", NEVER_READY);
    let mut node = Node::start(&sandbox);
    node.send(&asked(1, "iggy start", Duration::from_secs(6)));
    let (reason, change) = node.rejected(1);
    assert_eq!(reason.code, Code::DeadlineExceeded);
    assert_eq!(
        reason.reason,
        "systemd's job to start iggy.service has not ended 12 s after the deadline, and goes on; the unit is activating (start)"
    );
    assert_eq!(change.unwrap().after.unwrap().active_state, "activating");
    node.send(&asked(2, "iggy restart", Duration::ZERO));
    let (reason, change) = node.rejected(2);
    assert_eq!((reason.code, change), (Code::DeadlineExceeded, None));
    assert_eq!(reason.reason, "the deadline was over before it was begun; nothing was done");
}

#[test]
fn a_cancel_ends_what_waits_and_not_what_systemd_has_taken() {
    let sandbox = Sandbox::boot();
    sandbox.unit("iggy.service", NEVER_READY);
    let mut node = Node::start(&sandbox);
    node.send(&asked(1, "iggy start", Duration::from_secs(8)));
    node.request(2, "iggy stop");
    until("the job is there", || {
        (sandbox.property("iggy.service", "ActiveState") == "activating").then_some(())
    });
    node.send(&ToNode::Cancel { request: 2 });
    assert_eq!(node.rejected(2).0.code, Code::Cancelled);
    node.send(&ToNode::Cancel { request: 1 });
    let mut said = Vec::new();
    let outcome = loop {
        match node.report().unwrap() {
            FromNode::Progress { request: 1, step } => said.push(step),
            FromNode::Finished(finished) if finished.request == 1 => break finished.outcome,
            _ => {}
        }
    };
    let cancelled = "it cannot be cancelled any more: systemd has been asked";
    assert_eq!(said, [cancelled, "the deadline is over; what was begun is followed for 12 s more"]);
    assert!(matches!(outcome, Outcome::Rejected { reason, .. } if reason.code == Code::DeadlineExceeded));
    assert_eq!(sandbox.property("iggy.service", "ActiveState"), "activating");
}
