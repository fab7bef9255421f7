//! Files, listings and filesystems of the live host.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::fcntl::OFlag;
use warden_checks::component_matches;
use warden_checks::host::{
    Cause, Content, Data, Entry, FILE_BYTES, FILES_BYTES, FILES_COUNT, FileText, Kind, LIST_ENTRIES,
    LOG_BYTES, LOG_LINES, Space, Stat,
};

pub fn read(path: &str) -> Result<Content, Cause> {
    read_open(open(Path::new(path))?.0)
}

pub(super) fn read_open(file: File) -> Result<Content, Cause> {
    let metadata = file.metadata().map_err(cause_of)?;
    let (bytes, more) = read_up_to(file, FILE_BYTES)?;
    let cut_from = more.then(|| metadata.len().max(FILE_BYTES + 1));
    Ok(Content { text: lossy(bytes), cut_from })
}

/// The newest lines: whole ones only, unless one line alone is longer than the limit.
pub fn tail(path: &str) -> Result<Content, Cause> {
    tail_open(open(Path::new(path))?.0)
}

pub(super) fn tail_open(mut file: File) -> Result<Content, Cause> {
    let size = file.metadata().map_err(cause_of)?.len();
    let from = size.saturating_sub(LOG_BYTES);
    file.seek(SeekFrom::Start(from)).map_err(cause_of)?;
    let (bytes, _) = read_up_to(file, LOG_BYTES)?;
    let text = lossy(bytes);
    let whole = match (from, text.split_once('\n')) {
        (1.., Some((_, rest))) => rest,
        _ => text.as_str(),
    };
    let newest = newest_lines(whole, LOG_LINES);
    let cut = from > 0 || newest.len() < whole.len();
    Ok(Content { text: newest.to_owned(), cut_from: cut.then_some(size) })
}

fn newest_lines(text: &str, count: usize) -> &str {
    let end = text.strip_suffix('\n').unwrap_or(text);
    match end.rmatch_indices('\n').nth(count - 1) {
        Some((at, _)) => &text[at + 1..],
        None => text,
    }
}

/// Every readable file that matches, sorted by path, and how many were left out by the limits.
pub fn read_matching(pattern: &str) -> (Vec<FileText>, u64) {
    let (mut files, mut bytes, mut left_out) = (Vec::new(), 0, 0);
    for path in expand(pattern) {
        if bytes >= FILES_BYTES || files.len() >= FILES_COUNT {
            left_out += 1;
            continue;
        }
        // Most matches of a pattern below /proc/[pid] vanish or are denied as a matter of course.
        let Ok((file, _)) = open(&path) else { continue };
        let Ok((content, _)) = read_up_to(file, FILE_BYTES) else { continue };
        bytes += content.len() as u64;
        files.push(FileText { path: path.to_string_lossy().into_owned(), text: lossy(content) });
    }
    (files, left_out)
}

fn expand(pattern: &str) -> Vec<PathBuf> {
    let mut found = vec![PathBuf::from("/")];
    for component in pattern.split('/').filter(|component| !component.is_empty()) {
        if !component.contains('*') && component != "[pid]" {
            found.iter_mut().for_each(|path| path.push(component));
            continue;
        }
        found = found.iter().flat_map(|directory| names_matching(directory, component)).collect();
    }
    found
}

fn names_matching(directory: &Path, component: &str) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    let mut names: Vec<_> = entries
        .flatten()
        .map(|entry| entry.file_name())
        .filter(|name| name.to_str().is_some_and(|name| component_matches(component, name)))
        .take(LIST_ENTRIES)
        .collect();
    names.sort_by_cached_key(|name| (name.len(), name.clone()));
    names.into_iter().map(|name| directory.join(name)).collect()
}

pub fn list(path: &str) -> Result<Data, Cause> {
    let mut entries = Vec::new();
    let mut left_out = 0;
    for entry in std::fs::read_dir(path).map_err(cause_of)?.flatten() {
        if entries.len() >= LIST_ENTRIES {
            left_out += 1;
            continue;
        }
        let Ok(kind) = entry.file_type() else { continue };
        entries.push(Entry { name: entry.file_name().to_string_lossy().into_owned(), kind: kind_of(kind) });
    }
    entries.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(Data::Entries { entries, left_out })
}

pub fn link(path: &str) -> Result<Data, Cause> {
    let target = std::fs::read_link(path).map_err(cause_of)?;
    Ok(Data::Link { target: target.to_string_lossy().into_owned() })
}

pub fn stat(path: &str) -> Result<Stat, Cause> {
    std::fs::symlink_metadata(path).map(|metadata| stat_of(&metadata)).map_err(cause_of)
}

pub(super) fn stat_of(metadata: &Metadata) -> Stat {
    Stat {
        kind: kind_of(metadata.file_type()),
        mode: metadata.mode() & 0o7777,
        uid: metadata.uid(),
        gid: metadata.gid(),
        size: metadata.size(),
        allocated: metadata.blocks().saturating_mul(512),
        modified: metadata.mtime(),
        device: metadata.dev(),
        inode: metadata.ino(),
    }
}

pub fn space(path: &str) -> Result<Space, Cause> {
    space_of(nix::sys::statvfs::statvfs(path))
}

pub(super) fn space_of(stats: nix::Result<nix::sys::statvfs::Statvfs>) -> Result<Space, Cause> {
    let stats = stats.map_err(|error| cause_of(error.into()))?;
    let unit = stats.fragment_size();
    Ok(Space {
        size: stats.blocks().saturating_mul(unit),
        free: stats.blocks_free().saturating_mul(unit),
        available: stats.blocks_available().saturating_mul(unit),
        inodes: stats.files(),
        inodes_free: stats.files_free(),
        read_only: stats.flags().contains(nix::sys::statvfs::FsFlags::ST_RDONLY),
    })
}

/// Opens a regular file; anything else (a fifo, a device) would block or give bytes without end.
pub(super) fn open(path: &Path) -> Result<(File, Metadata), Cause> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    let file = OpenOptions::new().read(true).custom_flags(flags.bits()).open(path).map_err(cause_of)?;
    let metadata = file.metadata().map_err(cause_of)?;
    if !metadata.is_file() {
        return Err(Cause::Other("is not a regular file".to_owned()));
    }
    Ok((file, metadata))
}

/// At most `limit` bytes, and whether there were more.
pub(super) fn read_up_to(source: impl Read, limit: u64) -> Result<(Vec<u8>, bool), Cause> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(cause_of)?;
    let more = bytes.len() as u64 > limit;
    bytes.truncate(limit as usize);
    Ok((bytes, more))
}

pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

pub(super) fn cause_of(error: std::io::Error) -> Cause {
    const GONE: i32 = nix::errno::Errno::ESRCH as i32;
    match (error.kind(), error.raw_os_error()) {
        (ErrorKind::NotFound | ErrorKind::NotADirectory, _) | (_, Some(GONE)) => Cause::Absent,
        (ErrorKind::PermissionDenied, _) => Cause::Denied,
        (ErrorKind::TimedOut, _) => Cause::TimedOut,
        _ => Cause::Other(error.to_string()),
    }
}

fn kind_of(kind: FileType) -> Kind {
    match kind {
        kind if kind.is_dir() => Kind::Directory,
        kind if kind.is_symlink() => Kind::Link,
        kind if kind.is_fifo() => Kind::Fifo,
        kind if kind.is_socket() => Kind::Socket,
        kind if kind.is_block_device() || kind.is_char_device() => Kind::Device,
        _ => Kind::File,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_log_keeps_its_newest_lines() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("server.log");
        let lines: String = (0..5000).map(|number| format!("line {number}\n")).collect();
        std::fs::write(&path, &lines).unwrap();
        let content = tail(path.to_str().unwrap()).unwrap();
        assert_eq!(content.text.lines().count(), LOG_LINES);
        assert_eq!(content.text.lines().last(), Some("line 4999"));
        assert_eq!(content.cut_from, Some(lines.len() as u64));
    }

    #[test]
    fn a_log_of_one_endless_line_is_cut_at_the_byte_limit() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("endless.log");
        std::fs::write(&path, vec![b'x'; LOG_BYTES as usize + 10]).unwrap();
        assert_eq!(tail(path.to_str().unwrap()).unwrap().text.len(), LOG_BYTES as usize);
    }

    #[test]
    fn a_fifo_is_refused_and_does_not_block() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("fifo");
        nix::unistd::mkfifo(&path, nix::sys::stat::Mode::S_IRWXU).unwrap();
        assert_eq!(read(path.to_str().unwrap()), Err(Cause::Other("is not a regular file".to_owned())));
    }

    #[test]
    fn a_pattern_reads_every_match_in_order() {
        let directory = tempfile::tempdir().unwrap();
        for name in ["10", "9", "x"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
            std::fs::write(directory.path().join(name).join("stat"), name).unwrap();
        }
        let (files, left_out) = read_matching(&format!("{}/[pid]/stat", directory.path().display()));
        let texts: Vec<_> = files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!((texts, left_out), (vec!["9", "10"], 0));
    }
}
