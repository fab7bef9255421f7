//! The segments of 0.9: batches of frames.

use std::hash::Hasher;
use std::io;

use twox_hash::XxHash3_64;

use super::{End, Fault, RESUMES, Report, Scanned, Stretch, What, search};
use crate::batch::{FRAME, Frame, HEADER, Header, SHORTEST, could_begin};
use crate::buffered_reader::{Source, Window};

/// Verifies the batches of `stretch`. `source` stands where the stretch begins.
pub fn batches<S: Source>(source: S, stretch: Stretch, report: Report<'_>) -> io::Result<Scanned> {
    let window = Window::new(source, stretch.from, stretch.size);
    let first = (stretch.from == 0).then_some(0);
    let (checksums, claimed) = (Checksums::default(), None);
    let mut scan = Scan {
        window,
        stretch,
        batch: first,
        expected: stretch.offset,
        checksums,
        claimed,
        found: Scanned::default(),
    };
    scan.run(report)?;
    scan.found.bytes = scan.window.position() - stretch.from;
    Ok(scan.found)
}

struct Scan<S> {
    window: Window<S>,
    stretch: Stretch,
    /// Number of the batch in the segment.
    batch: Option<u64>,
    /// Offset that the next batch should begin with.
    expected: Option<u64>,
    checksums: Checksums,
    /// The length that the last unclear batch claims, and its first offset.
    claimed: Option<(u64, u64)>,
    found: Scanned,
}

/// What going through the frames of a batch came to.
struct Walk {
    frames: u64,
    /// The first message that does not fit its checksum, counted from 0, and how many do not.
    bad: Option<u64>,
    bad_count: u64,
    /// Bytes of the batch behind the last frame.
    left: u64,
    /// Whether a frame goes on behind the end of the file.
    is_short: bool,
}

impl<S: Source> Scan<S> {
    fn run(&mut self, report: Report<'_>) -> io::Result<()> {
        let mut resumes = 0;
        loop {
            let position = self.window.position();
            if !report(position) {
                self.found.end = End::Cancelled;
                return Ok(());
            }
            if position >= self.stretch.until {
                return Ok(());
            }
            let at_hand = self.window.fill(HEADER)?;
            if at_hand == 0 {
                return Ok(());
            }
            let head = &self.window.data()[..at_hand.min(HEADER)];
            if head.iter().all(|&byte| byte == 0) {
                if self.window.only_zeros_follow()? {
                    self.found.end = End::Zeros { at: position };
                    return Ok(());
                }
                self.fault(What::Zeros, position, self.expected, None);
            } else if at_hand < HEADER {
                self.found.end = End::Torn { at: position, bytes: at_hand as u64 };
                self.window.consume(at_hand);
                return Ok(());
            } else {
                let header = Header::read(head);
                match self.batch(&header, position)? {
                    Next::Follows => continue,
                    Next::Unclear { torn } => {
                        if torn && !self.resume(position)? {
                            let bytes = self.stretch.size - position;
                            self.found.end = End::Torn { at: position, bytes };
                            return Ok(());
                        }
                        if torn {
                            self.fault(What::Layout, position, self.expected, None);
                        }
                    }
                }
            }
            resumes += 1;
            // It stands at a batch already when what looked torn was not.
            if resumes > RESUMES || !self.resume(position)? {
                let at = position;
                self.found.end = End::Lost { at, bytes: self.stretch.size - at };
                return Ok(());
            }
            self.mend(position);
        }
    }

    /// One batch, whose header is at hand.
    fn batch(&mut self, header: &Header, position: u64) -> io::Result<Next> {
        let room = self.stretch.size - position;
        let believable = header.length >= SHORTEST && header.count > 0;
        let fits = believable && header.length <= room;
        let body = if fits { header.length } else { room } - HEADER as u64;
        self.window.consume(HEADER);
        let walk = self.walk(header, body, !fits)?;

        if fits && walk.left == 0 && walk.frames == u64::from(header.count) {
            self.whole(header, &walk, position);
            return Ok(Next::Follows);
        }
        let is_torn = believable && !fits && walk.is_short && walk.bad.is_none() && header.reserved_is_zero;
        if is_torn {
            return Ok(Next::Unclear { torn: true });
        }
        // Where all messages are whole, it is the header that lies about where they end.
        let ended = !fits || walk.left == 0 || walk.frames == u64::from(header.count);
        let header_lies = walk.bad.is_none() && walk.frames > 0 && ended;
        let what = match () {
            () if header_lies => What::BatchHeader,
            () if walk.frames == 0 && walk.bad.is_none() => What::NoBatch,
            () => What::Layout,
        };
        let first = walk.bad.unwrap_or(if header_lies { 0 } else { walk.frames });
        // Where no batch is, what stands in the place of its offset says nothing.
        let base = self.expected.or((what != What::NoBatch).then_some(header.base_offset));
        // A header that is as expected but for its length: where the next batch begins will tell.
        let as_expected =
            header.reserved_is_zero && self.expected.is_none_or(|offset| offset == header.base_offset);
        self.claimed =
            (fits && walk.bad.is_none() && as_expected).then_some((header.length, header.base_offset));
        self.fault(what, position, base.map(|base| base.saturating_add(first)), None);
        Ok(Next::Unclear { torn: false })
    }

    /// Where frames end and batch agree: what is left is whether they are as they were written.
    fn whole(&mut self, header: &Header, walk: &Walk, position: u64) {
        let base = self.expected.unwrap_or(header.base_offset);
        let seal_holds = self.checksums.finish() == header.checksum && header.reserved_is_zero;
        if let Some(bad) = walk.bad {
            let offset = Some(base.saturating_add(bad));
            self.fault(What::Message, position, offset, Some(walk.bad_count));
        } else if !seal_holds {
            self.fault(What::BatchHeader, position, Some(base), Some(u64::from(header.count)));
        } else if self.stretch.partition.is_some_and(|partition| partition != header.partition) {
            self.fault(What::Partition, position, Some(base), Some(u64::from(header.count)));
        } else if self.expected.is_some_and(|expected| expected != header.base_offset) {
            self.fault(What::Offset, position, Some(header.base_offset), None);
        }
        // The header is believed where its checksum holds, else the count is.
        let sealed = walk.bad.is_none() && seal_holds;
        let next = if sealed { header.next_offset() } else { base.saturating_add(u64::from(header.count)) };
        self.expected = Some(next);
        self.found.next_offset = Some(next);
        self.found.batches += 1;
        self.found.messages += walk.frames;
        self.batch = self.batch.map(|batch| batch + 1);
        if sealed {
            self.found.saw_time(header.base_timestamp);
        }
    }

    /// Goes over the frames in `body` bytes. `strictly` where the header is not believed: the first frame that
    /// does not fit its checksum ends it, before it.
    fn walk(&mut self, header: &Header, body: u64, strictly: bool) -> io::Result<Walk> {
        self.checksums.begin(header);
        let mut walk = Walk { frames: 0, bad: None, bad_count: 0, left: body, is_short: false };
        while walk.frames < u64::from(header.count) {
            let at_hand = self.window.fill(FRAME)?;
            if walk.left < FRAME as u64 || at_hand < FRAME {
                walk.is_short = true;
                return Ok(walk);
            }
            let frame = Frame::read(self.window.data());
            if frame.length > walk.left {
                walk.is_short = frame.reserved_is_zero;
                return Ok(walk);
            }
            if strictly && !frame.reserved_is_zero {
                return Ok(walk);
            }
            self.checksums.add(&self.window.data()[..8]);
            let Some(hash) = self.window.hash(8, frame.length)? else {
                walk.is_short = true;
                return Ok(walk);
            };
            walk.left -= frame.length;
            if hash != frame.checksum || !frame.reserved_is_zero {
                walk.bad.get_or_insert(walk.frames);
                walk.bad_count += 1;
                if strictly {
                    return Ok(walk);
                }
            }
            walk.frames += 1;
        }
        Ok(walk)
    }

    /// Goes on to the next place where a batch could begin.
    fn resume(&mut self, behind: u64) -> io::Result<bool> {
        let Stretch { size, partition, next_segment, .. } = self.stretch;
        let least = self.expected.unwrap_or(0);
        search(&mut self.window, HEADER + FRAME, |bytes, position| {
            // The cheapest question first: it is asked at every byte.
            position > behind
                && could_begin(bytes, partition, least, size - position)
                && next_segment.is_none_or(|next| Header::read(bytes).base_offset < next)
        })
    }

    /// After damage: how large it was, and that the next batch may go on from anywhere.
    fn mend(&mut self, from: u64) {
        let bytes = self.window.position() - from;
        if let Some(fault) = self.found.faults.last_mut().filter(|fault| fault.position == from) {
            fault.bytes = Some(bytes);
            // Every message up to the claimed end is whole, and the next batch begins elsewhere.
            if let Some((length, base)) = self.claimed.take()
                && length != bytes
            {
                (fault.what, fault.offset) = (What::BatchHeader, Some(base));
            }
            if let (Some(first), Some(header)) = (fault.offset, self.window.data().get(..HEADER)) {
                let next = Header::read(header).base_offset;
                fault.messages = next.checked_sub(first).filter(|&messages| messages > 0);
            }
        }
        self.expected = None;
        self.batch = None;
    }

    fn fault(&mut self, what: What, position: u64, offset: Option<u64>, messages: Option<u64>) {
        self.found.add(Fault { what, position, batch: self.batch, offset, messages, bytes: None });
    }
}

enum Next {
    /// The window stands behind the batch.
    Follows,
    /// Where the next batch begins must be searched for.
    Unclear { torn: bool },
}

/// What the checksum of a batch covers: fields of its header, and the checksums of its frames.
#[derive(Default)]
struct Checksums {
    gathered: Vec<u8>,
    spilled: Option<XxHash3_64>,
}

/// Bytes hashed in one piece. More messages than fit go through the slower hasher that takes pieces, so that a
/// count in a header asks for no memory.
const GATHERED: usize = 16 << 10;

impl Checksums {
    fn begin(&mut self, header: &Header) {
        self.gathered.clear();
        self.spilled = None;
        self.gathered.extend_from_slice(&header.covered);
    }

    fn add(&mut self, checksum: &[u8]) {
        if self.gathered.len() >= GATHERED {
            self.spilled.get_or_insert_with(XxHash3_64::new).write(&self.gathered);
            self.gathered.clear();
        }
        self.gathered.extend_from_slice(checksum);
    }

    fn finish(&mut self) -> u64 {
        match &mut self.spilled {
            None => XxHash3_64::oneshot(&self.gathered),
            Some(hasher) => {
                hasher.write(&self.gathered);
                hasher.finish()
            }
        }
    }
}
