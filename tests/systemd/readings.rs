//! What the agent reads of units that end in every way, and what its flight recorder makes of it.

use std::process::{Child, Stdio};
use std::sync::Arc;

use warden::agent::runtime_stats::{Readings, RuntimeReading};
use warden::systemd::Bus;
use warden_host::recorder::Recording;

use super::runs;
use crate::support::sandbox::Sandbox;
use crate::support::until;

/// Iggy's unit as it is read from outside of the sandbox, where its processes have other numbers.
fn read(sandbox: &Sandbox) -> RuntimeReading {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let readings = Readings::new(toml::from_str("").unwrap(), Arc::new(Bus::at(&sandbox.bus_address())));
        readings.runtimes().await.unwrap()[0].clone()
    })
}

fn ended(sandbox: &Sandbox, state: &str) -> (String, Option<bool>) {
    let facts = until("the unit has ended", || {
        let facts = read(sandbox).facts;
        (facts.active_state == state).then_some(facts)
    });
    (facts.result, facts.by_itself)
}

#[test]
fn a_unit_that_ended_by_itself_is_told_from_one_that_was_stopped() {
    let sandbox = Sandbox::boot();
    let start = |script: &str| {
        sandbox
            .unit("iggy.service", &format!("[Service]\nExecStart=/bin/sh -c '{script}'\nTimeoutStopSec=1\n"));
        // Enabled, as on a host: systemd forgets a unit that is down and that nothing refers to.
        sandbox.run(&["systemctl", "add-wants", "sandbox.target", "iggy.service"]);
        sandbox.run(&["systemctl", "start", "iggy.service"]);
    };
    assert_eq!(
        (read(&sandbox).facts.active_state.as_str(), read(&sandbox).facts.by_itself),
        ("inactive", None)
    );
    start("exec sleep 1000");
    assert_eq!(read(&sandbox).facts.by_itself, None);
    sandbox.run(&["systemctl", "stop", "iggy.service"]);
    assert_eq!(ended(&sandbox, "inactive"), ("success".to_owned(), Some(false)));
    start("exec sleep 1000");
    sandbox.run(&["kill", &sandbox.property("iggy.service", "MainPID")]);
    assert_eq!(
        ended(&sandbox, "inactive"),
        ("success".to_owned(), Some(true)),
        "SIGTERM is a clean end for systemd"
    );
    start("exec sleep 1000");
    sandbox.run(&["kill", "-KILL", &sandbox.property("iggy.service", "MainPID")]);
    assert_eq!(ended(&sandbox, "failed"), ("signal".to_owned(), Some(true)));
    start("exit 3");
    assert_eq!(ended(&sandbox, "failed"), ("exit-code".to_owned(), Some(true)));
    start("trap \"\" TERM; while :; do sleep 1; done");
    sandbox.run(&["systemctl", "stop", "iggy.service"]);
    assert_eq!(ended(&sandbox, "failed"), ("timeout".to_owned(), Some(false)));
}

#[test]
fn a_glance_sees_what_has_changed_and_only_then_asks_for_all() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    sandbox.run(&["systemctl", "start", "iggy.service"]);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let bus = Arc::new(Bus::at(&sandbox.bus_address()));
        let readings = Readings::new(toml::from_str("").unwrap(), bus);
        let first = readings.runtimes().await.unwrap();
        assert_eq!(first[0].facts.active_state, "active");
        assert!(Arc::ptr_eq(&first, &readings.glance().await.unwrap()), "it was read just now");
        sandbox.run(&["systemctl", "stop", "iggy.service"]);
        let stopped = loop {
            let readings = readings.glance().await.unwrap();
            if !Arc::ptr_eq(&first, &readings) {
                break readings;
            }
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        };
        assert_eq!((stopped[0].facts.active_state.as_str(), stopped[0].facts.main_pid), ("inactive", 0));
    });
}

/// An agent that is not enrolled, as a process of the sandbox.
struct Agent(Child);

impl Agent {
    fn start(sandbox: &Sandbox) -> Agent {
        sandbox.write("/etc/warden/warden.toml", "[agent]\niggy_api = \"none\"\n");
        let mut command = sandbox.command(env!("CARGO_BIN_EXE_warden"));
        command.arg("agent").stdin(Stdio::null());
        Agent(command.spawn().unwrap())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn recorded(sandbox: &Sandbox) -> Recording {
    let folder = sandbox.root().join("var/lib/warden/recorder");
    let entries = std::fs::read_dir(folder).into_iter().flatten();
    let mut paths: Vec<_> = entries.map(|entry| entry.unwrap().path()).collect();
    paths.sort();
    let mut recording = Recording::default();
    paths.iter().for_each(|path| recording.read(&std::fs::read_to_string(path).unwrap()));
    recording
}

#[test]
fn the_agent_records_a_crash() {
    let sandbox = Sandbox::boot();
    let script = "/bin/sh -c 'exec sleep 1000'";
    sandbox.unit("iggy.service", &format!("[Service]\nExecStart={script}\nRestart=always\nRestartSec=1\n"));
    sandbox.run(&["systemctl", "start", "iggy.service"]);
    let _agent = Agent::start(&sandbox);
    let pid = sandbox.property("iggy.service", "MainPID");
    until("a sample has the unit", || {
        let recording = recorded(&sandbox);
        let (unit, seen) = recording.units().next()?;
        (unit == "iggy.service" && seen[0].pid.to_string() == pid).then_some(())
    });
    sandbox.run(&["kill", "-KILL", &pid]);
    until("the recorder has seen that systemd started it again", || {
        let recording = recorded(&sandbox);
        recording.marks.iter().any(|mark| mark.cause == "restarted").then_some(())
    });
}
