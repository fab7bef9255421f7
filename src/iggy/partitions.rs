//! Puts what was found in the segments together, partition by partition.

use super::catalog::Catalog;
use super::data_source::{Entry, Tree};
use super::layout::{self, Layout, Partition as Files};
use super::metadata;
use super::offsets::{RECORD, Stored};
use super::report::{Offset, Partition, Problem, Segment, Severity, Stream, Topic, Totals};
use super::top_problems::Problems;

/// Partition by partition, with the segments in the order of their offsets.
pub fn assemble(
    tree: &Tree,
    layout: &Layout,
    mut segments: impl FnMut((u64, u64, u64)) -> Vec<Segment>,
    problems: &mut Problems,
) -> Vec<Stream> {
    let mut streams: Vec<Stream> = Vec::new();
    for (&id, topics) in &layout.topics {
        let topics = topics.keys().map(|&id| Topic { id, ..Topic::default() }).collect();
        streams.push(Stream { id, topics, ..Stream::default() });
    }
    for (&key, files) in &layout.partitions {
        let partition = partition(tree, key, files, segments(key), problems);
        let stream = streams.iter_mut().find(|stream| stream.id == key.0);
        let topic = stream.and_then(|stream| stream.topics.iter_mut().find(|topic| topic.id == key.1));
        if let Some(topic) = topic {
            topic.partitions.push(partition);
        }
    }
    streams
}

/// Names what the metadata knows.
pub fn name(streams: &mut [Stream], catalog: &Catalog) {
    for stream in streams {
        let Some(known) = catalog.streams.get(&stream.id) else { continue };
        stream.name.clone_from(&known.name);
        for topic in &mut stream.topics {
            topic.name = known.topics.get(&topic.id).and_then(|known| known.name.clone());
        }
    }
}

fn partition(
    tree: &Tree,
    key: (u64, u64, u64),
    files: &Files,
    segments: Vec<Segment>,
    problems: &mut Problems,
) -> Partition {
    let folder = layout::path_of(key.0, key.1, key.2);
    let next_offset = segments.last().and_then(|last| last.next_offset);
    let mut offsets = |entries: &[Entry]| -> Vec<Offset> {
        entries.iter().map(|entry| offset(tree, entry, next_offset, problems)).collect()
    };
    let (consumers, groups) = (offsets(&files.consumers), offsets(&files.groups));
    Partition {
        id: key.2,
        first_offset: segments
            .iter()
            .find(|segment| segment.log_bytes > Some(0))
            .map(|segment| segment.start),
        next_offset,
        first_at: segments.iter().find_map(|segment| segment.first_at),
        last_at: segments.iter().rev().find_map(|segment| segment.last_at),
        superblock: metadata::of_partition(tree, &folder, files, problems),
        log_bytes: segments.iter().filter_map(|segment| segment.log_bytes).sum(),
        segments,
        consumers,
        groups,
        segments_left_out: 0,
        offsets_left_out: 0,
    }
}

fn offset(tree: &Tree, entry: &Entry, next_offset: Option<u64>, problems: &mut Problems) -> Offset {
    let id = entry.path.rsplit('/').next().unwrap_or_default().to_owned();
    let mut add = |severity, kind, text: String, advice| {
        problems.push(Problem::new(severity, kind, &entry.path, text, advice));
    };
    let again =
        "Nothing to do, or set the offset by hand: without it the consumer reads from its start again.";
    let stored = match tree.beginning(entry, RECORD + 1) {
        Ok((bytes, size)) => {
            if size > RECORD as u64 {
                add(
                    Severity::Warning,
                    "long-offset",
                    format!("it has {size} bytes, and {RECORD} are meant"),
                    again,
                );
            }
            Stored::read(&bytes)
        }
        Err(error) => {
            problems.unreadable(&entry.path, &error);
            return Offset { id, offset: None, lag: None };
        }
    };
    match stored {
        Stored::Torn(length) => {
            add(Severity::Warning, "torn-offset", format!("it has {length} of 8 bytes"), again);
        }
        Stored::Corrupt(_) => {
            add(Severity::Damage, "damaged-offset", "the offset does not fit its checksum".to_owned(), again);
        }
        Stored::Bare(offset) | Stored::Sealed(offset) => {
            if let Some(next) = next_offset.filter(|&next| offset >= next) {
                let text = format!("it says offset {offset} was read, and the log ends before {next}");
                let advice = "Nothing to do while the server runs: the newest messages are in its memory. Of a stopped \
                              one, messages are missing, and the server sets the offset back to the last one there is.";
                add(Severity::Note, "offset-behind-log", text, advice);
            }
        }
    }
    let offset = stored.offset();
    let lag = offset.and_then(|offset| next_offset?.checked_sub(offset.saturating_add(1)));
    Offset { id, offset, lag }
}

pub fn totals(layout: &Layout, streams: &[Stream]) -> Totals {
    let mut totals = Totals {
        streams: streams.len() as u64,
        topics: streams.iter().map(|stream| stream.topics.len() as u64).sum(),
        other_bytes: layout.other_bytes,
        ..Totals::default()
    };
    for partition in streams.iter().flat_map(|stream| &stream.topics).flat_map(|topic| &topic.partitions) {
        totals.partitions += 1;
        totals.segments += partition.segments.len() as u64;
        let sum = |size: fn(&Segment) -> Option<u64>| partition.segments.iter().filter_map(size).sum::<u64>();
        totals.log_bytes += partition.log_bytes;
        totals.index_bytes += sum(|segment| segment.index_bytes);
        let span = partition.next_offset.zip(partition.first_offset);
        totals.messages += span.map_or(0, |(next, first)| next.saturating_sub(first));
        totals.first_at = [totals.first_at, partition.first_at].into_iter().flatten().min();
        totals.last_at = totals.last_at.max(partition.last_at);
    }
    totals
}
