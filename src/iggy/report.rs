//! What an inspection found, as data. `warden inspect --json` prints exactly this.

use serde::Serialize;

use super::journal::Journal;
use super::scan::Fault;

/// Changes when a reader of the previous version could misread this one.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, Serialize)]
pub struct Inspection {
    pub version: u32,
    /// What was inspected, as it was given.
    pub path: String,
    pub verdict: Verdict,
    pub generation: Generation,
    /// Worst first. Nothing of a message stands in any of them.
    pub problems: Vec<Problem>,
    /// Problems beyond the limit, by count.
    pub problems_left_out: u64,
    pub totals: Totals,
    pub scan: Scan,
    /// Of the metadata; null where there is none.
    pub superblock: Option<Superblock>,
    pub journal: Option<Journal>,
    pub streams: Vec<Stream>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing damaged was found in what was looked at.
    Sound,
    Damaged,
}

/// Which server wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum Generation {
    #[serde(rename = "0.8")]
    Old,
    #[serde(rename = "0.9-edge")]
    Edge,
    /// With a superblock in each partition: 0.9 and later, or a cluster of 0.9-edge.
    #[serde(rename = "0.9")]
    New,
    /// Metadata of two generations lies side by side.
    #[serde(rename = "mixed")]
    Mixed,
    #[serde(rename = "unknown")]
    Unknown,
}

impl Generation {
    pub const fn name(self) -> &'static str {
        match self {
            Generation::Old => "0.8 or before",
            Generation::Edge => "0.9-edge",
            Generation::New => "0.9 with a superblock per partition",
            Generation::Mixed => "0.8 and 0.9 side by side",
            Generation::Unknown => "unknown",
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing, nothing to do.
    Note,
    /// Something to look at; no message is lost by it.
    Warning,
    /// Messages or metadata are damaged or missing, or the server will refuse them.
    Damage,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Problem {
    pub severity: Severity,
    /// Stable name, as `damaged-message`.
    pub kind: &'static str,
    /// Relative to the data directory.
    pub file: String,
    pub text: String,
    pub advice: &'static str,
    /// Where in a segment, for damage the scan found.
    pub at: Option<Fault>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Totals {
    pub streams: u64,
    pub topics: u64,
    pub partitions: u64,
    pub segments: u64,
    pub log_bytes: u64,
    pub index_bytes: u64,
    /// Everything else: logs, metadata, offsets.
    pub other_bytes: u64,
    /// Messages, by the offsets at which segments begin and end.
    pub messages: u64,
    /// Microseconds since 1970.
    pub first_at: Option<u64>,
    pub last_at: Option<u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Scan {
    pub mode: Mode,
    /// Bytes of segments that there are, and that were held against their checksums.
    pub bytes: u64,
    pub verified_bytes: u64,
    pub verified_batches: u64,
    pub verified_messages: u64,
    pub seconds: f64,
    /// It was stopped, and this is how far it came.
    pub was_cancelled: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Full,
    #[default]
    Sampled,
    None,
}

/// Sequences of the two files; null where one is absent or damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Superblock {
    pub a: Option<u64>,
    pub b: Option<u64>,
    /// The file that counts.
    pub newest: Option<&'static str>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Stream {
    pub id: u64,
    pub topics: Vec<Topic>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Topic {
    pub id: u64,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Partition {
    pub id: u64,
    /// Offset of the first message, and the one behind the last, as far as known.
    pub first_offset: Option<u64>,
    pub next_offset: Option<u64>,
    /// Microseconds since 1970.
    pub first_at: Option<u64>,
    pub last_at: Option<u64>,
    pub superblock: Option<Superblock>,
    pub segments: Vec<Segment>,
    pub consumers: Vec<Offset>,
    pub groups: Vec<Offset>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Segment {
    /// Offset of its first message: its name.
    pub start: u64,
    /// Null where the file is missing.
    pub log_bytes: Option<u64>,
    pub index_bytes: Option<u64>,
    pub index_entries: Option<u64>,
    /// Seconds since 1970; null in an archive.
    pub modified: Option<i64>,
    pub next_offset: Option<u64>,
    /// Microseconds since 1970.
    pub first_at: Option<u64>,
    pub last_at: Option<u64>,
    pub verified_bytes: u64,
    /// Zeros at its end that the server set aside.
    pub preallocated_bytes: u64,
    /// Bytes of an unfinished batch at its end.
    pub torn_bytes: u64,
    pub damages: u64,
}

/// How far a consumer or a group has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Offset {
    pub id: String,
    /// The last message it has read; null where the file is torn or damaged.
    pub offset: Option<u64>,
    /// Messages it has not read, by what is on disk.
    pub lag: Option<u64>,
}
