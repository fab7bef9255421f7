//! The steps of a request, and what leads from each to the next.

use std::time::Duration;

use warden_platform::boot_time::BootTime;
use warden_protocol::{Code, Outcome};
use warden_systemd::{Error, Standing};

use super::{Answer, Effect, Event, Op, Progress, Record, Spans, Step, Task, messages};

/// Between two attempts to reach systemd.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(500);
/// Between two attempts to write the ledger: a full disk stays full for a while.
const LEDGER_AGAIN: Duration = Duration::from_secs(2);
/// A request that was open when the host went down is told to have been interrupted; its deadline went with the boot.
const REBOOTED: Duration = Duration::from_secs(60);

/// A snapshot that was open then is taken or sent on, for so long.
const SNAPSHOT_AFTER_REBOOT: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub struct Course {
    pub(super) task: Task,
    pub(super) record: Record,
    pub(super) deadline: BootTime,
    pub(super) spans: Spans,
    pub(super) state: State,
    /// Number of the operation under way, or of the last one.
    pub(super) op: u32,
    /// The call was made, or may have been.
    pub(super) begun: bool,
    /// systemd took the call, for certain.
    pub(super) taken: bool,
    pub(super) cancelled: bool,
    pub(super) settled: bool,
    pub(super) told: bool,
    /// Why its first write failed, while it is not known whether it is in the ledger.
    pub(super) doubt: Option<String>,
    /// A call may still be with polkit.
    pub(super) in_flight: InFlight,
    /// Since when systemd could not be asked.
    pub(super) away_since: Option<BootTime>,
    pub(super) called_at: Option<BootTime>,
    pub(super) settling_since: Option<BootTime>,
    /// The job was not heard from its beginning to its end.
    pub(super) unheard: bool,
    /// It was told that the runtime does not answer yet.
    pub(super) told_silence: bool,
    /// It was told that the deadline is over.
    pub(super) told_overtime: bool,
}

/// What is waited for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum State {
    /// The ledger, at the record's own step.
    Recording,
    /// Whether its first step is in the ledger.
    Recalling,
    Queued,
    Policy,
    Snapshot,
    Looking(Look),
    Pausing(Then),
    Calling,
    Following(String),
    Quieting,
    Journal(Box<Outcome>),
    /// What the unit logged until its stop was forced, before the lines of its next run bury it.
    JournalOfStop(Box<Standing>),
    /// Whether the runtime answers, with how its unit stood just before.
    Asking(Box<Standing>),
    Over,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Then {
    Look(Look),
    Record,
    Recall,
}

/// What a look at the unit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Look {
    /// Before anything is done.
    First,
    /// Whether a call took effect.
    Verify,
    /// The job has ended.
    AfterJob,
    /// Whether it stays as it is.
    Settling,
    /// The deadline is over.
    Last,
    /// The host went down in the middle.
    Rebooted,
}

/// Whether systemd may have a call of ours that it has not begun to do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum InFlight {
    No,
    /// It was sent through a connection that is gone, if it was sent.
    Perhaps,
    /// systemd has read all that was sent, since then, and may be waiting for polkit.
    Since(BootTime),
}

pub(super) type Effects = Vec<Effect>;

impl Course {
    /// Of a request that just arrived. It is accepted when it tells so.
    pub fn receive(task: Task, deadline: BootTime, spans: Spans) -> (Course, Effects) {
        let record = Record { step: Step::Accepted, progress: Progress::default(), outcome: None };
        let mut course = Course::new(task, record, deadline, spans);
        let effects = course.write();
        (course, effects)
    }

    /// Of a request that the ledger has as open. `same_boot`: the host has not gone down since.
    pub fn recover(
        task: Task,
        record: Record,
        deadline: BootTime,
        spans: Spans,
        same_boot: bool,
        now: BootTime,
    ) -> (Course, Effects) {
        let snapshot = matches!(task, Task::Snapshot(_));
        let deadline = match (same_boot, snapshot) {
            (true, _) => deadline,
            // The Supervisor has its own, and says when it is over.
            (false, true) => now.after(SNAPSHOT_AFTER_REBOOT),
            (false, false) => now.after(REBOOTED),
        };
        let mut course = Course::new(task, record, deadline, spans);
        course.unheard = course.begun;
        course.called_at = course.record.progress.calling_at.filter(|_| same_boot).map(BootTime);
        let effects = if course.record.outcome.is_some() {
            course.state = State::Over;
            Vec::new()
        } else if same_boot || snapshot {
            course.wait_for_turn()
        } else if course.record.step == Step::Accepted {
            course.reject(Code::Interrupted, messages::REBOOTED_BEFORE)
        } else {
            course.look(Look::Rebooted)
        };
        (course, effects)
    }

    fn new(task: Task, record: Record, deadline: BootTime, spans: Spans) -> Course {
        Course {
            begun: record.step >= Step::Intended,
            taken: record.step >= Step::Called,
            task,
            record,
            deadline,
            spans,
            state: State::Recording,
            op: 0,
            cancelled: false,
            settled: false,
            told: false,
            doubt: None,
            in_flight: InFlight::No,
            away_since: None,
            called_at: None,
            settling_since: None,
            unheard: false,
            told_silence: false,
            told_overtime: false,
        }
    }

    /// When a [`Event::Tick`] is due, whatever else happens.
    pub fn wake(&self) -> BootTime {
        let untold = self.record.step == Step::Finished && !self.told;
        match self.is_late() {
            true if !untold => self.last_words(),
            false if self.told_overtime => self.last_look(),
            _ => self.deadline,
        }
    }

    pub fn is_over(&self) -> bool {
        self.state == State::Over
    }

    /// The call was made, or may have been.
    pub fn is_begun(&self) -> bool {
        self.begun
    }

    /// Whether it is in the ledger, and will be done, is not known.
    pub fn is_in_doubt(&self) -> bool {
        self.doubt.is_some()
    }

    /// What follows from an event. The deadline comes first, whichever event brings the time: what is late is not
    /// begun.
    pub fn handle(&mut self, event: Event, now: BootTime) -> Effects {
        let mut effects = self.tick(now);
        effects.extend(self.take(event, now));
        effects
    }

    fn take(&mut self, event: Event, now: BootTime) -> Effects {
        match event {
            Event::Answer(op, answer) if op == self.op => self.answered(answer, now),
            // Of an operation that was given up.
            Event::Answer(..) => Vec::new(),
            Event::Tick => Vec::new(),
            Event::Cancel => self.cancel(),
            Event::Settled => {
                self.settled = true;
                Vec::new()
            }
        }
    }

    fn answered(&mut self, answer: Answer, now: BootTime) -> Effects {
        match (self.state.clone(), answer) {
            (State::Recording, Answer::Recorded) => self.recorded(now),
            (State::Recording, Answer::Doubtful(why)) if self.record.step == Step::Accepted => {
                self.doubt = Some(why);
                self.recall()
            }
            (State::Recording, Answer::NotRecorded(why) | Answer::Doubtful(why)) => {
                self.not_recorded(&why, now)
            }
            (State::Recalling, Answer::Recorded) => self.recorded(now),
            (State::Recalling, Answer::NotThere) => {
                let why = self.doubt.take().unwrap_or_default();
                self.refuse(&why)
            }
            (State::Recalling, Answer::Unread) => {
                let until = now.after(LEDGER_AGAIN);
                self.doing(State::Pausing(Then::Recall), Op::Pause { until })
            }
            (State::Queued, Answer::Turn) => self.begin(),
            (State::Policy, Answer::Allowed { usual_ms }) => {
                self.record.progress.usual_ms = usual_ms;
                self.look(Look::First)
            }
            (State::Snapshot, Answer::Snapshot(outcome)) => self.finish(*outcome),
            (State::Policy, Answer::Denied(why)) => self.reject(Code::PolicyDenied, why),
            (State::Looking(why), Answer::Standing { standing, bus }) => {
                self.away_since = None;
                self.seen(why, *standing, bus, now)
            }
            (State::Looking(why), Answer::NotSeen(error)) => self.not_seen(why, &error, now),
            (State::Pausing(Then::Look(why)), Answer::Paused) => self.look(why),
            (State::Pausing(Then::Record), Answer::Paused) => self.write(),
            (State::Pausing(Then::Recall), Answer::Paused) => self.recall(),
            (State::Calling, Answer::Called { job }) => self.called(Some(job)),
            (
                State::Calling,
                Answer::Refused(Error::Unavailable(_) | Error::Timeout(_)) | Answer::NotSent,
            ) => self.pause(Look::Verify, now.after(TRY_AGAIN)),
            (State::Calling, Answer::Refused(error)) => {
                let (code, reason) = self.refusal(&error);
                self.reject(code, reason)
            }
            (State::Calling, Answer::Lost) => self.quiet(),
            (State::Quieting, Answer::Quiet) => self.look(Look::Verify),
            (State::Following(_), Answer::JobEnded { result, killed }) => {
                self.unheard |= result.is_none();
                self.record.progress.job_result = result;
                self.record.progress.forced |= killed && self.was_up();
                let took = self.called_at.map(|called| now.since(called).as_millis());
                self.record.progress.took_ms = took.and_then(|took| u64::try_from(took).ok());
                self.look(Look::AfterJob)
            }
            (State::Following(_), Answer::JobLost) => {
                self.unheard = true;
                self.pause(Look::AfterJob, now.after(TRY_AGAIN))
            }
            (State::Journal(outcome), Answer::Journal(lines)) => self.finish_with(*outcome, lines),
            (State::JournalOfStop(standing), Answer::Journal(lines)) => self.read_of_stop(lines, *standing),
            (State::Asking(standing), Answer::Answered(answered)) => {
                self.answered_itself(answered, *standing, now)
            }
            // An answer of one kind to an operation of another.
            _ => Vec::new(),
        }
    }

    fn recorded(&mut self, now: BootTime) -> Effects {
        self.doubt = None;
        match self.record.step {
            Step::Accepted => {
                let mut effects = vec![Effect::TellAccepted];
                effects.extend(self.wait_for_turn());
                effects
            }
            Step::Intended => {
                let Some((action, _)) = self.unit() else { return Vec::new() };
                self.called_at = Some(now);
                self.begun = true;
                self.doing(State::Calling, Op::Call(action.verb))
            }
            Step::Called => self.follow(),
            Step::Settling => self.settling(now),
            Step::Finished => self.over(),
        }
    }

    fn not_recorded(&mut self, why: &str, now: BootTime) -> Effects {
        match self.record.step {
            Step::Accepted => self.refuse(why),
            Step::Intended if self.begun => self.pause(Look::Verify, now.after(LEDGER_AGAIN)),
            Step::Intended => self.reject(Code::LedgerUnavailable, messages::ledger(why)),
            // What was done is found out again after a crash: no reason to stop here.
            Step::Called => self.follow(),
            Step::Settling => self.settling(now),
            // Told only when it is written, for what was told must not be done later, after a crash; except when it
            // was done already, which a look at the unit will tell again.
            Step::Finished => {
                let mut effects = if self.taken { self.tell() } else { Vec::new() };
                let until = now.after(LEDGER_AGAIN);
                effects.extend(self.doing(State::Pausing(Then::Record), Op::Pause { until }));
                effects
            }
        }
    }

    fn begin(&mut self) -> Effects {
        match (self.record.step, &self.task) {
            (Step::Accepted, Task::Unsupported(why)) => {
                let why = why.clone();
                self.reject(Code::UnsupportedAction, why)
            }
            (Step::Accepted, Task::Unit { .. }) => self.doing(State::Policy, Op::Policy),
            (Step::Accepted, Task::Snapshot(wish)) => {
                let wish = wish.clone();
                self.doing(State::Snapshot, Op::Snapshot(wish))
            }
            (Step::Intended, _) => self.quiet(),
            (Step::Called, _) => self.look(Look::Verify),
            (Step::Settling, _) => self.look(Look::Settling),
            (Step::Finished, _) => self.write(),
        }
    }
}
