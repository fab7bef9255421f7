//! What the archive holds, and by name what it does not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::file_list::Reason;

/// The member that names everything that is missing, was renamed or changed; `manifest.json` names the first ones.
pub const MEMBER: &str = "warden-inventory.tsv";
/// Entries named in the manifest. The member has them all.
const NAMED: usize = 1000;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inventory {
    /// What was taken, by its size when unpacked.
    pub files: u64,
    pub bytes: u64,
    pub archive_bytes: u64,
    /// Names that differ from those on disk, so that every system can unpack them.
    pub renamed: u64,
    /// How many secrets were masked in configuration and logs, by rule.
    pub masked: BTreeMap<String, u64>,
    /// What was different when it was read: it grew, shrank, or could not be read to its end.
    pub changed: Vec<Changed>,
    /// The first of those that stayed behind; `warden-inventory.tsv` names all.
    pub left_out: Vec<LeftOut>,
    pub left_out_by_reason: BTreeMap<Reason, Tally>,
    /// Whether the host's policy had credentials taken too, and nothing masked.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub holds_credentials: bool,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tally {
    pub files: u64,
    pub bytes: u64,
}

impl Tally {
    pub fn and(self, bytes: u64) -> Tally {
        Tally { files: self.files + 1, bytes: self.bytes.saturating_add(bytes) }
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub path: String,
    pub bytes: u64,
    pub reason: Reason,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    pub path: String,
    pub how: Change,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Change {
    /// It is in the archive as long as it was.
    Grew,
    /// It is in the archive as far as it went.
    Shrank,
    /// A read failed; it is in the archive up to there.
    Torn,
    /// The filesystem had no more room; it is in the archive up to there.
    Cut,
}

impl Inventory {
    pub fn leave_out(&mut self, path: impl FnOnce() -> String, bytes: u64, reason: Reason) {
        let tally = self.left_out_by_reason.entry(reason).or_default();
        *tally = tally.and(bytes);
        if self.left_out.len() < NAMED {
            self.left_out.push(LeftOut { path: path(), bytes, reason });
        }
    }

    pub fn change(&mut self, path: String, how: Change) {
        if self.changed.len() < NAMED {
            self.changed.push(Changed { path, how });
        }
    }
}
