//! The .deb on a real systemd.

use super::{assert_the_agent_waits, packages, sandbox};
use crate::support::sandbox::Sandbox;

fn install(sandbox: &Sandbox) {
    sandbox.run(&["dpkg", "--install", packages().deb.to_str().unwrap()]);
}

#[test]
fn installed_it_waits_for_its_enrolment_and_removed_it_leaves_what_is_the_hosts() {
    let sandbox = sandbox();
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
    let left = sandbox.run(&[
        "find",
        "/etc",
        "/var/lib",
        "/run",
        "/usr",
        "-xdev",
        "-name",
        "*warden*",
        "-not",
        "-path",
        "/run/sandbox*",
    ]);
    assert_eq!(left, "");
}
