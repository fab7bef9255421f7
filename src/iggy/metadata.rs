//! Looks at what holds the partitions together: which server wrote it, the superblocks, the journal, and what does
//! not belong here.

use std::borrow::Cow;

use super::advice::{METADATA_FROM_A_COPY, WHOLE_COPY};
use super::data_source::{Entry, Kind, Listing, Tree};
use super::layout::{Layout, Partition};
use super::metadata_wal::{End, Journal};
use super::report::{Generation, Problem, Severity, Slot, Superblock};
use super::superblock::{self, FILES, LONGEST, State};
use super::top_problems::Problems;

const FENCED: &str = "Copy it first, to a disk with room (`cp -a --reflink=auto`): it is the only copy of what the server refused, and nothing \
                      in it was looked into here. To bring it back, stop the server, move the segments that the partition has \
                      now out to PLACE, move these files back, and put what broke the chain (an index that was emptied, a log \
                      that was cut) back from a backup: all that is whole is served again. Messages taken since then stay \
                      in PLACE. Without what broke it, leave it as it is.";
const ASIDE: &str = "The server exits at its start on it (SuperblockUnreadable). Copy first, to a disk with room: `cp -a --reflink=auto \
                     metadata PLACE/`. Of a server without a cluster, then move the damaged slot out of metadata/ (both, if both \
                     are damaged): it starts with all streams and messages, and its next checkpoint writes the slot anew. \
                     Given up is what tells a snapshot that is too old from the right one. In a cluster, bring it back from a \
                     backup or let the other replicas rebuild the node.";
const FROM_A_COPY: &str = "The server starts, and leaves this partition out: its messages are there, and not served. Copy the partition \
                           first (`cp -a --reflink=auto`); then put the file back from a backup, or ask. No other remedy \
                           was tried.";
const TORN: &str = "Copy first, before the server is started: `cp -a --reflink=auto metadata PLACE/`. Where a copy of the file is whole, \
                    put it back. Else start the server and hold its streams, topics and users against what should be there.";

/// For a shell: a name may hold anything.
fn quoted(path: &str) -> String {
    format!("'{}'", path.replace('\'', "'\\''"))
}

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

/// Whose superblock it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Owner<'p> {
    /// The server's: it does not start on a damaged one.
    Server,
    /// Of the partition in this folder: the server leaves the partition out.
    Partition(&'p str),
}

impl Owner<'_> {
    const fn folder(&self) -> &str {
        match self {
            Owner::Server => "metadata",
            Owner::Partition(folder) => folder,
        }
    }

    const fn advice(self) -> &'static str {
        match self {
            Owner::Server => ASIDE,
            Owner::Partition(_) => FROM_A_COPY,
        }
    }
}

/// Two files of which the newer counts; and what it says.
pub fn superblock(
    tree: &Tree,
    owner: Owner<'_>,
    entries: [Option<&Entry>; 2],
    problems: &mut Problems,
) -> (Option<Superblock>, Option<State>) {
    let mut slots = [None; 2];
    for ((entry, name), slot) in entries.into_iter().zip(FILES).zip(&mut slots) {
        let Some(entry) = entry else { continue };
        let file = format!("{}/{name}", owner.folder());
        let mut damaged = |text: &str| {
            let advice = owner.advice();
            problems.push(Problem::new(Severity::Damage, "damaged-superblock", &file, text, advice));
        };
        match tree.beginning(entry, LONGEST + 1) {
            Err(error) => problems.unreadable(&file, &error),
            Ok((bytes, _)) => match superblock::Slot::read(&bytes) {
                superblock::Slot::Valid { sequence, state } => *slot = Some((sequence, state)),
                superblock::Slot::Absent => {}
                superblock::Slot::Corrupt => damaged("it does not fit its checksum"),
                superblock::Slot::Undecodable { .. } => {
                    damaged("its checksum holds, and what it says cannot be");
                }
                superblock::Slot::Foreign { version } => {
                    let text = format!("it is of version {version}, written by a newer server");
                    let advice = "Start the server that wrote it, not an older one.";
                    problems.push(Problem::new(Severity::Warning, "foreign-superblock", file, text, advice));
                }
            },
        }
    }
    let [a, b] = slots;
    let sequence = |slot: Option<(u64, State)>| slot.map(|(sequence, _)| sequence);
    let newest = match (sequence(a), sequence(b)) {
        (None, None) => None,
        (a, b) if a >= b => Some(Slot::A),
        _ => Some(Slot::B),
    };
    let state = match newest {
        Some(Slot::A) => a,
        Some(Slot::B) => b,
        None => None,
    };
    let has_any = entries.iter().any(Option::is_some);
    let told = has_any.then(|| Superblock { a: sequence(a), b: sequence(b), newest });
    (told, state.map(|(_, state)| state))
}

pub fn of_partition(
    tree: &Tree,
    folder: &str,
    partition: &Partition,
    problems: &mut Problems,
) -> Option<Superblock> {
    let [a, b] = &partition.superblock;
    superblock(tree, Owner::Partition(folder), [a.as_ref(), b.as_ref()], problems).0
}

pub fn journal_end(journal: &Journal, path: &str, problems: &mut Problems) {
    match &journal.end {
        End::Whole => {}
        End::Torn { position, bytes } => {
            let text = format!(
                "its last {bytes} bytes from byte {position} on are no whole entry: an operation is cut off. Where a crash \
                 interrupted its writing it was never acknowledged; where the file was cut otherwise it was, and is undone \
                 (a stream that was deleted comes back). A 0.9 server starts and cuts it off for good"
            );
            problems.push(Problem::new(Severity::Damage, "torn-journal", path, text, TORN));
        }
        End::Damaged { position, why } => {
            let text = format!(
                "{why}, at byte {position}, with entries behind it: a 0.9 server exits at its start (\"WAL corruption\")"
            );
            problems.push(Problem::new(
                Severity::Damage,
                "damaged-journal",
                path,
                text,
                METADATA_FROM_A_COPY,
            ));
        }
    }
}

/// What the names alone tell.
pub fn of_layout(
    layout: &Layout,
    listing: &Listing,
    generation: Generation,
    is_archive: bool,
    problems: &mut Problems,
) {
    let mut add = |severity, kind, file: &str, text: String, advice: Cow<'static, str>| {
        problems.push(Problem::new(severity, kind, file, text, advice));
    };
    match generation {
        Generation::Mixed => {
            let advice = format!(
                "{WHOLE_COPY} Then start the version that wrote the streams: a 0.9 server sees nothing of the data of 0.8 and says \
                 nothing, and the first topic created there writes over the old one's files."
            );
            add(
                Severity::Damage,
                "mixed-generations",
                "metadata",
                "the metadata of 0.8 and of 0.9 lie side by side".to_owned(),
                advice.into(),
            );
        }
        Generation::Unknown if !layout.topics.is_empty() && !is_archive => {
            let advice = format!(
                "{WHOLE_COPY} Then put state/ or metadata/ back from a backup: a server without it starts with no streams, and the \
                 first topic created writes over the old one's files."
            );
            let text = "there are streams, and neither state/log nor metadata/".to_owned();
            add(Severity::Damage, "no-metadata", "streams", text, advice.into());
        }
        Generation::Old | Generation::Edge | Generation::New | Generation::Unknown => {}
    }
    for (folder, (files, bytes)) in &layout.fenced {
        let bytes = warden_host::quantity::bytes(*bytes);
        let files = warden_host::quantity::count(*files, "file", "files");
        let text = format!("the server moved damaged segments aside: {files} with {bytes}");
        add(Severity::Damage, "fenced-partition", folder, text, FENCED.into());
    }
    if let Some(first) = layout.staging.first() {
        let text = format!("{} files of a transfer between replicas were left", layout.staging.len());
        let advice = "Nothing to do: the server removes them at its next start.";
        add(Severity::Note, "staging", first, text, advice.into());
    }
    for (path, kind) in &layout.odd {
        let what = if *kind == Kind::Link { "a link" } else { "a fifo, socket or device" };
        let advice = "Find out who put it there. It was not followed and not opened.";
        add(
            Severity::Warning,
            "no-file",
            path,
            format!("this is {what}, where only files and folders belong"),
            advice.into(),
        );
    }
    for path in &layout.unknown {
        let advice = "Find out who put it there. The server takes no notice of it.";
        add(
            Severity::Warning,
            "unknown-file",
            path,
            "no server writes a file of this name".to_owned(),
            advice.into(),
        );
    }
    for path in &layout.stray {
        let text = if generation == Generation::Old {
            "a 0.8 server takes this for a segment by its name, and then serves nothing from that offset on"
                .to_owned()
        } else {
            "a 0.9 server takes this for a segment by its name, finds no index beside it and exits at its start \
             (\"Cannot read file\")"
                .to_owned()
        };
        let advice = format!(
            "Find out who put it there, and move it out of the partition: `mv {} PLACE/`. That keeps every message.",
            quoted(path)
        );
        add(Severity::Damage, "stray-segment", path, text, advice.into());
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
