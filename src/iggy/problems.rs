//! Says what is wrong with a segment, and what to do about it.

use std::io;

use warden_checks::quantity::{bytes, count};

use super::index::{Entry, Wrong};
use super::report::{Problem, Severity};
use super::scan::{End, Fault, Scanned, What};
use super::segment::{Job, Looked, path};
use super::tree::Tree;

// What a server does with each of these was seen on 0.9.0-edge.5.
const REPLACE: &str = "Copy the data directory aside before the server is restarted: one that cannot follow the batches \
                       of a segment moves the whole partition aside and goes on with an empty one. Then bring the \
                       segment back from a backup or a replica. Without either, these messages are lost, and consumers \
                       must be moved past them.";
const REFUSED: &str = "Do not restart the server: it would move the whole partition aside (P.fenced.N) and go on with an \
                       empty one. Copy the data directory aside, and bring the segment back from a backup or a replica.";
const EMPTY_INDEX: &str = "The server refuses to start on it. Keep a copy and empty it (`truncate -s 0 FILE`): a 0.9 server \
                           then walks the log instead.";
const NEW_INDEX: &str = "The server refuses to start without it. Put an empty file there that belongs to the server's user: \
                         a 0.9 server then walks the log instead.";
const OLD_INDEX: &str = "The server may refuse to start, or find no messages. Copy the data directory aside, and bring the \
                         index back from a backup.";
const DISK: &str = "Look at the disk first (`warden snapshot --only disk`, `dmesg`): damage like this comes from it. \
                    Then bring the segment back from a backup or a replica.";
const LEFTOVER: &str = "Nothing to do: the server removes it at its next start.";
const NOTHING: &str = "Nothing to do.";

impl Problem {
    pub fn new(
        severity: Severity,
        kind: &'static str,
        file: impl Into<String>,
        text: impl Into<String>,
        advice: &'static str,
    ) -> Problem {
        let (kind, advice) = (kind.into(), advice.into());
        Problem { severity, kind, file: file.into(), text: text.into(), advice, at: None }
    }

    pub fn is_damage(&self) -> bool {
        self.severity == Severity::Damage
    }
}

/// What the words about a segment depend on.
pub struct About {
    log: String,
    index: String,
    start: u64,
    next: Option<u64>,
    is_archive: bool,
    is_old: bool,
}

impl About {
    pub fn new(tree: &Tree, job: &Job<'_>) -> About {
        let is_archive = tree.is_archive();
        About {
            log: path(job, "log"),
            index: path(job, "index"),
            start: job.start,
            next: job.next,
            is_archive,
            is_old: job.is_old,
        }
    }
}

fn add(
    looked: &mut Looked,
    severity: Severity,
    kind: &'static str,
    file: &str,
    text: String,
    advice: &'static str,
) {
    looked.problems.push(Problem::new(severity, kind, file, text, advice));
}

/// What the presence and the sizes of the two files tell.
pub fn of_files(about: &About, looked: &mut Looked) {
    let absent = if about.is_archive { Severity::Note } else { Severity::Warning };
    match (looked.segment.log_bytes, looked.segment.index_bytes) {
        (None, _) if about.is_archive => {
            let text = "the archive has the index and not the log".to_owned();
            add(looked, absent, "log-left-out", &about.index, text, NOTHING);
        }
        (None, _) => {
            let text = "there is no log beside this index".to_owned();
            add(looked, absent, "index-without-log", &about.index, text, LEFTOVER);
        }
        (Some(0), _) if about.next.is_some() => {
            let text = "the log is empty, and a later segment exists".to_owned();
            add(looked, Severity::Damage, "empty-segment", &about.log, text, REFUSED);
        }
        (Some(0), Some(1..)) => {
            let text = "the log is empty, and its index is not".to_owned();
            let advice = if about.is_old { OLD_INDEX } else { EMPTY_INDEX };
            add(looked, Severity::Damage, "index-behind-log", &about.index, text, advice);
        }
        (Some(log @ 1..), None) if about.is_archive => {
            let text = format!("the archive has no index for this log of {}", bytes(log));
            add(looked, absent, "index-left-out", &about.log, text, NOTHING);
        }
        (Some(log @ 1..), Some(0)) if !about.is_old => {
            let text = format!("the index for this log of {} is empty", bytes(log));
            let advice = "Nothing to do: the server walks the log instead, which takes longer.";
            add(looked, Severity::Warning, "empty-index", &about.index, text, advice);
        }
        (Some(log @ 1..), None | Some(0)) => {
            let text = format!("no index leads to this log of {}", bytes(log));
            let advice = if about.is_old { OLD_INDEX } else { NEW_INDEX };
            add(looked, Severity::Damage, "log-without-index", &about.log, text, advice);
        }
        _ => {}
    }
}

pub fn of_index_size(about: &About, size: u64, entry: u64, looked: &mut Looked) {
    if !size.is_multiple_of(entry) {
        let text = format!("the index ends within an entry: {size} bytes are no multiple of {entry}");
        let advice = "Nothing to do if the server is writing to it. Else compare its end with the log.";
        add(looked, Severity::Warning, "torn-index", &about.index, text, advice);
    }
}

pub fn of_index(about: &About, wrong: Wrong, looked: &mut Looked) {
    let log = looked.segment.log_bytes.unwrap_or(0);
    let (kind, text) = match wrong {
        Wrong::Order(entry) => {
            ("index-order", format!("entry {entry} of the index does not come after the one before"))
        }
        Wrong::Start(entry) => (
            "index-start",
            format!(
                "entry {entry} of the index does not lead to offset {} at the log's first byte",
                about.start
            ),
        ),
        Wrong::Behind(entry) => (
            "index-behind-log",
            format!("entry {entry} of the index leads behind the log, which ends at {}", bytes(log)),
        ),
        Wrong::Astray(entry) => (
            "index-astray",
            format!("entry {entry} of the index leads to where no batch with its offset begins"),
        ),
    };
    let advice = if about.is_old { OLD_INDEX } else { EMPTY_INDEX };
    add(looked, Severity::Damage, kind, &about.index, text, advice);
}

/// What the checksums told. `to_the_end` when the end of the log was among what was looked at.
pub fn of_scan(about: &About, found: &Scanned, to_the_end: bool, looked: &mut Looked) {
    for fault in &found.faults {
        let mut problem =
            Problem::new(Severity::Damage, kind(fault.what), &about.log, sentence(fault), advice(fault.what));
        problem.at = Some(fault.clone());
        looked.problems.push(problem);
    }
    if found.faults_left_out > 0 {
        let text = format!("{} more, further on", count(found.faults_left_out, "damage", "damages"));
        add(looked, Severity::Damage, "more-damage", &about.log, text, REPLACE);
    }
    match found.end {
        End::Lost { at, bytes: lost } => {
            let text = format!("nothing can be read from byte {at} to the end ({})", bytes(lost));
            add(looked, Severity::Damage, "unreadable-rest", &about.log, text, REPLACE);
        }
        End::Torn { at, bytes: torn } if to_the_end && about.next.is_some() => {
            let text = format!(
                "the log ends in the middle of a batch, {} behind byte {at}, and a later segment exists",
                bytes(torn)
            );
            add(looked, Severity::Damage, "torn-segment", &about.log, text, REFUSED);
        }
        End::Torn { at, bytes: torn } if to_the_end => {
            let text = format!("the last {} from byte {at} on are no whole batch yet", bytes(torn));
            let advice = "Nothing to do: a running server is writing it. After a crash, the server drops it at its \
                          next start.";
            add(looked, Severity::Note, "torn-tail", &about.log, text, advice);
        }
        End::Whole | End::Zeros { .. } | End::Torn { .. } | End::Cancelled => {}
    }
}

/// What only both together can tell: whether index, log and next segment meet.
pub fn of_end(about: &About, entries: &[Entry], looked: &mut Looked) {
    let Some(size) = looked.segment.log_bytes else { return };
    let whole = size - looked.segment.torn_bytes.min(size) - looked.segment.preallocated_bytes.min(size);
    if let Some(last) = entries.last()
        && last.position >= whole
        && !looked.problems.iter().any(Problem::is_damage)
    {
        let text = format!(
            "the last entry of the index leads to byte {}, and the last whole batch ends at {whole}",
            last.position
        );
        add(looked, Severity::Damage, "index-behind-log", &about.index, text, EMPTY_INDEX);
    }
    let damaged = looked.problems.iter().any(Problem::is_damage);
    if let (Some(end), Some(next), false) = (looked.segment.next_offset, about.next, damaged)
        && end != next
    {
        let what = if end < next {
            format!("{} missing", count(next - end, "message is", "messages are"))
        } else {
            format!("{} there twice", count(end - next, "offset is", "offsets are"))
        };
        let text = format!("it ends before offset {end} and the next segment begins at {next}: {what}");
        let severity = if about.is_archive { Severity::Warning } else { Severity::Damage };
        add(looked, severity, "gap", &about.log, text, REFUSED);
    }
}

/// A file that could not be read: of a disk, that is damage; of rights, it is not; and of time, it is no problem of
/// the file.
pub fn unreadable(file: &str, error: &io::Error) -> Option<Problem> {
    if error.kind() == io::ErrorKind::TimedOut {
        return None;
    }
    let (severity, advice) = if error.kind() == io::ErrorKind::PermissionDenied {
        (Severity::Warning, "Run it again as root or as the server's user.")
    } else if error.kind() == io::ErrorKind::NotFound {
        (Severity::Note, "Nothing to do if the server removed it meanwhile.")
    } else {
        (Severity::Damage, DISK)
    };
    Some(Problem::new(severity, "unreadable", file, format!("it cannot be read: {error}"), advice))
}

const fn kind(what: What) -> &'static str {
    match what {
        What::Message => "damaged-message",
        What::BatchHeader => "damaged-batch-header",
        What::Layout => "damaged-batch",
        What::NoBatch => "no-batch",
        What::Zeros => "zeros",
        What::Offset => "offset-jump",
        What::Partition => "foreign-batch",
    }
}

const fn advice(what: What) -> &'static str {
    match what {
        What::Message | What::BatchHeader | What::Layout | What::NoBatch | What::Zeros => REPLACE,
        What::Offset | What::Partition => REFUSED,
    }
}

fn sentence(fault: &Fault) -> String {
    let place = match fault.batch {
        Some(batch) => format!("batch {batch} at byte {}", fault.position),
        None => format!("the batch at byte {}", fault.position),
    };
    let offset =
        fault.offset.map_or_else(|| "an unknown offset".to_owned(), |offset| format!("offset {offset}"));
    let messages = fault.messages.map(|messages| count(messages, "message", "messages"));
    let span = fault
        .bytes
        .map_or_else(|| "to the end of the log".to_owned(), |span| format!("over {}", bytes(span)));
    let how_many = messages.as_ref().map_or_else(String::new, |messages| format!(" ({messages})"));
    match fault.what {
        What::Message if fault.messages.is_none_or(|messages| messages == 1) => {
            format!("the message at {offset} does not fit its checksum, in {place}")
        }
        What::Message => {
            format!("messages do not fit their checksums, from {offset} on{how_many}, in {place}")
        }
        What::BatchHeader => {
            format!("the header of {place} is damaged; its messages begin with {offset}{how_many}")
        }
        What::Layout => format!("{place} cannot be read from {offset} on, {span}{how_many}"),
        What::NoBatch => format!(
            "no batch begins at byte {}, where {offset} should follow, {span}{how_many}",
            fault.position
        ),
        What::Zeros => format!(
            "there are only zeros from byte {} on, where {offset} should follow, {span}{how_many}",
            fault.position
        ),
        What::Offset => format!("{place} begins with {offset}, which does not follow on the one before"),
        What::Partition => format!("{place} belongs to another partition; it says {offset}{how_many}"),
    }
}
