//! SHA-256 of what is large: by ring, which uses the processor's own instructions for all of it.

use std::io::{self, ErrorKind, Read};

use ring::digest::{Context, SHA256};

/// Read at once.
const BLOCK: usize = 256 << 10;

pub type Digest = [u8; 32];

/// A digest under way.
#[derive(Clone)]
pub struct Sha256(Context);

impl Default for Sha256 {
    fn default() -> Sha256 {
        Sha256(Context::new(&SHA256))
    }
}

impl Sha256 {
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    pub fn finish(self) -> Digest {
        let mut digest = Digest::default();
        digest.copy_from_slice(self.0.finish().as_ref());
        digest
    }
}

/// Of all that is left of `source`, with its length.
///
/// # Errors
/// It cannot be read.
pub fn of(mut source: impl Read) -> io::Result<(u64, Digest)> {
    let (mut hash, mut length, mut block) = (Sha256::default(), 0, vec![0; BLOCK]);
    loop {
        match source.read(&mut block) {
            Ok(0) => return Ok((length, hash.finish())),
            Ok(read) => {
                hash.update(&block[..read]);
                length += read as u64;
            }
            Err(error) if error.kind() == ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
}

/// Two small letters or digits for each byte, as sha256sum writes it.
pub fn hex(bytes: &[u8]) -> String {
    hex::encode(bytes)
}

/// The digest that `hex` wrote, or one with large letters.
pub fn from_hex(text: &str) -> Option<Digest> {
    let mut digest = Digest::default();
    hex::decode_to_slice(text, &mut digest).ok()?;
    Some(digest)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The examples of FIPS 180-4's authors (NIST CSRC, "SHA256.pdf").
    #[test]
    fn known_texts_have_the_known_digests() {
        let told = |text: &str| of(text.as_bytes()).map(|(length, digest)| (length, hex(&digest))).unwrap();
        assert_eq!(
            told("abc"),
            (3, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad".to_owned())
        );
        assert_eq!(
            told("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq"),
            (56, "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1".to_owned())
        );
    }

    #[test]
    fn a_digest_is_the_same_in_one_piece_and_in_many() {
        let bytes: Vec<u8> = (0..BLOCK * 2 + 7).map(|at| (at % 251) as u8).collect();
        let mut hash = Sha256::default();
        bytes.chunks(1000).for_each(|chunk| hash.update(chunk));
        assert_eq!(of(bytes.as_slice()).unwrap(), (bytes.len() as u64, hash.finish()));
    }

    #[test]
    fn a_digest_reads_as_it_is_written() {
        let digest: Digest = std::array::from_fn(|at| at as u8);
        assert_eq!(from_hex(&hex(&digest)), Some(digest));
        assert_eq!(from_hex(&"0".repeat(63)), None);
        assert_eq!(from_hex(&"+0".repeat(32)), None);
        assert_eq!(from_hex(&"é".repeat(32)), None);
    }
}
