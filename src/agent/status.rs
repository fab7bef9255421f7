//! What the running agent tells others on this host: `status.json` in its runtime directory, and systemd's STATUS.

use std::path::{Path, PathBuf};
use std::sync::Mutex;

use anyhow::Context;
use serde::{Deserialize, Serialize};
use warden_platform::atomic_file::{PUBLIC, replace};
use warden_systemd::notify;

/// The file in the runtime directory. It is there while an agent runs; one whose `pid` is not alive was left by an
/// agent that was killed.
pub const FILE: &str = "status.json";
/// More of them wait for each other than do anything.
const DOING_LIMIT: usize = 64;
/// Bytes.
const SIZE_LIMIT: u64 = 64 << 10;

/// The content of the file. Times are milliseconds since 1970 UTC, for showing only.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Status {
    /// Of this form of the file; 1.
    pub v: u32,
    pub pid: u32,
    pub agent_version: String,
    /// As in `hello`: new for each start of the agent.
    pub instance: String,
    pub started_at_ms: i64,
    /// Absent: this host is not enrolled.
    pub node: Option<u64>,
    pub deployment: Option<u64>,
    pub supervisor: Option<String>,
    pub link: Link,
    /// Since when `link` is as it is.
    pub since_ms: i64,
    /// What is being done, the oldest first; at most 64.
    #[serde(default)]
    pub doing: Vec<Doing>,
    /// Why nothing is done on this host for now, whatever is asked; absent when that is not so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub obstacle: Option<String>,
}

/// A request that has not ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Doing {
    pub request: u64,
    /// In a few words.
    pub what: String,
    /// Since when this agent is at it.
    pub since_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum Link {
    /// `warden enroll` was not run yet, or its result cannot be read: `why`.
    NotEnrolled {
        why: String,
    },
    Connecting,
    Connected,
    /// The Supervisor was not reached, or the connection broke: it is tried again for ever.
    Waiting {
        why: String,
        attempt: u32,
        again_at_ms: i64,
    },
    /// The Supervisor does not want this node: somebody has to look. It is asked about once a minute.
    Refused {
        why: String,
        again_at_ms: i64,
    },
    Stopping,
}

/// Keeps the file up to date.
#[derive(Debug)]
pub struct Teller {
    path: PathBuf,
    status: Mutex<Status>,
}

impl Status {
    /// What the agent with this runtime directory tells; none when there is no file.
    pub fn read(runtime: &Path) -> anyhow::Result<Option<Status>> {
        use std::io::Read;
        let path = runtime.join(FILE);
        let mut text = String::new();
        match std::fs::File::open(&path) {
            Ok(file) => file.take(SIZE_LIMIT).read_to_string(&mut text),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => Err(error),
        }
        .with_context(|| format!("cannot read {}", path.display()))?;
        let status = serde_json::from_str(&text);
        status.map(Some).with_context(|| format!("{} is not what this version writes", path.display()))
    }

    /// Whether the agent that wrote it is still there: one that was killed left its file behind.
    pub fn is_alive(&self) -> bool {
        Path::new("/proc").join(self.pid.to_string()).exists()
    }

    /// In one line, for a person.
    pub fn sentence(&self) -> String {
        let supervisor = self.supervisor.as_deref().unwrap_or("the Supervisor");
        match &self.link {
            Link::NotEnrolled { why } => why.clone(),
            Link::Connecting => format!("connecting to {supervisor}"),
            Link::Connected => {
                format!("connected to {supervisor} as node {}", self.node.unwrap_or_default())
            }
            Link::Waiting { why, attempt, .. } => {
                format!("no connection to {supervisor}, trying again (failed {attempt} times): {why}")
            }
            Link::Refused { why, .. } => format!("refused by {supervisor}: {why}"),
            Link::Stopping => "stopping".to_owned(),
        }
    }
}

impl Teller {
    pub fn new(runtime: &Path, status: Status) -> Teller {
        let teller = Teller { path: runtime.join(FILE), status: Mutex::new(status) };
        teller.write(&teller.now());
        teller
    }

    /// The state of the link has changed.
    pub fn link(&self, link: Link, now_ms: i64) {
        self.change(|status| {
            status.link = link;
            status.since_ms = now_ms;
        });
    }

    /// This is who the node is.
    pub fn identity(&self, node: u64, deployment: u64, supervisor: String) {
        self.change(|status| {
            status.node = Some(node);
            status.deployment = Some(deployment);
            status.supervisor = Some(supervisor);
        });
    }

    /// This is being done.
    pub fn doing(&self, mut doing: Vec<Doing>) {
        doing.truncate(DOING_LIMIT);
        self.change(|status| status.doing = doing);
    }

    /// This is in the way of every request, or nothing is.
    pub fn obstacle(&self, why: Option<String>) {
        self.change(|status| status.obstacle = why);
    }

    pub fn now(&self) -> Status {
        self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner).clone()
    }

    /// Nobody runs here any more.
    pub fn remove(&self) {
        let _ = std::fs::remove_file(&self.path);
    }

    fn change(&self, change: impl FnOnce(&mut Status)) {
        let changed = {
            let mut status = self.status.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            let before = status.clone();
            change(&mut status);
            (*status != before).then(|| status.clone())
        };
        if let Some(status) = changed {
            self.write(&status);
            notify::status(&status.sentence());
        }
    }

    /// A full or missing runtime directory is no reason not to run.
    fn write(&self, status: &Status) {
        let written = serde_json::to_vec_pretty(status)
            .map_err(anyhow::Error::from)
            .and_then(|text| replace(&self.path, &text, PUBLIC));
        if let Err(error) = written {
            tracing::debug!("the status was not written: {error:#}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_tells_every_change_and_goes_with_the_agent() {
        let runtime = tempfile::tempdir().unwrap();
        let status = Status {
            v: 1,
            pid: 7,
            agent_version: "0.1.0".into(),
            instance: "i".into(),
            started_at_ms: 1,
            node: None,
            deployment: None,
            supervisor: None,
            link: Link::NotEnrolled { why: "run `warden enroll`".into() },
            since_ms: 1,
            doing: Vec::new(),
            obstacle: None,
        };
        let teller = Teller::new(runtime.path(), status.clone());
        assert_eq!(Status::read(runtime.path()).unwrap(), Some(status));
        teller.identity(610_809_900_976_570_889, 2, "https://sup".into());
        teller.link(Link::Connected, 5);
        let read = Status::read(runtime.path()).unwrap().unwrap();
        assert_eq!((read.link.clone(), read.since_ms), (Link::Connected, 5));
        let doing = vec![Doing { request: 9, what: "restart iggy".into(), since_ms: 6 }];
        teller.doing(doing.clone());
        assert_eq!(Status::read(runtime.path()).unwrap().unwrap().doing, doing);
        assert_eq!(read.sentence(), "connected to https://sup as node 610809900976570889");
        teller.remove();
        assert_eq!(Status::read(runtime.path()).unwrap(), None);
    }
}
