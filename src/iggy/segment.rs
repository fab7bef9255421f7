//! Looks into one segment: the index, the log behind it, and whether the two fit.

use std::io;

use super::boot::{self, Fate, Walk};
use super::data_source::{Entry, Tree};
use super::index::{self, Wrong};
use super::index_check::{dense, sparse};
use super::layout::{self, Segment as Files};
use super::problems::{self, About, LogState, Torn};
use super::report::{Mode, Problem, Segment};
use super::scan::{self, End, Scanned, Stretch};
use super::{batch, legacy_message};

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
    /// Whether that one is the last, and its log is empty.
    pub next_is_empty: bool,
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
    /// An end that may be being written.
    pub torn: Option<Torn>,
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
    pub fn unreadable(&mut self, file: &str, error: &io::Error) {
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
    let about = &about.of_format(is_old);
    // The index first: what a server adds meanwhile then only makes the log longer than the index knows.
    let mut written = 0;
    let (mut entries, mut wrong) = (Vec::new(), None);
    if let Some(index) = index.filter(|index| index.bytes > 0) {
        if is_old {
            (written, wrong) = dense(tree, index, log, about, looked);
        } else {
            (entries, wrong) = sparse(tree, job, index, log, about, depth, looked);
        }
    }
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
    // Whether an index can be made anew is told by all of the log alone.
    let asks_for_all =
        (wrong.is_some() || index.is_none()) && depth.mode == Mode::Sampled && !tree.is_archive();
    let depth = if asks_for_all { Depth { mode: Mode::Full, ..depth } } else { depth };
    let plan = plan(&entries, whole, depth, tree.is_archive());
    let mut found = Scanned::default();
    for stretch in &plan {
        found.join(verify(tree, log, *stretch, is_old, &|bytes| progress(found.bytes + bytes))?);
        if found.end == End::Cancelled {
            break;
        }
    }
    let is_whole = plan.last().is_some_and(|last| last.until >= size);
    let is_all = is_whole && plan.len() == 1 && plan[0].from == 0 && found.end != End::Cancelled;
    looked.segment.verified_bytes = found.bytes;
    looked.batches = found.batches;
    looked.messages = found.messages;
    looked.was_cancelled = found.end == End::Cancelled;
    take(&found, is_whole, looked);
    let state = log_state(&found, is_all, job, looked);
    let fate = if is_old { Fate::Unknown } else { fate(tree, job, log, index, &found, is_all, looked)? };
    if let Some(wrong) = wrong
        && !is_the_log(wrong, &found)
    {
        problems::of_index(about, wrong, state, fate, looked);
    }
    problems::of_scan(about, &found, &entries, is_whole, fate, looked);
    problems::of_absent_index(about, state, looked);
    if !is_old && looked.segment.next_offset.is_none() && !tree.is_archive() {
        walk_tail(tree, job, about, log, &entries, fate, looked)?;
    }
    problems::of_end(about, &entries, fate, state, looked);
    Ok(())
}

fn log_state(found: &Scanned, is_all: bool, job: &Job<'_>, looked: &Looked) -> LogState {
    let is_torn = matches!(found.end, End::Torn { .. } | End::Lost { .. });
    let meets = job.next.is_none_or(|next| looked.segment.next_offset == Some(next));
    match () {
        () if !found.faults.is_empty() || (is_torn && job.next.is_some()) => LogState::Damaged,
        () if matches!(found.end, End::Lost { .. }) || (is_all && !meets) => LogState::Damaged,
        () if is_all => LogState::Whole,
        () => LogState::NotScanned,
    }
}

/// An entry that leads astray where the log is damaged says nothing against the index.
fn is_the_log(wrong: Wrong, found: &Scanned) -> bool {
    matches!(wrong, Wrong::Astray(_)) && !found.faults.is_empty()
}

fn fate(
    tree: &Tree,
    job: &Job<'_>,
    log: &Entry,
    index: Option<&Entry>,
    found: &Scanned,
    is_all: bool,
    looked: &Looked,
) -> io::Result<Fate> {
    // What lies far behind in an archive would cost all that is before it.
    if tree.is_archive() && !is_all {
        return Ok(Fate::Unknown);
    }
    // Where to cut the last log depends on its first damage.
    if job.next.is_none() && !found.faults.is_empty() && !is_all {
        return Ok(Fate::Unknown);
    }
    let by_index = boot::by_index(tree, index, log)?;
    let walk: Walk = match by_index {
        Some(walk) => walk,
        None if is_all => boot::by_log(found, job.start),
        None => return Ok(Fate::Unknown),
    };
    let segment = &looked.segment;
    let behind = segment.preallocated_bytes + if found.faults.is_empty() { segment.torn_bytes } else { 0 };
    let whole = segment.log_bytes.unwrap_or(0).saturating_sub(behind);
    Ok(boot::fate(walk, job.next, if is_all { whole } else { 0 }))
}

fn is_old(beginning: &[u8], job: &Job<'_>) -> bool {
    let any = u64::MAX;
    if beginning.len() >= BEGINNING && batch::could_begin(beginning, None, job.start, any) {
        return false;
    }
    let old = (beginning.len() >= legacy_message::HEADER).then(|| legacy_message::Header::read(beginning));
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
    fate: Fate,
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
        problems::of_scan(about, &found, entries, true, fate, looked);
        Ok(())
    })
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
