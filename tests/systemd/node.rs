//! A node without a link: the executor in a process of its own inside a sandbox. It reads what a Supervisor says from
//! standard input and prints what it reports, so that it can be killed like the agent, and as any user.

use std::io::{BufRead, BufReader, Write};
use std::path::PathBuf;
use std::process::{Child, Stdio};
use std::sync::{Arc, mpsc};
use std::time::Duration;

use warden::agent::IggyApi;
use warden::agent::executor::{Executor, Settings};
use warden::config;
use warden::protocol::{
    Finished, FromNode, Outcome, Reason, Request, ToNode, UnitChange, Work, decode, encode,
};
use warden::systemd::Bus;

use crate::support::sandbox::Sandbox;

/// Set for the process that is to be a node: its state directory.
const STATE: &str = "WARDEN_TEST_NODE";
const SETTLE: &str = "WARDEN_TEST_SETTLE_MS";
const ANSWER: &str = "WARDEN_TEST_ANSWER_MS";
const IGGY: &str = "WARDEN_TEST_IGGY_UNIT";
/// Before the ids of open requests, the first thing a node prints.
const OPEN: &str = "open:";
/// How a message begins.
const MESSAGE: &str = "{\"v\":";
/// How long [`Node::has_ended`] waits for another word.
const GLANCE: Duration = Duration::from_millis(20);
/// Far longer than anything takes.
const PATIENCE: Duration = Duration::from_secs(90);

pub struct Node {
    child: Child,
    reports: mpsc::Receiver<String>,
    /// Ends that came while another was waited for.
    ended: Vec<Finished>,
    /// What was open when it started.
    pub open: Vec<u64>,
}

/// How a node is started.
pub struct Start<'a> {
    pub state: &'a str,
    pub user: &'a str,
    pub settle: Duration,
    pub answer: Duration,
    pub iggy: &'a str,
    /// A program and its arguments that run it.
    pub under: Vec<String>,
}

impl Default for Start<'_> {
    fn default() -> Self {
        Start {
            state: "/var/lib/warden",
            user: "root",
            settle: Duration::from_secs(3),
            answer: Duration::from_secs(8),
            iggy: config::IGGY_UNIT,
            under: Vec::new(),
        }
    }
}

impl Node {
    pub fn start(sandbox: &Sandbox) -> Node {
        Node::start_as(sandbox, &Start::default()).expect("the node starts")
    }

    /// Nothing when it ended before it was ready.
    pub fn start_as(sandbox: &Sandbox, start: &Start) -> Option<Node> {
        sandbox.run(&["install", "-d", "-o", start.user, start.state]);
        let mut command = sandbox.command("setpriv");
        let user = start.user;
        let ids = [format!("--reuid={user}"), format!("--regid={user}"), "--init-groups".to_owned()];
        // A change of user forgets the signal that was to come with the end of the parent.
        command.args(ids).args(["--", "setpriv", "--pdeathsig", "KILL", "--"]).args(&start.under);
        command.arg(std::env::current_exe().unwrap());
        command.args(["--exact", "systemd::node::is_a_node_when_it_is_told_so", "--nocapture"]);
        command.env(STATE, start.state).env(IGGY, start.iggy);
        command.env(ANSWER, start.answer.as_millis().to_string());
        command.env(SETTLE, start.settle.as_millis().to_string()).env_remove("RUST_BACKTRACE");
        let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        let (sender, reports) = mpsc::channel();
        std::thread::spawn(move || {
            for line in output.lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        let mut node = Node { child, reports, ended: Vec::new(), open: Vec::new() };
        loop {
            let line = node.line()?;
            if let Some(open) = line.strip_prefix(OPEN) {
                node.open = open.split_whitespace().map(|id| id.parse().unwrap()).collect();
                return Some(node);
            }
        }
    }

    pub fn send(&mut self, message: &ToNode) {
        // One that was killed hears nothing: the test sees that elsewhere.
        let _ = writeln!(self.child.stdin.as_ref().unwrap(), "{}", encode(message).unwrap());
    }

    pub fn request(&mut self, request: u64, what: &str) {
        self.send(&asked(request, what, PATIENCE));
    }

    /// The next report; nothing when the process ended.
    pub fn report(&mut self) -> Option<FromNode> {
        loop {
            let line = self.line()?;
            if line.starts_with(MESSAGE) {
                return Some(decode(&line).unwrap());
            }
        }
    }

    /// How a request ends; nothing when the process does before.
    pub fn end_of(&mut self, request: u64) -> Option<Outcome> {
        loop {
            if let Some(at) = self.ended.iter().position(|finished| finished.request == request) {
                return Some(self.ended.swap_remove(at).outcome);
            }
            if let FromNode::Finished(finished) = self.report()? {
                self.ended.push(finished);
            }
        }
    }

    /// How a request has ended by now; nothing when it has not, or the process has.
    pub fn has_ended(&mut self, request: u64) -> Option<Outcome> {
        while let Ok(line) = self.reports.recv_timeout(GLANCE) {
            if let Some(FromNode::Finished(finished)) =
                line.starts_with(MESSAGE).then(|| decode(&line).unwrap())
                && finished.request == request
            {
                return Some(finished.outcome);
            }
        }
        None
    }

    pub fn outcome(&mut self, request: u64) -> Outcome {
        self.end_of(request).expect("the node lives")
    }

    pub fn completed(&mut self, request: u64) -> UnitChange {
        match self.outcome(request) {
            Outcome::Completed { result } => result.unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub fn rejected(&mut self, request: u64) -> (Reason, Option<UnitChange>) {
        match self.outcome(request) {
            Outcome::Rejected { reason, result } => (reason, result),
            other => panic!("{other:?}"),
        }
    }

    pub fn lives(&mut self) -> bool {
        self.child.try_wait().unwrap().is_none()
    }

    /// Stops it, starts it again, and tells what is open then.
    pub fn open_after_restart(self, sandbox: &Sandbox, start: &Start) -> Vec<u64> {
        self.stop();
        Node::start_as(sandbox, start).unwrap().open.clone()
    }

    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Tells it to stop, as systemd does, and waits until it has.
    pub fn stop(self) {
        assert!(self.ended_well());
    }

    /// Tells it to stop; whether it lived to do so.
    pub fn ended_well(mut self) -> bool {
        drop(self.child.stdin.take());
        self.child.wait().unwrap().success()
    }

    fn line(&mut self) -> Option<String> {
        match self.reports.recv_timeout(PATIENCE) {
            Ok(line) => Some(line),
            Err(mpsc::RecvTimeoutError::Disconnected) => None,
            Err(mpsc::RecvTimeoutError::Timeout) => panic!("the node says nothing"),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// `iggy restart`, as a message.
pub fn asked(request: u64, what: &str, deadline: Duration) -> ToNode {
    let (runtime, action) = what.split_once(' ').unwrap();
    let work = Work::Activity { runtime: runtime.parse().unwrap(), action: action.parse().unwrap() };
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap();
    ToNode::Request(Request { request, work, author: "ops@example.com".into(), deadline_ms })
}

/// Not a test of anything: what [`Node::start_as`] starts.
#[test]
fn is_a_node_when_it_is_told_so() {
    let Some(state) = std::env::var_os(STATE) else { return };
    let variable = |name| std::env::var(name).unwrap();
    let settings = Settings {
        state_directory: PathBuf::from(state),
        policy: config::policy::PLACE.into(),
        units: toml::from_str(&format!("iggy = \"{}\"", variable(IGGY))).unwrap(),
        settle: Duration::from_millis(variable(SETTLE).parse().unwrap()),
        answer: Duration::from_millis(variable(ANSWER).parse().unwrap()),
        iggy_api: IggyApi::Configured,
    };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(run(settings));
}

async fn run(settings: Settings) {
    let (reports, mut reported) = tokio::sync::mpsc::channel(1);
    let executor = match Executor::start(settings, Arc::new(Bus::system()), reports, None).await {
        Ok(executor) => executor,
        // Whoever started it looks whether it lives; where disks are full, that it does not is what is tested.
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "a node of the tests did not start: {error:#}");
            return;
        }
    };
    let open: Vec<String> = executor.open_requests().iter().map(u64::to_string).collect();
    say(&format!("\n{OPEN} {}", open.join(" ")));
    for report in executor.unsettled() {
        say(&encode(&report).unwrap());
    }
    let (sender, mut messages) = tokio::sync::mpsc::channel(1);
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if sender.blocking_send(decode(&line).unwrap()).is_err() {
                return;
            }
        }
    });
    loop {
        tokio::select! {
            message = messages.recv() => match message {
                Some(message) => executor.take(message).await,
                None => return executor.shut_down(Duration::from_secs(1)).await,
            },
            Some(report) = reported.recv() => say(&encode(&report).unwrap()),
        }
    }
}

fn say(line: &str) {
    std::io::stdout().write_all(format!("{line}\n").as_bytes()).unwrap();
}
