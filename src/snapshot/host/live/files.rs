//! Files, listings and filesystems of the live host.

use std::fs::{File, FileType, Metadata, OpenOptions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::OFlag;
use warden_host::{
    Cause, Content, Data, Entry, FILE_BYTES, FILES_BYTES, FILES_COUNT, Failure, FileText, Kind, LIST_ENTRIES,
    LOG_BYTES, LOG_LINES, PROC_BYTES, Space, Stat, Unread, component_matches, quantity,
};

pub fn read(path: &str) -> Result<Content, Cause> {
    read_open(open(Path::new(path))?.0, limit_of(Path::new(path)))
}

/// At most `limit` bytes of a file that is open.
pub(super) fn read_open(file: File, limit: u64) -> Result<Content, Cause> {
    let metadata = file.metadata().map_err(cause_of)?;
    let (bytes, more) = read_up_to(file, limit)?;
    let cut_from = more.then(|| metadata.len().max(limit + 1));
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

/// The tables of /proc grow with the machine.
/// Whether nobody may read a file, as /proc/sys/vm/drop_caches: a switch, and no value that is kept from us.
fn is_write_only(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|metadata| metadata.mode() & 0o444 == 0)
}

fn limit_of(path: &Path) -> u64 {
    if path.starts_with("/proc") { PROC_BYTES } else { FILE_BYTES }
}

/// The files that match a pattern, sorted by path, and what is missing of them.
pub struct Matching {
    pub files: Vec<FileText>,
    pub left_out: u64,
    pub unread: Unread,
}

impl Matching {
    pub fn missing(&self) -> u64 {
        self.left_out + self.unread.count
    }
}

pub fn read_matching(pattern: &str) -> Matching {
    let mut found = Matching { files: Vec::new(), left_out: 0, unread: Unread::default() };
    let mut bytes = 0;
    for path in expand(pattern) {
        if bytes >= FILES_BYTES || found.files.len() >= FILES_COUNT {
            found.left_out += 1;
            continue;
        }
        let shown = path.to_string_lossy().into_owned();
        match read_member(&path) {
            Ok(None) => {}
            Ok(Some((content, more))) => {
                bytes += content.len() as u64;
                if more {
                    found.unread.add(Failure { what: shown.clone(), cause: too_long() });
                }
                found.files.push(FileText { path: shown, text: lossy(content) });
            }
            Err(error) => {
                let cause = cause_of(error);
                if cause != Cause::Absent && !is_write_only(&path) {
                    found.unread.add(Failure { what: shown, cause });
                }
            }
        }
    }
    found
}

/// What the kernel answers for an attribute that has no value in the present state of its device: the speed of an
/// interface that is down, the temperature of a sensor that is off.
const NO_VALUE: [Errno; 5] = [Errno::EINVAL, Errno::ENODATA, Errno::EOPNOTSUPP, Errno::ENODEV, Errno::ENXIO];

/// At most [`FILE_BYTES`] of a regular file and whether there are more; nothing of what is no file or has no value.
fn read_member(path: &Path) -> std::io::Result<Option<(Vec<u8>, bool)>> {
    let file = open_without_waiting(path)?;
    if !file.metadata()?.is_file() {
        return Ok(None);
    }
    let mut bytes = Vec::new();
    match file.take(FILE_BYTES + 1).read_to_end(&mut bytes) {
        Err(error) if path.starts_with("/sys") && has_no_value(&error) => return Ok(None),
        read => read?,
    };
    let more = bytes.len() as u64 > FILE_BYTES;
    bytes.truncate(FILE_BYTES as usize);
    Ok(Some((bytes, more)))
}

fn has_no_value(error: &std::io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| NO_VALUE.contains(&Errno::from_raw(code)))
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
    let file = open_without_waiting(path).map_err(cause_of)?;
    let metadata = file.metadata().map_err(cause_of)?;
    if !metadata.is_file() {
        return Err(Cause::Other("is not a regular file".to_owned()));
    }
    Ok((file, metadata))
}

fn open_without_waiting(path: &Path) -> std::io::Result<File> {
    let flags = OFlag::O_NONBLOCK | OFlag::O_NOCTTY | OFlag::O_CLOEXEC;
    OpenOptions::new().read(true).custom_flags(flags.bits()).open(path)
}

/// At most `limit` bytes, and whether there were more.
pub(super) fn read_up_to(source: impl Read, limit: u64) -> Result<(Vec<u8>, bool), Cause> {
    let mut bytes = Vec::new();
    source.take(limit + 1).read_to_end(&mut bytes).map_err(cause_of)?;
    let more = bytes.len() as u64 > limit;
    bytes.truncate(limit as usize);
    Ok((bytes, more))
}

pub(super) fn too_long() -> Cause {
    Cause::Truncated(format!("it is longer than {}", quantity::bytes(FILE_BYTES)))
}

pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

pub(super) fn cause_of(error: std::io::Error) -> Cause {
    const GONE: i32 = Errno::ESRCH as i32;
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
    fn a_switch_that_nobody_may_read_is_no_missing_value() {
        let found = read_matching("/proc/sys/vm/*_*");
        assert!(found.files.iter().any(|file| file.path == "/proc/sys/vm/max_map_count"));
        assert!(found.unread.is_none(), "{:?}", found.unread);
    }

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
        let found = read_matching(&format!("{}/[pid]/stat", directory.path().display()));
        let texts: Vec<_> = found.files.iter().map(|file| file.text.as_str()).collect();
        assert_eq!((texts, found.missing()), (vec!["9", "10"], 0));
    }

    #[test]
    fn a_match_that_is_longer_than_the_limit_is_told_and_a_dead_link_is_not_there() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("a"), vec![b'x'; FILE_BYTES as usize + 1]).unwrap();
        std::os::unix::fs::symlink("/nowhere", directory.path().join("b")).unwrap();
        let found = read_matching(&format!("{}/*", directory.path().display()));
        assert_eq!((found.files.len(), found.files[0].text.len()), (1, FILE_BYTES as usize));
        assert_eq!(found.unread.count, 1);
        let first = found.unread.first.unwrap().to_string();
        assert!(first.ends_with("/a: it is longer than 1 MiB"), "{first}");
    }
}
