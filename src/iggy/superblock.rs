//! The superblock: two small files written in turn, of which the higher sequence counts.
//!
//! Read from `core/journal/src/superblock.rs` of 0.9.0-edge.5.

use twox_hash::XxHash3_64;

use super::bytes::{u32_at, u64_at, u128_at};

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

/// What a superblock says of the metadata beside it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct State {
    /// Servers of the cluster; 1 where there is none.
    pub replicas: u8,
    /// The highest operation that was surely acknowledged.
    pub acknowledged: u64,
    /// The snapshot that belongs to it: its last operation, and its checksum. Both 0 before there is one.
    pub checkpoint: u64,
    pub checkpoint_checksum: u128,
}

impl State {
    /// From `core/consensus/src/vsr_state.rs`. An older record lacks the last field, which is not looked at.
    fn read(payload: &[u8]) -> Option<State> {
        let (view, log_view) = match payload.len() {
            58 | 66 => (u32_at(payload, 18), u32_at(payload, 22)),
            _ => return None,
        };
        (log_view <= view).then(|| State {
            replicas: payload[17],
            acknowledged: u64_at(payload, 26),
            checkpoint: u64_at(payload, 34),
            checkpoint_checksum: u128_at(payload, 42),
        })
    }
}

/// One of the two files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Absent,
    Valid {
        sequence: u64,
        state: State,
    },
    /// The server refuses to start: the lost sequence may have been the newer.
    Corrupt,
    /// Its checksum holds, and what it says cannot be.
    Undecodable {
        sequence: u64,
    },
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
        let sequence = u64_at(bytes, 8);
        State::read(&bytes[HEADER..end])
            .map_or(Slot::Undecodable { sequence }, |state| Slot::Valid { sequence, state })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn record(payload: &[u8]) -> Vec<u8> {
        let mut record = MAGIC.to_le_bytes().to_vec();
        record.extend([1, 0, 0, 0]);
        record.extend(7u64.to_le_bytes());
        record.extend(0u64.to_le_bytes());
        record.extend((payload.len() as u32).to_le_bytes());
        record.extend(payload);
        let checksum = XxHash3_64::oneshot(&record);
        record.extend(checksum.to_le_bytes());
        record
    }

    #[test]
    fn a_record_is_valid_until_one_bit_of_it_changes() {
        let mut payload = [0; 66];
        (payload[17], payload[26], payload[34], payload[42]) = (1, 9, 8, 5);
        let record = record(&payload);
        let state = State { replicas: 1, acknowledged: 9, checkpoint: 8, checkpoint_checksum: 5 };
        assert_eq!(Slot::read(&record), Slot::Valid { sequence: 7, state });
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

    #[test]
    fn a_sealed_record_that_cannot_be_is_told_from_one_that_can() {
        assert_eq!(Slot::read(&record(b"abc")), Slot::Undecodable { sequence: 7 });
        assert!(matches!(Slot::read(&record(&[0; 58])), Slot::Valid { .. }), "of an older server");
        let mut payload = [0; 66];
        payload[22] = 1;
        assert_eq!(Slot::read(&record(&payload)), Slot::Undecodable { sequence: 7 });
    }
}
