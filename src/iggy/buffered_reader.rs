//! A look at a file from front to end through one buffer of fixed size: whatever lengths the file claims, no more
//! memory than this is taken.

use std::io;

use twox_hash::XxHash3_64;

/// Where the bytes come from.
pub trait Source {
    /// Fills the front of `buffer`; 0 at the end of the file.
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize>;

    /// Goes on `bytes` further, for a file that can; the others read and drop.
    fn skip(&mut self, bytes: u64) -> io::Result<()>;
}

impl Source for &mut dyn Source {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (**self).read(buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        (**self).skip(bytes)
    }
}

/// Bytes asked of the disk at once: large enough for its throughput, small enough for the second-level cache, so
/// that they are hashed where they arrived.
pub const BLOCK: usize = 512 << 10;
/// A message up to this size is hashed in one piece, a larger one in several.
const CAPACITY: usize = 2 * BLOCK;
/// Where only headers are read, and what lies between them is skipped.
const SMALL: usize = 16 << 10;

pub struct Window<S> {
    source: S,
    buffer: Vec<u8>,
    start: usize,
    end: usize,
    /// Where in the file `start` lies.
    position: u64,
    /// Nothing behind this is looked at: what a file grew by since its size was taken.
    limit: u64,
    at_end: bool,
}

impl<S: Source> Window<S> {
    /// `source` stands at `position`; nothing behind `limit` is read.
    pub fn new(source: S, position: u64, limit: u64) -> Window<S> {
        Window::of(source, position, limit, CAPACITY)
    }

    /// For headers far apart: little is read of what lies between them.
    pub fn small(source: S, position: u64, limit: u64) -> Window<S> {
        Window::of(source, position, limit, SMALL)
    }

    fn of(source: S, position: u64, limit: u64, most: usize) -> Window<S> {
        let capacity = usize::try_from(limit.saturating_sub(position)).unwrap_or(most).min(most);
        let buffer = vec![0; capacity];
        Window { source, buffer, start: 0, end: 0, position, limit, at_end: false }
    }

    pub const fn position(&self) -> u64 {
        self.position
    }

    /// What is at hand.
    pub fn data(&self) -> &[u8] {
        &self.buffer[self.start..self.end]
    }

    /// Reads until `want` bytes are at hand or the file ends; returns how many are. Never more than fit.
    pub fn fill(&mut self, want: usize) -> io::Result<usize> {
        let want = want.min(self.buffer.len());
        while self.end - self.start < want && !self.at_end {
            if self.start > 0 && self.buffer.len() - self.end < BLOCK.min(self.buffer.len() / 2) {
                self.buffer.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            let left = self.limit - self.position - (self.end - self.start) as u64;
            let room = (self.buffer.len() - self.end).min(BLOCK);
            let room = usize::try_from(left).unwrap_or(room).min(room);
            let read = if room == 0 { 0 } else { self.source.read(&mut self.buffer[self.end..][..room])? };
            self.at_end = read == 0;
            self.end += read;
        }
        Ok(self.end - self.start)
    }

    /// Goes on over bytes that are at hand.
    pub fn consume(&mut self, bytes: usize) {
        self.start += bytes;
        self.position += bytes as u64;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    /// Goes on over bytes that need not be at hand. False when the file ends before.
    pub fn skip(&mut self, bytes: u64) -> io::Result<bool> {
        let at_hand = (self.end - self.start) as u64;
        if bytes <= at_hand {
            self.consume(usize::try_from(bytes).unwrap_or_default());
            return Ok(true);
        }
        if bytes > self.limit - self.position {
            return Ok(false);
        }
        self.source.skip(bytes - at_hand)?;
        (self.start, self.end) = (0, 0);
        self.position += bytes;
        Ok(true)
    }

    /// The hash of the bytes from `skipped` to `length`, which are gone over. None when the file ends before; then
    /// some may be gone over too.
    pub fn hash(&mut self, skipped: usize, length: u64) -> io::Result<Option<u64>> {
        if let Ok(length) = usize::try_from(length)
            && length <= self.buffer.len()
        {
            if self.fill(length)? < length {
                return Ok(None);
            }
            let hash = XxHash3_64::oneshot(&self.data()[skipped..length]);
            self.consume(length);
            return Ok(Some(hash));
        }
        let mut hasher = XxHash3_64::new();
        let mut left = length;
        let mut skipped = skipped;
        while left > 0 {
            let at_hand = self.fill(BLOCK)?;
            if at_hand == 0 {
                return Ok(None);
            }
            let piece = usize::try_from(left).unwrap_or(at_hand).min(at_hand);
            std::hash::Hasher::write(&mut hasher, &self.data()[skipped.min(piece)..piece]);
            skipped -= skipped.min(piece);
            left -= piece as u64;
            self.consume(piece);
        }
        Ok(Some(std::hash::Hasher::finish(&hasher)))
    }

    /// Goes over zeros. False when something else comes before the end, where it then stands.
    pub fn only_zeros_follow(&mut self) -> io::Result<bool> {
        loop {
            if self.fill(1)? == 0 {
                return Ok(true);
            }
            let zeros = leading_zeros(self.data());
            let all = zeros == self.data().len();
            self.consume(zeros);
            if !all {
                return Ok(false);
            }
        }
    }
}

fn leading_zeros(bytes: &[u8]) -> usize {
    // Sixty-four at a time: a preallocated tail is a gigabyte of them.
    let whole = bytes.chunks_exact(64).take_while(|chunk| **chunk == [0; 64]).count() * 64;
    whole + bytes[whole..].iter().take_while(|&&byte| byte == 0).count()
}
