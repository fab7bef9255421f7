//! What is in a data directory, by names, sizes and owners alone: nothing is opened.

use warden_host::{Entry, Host, IfAny, Kind, Stat};

use crate::Result;

/// Who wrote the directory, by what only one of the two formats has.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// 0.8 and before: `state/log` with content, 16 bytes in the index for each message.
    Old,
    /// Since 0.9: `metadata/journal.wal`, 24 bytes in the index for each flush.
    New,
    /// Marks of both: a server of 0.9 was started on data of 0.8, of which it sees nothing.
    Both,
    /// Neither: never used, or the metadata is gone.
    Unknown,
}

impl Generation {
    pub fn of(host: &Host, data_directory: &str) -> Result<Generation> {
        let size = |file: &str| -> Result<Option<u64>> {
            Ok(host.stat(&format!("{data_directory}/{file}")).if_any()?.map(|stat| stat.size))
        };
        let old = size("state/log")?.is_some_and(|size| size > 0);
        Ok(match (old, size("metadata/journal.wal")?.is_some()) {
            (true, false) => Generation::Old,
            (false, true) => Generation::New,
            (true, true) => Generation::Both,
            (false, false) => Generation::Unknown,
        })
    }

    /// Bytes of one entry of an index file.
    pub const fn index_entry(self) -> Option<u64> {
        match self {
            Generation::Old => Some(16),
            Generation::New => Some(24),
            Generation::Both | Generation::Unknown => None,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Generation::Old => "0.8 or before",
            Generation::New => "0.9 or later",
            Generation::Both => "0.8 and 0.9 at once",
            Generation::Unknown => "unknown",
        }
    }
}

/// The two files that begin at one offset of a partition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Segment {
    pub start: u64,
    pub log: Option<Stat>,
    pub index: Option<Stat>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Partition {
    pub stream: String,
    pub topic: String,
    pub path: String,
    /// By start offset; the last one is being written.
    pub segments: Vec<Segment>,
}

impl Partition {
    pub fn log_bytes(&self) -> u64 {
        self.segments.iter().filter_map(|segment| segment.log.as_ref()).map(|log| log.size).sum()
    }

    /// Log and index files.
    pub fn files(&self) -> impl Iterator<Item = &Stat> {
        self.segments.iter().flat_map(|segment| [&segment.log, &segment.index]).flatten()
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub streams: usize,
    pub topics: usize,
    pub partitions: Vec<Partition>,
    /// Directories that the server has put aside because their segments are bad.
    pub fenced: Vec<String>,
    /// What a transfer between replicas left behind.
    pub staging: Vec<String>,
    /// Why a directory or a file could not be seen, for each such.
    pub unseen: Vec<String>,
    /// Whether a limit ended the walk before its end.
    pub cut: bool,
}

/// Directories that are listed at most: a broker of this size has thousands of partitions, and the walk must
/// not evict its metadata from the page cache.
pub const DIRECTORIES: usize = 2_000;
/// Files that are looked at at most: each is an answer in the recording.
pub const FILES: usize = 10_000;

/// Walks `streams/S/topics/T/partitions/P`. Fails when the top cannot be listed; anything below that cannot is
/// named in the inventory.
pub fn inventory(host: &Host, data_directory: &str) -> Result<Inventory> {
    let top = format!("{data_directory}/streams");
    let entries = host.list(&top).if_any()?.unwrap_or_default();
    let mut walk = Walk { host, found: Inventory::default(), directories: DIRECTORIES - 1, files: FILES };
    for stream in directories(&entries) {
        walk.found.streams += 1;
        let topics = format!("{top}/{stream}/topics");
        for topic in walk.directories_in(&topics) {
            walk.found.topics += 1;
            let partitions = format!("{topics}/{topic}/partitions");
            for partition in walk.directories_in(&partitions) {
                let path = format!("{partitions}/{partition}");
                if partition.contains(".fenced") {
                    walk.found.fenced.push(path);
                } else {
                    walk.partition(stream, &topic, path);
                }
            }
        }
    }
    Ok(walk.found)
}

struct Walk<'a> {
    host: &'a Host,
    found: Inventory,
    directories: usize,
    files: usize,
}

impl Walk<'_> {
    fn directories_in(&mut self, path: &str) -> Vec<String> {
        let entries = self.list(path);
        directories(&entries).map(str::to_owned).collect()
    }

    fn list(&mut self, path: &str) -> Vec<Entry> {
        if self.directories == 0 {
            self.found.cut = true;
            return Vec::new();
        }
        self.directories -= 1;
        match self.host.list(path).if_any() {
            Ok(entries) => entries.unwrap_or_default(),
            Err(error) => {
                self.found.unseen.push(error.to_string());
                Vec::new()
            }
        }
    }

    fn stat(&mut self, path: &str) -> Option<Stat> {
        if self.files == 0 {
            self.found.cut = true;
            return None;
        }
        self.files -= 1;
        match self.host.stat(path).if_any() {
            Ok(stat) => stat,
            Err(error) => {
                self.found.unseen.push(error.to_string());
                None
            }
        }
    }

    fn partition(&mut self, stream: &str, topic: &str, path: String) {
        let was_cut = std::mem::take(&mut self.found.cut);
        let unseen = self.found.unseen.len();
        let entries = self.list(&path);
        let mut segments: Vec<Segment> = Vec::new();
        for entry in &entries {
            if entry.name.ends_with(".staging") {
                self.found.staging.push(format!("{path}/{}", entry.name));
            }
            let Some((start, is_log)) = segment_file(&entry.name).filter(|_| entry.kind == Kind::File) else {
                continue;
            };
            let stat = self.stat(&format!("{path}/{}", entry.name));
            let at = segments.iter().position(|segment| segment.start == start).unwrap_or_else(|| {
                segments.push(Segment { start, log: None, index: None });
                segments.len() - 1
            });
            match is_log {
                true => segments[at].log = stat,
                false => segments[at].index = stat,
            }
        }
        segments.sort_by_key(|segment| segment.start);
        // A partition that was seen in part would look torn.
        if !self.found.cut && self.found.unseen.len() == unseen {
            self.found.partitions.push(Partition {
                stream: stream.to_owned(),
                topic: topic.to_owned(),
                path,
                segments,
            });
        }
        self.found.cut |= was_cut;
    }
}

fn directories(entries: &[Entry]) -> impl Iterator<Item = &str> {
    entries.iter().filter(|entry| entry.kind == Kind::Directory).map(|entry| entry.name.as_str())
}

/// Start offset, and whether it is the log, of a name such as `00000000000000001600.index`.
fn segment_file(name: &str) -> Option<(u64, bool)> {
    let (offset, kind) = name.split_once('.')?;
    let is_log = match kind {
        "log" => true,
        "index" => false,
        _ => return None,
    };
    (offset.len() == 20).then(|| offset.parse().ok())?.map(|start| (start, is_log))
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Data, Recorded, Request};

    use super::super::tests::stat;
    use super::*;

    fn file(recorded: Recorded, path: &str, size: u64) -> Recorded {
        recorded.with(Request::Stat { path: path.to_owned() }, Data::Stat(stat(Kind::File, size)))
    }

    #[test]
    fn segments_are_paired_by_offset_and_fenced_partitions_put_aside() {
        let partitions = "/d/streams/0/topics/1/partitions";
        let mut recorded = Recorded::complete();
        for name in
            ["2/00000000000000000000.log", "2/00000000000000000000.index", "2/00000000000000001600.log"]
        {
            recorded = file(recorded, &format!("{partitions}/{name}"), 48);
        }
        for name in ["2/offsets/groups/0", "2/x.staging", "2/1.log", "3.fenced.1/00000000000000000000.log"] {
            recorded = file(recorded, &format!("{partitions}/{name}"), 16);
        }
        let denied = Request::List { path: "/d/streams/0/topics/4/partitions".to_owned() };
        let recorded = file(recorded, "/d/streams/0/topics/4/partitions/x", 1).without(denied, Cause::Denied);
        let found = inventory(&recorded.host(), "/d").unwrap();
        assert_eq!((found.streams, found.topics, found.partitions.len()), (1, 2, 1));
        let segments = &found.partitions[0].segments;
        assert_eq!(
            segments.iter().map(|one| (one.start, one.index.is_some())).collect::<Vec<_>>(),
            [(0, true), (1600, false)]
        );
        assert_eq!(found.partitions[0].log_bytes(), 96);
        assert_eq!(found.fenced, [format!("{partitions}/3.fenced.1")]);
        assert_eq!(found.staging, [format!("{partitions}/2/x.staging")]);
        assert_eq!(found.unseen, ["list /d/streams/0/topics/4/partitions: permission denied"]);
    }

    #[test]
    fn a_huge_directory_is_cut_at_whole_partitions() {
        let mut recorded = Recorded::complete();
        for number in 0..DIRECTORIES {
            let path = format!("/d/streams/0/topics/0/partitions/{number:05}/00000000000000000000.log");
            recorded = file(recorded, &path, 1);
        }
        let found = inventory(&recorded.host(), "/d").unwrap();
        assert!(found.cut);
        assert_eq!(found.partitions.len(), DIRECTORIES - 3);
        assert!(found.partitions.iter().all(|partition| partition.segments.len() == 1));
    }

    #[test]
    fn the_generation_is_told_by_its_marks() {
        let of = |recorded: Recorded| Generation::of(&recorded.host(), "/d").unwrap();
        let old = file(Recorded::complete(), "/d/state/log", 934);
        assert_eq!(of(old.clone()), Generation::Old);
        assert_eq!(of(file(old, "/d/metadata/journal.wal", 1)), Generation::Both);
        let new = file(file(Recorded::complete(), "/d/state/log", 0), "/d/metadata/journal.wal", 1);
        assert_eq!(of(new), Generation::New);
        assert_eq!(of(Recorded::complete()), Generation::Unknown);
    }
}
