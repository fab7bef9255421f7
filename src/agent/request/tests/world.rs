//! systemd, a ledger and an agent as the course of a request finds them, and what happens to them.

use std::time::Duration;

use proptest::prelude::*;
use warden_platform::boot_time::BootTime;
use warden_protocol::{Action, UnitState};
use warden_systemd::Job;

use super::super::*;
use crate::actions;

pub const DEADLINE: BootTime = BootTime(60_000);
pub const SPANS: Spans = Spans { settle: Duration::from_secs(3), answer: Duration::from_secs(20) };

/// What systemd logs of a main process that had to be killed.
pub const KILLED: &str = "systemd: iggy.service: Main process exited, code=killed, status=9/KILL";

/// Something that happens.
#[derive(Debug, Clone, Copy)]
pub enum Happening {
    /// The operation under way is done, and its answer arrives so often: not at all, once, twice.
    Done(usize),
    /// It fails in the way it can.
    Fails,
    /// A write to the ledger fails, and was made all the same, or was not.
    Doubtful {
        written: bool,
    },
    /// An answer from before arrives once more.
    Stale(usize),
    /// A call that is on its way reaches systemd.
    Arrives,
    /// The job under way ends.
    JobEnds {
        well: bool,
    },
    /// The agent is killed, with what it was about to do done or not, and starts again.
    Crash {
        done: bool,
    },
    Reboot,
    Cancel,
    Settled,
    Later(u64),
    /// systemd itself starts the unit anew.
    Restarts,
}

pub fn happening() -> impl Strategy<Value = Happening> {
    prop_oneof![
        24 => Just(Happening::Done(1)),
        2 => Just(Happening::Done(0)),
        3 => Just(Happening::Done(2)),
        3 => Just(Happening::Fails),
        3 => any::<bool>().prop_map(|written| Happening::Doubtful { written }),
        3 => (0_usize..64).prop_map(Happening::Stale),
        6 => Just(Happening::Arrives),
        6 => any::<bool>().prop_map(|well| Happening::JobEnds { well }),
        4 => any::<bool>().prop_map(|done| Happening::Crash { done }),
        1 => Just(Happening::Reboot),
        1 => Just(Happening::Cancel),
        1 => Just(Happening::Settled),
        4 => (1_u64..20_000).prop_map(Happening::Later),
        1 => Just(Happening::Restarts),
    ]
}

/// systemd, the ledger on disk, and the agent between them.
pub struct World {
    action: Action,
    pub now: BootTime,
    rebooted: bool,
    runs: bool,
    invocation: u32,
    /// Sent, and not yet done: on its way to systemd, or with polkit.
    on_its_way: Option<Verb>,
    /// systemd has it, and does it by then, or never.
    decided_by: Option<BootTime>,
    pub job: Option<(String, Verb)>,
    /// What stops a unit ends in SIGKILL.
    pub kills: bool,
    /// Whether the runtime answers; none: it cannot be asked.
    pub runtime_answers: Option<bool>,
    ended: Vec<(String, String)>,
    jobs: u32,
    /// What this is all about: how often a call of ours became a job.
    pub effects: u32,
    pub ledger: Option<Record>,
    pub course: Course,
    pub op: Option<(u32, Op)>,
    answers: Vec<(u32, Answer)>,
    pub told: Vec<Outcome>,
    /// What there was of effects, with the one that may be on its way, when an outcome was first told.
    pub effects_told: Option<u32>,
    /// What the ledger knows of how long the same took.
    pub usual_ms: Option<u64>,
}

impl World {
    pub fn new(action: Action, runs: bool) -> World {
        let (course, effects) = Course::receive(task(action), DEADLINE, SPANS);
        let mut world = World {
            action,
            now: BootTime(0),
            rebooted: false,
            runs,
            invocation: u32::from(runs),
            on_its_way: None,
            decided_by: None,
            job: None,
            kills: false,
            runtime_answers: Some(true),
            ended: Vec::new(),
            jobs: 0,
            effects: 0,
            ledger: None,
            course,
            op: None,
            answers: Vec::new(),
            told: Vec::new(),
            effects_told: None,
            usual_ms: None,
        };
        world.take(effects);
        world
    }

    pub fn take(&mut self, effects: Vec<Effect>) {
        for effect in effects {
            match effect {
                Effect::Do(number, op) => self.op = Some((number, op)),
                Effect::TellFinished(outcome) | Effect::TellRefused(outcome) => {
                    let possible = self.effects + u32::from(self.on_its_way.is_some());
                    self.effects_told.get_or_insert(possible);
                    self.told.push(*outcome);
                }
                Effect::TellAccepted | Effect::TellProgress(_) | Effect::Settle => {}
            }
        }
    }

    fn send(&mut self, event: Event) {
        let effects = self.course.handle(event, self.now);
        self.take(effects);
    }

    pub fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Done(times) => {
                let Some((number, op)) = self.op.clone() else { return };
                let Some(answer) = self.does(&op) else { return };
                self.op = None;
                self.answers.push((number, answer.clone()));
                for _ in 0..times {
                    self.send(Event::Answer(number, answer.clone()));
                }
            }
            Happening::Fails => self.fails(),
            Happening::Doubtful { written } => {
                let Some((number, op @ Op::Record(_))) = self.op.clone() else { return };
                if written {
                    self.does(&op);
                }
                self.fail(number, Answer::Doubtful("it broke".into()));
            }
            Happening::Stale(which) => {
                let stale = self.answers.get(which % self.answers.len().max(1)).cloned();
                if let Some((number, answer)) = stale {
                    self.send(Event::Answer(number, answer));
                }
            }
            Happening::Arrives => self.arrives(),
            Happening::JobEnds { well } => self.job_ends(well),
            Happening::Crash { done } => self.crash(done),
            Happening::Reboot => {
                self.crash_into(true);
            }
            Happening::Cancel => self.send(Event::Cancel),
            Happening::Settled => self.send(Event::Settled),
            Happening::Later(millis) => {
                self.pass(self.now.after(Duration::from_millis(millis)));
                self.send(Event::Tick);
            }
            Happening::Restarts => {
                if self.runs && self.job.is_none() {
                    self.invocation += 1;
                }
            }
        }
    }

    /// Does what was asked for; nothing while it must wait.
    pub fn does(&mut self, op: &Op) -> Option<Answer> {
        match op {
            Op::Record(record) => {
                self.ledger = Some((**record).clone());
                Some(Answer::Recorded)
            }
            Op::Recall => Some(if self.ledger.is_some() { Answer::Recorded } else { Answer::NotThere }),
            Op::Turn => Some(Answer::Turn),
            Op::Policy => Some(Answer::Allowed { usual_ms: self.usual_ms }),
            Op::Snapshot(_) => Some(Answer::Snapshot(Box::new(Outcome::Completed { result: None }))),
            Op::Look => Some(Answer::Standing { standing: Box::new(self.standing()), bus: "bus 1".into() }),
            Op::Call(verb) => {
                self.on_its_way = Some(*verb);
                self.arrives();
                Some(Answer::Called { job: self.job.clone()?.0 })
            }
            Op::Follow { job } => {
                let ended = self.ended.iter().find(|(path, _)| path == job);
                let gone = self.job.as_ref().is_none_or(|(path, _)| path != job);
                ended
                    .map(|(_, result)| Answer::JobEnded { result: Some(result.clone()), killed: self.kills })
                    .or(gone.then_some(Answer::JobEnded { result: None, killed: false }))
            }
            Op::Quiet { .. } => {
                let since = self.now.after(observe::POLKIT);
                self.decided_by = self.on_its_way.map(|_| self.decided_by.unwrap_or(since));
                Some(Answer::Quiet)
            }
            Op::Ask => {
                Some(Answer::Answered(Answered { answers: self.runtime_answers, said: "it says so".into() }))
            }
            Op::Pause { until } => {
                self.pass(self.now.max(*until));
                Some(Answer::Paused)
            }
            Op::Journal { .. } if self.kills && self.effects > 0 => {
                Some(Answer::Journal(vec![KILLED.into()]))
            }
            Op::Journal { .. } | Op::OwnLog => Some(Answer::Journal(vec!["a line".into()])),
        }
    }

    fn fails(&mut self) {
        let Some((number, op)) = self.op.clone() else { return };
        let answer = match op {
            Op::Record(_) => Answer::NotRecorded("disk full".into()),
            Op::Recall => Answer::Unread,
            Op::Policy => Answer::Denied("not here".into()),
            Op::Look => Answer::NotSeen(Error::Unavailable("no bus".into())),
            Op::Call(verb) => {
                self.on_its_way = Some(verb);
                Answer::Lost
            }
            Op::Follow { .. } => Answer::JobLost,
            Op::Ask => Answer::Answered(Answered { answers: Some(false), said: "silence".into() }),
            Op::Turn
            | Op::Snapshot(_)
            | Op::Quiet { .. }
            | Op::Pause { .. }
            | Op::Journal { .. }
            | Op::OwnLog => return,
        };
        self.fail(number, answer);
    }

    fn fail(&mut self, number: u32, answer: Answer) {
        self.op = None;
        self.answers.push((number, answer.clone()));
        self.send(Event::Answer(number, answer));
    }

    /// It gets later. What polkit has not let through yet, it lets through at the last moment.
    fn pass(&mut self, now: BootTime) {
        self.now = now;
        if self.decided_by.is_some_and(|decided| decided <= now) {
            self.arrives();
        }
    }

    fn arrives(&mut self) {
        self.decided_by = None;
        let Some(verb) = self.on_its_way.take() else { return };
        self.effects += 1;
        self.jobs += 1;
        self.job = Some((format!("/job/{}", self.jobs), verb));
    }

    fn job_ends(&mut self, well: bool) {
        let Some((path, verb)) = self.job.take() else { return };
        self.ended.push((path, if well { "done" } else { "failed" }.into()));
        match verb {
            Verb::Start | Verb::Restart => {
                self.invocation += 1;
                self.runs = well;
            }
            Verb::Stop => self.runs = false,
        }
    }

    fn crash(&mut self, done: bool) {
        match self.op.clone() {
            Some((_, Op::Call(verb))) if done => self.on_its_way = Some(verb),
            Some((_, op @ Op::Record(_))) if done => {
                self.does(&op);
            }
            _ => {}
        }
        self.crash_into(false);
    }

    fn crash_into(&mut self, reboot: bool) {
        if reboot {
            self.rebooted = true;
            (self.on_its_way, self.decided_by, self.job) = (None, None, None);
            self.ended.clear();
            (self.invocation, self.runs) = (self.invocation + 1, true);
        }
        self.op = None;
        self.answers.clear();
        let task = task(self.action);
        let (course, effects) = match self.ledger.clone() {
            Some(record) => Course::recover(task, record, DEADLINE, SPANS, !reboot, self.now),
            // The Supervisor was never told that it is accepted, and sends it again; unless it was told the end.
            None if self.told.is_empty() => {
                Course::receive(task, self.now.after(Duration::from_secs(60)), SPANS)
            }
            None => return,
        };
        self.course = course;
        self.take(effects);
    }

    fn standing(&self) -> Standing {
        let job = self.job.as_ref().map(|(path, verb)| {
            let kind = match verb {
                Verb::Start => "start",
                Verb::Stop => "stop",
                Verb::Restart => "restart",
            };
            Job { path: path.clone(), kind: kind.into() }
        });
        let invocation_id = if self.invocation == 0 { String::new() } else { self.invocation.to_string() };
        let active_state = if self.runs { "active" } else { "inactive" }.to_owned();
        let state = UnitState { active_state, invocation_id, ..UnitState::default() };
        Standing { load_state: "loaded".into(), state, job, ..Standing::default() }
    }

    /// Lets the rest happen as it should, until the end.
    pub fn run_out(&mut self) {
        for _ in 0..200 {
            if self.course.is_over() {
                return;
            }
            self.happen(Happening::Arrives);
            self.happen(Happening::JobEnds { well: true });
            self.happen(if self.op.is_some() { Happening::Done(1) } else { Happening::Later(1_000) });
        }
    }
}

fn task(action: Action) -> Task {
    Task::Unit { action: actions::of(action).unwrap(), unit: "iggy.service".into() }
}
