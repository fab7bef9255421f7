//! The end of a ZIP archive, read strictly: how many entries it claims, before any of them takes memory.

use std::io::{Read, Seek, SeekFrom};

use anyhow::{Context, bail, ensure};
use zip::ZipArchive;

use super::encryption;

/// Entries of an archive: a bundle has some thousand, and a directory of so many takes some 100 MiB.
const FILES: u64 = 200_000;

/// End of central directory record without a comment (APPNOTE.TXT 4.3.16).
const END_BYTES: usize = 22;
const END: [u8; 4] = *b"PK\x05\x06";
/// Its comment, at most.
const COMMENT_BYTES: u64 = 65_535;
/// ZIP64 end of central directory locator (4.3.15) and record (4.3.14).
const LOCATOR_BYTES: usize = 20;
const LOCATOR: [u8; 4] = *b"PK\x06\x07";
const RECORD_BYTES: usize = 56;
const RECORD: [u8; 4] = *b"PK\x06\x06";

/// Opens an archive of which nothing stands before its first and behind its last byte, and whose directory, which
/// is held in memory, is no larger than one of ours can be.
pub fn open_archive<R: Read + Seek>(source: R) -> anyhow::Result<ZipArchive<R>> {
    open_archive_of(FILES, source)
}

/// The same of one that has at most so many entries.
pub fn open_archive_of<R: Read + Seek>(most: u64, mut source: R) -> anyhow::Result<ZipArchive<R>> {
    if is_encrypted(&mut source)? {
        bail!(Encrypted);
    }
    const NOT_WHOLE: &str = "this is no whole ZIP archive";
    let claimed = entries(&mut source).context(NOT_WHOLE)?;
    ensure!(claimed <= most, "the archive claims {claimed} entries; a bundle has at most {most}");
    source.rewind()?;
    ZipArchive::new(source).context(NOT_WHOLE)
}

/// Nobody but its recipients can tell what is in it.
#[derive(Debug, thiserror::Error)]
#[error("it is encrypted; `age --decrypt` with the recipient's key opens it")]
pub struct Encrypted;

fn is_encrypted<R: Read + Seek>(source: &mut R) -> std::io::Result<bool> {
    source.rewind()?;
    let mut first = Vec::new();
    source.take(encryption::BEGINNING.len() as u64).read_to_end(&mut first)?;
    Ok(first == encryption::BEGINNING)
}

/// How many entries the archive claims. Its directory must end where its end record begins: then every reader finds
/// the same one.
fn entries<R: Read + Seek>(source: &mut R) -> anyhow::Result<u64> {
    let length = source.seek(SeekFrom::End(0))?;
    let at = length.checked_sub(END_BYTES as u64).context("it is too short")?;
    let end: [u8; END_BYTES] = read_at(source, at)?;
    if !end.starts_with(&END) {
        return Err(misplaced(source, length)?);
    }
    let mut entries = u64::from(u16::from_le_bytes([end[10], end[11]]));
    let mut size = u64::from(number32(&end, 12));
    let mut offset = u64::from(number32(&end, 16));
    let mut directory_end = at;
    if entries == u64::from(u16::MAX) || size == u64::from(u32::MAX) || offset == u64::from(u32::MAX) {
        let locator_at = at.checked_sub(LOCATOR_BYTES as u64).context("it is too short")?;
        let locator: [u8; LOCATOR_BYTES] = read_at(source, locator_at)?;
        if locator.starts_with(&LOCATOR) {
            directory_end = number64(&locator, 8);
            ensure!(
                directory_end.checked_add(RECORD_BYTES as u64) == Some(locator_at),
                "its ZIP64 end is not where it should be"
            );
            let record: [u8; RECORD_BYTES] = read_at(source, directory_end)?;
            ensure!(record.starts_with(&RECORD), "its ZIP64 end is not where it should be");
            (entries, size, offset) = (number64(&record, 32), number64(&record, 40), number64(&record, 48));
        }
    }
    let claimed_end = offset.checked_add(size).filter(|end| *end <= directory_end);
    let claimed_end = claimed_end.context("its directory is not where it should be")?;
    let foreign = directory_end - claimed_end;
    ensure!(foreign == 0, "{foreign} bytes before its first file or its end belong to no file");
    Ok(entries)
}

/// Why there is no end record in the last bytes: something follows it, or there is none.
fn misplaced<R: Read + Seek>(source: &mut R, length: u64) -> anyhow::Result<anyhow::Error> {
    let reach = length.min(END_BYTES as u64 + COMMENT_BYTES);
    source.seek(SeekFrom::Start(length - reach))?;
    let mut tail = Vec::new();
    source.take(reach).read_to_end(&mut tail)?;
    let found = tail.windows(END.len()).rposition(|window| window == END);
    let Some(behind) = found.and_then(|found| (tail.len() - found).checked_sub(END_BYTES)) else {
        bail!("it has no end, as one that was cut short has none");
    };
    Ok(anyhow::anyhow!("{behind} bytes behind its end belong to no file"))
}

fn read_at<R: Read + Seek, const N: usize>(source: &mut R, at: u64) -> std::io::Result<[u8; N]> {
    let mut bytes = [0; N];
    source.seek(SeekFrom::Start(at))?;
    source.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn number32(bytes: &[u8], at: usize) -> u32 {
    let mut number = [0; 4];
    number.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(number)
}

fn number64(bytes: &[u8], at: usize) -> u64 {
    u64::from(number32(bytes, at)) | u64::from(number32(bytes, at + 4)) << 32
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Write};

    use zip::write::SimpleFileOptions;

    use super::*;

    fn archive(files: usize) -> Vec<u8> {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for file in 0..files {
            archive.start_file(format!("{file}"), SimpleFileOptions::default()).unwrap();
            archive.write_all(b"x").unwrap();
        }
        archive.finish().unwrap().into_inner()
    }

    fn error(content: Vec<u8>) -> String {
        format!("{:#}", open_archive(Cursor::new(content)).unwrap_err())
    }

    #[test]
    fn entries_are_counted_in_both_forms_of_the_end() {
        assert_eq!(entries(&mut Cursor::new(archive(3))).unwrap(), 3);
        let large = archive(70_000);
        assert!(large.windows(4).any(|window| window == RECORD), "so many need ZIP64");
        assert_eq!(entries(&mut Cursor::new(&large)).unwrap(), 70_000);
        assert_eq!(open_archive(Cursor::new(large)).unwrap().len(), 70_000);
    }

    #[test]
    fn an_archive_that_claims_too_many_entries_is_refused_before_they_are_read() {
        let refused = error(archive(200_001));
        assert_eq!(refused, "the archive claims 200001 entries; a bundle has at most 200000");
    }

    #[test]
    fn what_stands_before_or_behind_or_is_cut_is_told() {
        let whole = archive(2);
        let before = [&b"#!/bin/sh\n"[..], &whole].concat();
        assert!(error(before).ends_with("10 bytes before its first file or its end belong to no file"));
        let behind = [&whole[..], b"rm -rf"].concat();
        assert!(error(behind).ends_with("6 bytes behind its end belong to no file"));
        assert!(error(whole[..whole.len() - 1].to_vec()).ends_with("as one that was cut short has none"));
        assert!(error(Vec::new()).ends_with("it is too short"));
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 0xff;
            // Whatever a byte says, there is an answer and no panic.
            let _ = open_archive(Cursor::new(changed));
        }
    }
}
