//! What crosses the websocket between a node and the Supervisor: plain data, versioned, no I/O.
//!
//! A message is one text frame: a JSON object with the version `v`, its `type`, and the fields of that type.
//! Fields a reader does not know are skipped, so either side may be the newer one. Delivery is at least once:
//! every message may come twice or after one that was sent later, and readers must take that.

mod enrol;
mod heartbeat;
mod offer;
mod outcome;
mod upload;
mod work;

pub use enrol::{Enrol, Enrolled};
pub use heartbeat::{Agent, Disk, Heartbeat, Host, RuntimeState};
pub use offer::{OfferRefusal, SnapshotOffered, Trigger};
pub use outcome::{Code, Finished, Outcome, Reason, UnitChange, UnitState};
use serde::{Deserialize, Serialize};
pub use upload::{
    PARTS_OF_A_GRANT, PARTS_OF_AN_ARCHIVE, PartPut, PartTag, Put, SnapshotProgress, Upload, UploadGrant,
    UploadRefusal, UploadWanted, Uploaded,
};
pub use work::{Action, ConnectorKind, Runtime, SNAPSHOT_CHOICE, SnapshotChoice, Unreadable, Work};

/// The one version spoken so far.
pub const VERSION: u32 = 1;
/// Bytes of one message, either way. Connections keep the largest they saw; logs, configurations and archives
/// go by HTTP.
pub const MESSAGE_LIMIT: usize = 64 * 1024;
/// A side that has heard nothing for this long sends a websocket ping, in seconds: a dead peer is known within a
/// minute, and an idle node costs next to nothing.
pub const PING_SECONDS: u64 = 10;
/// Pings that may stay unanswered; then the peer counts as dead.
pub const PINGS_UNANSWERED: u32 = 3;
/// Where the Supervisor takes the websocket of a node.
pub const LINK_PATH: &str = "/nodes/link";
/// Where a new node shows its enrolment token and tells the hash of its credential.
pub const ENROL_PATH: &str = "/nodes/enrol";

/// Said by a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum FromNode {
    Hello(Hello),
    /// The request is in the node's ledger, on disk: it will end, whatever crashes.
    Accepted {
        request: u64,
    },
    /// What an accepted request does right now, in a few words for a person.
    Progress {
        request: u64,
        step: String,
    },
    Finished(Finished),
    Heartbeat(Heartbeat),
    SnapshotProgress(SnapshotProgress),
    UploadWanted(UploadWanted),
    Uploaded(Uploaded),
    SnapshotOffered(SnapshotOffered),
}

/// Said by the Supervisor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", rename_all = "snake_case")]
pub enum ToNode {
    Welcome(Welcome),
    Request(Request),
    /// Ends the request if it has taken no effect yet; the node answers with `Finished` either way.
    Cancel {
        request: u64,
    },
    /// The outcome is in the Supervisor's store: the node need not tell it again.
    Settled {
        request: u64,
    },
    UploadGrant(UploadGrant),
    /// The Supervisor found the whole archive in its object store.
    UploadConfirmed {
        request: u64,
    },
    UploadRefused {
        request: u64,
        code: UploadRefusal,
        reason: String,
    },
    OfferRefused {
        offer: u64,
        code: OfferRefusal,
        reason: String,
    },
    /// Why the Supervisor closes this connection. A code and a sentence.
    Refused {
        code: Refusal,
        reason: String,
    },
}

/// The first message of a node.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    pub node: u64,
    /// /proc/sys/kernel/random/boot_id
    pub boot_id: String,
    /// Drawn anew by each start of the agent: tells a reconnect from a second agent with the same identity.
    pub instance: String,
    pub agent_version: String,
    /// Kinds of work this agent can do, as [`Work`] tags them.
    pub capabilities: Vec<String>,
    pub host: About,
    /// Requests the ledger holds that are not settled. The Supervisor sends what it misses here once more, and
    /// nothing of what is named here.
    pub open: Vec<u64>,
}

/// What a host is, told once per connection.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
pub struct About {
    pub hostname: String,
    /// PRETTY_NAME of os-release(5).
    pub os: String,
    pub kernel: String,
    /// As uname(2) says: `x86_64`, `aarch64`.
    pub architecture: String,
    pub cpus: u32,
    pub memory_bytes: u64,
}

/// The Supervisor's answer to [`Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Welcome {
    pub deployment: u64,
    /// How often the node shall tell how it is, in seconds.
    pub heartbeat_seconds: u32,
    /// Whether it understands [`SnapshotOffered`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub takes_offers: bool,
}

/// Something to do, once.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    /// Unique for ever: a node that knows it already does not do it again.
    pub request: u64,
    pub work: Work,
    /// Who asked, for the node's audit log.
    pub author: String,
    /// Milliseconds from now until it must have ended. A span, not a time: the two clocks may differ.
    pub deadline_ms: u64,
}

/// Why a node is turned away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Refusal {
    /// Another agent speaks with this identity.
    DuplicateIdentity,
    /// The node was removed, or the credential is of another node.
    UnknownNode,
    /// The message was not one of ours, or too large.
    Malformed,
    /// The Supervisor stops; come back.
    GoingAway,
    #[serde(other)]
    Other,
}

#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum Error {
    #[error("a message of {0} bytes is over the limit of {MESSAGE_LIMIT}")]
    TooLarge(usize),
    #[error("a message of version {0}; this side speaks version {VERSION}")]
    Version(u32),
    #[error("not a message: {0}")]
    Malformed(String),
}

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    v: u32,
    #[serde(flatten)]
    message: T,
}

#[derive(Deserialize)]
struct Version {
    v: u32,
}

/// The text frame for a message.
///
/// # Errors
/// `TooLarge`: the other side would refuse it.
pub fn encode<T: Serialize>(message: &T) -> Result<String, Error> {
    let text = serde_json::to_string(&Envelope { v: VERSION, message })
        .map_err(|error| Error::Malformed(error.to_string()))?;
    if text.len() > MESSAGE_LIMIT { Err(Error::TooLarge(text.len())) } else { Ok(text) }
}

/// The message in a text frame. What is wrong is told by place, never by content: it may be a secret.
///
/// # Errors
/// Too large, of another version, or not a message.
pub fn decode<T: for<'de> Deserialize<'de>>(text: &str) -> Result<T, Error> {
    if text.len() > MESSAGE_LIMIT {
        return Err(Error::TooLarge(text.len()));
    }
    let malformed = |error: serde_json::Error| {
        Error::Malformed(format!("{:?} error at column {}", error.classify(), error.column()))
    };
    let version: Version = serde_json::from_str(text).map_err(malformed)?;
    if version.v != VERSION {
        return Err(Error::Version(version.v));
    }
    let envelope: Envelope<T> = serde_json::from_str(text).map_err(malformed)?;
    Ok(envelope.message)
}
