//! Holds the index of a segment against the log that it leads into.

use super::batch;
use super::buffered_reader::BLOCK;
use super::data_source::{Entry, Tree};
use super::index::{self, Dense, Wrong};
use super::problems::{self, About};
use super::report::Mode;
use super::segment::{Depth, Job, Looked};

/// Entries of an index that are held against the headers they lead to; where only the structure is asked for, few:
/// each is a read of its own.
const ENTRIES_CHECKED: usize = 64;
const ENTRIES_CHECKED_LEAST: usize = 4;
/// The entries of a sparse index, and what is wrong with them; then none of them is a guide.
pub fn sparse(
    tree: &Tree,
    job: &Job<'_>,
    file: &Entry,
    log: &Entry,
    about: &About,
    depth: Depth,
    looked: &mut Looked,
) -> (Vec<index::Entry>, Option<Wrong>) {
    let (bytes, size) = match tree.beginning(file, index::MOST_SPARSE) {
        Ok(read) => read,
        Err(error) => {
            looked.unreadable(&file.path, &error);
            return (Vec::new(), None);
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
    // An index that is wrong is no guide to where batches begin.
    if wrong.is_some() { (Vec::new(), wrong) } else { (entries, None) }
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

/// Where the last message ends by a dense index, and what is wrong with it; then it is 0.
pub fn dense(
    tree: &Tree,
    file: &Entry,
    log: &Entry,
    about: &About,
    looked: &mut Looked,
) -> (u64, Option<Wrong>) {
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
            if dense.wrong.is_some() { (0, dense.wrong) } else { (dense.end, None) }
        }
        Err(error) => {
            looked.unreadable(&file.path, &error);
            (0, None)
        }
    }
}
