//! Reads a file of a host that has other things to do: behind everybody else, and without pushing what Iggy works
//! with out of the page cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use super::window::Source;

/// The lowest there is. The disk follows: without a class of its own a thread's requests rank by its niceness.
const NICE: i32 = 19;

/// Bytes of the smallest page there is.
const PAGE: u64 = 4096;

/// Puts the calling thread behind all others.
pub fn step_back() {
    // A thread that may not is as it was before.
    let _ = rustix::process::nice(NICE);
}

/// A file read from front to end. What was in the page cache stays there; what was not is dropped again after it
/// was read. A cold block with warm pages in its middle loses those: blocks are small.
pub struct Gentle {
    file: File,
    position: u64,
    /// Up to here the page cache holds what our own question brought in.
    cold_until: u64,
    /// Whether this filesystem tells what is in the page cache.
    tells: bool,
}

impl Gentle {
    pub fn new(file: File) -> Gentle {
        // No readahead: it would fill the cache behind what is read, and make it look as if it had been there.
        let tells = fadvise(&file, 0, None, Advice::Random).is_ok();
        Gentle { file, position: 0, cold_until: 0, tells }
    }

    /// What of the next `buffer` is in the page cache already. None when its beginning is not.
    fn read_cached(&mut self, buffer: &mut [u8]) -> io::Result<Option<usize>> {
        let wanted = buffer.len();
        let mut buffers = [IoSliceMut::new(buffer)];
        match preadv2(&self.file, &mut buffers, self.position, ReadWriteFlags::NOWAIT) {
            Ok(read) => {
                if read < wanted {
                    self.cold_until = self.position + wanted as u64;
                }
                Ok(Some(read))
            }
            Err(Errno::AGAIN | Errno::INTR) => Ok(None),
            Err(Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {
                self.tells = false;
                Ok(None)
            }
            Err(error) => Err(error.into()),
        }
    }
}

impl Source for Gentle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.tells
            && self.position >= self.cold_until
            && let Some(read) = self.read_cached(buffer)?
        {
            self.position += read as u64;
            return Ok(read);
        }
        let read = loop {
            match self.file.read_at(buffer, self.position) {
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                result => break result?,
            }
        };
        // The kernel keeps a page of which only a part is named: at the end of a file, the last.
        let pages = (read as u64).next_multiple_of(PAGE);
        if let (true, Some(length)) = (self.tells, NonZeroU64::new(pages)) {
            let _ = fadvise(&self.file, self.position, Some(length), Advice::DontNeed);
        }
        self.position += read as u64;
        Ok(read)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.position += bytes;
        Ok(())
    }
}
