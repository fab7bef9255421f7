//! An upload to the folder: parts written at their places, told in a list beside them, made an object at the end.

use std::collections::{BTreeSet, HashMap};
use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};

use super::super::{Announced, Begun, Error, Key, Sha256Digest, hex};
use super::{Local, remove};

/// Read at once when an archive must be hashed from disk.
const BLOCK: usize = 1 << 20;

/// Uploads that somebody brings parts of, or that are being finished or given up.
pub(super) type Running = HashMap<Key, Arc<Upload>>;

/// One upload, shared by all connections that bring parts of it.
#[derive(Default)]
pub(super) struct Upload(Mutex<State>);

struct State {
    /// Finished or given up. A connection that was held up on its way may still bring what was never asked for again,
    /// or something else: not a byte of it reaches the archive.
    over: bool,
    /// Connections that bring a part.
    writers: u32,
    next: u32,
    /// Of all parts before the next, while each came once and alone. Without it the archive is hashed from disk.
    hash: Option<Sha256>,
}

impl Default for State {
    fn default() -> State {
        State { over: false, writers: 0, next: 1, hash: Some(Sha256::new()) }
    }
}

impl Upload {
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One part being written.
pub(super) struct Part {
    partial: PathBuf,
    number: u32,
    file: File,
    offset: u64,
    /// Of the archive up to and with this part, if all before it is known.
    whole: Option<Sha256>,
    upload: Writing,
}

/// Counts one connection that writes.
struct Writing(Arc<Upload>);

impl Drop for Writing {
    fn drop(&mut self) {
        self.0.state().writers -= 1;
    }
}

/// The upload is over: its part is not wanted any more.
pub(super) struct Over;

impl Part {
    pub(super) fn begin(
        local: &Local,
        key: Key,
        number: u32,
        offset: u64,
    ) -> std::io::Result<Result<Part, Over>> {
        let upload = Arc::clone(local.running().entry(key).or_default());
        let mut state = upload.state();
        if state.over {
            return Ok(Err(Over));
        }
        state.writers += 1;
        if state.writers > 1 || state.next != number {
            state.hash = None;
        }
        let whole = state.hash.clone();
        drop(state);
        let upload = Writing(upload);
        let partial = local.partial(key);
        if let Some(folder) = partial.parent() {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder)?;
        }
        let mut options = fs::OpenOptions::new();
        let file = options.write(true).create(true).truncate(false).mode(0o600).open(&partial)?;
        Ok(Ok(Part { partial, number, file, offset, whole, upload }))
    }

    pub(super) fn write(&mut self, bytes: &[u8]) -> std::io::Result<Result<(), Over>> {
        {
            let state = self.upload.0.state();
            if state.over {
                return Ok(Err(Over));
            }
            self.file.write_all_at(bytes, self.offset)?;
        }
        self.offset += bytes.len() as u64;
        if let Some(whole) = &mut self.whole {
            whole.update(bytes);
        }
        Ok(Ok(()))
    }

    /// The part is whole: on disk, and in the list.
    pub(super) fn end(self) -> std::io::Result<Result<(), Over>> {
        self.file.sync_data()?;
        let mut state = self.upload.0.state();
        if state.over {
            return Ok(Err(Over));
        }
        let mut list = fs::OpenOptions::new()
            .append(true)
            .create(true)
            .mode(0o600)
            .open(self.partial.with_extension("parts"))?;
        // One write of one line: two parts that end together do not mix.
        list.write_all(format!("{}\n", self.number).as_bytes())?;
        list.sync_data()?;
        // Another that came meanwhile took the hash away.
        if state.hash.is_some() {
            state.hash = self.whole;
            state.next = self.number + 1;
        }
        drop(state);
        Ok(Ok(()))
    }
}

pub(super) fn finish(local: &Local, key: Key, announced: &Announced, begun: &Begun) -> Result<(), Error> {
    let (next, hash) = end(local, key);
    let hash = hash.filter(|_| next == parts(announced, begun) + 1);
    let finished = name(local, key, announced, begun, hash);
    local.running().remove(&key);
    finished
}

/// From now on nobody writes to the upload, until it is out of the list. Returns the hash of the parts before `next`.
fn end(local: &Local, key: Key) -> (u32, Option<Sha256>) {
    let upload = Arc::clone(local.running().entry(key).or_default());
    let mut state = upload.state();
    state.over = true;
    (state.next, state.hash.take())
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
    hash: Option<Sha256>,
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
    let digest = match hash {
        Some(hash) if size == announced.size => Some(hash.finalize().into()),
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
    File::open(&partial).and_then(|file| file.sync_all()).map_err(unavailable)?;
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
