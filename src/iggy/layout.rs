//! Sorts the files of a data directory into what they are, by their names alone.

use std::collections::BTreeMap;

use super::data_source::{Entry, Kind};
use super::superblock;

/// What is where.
#[derive(Default)]
pub struct Layout {
    /// By stream, topic, partition.
    pub partitions: BTreeMap<(u64, u64, u64), Partition>,
    /// Streams and topics that were seen, with or without anything in them.
    pub topics: BTreeMap<u64, BTreeMap<u64, ()>>,
    /// Metadata, by its path.
    pub metadata: BTreeMap<&'static str, Entry>,
    /// Segments that the server moved aside, by folder: files and bytes.
    pub fenced: BTreeMap<String, (u64, u64)>,
    /// Remains of a transfer between replicas.
    pub staging: Vec<String>,
    /// Links, fifos and the like, where files should be.
    pub odd: Vec<(String, Kind)>,
    /// What no server puts there.
    pub unknown: Vec<String>,
    /// What a server takes for a segment by its name, and no server names so: it does not start on it.
    pub stray: Vec<String>,
    pub other_bytes: u64,
    /// Files that are not looked into, by what they are: how many, and their bytes.
    pub unchecked: BTreeMap<&'static str, (u64, u64)>,
    /// Whether there is anything of Iggy's at all.
    pub is_ours: bool,
}

#[derive(Default)]
pub struct Partition {
    pub segments: BTreeMap<u64, Segment>,
    pub consumers: Vec<Entry>,
    pub groups: Vec<Entry>,
    pub superblock: [Option<Entry>; 2],
    /// The newer server keeps what is not yet committed in folders of its own.
    pub has_prepares: bool,
}

#[derive(Clone, Copy, Default)]
pub struct Segment {
    pub log: Option<Extent>,
    pub index: Option<Extent>,
}

/// A file whose path is known by where it belongs.
#[derive(Clone, Copy)]
pub struct Extent {
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: Option<i64>,
    member: Option<u32>,
}

impl Extent {
    pub fn at(self, path: String) -> Entry {
        let Extent { bytes, modified, member } = self;
        Entry { path, is_exact: true, kind: Kind::File, bytes, modified, member }
    }
}

/// Metadata that is looked at.
const METADATA: [&str; 7] = [
    "metadata/journal.wal",
    "metadata/snapshot.bin",
    "metadata/superblock.a",
    "metadata/superblock.b",
    "state/log",
    "state/info",
    "state/tokens",
];
/// Digits of a segment's name.
const DIGITS: usize = 20;

pub fn path_of(stream: u64, topic: u64, partition: u64) -> String {
    format!("streams/{stream}/topics/{topic}/partitions/{partition}")
}

impl Layout {
    /// To be called when every entry was added.
    pub fn ready(mut self) -> Layout {
        self.odd.sort_by(|(one, _), (other, _)| one.cmp(other));
        self.unknown.sort_unstable();
        self.stray.sort_unstable();
        self.staging.sort_unstable();
        for partition in self.partitions.values_mut() {
            partition.consumers.sort_by(|one, other| one.path.cmp(&other.path));
            partition.groups.sort_by(|one, other| one.path.cmp(&other.path));
        }
        self
    }

    pub fn add(&mut self, entry: &Entry) {
        let parts: Vec<&str> = entry.path.split('/').collect();
        self.is_ours |= matches!(parts[0], "streams" | "metadata" | "state");
        if matches!(entry.kind, Kind::Link | Kind::Special) {
            if is_taken_for_a_segment(&parts) {
                self.stray.push(entry.path.clone());
            } else {
                self.odd.push((entry.path.clone(), entry.kind));
            }
            return;
        }
        if let Some(what) = unchecked(&parts).filter(|_| entry.kind == Kind::File) {
            let (files, bytes) = self.unchecked.entry(what).or_default();
            *files += 1;
            *bytes += entry.bytes;
        }
        if let Some(name) = METADATA.into_iter().find(|&name| name == entry.path) {
            self.metadata.insert(name, entry.clone());
        }
        let known = match parts[..] {
            ["streams", ref rest @ ..] if entry.is_exact => self.stream(rest, entry),
            _ => false,
        };
        if !known && entry.kind == Kind::File {
            self.other_bytes += entry.bytes;
            if is_taken_for_a_segment(&parts) {
                self.stray.push(entry.path.clone());
            } else if parts[0] == "streams" {
                self.unknown.push(entry.path.clone());
            }
        }
    }

    /// Whether `entry`, which lies below `streams/`, is a file of a partition.
    fn stream(&mut self, parts: &[&str], entry: &Entry) -> bool {
        let id = |part: Option<&&str>| part.and_then(|part| part.parse::<u64>().ok());
        let Some(stream) = id(parts.first()) else { return false };
        let topics = self.topics.entry(stream).or_default();
        let Some(topic) = id(parts.get(2)).filter(|_| parts[1] == "topics") else { return false };
        topics.insert(topic, ());
        let Some(name) = parts.get(4).filter(|_| parts[3] == "partitions") else { return false };
        if let Some((_, number)) = name.split_once(".fenced.")
            && number.parse::<u64>().is_ok()
        {
            let folder = parts[..5].join("/");
            let (files, bytes) = self.fenced.entry(format!("streams/{folder}")).or_default();
            if entry.kind == Kind::File {
                *files += 1;
                *bytes += entry.bytes;
            }
            return true;
        }
        let Ok(number) = name.parse::<u64>() else { return false };
        let partition = self.partitions.entry((stream, topic, number)).or_default();
        let is_staging = partition.sort(&parts[5..], entry);
        if is_staging == Some(Found::Staging) {
            self.staging.push(entry.path.clone());
        }
        is_staging.is_some()
    }
}

/// Whether a 0.9 server takes what lies there for the log of a segment: a number and `.log`, however it is written.
fn is_taken_for_a_segment(parts: &[&str]) -> bool {
    match parts {
        ["streams", _, "topics", _, "partitions", partition, name] => {
            partition.parse::<u64>().is_ok()
                && name.strip_suffix(".log").is_some_and(|stem| stem.parse::<u64>().is_ok())
        }
        _ => false,
    }
}

/// What a file is that is not held against anything.
fn unchecked(parts: &[&str]) -> Option<&'static str> {
    Some(match parts {
        ["logs", ..] => "the server's logs",
        ["runtime", ..] => "the running configuration",
        ["state", "info"] => "the version in state/info",
        ["state", "tokens"] => "revoked tokens",
        ["state", "log"] | ["metadata", "journal.wal" | "snapshot.bin" | "superblock.a" | "superblock.b"] => {
            return None;
        }
        ["metadata", ..] | ["state", ..] => "other files of the metadata",
        ["backup", ..] => "backups",
        ["streams", _, "topics", _, "partitions", partition, rest @ ..] => match rest {
            _ if partition.contains(".fenced.") => "segments moved aside",
            ["purge.gen"] => "purge marks",
            [folder, _, ..] if folder.starts_with("prepares-") => "prepared operations",
            [.., name] if name.ends_with(".staging") => "remains of transfers",
            ["offsets", "consumers" | "groups", _] => return None,
            [name] if superblock::FILES.contains(name) => return None,
            [name] if segment_name(name).is_some() => return None,
            _ => UNKNOWN,
        },
        _ => UNKNOWN,
    })
}

/// What no server puts there, or this does not know.
const UNKNOWN: &str = "other files";

/// First offset and ending, as `00000000000000001600` and `log`.
fn segment_name(name: &str) -> Option<(u64, &str)> {
    let (stem, ending) = name.split_once('.')?;
    let digits = stem.len() == DIGITS && stem.bytes().all(|byte| byte.is_ascii_digit());
    let start = stem.parse().ok().filter(|_| digits)?;
    matches!(ending, "log" | "index").then_some((start, ending))
}

#[derive(PartialEq)]
enum Found {
    Known,
    Staging,
}

impl Partition {
    fn sort(&mut self, parts: &[&str], entry: &Entry) -> Option<Found> {
        if entry.kind == Kind::Folder {
            self.has_prepares |= matches!(parts, [name] if name.starts_with("prepares-"));
            return Some(Found::Known);
        }
        match parts {
            ["offsets", "consumers", _] => self.consumers.push(entry.clone()),
            ["offsets", "groups", _] => self.groups.push(entry.clone()),
            ["purge.gen"] => {}
            [folder, ..] if folder.starts_with("prepares-") => {}
            [name] if name.ends_with(".staging") => return Some(Found::Staging),
            [name] if superblock::FILES.contains(name) => {
                self.superblock[usize::from(*name == superblock::FILES[1])] = Some(entry.clone());
            }
            [name] => {
                let (start, ending) = segment_name(name)?;
                let segment = self.segments.entry(start).or_default();
                let file = if ending == "log" { &mut segment.log } else { &mut segment.index };
                let Entry { bytes, modified, member, .. } = *entry;
                *file = Some(Extent { bytes, modified, member });
            }
            _ => return None,
        }
        Some(Found::Known)
    }
}
