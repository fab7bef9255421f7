//! What to do about damage to data. Each of these was done on a server of each generation that it names, and the
//! messages were counted before and after: docs/iggy-data-remedies.md. What was not tried is not advised.

use super::boot::Fate;
use super::layout;

/// What a sentence about one segment needs to know.
#[derive(Clone, Debug)]
pub struct Place {
    /// Its two files, below the data directory.
    pub log: String,
    pub index: String,
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
const RESTORE: &str = "With the server stopped, put the segment's files back from a backup: that keeps all.";
const ASK: &str =
    "Then put the files back from a backup, or ask before anything else is done; change and delete nothing.";
/// For a log of 0.8 with a later segment.
const OLD_LEAVE: &str = "Then leave the files as they are: a 0.8 server starts on them and serves what is whole; a poll that reaches the damage \
                         fails or returns nothing, so store the offset of the last damaged message for the consumers that \
                         wait there. Empty, move and delete nothing. Only the segment's files from a backup, put back with the \
                         server stopped, bring the messages back.";
const OLD_INDEX: &str = "Then put the index back from a backup; nothing else was found to help. Do not remove or empty it: a 0.8 server then \
                         exits at its start, or serves nothing of this segment.";
/// Where only names and sizes were looked at.
const SCAN_FIRST: &str = "Then let `warden inspect --scan full` look into the log, which decides what helps. Until then change and delete \
                          nothing: emptying the index of a damaged log loses the whole partition.";
/// Where the metadata of two generations lies side by side, or none does.
pub const WHOLE_COPY: &str =
    "Copy the data directory first, to a disk with room (`cp -a --reflink=auto DIR PLACE/`).";

impl Place {
    /// The copy with which everything begins.
    fn copy(&self) -> String {
        let (stream, topic, partition) = self.key;
        format!(
            "Copy the partition first, to a disk with room: `cp -a --reflink=auto {} PLACE/`.",
            layout::path_of(stream, topic, partition)
        )
    }

    /// For damage within the log that begins at `position`, or a log that does not meet the next one. `served_again` is
    /// the offset from which on the server serves again.
    pub fn of_log(&self, fate: Fate, position: u64, served_again: Option<u64>) -> String {
        let copy = self.copy();
        if self.is_old {
            return if self.next.is_some() { format!("{copy} {OLD_LEAVE}") } else { self.of_old_last() };
        }
        match (fate, self.next) {
            (Fate::Unknown, _) => format!("{copy} {SCAN_FIRST}"),
            (_, None) => self.of_last(fate, position),
            (Fate::Serves | Fate::Cuts { .. }, Some(next)) => {
                let again = served_again.unwrap_or(next).saturating_sub(1);
                format!(
                    "{copy} Then leave the files as they are: a 0.9 server starts on them, and a poll returns nothing from the damaged \
                     batch on up to offset {again}; store that offset for the consumers that wait there, and they go on behind \
                     it. Do not empty the index, and delete nothing: the server would move the whole partition aside. Only \
                     this segment's files from a backup, put back with the server stopped, bring the messages back."
                )
            }
            (Fate::Refuses | Fate::Fences, Some(next)) => {
                format!("{} {copy} {}", at_start(fate), self.without_it(next))
            }
        }
    }

    /// For the last segment: what the server takes after damage goes behind it, and is not found again.
    pub fn of_last(&self, fate: Fate, position: u64) -> String {
        let copy = self.copy();
        if self.is_old {
            return self.of_old_last();
        }
        let start = match fate {
            Fate::Refuses | Fate::Fences => at_start(fate),
            Fate::Serves | Fate::Cuts { .. } | Fate::Unknown => {
                "A 0.9 server starts on it, and what it takes from then on is written behind the damage and not found after \
                 the next start: do this before it is started, or stop its producers."
            }
        };
        format!(
            "{start} {copy} {RESTORE} Without one, cut the log before the damage and empty its index, with the server stopped \
             (`truncate -s {position} {}` and `truncate -s 0 {}`): that keeps every message before the damage, and new ones \
             are served. What is behind it is given up, and stays in the copy; its offsets are given out anew.",
            self.log, self.index
        )
    }

    /// For an index that is wrong, or none, beside a log that is whole.
    pub fn of_index(&self, is_absent: bool) -> String {
        let (copy, index) = (self.copy(), &self.index);
        if self.is_old {
            return self.of_old_index();
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

    /// Where the log is not known, or damaged as well.
    pub fn not_now(&self) -> String {
        if self.is_old { self.of_old_index() } else { format!("{} {SCAN_FIRST}", self.copy()) }
    }

    /// For the index of the last segment that ends within an entry; `whole` is where its last whole one ends.
    pub fn of_torn_index(&self, whole: u64) -> String {
        format!(
            "A 0.9 server starts on it and writes its next entries askew behind it, and exits at the start after that. {} Then, with the \
             server stopped, cut the index behind its last whole entry (`truncate -s {whole} {}`): that keeps every message.",
            self.copy(),
            self.index
        )
    }

    /// For an index of 0.8 that ends within an entry; `whole` is where its last whole one ends.
    pub fn of_old_torn_index(&self, whole: u64) -> String {
        format!(
            "A 0.8 server exits at its start on it (\"Index data must be exactly 16 bytes\"). {} Then, with the server stopped, cut the index \
             behind its last whole entry (`truncate -s {whole} {}`): that keeps every message that the index knows.",
            self.copy(),
            self.index
        )
    }

    fn of_old_index(&self) -> String {
        match self.next {
            Some(_) => format!("{} {OLD_INDEX}", self.copy()),
            None => self.of_old_last(),
        }
    }

    /// For the last segment of 0.8: what it takes after damage leads it astray.
    fn of_old_last(&self) -> String {
        format!(
            "A 0.8 server may start on it; what it takes from then on cannot be read after the next start, and a poll ends the server. {} \
             {RESTORE} Without one, move (never delete) this segment, .log and .index, to PLACE with the server stopped: that \
             keeps every message before offset {}, and new ones are served. Those of this segment are given up, and stay in \
             PLACE; their offsets are given out anew.",
            self.copy(),
            self.start
        )
    }

    /// For an index with entries whose log is gone.
    pub fn of_lost_log(&self) -> String {
        format!(
            "{} Where the log held messages, put it back from a backup before the server is started: a 0.9 server removes the index at its \
             start, goes on without these messages, and gives their offsets out anew. After a transfer between replicas that \
             was interrupted, there is nothing to do.",
            self.copy()
        )
    }

    /// Where nothing was tried.
    pub fn ask(&self) -> String {
        format!("{} {ASK}", self.copy())
    }

    /// For a last log that is empty and has no index.
    pub fn of_empty_pair(&self) -> String {
        let Place { log, index, start, .. } = self;
        format!(
            "A 0.9 server exits at its next start on it (\"Cannot read file\"). {} Where the segment before ends right before offset {start}, \
             put an empty index there that belongs to the server's user (`install -o USER -g GROUP -m 644 /dev/null {index}`); \
             else move the empty log out of the partition (`mv {log} PLACE/`). Both keep every message.",
            self.copy(),
        )
    }

    /// How to go on with a segment that cannot be used, or is not there, before the one at `next`.
    fn without_it(&self, next: u64) -> String {
        if self.next_is_empty {
            return format!(
                "With the server stopped, move the empty segment {next:020}, .log and .index, out of the partition to PLACE: that \
                 keeps every message there is."
            );
        }
        format!(
            "{RESTORE} Without one, move (never delete) this segment and the older ones of the partition, .log and .index, \
             to PLACE: a 0.9 server then starts and serves the partition from offset {next} on; the messages before \
             it are given up, and stay in PLACE. Consumers that are further behind must be given offset {} first.",
            next.saturating_sub(1)
        )
    }
}

/// What happens at the next start where a segment is not served.
const fn at_start(fate: Fate) -> &'static str {
    match fate {
        Fate::Refuses => "A 0.9 server exits at its next start on it (\"message/index divergence\").",
        Fate::Fences => {
            "Do not restart the server yet: it would move the whole partition aside (P.fenced.N) and go on with an empty one, \
             from offset 0."
        }
        Fate::Serves | Fate::Cuts { .. } | Fate::Unknown => "",
    }
}
