//! Looks at what holds the partitions together: which server wrote it, the superblocks, the journal, and what does
//! not belong here.

use super::journal::{self, End, Journal};
use super::layout::{Layout, Partition};
use super::report::{Generation, Problem, Severity, Slot, Superblock};
use super::superblock::{self, FILES, LONGEST};
use super::tree::{Entry, Kind, Listing, Tree};
use super::worst::Problems;

const FENCED: &str = "Keep it until the partition is sound again: it is the only copy of what the server refused. Find \
                      out from the server's log why it was refused.";
const REFUSES: &str = "The server refuses to start on it. Copy the data directory aside and bring the metadata back \
                       from a backup or a replica.";

/// By what the metadata says, else by the folder's other signs.
pub fn generation(layout: &Layout) -> Generation {
    let has = |path: &str| layout.metadata.get(path).is_some_and(|entry| entry.bytes > 0);
    let has_new = layout.metadata.keys().any(|path| path.starts_with("metadata/"));
    let newest = layout
        .partitions
        .values()
        .any(|partition| partition.has_prepares || partition.superblock.iter().any(Option::is_some));
    match (has("state/log"), has_new, newest) {
        (true, true, _) | (true, _, true) => Generation::Mixed,
        (true, false, false) => Generation::Old,
        (false, _, true) => Generation::New,
        (false, true, false) => Generation::Edge,
        (false, false, false) => Generation::Unknown,
    }
}

/// Two files of which the newer counts.
pub fn superblock(
    tree: &Tree,
    folder: &str,
    entries: [Option<&Entry>; 2],
    problems: &mut Problems,
) -> Option<Superblock> {
    entries.iter().any(Option::is_some).then(|| {
        let mut sequences = [None; 2];
        for ((entry, name), sequence) in entries.into_iter().zip(FILES).zip(&mut sequences) {
            let Some(entry) = entry else { continue };
            let file = format!("{folder}/{name}");
            let slot = match tree.beginning(entry, LONGEST + 1) {
                Ok((bytes, _)) => superblock::Slot::read(&bytes),
                Err(error) => {
                    problems.unreadable(&file, &error);
                    continue;
                }
            };
            match slot {
                superblock::Slot::Valid { sequence: found } => *sequence = Some(found),
                superblock::Slot::Absent => {}
                superblock::Slot::Corrupt => {
                    let text = "it does not fit its checksum";
                    problems.push(Problem::new(Severity::Damage, "damaged-superblock", file, text, REFUSES));
                }
                superblock::Slot::Foreign { version } => {
                    let text = format!("it is of version {version}, written by a newer server");
                    let advice = "Start the server that wrote it, not an older one.";
                    problems.push(Problem::new(Severity::Warning, "foreign-superblock", file, text, advice));
                }
            }
        }
        let newest = match sequences {
            [None, None] => None,
            [a, b] if a >= b => Some(Slot::A),
            _ => Some(Slot::B),
        };
        Superblock { a: sequences[0], b: sequences[1], newest }
    })
}

pub fn of_partition(
    tree: &Tree,
    folder: &str,
    partition: &Partition,
    problems: &mut Problems,
) -> Option<Superblock> {
    let [a, b] = &partition.superblock;
    superblock(tree, folder, [a.as_ref(), b.as_ref()], problems)
}

pub fn journal(tree: &Tree, layout: &Layout, problems: &mut Problems) -> Option<Journal> {
    let entry = layout.metadata.get("metadata/journal.wal")?;
    let journal = match tree.read(entry, |source, size| journal::read(source, size)) {
        Ok(journal) => journal,
        Err(error) => {
            problems.unreadable(&entry.path, &error);
            return None;
        }
    };
    match &journal.end {
        End::Whole => {}
        End::Torn { position, bytes } => {
            let text = format!("its last {bytes} bytes from byte {position} on are no whole entry");
            let advice =
                "Nothing to do: a running server is writing it, and after a crash the server drops it.";
            problems.push(Problem::new(Severity::Note, "torn-journal", &entry.path, text, advice));
        }
        End::Damaged { position, why } => {
            let text = format!("{why}, at byte {position}, with entries behind it");
            problems.push(Problem::new(Severity::Damage, "damaged-journal", &entry.path, text, REFUSES));
        }
    }
    Some(journal)
}

/// What the names alone tell.
pub fn of_layout(
    layout: &Layout,
    listing: &Listing,
    generation: Generation,
    is_archive: bool,
    problems: &mut Problems,
) {
    let mut add = |severity, kind, file: &str, text: String, advice| {
        problems.push(Problem::new(severity, kind, file, text, advice));
    };
    match generation {
        Generation::Mixed => {
            let advice = "Copy the directory aside, and start the version that wrote the streams: a 0.9 server sees \
                          nothing of the data of 0.8, and says nothing.";
            add(
                Severity::Damage,
                "mixed-generations",
                "metadata",
                "the metadata of 0.8 and of 0.9 lie side by side".to_owned(),
                advice,
            );
        }
        Generation::Unknown if !layout.topics.is_empty() && !is_archive => {
            let advice = "Bring state/ or metadata/ back from a backup: without it the server does not know the streams.";
            let text = "there are streams, and neither state/log nor metadata/".to_owned();
            add(Severity::Damage, "no-metadata", "streams", text, advice);
        }
        Generation::Old | Generation::Edge | Generation::New | Generation::Unknown => {}
    }
    for (folder, (files, bytes)) in &layout.fenced {
        let bytes = warden_checks::quantity::bytes(*bytes);
        let files = warden_checks::quantity::count(*files, "file", "files");
        let text = format!("the server moved damaged segments aside: {files} with {bytes}");
        add(Severity::Damage, "fenced-partition", folder, text, FENCED);
    }
    if let Some(first) = layout.staging.first() {
        let text = format!("{} files of a transfer between replicas were left", layout.staging.len());
        let advice = "Nothing to do: the server removes them at its next start.";
        add(Severity::Note, "staging", first, text, advice);
    }
    for (path, kind) in &layout.odd {
        let what = if *kind == Kind::Link { "a link" } else { "a fifo, socket or device" };
        let advice = "Find out who put it there. It was not followed and not opened.";
        add(
            Severity::Warning,
            "no-file",
            path,
            format!("this is {what}, where only files and folders belong"),
            advice,
        );
    }
    for path in &layout.unknown {
        let advice = "Find out who put it there. The server takes no notice of it, or stumbles over it.";
        add(
            Severity::Warning,
            "unknown-file",
            path,
            "no server writes a file of this name".to_owned(),
            advice,
        );
    }
    for (path, error) in &listing.closed {
        problems.unreadable(path, error);
    }
    if listing.is_cut {
        let text = format!("only the first {} files and folders were looked at", listing.count);
        let advice = "Inspect the streams one by one, from copies.";
        problems.push(Problem::new(Severity::Warning, "too-many-files", "streams", text, advice));
    }
}
