//! How a course comes to its end, and the small moves between its states.

use std::time::Duration;

use warden_platform::boot_time::BootTime;
use warden_protocol::{Code, Outcome, Reason, UnitChange};
use warden_systemd::{Error, Standing};

use super::machine::{Course, Effects, InFlight, Look, State, Then};
use super::{Effect, OWN_UNIT, Op, Step, Task, messages};
use crate::actions::UnitAction;

/// After the deadline, for what was begun to take effect and be confirmed: it would else be called a failure while it
/// goes on and ends well.
pub(super) const OVERTIME: Duration = Duration::from_secs(12);
/// After the deadline, for one last look, the journal and the ledger. Then the end is told with what is known.
const LAST_WORDS: Duration = Duration::from_secs(15);

impl Course {
    pub(super) fn give_up(&mut self, error: &Error) -> Effects {
        let Some((action, unit)) = self.unit() else { return Vec::new() };
        let code =
            if self.state == State::Looking(Look::Last) { Code::DeadlineExceeded } else { Code::Interrupted };
        let reason = messages::unknown(action, &unit, &error.to_string());
        let result = Some(self.change(None));
        self.finish(Outcome::Rejected { reason: Reason { code, reason }, result })
    }

    pub(super) fn tick(&mut self, now: BootTime) -> Effects {
        if now < self.deadline || self.is_over() {
            return Vec::new();
        }
        if now >= self.last_words() {
            return self.end_now();
        }
        if self.record.step == Step::Finished {
            // Not written yet; but what is told now is not begun any more, whatever crashes.
            return self.tell();
        }
        if self.is_late() {
            return Vec::new();
        }
        match (&self.task, self.begun) {
            (_, true) if now < self.last_look() => {
                let is_first = !std::mem::replace(&mut self.told_overtime, true);
                is_first.then_some(Effect::TellProgress(messages::OVERTIME_BEGINS)).into_iter().collect()
            }
            (_, true) => self.look(Look::Last),
            (Task::Snapshot(_), false) => self.end_late_snapshot(),
            (Task::Unit { .. } | Task::Unsupported(_), false) => {
                self.reject(Code::DeadlineExceeded, messages::NOT_BEGUN)
            }
        }
    }

    /// Whether the end is being prepared already, so that the deadline changes nothing.
    pub(super) fn is_late(&self) -> bool {
        self.record.step == Step::Finished
            || matches!(self.state, State::Looking(Look::Last) | State::Journal(_) | State::Over)
    }

    /// When what has not ended by itself is looked at for the last time. What is not begun by its deadline never is.
    pub(super) fn last_look(&self) -> BootTime {
        if self.begun { self.deadline.after(OVERTIME) } else { self.deadline }
    }

    pub(super) fn last_words(&self) -> BootTime {
        self.deadline.after(LAST_WORDS)
    }

    /// With what is known: some operation never ended.
    pub(super) fn end_now(&mut self) -> Effects {
        if self.record.outcome.is_none() {
            let outcome = if let State::Journal(outcome) = &self.state {
                (**outcome).clone()
            } else {
                let reason = match self.unit() {
                    Some((action, unit)) if self.begun => {
                        messages::unknown(action, &unit, "it does not answer")
                    }
                    _ => messages::NOT_BEGUN.to_owned(),
                };
                let result = self.record.progress.before.is_some().then(|| self.change(None));
                Outcome::Rejected { reason: Reason { code: Code::DeadlineExceeded, reason }, result }
            };
            self.record.step = Step::Finished;
            self.record.outcome = Some(outcome);
            // One attempt to write it down, which nobody waits for.
            let mut effects = self.write();
            effects.extend(self.over());
            return effects;
        }
        self.over()
    }

    pub(super) fn cancel(&mut self) -> Effects {
        if self.is_late() || std::mem::replace(&mut self.cancelled, true) {
            Vec::new()
        } else if self.begun {
            vec![Effect::TellProgress(messages::CANCEL_LATE)]
        } else {
            self.reject(Code::Cancelled, messages::CANCELLED)
        }
    }

    pub(super) fn unit(&self) -> Option<(&'static UnitAction, String)> {
        match &self.task {
            Task::Unit { action, unit } => Some((action, unit.clone())),
            Task::Snapshot(_) | Task::Unsupported(_) => None,
        }
    }

    pub(super) fn doing(&mut self, state: State, op: Op) -> Effects {
        self.state = state;
        self.op = self.op.wrapping_add(1);
        vec![Effect::Do(self.op, op)]
    }

    pub(super) fn write(&mut self) -> Effects {
        let record = Box::new(self.record.clone());
        self.doing(State::Recording, Op::Record(record))
    }

    pub(super) fn recall(&mut self) -> Effects {
        self.doing(State::Recalling, Op::Recall)
    }

    /// Never accepted, and nowhere written.
    pub(super) fn refuse(&mut self, why: &str) -> Effects {
        let outcome = Outcome::rejected(Code::LedgerUnavailable, messages::ledger(why));
        self.record.outcome = Some(outcome.clone());
        self.told = true;
        self.state = State::Over;
        vec![Effect::TellRefused(Box::new(outcome))]
    }

    pub(super) fn wait_for_turn(&mut self) -> Effects {
        self.doing(State::Queued, Op::Turn)
    }

    pub(super) fn look(&mut self, why: Look) -> Effects {
        self.doing(State::Looking(why), Op::Look)
    }

    pub(super) fn pause(&mut self, then: Look, until: BootTime) -> Effects {
        self.doing(State::Pausing(Then::Look(then)), Op::Pause { until })
    }

    pub(super) fn quiet(&mut self) -> Effects {
        self.in_flight = InFlight::Perhaps;
        let bus = self.record.progress.bus.clone().unwrap_or_default();
        self.doing(State::Quieting, Op::Quiet { bus })
    }

    pub(super) fn refusal(&self, error: &Error) -> (Code, String) {
        match &self.task {
            Task::Unit { action, unit } => messages::refusal(action, unit, error),
            Task::Snapshot(_) => (Code::Internal, error.to_string()),
            Task::Unsupported(why) => (Code::UnsupportedAction, why.clone()),
        }
    }

    /// Rejected with nothing done.
    pub(super) fn reject(&mut self, code: Code, reason: impl Into<String>) -> Effects {
        let result = self.record.progress.before.is_some().then(|| self.change(None));
        let reason = Reason { code, reason: reason.into() };
        self.finish(Outcome::Rejected { reason, result })
    }

    pub(super) fn reject_after(&mut self, code: Code, reason: String, after: Standing) -> Effects {
        let result = Some(self.change(Some(after)));
        self.finish(Outcome::Rejected { reason: Reason { code, reason }, result })
    }

    /// The same, with the unit's newest journal lines.
    pub(super) fn fail(&mut self, code: Code, reason: String, after: Standing, now: BootTime) -> Effects {
        let result = Some(self.change(Some(after)));
        self.fetch_journal(Outcome::Rejected { reason: Reason { code, reason }, result }, now)
    }

    fn fetch_journal(&mut self, outcome: Outcome, now: BootTime) -> Effects {
        let since = self.since_call(now);
        self.doing(State::Journal(Box::new(outcome)), Op::Journal { since })
    }

    pub(super) fn since_call(&self, now: BootTime) -> Duration {
        self.called_at.map_or(Duration::ZERO, |called| now.since(called))
    }

    /// Whether the unit ran something before the call, and systemd said of it nothing yet of what it says of a kill.
    pub(super) fn was_up(&self) -> bool {
        self.record.progress.before.as_ref().is_some_and(|before| {
            let is_down = matches!(before.state.active_state.as_str(), "" | "inactive" | "failed");
            !is_down && !before.is_between_starts() && !before.tells_a_kill()
        })
    }

    /// With what the agent logged last: what it was at, nobody else can tell.
    fn end_late_snapshot(&mut self) -> Effects {
        let outcome = Outcome::rejected(Code::DeadlineExceeded, messages::SNAPSHOT_LATE);
        self.doing(State::Journal(Box::new(outcome)), Op::OwnLog)
    }

    /// The end that the lines were fetched for, with them.
    pub(super) fn finish_with(&mut self, mut outcome: Outcome, journal: Vec<String>) -> Effects {
        if let Outcome::Rejected { result, .. } = &mut outcome {
            if let Some(change) = result {
                change.journal = journal;
            } else if !journal.is_empty() {
                *result = Some(UnitChange { unit: OWN_UNIT.to_owned(), journal, ..UnitChange::default() });
            }
        }
        self.finish(outcome)
    }

    pub(super) fn change(&self, after: Option<Standing>) -> UnitChange {
        let progress = &self.record.progress;
        UnitChange {
            unit: self.unit().map(|(_, unit)| unit).unwrap_or_default(),
            before: progress.before.as_ref().map(|before| before.state.clone()),
            after: after.map(|after| after.state),
            job_result: progress.job_result.clone(),
            took_ms: progress.took_ms,
            forced: progress.forced,
            answers: progress.answers,
            answer: progress.answer.clone(),
            journal: progress.journal.clone(),
        }
    }

    pub(super) fn finish(&mut self, outcome: Outcome) -> Effects {
        self.record.step = Step::Finished;
        self.record.outcome = Some(outcome);
        self.write()
    }

    pub(super) fn tell(&mut self) -> Effects {
        if std::mem::replace(&mut self.told, true) {
            return Vec::new();
        }
        self.record.outcome.clone().map(Box::new).map(Effect::TellFinished).into_iter().collect()
    }

    pub(super) fn over(&mut self) -> Effects {
        let mut effects = self.tell();
        self.state = State::Over;
        if self.settled {
            effects.push(Effect::Settle);
        }
        effects
    }
}
