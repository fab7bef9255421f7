//! Every order of events, any of them twice or not at all, and a crash anywhere: one effect at most, and an end.

mod world;

use proptest::prelude::*;
use warden_protocol::{Action, Code};

use self::world::{DEADLINE, Happening, KILLED, SPANS, World, happening};
use super::*;

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
fn what_could_not_be_confirmed_by_its_deadline_is_not_begun() {
    // Four seconds are needed besides what it took the last time.
    for (usual_ms, left_ms, begun) in
        [(None, 3_999, false), (None, 4_000, true), (Some(6_000), 9_999, false), (Some(6_000), 10_000, true)]
    {
        let mut world = World::new(Action::Restart, true);
        world.usual_ms = usual_ms;
        until(&mut world, |op| matches!(op, Op::Look));
        world.happen(Happening::Later(DEADLINE.0 - left_ms));
        world.happen(Happening::Done(1));
        if begun {
            assert!(matches!(&world.op, Some((_, Op::Record(record))) if record.step == Step::Intended));
            continue;
        }
        world.run_out();
        assert_eq!((code(&world), world.effects), (Code::DeadlineExceeded, 0), "{left_ms}");
        assert!(says_nothing_was_done(&world.told[0]), "{:?}", world.told);
    }
}

#[test]
fn what_takes_effect_soon_after_the_deadline_is_completed() {
    // A job that ends then, and one that ended before and has to settle yet.
    for (ends_at, crash, completed) in [
        (DEADLINE.0 + 8_000, false, true),
        (DEADLINE.0 - 1_000, false, true),
        (DEADLINE.0 - 1_000, true, true),
        (DEADLINE.0 + 11_000, false, false),
    ] {
        let mut world = World::new(Action::Restart, true);
        until(&mut world, |op| matches!(op, Op::Follow { .. }));
        world.happen(Happening::Later(ends_at));
        world.happen(Happening::JobEnds { well: true });
        if crash {
            world.happen(Happening::Crash { done: false });
        }
        world.run_out();
        assert_eq!(world.told.len(), 1);
        assert_eq!(world.told[0].is_completed(), completed, "{ends_at}: {:?}", world.told);
    }
}

#[test]
fn a_job_that_outlasts_its_deadline_by_far_is_rejected_and_goes_on() {
    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Follow { .. }));
    for late_by in [0, 5_000, 11_999] {
        world.happen(Happening::Later(DEADLINE.0 + late_by - world.now.0));
        assert!(world.told.is_empty(), "{:?}", world.told);
    }
    world.happen(Happening::Later(1));
    until(&mut world, |op| matches!(op, Op::Record(record) if record.step == Step::Finished));
    world.happen(Happening::Done(1));
    let [Outcome::Rejected { reason, .. }] = world.told.as_slice() else { panic!("{:?}", world.told) };
    assert_eq!(reason.code, Code::DeadlineExceeded);
    assert!(reason.reason.contains("has not ended 12 s after the deadline, and goes on"), "{reason:?}");
}

#[test]
fn a_call_that_did_not_arrive_is_not_made_again_when_it_is_too_late() {
    let mut world = World::new(Action::Restart, true);
    until(&mut world, |op| matches!(op, Op::Call(_)));
    world.happen(Happening::Crash { done: false });
    world.happen(Happening::Later(DEADLINE.0 - 1_000));
    world.run_out();
    assert_eq!((code(&world), world.effects), (Code::DeadlineExceeded, 0));
}

#[test]
fn what_is_wanted_already_needs_no_time() {
    let mut world = World::new(Action::Start, true);
    until(&mut world, |op| matches!(op, Op::Look));
    world.happen(Happening::Later(DEADLINE.0 - 1));
    world.run_out();
    assert!(world.told[0].is_completed(), "{:?}", world.told);
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
fn a_forced_stop_is_completed_and_told_as_forced_with_the_journal() {
    for (action, runs, forced) in
        [(Action::Stop, true, true), (Action::Restart, true, true), (Action::Restart, false, false)]
    {
        let mut world = World::new(action, runs);
        world.kills = true;
        world.run_out();
        let [Outcome::Completed { result: Some(change) }] = world.told.as_slice() else {
            panic!("{:?}", world.told);
        };
        assert_eq!(change.forced, forced, "{action} {runs}");
        assert_eq!(change.journal, if forced { vec![KILLED] } else { Vec::new() });
    }
}

#[test]
fn a_forced_stop_that_was_not_heard_is_read_in_the_journal() {
    for kills in [false, true] {
        let mut world = World::new(Action::Restart, true);
        world.kills = kills;
        until(&mut world, |op| matches!(op, Op::Follow { .. }));
        world.happen(Happening::JobEnds { well: true });
        world.happen(Happening::Crash { done: false });
        world.run_out();
        let [Outcome::Completed { result: Some(change) }] = world.told.as_slice() else {
            panic!("{:?}", world.told);
        };
        assert_eq!((change.forced, change.journal.is_empty()), (kills, !kills));
    }
}

#[test]
fn what_was_started_is_completed_when_it_answers_and_rejected_when_it_never_does() {
    for (action, answers) in [
        (Action::Restart, Some(true)),
        (Action::Restart, None),
        (Action::Restart, Some(false)),
        (Action::Stop, Some(false)),
    ] {
        let mut world = World::new(action, true);
        world.runtime_answers = answers;
        world.run_out();
        let change = match (world.told.as_slice(), action, answers) {
            ([Outcome::Completed { result: Some(change) }], Action::Stop, _) => {
                assert_eq!((change.answers, change.answer.as_deref()), (None, None));
                continue;
            }
            ([Outcome::Rejected { reason, result: Some(change) }], _, Some(false)) => {
                assert_eq!(reason.code, Code::RuntimeSilent);
                let told = "iggy.service runs, and what it carries does not answer 20 s after its restart: it says so";
                assert_eq!(reason.reason, told);
                assert_eq!(change.journal, ["a line"]);
                change
            }
            ([Outcome::Completed { result: Some(change) }], _, None | Some(true)) => change,
            other => panic!("{other:?}"),
        };
        assert_eq!((change.answers, change.answer.as_deref()), (answers, Some("it says so")));
    }
}

#[test]
fn a_runtime_that_answers_late_is_completed_and_one_that_ends_meanwhile_is_not() {
    let silent_at_first = || {
        let mut world = World::new(Action::Restart, true);
        world.runtime_answers = Some(false);
        until(&mut world, |op| matches!(op, Op::Follow { .. }));
        world.happen(Happening::JobEnds { well: true });
        until(&mut world, |op| matches!(op, Op::Ask));
        world.happen(Happening::Done(1));
        world
    };
    let mut world = silent_at_first();
    world.runtime_answers = Some(true);
    world.run_out();
    assert!(world.told[0].is_completed(), "{:?}", world.told);
    let late = world.ledger.unwrap().progress.answered_late_ms;
    assert!(late.is_some_and(|late| (1..=20_000).contains(&late)), "{late:?}");

    let mut world = silent_at_first();
    world.happen(Happening::Restarts);
    world.run_out();
    assert_eq!(code(&world), Code::UnitNotStable);
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

#[test]
fn a_snapshot_that_is_late_ends_with_what_the_agent_logged_last() {
    let wish = Wish { redact_secrets: true, ..Wish::default() };
    for (answer, lines) in [(Some(vec!["a line".to_owned()]), 1), (Some(Vec::new()), 0), (None, 0)] {
        let (mut course, mut effects) = Course::receive(Task::Snapshot(wish.clone()), DEADLINE, SPANS);
        let number = |effects: &[Effect]| match effects.last() {
            Some(Effect::Do(number, op)) => (*number, op.clone()),
            other => panic!("{other:?}"),
        };
        for answer in [Answer::Recorded, Answer::Turn] {
            effects = course.handle(Event::Answer(number(&effects).0, answer), BootTime(0));
        }
        assert_eq!(number(&effects).1, Op::Snapshot(wish.clone()));
        let (asked, op) = number(&course.handle(Event::Tick, DEADLINE));
        assert_eq!(op, Op::OwnLog);
        // Where no answer comes, it ends all the same.
        let effects = match answer {
            Some(answer) => course.handle(Event::Answer(asked, Answer::Journal(answer)), DEADLINE),
            None => course.handle(Event::Tick, course.wake()),
        };
        let Some(Effect::Do(_, Op::Record(record))) = effects.first() else { panic!("{effects:?}") };
        let Some(Outcome::Rejected { reason, result }) = &record.outcome else { panic!("{record:?}") };
        assert_eq!((reason.code, reason.reason.as_str()), (Code::DeadlineExceeded, messages::SNAPSHOT_LATE));
        let told = result.as_ref().map(|change| (change.unit.as_str(), change.journal.len()));
        assert_eq!(told, (lines > 0).then_some((OWN_UNIT, lines)));
    }
}
