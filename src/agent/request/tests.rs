//! Every order of events, any of them twice or not at all, and a crash anywhere: one effect at most, and an end.

use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::agent::actions;
use crate::agent::clock::BootTime;
use crate::protocol::{Action, Code, UnitState};
use crate::systemd::Job;

const DEADLINE: BootTime = BootTime(60_000);
const SPANS: Spans = Spans { settle: Duration::from_secs(3) };

/// Something that happens.
#[derive(Debug, Clone, Copy)]
enum Happening {
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

fn happening() -> impl Strategy<Value = Happening> {
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
struct World {
    action: Action,
    now: BootTime,
    rebooted: bool,
    runs: bool,
    invocation: u32,
    /// Sent, and not yet done: on its way to systemd, or with polkit.
    on_its_way: Option<Verb>,
    /// systemd has it, and does it by then, or never.
    decided_by: Option<BootTime>,
    job: Option<(String, Verb)>,
    ended: Vec<(String, String)>,
    jobs: u32,
    /// What this is all about: how often a call of ours became a job.
    effects: u32,
    ledger: Option<Record>,
    course: Course,
    op: Option<(u32, Op)>,
    answers: Vec<(u32, Answer)>,
    told: Vec<Outcome>,
    /// What there was of effects, with the one that may be on its way, when an outcome was first told.
    effects_told: Option<u32>,
}

impl World {
    fn new(action: Action, runs: bool) -> World {
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
            ended: Vec::new(),
            jobs: 0,
            effects: 0,
            ledger: None,
            course,
            op: None,
            answers: Vec::new(),
            told: Vec::new(),
            effects_told: None,
        };
        world.take(effects);
        world
    }

    fn take(&mut self, effects: Vec<Effect>) {
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

    fn happen(&mut self, happening: Happening) {
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
    fn does(&mut self, op: &Op) -> Option<Answer> {
        match op {
            Op::Record(record) => {
                self.ledger = Some((**record).clone());
                Some(Answer::Recorded)
            }
            Op::Recall => Some(if self.ledger.is_some() { Answer::Recorded } else { Answer::NotThere }),
            Op::Turn => Some(Answer::Turn),
            Op::Policy => Some(Answer::Allowed),
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
                    .map(|(_, result)| Answer::JobEnded(Some(result.clone())))
                    .or(gone.then_some(Answer::JobEnded(None)))
            }
            Op::Quiet { .. } => {
                let since = self.now.after(looks::POLKIT);
                self.decided_by = self.on_its_way.map(|_| self.decided_by.unwrap_or(since));
                Some(Answer::Quiet)
            }
            Op::Pause { until } => {
                self.pass(self.now.max(*until));
                Some(Answer::Paused)
            }
            Op::Journal { .. } => Some(Answer::Journal(vec!["a line".into()])),
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
            Op::Turn | Op::Snapshot(_) | Op::Quiet { .. } | Op::Pause { .. } | Op::Journal { .. } => return,
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
        Standing { load_state: "loaded".into(), state, restarts: 0, job }
    }

    /// Lets the rest happen as it should, until the end.
    fn run_out(&mut self) {
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

fn action() -> impl Strategy<Value = Action> {
    prop_oneof![Just(Action::Start), Just(Action::Stop), Just(Action::Restart)]
}

fn says_nothing_was_done(outcome: &Outcome) -> bool {
    matches!(outcome, Outcome::Rejected { reason, .. } if reason.reason.contains("nothing was done"))
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn whatever_happens_there_is_one_effect_at_most_and_an_end(
        action in action(),
        runs: bool,
        happenings in prop::collection::vec(happening(), 0..60),
    ) {
        let mut world = World::new(action, runs);
        for happening in happenings {
            world.happen(happening);
            prop_assert!(world.effects <= 1, "called {} times", world.effects);
        }
        world.run_out();
        prop_assert!(world.effects <= 1, "called {} times", world.effects);
        prop_assert!(world.effects_told.is_none_or(|told| world.effects <= told), "done after the end was told");
        prop_assert!(world.course.is_over(), "{:?}", world.course);
        let written = world.ledger.as_ref().and_then(|record| record.outcome.as_ref());
        prop_assert!(written.is_some() || !world.told.is_empty());
        for outcome in world.told.iter().chain(written) {
            prop_assert!(!says_nothing_was_done(outcome) || world.effects == 0, "{outcome:?}");
        }
    }

    #[test]
    fn when_no_answer_ever_comes_it_still_ends(
        action in action(),
        runs: bool,
        answered in 0_usize..12,
    ) {
        let mut world = World::new(action, runs);
        for _ in 0..answered {
            world.happen(Happening::Done(1));
        }
        world.op = None;
        for _ in 0..20 {
            world.happen(Happening::Later(6_000));
        }
        prop_assert!(world.course.is_over());
        prop_assert_eq!(world.told.len(), 1);
    }

    #[test]
    fn undisturbed_it_is_done_once_and_completed(action in action(), runs: bool) {
        let mut world = World::new(action, runs);
        world.run_out();
        let needed = match action {
            Action::Start => !runs,
            Action::Stop => runs,
            Action::Restart | Action::Reconfigure(_) => true,
        };
        prop_assert_eq!(world.effects, u32::from(needed));
        prop_assert_eq!(world.told.len(), 1);
        prop_assert!(world.told[0].is_completed(), "{:?}", world.told);
    }
}

fn until(world: &mut World, wanted: impl Fn(&Op) -> bool) {
    for _ in 0..100 {
        if world.op.as_ref().is_some_and(|(_, op)| wanted(op)) {
            return;
        }
        world.happen(Happening::Done(1));
    }
    panic!("it never comes to this: {:?}", world.course);
}

fn code(world: &World) -> Code {
    match world.told.as_slice() {
        [Outcome::Rejected { reason, .. }] => reason.code,
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_call_that_did_not_arrive_is_made_again_and_one_that_did_is_not() {
    for arrives in [false, true] {
        let mut world = World::new(Action::Restart, true);
        until(&mut world, |op| matches!(op, Op::Call(_)));
        world.happen(Happening::Crash { done: arrives });
        world.run_out();
        assert_eq!(world.effects, 1, "{arrives}");
        assert!(world.told[0].is_completed(), "{:?}", world.told);
    }
}

#[test]
fn what_systemd_took_is_not_called_again_though_nothing_shows_it() {
    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Follow { .. }));
    // As when a unit that it needs cannot be started: the job is gone, and the unit as before.
    world.job = None;
    world.happen(Happening::Crash { done: false });
    world.run_out();
    assert_eq!((world.effects, world.told.len()), (1, 1));
}

#[test]
fn a_cancel_ends_what_has_not_begun_and_nothing_else() {
    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Look));
    world.happen(Happening::Cancel);
    world.run_out();
    assert_eq!((code(&world), world.effects), (Code::Cancelled, 0));

    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Follow { .. }));
    world.happen(Happening::Cancel);
    world.run_out();
    assert!(world.told[0].is_completed());
}

#[test]
fn without_a_ledger_nothing_is_accepted_and_nothing_done() {
    let mut world = World::new(Action::Restart, true);
    world.happen(Happening::Fails);
    assert_eq!((code(&world), world.effects), (Code::LedgerUnavailable, 0));

    // Accepted, and then the disk is full: told only when that is written, or too late to be done.
    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Record(record) if record.step == Step::Intended));
    world.happen(Happening::Fails);
    world.happen(Happening::Fails);
    assert!(world.told.is_empty());
    for _ in 0..10 {
        world.happen(Happening::Fails);
        world.happen(Happening::Later(6_000));
    }
    assert_eq!((code(&world), world.effects), (Code::LedgerUnavailable, 0));
    world.happen(Happening::Crash { done: false });
    world.run_out();
    assert_eq!(world.effects, 0);
}

#[test]
fn a_first_write_that_failed_decides_by_what_it_left_in_the_ledger() {
    for written in [false, true] {
        let mut world = World::new(Action::Restart, true);
        world.happen(Happening::Doubtful { written });
        for _ in 0..3 {
            world.happen(Happening::Fails);
            assert_eq!((world.told.len(), world.course.is_in_doubt()), (0, true));
            world.happen(Happening::Done(1));
        }
        assert!(matches!(world.op, Some((_, Op::Recall))), "{:?}", world.op);
        world.run_out();
        if written {
            assert!(world.told[0].is_completed());
        } else {
            assert_eq!(code(&world), Code::LedgerUnavailable);
        }
        assert_eq!(world.effects, u32::from(written));
    }

    // Never told apart: not begun by the deadline, and not after a crash either.
    let mut world = World::new(Action::Restart, true);
    world.happen(Happening::Doubtful { written: true });
    for _ in 0..20 {
        world.happen(Happening::Fails);
        world.happen(Happening::Later(5_000));
    }
    assert_eq!(code(&world), Code::DeadlineExceeded);
    world.happen(Happening::Crash { done: false });
    world.run_out();
    assert_eq!(world.effects, 0);
}

#[test]
fn what_is_not_written_is_not_told_while_it_could_still_be_done_after_a_crash() {
    let mut world = World::new(Action::Start, false);
    until(&mut world, |op| matches!(op, Op::Call(_)));
    world.happen(Happening::Crash { done: false });
    world.happen(Happening::Cancel);
    until(&mut world, |op| matches!(op, Op::Record(record) if record.step == Step::Finished));
    world.happen(Happening::Fails);
    assert!(world.told.is_empty(), "{:?}", world.told);
}

#[test]
fn a_job_that_fails_and_a_unit_that_does_not_stay_are_rejected_with_the_journal() {
    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Follow { .. }));
    world.happen(Happening::JobEnds { well: false });
    world.run_out();
    assert_eq!(code(&world), Code::JobFailed);

    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Follow { .. }));
    world.happen(Happening::JobEnds { well: true });
    until(&mut world, |op| matches!(op, Op::Pause { .. }));
    world.happen(Happening::Restarts);
    world.run_out();
    assert_eq!(code(&world), Code::UnitNotStable);
    let Outcome::Rejected { result: Some(change), .. } = &world.told[0] else { panic!() };
    assert_eq!(change.journal, ["a line"]);
    assert_eq!(change.job_result.as_deref(), Some("done"));
}

#[test]
fn what_was_open_when_the_host_went_down_is_interrupted() {
    for (reached, effects) in [(Step::Accepted, 0), (Step::Settling, 1)] {
        let mut world = World::new(Action::Restart, true);
        for _ in 0..50 {
            if world.ledger.as_ref().is_some_and(|record| record.step == reached) {
                break;
            }
            world.happen(Happening::JobEnds { well: true });
            world.happen(Happening::Done(1));
        }
        world.happen(Happening::Reboot);
        world.run_out();
        assert_eq!((code(&world), world.effects), (Code::Interrupted, effects));
    }
}

#[test]
fn an_outcome_the_supervisor_had_first_is_settled_with_the_end() {
    let mut world = World::new(Action::Stop, true);
    world.happen(Happening::Settled);
    let mut effects = Vec::new();
    for _ in 0..50 {
        world.happen(Happening::JobEnds { well: true });
        let Some((number, op)) = world.op.clone() else { break };
        let Some(answer) = world.does(&op) else { continue };
        effects = world.course.handle(Event::Answer(number, answer), world.now);
        world.take(effects.clone());
        if world.course.is_over() {
            break;
        }
    }
    assert_eq!(effects.last(), Some(&Effect::Settle));
}
