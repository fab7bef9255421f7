//! The snapshot of the metadata (`metadata/snapshot.bin`): MessagePack, and behind it a checksum. It holds hashes of
//! passwords and tokens, so that nothing but names and numbers comes out.
//!
//! Read from `core/metadata/src/impls/metadata.rs` and `core/metadata/src/stm` of 0.9.0-edge.5.

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::bytes::{u32_at, u128_at};
use super::catalog::{Catalog, Stream, Topic};
use super::msgpack::Reader;

/// The only layout whose contents this reader knows.
const FORMAT: u64 = 3;
/// `ISNP`, and the checksum of all before it.
const TRAILER: usize = 20;
const MAGIC: u32 = 0x4953_4E50;
/// Larger ones are not looked into: 100,000 topics have some 40 MiB.
pub const LARGEST: usize = 64 << 20;

/// The snapshot, as far as the server looks at it before it starts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    pub bytes: u64,
    /// The last operation that is in it.
    pub operation: Option<u64>,
    /// Whether it carries a checksum; one of an older server does not.
    pub is_sealed: bool,
}

/// What reading the file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Read {
    Whole {
        checkpoint: Checkpoint,
        /// By which the superblock knows it.
        checksum: u128,
        catalog: Catalog,
    },
    /// It does not fit the checksum behind it.
    Mismatch,
    /// It ends too early, or is something else.
    Unreadable,
    /// Another version of the server wrote it, and only that one reads it.
    Foreign { version: u64 },
}

pub fn read(bytes: &[u8]) -> Read {
    let split = bytes.len().checked_sub(TRAILER).filter(|&at| u32_at(bytes, at) == MAGIC);
    let payload = &bytes[..split.unwrap_or(bytes.len())];
    let checksum = u128::from(XxHash3_64::oneshot(payload));
    if split.is_some_and(|at| u128_at(bytes, at + 4) != checksum) {
        return Read::Mismatch;
    }
    let mut reader = Reader::new(payload);
    let version = reader.array().and_then(|_| reader.unsigned());
    match version {
        Some(FORMAT) => {}
        Some(version) => return Read::Foreign { version },
        None => return Read::Unreadable,
    }
    // The server takes no notice of bytes behind the last value, and neither does this.
    if Reader::new(payload).skip(1).is_none() {
        return Read::Unreadable;
    }
    let Some((operation, catalog)) = content(&mut reader) else { return Read::Unreadable };
    let checkpoint =
        Checkpoint { bytes: bytes.len() as u64, operation: Some(operation), is_sealed: split.is_some() };
    Read::Whole { checkpoint, checksum, catalog }
}

/// What stands behind the version.
fn content(reader: &mut Reader<'_>) -> Option<(u64, Catalog)> {
    // When it was made; then the users, with their hashes.
    reader.skip(1)?;
    let operation = reader.unsigned()?;
    reader.skip(1)?;
    let mut catalog = Catalog::default();
    if reader.array_or_nil()?.is_some() {
        for _ in 0..reader.array()? {
            let _pair = reader.array()?;
            let (id, stream) = (reader.unsigned()?, stream(reader)?);
            catalog.streams.insert(id, stream);
        }
    }
    Some((operation, catalog))
}

fn stream(reader: &mut Reader<'_>) -> Option<Stream> {
    let fields = reader.array()?;
    // Its number, which stands before it too.
    reader.skip(1)?;
    let mut stream = Stream { name: Some(reader.text()?.to_owned()), ..Stream::default() };
    // When it was made, and what was in it then.
    reader.skip(2)?;
    for _ in 0..reader.array()? {
        let _pair = reader.array()?;
        let (id, topic) = (reader.unsigned()?, topic(reader)?);
        stream.topics.insert(id, topic);
    }
    reader.skip(fields.checked_sub(5)?)?;
    Some(stream)
}

fn topic(reader: &mut Reader<'_>) -> Option<Topic> {
    let fields = reader.array()?;
    reader.skip(1)?;
    let topic = Topic { name: Some(reader.text()?.to_owned()) };
    reader.skip(fields.checked_sub(2)?)?;
    Some(topic)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Two streams, one of them with a topic; as the server lays them out.
    fn payload() -> Vec<u8> {
        let topic =
            b"\x92\x04\x9b\x04\xa7created\x01\xc0\xa4none\xc0\x93\0\0\0\x91\x96\0\0\0\0\0\0\x90\0\x80";
        let mut payload = b"\x97\x03\x05\xcc\xc0\xc0\x92\x92".to_vec();
        payload.extend(b"\x92\x00\x96\x00\xa6orders\x05\x93\0\0\0\x91");
        payload.extend(topic);
        payload.extend(b"\x80\x92\x02\x96\x02\xa4logs\x05\x93\0\0\0\x90\x80");
        payload.extend(b"\x07\xc0\x09");
        payload
    }

    fn sealed(mut payload: Vec<u8>) -> Vec<u8> {
        let checksum = u128::from(XxHash3_64::oneshot(&payload));
        payload.extend(MAGIC.to_le_bytes());
        payload.extend(checksum.to_le_bytes());
        payload
    }

    #[test]
    fn names_and_the_last_operation_come_out() {
        let Read::Whole { checkpoint, catalog, checksum } = read(&sealed(payload())) else { panic!() };
        assert_eq!((checkpoint.operation, checkpoint.is_sealed), (Some(192), true));
        assert_eq!(checksum, u128::from(XxHash3_64::oneshot(&payload())));
        let names: Vec<_> = catalog.streams.iter().map(|(&id, one)| (id, one.name.as_deref())).collect();
        assert_eq!(names, [(0, Some("orders")), (2, Some("logs"))]);
        assert_eq!(catalog.streams[&0].topics[&4].name.as_deref(), Some("created"));
    }

    #[test]
    fn every_bit_and_every_cut_of_it_is_noticed() {
        let whole = sealed(payload());
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // A marker that is damaged takes the checksum with it: then the superblock tells.
            let is_marker = (payload().len()..payload().len() + 4).contains(&(bit / 8));
            match read(&damaged) {
                Read::Mismatch => assert!(!is_marker, "bit {bit}"),
                Read::Whole { checksum, checkpoint, .. } => {
                    assert!(is_marker && !checkpoint.is_sealed, "bit {bit}");
                    assert_ne!(checksum, u128::from(XxHash3_64::oneshot(&payload())));
                }
                other @ (Read::Unreadable | Read::Foreign { .. }) => panic!("bit {bit}: {other:?}"),
            }
        }
        for length in 0..payload().len() {
            assert_eq!(read(&whole[..length]), Read::Unreadable, "{length} bytes");
        }
        assert_eq!(read(b"\x97\x04"), Read::Foreign { version: 4 });
    }
}
