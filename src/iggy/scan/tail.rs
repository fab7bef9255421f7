//! Where a segment ends, by the headers of its last batches alone: what the server does at its start.

use std::io;

use super::{End, Scanned, Stretch};
use crate::batch::{HEADER, Header, SHORTEST};
use crate::buffered_reader::{Source, Window};

/// Headers looked at. The index has an entry for each flush, of a few batches each.
const BATCHES: u64 = 16_384;

/// Walks from batch to batch to the end of the file and reads only their headers. It stops at the first that does
/// not fit, and calls that torn: it cannot tell damage from a write that was interrupted.
pub fn tail<S: Source>(source: S, stretch: Stretch) -> io::Result<Scanned> {
    let mut window = Window::small(source, stretch.from, stretch.size);
    let mut found = Scanned::default();
    loop {
        let position = window.position();
        let room = stretch.size - position;
        let at_hand = window.fill(HEADER)?;
        if at_hand == 0 {
            return Ok(found);
        }
        let head = &window.data()[..at_hand.min(HEADER)];
        if head.iter().all(|&byte| byte == 0) {
            found.end = End::Zeros { at: position };
            return Ok(found);
        }
        if at_hand < HEADER {
            found.end = End::Torn { at: position, bytes: room };
            return Ok(found);
        }
        let header = Header::read(head);
        let fits = header.reserved_is_zero && (SHORTEST..=room).contains(&header.length) && header.count > 0;
        if !fits || !window.skip(header.length)? {
            found.end = End::Torn { at: position, bytes: room };
            return Ok(found);
        }
        found.batches += 1;
        found.messages += u64::from(header.count);
        found.next_offset = Some(header.next_offset());
        found.saw_time(header.base_timestamp);
        if found.batches >= BATCHES {
            found.end = End::Cancelled;
            return Ok(found);
        }
    }
}
