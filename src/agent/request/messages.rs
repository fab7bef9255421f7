//! The sentences in which an outcome is told.

use std::time::Duration;

use warden_protocol::{Code, UnitState};
use warden_systemd::{Error, Standing};

use super::finish::OVERTIME;
use super::{Record, Step};
use crate::actions::{UnitAction, Verdict};

pub const CANCELLED: &str = "cancelled before it was begun; nothing was done";
pub const CANCEL_LATE: &str = "it cannot be cancelled any more: systemd has been asked";
pub const SNAPSHOT_LATE: &str = "the snapshot was not taken and stored by its deadline";
pub const OVERTIME_BEGINS: &str = "the deadline is over; what was begun is followed for 12 s more";
pub const NOT_BEGUN: &str = "the deadline was over before it was begun; nothing was done";
pub const REBOOTED_BEFORE: &str = "the host went down before it was begun; nothing was done";
pub const SETTLING: &str = "waiting whether the unit stays as it is";
pub const WAITING_FOR_ANSWER: &str = "the unit runs; waiting until the runtime answers";

/// `usual`: how long it took the last time.
pub fn too_late(left: Duration, needed: Duration, usual: Option<Duration>) -> String {
    let (left, needed) = (left.as_secs_f64(), needed.as_secs_f64());
    let took = usual
        .map_or_else(String::new, |usual| format!(" (it took {:.1} s the last time)", usual.as_secs_f64()));
    format!(
        "{left:.1} s before its deadline it could not be done and confirmed any more, which needs {needed:.1} s{took}: \
         nothing was done; ask again, with a longer deadline if it stays so"
    )
}

pub fn ledger(why: &str) -> String {
    format!("the agent cannot write its ledger, so nothing was done: {why}")
}

pub fn not_found(unit: &str) -> String {
    format!("{unit} does not exist on this host")
}

/// systemd refused, or could not be asked; nothing was done.
pub fn refusal(action: &UnitAction, unit: &str, error: &Error) -> (Code, String) {
    let name = action.name;
    match error {
        Error::Denied => {
            (Code::PermissionDenied, format!("polkit does not let the agent {name} {unit} on this host"))
        }
        Error::NoSuchUnit(_) => (Code::UnitNotFound, not_found(unit)),
        Error::Unavailable(_) | Error::Timeout(_) => {
            (Code::SystemdUnavailable, format!("cannot {name} {unit}; nothing was done: {error}"))
        }
        Error::Call(_) => (Code::JobFailed, format!("systemd refused to {name} {unit}: {error}")),
    }
}

pub fn job_failed(action: &UnitAction, unit: &str, result: &str, state: &UnitState) -> String {
    let how = match result {
        "canceled" => "was cancelled by somebody else on this host".to_owned(),
        "dependency" => "failed, because a unit that it needs did".to_owned(),
        "timeout" => format!("ran out of time{}", ending(state)),
        other => format!("ended as {other}{}", ending(state)),
    };
    format!("systemd's job to {} {unit} {how}", action.name)
}

pub fn not_as_wanted(action: &UnitAction, unit: &str, state: &UnitState) -> String {
    format!("{unit} is {} right after its {}{}", shown(state), action.name, ending(state))
}

pub fn not_stable(action: &UnitAction, unit: &str, held: Duration, now_is: &Standing) -> String {
    let seconds = held.as_secs_f64();
    if (action.wanted)(&now_is.state) {
        return format!(
            "{unit} held for {seconds:.1} s after its {}, then it was started anew{}",
            action.name,
            ending(&now_is.state)
        );
    }
    let state = shown(&now_is.state);
    format!(
        "{unit} held for {seconds:.1} s after its {}, now it is {state}{}",
        action.name,
        ending(&now_is.state)
    )
}

/// Whether a line of the journal is systemd's own word for a main process that SIGKILL ended.
pub fn tells_a_kill(line: &str) -> bool {
    line.starts_with("systemd: ") && line.ends_with("Main process exited, code=killed, status=9/KILL")
}

pub fn silent(action: &UnitAction, unit: &str, held: Duration, said: &str) -> String {
    let seconds = held.as_secs();
    format!("{unit} runs, and what it carries does not answer {seconds} s after its {}: {said}", action.name)
}

/// The deadline is over, and this is how the unit stands.
pub fn late(action: &UnitAction, unit: &str, record: &Record, now_is: &Standing) -> String {
    let (name, late) = (action.name, OVERTIME.as_secs());
    let state = shown(&now_is.state);
    if action.job(now_is).is_some() {
        return format!(
            "systemd's job to {name} {unit} has not ended {late} s after the deadline, and goes on; the unit is {state}"
        );
    }
    if record.step >= Step::Settling {
        let silent = record.progress.answers == Some(false);
        return match record.progress.answer.as_deref().filter(|_| silent) {
            Some(said) => {
                format!(
                    "{unit} is {state} after its {name}, and did not answer until {late} s after the deadline: {said}"
                )
            }
            None => format!(
                "{unit} is {state} after its {name}; {late} s after the deadline it was not seen yet whether it stays so"
            ),
        };
    }
    let before = record.progress.before.clone().unwrap_or_default();
    match (action.verify)(&before, now_is) {
        _ if record.step == Step::Called => {
            format!(
                "the job to {name} {unit} ended more than {late} s after the deadline; the unit is {state}"
            )
        }
        Verdict::TookEffect => {
            format!(
                "the {name} of {unit} took effect, too late to see whether it stays so; the unit is {state}"
            )
        }
        Verdict::NoEffect => {
            format!(
                "the {name} of {unit} had taken no effect {late} s after the deadline; the unit is {state}"
            )
        }
        Verdict::Unclear(why) => {
            format!("whether the {name} of {unit} took effect is not clear: {why}")
        }
    }
}

pub fn rebooted(action: &UnitAction, unit: &str, now_is: &Standing) -> String {
    let state = shown(&now_is.state);
    format!(
        "the host went down during the {} of {unit}; since it is up again the unit is {state}",
        action.name
    )
}

pub fn unclear(action: &UnitAction, unit: &str, why: &str) -> String {
    let name = action.name;
    format!(
        "whether the {name} of {unit} took effect when the agent was interrupted is not clear: {why}; it is not repeated"
    )
}

pub fn unknown(action: &UnitAction, unit: &str, why: &str) -> String {
    format!("whether the {} of {unit} took effect is not known: {why}", action.name)
}

fn shown(state: &UnitState) -> String {
    if state.sub_state.is_empty() || state.sub_state == state.active_state {
        state.active_state.clone()
    } else {
        format!("{} ({})", state.active_state, state.sub_state)
    }
}

/// How the main process ended, where that tells more: `: exit-code, status 203`.
fn ending(state: &UnitState) -> String {
    match (state.result.as_str(), state.exit_status) {
        ("" | "success", _) => String::new(),
        (result, Some(status)) if result == "signal" || result == "core-dump" => {
            format!(": {result}, signal {status}")
        }
        (result, Some(status)) => format!(": {result}, status {status}"),
        (result, None) => format!(": {result}"),
    }
}
