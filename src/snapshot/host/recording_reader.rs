//! Opens a recording: a folder, a bundle, or a bundle's `host/` folder. Nothing outside of it can be reached.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{Read, Seek};
use std::path::Path;

use anyhow::{Context, bail, ensure};
use cap_std::ambient_authority;
use cap_std::fs::Dir;
use sha2::{Digest, Sha256};
use warden_host::{Recorded, quantity};

use super::recording_format;
use crate::zip_end_record::open_archive_of;

/// A recording has some hundred files and some MiB; a folder or an archive that claims more is not one of ours, and must
/// not take the memory of the machine that judges it.
const FILES: usize = 20_000;
pub(super) const BYTES: u64 = 20 << 20;
/// The largest answer has 8 MiB (`FILES_BYTES` and others of the checks), and as JSON some more.
const FILE_BYTES: u64 = 16 << 20;
/// Folders in folders, of a recording on disk.
const DEPTH: usize = 64;

/// The recording at `path`, and a digest of all that is in it.
pub fn open(path: &Path) -> anyhow::Result<(Recorded, [u8; 32])> {
    let shown = path.display();
    let metadata = std::fs::metadata(path).with_context(|| format!("cannot open the recording {shown}"))?;
    let files = if metadata.is_dir() {
        let root = Dir::open_ambient_dir(path, ambient_authority())
            .with_context(|| format!("cannot open the recording {shown}"))?;
        let root = if root.is_dir("host/.host") { root.open_dir("host")? } else { root };
        let mut files = BTreeMap::new();
        walk(&root, "", &mut files, &mut 0, DEPTH)?;
        files
    } else {
        let file = File::open(path).with_context(|| format!("cannot open the recording {shown}"))?;
        unzip(file).with_context(|| format!("cannot read the recording {shown}"))?
    };
    let digest = digest(&files);
    let recorded = recording_format::read(files).with_context(|| format!("cannot replay {shown}"))?;
    Ok((recorded, digest))
}

fn digest(files: &BTreeMap<String, Vec<u8>>) -> [u8; 32] {
    let mut digest = Sha256::new();
    for (path, content) in files {
        digest.update((path.len() as u64).to_le_bytes());
        digest.update(path);
        digest.update((content.len() as u64).to_le_bytes());
        digest.update(content);
    }
    digest.finalize().into()
}

/// Reads below `directory` through handles that the kernel keeps inside it. Symbolic links are no part of a
/// recording and are refused, wherever they point.
fn walk(
    directory: &Dir,
    prefix: &str,
    files: &mut BTreeMap<String, Vec<u8>>,
    bytes: &mut u64,
    depth: usize,
) -> anyhow::Result<()> {
    ensure!(depth > 0, "the folders of a recording are at most {DEPTH} deep");
    for entry in directory.entries()? {
        let entry = entry?;
        let name = entry.file_name();
        let name =
            name.to_str().with_context(|| format!("{prefix}{} is no name of a recording", name.display()))?;
        let path = format!("{prefix}{name}");
        let kind = entry.file_type()?;
        if kind.is_dir() {
            walk(&entry.open_dir()?, &format!("{path}/"), files, bytes, depth - 1)?;
        } else if kind.is_file() {
            let size = entry.metadata()?.len();
            let content = bounded(entry.open()?, size, bytes, files.len())?;
            files.insert(path, content);
        } else {
            bail!("{path} is a link or a special file: a recording holds only files and folders");
        }
    }
    Ok(())
}

fn unzip(file: impl Read + Seek) -> anyhow::Result<BTreeMap<String, Vec<u8>>> {
    let mut archive = open_archive_of(FILES as u64, file)?;
    // What is unpacked is measured before any of it is kept: an archive can claim what it wants.
    let mut total = 0;
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        if entry.name()?.starts_with("host/") && entry.is_file() {
            total += measured(entry)?;
            ensure!(total <= BYTES, too_large());
        }
    }
    let (mut files, mut bytes) = (BTreeMap::new(), 0);
    for index in 0..archive.len() {
        let entry = archive.by_index(index)?;
        let Some(path) = entry.name()?.strip_prefix("host/").map(str::to_owned) else { continue };
        if entry.is_file() {
            ensure!(
                !path.split('/').any(|part| matches!(part, "" | "." | "..")),
                "`{path}` is no path of a recording"
            );
            let size = entry.size().min(FILE_BYTES);
            files.insert(path, bounded(entry, size, &mut bytes, index)?);
        }
    }
    Ok(files)
}

/// Bytes that come out of an entry, none of which is kept.
fn measured(source: impl Read) -> anyhow::Result<u64> {
    let length = std::io::copy(&mut source.take(FILE_BYTES + 1), &mut std::io::sink())?;
    ensure!(length <= FILE_BYTES, "a file of a recording has at most {}", quantity::bytes(FILE_BYTES));
    Ok(length)
}

/// What the entry really holds counts, not the `size` that it claims.
fn bounded(source: impl Read, size: u64, bytes: &mut u64, files: usize) -> anyhow::Result<Vec<u8>> {
    ensure!(files < FILES, "a recording holds at most {FILES} files");
    let room = (BYTES - *bytes).min(FILE_BYTES);
    let mut content = Vec::with_capacity(size.min(room) as usize);
    source.take(room + 1).read_to_end(&mut content)?;
    *bytes += content.len() as u64;
    ensure!(*bytes <= BYTES && content.len() as u64 <= FILE_BYTES, too_large());
    Ok(content)
}

fn too_large() -> String {
    format!("a recording holds at most {} unpacked", quantity::bytes(BYTES))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_link_in_a_recording_is_refused_wherever_it_points() {
        for target in ["/etc/passwd", "../../../etc/passwd", "answers"] {
            let directory = tempfile::tempdir().unwrap();
            std::fs::create_dir(directory.path().join(".host")).unwrap();
            std::os::unix::fs::symlink(target, directory.path().join("etc")).unwrap();
            let error = open(directory.path()).unwrap_err();
            assert_eq!(
                format!("{error:#}"),
                "etc is a link or a special file: a recording holds only files and folders"
            );
        }
    }

    #[test]
    fn an_archive_that_climbs_is_refused() {
        use std::io::Write;
        let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        archive.start_file("host/../../etc/passwd", zip::write::SimpleFileOptions::default()).unwrap();
        archive.write_all(b"x").unwrap();
        let error = unzip(archive.finish().unwrap()).unwrap_err();
        assert_eq!(error.to_string(), "`../../etc/passwd` is no path of a recording");
    }

    #[test]
    fn what_unpacks_to_more_than_a_recording_has_is_refused_whatever_it_claims() {
        use std::io::Write;
        let archive = |files: usize, size: usize| {
            let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
            for file in 0..files {
                archive.start_file(format!("host/{file}"), zip::write::SimpleFileOptions::default()).unwrap();
                archive.write_all(&vec![0; size]).unwrap();
            }
            archive.finish().unwrap()
        };
        let refused = |files, size| unzip(archive(files, size)).unwrap_err().to_string();
        assert_eq!(refused(1, (16 << 20) + 1), "a file of a recording has at most 16 MiB");
        assert_eq!(refused(3, 11 << 20), "a recording holds at most 20 MiB unpacked");
        assert!(refused(20_001, 0).starts_with("the archive claims 20001 entries"));
        assert_eq!(unzip(archive(2, 10 << 20)).unwrap().len(), 2);
    }

    #[test]
    fn a_folder_that_is_no_recording_is_named() {
        let directory = tempfile::tempdir().unwrap();
        let error = format!("{:#}", open(directory.path()).unwrap_err());
        assert!(error.ends_with("this holds no recorded host: there is no .host/ folder in it"), "{error}");
    }
}
