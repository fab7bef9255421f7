//! The agent as its own user: polkit lets it manage its units and no others.

use warden::protocol::Code;

use super::node::{Node, Start};
use super::{counted, runs};
use crate::support::sandbox::Sandbox;
use crate::support::until;

const RULES: &str = include_str!("../../packaging/polkit/50-warden.rules");

/// A sandbox with the user and the polkit rule of the package.
pub fn with_an_agents_user() -> Sandbox {
    let sandbox = Sandbox::boot();
    sandbox.run(&[
        "useradd",
        "--system",
        "--groups",
        "systemd-journal",
        "--shell",
        "/usr/sbin/nologin",
        "warden",
    ]);
    sandbox.write("/usr/share/polkit-1/rules.d/50-warden.rules", RULES);
    sandbox
}

#[test]
fn the_agents_user_manages_the_units_of_iggy() {
    let sandbox = with_an_agents_user();
    runs(&sandbox, "iggy.service");
    runs(&sandbox, "iggy-connector@.service");
    let mut node = Node::start_as(&sandbox, &Start { user: "warden", ..Start::default() }).unwrap();
    for (request, what) in
        (1..).zip(["iggy start", "iggy restart", "iggy stop", "connector:source:s3_in start"])
    {
        node.request(request, what);
        assert_eq!(node.completed(request).job_result.as_deref(), Some("done"), "{what}");
    }
    assert_eq!(counted(&sandbox, "iggy.service"), 2);
    assert_eq!(counted(&sandbox, "iggy-connector@source-s3_in.service"), 1);
}

#[test]
fn it_manages_no_other_unit_and_nobody_else_manages_these() {
    let sandbox = with_an_agents_user();
    for unit in
        ["iggy.service", "iggy2.service", "xiggy.service", "iggy-connector@sink-.service", "cron.service"]
    {
        runs(&sandbox, unit);
    }
    for (user, unit) in [
        ("warden", "iggy2.service"),
        ("warden", "xiggy.service"),
        ("warden", "iggy-connector@sink-.service"),
        ("warden", "cron.service"),
        ("daemon", "iggy.service"),
    ] {
        let state = format!("/var/lib/{user}-{unit}");
        let start = Start { user, iggy: unit, state: &state, ..Start::default() };
        let mut node = Node::start_as(&sandbox, &start).unwrap();
        node.request(1, "iggy start");
        let (reason, change) = node.rejected(1);
        assert_eq!(reason.code, Code::PermissionDenied, "{user} {unit} {reason:?}");
        assert_eq!(reason.reason, format!("polkit does not let the agent start {unit} on this host"));
        assert_eq!(change.unwrap().after, None);
        assert_eq!(counted(&sandbox, unit), 0);
    }
}

#[test]
fn the_rule_is_for_starting_and_stopping_alone() {
    let sandbox = with_an_agents_user();
    runs(&sandbox, "iggy.service");
    sandbox.run(&["systemctl", "start", "iggy.service"]);
    let may = |arguments: &[&str]| {
        let command =
            [&["setpriv", "--reuid=warden", "--regid=warden", "--init-groups", "--"][..], arguments];
        sandbox.output(&command.concat()).status.success()
    };
    assert!(may(&["systemctl", "restart", "iggy.service"]));
    for refused in [
        &["systemctl", "kill", "iggy.service"][..],
        &["systemctl", "set-property", "iggy.service", "CPUWeight=1"],
        &["systemctl", "mask", "iggy.service"],
        &["systemctl", "daemon-reload"],
        &["systemctl", "reload", "iggy.service"],
        &["systemctl", "reboot"],
    ] {
        assert!(!may(refused), "{refused:?}");
    }
}

/// Asks a slow program before the rule of the package is asked, as a rule of the site may.
const SLOW: &str = r#"polkit.addRule(function(action, subject) {
    if (action.id == "org.freedesktop.systemd1.manage-units") {
        try { polkit.spawn(["/bin/sleep", "7.25"]); } catch (error) {}
    }
});
"#;

#[test]
fn a_call_that_polkit_thinks_over_for_longer_than_the_agent_lives_is_not_made_again() {
    let sandbox = with_an_agents_user();
    sandbox.write("/etc/polkit-1/rules.d/10-slow.rules", SLOW);
    runs(&sandbox, "iggy.service");
    sandbox.run(&["systemctl", "start", "iggy.service"]);
    let start = Start { user: "warden", ..Start::default() };
    let mut node = Node::start_as(&sandbox, &start).unwrap();
    node.request(1, "iggy restart");
    until("polkit is asked", || {
        sandbox.output(&["pgrep", "--full", "--exact", "/bin/sleep 7.25"]).status.success().then_some(())
    });
    node.kill();
    assert_eq!(counted(&sandbox, "iggy.service"), 1);
    let mut node = Node::start_as(&sandbox, &start).unwrap();
    assert!(node.outcome(1).is_completed());
    assert_eq!(counted(&sandbox, "iggy.service"), 2);
}
