//! What lies in the data directory: a walk that cannot be led out of it, and a list that stays small.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::PathBuf;

use cap_std::fs::{Dir, FileTypeExt, MetadataExt};
use warden_platform::user_view::Directory;

use super::Signs;
use super::file_kind::{Content, content};
use super::portable_names::{folded, portable, told_apart};

/// Entries that are listed: 250,000 take 20 MB. Iggy has two files a segment and a few a partition.
pub const ENTRIES: usize = 250_000;
/// Folders in folders: Iggy's are eight deep.
const DEPTH: usize = 64;

/// Why something stays behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    Secret,
    /// No room within the size that was allowed.
    Budget,
    /// It would have filled the filesystem.
    Space,
    /// More entries, or folders in folders, than are listed.
    Limit,
    /// Not one of Iggy's files, and no text that could be masked.
    Unknown,
    /// A document too large to be masked as a whole.
    TooLarge,
    /// Messages, in a bundle that is to name nobody.
    Anonymous,
    Link,
    Fifo,
    Socket,
    Device,
    /// A folder that is also one of those above it.
    Loop,
    Denied,
    Vanished,
    Unreadable,
}

impl Reason {
    pub fn sentence(self) -> &'static str {
        match self {
            Reason::Secret => "holds credentials",
            Reason::Budget => "no room within the size limit",
            Reason::Space => "would have filled the filesystem",
            Reason::Limit => "beyond what is listed",
            Reason::Unknown => "not a file of Iggy's and no text",
            Reason::TooLarge => "too large to be masked",
            Reason::Anonymous => "messages cannot be made anonymous",
            Reason::Link => "a symbolic link",
            Reason::Fifo => "a fifo",
            Reason::Socket => "a socket",
            Reason::Device => "a device",
            Reason::Loop => "a folder that contains itself",
            Reason::Denied => "permission denied",
            Reason::Vanished => "vanished meanwhile",
            Reason::Unreadable => "could not be read",
        }
    }
}

/// One entry: a file, or whatever else was found.
#[derive(Clone, Copy, Debug)]
pub struct Entry {
    folder: u32,
    name: Name,
    pub content: Content,
    /// `None`: taken.
    pub left_out: Option<Reason>,
    pub is_empty_folder: bool,
    pub size: u64,
    /// What is on disk of it, in bytes: less than its size where it has holes.
    pub allocated: u64,
    /// Unix seconds.
    pub modified: i64,
}

/// Where a name stands in the list of all names, and how long it is; the portable name follows where it differs.
#[derive(Clone, Copy, Debug)]
struct Name {
    at: u32,
    length: u16,
    portable_length: u16,
}

struct Folder {
    above: u32,
    name: Name,
}

pub struct Tree {
    pub root: Directory,
    /// In the order of the walk: folder by folder, each sorted by name.
    pub entries: Vec<Entry>,
    folders: Vec<Folder>,
    names: Vec<u8>,
    /// Entries that were not listed any more; those of folders below them are not known.
    pub beyond: u64,
    signs: Signs,
}

const ROOT: u32 = 0;

impl Tree {
    /// Walks everything below `root`. What cannot be seen is listed with the reason.
    pub fn walk(root: Directory, signs: &Signs) -> std::io::Result<Tree> {
        let top = root.dir().try_clone()?;
        root.may_list(&top)?;
        let name = Name { at: 0, length: 0, portable_length: 0 };
        let folders = vec![Folder { above: ROOT, name }];
        let mut tree =
            Tree { root, entries: Vec::new(), folders, names: Vec::new(), beyond: 0, signs: signs.clone() };
        let metadata = top.dir_metadata()?;
        tree.folder(&top, ROOT, &mut vec![(metadata.dev(), metadata.ino())]);
        tree.entries.shrink_to_fit();
        Ok(tree)
    }

    /// Where the entry is on disk, relative to the data directory.
    pub fn path(&self, entry: &Entry) -> PathBuf {
        self.parts(entry).into_iter().map(OsStr::from_bytes).collect()
    }

    /// What the entry is called in the archive.
    pub fn label(&self, entry: &Entry) -> String {
        let mut parts = vec![self.shown(entry.name)];
        let mut folder = entry.folder;
        while folder != ROOT {
            parts.push(self.shown(self.folders[folder as usize].name));
            folder = self.folders[folder as usize].above;
        }
        parts.reverse();
        parts.join("/")
    }

    /// Whether it has another name in the archive than on disk.
    pub fn is_renamed(&self, entry: &Entry) -> bool {
        let mut folder = entry.folder;
        let mut renamed = entry.name.portable_length > 0;
        while folder != ROOT {
            renamed |= self.folders[folder as usize].name.portable_length > 0;
            folder = self.folders[folder as usize].above;
        }
        renamed
    }

    /// Of entries of the same folder it is the same.
    pub fn folder_of(&self, entry: &Entry) -> u32 {
        entry.folder
    }

    fn parts(&self, entry: &Entry) -> Vec<&[u8]> {
        let mut parts = vec![self.raw(entry.name)];
        let mut folder = entry.folder;
        while folder != ROOT {
            parts.push(self.raw(self.folders[folder as usize].name));
            folder = self.folders[folder as usize].above;
        }
        parts.reverse();
        parts
    }

    fn raw(&self, name: Name) -> &[u8] {
        &self.names[name.at as usize..][..name.length.into()]
    }

    fn shown(&self, name: Name) -> &str {
        let (at, length) = match name.portable_length {
            0 => (name.at as usize, name.length),
            length => (name.at as usize + usize::from(name.length), length),
        };
        std::str::from_utf8(&self.names[at..][..length.into()]).unwrap_or_default()
    }

    fn keep(&mut self, raw: &[u8], taken: &mut BTreeSet<String>) -> Name {
        let mut other = portable(raw);
        let shown = other.as_deref().or_else(|| std::str::from_utf8(raw).ok()).unwrap_or_default();
        if !taken.insert(folded(shown).into_owned()) {
            let free =
                (2..).map(|number| told_apart(shown, number)).find(|name| !taken.contains(&*folded(name)));
            let free = free.unwrap_or_default();
            taken.insert(folded(&free).into_owned());
            other = Some(free);
        }
        let at = self.names.len() as u32;
        self.names.extend(raw);
        let other = other.unwrap_or_default();
        self.names.extend(other.as_bytes());
        Name { at, length: raw.len() as u16, portable_length: other.len() as u16 }
    }

    fn folder(&mut self, dir: &Dir, number: u32, above: &mut Vec<(u64, u64)>) {
        let Ok(listing) = dir.entries() else { return };
        let mut names: Vec<Box<[u8]>> = Vec::new();
        for entry in listing.flatten() {
            self.signs.give();
            if self.entries.len() + names.len() >= ENTRIES {
                self.beyond += 1;
            } else {
                names.push(entry.file_name().into_vec().into_boxed_slice());
            }
        }
        names.sort_unstable();
        // Names of the archive's own at its root.
        let mut taken = BTreeSet::from([super::inventory::MEMBER.to_owned()]);
        for raw in &names {
            let name = self.keep(raw, &mut taken);
            self.entry(dir, number, name, above);
        }
    }

    fn entry(&mut self, dir: &Dir, folder: u32, name: Name, above: &mut Vec<(u64, u64)>) {
        let mut entry = Entry {
            folder,
            name,
            content: Content::Other,
            left_out: None,
            is_empty_folder: false,
            size: 0,
            allocated: 0,
            modified: 0,
        };
        let raw = PathBuf::from(OsStr::from_bytes(self.raw(name)));
        let looked_at = dir.symlink_metadata(&raw);
        self.signs.give();
        let metadata = match looked_at {
            Ok(metadata) => metadata,
            Err(error) => {
                entry.left_out = Some(reason_of(&error));
                return self.entries.push(entry);
            }
        };
        let kind = metadata.file_type();
        entry.modified = metadata.mtime();
        entry.left_out = match () {
            () if kind.is_dir() => return self.below(dir, &raw, entry, above),
            () if kind.is_file() => None,
            () if kind.is_symlink() => Some(Reason::Link),
            () if kind.is_fifo() => Some(Reason::Fifo),
            () if kind.is_socket() => Some(Reason::Socket),
            () => Some(Reason::Device),
        };
        if kind.is_file() {
            entry.size = metadata.size();
            entry.allocated = metadata.blocks().saturating_mul(512).min(entry.size);
            entry.content = content(&self.parts(&entry));
        }
        self.entries.push(entry);
    }

    fn below(&mut self, dir: &Dir, raw: &std::path::Path, mut entry: Entry, above: &mut Vec<(u64, u64)>) {
        let opened = dir.open_dir(raw).and_then(|dir| {
            self.root.may_list(&dir)?;
            dir.dir_metadata().map(|metadata| (dir, metadata))
        });
        let (dir, metadata) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                entry.left_out = Some(reason_of(&error));
                return self.entries.push(entry);
            }
        };
        let identity = (metadata.dev(), metadata.ino());
        if above.contains(&identity) || above.len() >= DEPTH {
            entry.left_out = Some(if above.len() >= DEPTH { Reason::Limit } else { Reason::Loop });
            return self.entries.push(entry);
        }
        let number = self.folders.len() as u32;
        self.folders.push(Folder { above: entry.folder, name: entry.name });
        let (before, beyond) = (self.entries.len(), self.beyond);
        above.push(identity);
        self.folder(&dir, number, above);
        above.pop();
        if self.entries.len() == before && self.beyond == beyond {
            entry.is_empty_folder = true;
            self.entries.push(entry);
        }
    }
}

pub fn reason_of(error: &std::io::Error) -> Reason {
    let kind = error.kind();
    if kind == std::io::ErrorKind::NotFound {
        Reason::Vanished
    } else if kind == std::io::ErrorKind::PermissionDenied {
        Reason::Denied
    } else {
        Reason::Unreadable
    }
}
