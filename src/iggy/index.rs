//! The index beside a log: since 0.9 an entry for each flush, before that one for each message.

use super::bytes::{u32_at, u64_at};

/// An entry of 0.9: offset, timestamp and position of the first batch of a flush.
pub const SPARSE: usize = 24;
/// An entry of 0.8: offset within the segment, end of the message, timestamp.
pub const DENSE: usize = 16;
/// Index of one segment that is held in memory, bytes: 174,000 flushes, a hundred times what a segment of 1 GiB has.
pub const MOST_SPARSE: usize = 4 << 20;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Entry {
    pub offset: u64,
    pub timestamp: u64,
    pub position: u64,
}

/// What is wrong with an index; the number is that of the entry, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wrong {
    /// It does not come after the one before.
    Order(u64),
    /// It leads behind the end of the log, whose size is given.
    Behind(u64),
    /// It does not begin with the segment's first offset.
    Start(u64),
    /// It leads to where no batch with its offset begins.
    Astray(u64),
}

/// The whole entries of a sparse index.
pub fn sparse(bytes: &[u8]) -> Vec<Entry> {
    let entry = |bytes: &[u8]| Entry {
        offset: u64_at(bytes, 0),
        timestamp: u64_at(bytes, 8),
        position: u64_at(bytes, 16),
    };
    bytes.chunks_exact(SPARSE).map(entry).collect()
}

/// What of a sparse index cannot be, beside a log of `log_bytes` that begins with offset `start`.
pub fn judge_sparse(entries: &[Entry], start: u64, log_bytes: u64) -> Option<Wrong> {
    if entries.first().is_some_and(|first| first.offset != start || first.position != 0) {
        return Some(Wrong::Start(0));
    }
    for (number, pair) in entries.windows(2).enumerate() {
        if pair[1].offset <= pair[0].offset || pair[1].position <= pair[0].position {
            return Some(Wrong::Order(number as u64 + 1));
        }
    }
    let behind = entries.iter().position(|entry| entry.position >= log_bytes);
    behind.map(|number| Wrong::Behind(number as u64))
}

/// Goes over a dense index piece by piece.
#[derive(Debug, Default)]
pub struct Dense {
    pub entries: u64,
    pub wrong: Option<Wrong>,
    /// Where the last message ends.
    pub end: u64,
    previous: Option<u64>,
}

impl Dense {
    /// `bytes` holds whole entries.
    pub fn add(&mut self, bytes: &[u8], log_bytes: u64) {
        for entry in bytes.chunks_exact(DENSE) {
            let (offset, end) = (u64::from(u32_at(entry, 0)), u64::from(u32_at(entry, 4)));
            let follows = self.previous.is_none_or(|previous| offset == previous + 1) && end > self.end;
            let wrong = match () {
                () if !follows => Some(Wrong::Order(self.entries)),
                () if end > log_bytes => Some(Wrong::Behind(self.entries)),
                () => None,
            };
            self.wrong = self.wrong.or(wrong);
            self.entries += 1;
            self.end = end;
            self.previous = Some(offset);
        }
    }
}
