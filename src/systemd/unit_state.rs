//! How a unit stands at one moment.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use warden_protocol::UnitState;
use zbus::{OwnedObjectPath, OwnedVariant, Variant};

use super::error::explain;
use super::properties::{number, text};
use super::{Error, Manager, SERVICE, UNIT};

const JOB: &str = "org.freedesktop.systemd1.Job";
/// systemd's way to say "no job".
const NO_JOB: u32 = 0;
/// `Result` of a service whose start or stop took longer than it may.
pub(super) const TIMED_OUT: &str = "timeout";
/// `si_code` of a process that ended by a signal, see sigaction(2).
const CLD_KILLED: i32 = 2;
const CLD_DUMPED: i32 = 3;
/// See signal(7).
pub(super) const SIGKILL: i32 = 9;

/// A unit at one moment, in systemd's own words.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Standing {
    /// `loaded`, `not-found`, `masked`, `bad-setting`, `error`.
    pub load_state: String,
    pub state: UnitState,
    /// How often systemd itself started it again (`Restart=`), since it was last started by hand.
    pub restarts: u32,
    /// The signal that ended the main process; absent while it runs, and when it ended otherwise.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub main_killed_by: Option<i32>,
    /// What is queued or under way for it.
    pub job: Option<Job>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Its object path; unique until systemd itself starts anew.
    pub path: String,
    /// `start`, `stop`, `restart`, ...; empty when it ended while it was asked.
    pub kind: String,
}

impl Standing {
    /// It has ended, and systemd waits until it starts it again by itself (`Restart=`): not up, whatever `ActiveState`
    /// says.
    pub fn is_between_starts(&self) -> bool {
        self.state.sub_state.starts_with("auto-restart")
    }

    /// Its last run ended by SIGKILL: systemd lost patience with its stop, or the main process says so itself.
    pub fn tells_a_kill(&self) -> bool {
        self.state.result == TIMED_OUT || self.main_killed_by == Some(SIGKILL)
    }
}

/// The signal that ended a process, from `ExecMainCode` and `ExecMainStatus`.
pub(super) fn killed_by(code: i32, status: i32) -> Option<i32> {
    matches!(code, CLD_KILLED | CLD_DUMPED).then_some(status)
}

impl Manager {
    /// How `unit` stands. Loads it: a unit that is stopped and disabled has no object until then.
    ///
    /// # Errors
    /// systemd is not there, or does not answer in time. A unit that does not exist is no error: its load state
    /// says so.
    pub async fn standing(&self, unit: &str) -> Result<Standing, Error> {
        self.in_time(async {
            let path = self.proxy.load_unit(unit).await.map_err(explain)?;
            // Its state, invocation and job belong together, so they are asked for together. Of a service all
            // would be many times as much, with figures systemd collects anew for each.
            let of_service = |name: &'static str| self.property(&path, SERVICE, name);
            let (general, main_pid, result, code, status, restarts) = tokio::try_join!(
                self.properties(&path, UNIT),
                of_service("MainPID"),
                of_service("Result"),
                of_service("ExecMainCode"),
                of_service("ExecMainStatus"),
                of_service("NRestarts"),
            )?;
            let job = match job_path(variant(&general, "Job")) {
                Some(path) => Some(self.job(&path).await?),
                None => None,
            };
            Ok(Standing {
                load_state: text(variant(&general, "LoadState")),
                state: UnitState {
                    active_state: text(variant(&general, "ActiveState")),
                    sub_state: text(variant(&general, "SubState")),
                    main_pid: small(&main_pid),
                    invocation_id: hex(variant(&general, "InvocationID")),
                    result: text(&result),
                    // Nought: the main process has not ended yet, or there was none.
                    exit_status: (signed(&code) != 0).then(|| signed(&status)),
                },
                restarts: small(&restarts),
                main_killed_by: killed_by(signed(&code), signed(&status)),
                job,
            })
        })
        .await
    }

    async fn job(&self, path: &str) -> Result<Job, Error> {
        let object = OwnedObjectPath::try_from(path).map_err(explain)?;
        let kind = match self.property(&object, JOB, "JobType").await {
            Ok(kind) => text(&kind),
            Err(Error::Call(_)) => String::new(),
            Err(other) => return Err(other),
        };
        Ok(Job { path: path.to_owned(), kind })
    }
}

/// From the number and the path of a job.
fn job_path(value: &OwnedVariant) -> Option<String> {
    let Variant::Structure(job) = &**value else { return None };
    let [Variant::U32(id), Variant::ObjectPath(path)] = job.fields() else { return None };
    (*id != NO_JOB).then(|| path.to_string())
}

fn variant<'a>(all: &'a HashMap<String, OwnedVariant>, name: &str) -> &'a OwnedVariant {
    static ABSENT: std::sync::LazyLock<OwnedVariant> = std::sync::LazyLock::new(|| OwnedVariant::from(false));
    all.get(name).unwrap_or(&ABSENT)
}

pub(super) fn signed(value: &OwnedVariant) -> i32 {
    if let Variant::I32(number) = &**value { *number } else { 0 }
}

fn small(value: &OwnedVariant) -> u32 {
    number(value).and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}

fn hex(value: &OwnedVariant) -> String {
    let Variant::Array(bytes) = &**value else { return String::new() };
    bytes
        .iter()
        .map(|byte| if let Variant::U8(byte) = byte { format!("{byte:02x}") } else { String::new() })
        .collect()
}
