//! Encryption to whoever may read a bundle, in the age format (age-encryption.org/v1).

use std::collections::HashSet;
use std::io::{self, BufReader, Read, Seek, Write};
use std::sync::{Mutex, PoisonError};

use age::secrecy::ExposeSecret;
use age::stream::{StreamReader, StreamWriter};
use age::x25519;
use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use anyhow::{Context, bail};
use zeroize::Zeroizing;

/// What every file in this format begins with.
pub const BEGINNING: &[u8] = b"age-encryption.org/";

/// Someone who may read: an X25519 key that `age-keygen` made.
#[derive(Clone)]
pub struct Recipient(x25519::Recipient);

impl Recipient {
    /// From `age1...`. What is no recipient is not repeated in the error: it may be the secret half.
    pub fn parse(text: &str) -> anyhow::Result<Recipient> {
        let text = text.trim();
        if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
            bail!(
                "this is the secret half of a key, which must stay with its owner; `age-keygen -y` tells the public one"
            );
        }
        let recipient = text.parse().map(Recipient).map_err(anyhow::Error::msg);
        recipient.context("this is no age recipient; one begins with `age1` and is what `age-keygen` tells")
    }
}

/// What is written to the first half comes out as only `recipients`, one at least, can read it; it must be finished.
/// The second half reads it back, as long as this process lives. Differs each time.
pub fn encrypting<W: Write>(out: W, recipients: &[Recipient]) -> anyhow::Result<(StreamWriter<W>, ReadBack)> {
    let kept = KeptKey::default();
    let recipients = recipients.iter().map(|recipient| &recipient.0 as &dyn age::Recipient);
    let all = recipients.chain([&kept as &dyn age::Recipient]);
    let encryptor = age::Encryptor::with_recipients(all).context("cannot encrypt")?;
    let writer = encryptor.wrap_output(out).context("cannot encrypt")?;
    Ok((writer, ReadBack(kept)))
}

/// `content` as only `recipients` can read it.
pub fn encrypt(content: &[u8], recipients: &[Recipient]) -> anyhow::Result<Vec<u8>> {
    let output = Vec::with_capacity(content.len() + content.len() / 1024 + 1024);
    let (mut writer, _) = encrypting(output, recipients)?;
    writer.write_all(content).context("cannot encrypt")?;
    writer.finish().context("cannot encrypt")
}

/// Reads a file that this process encrypted, without a recipient's secret: nothing of it need ever lie on a disk in the
/// clear to be looked at once more.
pub struct ReadBack(KeptKey);

impl ReadBack {
    pub fn open<R: Read + Seek>(&self, file: R) -> anyhow::Result<StreamReader<BufReader<R>>> {
        let decryptor = age::Decryptor::new_buffered(BufReader::new(file)).context("cannot read back")?;
        let identities = std::iter::once(&self.0 as &dyn age::Identity);
        decryptor.decrypt(identities).context("cannot read back")
    }
}

/// Remembers the key of one file, and adds nothing to it: as a recipient it makes no stanza.
#[derive(Default)]
struct KeptKey(Mutex<Zeroizing<[u8; FILE_KEY_BYTES]>>);

impl age::Recipient for KeptKey {
    fn wrap_file_key(&self, key: &FileKey) -> Result<(Vec<Stanza>, HashSet<String>), age::EncryptError> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).copy_from_slice(key.expose_secret());
        Ok((Vec::new(), HashSet::new()))
    }
}

impl age::Identity for KeptKey {
    fn unwrap_stanza(&self, _: &Stanza) -> Option<Result<FileKey, age::DecryptError>> {
        let key = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        Some(Ok(FileKey::init_with_mut(|copy| copy.copy_from_slice(key.as_slice()))))
    }
}

/// A file as it is, or encrypted on its way.
pub enum Sealed<W: Write> {
    Open(W),
    Encrypted(StreamWriter<W>),
}

impl<W: Write> Sealed<W> {
    pub fn finish(self) -> io::Result<W> {
        match self {
            Sealed::Open(out) => Ok(out),
            Sealed::Encrypted(writer) => writer.finish(),
        }
    }
}

impl<W: Write> Write for Sealed<W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Sealed::Open(out) => out.write(bytes),
            Sealed::Encrypted(writer) => writer.write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Sealed::Open(out) => out.flush(),
            Sealed::Encrypted(writer) => writer.flush(),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, SeekFrom};

    use super::*;

    #[test]
    fn what_was_encrypted_is_read_back_anywhere_and_names_nobody_but_its_recipients() {
        let ours = x25519::Identity::generate();
        let content: Vec<u8> = (0..300_000u32).flat_map(u32::to_le_bytes).collect();
        let (mut writer, back) = encrypting(Vec::new(), &[Recipient(ours.to_public())]).unwrap();
        writer.write_all(&content).unwrap();
        let file = writer.finish().unwrap();
        let head = String::from_utf8_lossy(&file[..400]).into_owned();
        assert_eq!(head.matches("\n-> X25519 ").count(), 1, "{head}");

        let mut reader = back.open(Cursor::new(&file)).unwrap();
        reader.seek(SeekFrom::Start(700_001)).unwrap();
        let mut part = [0; 64];
        reader.read_exact(&mut part).unwrap();
        assert_eq!(part, content[700_001..][..64]);
        let decryptor = age::Decryptor::new(&file[..]).unwrap();
        let mut whole = Vec::new();
        let identity = std::iter::once(&ours as &dyn age::Identity);
        decryptor.decrypt(identity).unwrap().read_to_end(&mut whole).unwrap();
        assert!(whole == content);

        let mut changed = file.clone();
        let last = changed.len() - 1;
        changed[last] ^= 1;
        let mut reader = back.open(Cursor::new(&changed)).unwrap();
        assert!(reader.read_to_end(&mut Vec::new()).is_err(), "a byte that is not as it was written");
    }
}
