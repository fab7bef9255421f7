//! What a server of 0.9 makes of a segment at its start, by the same steps.
//!
//! Read from `core/server/src/segment_recovery.rs` of 0.9.0-edge.5: the first and the last entry of the index are
//! believed, and from where the last one leads on the headers of batches are followed, without their checksums.
//! Without an entry, the log is followed from its first byte, and each batch is held against its checksum.

use std::io;

use super::batch::{HEADER, Header};
use super::buffered_reader::Window;
use super::data_source::{Entry, Tree};
use super::index::{self, SPARSE};
use super::scan::{End, Scanned};

/// Headers followed. The index has an entry for each flush, of a few batches each.
const BATCHES: u64 = 65_536;

/// How far the server follows a log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Walk {
    /// To this byte; the next offset is known.
    To { next_offset: u64, position: u64 },
    /// No batch begins where the last entry leads: it exits with "message/index divergence".
    Diverges,
    /// Not one whole batch: it takes the segment for empty.
    Empty,
}

/// What then becomes of the segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    /// The server starts and serves what is whole in it.
    Serves,
    /// The server exits at its start.
    Refuses,
    /// The server moves the whole partition aside and goes on with an empty one.
    Fences,
    /// The last segment: the server takes it to end at this byte, and writes over what is behind.
    Cuts { position: u64 },
    /// Of a server of 0.8, or of what was not looked at.
    Unknown,
}

/// Follows the log as the server does where the index has an entry; `None` where it has none.
pub fn by_index(tree: &Tree, index: Option<&Entry>, log: &Entry) -> io::Result<Option<Walk>> {
    let Some(index) = index.filter(|index| index.bytes >= SPARSE as u64) else { return Ok(None) };
    let last = tree.read(index, |source, size| {
        let at = (size / SPARSE as u64).saturating_sub(1) * SPARSE as u64;
        source.skip(at)?;
        let mut entry = [0; SPARSE];
        let mut filled = 0;
        while filled < SPARSE {
            match source.read(&mut entry[filled..])? {
                0 => return Ok(None),
                read => filled += read,
            }
        }
        Ok(index::sparse(&entry).first().copied())
    })?;
    let Some(last) = last else { return Ok(None) };
    let walk = tree.read(log, |source, size| {
        let (mut position, mut next_offset, mut followed) = (last.position, last.offset, 0);
        if position < size {
            source.skip(position)?;
            let mut window = Window::small(source, position, size);
            while followed < BATCHES && window.fill(HEADER)? >= HEADER {
                let header = Header::read(window.data());
                let is_one = header.length >= HEADER as u64 && header.reserved_is_zero;
                if !is_one || header.length > size - position || !window.skip(header.length)? {
                    break;
                }
                position += header.length;
                followed += 1;
                if header.count > 0 {
                    next_offset = header.next_offset();
                }
            }
        }
        Ok(if followed == 0 { Walk::Diverges } else { Walk::To { next_offset, position } })
    });
    walk.map(Some)
}

/// The same without an entry, out of a scan of the whole log.
pub fn by_log(found: &Scanned, start: u64) -> Walk {
    let end = match found.end {
        End::Zeros { at } | End::Torn { at, .. } | End::Lost { at, .. } => Some(at),
        End::Whole | End::Cancelled => None,
    };
    let stop = found.faults.iter().map(|fault| fault.position).chain(end).min();
    match stop {
        Some(0) => Walk::Empty,
        // Which offset comes next only matters where the next segment begins, and then it is too low.
        Some(position) if !found.faults.is_empty() => Walk::To { next_offset: start, position },
        _ => match found.next_offset {
            Some(next_offset) => Walk::To { next_offset, position: stop.unwrap_or(found.bytes) },
            None => Walk::Empty,
        },
    }
}

/// What becomes of a segment that is followed so far; `next` is where the next one begins.
pub fn fate(walk: Walk, next: Option<u64>, whole: u64) -> Fate {
    match (walk, next) {
        (Walk::Diverges, _) => Fate::Refuses,
        (Walk::Empty, Some(_)) => Fate::Fences,
        (Walk::To { next_offset, .. }, Some(next)) if next_offset != next => Fate::Fences,
        (Walk::To { .. }, Some(_)) => Fate::Serves,
        (Walk::Empty, None) if whole > 0 => Fate::Cuts { position: 0 },
        (Walk::To { position, .. }, None) if position < whole => Fate::Cuts { position },
        (Walk::Empty | Walk::To { .. }, None) => Fate::Serves,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fate_of_a_segment_is_told_by_how_far_the_server_follows_it() {
        let to = |next_offset, position| Walk::To { next_offset, position };
        for (walk, next, whole, expected) in [
            (to(8, 100), Some(8), 100, Fate::Serves),
            (to(6, 80), Some(8), 100, Fate::Fences),
            (Walk::Empty, Some(8), 100, Fate::Fences),
            (Walk::Diverges, Some(8), 100, Fate::Refuses),
            (Walk::Diverges, None, 100, Fate::Refuses),
            (to(6, 80), None, 100, Fate::Cuts { position: 80 }),
            (to(8, 100), None, 100, Fate::Serves),
            (Walk::Empty, None, 100, Fate::Cuts { position: 0 }),
            (Walk::Empty, None, 0, Fate::Serves),
        ] {
            assert_eq!(fate(walk, next, whole), expected, "{walk:?} {next:?}");
        }
    }
}
