//! What to do about damage to data. Each of these was done on a server of each generation that it names, and the
//! messages were counted before and after: docs/iggy-data-remedies.md. What was not tried is not advised.

use super::boot::Fate;
use super::layout;

/// What a sentence about one segment needs to know.
#[derive(Clone, Copy, Debug)]
pub struct Place {
    /// Stream, topic, partition.
    pub key: (u64, u64, u64),
    pub start: u64,
    pub next: Option<u64>,
    /// Whether the next segment is the last one, and its log is empty.
    pub next_is_empty: bool,
    pub is_old: bool,
}

pub const NOTHING: &str = "Nothing to do.";
/// Of metadata that nothing but a copy brings back.
pub const METADATA_FROM_A_COPY: &str = "Copy first, to a disk with room: `cp -a --reflink=auto metadata PLACE/`. Then put the file back from a backup or \
     a copy of the same state; no other remedy is known. Do not start the server on a directory without it, and delete \
     nothing: it starts with what it can read, and a topic created anew writes over the files of an old one.";
/// Of an index that may have been cut together with its log.
const RESTORE: &str = "With the server stopped, put the segment's files back from a backup: that keeps all.";
const ASK: &str =
    "Then put the files back from a backup, or ask before anything else is done; change and delete nothing.";
/// Where only names and sizes were looked at.
const SCAN_FIRST: &str = "Then let `warden inspect --scan full` look into the log, which decides what helps. Until then change and delete \
                          nothing: emptying the index of a damaged log loses the whole partition.";
/// Where the metadata of two generations lies side by side, or none does.
pub const WHOLE_COPY: &str =
    "Copy the data directory first, to a disk with room (`cp -a --reflink=auto DIR PLACE/`).";

impl Place {
    /// The copy with which everything begins.
    fn copy(self) -> String {
        let (stream, topic, partition) = self.key;
        format!(
            "Copy the partition first, to a disk with room: `cp -a --reflink=auto {} PLACE/`.",
            layout::path_of(stream, topic, partition)
        )
    }

    /// For damage within the log, or a log that does not meet the next one. `served_again` is the offset from which on
    /// the server serves again.
    pub fn of_log(self, index: &str, fate: Fate, served_again: Option<u64>) -> String {
        let copy = self.copy();
        if self.is_old {
            return format!("{copy} {ASK}");
        }
        match fate {
            Fate::Serves => {
                let again = served_again.map_or_else(
                    || "up to the newest message that there is now".to_owned(),
                    |offset| format!("up to offset {}", offset.saturating_sub(1)),
                );
                format!(
                    "{copy} Then leave the files as they are: a 0.9 server starts on them, and a poll returns nothing from the damaged \
                     batch on {again}; store that offset for the consumers that wait there, and they go on behind it. Do not \
                     empty the index, and delete nothing: the server would move the whole partition aside. Only this \
                     segment's files from a backup, put back with the server stopped, bring the messages back."
                )
            }
            Fate::Refuses | Fate::Fences => {
                format!("{} {copy} {}", self.at_start(fate), self.without_it(index))
            }
            Fate::Cuts { position } => format!(
                "{copy} At its next start a 0.9 server takes the log to end at byte {position} and writes new messages \
                 over what is behind: that is given up, and stays in the copy. What is before is kept. {RESTORE}"
            ),
            Fate::Unknown => format!("{copy} {SCAN_FIRST}"),
        }
    }

    /// For an index that is wrong, or none, beside a log that is whole.
    pub fn of_index(self, index: &str, is_absent: bool) -> String {
        let copy = self.copy();
        if self.is_old {
            return format!("{copy} {ASK}");
        }
        let how = if is_absent {
            format!(
                "put an empty index there that belongs to the server's user (`install -o USER -g GROUP -m 644 /dev/null {index}`)"
            )
        } else {
            format!("empty the index (`truncate -s 0 {index}`)")
        };
        format!(
            "{copy} Then, with the server stopped, {how}: a 0.9 server follows the log instead. That keeps every message of the log, \
             which was held against its checksums from end to end; this needs it, for on a damaged log the partition would \
             be lost."
        )
    }

    /// For an index that leads further than the last log of a partition goes.
    pub fn of_short_log(self, index: &str, end: Option<u64>) -> String {
        let copy = self.copy();
        if self.is_old {
            return format!("{copy} {ASK}");
        }
        let end = end.unwrap_or(self.start);
        format!(
            "A 0.9 server exits at its next start on it (\"message/index divergence\"). {copy} {RESTORE} Without one, empty the index \
             (`truncate -s 0 {index}`) with the server stopped: it starts, keeps the messages before offset {end} and \
             gives that offset out anew. What the log was cut off by, if it was, is given up."
        )
    }

    /// Where the log is not known, or damaged as well.
    pub fn not_now(self) -> String {
        let copy = self.copy();
        if self.is_old { format!("{copy} {ASK}") } else { format!("{copy} {SCAN_FIRST}") }
    }

    /// For an index without a log, in 0.8.
    pub fn ask(self) -> String {
        format!("{} {ASK}", self.copy())
    }

    /// For a last log that is empty and has no index.
    pub fn of_empty_pair(self, index: &str, log: &str) -> String {
        format!(
            "A 0.9 server exits at its next start on it (\"Cannot read file\"). {} Where the segment before ends right before offset {}, \
             put an empty index there that belongs to the server's user (`install -o USER -g GROUP -m 644 /dev/null {index}`); \
             else move the empty log out of the partition (`mv {log} PLACE/`). Both keep every message.",
            self.copy(),
            self.start
        )
    }

    /// What happens at the next start where it is not served.
    const fn at_start(self, fate: Fate) -> &'static str {
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
    fn without_it(self, index: &str) -> String {
        match self.next {
            Some(next) if self.next_is_empty => format!(
                "With the server stopped, move the empty segment {next:020}, .log and .index, out of the partition to PLACE: that \
                 keeps every message there is."
            ),
            Some(next) => format!(
                "{RESTORE} Without one, move (never delete) this segment and the older ones of the partition, .log and .index, \
                 to PLACE: a 0.9 server then starts and serves the partition from offset {next} on; the messages before \
                 it are given up, and stay in PLACE. Consumers that are further behind must be given offset {} first.",
                next.saturating_sub(1)
            ),
            None => format!(
                "{RESTORE} Without one, empty the index (`truncate -s 0 {index}`) with the server stopped: it starts, keeps the messages \
                 before the first damage in this log and writes new ones over the rest, which is given up and stays in the \
                 copy."
            ),
        }
    }
}
