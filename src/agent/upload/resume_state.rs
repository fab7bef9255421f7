//! Which parts of an archive have arrived, noted beside it.

use std::collections::BTreeMap;
use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use warden_protocol::PartTag;

#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(super) struct Progress {
    /// None: it goes whole, or nothing was granted yet.
    part_bytes: Option<u64>,
    /// Tags by number.
    arrived: BTreeMap<u32, String>,
    whole: bool,
}

impl Progress {
    /// What is noted of the archive. Notes that cannot be read cost sending again.
    pub(super) fn read(archive: &Path) -> Progress {
        let text = fs::read(notes(archive)).unwrap_or_default();
        serde_json::from_slice(&text).unwrap_or_default()
    }

    /// Not synced: what a power cut takes of it is sent again.
    pub(super) fn write(&self, archive: &Path) -> std::io::Result<()> {
        let (notes, fresh) = (notes(archive), archive.with_extension("upload.new"));
        let mut file =
            fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
        file.write_all(&serde_json::to_vec(self)?)?;
        fs::rename(fresh, notes)
    }

    /// Parts of another size are parts of another upload: nothing of it has arrived.
    pub(super) fn granted(&mut self, part_bytes: Option<u64>) {
        if self.part_bytes != part_bytes {
            *self = Progress { part_bytes, ..Progress::default() };
        }
    }

    pub(super) fn arrived(&mut self, number: u32, etag: String) {
        match self.part_bytes {
            Some(_) => drop(self.arrived.insert(number, etag)),
            None => self.whole = true,
        }
    }

    pub(super) fn has(&self, number: u32) -> bool {
        self.whole || self.arrived.contains_key(&number)
    }

    pub(super) fn is_whole(&self, size: u64) -> bool {
        self.whole || self.part_bytes.is_some_and(|_| self.missing(size).is_empty())
    }

    /// Numbers of the parts that have not arrived; empty before the first grant as well.
    pub(super) fn missing(&self, size: u64) -> Vec<u32> {
        let count = self.part_bytes.map_or(0, |bytes| size.div_ceil(bytes.max(1)) as u32);
        (1..=count).filter(|number| !self.arrived.contains_key(number)).collect()
    }

    pub(super) fn bytes(&self, size: u64) -> u64 {
        let Some(part) = self.part_bytes else { return if self.whole { size } else { 0 } };
        let bytes = |number: &u32| size.saturating_sub(u64::from(number - 1) * part).min(part);
        self.arrived.keys().map(bytes).sum()
    }

    pub(super) fn tags(&self) -> Vec<PartTag> {
        let tag = |(number, etag): (&u32, &String)| PartTag { number: *number, etag: etag.clone() };
        self.arrived.iter().map(tag).collect()
    }
}

pub(super) fn forget(archive: &Path) -> std::io::Result<()> {
    match fs::remove_file(notes(archive)) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

fn notes(archive: &Path) -> PathBuf {
    archive.with_extension("upload")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_arrived_is_known_again_and_torn_notes_cost_only_sending_again() {
        let folder = tempfile::tempdir().unwrap();
        let archive = folder.path().join("7.zip");
        let mut progress = Progress::read(&archive);
        assert_eq!((progress.missing(25), progress.bytes(25), progress.is_whole(25)), (vec![], 0, false));
        progress.granted(Some(10));
        progress.arrived(3, "\"c\"".into());
        progress.arrived(1, "\"a\"".into());
        progress.write(&archive).unwrap();
        let mut progress = Progress::read(&archive);
        assert_eq!((progress.missing(25), progress.bytes(25), progress.is_whole(25)), (vec![2], 15, false));
        progress.arrived(2, "\"b\"".into());
        assert!(progress.is_whole(25));
        assert_eq!(
            progress.tags().iter().map(|tag| tag.etag.as_str()).collect::<String>(),
            "\"a\"\"b\"\"c\""
        );
        fs::write(folder.path().join("7.upload"), "{\"part_bytes\":10,\"arri").unwrap();
        assert_eq!(Progress::read(&archive), Progress::default());
        forget(&archive).unwrap();
        forget(&archive).unwrap();
    }

    #[test]
    fn parts_of_another_size_begin_anew() {
        let mut progress = Progress::default();
        progress.granted(Some(10));
        progress.arrived(1, String::new());
        progress.granted(Some(10));
        assert!(progress.has(1));
        progress.granted(Some(20));
        assert!(!progress.has(1));
    }
}
