//! The agent killed at every single write to its ledger, and at every message to the bus: nothing is done twice, and
//! nothing stays open.
//!
//! strace(1) kills it as the n-th system call of a kind is entered, for every n until one that it does not come to.
//! What a unit went through is counted by the unit itself, which writes down each of its starts.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use warden::protocol::ToNode;

use super::node::{Node, Start, asked};
use super::privileges::with_an_agents_user;
use super::{counted, runs};
use crate::support::sandbox::Sandbox;

/// Short, so that hundreds of runs are not long; what is tested is the same.
const SETTLE: Duration = Duration::from_millis(100);
const DEADLINE: Duration = Duration::from_secs(60);
/// Runs at once: they mostly wait.
const AT_ONCE: usize = 6;
/// Calls it may come to: ten times what it does.
const MOST: usize = 1_000;

/// What SQLite writes its files with.
const WRITES: &[&str] = &["pwrite64", "fsync", "ftruncate", "unlink"];

/// Where to kill: as the n-th such call is entered.
#[derive(Debug, Clone, Copy)]
struct Point {
    call: &'static str,
    number: usize,
    /// Only calls on the ledger's files.
    ledger: bool,
}

#[test]
fn a_restart_is_done_once_whichever_write_to_the_ledger_is_the_last() {
    let found = at_every_write("restart");
    assert!(found > 40, "only {found} writes were found");
}

#[test]
fn a_start_and_a_stop_too() {
    for action in ["start", "stop"] {
        let found = at_every_write(action);
        assert!(found > 40, "only {found} writes were found");
    }
}

#[test]
fn a_restart_is_done_once_whichever_message_to_the_bus_is_the_last() {
    let sandbox = sandbox();
    let found = at_every(&sandbox, "restart", Point { call: "sendmsg", number: 0, ledger: false });
    assert!(found > 15, "only {found} messages were found");
}

/// Moments of a slow restart at which the agent is killed, this far apart: more than all of it takes.
const MOMENTS: u64 = 48;
const MOMENT: Duration = Duration::from_millis(35);
/// Ends half a second after it is told to, and takes a third of one to start: each part is under way when some moment
/// comes.
const SLOW: &str = "[Service]\nExecStartPre=/bin/sh -c 'echo %n >> /run/starts; sleep 0.3'\nTimeoutStopSec=20\n\
     ExecStart=/bin/sh -c 'trap \"sleep 0.5; exit 0\" TERM; while :; do sleep 0.05; done'\n";
/// Does not end at all, and is killed.
const DEAF: &str = "[Service]\nExecStartPre=/bin/sh -c 'echo %n >> /run/starts; sleep 0.3'\nTimeoutStopSec=500ms\n\
     ExecStart=/bin/sh -c 'trap \"\" TERM; while :; do sleep 0.05; done'\n";

#[test]
fn a_slow_restart_is_done_once_and_completed_whenever_the_agent_is_killed() {
    let sandbox = with_an_agents_user();
    sandbox.unit("iggy-connector@.service", SLOW);
    let told = at_moments(&sandbox, "slow");
    assert!(told.iter().all(|forced| !forced), "a stop that ends by itself is forced");
}

#[test]
fn a_restart_of_what_must_be_killed_too() {
    let sandbox = with_an_agents_user();
    sandbox.unit("iggy-connector@.service", DEAF);
    let told = at_moments(&sandbox, "deaf");
    // Who was away at that very moment reads it in the journal.
    let forced = told.iter().filter(|forced| **forced).count();
    assert_eq!(forced, told.len(), "told as forced");
}

/// Restarts a unit of its own for each moment, kills the agent at that moment, and returns which stops were told as
/// forced.
fn at_moments(sandbox: &Sandbox, kind: &str) -> Vec<bool> {
    let next = AtomicUsize::new(0);
    let told = std::sync::Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let moment = next.fetch_add(1, Ordering::Relaxed) as u64;
                    if moment >= MOMENTS {
                        return;
                    }
                    let forced = killed_after(sandbox, &format!("{kind}-{moment}"), moment);
                    told.lock().unwrap().push(forced);
                }
            });
        }
    });
    told.into_inner().unwrap()
}

/// However it went, the restart was done once and is told as completed.
fn killed_after(sandbox: &Sandbox, name: &str, moment: u64) -> bool {
    let unit = format!("iggy-connector@sink-{name}.service");
    let state = format!("/var/lib/warden-{name}");
    sandbox.run(&["systemctl", "start", &unit]);
    let start = Start { state: &state, user: "warden", settle: SETTLE, ..Start::default() };
    let request = 1_000 + moment;
    let ask = asked(request, &format!("connector:sink:{name} restart"), DEADLINE);
    let mut node = Node::start_as(sandbox, &start).unwrap();
    node.send(&ask);
    std::thread::sleep(MOMENT * u32::try_from(moment).unwrap());
    node.kill();
    let mut node = Node::start_as(sandbox, &start).unwrap();
    if !node.open.contains(&request) {
        node.send(&ask);
    }
    let change = node.completed(request);
    node.send(&ToNode::Settled { request });
    assert_eq!(node.open_after_restart(sandbox, &start), [0_u64; 0], "{name} stays open");
    assert_eq!(counted(sandbox, &unit), 2, "{name}");
    assert_eq!(sandbox.property(&unit, "ActiveState"), "active", "{name}");
    change.forced
}

fn at_every_write(action: &str) -> usize {
    let sandbox = sandbox();
    WRITES.iter().map(|call| at_every(&sandbox, action, Point { call, number: 0, ledger: true })).sum()
}

fn sandbox() -> Sandbox {
    let sandbox = with_an_agents_user();
    runs(&sandbox, "iggy-connector@.service");
    sandbox
}

/// Does `action` to a unit of its own for each point of a kind, and returns how many points there were.
fn at_every(sandbox: &Sandbox, action: &str, kind: Point) -> usize {
    let (next, end) = (AtomicUsize::new(1), AtomicUsize::new(MOST));
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    if number >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    if !killed_at(sandbox, action, Point { number, ..kind }) {
                        end.fetch_min(number, Ordering::Relaxed);
                    }
                }
            });
        }
    });
    let end = end.into_inner();
    assert!(end < MOST, "it never came through");
    end - 1
}

/// Whether it was killed. However it went, the action was done once, is told as completed, and nothing is open.
fn killed_at(sandbox: &Sandbox, action: &str, point: Point) -> bool {
    let name = format!("{action}-{}-{}", point.call, point.number);
    let unit = format!("iggy-connector@sink-{name}.service");
    let what = format!("connector:sink:{name} {action}");
    let state = format!("/var/lib/warden-{name}");
    let runs_before = action != "start";
    if runs_before {
        sandbox.run(&["systemctl", "start", &unit]);
    }
    let strace = strace(point, &state);
    let start = Start { state: &state, user: "warden", settle: SETTLE, under: strace, ..Start::default() };
    let request = point.number as u64;
    let ask = asked(request, &what, DEADLINE);

    // A Supervisor sends what a node does not have as open, and settles what has ended.
    let mut done = false;
    if let Some(mut node) = Node::start_as(sandbox, &start) {
        node.send(&ask);
        if node.end_of(request).is_some() {
            node.send(&ToNode::Settled { request });
            done = node.ended_well();
        }
    }
    let start = Start { under: Vec::new(), ..start };
    let mut node = Node::start_as(sandbox, &start).expect("it starts again, whatever it was killed in");
    if !node.open.contains(&request) {
        node.send(&ask);
    }
    let outcome = node.outcome(request);
    node.send(&ToNode::Settled { request });
    assert_eq!(node.open_after_restart(sandbox, &start), [0_u64; 0], "{point:?} stays open");

    let (starts, state_now) = match action {
        "restart" => (2, "active"),
        "start" => (1, "active"),
        _ => (1, "inactive"),
    };
    assert!(outcome.is_completed(), "{point:?}: {outcome:?}");
    assert_eq!(counted(sandbox, &unit), starts, "{point:?}");
    assert_eq!(sandbox.property(&unit, "ActiveState"), state_now, "{point:?}");
    let verified = sandbox.output(&[env!("CARGO_BIN_EXE_warden"), "audit", "verify", "--folder", &state]);
    assert!(verified.status.success(), "{point:?}: {}", String::from_utf8_lossy(&verified.stdout));
    !done
}

fn strace(Point { call, number, ledger }: Point, state: &str) -> Vec<String> {
    let mut words = vec![
        "strace".to_owned(),
        "--follow-forks".to_owned(),
        "--output=/dev/null".to_owned(),
        format!("--trace={call}"),
        format!("--inject={call}:signal=KILL:when={number}"),
    ];
    if ledger {
        // SQLite's thread alone touches these, and strace counts for each thread.
        for file in ["ledger.sqlite", "ledger.sqlite-wal", "ledger.sqlite-journal", "ledger.sqlite-shm"] {
            words.push(format!("--trace-path={state}/{file}"));
        }
    }
    words
}
