//! How a node hands over the archive of a snapshot: it asks when it knows what it has, and is told where to put it.
//!
//! `UploadWanted` -> `UploadGrant` -> (HTTP) -> `Uploaded` -> `UploadConfirmed`, or `UploadRefused` at any point.
//! A grant that runs out is asked for again, with the numbers of the parts that are still missing.

use serde::{Deserialize, Serialize};

/// Most parts of one grant: a presigned address with its signed headers has about 1 KiB, a message 64.
pub const PARTS_OF_A_GRANT: usize = 32;
/// Most parts of one archive, so that their tags fit into one message.
pub const PARTS_OF_AN_ARCHIVE: u32 = 500;

/// The archive a node wants to hand over.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadWanted {
    /// The request it came of.
    pub request: u64,
    pub size: u64,
    /// Of the whole archive, 64 hex digits.
    pub sha256: String,
    /// Which parts, counted from 1, lowest first; empty: the first ones. Only of an upload that was granted in
    /// parts before.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<u32>,
}

/// Where the archive may be put, and until when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct UploadGrant {
    pub request: u64,
    #[serde(flatten)]
    pub upload: Upload,
    /// Milliseconds from now. A span, not a time: the two clocks may differ.
    pub expires_ms: u64,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Upload {
    /// The whole of it by one PUT.
    Whole { put: Put },
    /// In parts of `part_bytes`, the last one shorter. At most [`PARTS_OF_A_GRANT`] of them at a time.
    Parts { part_bytes: u64, parts: Vec<PartPut> },
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartPut {
    pub number: u32,
    #[serde(flatten)]
    pub put: Put,
}

/// One PUT. The address is a secret: whoever has it may write this one object, of this one size.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Put {
    pub url: String,
    /// Headers that are part of the signature, beside Content-Length.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<(String, String)>,
}

/// The archive is where it was to be put.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uploaded {
    pub request: u64,
    /// The worst finding: `pass`, `note`, `warn`, `fail`.
    pub verdict: String,
    /// What the object store answered for each part; empty when it went whole.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parts: Vec<PartTag>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PartTag {
    pub number: u32,
    /// The `etag` header of the answer, with its quotes.
    pub etag: String,
}

/// The archive is not wanted, or not as it is. Final.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum UploadRefusal {
    /// Larger than the Supervisor takes.
    TooLarge,
    /// What lies in the object store is not what was announced.
    Mismatch,
    /// No such snapshot, or it has ended.
    NotWanted,
    #[serde(other)]
    Other,
}

/// How far a snapshot is. Told at most once a second.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotProgress {
    pub request: u64,
    pub checks_done: u32,
    pub checks_total: u32,
    pub bytes_packed: u64,
    pub bytes_sent: u64,
    /// Nought until the archive is whole.
    pub bytes_total: u64,
}

impl std::fmt::Debug for Put {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Put").finish_non_exhaustive()
    }
}
