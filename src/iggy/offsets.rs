//! How far a consumer or a group has read: one small file each.

use twox_hash::XxHash3_64;

use super::bytes::u64_at;

/// A record: the offset, and since 0.9 a checksum over it.
pub const RECORD: usize = 16;
const OFFSET: usize = 8;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stored {
    /// Without a checksum: written by 0.8.
    Bare(u64),
    Sealed(u64),
    /// The checksum is of another offset. The server forgets it and delivers again.
    Corrupt(u64),
    /// Shorter than an offset: the write was interrupted.
    Torn(usize),
}

impl Stored {
    pub fn read(bytes: &[u8]) -> Stored {
        if bytes.len() < OFFSET {
            return Stored::Torn(bytes.len());
        }
        let offset = u64_at(bytes, 0);
        if bytes.len() < RECORD {
            return Stored::Bare(offset);
        }
        if XxHash3_64::oneshot(&bytes[..OFFSET]) == u64_at(bytes, OFFSET) {
            Stored::Sealed(offset)
        } else {
            Stored::Corrupt(offset)
        }
    }

    pub const fn offset(self) -> Option<u64> {
        match self {
            Stored::Bare(offset) | Stored::Sealed(offset) => Some(offset),
            Stored::Corrupt(_) | Stored::Torn(_) => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_way_a_record_can_be_is_told_apart() {
        let mut sealed = 42u64.to_le_bytes().to_vec();
        sealed.extend(XxHash3_64::oneshot(&42u64.to_le_bytes()).to_le_bytes());
        assert_eq!(Stored::read(&sealed), Stored::Sealed(42));
        assert_eq!(Stored::read(&sealed[..8]), Stored::Bare(42));
        assert_eq!(Stored::read(&sealed[..12]), Stored::Bare(42));
        assert_eq!(Stored::read(&sealed[..7]), Stored::Torn(7));
        sealed[0] = 43;
        assert_eq!(Stored::read(&sealed), Stored::Corrupt(43));
    }
}
