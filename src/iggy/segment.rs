//! Looks into one segment: the index, the log behind it, and whether the two fit.

use std::io;

use super::batch;
use super::index::{self, Dense, Wrong};
use super::layout::{self, Segment as Files};
use super::message;
use super::problems::{self, About};
use super::report::{Mode, Problem, Segment};
use super::scan::{self, End, Scanned, Stretch};
use super::tree::{Entry, Tree};
use super::window::BLOCK;

/// Entries of an index that are held against the headers they lead to; where only the structure is asked for, few:
/// each is a read of its own.
const ENTRIES_CHECKED: usize = 64;
const ENTRIES_CHECKED_LEAST: usize = 4;
/// Bytes of one stretch of a sample.
const STRETCH: u64 = 1 << 20;
/// Bytes at the front of a log by which its format is told.
const BEGINNING: usize = batch::HEADER + batch::FRAME;

/// Which segment to look into, and what is known about its neighbours.
pub struct Job<'a> {
    pub key: (u64, u64, u64),
    pub start: u64,
    /// First offset of the next segment; the last segment of a partition is the one being written.
    pub next: Option<u64>,
    pub files: &'a Files,
    /// By the metadata; the log itself is asked first.
    pub is_old: bool,
}

/// How much of it to read.
#[derive(Clone, Copy, Debug)]
pub struct Depth {
    pub mode: Mode,
    /// Bytes of this segment that a sample may take.
    pub budget: u64,
}

#[derive(Default)]
pub struct Looked {
    pub segment: Segment,
    pub problems: Vec<Problem>,
    pub batches: u64,
    pub messages: u64,
    pub was_cancelled: bool,
}

/// Everything about one segment. `progress` is told of bytes verified, and asks to stop by false.
pub fn look(tree: &Tree, job: &Job<'_>, depth: Depth, progress: &dyn Fn(u64) -> bool) -> Looked {
    let files = Both::of(tree, job);
    let mut looked = Looked { segment: listed(job), ..Looked::default() };
    looked.segment.index_bytes = files.index.as_ref().map(|index| index.bytes);
    let about = About::new(tree, job);
    problems::of_files(&about, &mut looked);
    if looked.segment.log_bytes == Some(0) {
        looked.segment.next_offset = Some(job.start);
    }
    if let Some(log) = &files.log
        && log.bytes > 0
        && let Err(error) =
            look_inside(tree, job, &about, log, files.index.as_ref(), depth, progress, &mut looked)
    {
        looked.unreadable(&log.path, &error);
    }
    looked.segment.damages = looked.problems.iter().filter(|problem| problem.is_damage()).count() as u64;
    looked
}

/// What is known of a segment by its listing.
pub fn listed(job: &Job<'_>) -> Segment {
    Segment {
        start: job.start,
        log_bytes: job.files.log.map(|log| log.bytes),
        index_bytes: job.files.index.map(|index| index.bytes),
        modified: job.files.log.and_then(|log| log.modified),
        ..Segment::default()
    }
}

/// The two files of a segment.
struct Both {
    log: Option<Entry>,
    index: Option<Entry>,
}

impl Both {
    fn of(tree: &Tree, job: &Job<'_>) -> Both {
        let log = job.files.log.map(|log| log.at(path(job, "log")));
        let mut index = job.files.index.map(|index| index.at(path(job, "index")));
        if let (Some(log), None, false) = (&log, &index, tree.is_archive()) {
            // A server that begins a segment makes both; the folder may have been listed in between.
            let mut late = Entry { path: path(job, "index"), ..log.clone() };
            if let Ok(bytes) = tree.read(&late, |_, size| Ok(size)) {
                late.bytes = bytes;
                index = Some(late);
            }
        }
        Both { log, index }
    }
}

impl Looked {
    fn unreadable(&mut self, file: &str, error: &io::Error) {
        self.was_cancelled |= error.kind() == io::ErrorKind::TimedOut;
        self.problems.extend(problems::unreadable(file, error));
    }
}

#[expect(clippy::too_many_arguments, reason = "all that is known of one segment")]
fn look_inside(
    tree: &Tree,
    job: &Job<'_>,
    about: &About,
    log: &Entry,
    index: Option<&Entry>,
    depth: Depth,
    progress: &dyn Fn(u64) -> bool,
    looked: &mut Looked,
) -> io::Result<()> {
    let (beginning, _) = tree.beginning(log, BEGINNING)?;
    let is_old = is_old(&beginning, job);
    // The index first: what a server adds meanwhile then only makes the log longer than the index knows.
    let mut written = 0;
    let entries = match index {
        Some(index) if index.bytes > 0 && is_old => {
            written = dense(tree, index, log, about, looked);
            Vec::new()
        }
        Some(index) if index.bytes > 0 => sparse(tree, job, index, log, about, depth, looked),
        Some(_) | None => Vec::new(),
    };
    let size = tree.read(log, |_, size| Ok(size))?;
    looked.segment.log_bytes = Some(size);
    let whole = Stretch {
        from: 0,
        offset: Some(job.start),
        until: size,
        size,
        partition: (!is_old).then_some(job.key.2),
        written,
        next_segment: job.next,
    };
    let plan = plan(&entries, whole, depth, tree.is_archive());
    let mut found = Scanned::default();
    for stretch in &plan {
        found.join(verify(tree, log, *stretch, is_old, &|bytes| progress(found.bytes + bytes))?);
        if found.end == End::Cancelled {
            break;
        }
    }
    let is_whole = plan.last().is_some_and(|last| last.until >= size);
    looked.segment.verified_bytes = found.bytes;
    looked.batches = found.batches;
    looked.messages = found.messages;
    looked.was_cancelled = found.end == End::Cancelled;
    take(&found, is_whole, looked);
    problems::of_scan(about, &found, is_whole, looked);
    if !is_old && looked.segment.next_offset.is_none() && !tree.is_archive() {
        walk_tail(tree, job, about, log, &entries, looked)?;
    }
    problems::of_end(about, &entries, looked);
    Ok(())
}

fn is_old(beginning: &[u8], job: &Job<'_>) -> bool {
    let any = u64::MAX;
    if beginning.len() >= BEGINNING && batch::could_begin(beginning, None, job.start, any) {
        return false;
    }
    let old = (beginning.len() >= message::HEADER).then(|| message::Header::read(beginning));
    match old {
        Some(header) if header.offset == job.start && header.reserved_is_zero => true,
        Some(_) | None => job.is_old,
    }
}

/// What of the log is verified: stretches in order, each beginning where an index entry leads.
fn plan(entries: &[index::Entry], whole: Stretch, depth: Depth, is_archive: bool) -> Vec<Stretch> {
    match depth.mode {
        Mode::None => return Vec::new(),
        Mode::Full => return vec![whole],
        Mode::Sampled if whole.size <= depth.budget => return vec![whole],
        Mode::Sampled => {}
    }
    // A member of an archive is unpacked from its front; what lies far behind would cost all that is before it.
    if is_archive || entries.is_empty() {
        return vec![Stretch { until: depth.budget, ..whole }];
    }
    let pieces = (depth.budget / STRETCH).max(1);
    let mut stretches: Vec<Stretch> = Vec::new();
    for piece in 0..pieces {
        // The first piece is the front, the last one the end: a write that was interrupted shows there.
        let last = piece + 1 == pieces && pieces > 1;
        let at = if last { whole.size.saturating_sub(STRETCH) } else { whole.size / pieces * piece };
        let number = entries.partition_point(|entry| entry.position <= at).saturating_sub(1);
        let Some(entry) = entries.get(number) else { continue };
        // An index without entries near the end leads too far from it.
        let to_the_end = last && whole.size.saturating_sub(entry.position) <= depth.budget;
        let until =
            if to_the_end { whole.size } else { entry.position.saturating_add(STRETCH).min(whole.size) };
        let behind = stretches.last().is_none_or(|before| entry.position >= before.until);
        if behind && entry.position < whole.size {
            stretches.push(Stretch { from: entry.position, offset: Some(entry.offset), until, ..whole });
        } else if let Some(before) = stretches.last_mut() {
            before.until = before.until.max(until);
        }
    }
    stretches
}

fn verify(
    tree: &Tree,
    log: &Entry,
    stretch: Stretch,
    is_old: bool,
    progress: &dyn Fn(u64) -> bool,
) -> io::Result<Scanned> {
    tree.read(log, |source, size| {
        // It may have become shorter since it was measured.
        let stretch = Stretch { size: size.min(stretch.size), ..stretch };
        source.skip(stretch.from)?;
        let report = |position: u64| progress(position.saturating_sub(stretch.from));
        if is_old {
            scan::messages(source, stretch, &report)
        } else {
            scan::batches(source, stretch, &report)
        }
    })
}

fn take(found: &Scanned, is_whole: bool, looked: &mut Looked) {
    let segment = &mut looked.segment;
    segment.first_at = found.first_at;
    segment.last_at = found.last_at;
    if is_whole && found.end != End::Cancelled {
        segment.next_offset = found.next_offset;
    }
    let size = segment.log_bytes.unwrap_or(0);
    match found.end {
        End::Zeros { at } => segment.preallocated_bytes = size.saturating_sub(at),
        End::Torn { bytes, .. } => segment.torn_bytes = bytes,
        End::Whole | End::Lost { .. } | End::Cancelled => {}
    }
}

fn walk_tail(
    tree: &Tree,
    job: &Job<'_>,
    about: &About,
    log: &Entry,
    entries: &[index::Entry],
    looked: &mut Looked,
) -> io::Result<()> {
    let from = entries.last().map_or(0, |entry| entry.position);
    tree.read(log, |source, size| {
        if from >= size {
            return Ok(());
        }
        source.skip(from)?;
        let partition = Some(job.key.2);
        let stretch =
            Stretch { from, offset: None, until: size, size, partition, written: 0, next_segment: job.next };
        let found = scan::tail(source, stretch)?;
        let first_at = looked.segment.first_at.or(entries.first().map(|entry| entry.timestamp));
        take(&found, true, looked);
        looked.segment.first_at = first_at.or(looked.segment.first_at);
        problems::of_scan(about, &found, true, looked);
        Ok(())
    })
}

fn sparse(
    tree: &Tree,
    job: &Job<'_>,
    file: &Entry,
    log: &Entry,
    about: &About,
    depth: Depth,
    looked: &mut Looked,
) -> Vec<index::Entry> {
    let (bytes, size) = match tree.beginning(file, index::MOST_SPARSE) {
        Ok(read) => read,
        Err(error) => {
            looked.unreadable(&file.path, &error);
            return Vec::new();
        }
    };
    looked.segment.index_entries = Some(size / index::SPARSE as u64);
    problems::of_index_size(about, size, index::SPARSE as u64, looked);
    // A server may have written to both since they were listed; the log grows first.
    let log_bytes = tree.read(log, |_, size| Ok(size)).unwrap_or(log.bytes);
    let entries = index::sparse(&bytes);
    let checked = if depth.mode == Mode::None { ENTRIES_CHECKED_LEAST } else { ENTRIES_CHECKED };
    let wrong = index::judge_sparse(&entries, job.start, log_bytes)
        .or_else(|| if tree.is_archive() { None } else { astray(tree, log, &entries, checked) });
    if let Some(wrong) = wrong {
        problems::of_index(about, wrong, looked);
        // An index that is wrong is no guide to where batches begin.
        return Vec::new();
    }
    entries
}

/// The first of some entries, evenly spread, that does not lead to a batch with its offset.
fn astray(tree: &Tree, log: &Entry, entries: &[index::Entry], checked: usize) -> Option<Wrong> {
    let step = entries.len().div_ceil(checked).max(1);
    let chosen = entries.iter().enumerate().step_by(step).chain(entries.iter().enumerate().next_back());
    for (number, entry) in chosen {
        let header = tree.read(log, |source, _| {
            source.skip(entry.position)?;
            let mut bytes = [0; batch::HEADER];
            let mut filled = 0;
            while filled < bytes.len() {
                match source.read(&mut bytes[filled..])? {
                    0 => return Ok(None),
                    read => filled += read,
                }
            }
            Ok(Some(batch::Header::read(&bytes)))
        });
        match header {
            Ok(Some(header)) if header.base_offset != entry.offset => {
                return Some(Wrong::Astray(number as u64));
            }
            Ok(_) | Err(_) => {}
        }
    }
    None
}

/// Where the last message ends, by an index that can be believed.
fn dense(tree: &Tree, file: &Entry, log: &Entry, about: &About, looked: &mut Looked) -> u64 {
    let checked = tree.read(file, |source, size| {
        let mut dense = Dense::default();
        let mut buffer = vec![0; BLOCK];
        let mut held = 0;
        loop {
            let read = source.read(&mut buffer[held..])?;
            if read == 0 {
                return Ok((dense, size));
            }
            held += read;
            let whole = held - held % index::DENSE;
            dense.add(&buffer[..whole], log.bytes);
            buffer.copy_within(whole..held, 0);
            held -= whole;
        }
    });
    match checked {
        Ok((dense, size)) => {
            looked.segment.index_entries = Some(dense.entries);
            problems::of_index_size(about, size, index::DENSE as u64, looked);
            if let Some(wrong) = dense.wrong {
                problems::of_index(about, wrong, looked);
                return 0;
            }
            dense.end
        }
        Err(error) => {
            looked.unreadable(&file.path, &error);
            0
        }
    }
}

pub fn path(job: &Job<'_>, ending: &str) -> String {
    let (stream, topic, partition) = job.key;
    format!("{}/{:020}.{ending}", layout::path_of(stream, topic, partition), job.start)
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// A log with an entry for each MiB, two offsets apart.
    fn entries(mib: u64) -> Vec<index::Entry> {
        (0..mib)
            .map(|number| index::Entry { offset: number * 2, timestamp: 0, position: number * MIB })
            .collect()
    }

    fn stretches(entries: &[index::Entry], size: u64, depth: Depth, is_archive: bool) -> Vec<(u64, u64)> {
        let whole = Stretch {
            from: 0,
            offset: Some(0),
            until: size,
            size,
            partition: None,
            written: 0,
            next_segment: None,
        };
        plan(entries, whole, depth, is_archive).iter().map(|stretch| (stretch.from, stretch.until)).collect()
    }

    #[test]
    fn a_sample_is_spread_from_the_front_to_the_end_and_stays_within_its_budget() {
        let depth = Depth { mode: Mode::Sampled, budget: 4 * MIB };
        let size = 100 * MIB;
        let spread = [(0, 1), (25, 26), (50, 51), (99, 100)].map(|(from, until)| (from * MIB, until * MIB));
        assert_eq!(stretches(&entries(100), size, depth, false), spread);
        assert_eq!(
            stretches(&entries(100), size, depth, true),
            [(0, 4 * MIB)],
            "an archive is read from its front"
        );
        assert_eq!(stretches(&[], size, depth, false), [(0, 4 * MIB)], "nothing says where batches begin");
        assert_eq!(
            stretches(&entries(4), 4 * MIB, depth, false),
            [(0, 4 * MIB)],
            "a small one is read whole"
        );
        let full = Depth { mode: Mode::Full, budget: MIB };
        assert_eq!(stretches(&entries(100), size, full, false), [(0, size)]);
        assert_eq!(stretches(&entries(100), size, Depth { mode: Mode::None, budget: MIB }, false), []);
    }

    #[test]
    fn an_index_with_one_entry_does_not_make_a_sample_larger() {
        let depth = Depth { mode: Mode::Sampled, budget: 4 * MIB };
        assert_eq!(stretches(&entries(1), 100 * MIB, depth, false), [(0, MIB)]);
    }
}
