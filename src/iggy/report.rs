//! What an inspection found, as data: `warden inspect --json` prints exactly this, and the report of a snapshot holds it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

pub use super::checkpoint::Checkpoint;
pub use super::metadata_wal::{End as JournalEnd, Journal};
pub use super::scan::{Fault, What};

/// Changes when a reader of the previous version could misread this one.
pub const VERSION: u32 = 1;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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
    /// The snapshot of the metadata; absent where there is none that can be read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<Checkpoint>,
    /// Files that nothing is held against, by what they are.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unchecked: Vec<Unchecked>,
    pub streams: Vec<Stream>,
    /// Partitions that are not told, to keep it small: sound ones, and those behind the limit.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub partitions_left_out: u64,
}

/// Files of one kind that were listed and not looked into.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unchecked {
    /// `the server's logs`.
    pub what: Cow<'static, str>,
    pub files: u64,
    pub bytes: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "as serde calls it")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Nothing damaged was found in what was looked at.
    Sound,
    Damaged,
}

/// Which server wrote it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Severity {
    /// Worth knowing, nothing to do.
    Note,
    /// Something to look at; no message is lost by it.
    Warning,
    /// Messages or metadata are damaged or missing, or the server will refuse them.
    Damage,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    pub severity: Severity,
    /// Stable name, as `damaged-message`.
    pub kind: Cow<'static, str>,
    /// Relative to the data directory.
    pub file: String,
    pub text: String,
    pub advice: Cow<'static, str>,
    /// Where in a segment, for damage the scan found.
    pub at: Option<Fault>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Scan {
    pub mode: Mode,
    /// Bytes of segments that there are, and that were held against their checksums.
    pub bytes: u64,
    pub verified_bytes: u64,
    pub verified_batches: u64,
    pub verified_messages: u64,
    /// How long it took; in a report it stands with the other costs.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seconds: Option<f64>,
    /// It was stopped, or the time was over, and this is how far it came.
    pub was_cancelled: bool,
    /// Segments that were not looked into for it.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub segments_left_behind: u64,
}

/// With less, most of the time went into finding and opening files, and says nothing of how fast bytes are checked.
const TELLING: u64 = 64 << 20;

impl Scan {
    /// How fast bytes were held against their checksums; `None` where there were too few to tell.
    pub fn bytes_per_second(&self) -> Option<f64> {
        let seconds = self.seconds.filter(|seconds| *seconds > 0.0)?;
        (self.verified_bytes >= TELLING).then(|| self.verified_bytes as f64 / seconds)
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Mode {
    Full,
    #[default]
    Sampled,
    None,
}

/// Sequences of the two files; null where one is absent or damaged.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Superblock {
    pub a: Option<u64>,
    pub b: Option<u64>,
    /// The file that counts.
    pub newest: Option<Slot>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Slot {
    A,
    B,
}

impl Slot {
    pub const fn name(self) -> &'static str {
        match self {
            Slot::A => "a",
            Slot::B => "b",
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stream {
    pub id: u64,
    /// By the metadata, where that tells.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub topics: Vec<Topic>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Topic {
    pub id: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    pub partitions: Vec<Partition>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Partition {
    pub id: u64,
    /// Offset of the first message, and the one behind the last, as far as known.
    pub first_offset: Option<u64>,
    pub next_offset: Option<u64>,
    /// Microseconds since 1970.
    pub first_at: Option<u64>,
    pub last_at: Option<u64>,
    pub superblock: Option<Superblock>,
    pub log_bytes: u64,
    pub segments: Vec<Segment>,
    pub consumers: Vec<Offset>,
    pub groups: Vec<Offset>,
    /// Segments, and consumers and groups, that are not told, to keep it small.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub segments_left_out: u64,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub offsets_left_out: u64,
}

impl Partition {
    /// How much it grows, where its messages tell.
    pub fn bytes_a_day(&self) -> Option<u64> {
        /// Seconds below which a rate by the day says nothing.
        const LEAST: u64 = 3600;
        let seconds = self.last_at?.checked_sub(self.first_at?)? / 1_000_000;
        let a_day = u128::from(self.log_bytes) * 86_400 / u128::from(seconds.max(1));
        (seconds >= LEAST).then(|| u64::try_from(a_day).unwrap_or(u64::MAX))
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Offset {
    pub id: String,
    /// The last message it has read; null where the file is torn or damaged.
    pub offset: Option<u64>,
    /// Messages it has not read, by what is on disk.
    pub lag: Option<u64>,
}
