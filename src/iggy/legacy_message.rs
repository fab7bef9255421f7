//! The message of 0.8 and before, as it lies in a segment: one after the other, without batches.
//!
//! Seen on the data of a 0.8.0 server: every checksum of it is XxHash3-64 over the message behind the checksum.

use super::bytes::{u32_at, u64_at};

/// Bytes of a message before its payload.
pub const HEADER: usize = 64;

/// The head of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    pub checksum: u64,
    pub offset: u64,
    /// When the server took it, microseconds since 1970.
    pub timestamp: u64,
    /// Head, payload and user headers, bytes.
    pub length: u64,
    pub reserved_is_zero: bool,
}

impl Header {
    /// `bytes` begins with a header.
    pub fn read(bytes: &[u8]) -> Header {
        Header {
            checksum: u64_at(bytes, 0),
            offset: u64_at(bytes, 24),
            timestamp: u64_at(bytes, 32),
            length: HEADER as u64 + u64::from(u32_at(bytes, 48)) + u64::from(u32_at(bytes, 52)),
            reserved_is_zero: u64_at(bytes, 56) == 0,
        }
    }

    /// Whether a message with an offset in `least..most` and at most `room` bytes could begin here.
    pub fn could_begin(&self, least: u64, most: u64, room: u64) -> bool {
        self.reserved_is_zero && self.length <= room && (least..most).contains(&self.offset)
    }
}
