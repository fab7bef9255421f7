//! Snapshots that a host takes by itself, with everything as it is on a host: units of systemd that fail, the agent,
//! and a Supervisor that is there or not.

use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

use crate::support::sandbox::Sandbox;
use crate::support::{until, until_within};

const WARDEN: &str = env!("CARGO_BIN_EXE_warden");
const URL: &str = "http://127.0.0.1:7600";
const KEY_FILE: &str = "/root/administrator.key";
const SERVICE: &str = "[Service]\nExecStart=/bin/sleep infinity\n";
const OUTBOX: &str = "/var/lib/warden/outbox";
/// Far longer than a snapshot of this machine takes.
const PATIENCE: Duration = Duration::from_secs(240);

/// A host with a Supervisor on it.
pub struct Host {
    pub sandbox: Sandbox,
    supervisor: Option<Child>,
    agent: Option<Child>,
}

impl Host {
    fn enrolled() -> Host {
        Host::enrolled_on(Sandbox::boot())
    }

    pub fn enrolled_on(sandbox: Sandbox) -> Host {
        for unit in ["iggy.service", "iggy-connectors.service"] {
            if sandbox.read(&format!("/etc/systemd/system/{unit}")).is_empty() {
                sandbox.unit(unit, SERVICE);
            }
            sandbox.run(&["systemctl", "add-wants", "sandbox.target", unit]);
            sandbox.run(&["systemctl", "start", unit]);
        }
        sandbox.write("/etc/warden/warden.toml", "[agent]\niggy_api = \"none\"\n");
        let mut host = Host { sandbox, supervisor: None, agent: None };
        host.starts_supervisor(&["--administrator-key-file", KEY_FILE]);
        host.says(&["deployments", "create", "events"]);
        host.says(&["enrolments", "create", "--into", "/root/token"]);
        host.sandbox.run(&[WARDEN, "enroll", URL, "--token-file", "/root/token"]);
        host.starts_agent();
        host
    }

    fn starts_supervisor(&mut self, more: &[&str]) {
        // One that was killed a moment ago may still have the port.
        until("the Supervisor listens", || {
            let ended = self.supervisor.as_mut().is_none_or(|child| child.try_wait().unwrap().is_some());
            if ended {
                let mut command = self.sandbox.command(WARDEN);
                command.args(["supervisor", "--listen", "127.0.0.1:7600"]).args(more);
                self.supervisor = Some(started(command));
            }
            self.ctl(&["deployments", "list"]).status.success().then_some(())
        });
    }

    pub fn starts_agent(&mut self) {
        self.begins_agent();
        until("the agent is connected", || {
            self.sandbox.output(&[WARDEN, "status"]).status.success().then_some(())
        });
    }

    pub fn stops_agent(&mut self) {
        kill(&mut self.agent);
    }

    fn begins_agent(&mut self) {
        let mut command = self.sandbox.command(WARDEN);
        command.arg("agent");
        self.agent = Some(started(command));
    }

    pub fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.sandbox.command(WARDEN);
        command.arg("ctl").args(arguments).env("WARDEN_URL", URL).env("WARDEN_API_KEY_FILE", KEY_FILE);
        command.output().unwrap()
    }

    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn snapshots(&self) -> Vec<Value> {
        let listed: Value = serde_json::from_str(&self.says(&["snapshots", "list", "--json"])).unwrap();
        listed["items"].as_array().unwrap().clone()
    }

    /// The snapshots, when there are so many and each has ended.
    pub fn has_snapshots(&self, count: usize) -> Vec<Value> {
        let began = Instant::now();
        loop {
            let all = self.snapshots();
            let ended = all.iter().all(|snapshot| snapshot["status"] != "processing");
            if all.len() == count && ended {
                return all;
            }
            let triggers = self.sandbox.read("/var/lib/warden/triggers.json");
            assert!(began.elapsed() < PATIENCE, "no {count} snapshots: {all:#?}; triggers: {triggers}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }

    /// As it dies of a defect.
    fn kills(&self, unit: &str) {
        self.sandbox.run(&["systemctl", "kill", "--signal=KILL", "--kill-who=main", unit]);
        until("the unit has failed", || {
            (self.sandbox.property(unit, "ActiveState") == "failed").then_some(())
        });
    }

    /// Kills it again, and waits until the agent has seen that.
    fn kills_once_more(&self, unit: &str) {
        let before = self.seen(unit);
        self.sandbox.run(&["systemctl", "start", unit]);
        self.kills(unit);
        until("the agent has seen the failure", || {
            let seen = self.seen(unit);
            (seen.is_some() && seen != before).then_some(())
        });
    }

    /// Which failure of a unit the agent has seen last.
    fn seen(&self, unit: &str) -> Option<i64> {
        let kept: Value = serde_json::from_str(&self.sandbox.read("/var/lib/warden/triggers.json")).ok()?;
        kept["going_on"][format!("unit-failed {unit}")].as_i64()
    }

    fn outbox(&self) -> Vec<String> {
        let listed = self.sandbox.run(&["ls", OUTBOX]);
        listed.lines().map(str::to_owned).collect()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        for child in [&mut self.agent, &mut self.supervisor] {
            kill(child);
        }
    }
}

fn started(mut command: Command) -> Child {
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
}

fn kill(child: &mut Option<Child>) {
    if let Some(mut child) = child.take() {
        let _ = child.kill();
        let _ = child.wait();
    }
}

#[test]
fn a_unit_that_fails_leads_to_one_snapshot_and_failing_again_to_no_other() {
    let mut host = Host::enrolled();
    host.kills("iggy.service");
    let snapshots = host.has_snapshots(1);
    let snapshot = &snapshots[0];
    assert_eq!(snapshot["status"], "completed", "{snapshot:#}");
    assert_eq!(snapshot["trigger"]["kind"], "unit_failed");
    assert_eq!(snapshot["trigger"]["reason"], "iggy.service failed: signal");
    let listed = host.says(&["snapshots", "list"]);
    assert!(listed.contains("TRIGGER") && listed.contains("iggy.service failed: signal"), "{listed}");
    let audit = host.says(&["audit", "list", "--json"]);
    let audit: Value = serde_json::from_str(&audit).unwrap();
    assert_eq!(audit["items"][0]["action"], "snapshot.offer", "{audit:#}");
    let id = snapshot["id"].as_str().unwrap().to_owned();
    host.says(&["snapshots", "download", &id, "--output", "/root/taken.zip"]);
    let verified = host.sandbox.output(&[WARDEN, "verify", "/root/taken.zip"]);
    assert_eq!(verified.status.code(), Some(0), "{verified:?}");

    host.kills_once_more("iggy.service");
    kill(&mut host.agent);
    host.starts_agent();
    host.kills_once_more("iggy.service");
    assert_eq!(host.snapshots().len(), 1, "the limit holds, also over a restart of the agent");
    assert_eq!(host.outbox(), [""; 0]);
}

#[test]
fn what_is_taken_while_the_supervisor_is_away_arrives_when_it_returns() {
    let mut host = Host::enrolled();
    kill(&mut host.supervisor);
    host.kills("iggy-connectors.service");
    let kept = until_within(PATIENCE, "the snapshot waits on disk", || {
        let files = host.outbox();
        (files.len() == 3).then_some(files)
    });
    assert!(kept.iter().all(|name| name.starts_with("offer-")), "{kept:?}");
    // It outlives the agent, too.
    kill(&mut host.agent);
    host.begins_agent();
    host.starts_supervisor(&[]);
    let snapshots = host.has_snapshots(1);
    assert_eq!(snapshots[0]["status"], "completed", "{snapshots:#?}");
    assert_eq!(snapshots[0]["trigger"]["reason"], "iggy-connectors.service failed: signal");
    until("nothing is left of it", || host.outbox().is_empty().then_some(()));
}
