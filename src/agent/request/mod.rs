//! The course of one request, from its arrival to its end. Pure: events in, effects out, the time as an argument.
//!
//! ```text
//! Received -> Accepted -> (its turn, the policy) -> Intended -> Called -> Settling -> Finished -> Settled
//! ```
//! Each step but the first is in the ledger, on disk, before anything that follows from it is done. `Accepted`: it
//! will end, whatever crashes. `Intended`: how the unit stood before, so that after a crash it can be told whether
//! the call was made. `Called`: systemd has taken it, and it is never called again. `Settling`: the job is done, and
//! the unit must stay as it is for a while, and what was started must answer. `Finished`: the outcome. `Settled`: the Supervisor has the outcome.
//!
//! A write that failed may be found done after a crash. For `Accepted` that makes the difference between being done
//! and not, so nothing is said before the ledger was opened anew and looked into: it is there, and goes on; it is not,
//! and is refused; it cannot be told, and is looked for again until the deadline, after which nothing of it is begun.
//! For `Intended` and an outcome before the call it is safe either way: no call follows, and the outcome is told only
//! when it is written. From `Called` on, what was done is found out again by a look at the unit.

mod finish;
mod machine;
mod messages;
mod observe;
#[cfg(test)]
mod tests;

use std::time::Duration;

pub use machine::Course;
use serde::{Deserialize, Serialize};
use warden_platform::boot_time::BootTime;
use warden_protocol::Outcome;
use warden_systemd::{Error, Standing, Verb};

use super::actions::UnitAction;
use super::answering::Answered;
use super::snapshots::Wish;

/// The agent's own unit.
pub const OWN_UNIT: &str = "warden.service";

/// How far a request has come, as the ledger has it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Step {
    Accepted,
    Intended,
    Called,
    Settling,
    Finished,
}

/// What the ledger keeps of a request's course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Record {
    pub step: Step,
    pub progress: Progress,
    pub outcome: Option<Outcome>,
}

#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Progress {
    /// How the unit stood before the call.
    pub before: Option<Standing>,
    /// The connection the call was made through, as [`warden_systemd::Manager::identity`] tells.
    pub bus: Option<String>,
    /// When the call was about to be made, in milliseconds since the host booted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub calling_at: Option<u64>,
    /// Object path of the job systemd answered with.
    pub job: Option<String>,
    pub job_result: Option<String>,
    pub took_ms: Option<u64>,
    /// The stop ended in SIGKILL.
    pub forced: bool,
    /// What the unit logged until then.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<String>,
    /// Whether the runtime answered when it was last asked, and in which words it did or why it was not asked.
    pub answers: Option<bool>,
    pub answer: Option<String>,
    /// How the unit stood when the job was done.
    pub after: Option<Standing>,
    /// How long the job was under way when the deadline was over, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub late_ms: Option<u64>,
    /// How much longer than the unit had to stay up the runtime took to answer, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answered_late_ms: Option<u64>,
    /// How long the same took the last time, as far as the ledger knows, in milliseconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual_ms: Option<u64>,
}

/// What is to be done.
#[derive(Debug, Clone)]
pub enum Task {
    Unit {
        action: &'static UnitAction,
        unit: String,
    },
    /// Taken and sent. Its only effect is the archive, so it is simply done again after a crash.
    Snapshot(Wish),
    /// This agent cannot, for this reason.
    Unsupported(String),
}

/// The spans a course keeps to.
#[derive(Debug, Clone, Copy)]
pub struct Spans {
    /// How long a unit must stay as it was right after its job.
    pub settle: Duration,
    /// How long a runtime may take to answer after the job that started it; nought: it is not asked.
    pub answer: Duration,
}

/// Something the executor does for a course.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Effect {
    /// At most one is under way: another one replaces it. Its [`Answer`] comes back under the same number.
    Do(u32, Op),
    /// Tell the Supervisor that the request is accepted.
    TellAccepted,
    TellProgress(&'static str),
    TellFinished(Box<Outcome>),
    /// The same for a request of which the ledger has nothing.
    TellRefused(Box<Outcome>),
    /// The Supervisor had the outcome before it was written: write that down too.
    Settle,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Op {
    /// Write it into the ledger, and wait until it is on disk.
    Record(Box<Record>),
    /// Open the ledger anew, and look whether the request is in it and on disk.
    Recall,
    /// Wait until no earlier request for the same runtime is open.
    Turn,
    Policy,
    Snapshot(Wish),
    /// Ask systemd how the unit stands.
    Look,
    Call(Verb),
    Follow {
        job: String,
    },
    /// Wait until whatever was sent through a connection that broke is before systemd, ahead of the next look.
    Quiet {
        bus: String,
    },
    /// Ask the runtime itself whether it does its work.
    Ask,
    Pause {
        until: BootTime,
    },
    /// Fetch what the unit logged in so long a time.
    Journal {
        since: Duration,
    },
    /// Fetch what this agent logged last; the answer is the same.
    OwnLog,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// It is in the ledger, on disk.
    Recorded,
    /// Nothing of it has reached the ledger.
    NotRecorded(String),
    /// The write failed, and may be found done after a crash.
    Doubtful(String),
    /// The request is not in the ledger, and no crash will bring it there.
    NotThere,
    /// Whether it is in the ledger cannot be told now.
    Unread,
    Turn,
    /// And how long the same took the last time, in milliseconds, if that is known.
    Allowed {
        usual_ms: Option<u64>,
    },
    Denied(String),
    /// How the snapshot ended.
    Snapshot(Box<Outcome>),
    Standing {
        standing: Box<Standing>,
        bus: String,
    },
    NotSeen(Error),
    Called {
        job: String,
    },
    /// It had no effect, for certain.
    Refused(Error),
    /// Nothing was sent.
    NotSent,
    /// It may have had its effect.
    Lost,
    JobEnded {
        /// Absent: it ended unheard.
        result: Option<String>,
        /// As [`warden_systemd::Ended`] has it.
        killed: bool,
    },
    /// The connection broke.
    JobLost,
    Answered(Answered),
    Quiet,
    Paused,
    Journal(Vec<String>),
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    Answer(u32, Answer),
    /// It got later; the executor sends it at [`Course::wake`].
    Tick,
    Cancel,
    /// The Supervisor has an outcome.
    Settled,
}
