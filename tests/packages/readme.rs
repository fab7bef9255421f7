//! The way that docs/operations.md tells, walked as it stands there: two fresh hosts, a private authority, a restart.

use super::{packages, sandbox};
use crate::support::sandbox::Sandbox;
use crate::support::until;

const OPERATIONS: &str = include_str!("../../docs/operations.md");
const HEADING: &str = "## Two fresh hosts with a private CA\n";
const IGGY: &str = "[Service]\nUser=nobody\nExecStart=/bin/sleep infinity\n";

/// The blocks of commands below the heading, in their order.
fn blocks() -> Vec<String> {
    let (_, section) = OPERATIONS.split_once(HEADING).unwrap();
    let section = section.split("\n## ").next().unwrap();
    let blocks = section.split("```sh\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    // What stands in for a repository of packages.
    let install = format!("dpkg --install {}", packages().deb.display());
    let line =
        |line: &str| if line.starts_with("apt-get install ") { install.clone() } else { line.to_owned() };
    blocks.map(|block| block.lines().map(line).collect::<Vec<_>>().join("\n")).collect()
}

fn shell(sandbox: &Sandbox, commands: &str) -> String {
    sandbox.run(&["bash", "-euo", "pipefail", "-c", &format!("cd /root\n{commands}")])
}

#[test]
fn from_two_fresh_hosts_with_a_private_authority_to_a_restart() {
    let blocks = blocks();
    let [at_the_supervisor, on_the_node, from_anywhere] = &blocks[..] else { panic!("{blocks:#?}") };
    let (supervisor, node) = (sandbox(), sandbox());
    supervisor.wire(&node, "10.77.0.1", "10.77.0.2");
    for host in [&supervisor, &node] {
        let known = host.read("/etc/hosts");
        host.write("/etc/hosts", &format!("{known}\n10.77.0.1 warden.example.com\n"));
    }
    node.unit("iggy.service", IGGY);
    node.run(&["systemctl", "start", "iggy.service"]);

    let told = shell(&supervisor, at_the_supervisor);
    let fingerprint = told.split_once("fingerprint of the authority:\n  ").unwrap().1.lines().next().unwrap();
    assert_eq!(fingerprint.len(), 64, "{told}");
    assert!(told.contains("pass     certificate    for warden.example.com, valid until "), "{told}");
    assert_eq!(
        supervisor.run(&["stat", "--format=%a %U %G", "/etc/warden/supervisor.key"]),
        "640 root warden-supervisor"
    );
    assert_eq!(
        supervisor.run(&["stat", "--format=%a %U %G", "/etc/warden/supervisor-ca.key"]),
        "600 root root"
    );

    node.write("/root/token", &supervisor.read("/root/token"));
    let told = shell(&node, &on_the_node.replace("FINGERPRINT", fingerprint));
    assert!(told.contains(&format!("which it believes by the authority {fingerprint} alone")), "{told}");
    assert!(told.contains("pass     TLS            it proves to be warden.example.com, "), "{told}");
    assert!(told.ends_with("nothing fails"), "{told}");

    // The node's own root needs no word of the authority: its agent knows it.
    node.write("/root/key", &supervisor.read("/var/lib/warden-supervisor/administrator.key"));
    node.run(&["chmod", "600", "/root/key"]);
    let without_ca = "export WARDEN_URL=https://warden.example.com:7600 WARDEN_API_KEY_FILE=/root/key\nwarden ctl nodes list";
    assert!(shell(&node, without_ca).contains("online"));

    let variables =
        at_the_supervisor.lines().filter(|line| line.starts_with("export ")).collect::<Vec<_>>().join("\n");
    let before = node.property("iggy.service", "MainPID");
    let told = shell(&supervisor, &format!("{variables}\n{from_anywhere}"));
    assert!(told.ends_with("restart of iggy: 1 completed"), "{told}");
    assert_ne!(node.property("iggy.service", "MainPID"), before);
    // A snapshot's archive goes by the same authority.
    let told = shell(&supervisor, &format!("{variables}\nwarden ctl snapshots create --without-iggy --wait"));
    assert!(told.contains("completed"), "{told}");

    // The Supervisor's own doctor, and what it says when the key is not for its user.
    let told = supervisor.output(&["warden", "doctor"]);
    let told = String::from_utf8(told.stdout).unwrap();
    for line in [
        "pass     supervisor     warden-supervisor.service is active, to listen on 0.0.0.0:7600\n",
        "pass     certificate    for warden.example.com, valid until ",
        "pass     database       SQLite, ",
        "pass     object store   the folder /var/lib/warden-supervisor/objects\n",
        "pass     ready          127.0.0.1:7600 says that store and object store answer\n",
    ] {
        assert!(told.contains(line), "{line}\n{told}");
    }
    supervisor.run(&["chmod", "600", "/etc/warden/supervisor.key"]);
    let output = supervisor.output(&["warden", "supervisor", "--check-config"]);
    let told = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(told.contains("the user warden-supervisor may not read /etc/warden/supervisor.key\n"), "{told}");
    supervisor.run(&["chmod", "640", "/etc/warden/supervisor.key"]);

    // A renewal is taken up, and nobody has to be told.
    shell(&supervisor, "warden supervisor init-tls --renew && systemctl reload warden-supervisor");
    until("the renewed certificate is served", || {
        let said = supervisor.run(&["journalctl", "--unit=warden-supervisor", "--output=cat"]);
        said.contains("the certificate was read anew").then_some(())
    });
    node.run(&["systemctl", "restart", "warden.service"]);
    until("the agent is connected again", || {
        node.output(&["warden", "status"]).status.success().then_some(())
    });
    assert_eq!(node.run(&["systemctl", "show", "--property=CanReload", "--value", "warden.service"]), "yes");
    node.run(&["systemctl", "reload", "warden.service"]);
    assert_eq!(node.property("warden.service", "NRestarts"), "0");
}
