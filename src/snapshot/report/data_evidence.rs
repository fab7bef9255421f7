//! What an inspection saw, as tables and fields that the page and a comparison know.

use std::cmp::Reverse;

use warden_host::{Evidence, Fields, Series, Table, Unit, Value, Verdict};
use warden_iggy::report::{Inspection, JournalEnd, Mode, Offset, Partition, Segment, Superblock};

use super::data_directory::{DataDirectory, share};

/// Bars of the chart of the largest partitions.
const BARS: usize = 12;

pub fn evidence(about: &DataDirectory, inspection: &Inspection) -> Vec<Evidence> {
    let mut evidence =
        vec![Evidence::Fields(content(about, inspection)), Evidence::Fields(checksums(inspection))];
    evidence.extend(metadata(inspection));
    evidence.extend(largest(inspection));
    evidence.extend(damage(inspection));
    evidence.extend(unchecked(inspection));
    evidence.extend(names(inspection));
    if !inspection.streams.is_empty() {
        evidence.push(Evidence::Table(partitions(inspection)));
        evidence.push(Evidence::Table(segments(inspection)));
        evidence.extend(readers(inspection));
    }
    evidence
}

fn content(about: &DataDirectory, inspection: &Inspection) -> Fields {
    let totals = &inspection.totals;
    Fields::new("The directory")
        .row("path", Value::Code(about.path.clone()))
        .row("found by", about.found_by.as_str())
        .row("written by", inspection.generation.name())
        .row("streams", totals.streams)
        .row("topics", totals.topics)
        .row("partitions", totals.partitions)
        .row("segments", totals.segments)
        .row("messages", totals.messages)
        .row("in segments", Value::Bytes(totals.log_bytes))
        .row("in indexes", Value::Bytes(totals.index_bytes))
        .row("in other files", Value::Bytes(totals.other_bytes))
        .row("oldest message", time(totals.first_at))
        .row("newest message", time(totals.last_at))
}

fn metadata(inspection: &Inspection) -> Option<Evidence> {
    let mut fields = Fields::new("Metadata");
    if let Some(superblock) = &inspection.superblock {
        fields = fields.row("superblock", sequences(superblock));
    }
    if let Some(checkpoint) = &inspection.checkpoint {
        fields = fields
            .row("snapshot", Value::Bytes(checkpoint.bytes))
            .row("ends with operation", checkpoint.operation);
    }
    if let Some(journal) = &inspection.journal {
        let end = match &journal.end {
            JournalEnd::Whole => "whole".to_owned(),
            JournalEnd::Torn { position, .. } => format!("torn at byte {position}"),
            JournalEnd::Damaged { position, .. } => format!("damaged at byte {position}"),
        };
        fields = fields
            .row("journal", Value::Bytes(journal.bytes))
            .row("entries of the journal", journal.entries)
            .row("its last operation", journal.last_operation)
            .row("its end", end);
    }
    (!fields.rows.is_empty()).then_some(Evidence::Fields(fields))
}

fn checksums(inspection: &Inspection) -> Fields {
    let scan = &inspection.scan;
    let mode = match scan.mode {
        Mode::None => "the structure; no message was read",
        Mode::Sampled => "a sample of each segment",
        Mode::Full => "everything",
    };
    Fields::new("Held against checksums")
        .row("what was asked for", mode)
        .row("bytes of segments", Value::Bytes(scan.bytes))
        .row("of these held against checksums", Value::Bytes(scan.verified_bytes))
        .row("share", Value::Percent(share(inspection)))
        .row("batches", scan.verified_batches)
        .row("messages", scan.verified_messages)
        .row("ended before all was seen", scan.was_cancelled)
        .row("segments not looked into", scan.segments_left_behind)
}

fn damage(inspection: &Inspection) -> Option<Evidence> {
    let mut table =
        Table::new("Damage by place", ["file", "what", "byte", "batch", "first offset", "messages", "bytes"]);
    for problem in &inspection.problems {
        let Some(at) = &problem.at else { continue };
        let what = problem.kind.replace('-', " ");
        table.marked_row(
            Verdict::Fail,
            [
                Value::Code(problem.file.clone()),
                Value::Text(what),
                Value::from(at.position),
                at.batch.into(),
                at.offset.into(),
                at.messages.into(),
                at.bytes.map_or(Value::Nothing, Value::Bytes),
            ],
        );
    }
    (!table.rows.is_empty()).then_some(Evidence::Table(table))
}

/// What streams and topics are called, by the metadata.
fn names(inspection: &Inspection) -> Option<Evidence> {
    let mut table = Table::new("Streams and topics", ["stream", "its name", "topic", "its name"]);
    let told = |name: &Option<String>| name.clone().map_or(Value::Nothing, Value::Text);
    for stream in &inspection.streams {
        for topic in &stream.topics {
            table.row([Value::from(stream.id), told(&stream.name), Value::from(topic.id), told(&topic.name)]);
        }
    }
    let has_any = inspection.streams.iter().any(|stream| stream.name.is_some());
    has_any.then_some(Evidence::Table(table))
}

fn unchecked(inspection: &Inspection) -> Option<Evidence> {
    let mut table = Table::new("Not checked", ["what", "files", "bytes"]);
    for kind in &inspection.unchecked {
        table.row([
            Value::Text(kind.what.clone().into_owned()),
            Value::from(kind.files),
            Value::Bytes(kind.bytes),
        ]);
    }
    (!table.rows.is_empty()).then_some(Evidence::Table(table))
}

/// Every partition with its name, `STREAM/TOPIC/PARTITION`.
fn all(inspection: &Inspection) -> impl Iterator<Item = (String, &Partition)> {
    inspection.streams.iter().flat_map(|stream| {
        stream.topics.iter().flat_map(move |topic| {
            let name = move |partition: &Partition| format!("{}/{}/{}", stream.id, topic.id, partition.id);
            topic.partitions.iter().map(move |partition| (name(partition), partition))
        })
    })
}

fn partitions(inspection: &Inspection) -> Table {
    let mut table = Table::new(
        "Partitions",
        [
            "stream/topic/partition",
            "damages",
            "first offset",
            "next offset",
            "size",
            "a day",
            "segments",
            "furthest behind",
            "newest message",
        ],
    );
    let damages =
        |partition: &Partition| partition.segments.iter().map(|segment| segment.damages).sum::<u64>();
    let (damaged, sound): (Vec<_>, Vec<_>) =
        all(inspection).partition(|(_, partition)| damages(partition) > 0);
    for (name, partition) in damaged.into_iter().chain(sound) {
        let lags = partition.consumers.iter().chain(&partition.groups).filter_map(|offset| offset.lag);
        let damages = damages(partition);
        let cells = [
            Value::Code(name),
            damages.into(),
            partition.first_offset.into(),
            partition.next_offset.into(),
            Value::Bytes(partition.log_bytes),
            partition.bytes_a_day().map_or(Value::Nothing, Value::Bytes),
            Value::from(partition.segments.len() as u64 + partition.segments_left_out),
            lags.max().into(),
            time(partition.last_at),
        ];
        row(&mut table, damages, cells);
    }
    table.left_out += inspection.partitions_left_out;
    table
}

fn largest(inspection: &Inspection) -> Option<Evidence> {
    let mut sizes: Vec<(u64, String)> =
        all(inspection).map(|(name, partition)| (partition.log_bytes, name)).collect();
    sizes.sort_by_key(|(size, _)| Reverse(*size));
    let mut series = Series::bars("Largest partitions", Unit::Bytes, ["in segments"]);
    for (size, name) in sizes.iter().take(BARS) {
        series.point(name, [*size as f64]);
    }
    (sizes.len() > 1).then_some(Evidence::Series(series))
}

fn segments(inspection: &Inspection) -> Table {
    let mut table = Table::new(
        "Segments",
        [
            "partition",
            "segment",
            "damages",
            "next offset",
            "log",
            "index entries",
            "verified",
            "set aside",
            "torn",
            "newest message",
        ],
    );
    let all_segments = || {
        all(inspection).flat_map(|(name, partition)| {
            partition.segments.iter().map(move |segment| (name.clone(), segment))
        })
    };
    let (damaged, sound): (Vec<_>, Vec<_>) = all_segments().partition(|(_, segment)| segment.damages > 0);
    for (name, segment) in damaged.into_iter().chain(sound) {
        row(&mut table, segment.damages, of_segment(name, segment));
    }
    table.left_out += all(inspection).map(|(_, partition)| partition.segments_left_out).sum::<u64>();
    table
}

fn of_segment(partition: String, segment: &Segment) -> [Value; 10] {
    let some = |bytes: u64| if bytes > 0 { Value::Bytes(bytes) } else { Value::Nothing };
    [
        Value::Code(partition),
        Value::Code(format!("{:020}", segment.start)),
        segment.damages.into(),
        segment.next_offset.into(),
        segment.log_bytes.map_or(Value::Nothing, Value::Bytes),
        segment.index_entries.into(),
        some(segment.verified_bytes),
        some(segment.preallocated_bytes),
        some(segment.torn_bytes),
        time(segment.last_at),
    ]
}

fn readers(inspection: &Inspection) -> Option<Evidence> {
    let mut table =
        Table::new("Consumers and groups", ["partition", "kind", "id", "has read up to", "to go"]);
    for (name, partition) in all(inspection) {
        let mut add = |kind: &str, offset: &Offset| {
            let cells = [
                Value::Code(name.clone()),
                Value::from(kind),
                Value::Code(offset.id.clone()),
                offset.offset.into(),
                offset.lag.into(),
            ];
            table.row(cells);
        };
        partition.consumers.iter().for_each(|offset| add("consumer", offset));
        partition.groups.iter().for_each(|offset| add("group", offset));
    }
    table.left_out += all(inspection).map(|(_, partition)| partition.offsets_left_out).sum::<u64>();
    (!table.rows.is_empty()).then_some(Evidence::Table(table))
}

fn row<const N: usize>(table: &mut Table, damages: u64, cells: [Value; N]) {
    match damages {
        0 => table.row(cells),
        _ => table.marked_row(Verdict::Fail, cells),
    }
}

fn sequences(superblock: &Superblock) -> String {
    let told =
        |sequence: Option<u64>| sequence.map_or_else(|| "none".to_owned(), |sequence| sequence.to_string());
    let newest = superblock.newest.map_or("neither", |slot| slot.name());
    format!("a {}, b {}; {newest} counts", told(superblock.a), told(superblock.b))
}

/// Microseconds since 1970 as a time.
fn time(micros: Option<u64>) -> Value {
    let seconds = micros.and_then(|micros| i64::try_from(micros / 1_000_000).ok());
    seconds.map_or(Value::Nothing, Value::Time)
}
