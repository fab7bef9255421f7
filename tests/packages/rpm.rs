//! The .rpm on a real systemd. The host is a Debian: what the package needs is there, rpm just does not know.

use super::command::Node;
use super::{assert_the_agent_waits, packages, sandbox};
use crate::support::sandbox::Sandbox;

fn install(sandbox: &Sandbox) {
    sandbox.run(&["rpm", "--install", "--nodeps", packages().rpm.to_str().unwrap()]);
}

#[test]
fn installed_it_waits_for_its_enrolment_and_erased_it_leaves_what_is_the_hosts() {
    let sandbox = sandbox();
    install(&sandbox);
    assert_the_agent_waits(&sandbox);

    sandbox.write("/etc/warden/policy.toml", "# ours\n");
    sandbox.write("/var/lib/warden/kept", "by an erasure\n");
    sandbox.run(&["rpm", "--erase", "warden"]);
    assert!(!sandbox.root().join("usr/bin/warden").exists());
    assert_eq!(sandbox.property("warden.service", "ActiveState"), "inactive");
    assert_eq!(sandbox.read("/var/lib/warden/kept"), "by an erasure\n");
    assert_eq!(sandbox.read("/etc/warden/policy.toml.rpmsave"), "# ours\n");

    install(&sandbox);
    assert_the_agent_waits(&sandbox);
    assert_eq!(sandbox.read("/var/lib/warden/kept"), "by an erasure\n");
}

#[test]
fn what_was_enabled_before_an_erasure_runs_again_after_it_and_nothing_else() {
    let sandbox = sandbox();
    install(&sandbox);
    sandbox.run(&["systemctl", "disable", "--now", "warden.service"]);
    sandbox.run(&["systemctl", "enable", "--now", "warden-supervisor.service"]);
    sandbox.run(&["rpm", "--erase", "warden"]);
    install(&sandbox);
    for (unit, enabled, active) in
        [("warden.service", "disabled", "inactive"), ("warden-supervisor.service", "enabled", "active")]
    {
        assert_eq!(sandbox.property(unit, "UnitFileState"), enabled, "{unit}");
        assert_eq!(sandbox.property(unit, "ActiveState"), active, "{unit}");
    }
    assert!(!sandbox.root().join("etc/warden/.enabled-before-erasure").exists());
}

#[test]
fn a_host_that_presets_it_off_is_left_in_peace() {
    let sandbox = sandbox();
    sandbox.write("/etc/systemd/system-preset/00-ours.preset", "disable warden.service\n");
    install(&sandbox);
    assert_eq!(sandbox.property("warden.service", "UnitFileState"), "disabled");
    assert_eq!(sandbox.property("warden.service", "ActiveState"), "inactive");
}

#[test]
fn a_host_becomes_a_node_and_stays_one_through_an_upgrade() {
    let sandbox = sandbox();
    install(&sandbox);
    let node = Node::enrolled_by_tls(&sandbox);
    node.restarts_iggy();
    node.tells_what_it_may_not_see();
    let before = sandbox.property("warden.service", "MainPID");
    let package = packages().rpm.to_str().unwrap();
    sandbox.run(&["rpm", "--upgrade", "--force", "--nodeps", package]);
    assert_ne!(sandbox.property("warden.service", "MainPID"), before);
    node.linked();
    node.restarts_iggy();
    node.stops_in_order();
}
