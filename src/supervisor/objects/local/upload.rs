//! An upload to the folder: parts written at their places, told in a list beside them, made an object at the end.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::Path;

use sha2::{Digest, Sha256};

use super::super::{Announced, Begun, Error, Key, Sha256Digest, hex};
use super::{Local, remove};

/// Read at once when an archive must be hashed from disk.
const BLOCK: usize = 1 << 20;

/// For each upload whose parts came in order so far: the next part, and the hash up to it. One that is not here, or
/// whose parts came otherwise, is hashed from disk at the end.
pub(super) type Running = HashMap<Key, (u32, Sha256)>;

/// One part being written.
pub(super) struct Part {
    local: Local,
    key: Key,
    number: u32,
    file: File,
    offset: u64,
    hash: Sha256,
    /// Of the archive up to and with this part, if all before it is known.
    whole: Option<Sha256>,
}

impl Part {
    pub(super) fn begin(local: &Local, key: Key, number: u32, offset: u64) -> std::io::Result<Part> {
        let path = local.partial(key);
        if let Some(folder) = path.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let file = fs::OpenOptions::new().write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let running = local.0.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
        let whole = match running.get(&key) {
            _ if number == 1 => Some(Sha256::new()),
            Some((next, hash)) if *next == number => Some(hash.clone()),
            _ => None,
        };
        drop(running);
        let local = local.clone();
        Ok(Part { local, key, number, file, offset, hash: Sha256::new(), whole })
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<()> {
        self.file.write_all_at(bytes, self.offset)?;
        self.offset += bytes.len() as u64;
        self.hash.update(bytes);
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        Ok(())
    }

    /// The part is whole: on disk, and in the list. Returns its SHA-256.
    pub(super) fn end(self) -> std::io::Result<Sha256Digest> {
        self.file.sync_data()?;
        let digest: Sha256Digest = self.hash.finalize().into();
        let mut list = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.local.partial(self.key).with_extension("parts"))?;
        // One write of one line: two parts that end together do not mix.
        list.write_all(format!("{} {}\n", self.number, hex(&digest)).as_bytes())?;
        list.sync_data()?;
        if let Some(whole) = self.whole {
            let mut running = self.local.0.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            running.insert(self.key, (self.number + 1, whole));
        }
        Ok(digest)
    }
}

pub(super) fn finish(local: &Local, key: Key, announced: &Announced, begun: &Begun) -> Result<(), Error> {
    let (object, partial) = (local.object(key), local.partial(key));
    let unavailable = |error: std::io::Error| Error::Unavailable(format!("{}: {error}", key.path()));
    if !partial.exists() && object.exists() {
        // Finished before, by a Supervisor that died before it could say so.
        let digest = hash_of(&object, announced.size).map_err(unavailable)?;
        return if digest == Some(announced.sha256) {
            Ok(())
        } else {
            Err(Error::Mismatch("another archive has this name".to_owned()))
        };
    }
    let count = match begun {
        Begun::Whole => 1,
        Begun::Parts { part_bytes, .. } => announced.size.div_ceil((*part_bytes).max(1)) as u32,
    };
    let there = parts_of(&partial.with_extension("parts")).map_err(unavailable)?;
    if let Some(missing) = (1..=count).find(|number| !there.contains_key(number)) {
        return Err(Error::Missing(format!("part {missing} of {count}")));
    }
    let running = local.0.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&key);
    let size = fs::metadata(&partial).map_err(unavailable)?.len();
    let digest = match running {
        Some((next, hash)) if next == count + 1 && size == announced.size => Some(hash.finalize().into()),
        _ => hash_of(&partial, announced.size).map_err(unavailable)?,
    };
    if digest != Some(announced.sha256) {
        forget(local, key)?;
        let reason = match digest {
            Some(digest) => format!("SHA-256 {}, announced {}", hex(&digest), hex(&announced.sha256)),
            None => format!("{size} bytes, announced {}", announced.size),
        };
        return Err(Error::Mismatch(reason));
    }
    let folder = object.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unavailable)?;
    File::open(&partial).and_then(|file| file.sync_all()).map_err(unavailable)?;
    fs::rename(&partial, &object).map_err(unavailable)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unavailable)?;
    remove(&partial.with_extension("parts"))
}

pub(super) fn forget(local: &Local, key: Key) -> Result<(), Error> {
    local.0.running.lock().unwrap_or_else(std::sync::PoisonError::into_inner).remove(&key);
    let partial = local.partial(key);
    remove(&partial.with_extension("parts"))?;
    remove(&partial)
}

/// Parts in the list, by number. A torn last line is of a part that did not end.
fn parts_of(list: &Path) -> std::io::Result<BTreeMap<u32, String>> {
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    let part = |line: &str| {
        let (number, digest) = line.split_once(' ')?;
        Some((number.parse().ok()?, digest.to_owned()))
    };
    Ok(whole.lines().filter_map(part).collect())
}

/// Of a file of that size; none of one with another.
fn hash_of(path: &Path, size: u64) -> std::io::Result<Option<Sha256Digest>> {
    let mut file = File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(None);
    }
    let mut hash = Sha256::new();
    let mut block = vec![0; BLOCK];
    loop {
        match file.read(&mut block)? {
            0 => return Ok(Some(hash.finalize().into())),
            read => hash.update(&block[..read]),
        }
    }
}
