//! The files of a data directory, wherever they lie: in a folder, or in an archive of one. Links are not followed,
//! and nothing but ordinary files is opened.

use std::io::{self, Read};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use cap_std::ambient_authority;
use cap_std::fs::{Dir, OpenOptions, OpenOptionsExt as _};

use super::archive::Archive;
use super::gentle::Gentle;
use super::window::Source;

/// Files and folders that are listed, at about 150 B each. A partition has five or more.
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
    pub kind: Kind,
    pub bytes: u64,
    /// Seconds since 1970.
    pub modified: Option<i64>,
    pub place: Place,
}

/// How it is opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Place {
    Path(PathBuf),
    Member(usize),
}

#[derive(Default)]
pub struct Listing {
    pub entries: Vec<Entry>,
    /// Folders that could not be read, and why.
    pub closed: Vec<(String, io::Error)>,
    /// Whether there were more than [`ENTRIES`], or deeper than expected.
    pub is_cut: bool,
}

pub enum Tree {
    Folder(Dir),
    Archive(Box<Archive>),
}

impl Tree {
    /// The data directory at `path`, or the one in the archive there.
    pub fn open(path: &Path) -> anyhow::Result<Tree> {
        let shown = path.display();
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot open {shown}"))?;
        if metadata.is_dir() {
            let folder = Dir::open_ambient_dir(path, ambient_authority())
                .with_context(|| format!("cannot open {shown}"))?;
            return Ok(Tree::Folder(folder));
        }
        ensure!(metadata.is_file(), "{shown} is neither a folder nor an archive");
        Ok(Tree::Archive(Box::new(Archive::open(path)?)))
    }

    /// An archive may have been made without some files; a folder is all there is.
    pub const fn is_archive(&self) -> bool {
        matches!(self, Tree::Archive(_))
    }

    pub fn list(&self) -> anyhow::Result<Listing> {
        let mut listing = match self {
            Tree::Folder(root) => {
                let mut listing = Listing::default();
                walk(root, Path::new(""), 0, &mut listing);
                listing
            }
            Tree::Archive(archive) => archive.list()?,
        };
        listing.entries.sort_by(|one, other| one.path.cmp(&other.path));
        Ok(listing)
    }

    /// Opens a file and hands it to `look`, with its size of now.
    pub fn read<T>(
        &self,
        place: &Place,
        look: impl FnOnce(&mut dyn Source, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        match (self, place) {
            (Tree::Folder(root), Place::Path(path)) => {
                // Not waiting for a writer, should it have become a fifo since it was listed.
                let flags = (rustix::fs::OFlags::NOFOLLOW | rustix::fs::OFlags::NONBLOCK).bits();
                let mut options = OpenOptions::new();
                options.read(true).custom_flags(i32::try_from(flags).unwrap_or_default());
                let file = root.open_with(path, &options)?.into_std();
                let metadata = file.metadata()?;
                if !metadata.is_file() {
                    return Err(io::Error::other("this is no ordinary file any more"));
                }
                look(&mut Gentle::new(file), metadata.len())
            }
            (Tree::Archive(archive), Place::Member(index)) => archive.read(*index, look),
            (Tree::Folder(_), Place::Member(_)) | (Tree::Archive(_), Place::Path(_)) => {
                Err(io::ErrorKind::NotFound.into())
            }
        }
    }

    /// The first `most` bytes of a file, and its size.
    pub fn beginning(&self, place: &Place, most: usize) -> io::Result<(Vec<u8>, u64)> {
        self.read(place, |source, size| {
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

fn walk(folder: &Dir, prefix: &Path, depth: usize, listing: &mut Listing) {
    let entries = match folder.entries() {
        Ok(entries) => entries,
        Err(error) => {
            listing.closed.push((shown(prefix), error));
            return;
        }
    };
    for entry in entries {
        if listing.entries.len() >= ENTRIES {
            listing.is_cut = true;
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
        listing.entries.push(Entry {
            path: shown(&path),
            kind,
            bytes: if kind == Kind::File { metadata.len() } else { 0 },
            modified: Some(cap_std::fs::MetadataExt::mtime(&metadata)),
            place: Place::Path(path.clone()),
        });
        if kind != Kind::Folder {
            continue;
        }
        if depth >= DEPTH {
            listing.is_cut = true;
            continue;
        }
        match entry.open_dir() {
            Ok(folder) => walk(&folder, &path, depth + 1, listing),
            Err(error) => listing.closed.push((shown(&path), error)),
        }
    }
}

fn shown(path: &Path) -> String {
    path.to_string_lossy().into_owned()
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
