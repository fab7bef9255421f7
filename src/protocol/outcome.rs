//! How a request ended: the same words in the ledger, on the wire and in the API.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finished {
    pub request: u64,
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// The end of a request. There is no third.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "snake_case")]
pub enum Outcome {
    Completed { result: Option<UnitChange> },
    Rejected { reason: Reason, result: Option<UnitChange> },
}

/// Why a request was rejected: a code to branch on and a sentence to read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Reason {
    pub code: Code,
    pub reason: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Code {
    /// The policy of the host does not allow it.
    PolicyDenied,
    /// polkit or D-Bus does not let the agent.
    PermissionDenied,
    /// The node did not end it in time; whether it took effect is in the result, or unknown.
    DeadlineExceeded,
    /// The node was not there until the deadline. Nothing was done.
    NodeUnreachable,
    /// The node was removed from the deployment.
    NodeRemoved,
    UnitNotFound,
    /// systemd's job did not end as `done`.
    JobFailed,
    /// The job was done, and the unit did not stay in the wanted state.
    UnitNotStable,
    /// The unit stays up, and the runtime in it did not answer in time.
    RuntimeSilent,
    SystemdUnavailable,
    /// The agent could not write its ledger: nothing was done.
    LedgerUnavailable,
    Cancelled,
    /// The node rebooted in the middle, and what came of it cannot be told.
    Interrupted,
    UnsupportedAction,
    /// The archive of a snapshot did not get to its object store.
    UploadFailed,
    Internal,
    #[serde(other)]
    Other,
}

/// What an action did to a unit.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnitChange {
    pub unit: String,
    pub before: Option<UnitState>,
    pub after: Option<UnitState>,
    /// How systemd's job ended: `done`, `failed`, `timeout`, `canceled`, `dependency`, `skipped`; none was needed
    /// or seen when absent.
    pub job_result: Option<String>,
    /// From the call to the end of the job, in milliseconds.
    pub took_ms: Option<u64>,
    /// The unit did not stop by itself: its stop ended in SIGKILL, which for the process in it is a crash. Absent:
    /// false, or not seen.
    #[serde(default, skip_serializing_if = "is_false")]
    pub forced: bool,
    /// Whether the runtime answered after its start: `/ping` of Iggy and its listeners, `/health` of the connectors.
    /// Absent: it was not asked, and `answer` says why; or nothing was started.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answers: Option<bool>,
    /// What it answered, or why not, or why it was not asked and is judged by its unit alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
    /// The unit's newest journal lines, masked, oldest first; only of a failure and of a forced stop.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub journal: Vec<String>,
}

/// A unit at one moment, in systemd's own words (org.freedesktop.systemd1(5)).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct UnitState {
    pub active_state: String,
    pub sub_state: String,
    /// Nought: none runs.
    pub main_pid: u32,
    /// 32 hex digits, new for each time the unit is started; empty before the first.
    pub invocation_id: String,
    /// `success`, `exit-code`, `signal`, `oom-kill`, `timeout`, `start-limit-hit`, ...
    pub result: String,
    /// Exit status or signal number of the main process, when it has ended.
    pub exit_status: Option<i32>,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes fields by reference")]
fn is_false(value: &bool) -> bool {
    !value
}

impl Outcome {
    pub fn rejected(code: Code, reason: impl Into<String>) -> Outcome {
        Outcome::Rejected { reason: Reason { code, reason: reason.into() }, result: None }
    }

    pub fn is_completed(&self) -> bool {
        matches!(self, Outcome::Completed { .. })
    }
}
