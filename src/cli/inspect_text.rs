//! What an inspection found, as text: the verdict, then what is wrong, then the tree.

use warden_host::quantity::{bytes, count, number, time};

use super::terminal::{Painter, Style, harmless};
use crate::iggy::report::{
    Inspection, Mode, Offset, Partition, Problem, Scan, Segment, Severity, Totals, Unchecked, Verdict,
};

/// Problems shown; all stand in the JSON.
const PROBLEMS: usize = 40;
/// Sound segments shown of a partition, the newest.
const SEGMENTS: usize = 3;
/// Consumers or groups shown of a partition.
const OFFSETS: usize = 8;
/// Partitions shown.
const PARTITIONS: usize = 200;

pub fn text(inspection: &Inspection, paint: Painter) -> String {
    let mut lines = headline(inspection, paint);
    for problem in inspection.problems.iter().take(PROBLEMS) {
        lines.push(String::new());
        lines.extend(told(problem, paint));
    }
    let more = inspection.problems.len().saturating_sub(PROBLEMS) as u64 + inspection.problems_left_out;
    if more > 0 {
        lines.push(format!("\n          and {more} more; --json tells up to 1000"));
    }
    lines.push(String::new());
    let mut shown = 0;
    for stream in &inspection.streams {
        lines.push(format!("stream {}{}", stream.id, named(stream.name.as_deref())));
        for topic in &stream.topics {
            lines.push(format!("  topic {}{}", topic.id, named(topic.name.as_deref())));
            for partition in &topic.partitions {
                shown += 1;
                if shown <= PARTITIONS {
                    tree(partition, paint, &mut lines);
                }
            }
        }
    }
    if shown > PARTITIONS {
        lines.push(format!("and {} more partitions; --json tells all", shown - PARTITIONS));
    }
    lines.join("\n") + "\n"
}

fn headline(inspection: &Inspection, paint: Painter) -> Vec<String> {
    let verdict = match inspection.verdict {
        Verdict::Damaged => paint.paint(Style::Red, "damaged"),
        Verdict::Sound => paint.paint(Style::Green, "sound"),
    };
    let counts: Vec<String> = [
        (Severity::Damage, "damage", "damages"),
        (Severity::Warning, "warning", "warnings"),
        (Severity::Note, "note", "notes"),
    ]
    .into_iter()
    .map(|(severity, one, many)| {
        let found = inspection.problems.iter().filter(|problem| problem.severity == severity).count();
        (found, one, many)
    })
    .filter(|(found, ..)| *found > 0)
    .map(|(found, one, many)| count(found as u64, one, many))
    .collect();
    let counts = if counts.is_empty() { String::new() } else { format!(": {}", counts.join(", ")) };
    let path = paint.paint(Style::Bold, &harmless(&inspection.path));
    let mut lines = vec![
        format!("{path} is {verdict}{counts}"),
        format!("written by {}, {}", inspection.generation.name(), content(&inspection.totals)),
        verified(&inspection.scan),
    ];
    lines.extend(unchecked(&inspection.unchecked));
    lines
}

/// `  "orders"`; a name may hold anything.
fn named(name: Option<&str>) -> String {
    name.map_or_else(String::new, |name| format!("  \"{}\"", harmless(name)))
}

fn unchecked(kinds: &[Unchecked]) -> Option<String> {
    let told = |kind: &Unchecked| {
        format!("{} ({}, {})", kind.what, count(kind.files, "file", "files"), bytes(kind.bytes))
    };
    let all: Vec<String> = kinds.iter().map(told).collect();
    (!all.is_empty()).then(|| format!("not checked: {}", all.join(", ")))
}

fn content(totals: &Totals) -> String {
    let mut text = format!(
        "{}, {}, {}, {} with {} in {}",
        count(totals.streams, "stream", "streams"),
        count(totals.topics, "topic", "topics"),
        count(totals.partitions, "partition", "partitions"),
        count(totals.segments, "segment", "segments"),
        count(totals.messages, "message", "messages"),
        bytes(totals.log_bytes),
    );
    if let (Some(first), Some(last)) = (totals.first_at, totals.last_at) {
        text += &format!(", from {} to {}", at(first), at(last));
    }
    text
}

fn verified(scan: &Scan) -> String {
    if scan.bytes == 0 {
        return "there is nothing to hold against checksums".to_owned();
    }
    let speed =
        scan.bytes_per_second().map_or_else(String::new, |rate| format!(" at {} GB/s", number(rate / 1e9)));
    let part = scan.verified_bytes as f64 / scan.bytes as f64 * 100.0;
    let what = format!(
        "{} of {} ({} %), {}{speed}",
        bytes(scan.verified_bytes),
        bytes(scan.bytes),
        number(part),
        count(scan.verified_messages, "message", "messages"),
    );
    match scan.mode {
        Mode::None => "nothing was held against its checksum; --scan full does".to_owned(),
        Mode::Sampled if scan.verified_bytes < scan.bytes => {
            format!("held against checksums: {what}; --scan full takes all")
        }
        Mode::Sampled | Mode::Full => format!("held against checksums: {what}"),
    }
}

fn told(problem: &Problem, paint: Painter) -> Vec<String> {
    let (style, word) = match problem.severity {
        Severity::Damage => (Style::Red, "damage"),
        Severity::Warning => (Style::Yellow, "warning"),
        Severity::Note => (Style::Cyan, "note"),
    };
    let word = paint.paint(style, &format!("{word:>8}"));
    vec![
        format!("{word}  {}", paint.paint(Style::Bold, &harmless(&problem.file))),
        format!("          {}", harmless(&problem.text)),
        paint.paint(Style::Dim, &format!("          {}", harmless(&problem.advice))),
    ]
}

fn tree(partition: &Partition, paint: Painter, lines: &mut Vec<String>) {
    let segments = count(partition.segments.len() as u64, "segment", "segments");
    let growth =
        partition.bytes_a_day().map_or_else(String::new, |growth| format!(", {} a day", bytes(growth)));
    let span = span(partition.first_offset, partition.next_offset);
    lines.push(format!(
        "    partition {}  {span}, {}, {segments}{growth}",
        partition.id,
        bytes(partition.log_bytes)
    ));
    let sound = partition.segments.iter().filter(|segment| segment.damages == 0).count();
    let mut hidden = sound.saturating_sub(SEGMENTS);
    if hidden > 0 {
        lines.push(paint.paint(Style::Dim, &format!("      {hidden} older sound segments")));
    }
    for segment in &partition.segments {
        if segment.damages == 0 && hidden > 0 {
            hidden -= 1;
            continue;
        }
        lines.push(line(segment, paint));
    }
    for (what, offsets) in [("consumer", &partition.consumers), ("group", &partition.groups)] {
        lines.extend(offsets.iter().take(OFFSETS).map(|offset| reader(what, offset)));
        if offsets.len() > OFFSETS {
            lines.push(format!("      and {} more of {what}s", offsets.len() - OFFSETS));
        }
    }
}

fn line(segment: &Segment, paint: Painter) -> String {
    let size = segment.log_bytes.map_or_else(|| "no log".to_owned(), bytes);
    let index = match (segment.index_entries, segment.index_bytes) {
        (Some(entries), _) => count(entries, "index entry", "index entries"),
        (None, Some(size)) => format!("index of {}", bytes(size)),
        (None, None) => "no index".to_owned(),
    };
    let mut text = format!(
        "      segment {:020}  {}, {size}, {index}",
        segment.start,
        span(Some(segment.start), segment.next_offset)
    );
    if let (Some(first), Some(last)) = (segment.first_at, segment.last_at) {
        text += &format!(", {} to {}", at(first), at(last));
    }
    if segment.preallocated_bytes > 0 {
        text += &format!(", {} set aside", bytes(segment.preallocated_bytes));
    }
    if segment.torn_bytes > 0 {
        text += &format!(", {} torn", bytes(segment.torn_bytes));
    }
    if segment.damages > 0 {
        text += &format!(", {}", paint.paint(Style::Red, &count(segment.damages, "damage", "damages")));
    }
    text
}

fn reader(what: &str, offset: &Offset) -> String {
    let id = harmless(&offset.id);
    match (offset.offset, offset.lag) {
        (None, _) => format!("      {what} {id}  its offset cannot be read"),
        (Some(read), None) => format!("      {what} {id}  has read up to {read}"),
        (Some(read), Some(lag)) => format!("      {what} {id}  has read up to {read}, {lag} to go"),
    }
}

/// `offsets 0 to 4799`.
fn span(first: Option<u64>, next: Option<u64>) -> String {
    match (first, next) {
        (None, _) => "empty".to_owned(),
        (Some(first), None) => format!("offsets {first} to an unknown end"),
        (Some(first), Some(next)) if next <= first => "empty".to_owned(),
        (Some(first), Some(next)) => format!("offsets {first} to {}", next - 1),
    }
}

/// Microseconds since 1970.
fn at(micros: u64) -> String {
    i64::try_from(micros / 1_000_000).map_or_else(|_| micros.to_string(), time)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_speed_is_told_only_where_enough_was_read_to_tell_it() {
        let told = |bytes, verified_bytes| {
            let mode = Mode::Sampled;
            verified(&Scan {
                mode,
                bytes,
                verified_bytes,
                verified_messages: 7,
                seconds: Some(0.5),
                ..Scan::default()
            })
        };
        assert_eq!(told(4096, 4096), "held against checksums: 4 KiB of 4 KiB (100 %), 7 messages");
        let large =
            "held against checksums: 1 GiB of 2 GiB (50 %), 7 messages at 2.15 GB/s; --scan full takes all";
        assert_eq!(told(2 << 30, 1 << 30), large);
        assert_eq!(told(0, 0), "there is nothing to hold against checksums");
    }
}
