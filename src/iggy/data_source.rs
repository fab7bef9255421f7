//! The files of a data directory, wherever they lie: in a folder, or in an archive of one. Links are not followed,
//! and nothing but ordinary files is opened.

use std::io::{self, Read};
use std::path::Path;
use std::time::Instant;

use anyhow::{Context, ensure};
use cap_std::fs::Dir;
use rustix::fs::OFlags;
use warden_platform::background_io::Gentle;
use warden_platform::user_view::Directory;

use super::buffered_reader::Source;
use super::zip_source::Archive;

/// Files and folders that are listed. A partition has five or more; a segment takes some 300 B until all is told.
pub const ENTRIES: usize = 400_000;
/// `streams/S/topics/T/partitions/P/offsets/consumers/ID` is nine deep.
const DEPTH: usize = 12;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    File,
    Folder,
    Link,
    /// A fifo, socket or device.
    Special,
}

/// One entry of the tree.
#[derive(Clone, Debug)]
pub struct Entry {
    /// Relative to the data directory; bytes that are not UTF-8 are replaced.
    pub path: String,
    /// Whether the path is the one on disk. What Iggy writes has a name that is text.
    pub is_exact: bool,
    pub kind: Kind,
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: Option<i64>,
    /// Its number in the archive.
    pub member: Option<u32>,
}

/// What listing a tree came to.
#[derive(Default)]
pub struct Listing {
    pub count: usize,
    /// Folders that could not be read, and why.
    pub closed: Vec<(String, io::Error)>,
    /// Whether there were more entries than allowed, or deeper ones than expected.
    pub is_cut: bool,
    /// Whether the time was over before all was listed.
    pub is_late: bool,
}

/// What may be taken of the host.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    pub entries: usize,
    /// From then on nothing is read any more.
    pub until: Option<Instant>,
}

impl Limits {
    pub fn is_late(&self) -> bool {
        self.until.is_some_and(|until| Instant::now() >= until)
    }
}

pub struct Tree {
    root: Root,
    pub limits: Limits,
}

enum Root {
    Folder(Directory),
    Archive(Box<Archive>),
}

impl Tree {
    /// The data directory at `path`, or the one in the archive there.
    pub fn open(path: &Path, limits: Limits) -> anyhow::Result<Tree> {
        let shown = path.display();
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot open {shown}"))?;
        if metadata.is_dir() {
            let folder = Directory::open(path).with_context(|| format!("cannot open {shown}"))?;
            return Ok(Tree::of(folder, limits));
        }
        ensure!(metadata.is_file(), "{shown} is neither a folder nor an archive");
        Ok(Tree { root: Root::Archive(Box::new(Archive::open(path)?)), limits })
    }

    /// A data directory that is open already.
    pub const fn of(folder: Directory, limits: Limits) -> Tree {
        Tree { root: Root::Folder(folder), limits }
    }

    /// An archive may have been made without some files; a folder is all there is.
    pub const fn is_archive(&self) -> bool {
        matches!(self.root, Root::Archive(_))
    }

    /// Shows every entry to `see`, in no order.
    pub fn list(&self, see: &mut dyn FnMut(Entry)) -> anyhow::Result<Listing> {
        let mut listing = Listing::default();
        match &self.root {
            Root::Folder(root) => {
                root.may_list(root.dir())?;
                walk(root, root.dir(), Path::new(""), 0, self.limits, &mut listing, see);
            }
            Root::Archive(archive) => archive.list(self.limits, &mut listing, see)?,
        }
        listing.closed.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(listing)
    }

    /// Opens a file and hands it to `look`, with its size of now. Fails as [`io::ErrorKind::TimedOut`] when the time
    /// is over.
    pub fn read<T>(
        &self,
        entry: &Entry,
        look: impl FnOnce(&mut dyn Source, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        let until = self.limits.until;
        let look = |source: &mut dyn Source, size: u64| look(&mut Timely { source, until }, size);
        if self.limits.is_late() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        match (&self.root, entry.member) {
            (Root::Folder(root), None) => {
                // Not waiting for a writer, should it have become a fifo since it was listed.
                let file = root.open_file(Path::new(&entry.path), OFlags::empty())?;
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(io::Error::other("this is no ordinary file any more"));
                }
                look(&mut Gentle::new(file, u64::MAX), metadata.len())
            }
            (Root::Archive(archive), Some(member)) => archive.read(member, look),
            (Root::Folder(_), Some(_)) | (Root::Archive(_), None) => Err(io::ErrorKind::NotFound.into()),
        }
    }

    /// The first `most` bytes of a file, and its size.
    pub fn beginning(&self, entry: &Entry, most: usize) -> io::Result<(Vec<u8>, u64)> {
        self.read(entry, |source, size| {
            let mut bytes = vec![0; usize::try_from(size).unwrap_or(most).min(most)];
            let mut filled = 0;
            while filled < bytes.len() {
                match source.read(&mut bytes[filled..])? {
                    0 => break,
                    read => filled += read,
                }
            }
            bytes.truncate(filled);
            Ok((bytes, size))
        })
    }
}

fn walk(
    root: &Directory,
    folder: &Dir,
    prefix: &Path,
    depth: usize,
    limits: Limits,
    listing: &mut Listing,
    see: &mut dyn FnMut(Entry),
) {
    let entries = match folder.entries() {
        Ok(entries) => entries,
        Err(error) => {
            listing.closed.push((shown(prefix), error));
            return;
        }
    };
    for entry in entries {
        listing.is_late |= limits.is_late();
        listing.is_cut |= listing.count >= limits.entries;
        if listing.is_late || listing.is_cut {
            return;
        }
        let Ok(entry) = entry else {
            listing.is_cut = true;
            return;
        };
        let path = prefix.join(entry.file_name());
        // One that vanished between the two questions was not there.
        let Ok(metadata) = entry.metadata() else { continue };
        let kind = match metadata.file_type() {
            kind if kind.is_file() => Kind::File,
            kind if kind.is_dir() => Kind::Folder,
            kind if kind.is_symlink() => Kind::Link,
            _ => Kind::Special,
        };
        listing.count += 1;
        see(Entry {
            path: shown(&path),
            is_exact: path.to_str().is_some(),
            kind,
            bytes: if kind == Kind::File { metadata.len() } else { 0 },
            modified: Some(cap_std::fs::MetadataExt::mtime(&metadata)),
            member: None,
        });
        if kind != Kind::Folder {
            continue;
        }
        if depth >= DEPTH {
            listing.is_cut = true;
            continue;
        }
        match entry.open_dir().and_then(|folder| root.may_list(&folder).map(|()| folder)) {
            Ok(folder) => walk(root, &folder, &path, depth + 1, limits, listing, see),
            Err(error) => listing.closed.push((shown(&path), error)),
        }
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}

/// A source that gives nothing any more when the time is over.
struct Timely<'s> {
    source: &'s mut dyn Source,
    until: Option<Instant>,
}

impl Timely<'_> {
    fn in_time(&self) -> io::Result<()> {
        let is_late = self.until.is_some_and(|until| Instant::now() >= until);
        if is_late { Err(io::ErrorKind::TimedOut.into()) } else { Ok(()) }
    }
}

impl Source for Timely<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.in_time()?;
        self.source.read(buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        self.in_time()?;
        self.source.skip(bytes)
    }
}

impl Source for Gentle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Read::read(self, buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        Gentle::skip(self, bytes);
        Ok(())
    }
}

/// A stream as a source: what is skipped is read and dropped.
pub struct Stream<R>(pub R);

impl<R: Read> Source for Stream<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }

    fn skip(&mut self, bytes: u64) -> io::Result<()> {
        let skipped = io::copy(&mut self.0.by_ref().take(bytes), &mut io::sink())?;
        if skipped < bytes { Err(io::ErrorKind::UnexpectedEof.into()) } else { Ok(()) }
    }
}
