//! A full disk: nothing is begun that could not be written down, what was begun ends, and the agent lives.

use std::time::Duration;

use warden::protocol::{Code, Outcome, ToNode};

use super::node::{Node, Start, asked};
use super::{counted, runs};
use crate::support::sandbox::Sandbox;

const SETTLE: Duration = Duration::from_millis(100);
/// Short: what cannot be written is told when it is over.
const DEADLINE: Duration = Duration::from_secs(5);

#[test]
fn on_a_full_disk_a_request_is_refused_and_on_one_with_room_it_is_done() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    sandbox.run(&["mkdir", "-p", "/var/lib/warden"]);
    sandbox.run(&["mount", "-t", "tmpfs", "-o", "size=256k", "tmpfs", "/var/lib/warden"]);
    let mut node = Node::start(&sandbox);
    sandbox.output(&["dd", "if=/dev/zero", "of=/var/lib/warden/filler", "bs=4k"]);
    node.request(1, "iggy start");
    let (reason, _) = node.rejected(1);
    assert_eq!(reason.code, Code::LedgerUnavailable);
    assert!(
        reason.reason.starts_with("the agent cannot write its ledger, so nothing was done: "),
        "{reason:?}"
    );
    sandbox.run(&["rm", "/var/lib/warden/filler"]);
    node.request(1, "iggy start");
    assert_eq!(node.rejected(1).0.code, Code::LedgerUnavailable, "a copy of what was refused is refused");
    assert_eq!(counted(&sandbox, "iggy.service"), 0);
    node.request(2, "iggy start");
    assert!(node.outcome(2).is_completed());
    assert_eq!(node.open_after_restart(&sandbox, &Start::default()), [2]);
}

#[test]
fn without_its_audit_log_nothing_is_done_until_the_agent_is_started_anew() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy.service");
    let mut node = Node::start(&sandbox);
    sandbox.run(&["rm", "/var/lib/warden/audit.jsonl"]);
    node.request(1, "iggy start");
    let (reason, _) = node.rejected(1);
    assert_eq!(reason.code, Code::LedgerUnavailable);
    assert!(
        reason.reason.contains("nothing was done") && reason.reason.contains("audit.jsonl was removed"),
        "{reason:?}"
    );
    assert_eq!(counted(&sandbox, "iggy.service"), 0);
    assert_eq!(node.open_after_restart(&sandbox, &Start::default()), [0_u64; 0]);
    let mut node = Node::start(&sandbox);
    node.request(2, "iggy start");
    assert!(node.outcome(2).is_completed());
}

/// How the disk breaks: a kind of system call on the files of the ledger or the audit log.
#[derive(Debug, Clone, Copy)]
struct Fault {
    calls: &'static str,
    file: &'static str,
    error: &'static str,
    /// How many calls fail from the first one on that does; nought: all of them.
    failing: usize,
    /// Calls a request comes to, at least.
    found: usize,
}

/// Calls it may come to: more than it does.
const MOST: usize = 200;
const WAL: &str = "ledger.sqlite-wal";
const SYNCS: &str = "fsync,fdatasync";
const FAULTS: &[Fault] = &[
    Fault { calls: "pwrite64", file: WAL, error: "ENOSPC", failing: 0, found: 10 },
    Fault { calls: "pwrite64", file: WAL, error: "EIO", failing: 1, found: 10 },
    Fault { calls: SYNCS, file: WAL, error: "ENOSPC", failing: 0, found: 3 },
    // The ledger is closed and opened again between the first that fails and what comes next.
    Fault { calls: SYNCS, file: WAL, error: "EIO", failing: 1, found: 5 },
    Fault { calls: SYNCS, file: WAL, error: "EIO", failing: 2, found: 5 },
    Fault { calls: SYNCS, file: WAL, error: "EIO", failing: 3, found: 5 },
    Fault { calls: SYNCS, file: "ledger.sqlite", error: "EIO", failing: 0, found: 1 },
    // strace(1) counts the calls of each thread, and this log is written by whichever is free.
    Fault { calls: "write", file: "audit.jsonl", error: "ENOSPC", failing: 0, found: 1 },
];

#[test]
fn a_disk_that_breaks_at_any_write_never_does_what_is_told_not_to_have_been_done() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy-connector@.service");
    for_every_fault(|fault, number| broken_from(&sandbox, fault, number));
}

#[test]
fn an_agent_killed_before_it_knows_what_is_in_its_ledger_does_it_once_all_the_same() {
    let sandbox = Sandbox::boot();
    runs(&sandbox, "iggy-connector@.service");
    for_every_fault(|fault, number| killed_after(&sandbox, fault, number));
}

/// At each call of each fault, the faults side by side, until nothing fails any more.
fn for_every_fault(fails: impl Fn(Fault, usize) -> bool + Sync) {
    std::thread::scope(|scope| {
        for fault in FAULTS {
            let fails = &fails;
            scope.spawn(move || {
                let found = (1..MOST).take_while(|number| fails(*fault, *number)).count();
                assert!(found >= fault.found, "{fault:?}: only {found} calls were found");
            });
        }
    });
}

struct Run {
    unit: String,
    ask: ToNode,
    request: u64,
    log: String,
    under: Vec<String>,
    state: String,
}

impl Run {
    /// A unit, a state directory and a number of its own.
    fn new(sandbox: &Sandbox, fault: Fault, number: usize) -> Run {
        let Fault { calls, file, error, failing, .. } = fault;
        let (call, kind) = (calls.split(',').next().unwrap().replace("64", ""), file.replace(['.', '-'], ""));
        let name = format!("{call}-{kind}-{failing}-{number}");
        let state = format!("/var/lib/warden-{name}");
        let log = format!("/run/strace-{name}");
        let when = match failing {
            0 => format!("{number}+"),
            failing => format!("{number}..{}", number + failing - 1),
        };
        let injected = format!("--inject={calls}:error={error}:when={when}");
        let (output, trace) = (format!("--output={log}"), format!("--trace={calls}"));
        let path = format!("--trace-path={state}/{file}");
        // A process that strace(1) leaves behind when it is killed is to die at once.
        let under = ["strace", "--follow-forks", &output, &trace, &injected, &path].into_iter().chain([
            "setpriv",
            "--pdeathsig",
            "KILL",
            "--",
        ]);
        let unit = format!("iggy-connector@sink-{name}.service");
        sandbox.run(&["systemctl", "start", &unit]);
        let request = number as u64;
        let ask = asked(request, &format!("connector:sink:{name} restart"), DEADLINE);
        Run { unit, ask, request, log, under: under.map(str::to_owned).collect(), state }
    }

    fn on_a_broken_disk(&self, sandbox: &Sandbox) -> Option<Node> {
        let under = self.under.clone();
        Node::start_as(sandbox, &Start { under, ..self.on_a_good_disk() })
    }

    fn on_a_good_disk(&self) -> Start<'_> {
        Start { state: &self.state, settle: SETTLE, ..Start::default() }
    }

    fn done(&self, sandbox: &Sandbox) -> usize {
        counted(sandbox, &self.unit) - 1
    }

    fn broke(&self, sandbox: &Sandbox) -> bool {
        sandbox.read(&self.log).contains("(INJECTED)")
    }
}

/// Whether there may be more to fail. Whatever is told holds, also for the next start, for which the disk is mended.
fn broken_from(sandbox: &Sandbox, fault: Fault, number: usize) -> bool {
    let run = Run::new(sandbox, fault, number);
    // Where even the ledger's table cannot be written, the agent says so and ends; systemd starts it again.
    let told = run.on_a_broken_disk(sandbox).map(|mut node| {
        node.send(&run.ask);
        let outcome = node.outcome(run.request);
        assert!(node.lives(), "{fault:?} {number}");
        node.kill();
        outcome
    });
    let done = run.done(sandbox);
    assert!(is_true(told.as_ref(), done), "{fault:?} {number}: done {done} times, {told:?}");

    // Nothing is done that was not, nothing twice, and nothing stays open.
    let mut node = Node::start_as(sandbox, &run.on_a_good_disk()).unwrap();
    for request in node.open.clone() {
        node.outcome(request);
        node.send(&ToNode::Settled { request });
    }
    let open = node.open_after_restart(sandbox, &run.on_a_good_disk());
    assert_eq!(open, [0_u64; 0], "{fault:?} {number}");
    assert_eq!(run.done(sandbox), done, "{fault:?} {number} {told:?}");
    run.broke(sandbox) || is_late(told.as_ref())
}

/// Whether there may be more to fail. It is killed when the first call has, or when the request has ended; a Supervisor that was
/// told no end sends what the node does not have.
fn killed_after(sandbox: &Sandbox, fault: Fault, number: usize) -> bool {
    let run = Run::new(sandbox, fault, number);
    let mut told = None;
    if let Some(mut node) = run.on_a_broken_disk(sandbox) {
        node.send(&run.ask);
        while told.is_none() && !run.broke(sandbox) {
            told = node.has_ended(run.request);
        }
        told = told.or_else(|| node.has_ended(run.request));
        node.kill();
    }
    let mut node = Node::start_as(sandbox, &run.on_a_good_disk()).unwrap();
    if told.is_none() && !node.open.contains(&run.request) {
        node.send(&run.ask);
    }
    // Told again what was told, or told now.
    if told.is_none() || node.open.contains(&run.request) {
        let outcome = node.outcome(run.request);
        told.get_or_insert(outcome);
    }
    let done = run.done(sandbox);
    assert!(is_true(told.as_ref(), done), "{fault:?} {number}: done {done} times, {told:?}");
    run.broke(sandbox) || is_late(told.as_ref())
}

/// On a busy machine the deadline may be over in the middle.
fn is_late(told: Option<&Outcome>) -> bool {
    matches!(told, Some(Outcome::Rejected { reason, .. }) if reason.code == Code::DeadlineExceeded)
}

/// Whether it was done as often as is told.
fn is_true(told: Option<&Outcome>, done: usize) -> bool {
    match told {
        None => done == 0,
        Some(Outcome::Completed { .. }) => done == 1,
        Some(Outcome::Rejected { reason, .. }) if reason.reason.contains("nothing was done") => {
            matches!(reason.code, Code::LedgerUnavailable | Code::DeadlineExceeded) && done == 0
        }
        Some(Outcome::Rejected { .. }) => is_late(told) && done <= 1,
    }
}
