//! Says what is wrong with a segment, and what to do about it.

use std::borrow::Cow;
use std::io;

use warden_host::quantity::{bytes, count};

use super::advice::{NOTHING, Place};
use super::boot::Fate;
use super::data_source::Tree;
use super::index::{Entry, Wrong};
use super::report::{Problem, Severity};
use super::scan::{End, Fault, Scanned, What};
use super::segment::{Job, Looked, path};

const DISK: &str = "Look at the disk first (`warden snapshot --only disk`, `dmesg`): damage like this comes from it. \
                    Copy what can still be read (`cp -a --reflink=auto`) to another disk; then bring the file back from \
                    a backup or a replica.";
const LEFTOVER: &str = "Nothing to do: a 0.9 server removes it at its next start.";

impl Problem {
    pub fn new(
        severity: Severity,
        kind: &'static str,
        file: impl Into<String>,
        text: impl Into<String>,
        advice: impl Into<Cow<'static, str>>,
    ) -> Problem {
        let (kind, advice) = (kind.into(), advice.into());
        Problem { severity, kind, file: file.into(), text: text.into(), advice, at: None }
    }

    pub fn is_damage(&self) -> bool {
        self.severity == Severity::Damage
    }
}

/// What the words about a segment depend on.
#[derive(Clone)]
pub struct About {
    place: Place,
    is_archive: bool,
}

impl About {
    pub fn new(tree: &Tree, job: &Job<'_>) -> About {
        let Job { key, start, next, next_is_empty, is_old, .. } = *job;
        let (log, index) = (path(job, "log"), path(job, "index"));
        let place = Place { log, index, key, start, next, next_is_empty, is_old };
        About { place, is_archive: tree.is_archive() }
    }

    /// Whether the format turned out to be another than the metadata says.
    pub fn of_format(&self, is_old: bool) -> About {
        let mut about = self.clone();
        about.place.is_old = is_old;
        about
    }
}

/// What is known of a log when its index is judged.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum LogState {
    /// Every byte was held against its checksums, and it meets the next segment.
    Whole,
    Damaged,
    NotScanned,
}

fn add(
    looked: &mut Looked,
    severity: Severity,
    kind: &'static str,
    file: &str,
    text: String,
    advice: impl Into<Cow<'static, str>>,
) {
    looked.problems.push(Problem::new(severity, kind, file, text, advice));
}

/// What the presence and the sizes of the two files tell.
pub fn of_files(about: &About, looked: &mut Looked) {
    let absent = if about.is_archive { Severity::Note } else { Severity::Warning };
    let place = &about.place;
    let has_entries = looked.segment.index_bytes >= Some(super::index::SPARSE as u64);
    let fate = if has_entries { Fate::Refuses } else { Fate::Fences };
    match (looked.segment.log_bytes, looked.segment.index_bytes) {
        (None, _) if about.is_archive => {
            let text = "the archive has the index and not the log".to_owned();
            add(looked, absent, "log-left-out", &about.place.index, text, NOTHING);
        }
        (None, _) => {
            let text = "there is no log beside this index".to_owned();
            let (severity, advice) = match (place.is_old, has_entries) {
                (true, _) => (Severity::Damage, place.ask()),
                (false, true) => (Severity::Damage, place.of_lost_log()),
                (false, false) => (absent, LEFTOVER.to_owned()),
            };
            add(looked, severity, "index-without-log", &about.place.index, text, advice);
        }
        (Some(0), _) if place.next.is_some() => {
            let text = "the log is empty, and a later segment exists".to_owned();
            let advice = place.of_log(fate, 0, None);
            add(looked, Severity::Damage, "empty-segment", &about.place.log, text, advice);
        }
        (Some(0), Some(1..)) if has_entries || place.is_old => {
            let text = "the log is empty, and its index is not".to_owned();
            let advice = place.of_last(fate, 0);
            add(looked, Severity::Damage, "index-behind-log", &about.place.index, text, advice);
        }
        (Some(0), None) if !place.is_old && !about.is_archive => {
            let text = "the log is empty, and has no index".to_owned();
            let advice = place.of_empty_pair();
            add(looked, Severity::Damage, "log-without-index", &about.place.log, text, advice);
        }
        (Some(log @ 1..), None) if about.is_archive => {
            let text = format!("the archive has no index for this log of {}", bytes(log));
            add(looked, absent, "index-left-out", &about.place.log, text, NOTHING);
        }
        _ => {}
    }
}

/// A log whose index is empty or absent, when the log was looked into.
pub fn of_absent_index(about: &About, log: LogState, looked: &mut Looked) {
    let size = bytes(looked.segment.log_bytes.unwrap_or(0));
    let is_absent = looked.segment.index_bytes.is_none();
    if about.is_archive || (!is_absent && looked.segment.index_bytes != Some(0)) {
        return;
    }
    let place = &about.place;
    let advice = match log {
        LogState::Whole => place.of_index(is_absent),
        LogState::Damaged | LogState::NotScanned => place.not_now(),
    };
    if place.is_old || is_absent {
        let text = format!("no index leads to this log of {size}");
        add(looked, Severity::Damage, "log-without-index", &about.place.log, text, advice);
        return;
    }
    let text = format!("the index for this log of {size} is empty");
    let advice = match log {
        LogState::Whole => {
            "Nothing to do: a 0.9 server follows the log instead, which takes longer.".to_owned()
        }
        // What becomes of the partition is told with the damage of the log.
        LogState::Damaged | LogState::NotScanned => advice,
    };
    add(looked, Severity::Warning, "empty-index", &about.place.index, text, advice);
}

/// What helps against an index that does not fit its log.
fn misfit(about: &About, wrong: Option<Wrong>, log: LogState, fate: Fate, looked: &Looked) -> String {
    let place = &about.place;
    let is_behind = matches!(wrong, None | Some(Wrong::Behind(_)));
    match log {
        // The index may be wrong, or the log cut: what helps is the same, and it must not be said to keep all.
        LogState::Whole if is_behind && place.next.is_none() => place.of_last(fate, whole(looked)),
        LogState::Whole => place.of_index(false),
        LogState::NotScanned => place.not_now(),
        LogState::Damaged => place.of_log(fate, whole(looked), None),
    }
}

/// Where the last whole batch ends.
fn whole(looked: &Looked) -> u64 {
    let segment = &looked.segment;
    segment.log_bytes.unwrap_or(0).saturating_sub(segment.torn_bytes + segment.preallocated_bytes)
}

pub fn of_index_size(about: &About, size: u64, entry: u64, looked: &mut Looked) {
    if size.is_multiple_of(entry) {
        return;
    }
    let text = format!("the index ends within an entry: {size} bytes are no multiple of {entry}");
    let place = &about.place;
    let whole = size / entry * entry;
    let (severity, advice) = match (place.is_old, place.next) {
        (true, _) => (Severity::Damage, place.of_old_torn_index(whole)),
        // What a server adds stands askew behind it.
        (false, None) => (Severity::Damage, place.of_torn_index(whole)),
        (false, Some(_)) => (
            Severity::Warning,
            "Nothing to do: a 0.9 server takes no notice of what is no whole entry.".to_owned(),
        ),
    };
    add(looked, severity, "torn-index", &place.index, text, advice);
}

pub fn of_index(about: &About, wrong: Wrong, state: LogState, fate: Fate, looked: &mut Looked) {
    let log = looked.segment.log_bytes.unwrap_or(0);
    let (kind, text) = match wrong {
        Wrong::Order(entry) => {
            ("index-order", format!("entry {entry} of the index does not come after the one before"))
        }
        Wrong::Start(entry) => (
            "index-start",
            format!(
                "entry {entry} of the index does not lead to offset {} at the log's first byte",
                about.place.start
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
    let advice = misfit(about, Some(wrong), state, fate, looked);
    add(looked, Severity::Damage, kind, &about.place.index, text, advice);
}

/// What the checksums told. `to_the_end` when the end of the log was among what was looked at.
pub fn of_scan(
    about: &About,
    found: &Scanned,
    entries: &[Entry],
    to_the_end: bool,
    fate: Fate,
    looked: &mut Looked,
) {
    let (place, next) = (&about.place, about.place.next);
    // A poll follows the log from the entry before an offset, and ends at damage.
    let again = |position: u64| {
        let later = entries.iter().find(|entry| entry.position > position);
        later.map(|entry| entry.offset).or(next)
    };
    let first = found.faults.first().map_or(0, |fault| fault.position);
    for fault in &found.faults {
        let advice = place.of_log(fate, first, again(fault.position));
        let mut problem =
            Problem::new(Severity::Damage, kind(fault.what), &about.place.log, sentence(fault), advice);
        problem.at = Some(fault.clone());
        looked.problems.push(problem);
    }
    if found.faults_left_out > 0 {
        let text = format!("{} more, further on", count(found.faults_left_out, "damage", "damages"));
        add(looked, Severity::Damage, "more-damage", &about.place.log, text, place.of_log(fate, first, next));
    }
    match found.end {
        End::Lost { at, bytes: lost } => {
            let text = format!("nothing can be read from byte {at} to the end ({})", bytes(lost));
            add(
                looked,
                Severity::Damage,
                "unreadable-rest",
                &about.place.log,
                text,
                place.of_log(fate, found.faults.first().map_or(at, |fault| fault.position), next),
            );
        }
        End::Torn { at, bytes: torn } if to_the_end && next.is_some() => {
            let text = format!(
                "the log ends in the middle of a batch, {} behind byte {at}, and a later segment exists",
                bytes(torn)
            );
            add(
                looked,
                Severity::Damage,
                "torn-segment",
                &about.place.log,
                text,
                place.of_log(fate, at, next),
            );
        }
        End::Torn { at, bytes: torn } if to_the_end => {
            let size = looked.segment.log_bytes.unwrap_or(0);
            looked.torn = Some(Torn { place: place.clone(), fate, at, bytes: torn, size });
        }
        End::Whole | End::Zeros { .. } | End::Torn { .. } | End::Cancelled => {}
    }
}

/// The end of the last log of a partition, which is no whole batch.
pub struct Torn {
    place: Place,
    fate: Fate,
    at: u64,
    bytes: u64,
    /// Of the log when it was looked at.
    pub size: u64,
}

impl Torn {
    pub fn log(&self) -> &str {
        &self.place.log
    }

    /// Where somebody is writing it, or nobody can tell, it is no damage.
    pub fn problem(&self, is_left: bool) -> Problem {
        let Torn { place, at, .. } = self;
        let text = format!("the last {} from byte {at} on are no whole batch", bytes(self.bytes));
        let (severity, advice) = match is_left {
            true => (Severity::Damage, place.of_last(self.fate, *at)),
            false => {
                let advice = "Nothing to do while a server is writing it. Inspect the directory again when it is stopped, and \
                              before it is started: what a server takes behind such an end is not found again.";
                (Severity::Note, advice.to_owned())
            }
        };
        Problem::new(severity, "torn-tail", &place.log, text, advice)
    }
}

/// What only both together can tell: whether index, log and next segment meet.
pub fn of_end(about: &About, entries: &[Entry], fate: Fate, state: LogState, looked: &mut Looked) {
    if looked.segment.log_bytes.is_none() {
        return;
    }
    let end = whole(looked);
    if let Some(last) = entries.last()
        && last.position >= end
        && !looked.problems.iter().any(Problem::is_damage)
    {
        let text = format!(
            "the last entry of the index leads to byte {}, and the last whole batch ends at {end}",
            last.position
        );
        let advice = misfit(about, None, state, fate, looked);
        add(looked, Severity::Damage, "index-behind-log", &about.place.index, text, advice);
    }
    let damaged = looked.problems.iter().any(Problem::is_damage);
    if let (Some(end), Some(next), false) = (looked.segment.next_offset, about.place.next, damaged)
        && end != next
    {
        let what = if end < next {
            format!("{} missing", count(next - end, "message is", "messages are"))
        } else {
            format!("{} there twice", count(end - next, "offset is", "offsets are"))
        };
        let text = format!("it ends before offset {end} and the next segment begins at {next}: {what}");
        let severity = if about.is_archive { Severity::Warning } else { Severity::Damage };
        add(looked, severity, "gap", &about.place.log, text, about.place.of_log(fate, whole(looked), None));
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
