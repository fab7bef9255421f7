//! The .deb on a real systemd.

use super::command::Node;
use super::{assert_the_agent_waits, packages, sandbox};
use crate::support::sandbox::Sandbox;

fn install(sandbox: &Sandbox) {
    sandbox.run(&["dpkg", "--install", packages().deb.to_str().unwrap()]);
}

/// Lists the files whose name has `warden` in it: those of the host beneath the sandbox are none of
/// the package's.
fn files_called_warden(sandbox: &Sandbox) -> Vec<String> {
    let places = ["/etc", "/var/lib", "/run", "/usr"];
    let found = sandbox.run(
        &[&["find"], &places[..], &["-xdev", "-name", "*warden*", "-not", "-path", "/run/sandbox*"]].concat(),
    );
    let mut files: Vec<String> = found.lines().map(str::to_owned).collect();
    files.sort();
    files
}

#[test]
fn installed_it_waits_for_its_enrolment_and_removed_it_leaves_what_is_the_hosts() {
    let sandbox = sandbox();
    let before = files_called_warden(&sandbox);
    install(&sandbox);
    assert_the_agent_waits(&sandbox);

    sandbox.write("/etc/warden/warden.d/50-ours.toml", "[agent]\nheartbeat_seconds = 10\n");
    sandbox.write("/var/lib/warden/kept", "by a removal\n");
    sandbox.run(&["dpkg", "--remove", "warden"]);
    assert!(!sandbox.root().join("usr/bin/warden").exists());
    assert_eq!(sandbox.property("warden.service", "ActiveState"), "inactive");
    assert_eq!(sandbox.read("/var/lib/warden/kept"), "by a removal\n");
    assert!(sandbox.read("/etc/warden/policy.toml").starts_with("# What this host allows"));

    install(&sandbox);
    assert_the_agent_waits(&sandbox);
    assert_eq!(sandbox.read("/var/lib/warden/kept"), "by a removal\n");

    sandbox.run(&["dpkg", "--purge", "warden"]);
    assert_eq!(files_called_warden(&sandbox), before);
}

#[test]
fn what_was_disabled_before_a_removal_stays_down_after_it() {
    let sandbox = sandbox();
    install(&sandbox);
    assert_the_agent_waits(&sandbox);
    sandbox.run(&["systemctl", "disable", "--now", "warden.service"]);
    sandbox.run(&["dpkg", "--remove", "warden"]);
    install(&sandbox);
    for unit in ["warden.service", "warden-supervisor.service"] {
        assert_eq!(sandbox.property(unit, "UnitFileState"), "disabled", "{unit}");
        assert_eq!(sandbox.property(unit, "ActiveState"), "inactive", "{unit}");
    }
}

#[test]
fn a_host_becomes_a_node_and_stays_one_through_removal_and_reinstallation() {
    let sandbox = sandbox();
    install(&sandbox);
    let node = Node::enrolled(&sandbox);
    node.restarts_iggy();
    node.sees_what_root_sees();
    node.stops_in_order();
    let ledger = sandbox.run(&["stat", "--format=%i", "/var/lib/warden/ledger.sqlite"]);

    sandbox.run(&["dpkg", "--remove", "warden"]);
    assert_eq!(sandbox.property("iggy.service", "ActiveState"), "active");
    install(&sandbox);
    // Both were enabled, and both are back.
    assert_eq!(sandbox.property("warden-supervisor.service", "UnitFileState"), "enabled");
    node.linked();
    assert_eq!(sandbox.run(&["stat", "--format=%i", "/var/lib/warden/ledger.sqlite"]), ledger);
    node.restarts_iggy();
    assert_eq!(node.activities(), 2);

    // The same version over itself, as a newer one over an older: what runs goes on, and the agent is the new one.
    let before = sandbox.property("warden.service", "MainPID");
    let iggy = sandbox.property("iggy.service", "MainPID");
    install(&sandbox);
    assert_ne!(sandbox.property("warden.service", "MainPID"), before);
    assert_eq!(sandbox.property("iggy.service", "MainPID"), iggy);
    node.linked();
    node.restarts_iggy();
}
