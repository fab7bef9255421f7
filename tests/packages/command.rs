//! From an installed package to a restart that was asked for elsewhere.

use std::process::Output;

use serde_json::Value;

use crate::support::sandbox::Sandbox;
use crate::support::until;

const URL: &str = "http://127.0.0.1:7600";
const KEY_FILE: &str = "/var/lib/warden-supervisor/administrator.key";
const IGGY: &str = "[Service]\nExecStart=/bin/sleep infinity\n";

/// A host that is a node of the Supervisor on it.
pub struct Node<'a> {
    sandbox: &'a Sandbox,
    pub id: String,
}

fn ctl(sandbox: &Sandbox, arguments: &[&str]) -> Output {
    let mut command = sandbox.command("warden");
    command.arg("ctl").args(arguments).env("WARDEN_URL", URL).env("WARDEN_API_KEY_FILE", KEY_FILE);
    command.output().unwrap()
}

fn says(sandbox: &Sandbox, arguments: &[&str]) -> String {
    let output = ctl(sandbox, arguments);
    assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

impl<'a> Node<'a> {
    /// Starts the Supervisor of the package and enrols the host, as the README tells it.
    pub fn enrolled(sandbox: &'a Sandbox) -> Node<'a> {
        sandbox.unit("iggy.service", IGGY);
        sandbox.run(&["systemctl", "start", "iggy.service", "warden-supervisor.service"]);
        assert_eq!(sandbox.run(&["stat", "--format=%a %U", KEY_FILE]), "600 warden-supervisor");
        let said = sandbox.run(&["journalctl", "--unit=warden-supervisor", "--output=cat"]);
        assert!(!said.contains(sandbox.read(KEY_FILE).trim()), "the key is in the journal");

        says(sandbox, &["deployments", "create", "events"]);
        says(sandbox, &["enrolments", "create", "--into", "/root/token"]);
        let enrolled = sandbox.run(&["warden", "enroll", URL, "--token-file", "/root/token", "--json"]);
        let enrolled: Value = serde_json::from_str(&enrolled).unwrap();
        let node = Node { sandbox, id: enrolled["node"].to_string() };
        assert_eq!(sandbox.run(&["stat", "--format=%a %U", "/var/lib/warden/identity"]), "600 warden");
        node.linked();
        node
    }

    /// Waits until both sides say so.
    pub fn linked(&self) {
        until("the agent is connected", || {
            let output = self.sandbox.output(&["warden", "status"]);
            output.status.success().then_some(())
        });
        let listed: Value = serde_json::from_str(&says(self.sandbox, &["nodes", "list", "--json"])).unwrap();
        assert_eq!(listed["items"][0]["id"].to_string(), self.id);
        assert_eq!(listed["items"][0]["status"], "online");
    }

    /// Asks for a restart of iggy, which must come about, once, by an agent that is not root.
    pub fn restarts_iggy(&self) {
        let sandbox = self.sandbox;
        let agent = sandbox.property("warden.service", "MainPID");
        assert_eq!(sandbox.run(&["ps", "-o", "user=", "-p", &agent]), "warden");
        let before = sandbox.property("iggy.service", "MainPID");
        let invocation = sandbox.property("iggy.service", "InvocationID");
        let told = says(sandbox, &["restart", "iggy", "--wait"]);
        let after = sandbox.property("iggy.service", "MainPID");
        assert_ne!(before, after);
        assert_ne!(sandbox.property("iggy.service", "InvocationID"), invocation);
        let ended = format!("iggy.service is active (running), main PID {after}, took ");
        assert!(told.starts_with("completed  ") && told.contains(&ended), "{told}");
        assert!(told.ends_with("restart of iggy: 1 completed\n"), "{told}");
        let status = sandbox.run(&["warden", "status"]);
        assert!(status.contains(&format!("iggy.service, main PID {after}, since ")), "{status}");
    }

    /// The agent ends as soon as it is told to, and says so.
    pub fn stops_in_order(&self) {
        self.sandbox.run(&["systemctl", "stop", "warden.service"]);
        assert_eq!(self.sandbox.property("warden.service", "Result"), "success");
        assert_eq!(self.sandbox.property("warden.service", "ExecMainStatus"), "0");
        assert_eq!(self.sandbox.property("iggy.service", "ActiveState"), "active");
        let output = self.sandbox.output(&["warden", "status"]);
        assert_eq!(output.status.code(), Some(3));
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.starts_with("the agent does not run; start it: systemctl start warden\n"), "{told}");
        self.sandbox.run(&["systemctl", "start", "warden.service"]);
        self.linked();
    }

    /// Requests in the agent's ledger, whatever became of them.
    pub fn activities(&self) -> u64 {
        let listed: Value =
            serde_json::from_str(&says(self.sandbox, &["activities", "list", "--json"])).unwrap();
        listed["total_results"].as_u64().unwrap()
    }
}
