//! An upload to the folder: parts written at their places, told in a list beside them, made an object at the end.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::num::NonZeroU64;
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard};

use warden_platform::sha256::{self, Digest, Sha256, hex};
use warden_platform::{background_io, syscalls};

use super::super::{Announced, Begun, Error, Key};
use super::{Local, remove};

/// Read at once when what has arrived is hashed.
const BLOCK: usize = 256 << 10;

/// Uploads that somebody brings parts of, or that are being finished or given up.
pub(super) type Running = HashMap<Key, Arc<Upload>>;

/// One upload, shared by all connections that bring parts of it.
#[derive(Default)]
pub(super) struct Upload {
    /// Finished or given up. A connection that was held up on its way may still bring what was never asked for again,
    /// or something else: not a byte of it reaches the archive. Who writes holds it.
    over: RwLock<bool>,
    parts: Mutex<Parts>,
    hashed: Mutex<Hashed>,
}

/// Parts that came, or are coming, since this process runs.
#[derive(Default)]
struct Parts {
    coming: Vec<u32>,
    /// Whole and on disk: offset and length.
    there: BTreeMap<u32, (u64, u64)>,
    /// One came twice, and may have brought something else under what is hashed: the archive is hashed from disk.
    twice: bool,
}

/// Of the first parts, in their order; it follows what arrives while it is still in the page cache, and takes it out of
/// there: that memory is Iggy's, if it runs on this host.
#[derive(Default)]
struct Hashed {
    parts: u32,
    sha256: Sha256,
}

impl Upload {
    /// Until it is let go, the upload is not over.
    fn still_wanted(&self) -> Option<RwLockReadGuard<'_, bool>> {
        let over = self.over.read().unwrap_or_else(PoisonError::into_inner);
        (!*over).then_some(over)
    }

    fn parts(&self) -> MutexGuard<'_, Parts> {
        self.parts.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Hashes what has arrived and follows what is hashed.
    fn hash(&self, partial: &Path, hashed: &mut Hashed) -> std::io::Result<()> {
        let mut block = Vec::new();
        let next = |hashed: &Hashed| self.parts().there.get(&(hashed.parts + 1)).copied();
        while let Some((part, length)) = next(hashed) {
            let (file, mut offset, end) = (File::open(partial)?, part, part + length);
            // If it cannot be read to its end, it is as if it had not been begun.
            let mut sha256 = hashed.sha256.clone();
            while offset < end {
                block.resize(BLOCK.min((end - offset) as usize), 0);
                file.read_exact_at(&mut block, offset)?;
                sha256.update(&block);
                offset += block.len() as u64;
            }
            background_io::forget_from(&file, part, NonZeroU64::new(length));
            hashed.sha256 = sha256;
            hashed.parts += 1;
        }
        Ok(())
    }

    /// Of all `count` parts, if each came once.
    fn digest(&self, partial: &Path, count: u32) -> Option<Digest> {
        let mut hashed = self.hashed.lock().unwrap_or_else(PoisonError::into_inner);
        if self.parts().twice {
            return None;
        }
        self.hash(partial, &mut hashed).ok()?;
        (hashed.parts == count).then(|| hashed.sha256.clone().finish())
    }
}

/// One part being written.
pub(super) struct Part {
    partial: PathBuf,
    number: u32,
    file: File,
    offset: u64,
    length: u64,
    upload: Coming,
}

/// Counts the part among those that are coming.
struct Coming(Arc<Upload>, u32);

impl Drop for Coming {
    fn drop(&mut self) {
        let mut parts = self.0.parts();
        if let Some(at) = parts.coming.iter().position(|number| *number == self.1) {
            parts.coming.swap_remove(at);
        }
    }
}

/// The upload is over: its part is not wanted any more.
pub(super) struct Over;

/// A part is whole; what it brought can be hashed.
pub(super) struct Arrived {
    upload: Arc<Upload>,
    partial: PathBuf,
}

impl Part {
    pub(super) fn begin(
        local: &Local,
        key: Key,
        number: u32,
        offset: u64,
    ) -> std::io::Result<Result<Part, Over>> {
        let upload = Arc::clone(local.running().entry(key).or_default());
        let coming = {
            let Some(_wanted) = upload.still_wanted() else { return Ok(Err(Over)) };
            let mut parts = upload.parts();
            parts.twice |= parts.coming.contains(&number) || parts.there.contains_key(&number);
            parts.coming.push(number);
            Coming(Arc::clone(&upload), number)
        };
        let partial = local.partial(key);
        // Never made here: an address outlives its upload, and must leave nothing behind.
        let file = match fs::OpenOptions::new().write(true).open(&partial) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Err(Over)),
            Err(error) => return Err(error),
        };
        Ok(Ok(Part { partial, number, file, offset, length: 0, upload: coming }))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<Result<(), Over>> {
        let at = self.offset + self.length;
        {
            let Some(_wanted) = self.upload.0.still_wanted() else { return Ok(Err(Over)) };
            self.file.write_all_at(bytes, at)?;
        }
        // The disk works while the network does, and the end has little to wait for.
        syscalls::begin_writing(&self.file, at, bytes.len() as u64);
        self.length += bytes.len() as u64;
        Ok(Ok(()))
    }

    /// The part is whole: on disk, and in the list.
    pub(super) fn end(self) -> std::io::Result<Result<Arrived, Over>> {
        self.file.sync_data()?;
        let upload = Arc::clone(&self.upload.0);
        {
            let Some(_wanted) = upload.still_wanted() else { return Ok(Err(Over)) };
            let mut list = fs::OpenOptions::new()
                .append(true)
                .create(true)
                .mode(0o600)
                .open(self.partial.with_extension("parts"))?;
            // Two parts that end together do not mix: who adds to the list holds the parts.
            let mut parts = upload.parts();
            let before = list.metadata()?.len();
            let written =
                list.write_all(format!("{}\n", self.number).as_bytes()).and_then(|()| list.sync_data());
            if let Err(error) = written {
                // A full disk takes some of a line, and the next one would go on in it.
                list.set_len(before)?;
                return Err(error);
            }
            parts.there.insert(self.number, (self.offset, self.length));
        }
        let partial = self.partial.clone();
        Ok(Ok(Arrived { upload, partial }))
    }
}

impl Arrived {
    /// Hashes it, unless somebody is hashing the parts before it: whoever comes last takes it along. What cannot be
    /// read now is read, and told, at the end.
    pub(super) fn hash(self) {
        if let Ok(mut hashed) = self.upload.hashed.try_lock() {
            let _ = self.upload.hash(&self.partial, &mut hashed);
        }
    }
}

/// Makes the file that parts are written to.
pub(super) fn open(local: &Local, key: Key) -> Result<(), Error> {
    let partial = local.partial(key);
    let folder = partial.parent().unwrap_or(Path::new("/"));
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(folder);
    let mut options = fs::OpenOptions::new();
    made.and_then(|()| options.write(true).create(true).truncate(true).mode(0o600).open(&partial))
        .map(drop)
        .map_err(|error| Error::Unavailable(format!("{}: {error}", key.path())))
}

pub(super) fn finish(local: &Local, key: Key, announced: &Announced, begun: &Begun) -> Result<(), Error> {
    let upload = end(local, key);
    let digest = upload.digest(&local.partial(key), parts(announced, begun));
    let finished = name(local, key, announced, begun, digest);
    local.running().remove(&key);
    finished
}

/// From now on nobody writes to the upload, until it is out of the list.
fn end(local: &Local, key: Key) -> Arc<Upload> {
    let upload = Arc::clone(local.running().entry(key).or_default());
    *upload.over.write().unwrap_or_else(PoisonError::into_inner) = true;
    upload
}

fn parts(announced: &Announced, begun: &Begun) -> u32 {
    match begun {
        Begun::Whole => 1,
        Begun::Parts { part_bytes, .. } => announced.size.div_ceil((*part_bytes).max(1)) as u32,
    }
}

/// Gives what has arrived its name, if it is what was announced.
fn name(
    local: &Local,
    key: Key,
    announced: &Announced,
    begun: &Begun,
    arrived: Option<Digest>,
) -> Result<(), Error> {
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
    let count = parts(announced, begun);
    let there = parts_of(&partial.with_extension("parts")).map_err(unavailable)?;
    if let Some(missing) = (1..=count).find(|number| !there.contains(number)) {
        return Err(Error::Missing(format!("part {missing} of {count}")));
    }
    let size = fs::metadata(&partial).map_err(unavailable)?.len();
    let digest = match arrived {
        Some(digest) if size == announced.size => Some(digest),
        _ => hash_of(&partial, announced.size).map_err(unavailable)?,
    };
    if digest != Some(announced.sha256) {
        remove_partial(local, key)?;
        let reason = match digest {
            Some(digest) => format!("SHA-256 {}, announced {}", hex(&digest), hex(&announced.sha256)),
            None => format!("{size} bytes, announced {}", announced.size),
        };
        return Err(Error::Mismatch(reason));
    }
    let folder = object.parent().unwrap_or(Path::new("/"));
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(unavailable)?;
    let file = File::open(&partial).map_err(unavailable)?;
    file.sync_all().map_err(unavailable)?;
    background_io::forget(&file);
    fs::rename(&partial, &object).map_err(unavailable)?;
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(unavailable)?;
    remove(&partial.with_extension("parts"))
}

/// Removes what has arrived.
pub(super) fn forget(local: &Local, key: Key) -> Result<(), Error> {
    end(local, key);
    let forgotten = remove_partial(local, key);
    local.running().remove(&key);
    forgotten
}

fn remove_partial(local: &Local, key: Key) -> Result<(), Error> {
    let partial = local.partial(key);
    remove(&partial.with_extension("parts"))?;
    remove(&partial)
}

/// Numbers of the parts in the list. A torn last line is of a part that did not end.
fn parts_of(list: &Path) -> std::io::Result<BTreeSet<u32>> {
    let text = match fs::read_to_string(list) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        Err(error) => return Err(error),
    };
    let whole = text.rsplit_once('\n').map_or("", |(whole, _)| whole);
    // A list of an older Supervisor has more in a line.
    Ok(whole.lines().filter_map(|line| line.split(' ').next()?.parse().ok()).collect())
}

/// Of a file of that size; none of one with another.
fn hash_of(path: &Path, size: u64) -> std::io::Result<Option<Digest>> {
    let file = File::open(path)?;
    if file.metadata()?.len() != size {
        return Ok(None);
    }
    Ok(Some(sha256::of(file)?.1))
}
