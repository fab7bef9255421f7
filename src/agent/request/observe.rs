//! What a look at the unit leads to.

use std::time::Duration;

use warden_platform::boot_time::BootTime;
use warden_protocol::{Code, Outcome};
use warden_systemd::{Error, Standing};

use super::machine::{Course, Effects, InFlight, Look, State};
use super::{Effect, Op, Step, messages};
use crate::actions::{UnitAction, Verdict};
use crate::answering::Answered;

/// For the calls and the ledger between the looks at a unit, on a busy host.
const CONFIRMING: Duration = Duration::from_secs(1);
/// Between two looks at a unit that must stay as it is.
const LOOK_EACH: Duration = Duration::from_millis(250);
/// Between two questions to a runtime that does not answer yet.
const ASK_EACH: Duration = Duration::from_secs(1);
/// What systemd asks polkit about is answered or refused within this time: 25 s, which sd-bus gives every call
/// (sd_bus_set_method_call_timeout(3)), and some for a busy host. A caller that is gone meanwhile changes nothing.
pub(super) const POLKIT: Duration = Duration::from_secs(30);
/// Between two looks whether it was.
const POLKIT_LOOK: Duration = Duration::from_secs(1);
/// How long systemd may be away before a request that has not begun is given up: D-Bus is back after a restart
/// within a second.
const SYSTEMD_PATIENCE: Duration = Duration::from_secs(10);

impl Course {
    pub(super) fn seen(&mut self, why: Look, now_is: Standing, bus: String, now: BootTime) -> Effects {
        let Some((action, unit)) = self.unit() else { return Vec::new() };
        match why {
            Look::First => self.first(action, &unit, now_is, bus, now),
            Look::Verify => self.verify(action, &unit, now_is, bus, now),
            Look::AfterJob => self.after_job(action, &unit, now_is, now),
            Look::Settling => self.still(action, &unit, now_is, now),
            Look::Last => {
                let under_way = self.called_at.map(|called| now.since(called).as_millis());
                self.record.progress.late_ms = under_way.and_then(|late| u64::try_from(late).ok());
                let reason = messages::late(action, &unit, &self.record, &now_is);
                self.reject_after(Code::DeadlineExceeded, reason, now_is)
            }
            Look::Rebooted => {
                self.reject_after(Code::Interrupted, messages::rebooted(action, &unit, &now_is), now_is)
            }
        }
    }

    pub(super) fn first(
        &mut self,
        action: &UnitAction,
        unit: &str,
        now_is: Standing,
        bus: String,
        now: BootTime,
    ) -> Effects {
        let down = matches!(now_is.state.active_state.as_str(), "inactive" | "failed");
        if now_is.load_state == "not-found" && down {
            return self.reject(Code::UnitNotFound, messages::not_found(unit));
        }
        let already = (action.already)(&now_is.state) && now_is.job.is_none();
        self.record.progress.before = Some(now_is.clone());
        if already {
            let result = Some(self.change(Some(now_is)));
            return self.finish(Outcome::Completed { result });
        }
        match self.too_late(now) {
            Some(reason) => self.reject(Code::DeadlineExceeded, reason),
            None => self.intend(bus, now),
        }
    }

    /// Why it is not begun any more: what would be done could not be confirmed by the deadline, and would be told as a
    /// failure.
    fn too_late(&self, now: BootTime) -> Option<String> {
        let usual = self.record.progress.usual_ms.map(Duration::from_millis);
        let needed = usual.unwrap_or_default() + self.spans.settle + CONFIRMING;
        let left = self.deadline.since(now);
        (left < needed).then(|| messages::too_late(left, needed, usual))
    }

    pub(super) fn intend(&mut self, bus: String, now: BootTime) -> Effects {
        self.record.progress.bus = Some(bus);
        self.record.progress.calling_at = Some(now.0);
        self.record.step = Step::Intended;
        self.write()
    }

    pub(super) fn verify(
        &mut self,
        action: &UnitAction,
        unit: &str,
        now_is: Standing,
        bus: String,
        now: BootTime,
    ) -> Effects {
        if let Some(job) = action.job(&now_is) {
            return self.called(Some(job));
        }
        if self.record.step >= Step::Called {
            return self.look(Look::AfterJob);
        }
        let before = self.record.progress.before.clone().unwrap_or_default();
        match (action.verify)(&before, &now_is) {
            Verdict::TookEffect => self.called(None),
            Verdict::NoEffect if self.may_take_effect_yet(now) => {
                self.pause(Look::Verify, now.after(POLKIT_LOOK))
            }
            Verdict::NoEffect if self.cancelled => {
                self.reject_after(Code::Cancelled, messages::CANCELLED.to_owned(), now_is)
            }
            Verdict::NoEffect => match self.too_late(now) {
                Some(reason) => self.reject_after(Code::DeadlineExceeded, reason, now_is),
                None => self.intend(bus, now),
            },
            Verdict::Unclear(why) => {
                self.reject_after(Code::Interrupted, messages::unclear(action, unit, why), now_is)
            }
        }
    }

    /// Whether systemd, which has just answered a look, may still do what it was asked before.
    fn may_take_effect_yet(&mut self, now: BootTime) -> bool {
        let since = match self.in_flight {
            InFlight::No => return false,
            InFlight::Perhaps => now,
            InFlight::Since(since) => since,
        };
        let may = now.since(since) < POLKIT;
        self.in_flight = if may { InFlight::Since(since) } else { InFlight::No };
        may
    }

    pub(super) fn called(&mut self, job: Option<String>) -> Effects {
        self.taken = true;
        self.unheard |= job.is_none();
        self.record.progress.job = job;
        self.record.step = Step::Called;
        self.write()
    }

    pub(super) fn follow(&mut self) -> Effects {
        match self.record.progress.job.clone() {
            Some(job) => self.doing(State::Following(job.clone()), Op::Follow { job }),
            None => self.look(Look::AfterJob),
        }
    }

    pub(super) fn after_job(
        &mut self,
        action: &UnitAction,
        unit: &str,
        now_is: Standing,
        now: BootTime,
    ) -> Effects {
        let result = self.record.progress.job_result.clone();
        if result.is_none()
            && let Some(job) = action.job(&now_is)
        {
            // The connection broke and the job goes on; or it ended and another one like it was queued.
            self.record.progress.job = Some(job);
            return self.follow();
        }
        if let Some(result) = result.filter(|result| result != "done") {
            let reason = messages::job_failed(action, unit, &result, &now_is.state);
            return self.fail(Code::JobFailed, reason, now_is, now);
        }
        self.record.progress.forced |= self.was_up() && (action.forced)(&now_is);
        if !(action.wanted)(&now_is.state) {
            let reason = messages::not_as_wanted(action, unit, &now_is.state);
            return self.fail(Code::UnitNotStable, reason, now_is, now);
        }
        // Of a restart nothing but the journal tells how its stop ended, where that was not heard.
        let is_untold = self.unheard && action.stops && action.starts && self.was_up();
        if self.record.progress.forced || is_untold {
            let state = State::JournalOfStop(Box::new(now_is));
            let since = self.since_call(now);
            return self.doing(state, Op::Journal { since });
        }
        self.settle(now_is)
    }

    /// What the unit logged until its stop had ended.
    pub(super) fn read_of_stop(&mut self, lines: Vec<String>, now_is: Standing) -> Effects {
        let progress = &mut self.record.progress;
        progress.forced |= lines.iter().any(|line| messages::tells_a_kill(line));
        if progress.forced {
            progress.journal = lines;
        }
        self.settle(now_is)
    }

    pub(super) fn settle(&mut self, now_is: Standing) -> Effects {
        self.record.progress.after = Some(now_is);
        self.record.step = Step::Settling;
        let mut effects = vec![Effect::TellProgress(messages::SETTLING)];
        effects.extend(self.write());
        effects
    }

    /// The time begins when the step is written: after a crash it begins anew.
    pub(super) fn settling(&mut self, now: BootTime) -> Effects {
        self.settling_since = Some(now);
        self.pause(Look::Settling, now.after(self.spans.settle.min(LOOK_EACH)))
    }

    pub(super) fn still(
        &mut self,
        action: &UnitAction,
        unit: &str,
        now_is: Standing,
        now: BootTime,
    ) -> Effects {
        let since = *self.settling_since.get_or_insert(now);
        let after = self.record.progress.after.clone().unwrap_or_else(|| now_is.clone());
        if !(action.stayed)(&after, &now_is) {
            let reason = messages::not_stable(action, unit, now.since(since), &now_is);
            return self.fail(Code::UnitNotStable, reason, now_is, now);
        }
        let end = since.after(self.spans.settle);
        if now >= end {
            if action.starts && !self.spans.answer.is_zero() {
                return self.doing(State::Asking(Box::new(now_is)), Op::Ask);
            }
            let result = Some(self.change(Some(now_is)));
            return self.finish(Outcome::Completed { result });
        }
        self.pause(Look::Settling, end.min(now.after(LOOK_EACH)))
    }

    /// A runtime that cannot be asked is judged by its unit alone.
    pub(super) fn answered_itself(&mut self, answered: Answered, now_is: Standing, now: BootTime) -> Effects {
        let Some((action, unit)) = self.unit() else { return Vec::new() };
        let Answered { answers, said } = answered;
        self.record.progress.answers = answers;
        self.record.progress.answer = Some(said.clone()).filter(|said| !said.is_empty());
        if answers != Some(false) {
            let waited = self.settling_since.map_or(Duration::ZERO, |since| now.since(since));
            let late = waited.saturating_sub(self.spans.settle).as_millis();
            self.record.progress.answered_late_ms = u64::try_from(late).ok().filter(|late| *late > 0);
            let result = Some(self.change(Some(now_is)));
            return self.finish(Outcome::Completed { result });
        }
        let since = *self.settling_since.get_or_insert(now);
        if now >= since.after(self.spans.answer.max(self.spans.settle)) {
            let reason = messages::silent(action, &unit, now.since(since), &said);
            return self.fail(Code::RuntimeSilent, reason, now_is, now);
        }
        let mut effects = Vec::new();
        if !std::mem::replace(&mut self.told_silence, true) {
            effects.push(Effect::TellProgress(messages::WAITING_FOR_ANSWER));
        }
        effects.extend(self.pause(Look::Settling, now.after(ASK_EACH)));
        effects
    }

    pub(super) fn not_seen(&mut self, why: Look, error: &Error, now: BootTime) -> Effects {
        let since = *self.away_since.get_or_insert(now);
        let passing = matches!(error, Error::Unavailable(_) | Error::Timeout(_));
        match why {
            Look::First if !passing => {
                let (code, reason) = self.refusal(error);
                self.reject(code, reason)
            }
            Look::First if now.since(since) >= SYSTEMD_PATIENCE => {
                let (code, reason) = self.refusal(error);
                self.reject(code, reason)
            }
            Look::Last => self.give_up(error),
            Look::Rebooted if now.since(since) >= SYSTEMD_PATIENCE => self.give_up(error),
            Look::First | Look::Verify | Look::AfterJob | Look::Settling | Look::Rebooted => {
                self.pause(why, now.after(super::machine::TRY_AGAIN))
            }
        }
    }
}
