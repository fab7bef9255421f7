//! What a server recovers of its metadata at its start, and whether it starts at all: superblocks, snapshot and
//! journal against each other, and against the folders beside them.
//!
//! Read from `core/metadata/src/impls/recovery.rs` of 0.9.0-edge.5 and `core/server/src/state/file.rs` of 0.8.0.

use std::time::Duration;

use warden_host::quantity::count;

use super::advice::METADATA_FROM_A_COPY;
use super::catalog::{Catalog, Change};
use super::checkpoint::{self, Checkpoint};
use super::data_source::Tree;
use super::layout::Layout;
use super::metadata_wal::{self, End, Journal};
use super::report::{Generation, Problem, Severity, Superblock, Unchecked};
use super::superblock::State;
use super::top_problems::Problems;
use super::{metadata, old_state};

/// Numbers of operations that are held against each other; a journal of the usual size has a thousand.
const OPERATIONS: usize = 1 << 20;
/// The user whose requests are never rejected for a missing right.
const ROOT: u32 = 0;
const JOURNAL: &str = "metadata/journal.wal";
const SNAPSHOT: &str = "metadata/snapshot.bin";
const OLD_STATE: &str = "state/log";

/// What was found.
#[derive(Default)]
pub struct Recovered {
    pub superblock: Option<Superblock>,
    pub journal: Option<Journal>,
    pub checkpoint: Option<Checkpoint>,
    /// Absent where the metadata could not be followed to its end.
    pub catalog: Option<Catalog>,
    pub unchecked: Vec<Unchecked>,
}

pub fn look(
    tree: &Tree,
    layout: &Layout,
    generation: Generation,
    settle: Duration,
    problems: &mut Problems,
) -> Recovered {
    let mut recovered = Recovered::default();
    for (&what, &(files, bytes)) in &layout.unchecked {
        recovered.unchecked.push(Unchecked { what: what.into(), files, bytes });
    }
    let entries = ["metadata/superblock.a", "metadata/superblock.b"].map(|path| layout.metadata.get(path));
    let (superblock, state) = metadata::superblock(tree, metadata::Owner::Server, entries, problems);
    recovered.superblock = superblock;
    if generation == Generation::Old {
        old(tree, layout, &mut recovered, problems);
        return recovered;
    }
    new(tree, layout, state, settle, &mut recovered, problems);
    recovered
}

fn new(
    tree: &Tree,
    layout: &Layout,
    state: Option<State>,
    settle: Duration,
    recovered: &mut Recovered,
    problems: &mut Problems,
) {
    let has_metadata = layout.metadata.keys().any(|path| path.starts_with("metadata/"));
    if !has_metadata {
        return;
    }
    let base = snapshot(tree, layout, state, recovered, problems);
    let Some(followed) = journal(tree, layout, base.as_ref(), settle, problems) else {
        if !tree.is_archive() && !layout.metadata.contains_key(JOURNAL) {
            let text = "the journal of the metadata is missing: a 0.9 server makes a new one, and what was changed since \
                        the last snapshot is gone";
            problems.push(Problem::new(Severity::Damage, "no-journal", JOURNAL, text, METADATA_FROM_A_COPY));
        }
        return;
    };
    // Without the snapshot that belongs to it, nothing tells where it should begin.
    let is_whole =
        base.is_some() && judge_operations(&followed, state, recovered.checkpoint.as_ref(), tree, problems);
    let is_followed = is_whole && followed.journal.end == End::Whole;
    recovered.journal = Some(followed.journal);
    recovered.catalog = followed.catalog.filter(|_| is_followed);
}

/// The snapshot's content; an empty one where there is none and none is meant to be.
fn snapshot(
    tree: &Tree,
    layout: &Layout,
    state: Option<State>,
    recovered: &mut Recovered,
    problems: &mut Problems,
) -> Option<(u64, Catalog)> {
    let mut damage = |kind, text: String| {
        problems.push(Problem::new(Severity::Damage, kind, SNAPSHOT, text, METADATA_FROM_A_COPY));
    };
    let expected = state.map_or(0, |state| state.checkpoint);
    let Some(entry) = layout.metadata.get(SNAPSHOT) else {
        if expected > 0 && !tree.is_archive() {
            damage(
                "no-snapshot",
                format!(
                    "the snapshot of the metadata is missing, and the superblock says that there is one of operation {expected}: a \
                     0.9 server exits at its start (CheckpointAheadOfSnapshot)"
                ),
            );
        }
        return (expected == 0).then(|| (0, Catalog::default()));
    };
    if entry.bytes > checkpoint::LARGEST as u64 {
        let what = "a snapshot of the metadata that is too large".into();
        recovered.unchecked.push(Unchecked { what, files: 1, bytes: entry.bytes });
        return None;
    }
    let bytes = match tree.beginning(entry, checkpoint::LARGEST) {
        Ok((bytes, _)) => bytes,
        Err(error) => {
            problems.unreadable(SNAPSHOT, &error);
            return None;
        }
    };
    match checkpoint::read(&bytes) {
        checkpoint::Read::Mismatch => {
            damage(
                "damaged-snapshot",
                "it does not fit its checksum: a 0.9 server exits at its start (ChecksumMismatch)".to_owned(),
            );
            None
        }
        checkpoint::Read::Unreadable => {
            damage(
                "damaged-snapshot",
                "it is cut, or no snapshot: a 0.9 server exits at its start (recovery snapshot error)"
                    .to_owned(),
            );
            None
        }
        checkpoint::Read::Foreign { version } => {
            let text =
                format!("it has format {version}, which only the version of the server that wrote it reads");
            let advice = "Start the server that wrote it; another one exits at its start, and this inspection does not read it.";
            problems.push(Problem::new(Severity::Warning, "foreign-snapshot", SNAPSHOT, text, advice));
            None
        }
        checkpoint::Read::Whole { checkpoint, checksum, catalog } => {
            let operation = checkpoint.operation.unwrap_or(0);
            recovered.checkpoint = Some(checkpoint);
            if operation < expected {
                damage(
                    "snapshot-behind",
                    format!(
                        "it ends with operation {operation}, and the superblock belongs to one of operation {expected}: a 0.9 \
                         server exits at its start (CheckpointAheadOfSnapshot)"
                    ),
                );
                return None;
            }
            if expected > 0
                && operation == expected
                && state.is_some_and(|state| state.checkpoint_checksum != checksum)
            {
                damage(
                    "damaged-snapshot",
                    "it is not the one that the superblock belongs to: a 0.9 server exits at its start \
                     (CheckpointChecksumMismatch)"
                        .to_owned(),
                );
                return None;
            }
            Some((operation, catalog))
        }
    }
}

struct Followed {
    journal: Journal,
    /// Numbers of the operations behind the snapshot, as they stand.
    numbers: Vec<u64>,
    catalog: Option<Catalog>,
}

/// Reads the journal; once more, where its end may have been being written.
fn journal(
    tree: &Tree,
    layout: &Layout,
    base: Option<&(u64, Catalog)>,
    settle: Duration,
    problems: &mut Problems,
) -> Option<Followed> {
    let entry = layout.metadata.get(JOURNAL)?;
    let read = || {
        let mut catalog = base.map(|(_, catalog)| catalog.clone());
        let behind = base.map_or(0, |(operation, _)| *operation);
        let mut numbers = Vec::new();
        let journal = tree.read(entry, |source, size| {
            metadata_wal::read(source, size, &mut |operation| {
                if numbers.len() < OPERATIONS {
                    numbers.push(operation.number);
                }
                let Some(catalog) = catalog.as_mut().filter(|_| operation.number > behind) else { return };
                match Change::of_operation(operation.kind, operation.body) {
                    Some(change) if operation.user == ROOT && !catalog.is_uncertain => catalog.apply(&change),
                    Some(change) => catalog.doubt(&change),
                    None => {}
                }
            })
        })?;
        Ok(Followed { journal, numbers, catalog })
    };
    let mut followed: std::io::Result<Followed> = read();
    let is_torn = |followed: &Followed| followed.journal.end != End::Whole;
    if !tree.is_archive() && followed.as_ref().is_ok_and(is_torn) {
        std::thread::sleep(settle);
        followed = read();
    }
    match followed {
        Ok(followed) => {
            metadata::journal_end(&followed.journal, JOURNAL, problems);
            Some(followed)
        }
        Err(error) => {
            problems.unreadable(JOURNAL, &error);
            None
        }
    }
}

/// Whether the operations go on where the snapshot ends, without a gap, to the last one that was acknowledged.
fn judge_operations(
    followed: &Followed,
    state: Option<State>,
    checkpoint: Option<&Checkpoint>,
    tree: &Tree,
    problems: &mut Problems,
) -> bool {
    let base = checkpoint.and_then(|checkpoint| checkpoint.operation).unwrap_or(0);
    let mut numbers: Vec<u64> = followed.numbers.iter().copied().filter(|&number| number > base).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let is_complete = followed.numbers.len() < OPERATIONS;
    let mut last = base;
    for number in numbers {
        if number != last + 1 {
            let missing = number - last - 1;
            let text = format!(
                "it goes on with operation {number}, and operation {last} is the last before it: {} missing. A 0.9 server {}",
                count(missing, "operation is", "operations are"),
                if last == base {
                    "starts without them: streams, topics or users are gone, or come back"
                } else {
                    "drops all from there on at its start"
                }
            );
            problems.push(Problem::new(Severity::Damage, "journal-gap", JOURNAL, text, METADATA_FROM_A_COPY));
            return false;
        }
        last = number;
    }
    let acknowledged = state.map_or(0, |state| state.acknowledged);
    // A snapshot that is not read may hold them; an archive may have been made without it.
    let is_known = checkpoint.is_some() || state.is_some_and(|state| state.checkpoint == 0);
    if is_known && is_complete && last < acknowledged && !tree.is_archive() {
        let text = format!(
            "it ends with operation {last}, and operation {acknowledged} was acknowledged: what was changed in between is lost. \
             A 0.9 server starts without it"
        );
        problems.push(Problem::new(Severity::Damage, "journal-behind", JOURNAL, text, METADATA_FROM_A_COPY));
        return false;
    }
    is_complete
}

fn old(tree: &Tree, layout: &Layout, recovered: &mut Recovered, problems: &mut Problems) {
    let Some(entry) = layout.metadata.get(OLD_STATE) else { return };
    let mut unchecked = |what: &'static str| {
        recovered.unchecked.push(Unchecked { what: what.into(), files: 1, bytes: entry.bytes });
    };
    if entry.bytes > old_state::LARGEST as u64 {
        unchecked("a state log that is too large");
        return;
    }
    let bytes = match tree.beginning(entry, old_state::LARGEST) {
        Ok((bytes, _)) => bytes,
        Err(error) => {
            problems.unreadable(OLD_STATE, &error);
            return;
        }
    };
    let state = old_state::read(&bytes);
    let (position, what) = match state.end {
        old_state::End::Whole => {
            recovered.catalog = Some(state.catalog);
            return;
        }
        old_state::End::Encrypted => {
            unchecked("an encrypted state log");
            return;
        }
        old_state::End::Cut { position } => (position, "the entry does not end"),
        old_state::End::Damaged { position } => {
            (position, "the entry does not fit its checksum, or does not follow")
        }
    };
    let text = format!("{what}, at byte {position}: a 0.8 server exits at its start");
    let advice = "Copy first, to a disk with room: `cp -a --reflink=auto state PLACE/`. Then put the file back from a backup; no other \
                  remedy is known. Do not start the server without it, and delete nothing.";
    problems.push(Problem::new(Severity::Damage, "damaged-state", OLD_STATE, text, advice));
}

/// Holds the folders against what the metadata knows.
pub fn compare(tree: &Tree, layout: &Layout, catalog: &Catalog, problems: &mut Problems) {
    if tree.is_archive() || catalog.is_uncertain {
        return;
    }
    let mut unknown: std::collections::BTreeMap<(u64, u64), (u64, u64)> = std::collections::BTreeMap::new();
    for (&(stream, topic, _), partition) in &layout.partitions {
        let known = catalog.streams.get(&stream).is_some_and(|known| known.topics.contains_key(&topic));
        let bytes: u64 = partition.segments.values().filter_map(|one| one.log).map(|log| log.bytes).sum();
        if !known && bytes > 0 {
            let (partitions, all) = unknown.entry((stream, topic)).or_default();
            *partitions += 1;
            *all += bytes;
        }
    }
    for ((stream, topic), (partitions, bytes)) in unknown {
        let text = format!(
            "the metadata knows no stream {stream} with a topic {topic}, and {} of it hold {} of messages: the server does not \
             serve them, and a topic that gets this number writes over them",
            count(partitions, "partition", "partitions"),
            warden_host::quantity::bytes(bytes)
        );
        let folder = format!("streams/{stream}/topics/{topic}");
        let advice = format!(
            "Copy first, to a disk with room: `cp -a --reflink=auto {folder} PLACE/`. Then bring back the metadata that knows \
             it from a backup; create no streams or topics before."
        );
        problems.push(Problem::new(Severity::Damage, "unknown-topic", folder, text, advice));
    }
    for (&stream, known) in &catalog.streams {
        for &topic in known.topics.keys() {
            if layout.topics.get(&stream).is_some_and(|topics| topics.contains_key(&topic)) {
                continue;
            }
            let folder = format!("streams/{stream}/topics/{topic}");
            let text = "the metadata knows this topic, and its folder is gone: a server begins it anew, empty. Where it had \
                        been deleted on purpose, the deletion is lost"
                .to_owned();
            let advice =
                "Where it held messages, put the folder back from a backup before the server is started.";
            problems.push(Problem::new(Severity::Damage, "no-topic-folder", folder, text, advice));
        }
    }
}
