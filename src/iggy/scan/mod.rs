//! Goes through a segment and holds every byte of it against its checksums. Only positions, counts, offsets and
//! times come out.

mod batches;
mod messages;
mod tail;

use std::io;

pub use batches::batches;
pub use messages::messages;
use serde::{Deserialize, Serialize};
pub use tail::tail;

use super::buffered_reader::{Source, Window};

/// Damages told of one segment; the others are counted.
pub const FAULTS: usize = 16;
/// How often the thread is picked up again behind damage, in one segment. A file of nothing but false beginnings
/// would else be read over and over.
const RESUMES: u32 = 64;

/// How far a scan has come; it is asked to stop by `false`.
pub type Report<'a> = &'a dyn Fn(u64) -> bool;

/// What a scan is told before it begins.
#[derive(Clone, Copy, Debug)]
pub struct Stretch {
    /// Where it begins, and which offset is expected there.
    pub from: u64,
    pub offset: Option<u64>,
    /// It ends with the first batch that begins here or later.
    pub until: u64,
    /// Bytes of the file.
    pub size: u64,
    pub partition: Option<u64>,
    /// Up to here the index of 0.8 says that messages are whole.
    pub written: u64,
    /// First offset of the next segment.
    pub next_segment: Option<u64>,
}

/// What came out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scanned {
    pub bytes: u64,
    pub batches: u64,
    pub messages: u64,
    /// Offset behind the last whole batch.
    pub next_offset: Option<u64>,
    /// When the first and the last message were taken, microseconds since 1970.
    pub first_at: Option<u64>,
    pub last_at: Option<u64>,
    pub end: End,
    pub faults: Vec<Fault>,
    pub faults_left_out: u64,
}

/// How a stretch ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    /// With a whole batch.
    #[default]
    Whole,
    /// With zeros to the end, as a preallocated file does.
    Zeros { at: u64 },
    /// In the middle of a batch, with nothing behind it.
    Torn { at: u64, bytes: u64 },
    /// At damage behind which nothing could be read any more.
    Lost { at: u64, bytes: u64 },
    /// On request.
    Cancelled,
}

/// Damage at one place.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    pub what: What,
    /// Where in the segment the batch (0.8: the message) begins, bytes.
    pub position: u64,
    /// Which batch of the segment it is, from 0; unknown in a sample.
    pub batch: Option<u64>,
    /// The first message that cannot be trusted.
    pub offset: Option<u64>,
    /// How many cannot be trusted, where that is known.
    pub messages: Option<u64>,
    /// The damaged bytes, as far as known: from `position` on.
    pub bytes: Option<u64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum What {
    /// A message is not what its checksum says.
    Message,
    /// All messages are as written, the header of their batch is not.
    BatchHeader,
    /// The messages of a batch do not fill it.
    Layout,
    /// No batch begins where one should.
    NoBatch,
    /// Zeros, and then something else.
    Zeros,
    /// An offset that does not follow on the one before.
    Offset,
    /// A batch of another partition.
    Partition,
}

impl Scanned {
    fn add(&mut self, fault: Fault) {
        if self.faults.len() < FAULTS {
            self.faults.push(fault);
        } else {
            self.faults_left_out += 1;
        }
    }

    fn saw_time(&mut self, at: u64) {
        self.first_at.get_or_insert(at);
        self.last_at = Some(at);
    }

    /// Adds a later stretch of the same segment.
    pub fn join(&mut self, later: Scanned) {
        self.bytes += later.bytes;
        self.batches += later.batches;
        self.messages += later.messages;
        self.next_offset = later.next_offset.or(self.next_offset);
        self.first_at = self.first_at.or(later.first_at);
        self.last_at = later.last_at.or(self.last_at);
        self.end = later.end;
        self.faults_left_out += later.faults_left_out;
        for fault in later.faults {
            self.add(fault);
        }
    }
}

/// Goes on to the next place where `begins` holds, of which it is shown at least `least` bytes and the position.
fn search<S: Source>(
    window: &mut Window<S>,
    least: usize,
    begins: impl Fn(&[u8], u64) -> bool,
) -> io::Result<bool> {
    loop {
        let at_hand = window.fill(super::buffered_reader::BLOCK)?;
        if at_hand < least {
            window.consume(at_hand);
            return Ok(false);
        }
        let position = window.position();
        let found = (0..=at_hand - least).find(|&at| begins(&window.data()[at..], position + at as u64));
        match found {
            Some(at) => {
                window.consume(at);
                return Ok(true);
            }
            None => window.consume(at_hand - least + 1),
        }
    }
}
