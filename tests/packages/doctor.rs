//! `warden doctor` on an installed node: nothing fails while nothing is wrong, and what is broken is named.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::Value;

use super::command::Node;
use super::{packages, sandbox};
use crate::support::pki::Authority;
use crate::support::sandbox::Sandbox;

const IDENTITY: &str = "/var/lib/warden/identity";
const RULE: &str = "/usr/share/polkit-1/rules.d/50-warden.rules";

/// What `warden doctor` says of each thing that does not pass, as root.
fn complaints(sandbox: &Sandbox) -> BTreeMap<String, (String, String)> {
    let output = sandbox.output(&["warden", "doctor", "--json"]);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let fails = findings.iter().any(|finding| finding["verdict"] == "fail");
    assert_eq!(output.status.code(), Some(i32::from(fails)));
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let off = findings.iter().filter(|finding| finding["verdict"] != "pass");
    off.map(|finding| {
        assert!(!text(&finding["advice"]).is_empty(), "{finding}");
        (text(&finding["about"]), (text(&finding["verdict"]), text(&finding["told"])))
    })
    .collect()
}

/// Waits until these and no others are complained of: agent and polkit take a moment to notice.
fn until_complained_of(sandbox: &Sandbox, expected: &[&str]) -> BTreeMap<String, (String, String)> {
    let began = Instant::now();
    loop {
        let told = complaints(sandbox);
        if told.keys().map(String::as_str).eq(expected.iter().copied()) {
            return told;
        }
        assert!(began.elapsed() < Duration::from_secs(60), "complains not of {expected:?}, but: {told:#?}");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn the_doctor_finds_nothing_wrong_with_a_node_that_is_well_and_names_what_is_broken() {
    let sandbox = sandbox();
    sandbox.run(&["dpkg", "--install", packages().deb.to_str().unwrap()]);
    let told = complaints(&sandbox);
    assert_eq!(told["enrolment"], ("fail".into(), "this host is not enrolled".into()));
    assert_eq!(told["agent"].0, "fail");
    assert_eq!(told["units"], ("fail".into(), "iggy.service is not-found".into()));

    let node = Node::enrolled_by_tls(&sandbox);
    well(&sandbox, &node);
    as_another_user(&sandbox);

    let identity = sandbox.read(IDENTITY);
    let change = |key: &str, value: &str| {
        let mut changed: Value = serde_json::from_str(&identity).unwrap();
        changed[key] = value.into();
        // In place: owner and mode stay.
        sandbox.write(IDENTITY, &changed.to_string());
    };
    change("credential", "wnode_of-somebody-else");
    let told = until_complained_of(&sandbox, &["credential"]);
    assert!(
        told["credential"].1.starts_with("the credential of this node is not accepted (401): "),
        "{told:?}"
    );
    change("ca", &Authority::new("another").pem());
    let told = until_complained_of(&sandbox, &["TLS"]);
    assert!(told["TLS"].1.starts_with("cannot prove that it is 127.0.0.1: "), "{told:?}");
    sandbox.write(IDENTITY, &identity);

    sandbox.run(&["chown", "root", "/var/lib/warden/ledger.sqlite"]);
    let told = until_complained_of(&sandbox, &["ledger"]);
    assert!(told["ledger"].1.starts_with("/var/lib/warden/ledger.sqlite belongs to user 0 "), "{told:?}");
    sandbox.run(&["chown", "warden", "/var/lib/warden/ledger.sqlite"]);

    sandbox.run(&["chmod", "600", "/etc/warden/supervisor.key"]);
    let told = until_complained_of(&sandbox, &["certificate"]);
    assert!(
        told["certificate"].1.contains("the user warden-supervisor may not read /etc/warden/supervisor.key"),
        "{told:?}"
    );
    sandbox.run(&["chmod", "640", "/etc/warden/supervisor.key"]);

    let rule = sandbox.read(RULE);
    sandbox.write(RULE, &rule.replace("iggy-connectors|", ""));
    let told = until_complained_of(&sandbox, &["polkit"]);
    assert_eq!(told["polkit"].1, "the agent may not start, stop, restart iggy-connectors.service");
    sandbox.write(RULE, &rule);

    sandbox.run(&["systemctl", "stop", "warden-supervisor.service"]);
    let told = until_complained_of(&sandbox, &["agent", "connection", "supervisor"]);
    assert!(
        told["connection"].1.starts_with("cannot connect to 127.0.0.1:7600: Connection refused"),
        "{told:?}"
    );
    sandbox.run(&["systemctl", "start", "warden-supervisor.service"]);

    sandbox.write("/etc/warden/policy.toml", "[[rule]]\nname = 1\n");
    let told = until_complained_of(&sandbox, &["policy"]);
    assert!(told["policy"].1.starts_with("the policy /etc/warden/policy.toml is not understood"), "{told:?}");
    sandbox.write("/etc/warden/policy.toml", "");

    sandbox.run(&["systemctl", "stop", "dbus.socket", "dbus.service"]);
    let told = until_complained_of(&sandbox, &["D-Bus"]);
    assert_eq!(told["D-Bus"].1, "no D-Bus system bus on this host");
    sandbox.run(&["systemctl", "start", "dbus.socket"]);

    sandbox.run(&["systemctl", "stop", "warden.service"]);
    let told = until_complained_of(&sandbox, &["agent", "polkit"]);
    assert_eq!(told["agent"], ("fail".into(), "it does not run".into()));
    assert_eq!(told["polkit"].0, "unknown");
    sandbox.write("/etc/warden/warden.d/50-ours.toml", "[agent]\nheartbeat = 10\n");
    let told = complaints(&sandbox);
    assert_eq!(told.keys().collect::<Vec<_>>(), ["configuration"]);
    assert!(told["configuration"].1.contains("/etc/warden/warden.d/50-ours.toml:2:1: "), "{told:?}");
}

fn well(sandbox: &Sandbox, node: &Node) {
    let told = sandbox.run(&["warden", "doctor"]);
    let (url, id) = (node.url, &node.id);
    let mut lines = told.lines();
    for (about, begin) in [
        ("configuration", "/etc/warden is understood"),
        ("policy", "/etc/warden/policy.toml has no rules: what the Supervisor asks is done"),
        ("enrolment", &format!("node {id} of deployment ")),
        ("connection", "127.0.0.1:7600 takes one, "),
        ("TLS", "it proves to be 127.0.0.1, "),
        ("credential", "the Supervisor accepts it"),
        ("clock", "as the Supervisor's"),
        ("agent", &format!("connected to {url} as node {id}")),
        ("D-Bus", "systemd answers"),
        ("units", "iggy.service is active"),
        ("units", "there is no iggy-connectors.service: this host has no connectors"),
        ("polkit", "polkit "),
        ("rights", "the agent may look at all that a snapshot asks for"),
        ("ledger", ""),
        ("disk", ""),
        ("supervisor", "warden-supervisor.service is active, to listen on 0.0.0.0:7600"),
        ("certificate", "for 127.0.0.1, valid until "),
        ("database", "SQLite, "),
        ("object store", "the folder /var/lib/warden-supervisor/objects"),
        ("room", ""),
        ("ready", "127.0.0.1:7600 says that store and object store answer"),
    ] {
        let line = lines.next().unwrap();
        assert!(line.starts_with(&format!("pass     {about:13}  {begin}")), "{about}: {line}\n{told}");
    }
    assert_eq!(lines.collect::<Vec<_>>(), ["nothing fails"]);
    // The agent that is connected was left alone.
    assert_eq!(sandbox.property("warden.service", "NRestarts"), "0");
    node.linked();
}

fn as_another_user(sandbox: &Sandbox) {
    let nobody = ["setpriv", "--reuid=nobody", "--regid=nogroup", "--clear-groups", "warden", "doctor"];
    let told = sandbox.run(&nobody);
    for about in ["enrolment", "polkit", "ledger", "certificate", "database", "object store"] {
        let line = told.lines().find(|line| line.starts_with(&format!("unknown  {about} ")));
        assert!(line.is_some(), "{about}: {told}");
    }
    assert_eq!(told.matches("-> run this as root\n").count(), 6, "{told}");
    assert!(told.ends_with("nothing of what could be seen fails; 6 could not be seen"), "{told}");
}
