//! The superblock: two small files written in turn, of which the higher sequence counts.
//!
//! Read from `core/journal/src/superblock.rs` of 0.9.0-edge.5.

use twox_hash::XxHash3_64;

use super::bytes::{u32_at, u64_at};

pub const FILES: [&str; 2] = ["superblock.a", "superblock.b"];
/// `KLBS` in the file.
const MAGIC: u32 = 0x5342_4C4B;
const VERSION: u16 = 1;
const HEADER: usize = 28;
const CHECKSUM: usize = 8;
/// The server takes no longer payload.
const MOST_PAYLOAD: usize = 4096;
/// Bytes of the longest record.
pub const LONGEST: usize = HEADER + MOST_PAYLOAD + CHECKSUM;

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Absent,
    Valid {
        sequence: u64,
    },
    /// The server refuses to start: the lost sequence may have been the newer.
    Corrupt,
    /// Written by a version that this reader does not know.
    Foreign {
        version: u16,
    },
}

impl Slot {
    pub fn read(bytes: &[u8]) -> Slot {
        if bytes.is_empty() {
            return Slot::Absent;
        }
        if bytes.len() < HEADER + CHECKSUM || u32_at(bytes, 0) != MAGIC {
            return Slot::Corrupt;
        }
        let version = u16::from_le_bytes([bytes[4], bytes[5]]);
        if version != VERSION {
            return Slot::Foreign { version };
        }
        let end = HEADER.saturating_add(u32_at(bytes, 24) as usize);
        if bytes.len() != end.saturating_add(CHECKSUM) || bytes.len() > LONGEST {
            return Slot::Corrupt;
        }
        if XxHash3_64::oneshot(&bytes[..end]) != u64_at(bytes, end) {
            return Slot::Corrupt;
        }
        Slot::Valid { sequence: u64_at(bytes, 8) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_valid_until_one_bit_of_it_changes() {
        let mut record = MAGIC.to_le_bytes().to_vec();
        record.extend([1, 0, 0, 0]);
        record.extend(7u64.to_le_bytes());
        record.extend(0u64.to_le_bytes());
        record.extend(3u32.to_le_bytes());
        record.extend(b"abc");
        let checksum = XxHash3_64::oneshot(&record);
        record.extend(checksum.to_le_bytes());
        assert_eq!(Slot::read(&record), Slot::Valid { sequence: 7 });
        assert_eq!(Slot::read(&[]), Slot::Absent);
        for bit in 0..record.len() * 8 {
            let mut damaged = record.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            let is_version = (4..6).contains(&(bit / 8));
            assert_eq!(matches!(Slot::read(&damaged), Slot::Foreign { .. }), is_version, "bit {bit}");
            assert_eq!(Slot::read(&damaged) == Slot::Corrupt, !is_version, "bit {bit}");
        }
        for length in 1..record.len() {
            assert_eq!(Slot::read(&record[..length]), Slot::Corrupt, "{length} bytes");
        }
    }
}
