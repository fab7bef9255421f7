//! What can be done to a unit, a file each: when there is nothing to do, what must hold afterwards, and how to tell
//! after a crash whether it was done.

mod restart;
mod start;
mod stop;

use warden_protocol::{Action, UnitState};
use warden_systemd::{Standing, Verb};

#[derive(Debug)]
pub struct UnitAction {
    pub verb: Verb,
    pub name: &'static str,
    /// The kinds of systemd's jobs that do it.
    pub jobs: &'static [&'static str],
    /// The unit is so already: there is nothing to do.
    pub already: fn(&UnitState) -> bool,
    /// The unit is as it must be afterwards.
    pub wanted: fn(&UnitState) -> bool,
    /// The unit stayed as it was right afterwards.
    pub stayed: fn(&Standing, &Standing) -> bool,
    /// What runs is stopped first, or for good.
    pub stops: bool,
    /// Afterwards a runtime is up, and can be asked whether it does its work.
    pub starts: bool,
    /// The stop that it asks for ended in SIGKILL, from how the unit, which was up before, stands right after its job.
    pub forced: fn(&Standing) -> bool,
    /// What came of a call that may or may not have been made, from how the unit stood before it and stands now,
    /// with no job of these kinds left.
    pub verify: fn(&Standing, &Standing) -> Verdict,
}

/// What came of a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    TookEffect,
    /// Nothing happened to the unit since: it is safe to call.
    NoEffect,
    /// Something happened to the unit, and it may not have been this call. It is not made again.
    Unclear(&'static str),
}

impl UnitAction {
    /// The job of the unit that does it, if one is queued or under way.
    pub fn job(&self, now: &Standing) -> Option<String> {
        let job = now.job.as_ref()?;
        self.jobs.contains(&job.kind.as_str()).then(|| job.path.clone())
    }
}

/// The row of an action that is done to a unit.
pub fn of(action: Action) -> Option<&'static UnitAction> {
    match action {
        Action::Start => Some(&start::START),
        Action::Stop => Some(&stop::STOP),
        Action::Restart => Some(&restart::RESTART),
        Action::Reconfigure(_) => None,
    }
}

fn runs(state: &UnitState) -> bool {
    matches!(state.active_state.as_str(), "active" | "reloading" | "refreshing")
}

fn is_down(state: &UnitState) -> bool {
    matches!(state.active_state.as_str(), "inactive" | "failed")
}

/// It runs since the same start: neither systemd nor anybody else started it anew.
fn runs_on(after: &Standing, now: &Standing) -> bool {
    runs(&now.state) && now.state.invocation_id == after.state.invocation_id && now.restarts == after.restarts
}

/// systemd draws a new invocation id for each start, and forgets that of a unit that is down and that nothing needs.
fn started_since(before: &Standing, now: &Standing) -> bool {
    !now.state.invocation_id.is_empty() && now.state.invocation_id != before.state.invocation_id
}

/// How systemd tells that the run of a unit which was up ended by SIGKILL.
fn was_killed(now: &Standing) -> bool {
    is_down(&now.state) && now.tells_a_kill()
}

fn unchanged(before: &Standing, now: &Standing) -> bool {
    now.state.invocation_id == before.state.invocation_id
        && now.state.active_state == before.state.active_state
}

#[cfg(test)]
mod tests {
    use warden_systemd::Job;

    use super::*;

    fn unit(active_state: &str, invocation_id: &str) -> Standing {
        let state = UnitState {
            active_state: active_state.into(),
            invocation_id: invocation_id.into(),
            ..UnitState::default()
        };
        Standing { load_state: "loaded".into(), state, ..Standing::default() }
    }

    fn verdicts(action: Action, before: &Standing, after: &[Standing]) -> Vec<Verdict> {
        let action = of(action).unwrap();
        after.iter().map(|now| (action.verify)(before, now)).collect()
    }

    #[test]
    fn a_restart_took_effect_when_the_unit_was_started_since() {
        let before = unit("active", "a");
        let now = [unit("active", "b"), unit("failed", "b"), unit("activating", "b"), unit("active", "a")];
        let took = Verdict::TookEffect;
        assert_eq!(verdicts(Action::Restart, &before, &now), [took, took, took, Verdict::NoEffect]);
        let stopped = [unit("inactive", "a"), unit("inactive", ""), unit("failed", "a")];
        for verdict in verdicts(Action::Restart, &before, &stopped) {
            assert!(matches!(verdict, Verdict::Unclear(_)), "{verdict:?}");
        }
    }

    #[test]
    fn a_start_took_effect_when_the_unit_was_started_since() {
        let now = [unit("active", "b"), unit("failed", "b"), unit("inactive", "a")];
        let verdicts_of = |before| verdicts(Action::Start, before, &now);
        let (took, none) = (Verdict::TookEffect, Verdict::NoEffect);
        assert_eq!(verdicts_of(&unit("inactive", "a")), [took, took, none]);
        assert_eq!(verdicts(Action::Start, &unit("inactive", ""), &[unit("inactive", "")]), [none]);
    }

    #[test]
    fn a_stop_took_effect_when_the_unit_is_down_and_is_not_repeated_on_another_run_of_it() {
        let now = [unit("inactive", "a"), unit("failed", "a"), unit("inactive", ""), unit("active", "a")];
        let took = Verdict::TookEffect;
        assert_eq!(verdicts(Action::Stop, &unit("active", "a"), &now), [took, took, took, Verdict::NoEffect]);
        let anew = verdicts(Action::Stop, &unit("active", "a"), &[unit("active", "b")]);
        assert!(matches!(anew[0], Verdict::Unclear(_)));
    }

    #[test]
    fn a_stop_was_forced_when_it_ran_out_of_time_or_the_main_process_was_killed() {
        let forced = of(Action::Stop).unwrap().forced;
        let mut down = unit("failed", "a");
        assert!(!forced(&down));
        down.state.result = "timeout".into();
        assert!(forced(&down));
        down.state.result = "success".into();
        down.main_killed_by = Some(15);
        assert!(!forced(&down));
        down.main_killed_by = Some(9);
        assert!(forced(&down), "SuccessExitStatus=SIGKILL hides nothing");
        down.state.active_state = "active".into();
        assert!(!forced(&down), "it is up");
    }

    #[test]
    fn only_a_job_of_its_kind_is_its_job() {
        let mut now = unit("active", "a");
        now.job = Some(Job { path: "/job/7".into(), kind: "stop".into() });
        assert_eq!(of(Action::Restart).unwrap().job(&now), None);
        assert_eq!(of(Action::Stop).unwrap().job(&now).as_deref(), Some("/job/7"));
    }
}
