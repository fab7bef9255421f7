//! The batch of 0.9, as it lies in a segment: a header, then the frames of its messages.
//!
//! Read from `core/binary_protocol/src/batch.rs` of 0.9.0-edge.5. Everything is little endian. Payloads lie in the
//! frames; nothing here keeps a byte of them.

use super::bytes::{u32_at, u64_at};

/// Bytes of a batch header. What follows the fields must be zero.
pub const HEADER: usize = 256;
/// Bytes of a frame before its payload.
pub const FRAME: usize = 48;
/// Where the zeros of the header begin.
const RESERVED: usize = 52;
/// The shortest batch that can be: its header and one message without payload.
pub const SHORTEST: u64 = (HEADER + FRAME) as u64;

/// The header of a batch, as found: nothing of it is true before the checksum says so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub partition: u64,
    pub base_offset: u64,
    /// When the server took it, microseconds since 1970.
    pub base_timestamp: u64,
    /// The whole batch with this header, bytes.
    pub length: u64,
    pub checksum: u64,
    pub count: u32,
    pub reserved_is_zero: bool,
    /// What the checksum covers, before the checksums of the frames.
    pub covered: [u8; 44],
}

impl Header {
    /// `bytes` begins with a header.
    pub fn read(bytes: &[u8]) -> Header {
        let mut covered = [0; 44];
        covered[..40].copy_from_slice(&bytes[..40]);
        covered[40..].copy_from_slice(&bytes[48..52]);
        Header {
            partition: u64_at(bytes, 0),
            base_offset: u64_at(bytes, 8),
            base_timestamp: u64_at(bytes, 16),
            length: u64_at(bytes, 32),
            checksum: u64_at(bytes, 40),
            count: u32_at(bytes, 48),
            reserved_is_zero: bytes[RESERVED..HEADER].iter().all(|&byte| byte == 0),
            covered,
        }
    }

    /// Offset behind the last message.
    pub fn next_offset(&self) -> u64 {
        self.base_offset.saturating_add(u64::from(self.count))
    }
}

/// The head of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    pub checksum: u64,
    /// Head, payload and user headers, bytes.
    pub length: u64,
    pub reserved_is_zero: bool,
}

impl Frame {
    /// `bytes` begins with a frame.
    pub fn read(bytes: &[u8]) -> Frame {
        let length = FRAME as u64 + u64::from(u32_at(bytes, 32)) + u64::from(u32_at(bytes, 36));
        Frame { checksum: u64_at(bytes, 0), length, reserved_is_zero: u64_at(bytes, 40) == 0 }
    }
}

/// Whether a batch of `partition` with offsets from `least` on, and at most `room` bytes, could begin here.
/// `bytes` holds at least [`SHORTEST`].
pub fn could_begin(bytes: &[u8], partition: Option<u64>, least: u64, room: u64) -> bool {
    let length = u64_at(bytes, 32);
    if length < SHORTEST || length > room || u32_at(bytes, 48) == 0 {
        return false;
    }
    let header = Header::read(bytes);
    let frame = Frame::read(&bytes[HEADER..]);
    header.reserved_is_zero
        && header.base_offset >= least
        && partition.is_none_or(|partition| partition == header.partition)
        && u64::from(header.count) <= (length - HEADER as u64) / FRAME as u64
        && frame.reserved_is_zero
        && frame.length <= length - HEADER as u64
}
