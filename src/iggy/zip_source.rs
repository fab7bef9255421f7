//! A data directory in a ZIP: `iggy.zip` as a snapshot writes it, the bundle that holds one, or any archive of the
//! folder. Read in place: nothing is unpacked, and a member's claim asks for no memory.

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, bail};
use zip::{CompressionMethod, ZipArchive};

use super::buffered_reader::Source;
use super::data_source::{ENTRIES, Entry, Kind, Limits, Listing, Stream};

/// The archive of the data directory in a bundle.
const NESTED: &str = "iggy.zip";

pub struct Archive {
    zip: ZipArchive<View>,
    /// What stands before `streams/` in the names of the members.
    prefix: String,
}

impl Archive {
    pub fn open(path: &Path) -> anyhow::Result<Archive> {
        let shown = path.display();
        let file = File::open(path).with_context(|| format!("cannot open {shown}"))?;
        let length = file.metadata()?.len();
        let whole = View { file: Arc::new(file), base: 0, length, position: 0 };
        let not_ours = || format!("{shown} is neither a folder nor a ZIP archive that can be read");
        let zip = ZipArchive::new(whole.clone()).with_context(not_ours)?;
        let zip = match nested(&zip, &whole)? {
            None => zip,
            Some(inner) => {
                ZipArchive::new(inner).with_context(|| format!("cannot read {NESTED} in {shown}"))?
            }
        };
        let prefix = prefix(&zip);
        Ok(Archive { zip, prefix })
    }

    pub fn list(
        &self,
        limits: Limits,
        listing: &mut Listing,
        see: &mut dyn FnMut(Entry),
    ) -> anyhow::Result<()> {
        let mut zip = self.zip.clone();
        listing.is_cut = zip.len() > limits.entries;
        for index in 0..zip.len().min(limits.entries) {
            let member = zip.by_index_raw(index).context("the archive's directory is damaged")?;
            let name = String::from_utf8_lossy(member.name_raw());
            let Some(path) = name.strip_prefix(&self.prefix) else { continue };
            let kind = match () {
                () if member.is_dir() => Kind::Folder,
                () if member.is_symlink() => Kind::Link,
                () => Kind::File,
            };
            listing.count += 1;
            see(Entry {
                path: path.trim_end_matches('/').to_owned(),
                is_exact: true,
                kind,
                bytes: member.size(),
                modified: None,
                member: u32::try_from(index).ok(),
            });
        }
        Ok(())
    }

    pub fn read<T>(
        &self,
        member: u32,
        look: impl FnOnce(&mut dyn Source, u64) -> io::Result<T>,
    ) -> io::Result<T> {
        // The clone shares the archive's directory and has a place in the file of its own.
        let mut zip = self.zip.clone();
        let member = zip.by_index(member as usize).map_err(io::Error::other)?;
        let size = member.size();
        look(&mut Stream(member), size)
    }
}

/// The archive within a bundle, as a view of the same file.
fn nested(zip: &ZipArchive<View>, whole: &View) -> anyhow::Result<Option<View>> {
    let mut zip = zip.clone();
    let Some(index) = zip.index_for_name(NESTED) else { return Ok(None) };
    let member = zip.by_index(index).with_context(|| format!("cannot read {NESTED} in the bundle"))?;
    if member.compression() != CompressionMethod::Stored {
        bail!("{NESTED} is compressed within the bundle: unpack it (unzip BUNDLE {NESTED}) and inspect that");
    }
    let start = member.data_start().with_context(|| format!("the bundle does not say where {NESTED} is"))?;
    let length = member.size().min(whole.length.saturating_sub(start));
    Ok(Some(View { base: start, length, position: 0, file: Arc::clone(&whole.file) }))
}

/// An archive of a folder often begins every name with the folder's own.
fn prefix(zip: &ZipArchive<View>) -> String {
    let names = zip.file_names().filter_map(|name| name.ok());
    let mut found: Option<String> = None;
    for name in names.take(ENTRIES) {
        for part in ["streams/", "metadata/", "state/"] {
            let at = name.starts_with(part).then_some(0);
            let below = || name.find(&format!("/{part}")).map(|at| at + 1);
            if let Some(at) = at.or_else(below)
                && found.as_ref().is_none_or(|found| at < found.len())
            {
                found = Some(name[..at].to_owned());
            }
        }
    }
    found.unwrap_or_default()
}

/// A part of a file, with a place of its own to read at.
#[derive(Clone)]
pub struct View {
    file: Arc<File>,
    base: u64,
    length: u64,
    position: u64,
}

impl Read for View {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = self.length.saturating_sub(self.position);
        let most = usize::try_from(left).unwrap_or(buffer.len()).min(buffer.len());
        let read = self.file.read_at(&mut buffer[..most], self.base + self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

impl Seek for View {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let position = match to {
            SeekFrom::Start(position) => Some(position),
            SeekFrom::End(by) => self.length.checked_add_signed(by),
            SeekFrom::Current(by) => self.position.checked_add_signed(by),
        };
        self.position = position.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(self.position)
    }
}
