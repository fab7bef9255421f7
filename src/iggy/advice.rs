//! What to do about damage to data. Each of these was done on a server of each generation that it names, and the
//! messages were counted before and after: docs/iggy-data-remedies.md. What was not tried is not advised.

use super::boot::Fate;
use super::layout;

/// What a sentence about one segment needs to know.
#[derive(Clone)]
pub struct Place {
    /// Stream, topic, partition.
    pub key: (u64, u64, u64),
    pub start: u64,
    pub next: Option<u64>,
    pub is_old: bool,
}

pub const NOTHING: &str = "Nothing to do.";
/// Of metadata that nothing but a copy brings back.
pub const METADATA_FROM_A_COPY: &str = "Copy first, to a disk with room: `cp -a --reflink=auto metadata PLACE/`. Then put the file back from a backup or \
     a copy of the same state; no other remedy is known. Do not start the server on a directory without it, and delete \
     nothing: streams created anew take the numbers, and the files, of the old ones.";

impl Place {
    /// The copy with which everything begins.
    pub fn copy(&self) -> String {
        let (stream, topic, partition) = self.key;
        format!(
            "Copy the partition first, to a disk with room: `cp -a --reflink=auto {} PLACE/`.",
            layout::path_of(stream, topic, partition)
        )
    }

    /// For damage within the log.
    pub fn of_log(&self, fate: Fate) -> String {
        let copy = self.copy();
        if self.is_old {
            return format!("{copy} {OLD_LOG}");
        }
        match fate {
            Fate::Serves => format!("{copy} {LEAVE}"),
            Fate::Refuses | Fate::Fences => format!("{} {copy} {}", self.at_start(fate), self.without_it()),
            Fate::Cuts { position } => format!(
                "{copy} At its next start a 0.9 server takes the log to end at byte {position} and writes new messages \
                 over what is behind: it is given up, and stays in the copy. What is before is kept. A backup of the \
                 segment, put back with the server stopped, keeps all."
            ),
            Fate::Unknown => format!("{copy} {ASK}"),
        }
    }

    /// For an index that is wrong, or none, beside a log that is whole.
    pub fn of_index(&self, index: &str, is_absent: bool) -> String {
        let copy = self.copy();
        match (self.is_old, is_absent) {
            (false, false) => format!(
                "{copy} Then, with the server stopped, empty the index (`truncate -s 0 {index}`): a 0.9 server follows \
                 the log instead and keeps every message. The log was held against its checksums from end to end, \
                 which this needs: on a damaged log it would lose the partition."
            ),
            (false, true) => format!(
                "{copy} Then, with the server stopped, put an empty index there that belongs to the server's user \
                 (`install -o USER -g GROUP -m 644 /dev/null {index}`): a 0.9 server follows the log instead and keeps \
                 every message. The log was held against its checksums from end to end, which this needs."
            ),
            (true, _) => format!("{copy} {OLD_INDEX}"),
        }
    }

    /// What happens at the next start where it is not served.
    pub const fn at_start(&self, fate: Fate) -> &'static str {
        match fate {
            Fate::Refuses => "A 0.9 server exits at its next start on it (\"message/index divergence\").",
            Fate::Fences => {
                "Do not restart the server yet: it would move the whole partition aside (P.fenced.N) and go on with an empty one, \
                 from offset 0."
            }
            Fate::Serves | Fate::Cuts { .. } | Fate::Unknown => "",
        }
    }

    /// How to go on with a segment that cannot be used, or is not there.
    pub fn without_it(&self) -> String {
        let restore =
            "With the server stopped, put both files of the segment back from a backup: that keeps all.";
        match self.next {
            Some(next) => format!(
                "{restore} Without one, move (never delete) this segment and the older ones of the partition, .log and .index, \
                 to PLACE: a 0.9 server then starts and serves the partition from offset {next} on; the messages before \
                 it are given up, and stay in PLACE."
            ),
            None => restore.to_owned(),
        }
    }
}

/// The server starts and serves all but the damaged batch.
const LEAVE: &str = "Then leave the files as they are: a 0.9 server starts on them and serves all but the damaged batch, for which a \
     poll returns nothing; store the offset of its last message for the consumers that wait there. Do not empty the \
     index and delete nothing: the server would move the whole partition aside. Only a backup of this segment, put back \
     with the server stopped, brings the batch back.";
pub const ASK: &str =
    "Then put the files back from a backup, or ask before anything else is done; change and delete nothing.";
pub const OLD_LOG: &str = ASK;
pub const OLD_INDEX: &str = ASK;
/// Where only names and sizes were looked at.
pub const SCAN_FIRST: &str = "Then let `warden inspect --scan full` look into the log, which decides what helps. Until then change and delete \
     nothing: emptying the index of a damaged log loses the whole partition.";
