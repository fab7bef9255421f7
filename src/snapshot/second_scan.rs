//! Reads a finished archive once more, members of archives in it included, for what must not be in it.

use std::io::{self, Cursor, Read, Seek, SeekFrom};

use anyhow::{Context, bail, ensure};
use warden_redact::{Anonymizer, Redactor};

use super::archive::holds_messages;
use super::bundle::{MANIFEST, SIGNATURE};
use super::own_documents;

/// Archives in archives are looked into this deep.
const DEPTH: usize = 3;
/// A compressed archive inside an archive is unpacked into memory up to this many bytes.
const UNPACKED_BYTES: u64 = 32 << 20;
/// Texts are searched for addresses and names line by line, so many bytes at a time; no line is longer where one is
/// looked for.
const LINES_BYTES: usize = 2 << 20;
/// By so many bytes of its beginning a text is told from what has no addresses in it.
const LOOKED_AT: usize = 4096;

/// Messages in it are packed as they are: what their senders wrote is theirs, and says nothing of what was masked here.
const IGGY: &str = "iggy.zip!/";

/// Documents of our own, which are held in memory when they are written as well.
const OWN: [&str; 3] = [own_documents::PAGE, own_documents::REPORT, MANIFEST];

/// What is looked for.
pub struct SecondScan<'s> {
    pub redactor: &'s Redactor,
    pub anonymizer: Option<&'s Anonymizer>,
    /// Whether the host's policy had all of the data directory taken as it is, credentials included.
    pub iggy_as_it_is: bool,
}

impl SecondScan<'_> {
    /// Fails when a known secret, or what was to be made anonymous, stands in the archive: in a name, a member, or a
    /// member of an archive inside it. Names where, never what.
    pub fn archive(&self, archive: impl Read + Seek) -> anyhow::Result<()> {
        let mut archive = archive;
        self.look(&mut archive, "", DEPTH)
    }

    /// The same for a single file.
    pub fn file(&self, name: &str, content: &[u8]) -> anyhow::Result<()> {
        self.member(name, content)
    }

    fn look(&self, archive: &mut dyn ReadSeek, within: &str, depth: usize) -> anyhow::Result<()> {
        ensure!(depth > 0, "{within} holds archives in archives deeper than the second scan looks");
        let mut archive =
            zip::ZipArchive::new(archive).with_context(|| format!("cannot read back {within}"))?;
        ensure!(self.hits(archive.comment()) == 0, "a masked secret shows up in the comment of the archive");
        for index in 0..archive.len() {
            let member = archive.by_index(index)?;
            let name = format!("{within}{}", member.name().context("a member without a readable name")?);
            let (stored, bytes) = (member.compression() == zip::CompressionMethod::Stored, member.size());
            if self.iggy_as_it_is && name.starts_with(IGGY) {
                continue;
            }
            if name.strip_prefix(IGGY).is_some_and(holds_messages) {
                ensure!(self.name_hits(&name) == 0, "a masked secret shows up in the name of a member");
                continue;
            }
            if !name.to_ascii_lowercase().ends_with(".zip") {
                self.member(&name, member)?;
                continue;
            }
            ensure!(self.name_hits(&name) == 0, "a masked secret shows up in the name of a member");
            let inner = format!("{name}!/");
            if bytes <= UNPACKED_BYTES {
                let mut content = Vec::new();
                member.take(UNPACKED_BYTES + 1).read_to_end(&mut content)?;
                self.look(&mut Cursor::new(content), &inner, depth - 1)?;
            } else if stored {
                let start = member.data_start().context("a member whose place is not known")?;
                drop(member);
                let outer = archive.into_inner();
                self.look(&mut Part { inner: &mut *outer, start, length: bytes, at: 0 }, &inner, depth - 1)?;
                archive = zip::ZipArchive::new(outer)?;
            } else {
                bail!("{name} is a compressed archive of {bytes} bytes, too large to be looked into");
            }
        }
        Ok(())
    }

    fn member(&self, name: &str, content: impl Read) -> anyhow::Result<()> {
        ensure!(self.name_hits(name) == 0, "a masked secret shows up in the name of a member");
        let mut left = self.anonymizer.map_or(0, |anonymizer| anonymizer.hits(name));
        let mut content =
            Noticing { inner: content, anonymizer: self.anonymizer, pending: Vec::new(), left: &mut left };
        let read_back = || format!("cannot read back {name}");
        let hits = if OWN.contains(&name) {
            let mut whole = Vec::new();
            content.read_to_end(&mut whole).with_context(read_back)?;
            let found = own_documents::hits(self.redactor, name, &whole);
            found.unwrap_or_else(|| self.redactor.hits(&whole))
        } else if name == SIGNATURE {
            io::copy(&mut content, &mut io::sink()).map(|_| 0).with_context(read_back)?
        } else {
            self.redactor.hits_in(content).with_context(read_back)?
        };
        ensure!(hits == 0, "a masked secret shows up again in {name}: nothing was kept");
        ensure!(left == 0, "{left} addresses or names are left in {name}: nothing was kept");
        Ok(())
    }

    fn name_hits(&self, name: &str) -> usize {
        own_documents::name_hits(self.redactor, name)
    }

    fn hits(&self, bytes: &[u8]) -> usize {
        self.redactor.hits(bytes)
    }
}

/// Counts addresses and names in a text on its way.
struct Noticing<'n, R> {
    inner: R,
    anonymizer: Option<&'n Anonymizer>,
    pending: Vec<u8>,
    left: &'n mut usize,
}

impl<R: Read> Read for Noticing<'_, R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.inner.read(buffer)?;
        let Some(anonymizer) = self.anonymizer else { return Ok(read) };
        self.pending.extend_from_slice(&buffer[..read]);
        if read > 0 && self.pending.len() < LINES_BYTES {
            return Ok(read);
        }
        if !is_text(&self.pending) {
            // Bytes that happen to look like one are no address.
            self.anonymizer = None;
        } else if read == 0 {
            *self.left += anonymizer.hits(&String::from_utf8_lossy(&self.pending));
            self.pending.clear();
        } else {
            let end = memchr::memrchr(b'\n', &self.pending).map_or(self.pending.len(), |end| end + 1);
            *self.left += anonymizer.hits(&String::from_utf8_lossy(&self.pending[..end]));
            self.pending.drain(..end);
        }
        Ok(read)
    }
}

fn is_text(bytes: &[u8]) -> bool {
    let beginning = &bytes[..bytes.len().min(LOOKED_AT)];
    !beginning.contains(&0)
}

trait ReadSeek: Read + Seek {}

impl<T: Read + Seek> ReadSeek for T {}

/// A stored member, read where it lies.
struct Part<'f> {
    inner: &'f mut dyn ReadSeek,
    start: u64,
    length: u64,
    at: u64,
}

impl Read for Part<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.inner.seek(SeekFrom::Start(self.start + self.at))?;
        let left = usize::try_from(self.length.saturating_sub(self.at)).unwrap_or(usize::MAX);
        let most = left.min(buffer.len());
        let read = self.inner.read(&mut buffer[..most])?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for Part<'_> {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let at = match to {
            SeekFrom::Start(at) => Some(at),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.at.checked_add_signed(by),
        };
        self.at = at.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;

    use warden_redact::Shape;
    use zip::CompressionMethod::{self, Deflated, Stored};
    use zip::write::SimpleFileOptions;

    use super::*;

    fn zip(members: &[(&str, &[u8])], method: CompressionMethod) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (name, content) in members {
            archive.start_file(*name, SimpleFileOptions::default().compression_method(method)).unwrap();
            archive.write_all(content).unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn scan(archive: Vec<u8>) -> Result<(), String> {
        let redactor = Redactor::new([1; 32]);
        redactor.redact(Shape::Log, "password=canary-4711");
        let scan = SecondScan { redactor: &redactor, anonymizer: None, iggy_as_it_is: false };
        scan.archive(Cursor::new(archive)).map_err(|error| format!("{error:#}"))
    }

    #[test]
    fn a_secret_is_found_in_members_names_and_archives_within() {
        let again = |name: &str| Err(format!("a masked secret shows up again in {name}: nothing was kept"));
        for method in [Stored, Deflated] {
            assert_eq!(scan(zip(&[("a.txt", b"fine"), ("b", b"")], method)), Ok(()));
            assert_eq!(scan(zip(&[("a.txt", b"x canary-4711 y")], method)), again("a.txt"));
            assert!(scan(zip(&[("canary-4711.txt", b"fine")], method)).is_err());
            let inner = zip(&[("deep/c.log", b"canary-4711")], Deflated);
            assert_eq!(scan(zip(&[("iggy.zip", &inner)], method)), again("iggy.zip!/deep/c.log"));
        }
        let mut filler = vec![7; UNPACKED_BYTES as usize];
        filler.extend(b"canary-4711");
        let large = zip(&[("big.bin", &filler)], Stored);
        assert_eq!(scan(zip(&[("iggy.zip", &large), ("z", b"")], Stored)), again("iggy.zip!/big.bin"));
    }

    #[test]
    fn what_cannot_be_looked_into_is_not_kept() {
        assert!(
            scan(zip(&[("iggy.zip", b"no archive")], Deflated))
                .unwrap_err()
                .starts_with("cannot read back iggy.zip!/")
        );
        let nested =
            (0..DEPTH).fold(zip(&[("x", b"")], Stored), |inner, _| zip(&[("n.zip", &inner)], Stored));
        assert!(scan(nested).unwrap_err().contains("deeper than the second scan looks"));
    }
}
