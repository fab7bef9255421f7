//! Archives in a folder of the Supervisor's own, behind addresses that it signs itself.
//!
//! An address is good for one verb, one object, one size, one place in it, and a while: HMAC-SHA256 over all of
//! them, with a key that never leaves the folder. Nothing can be listed. An upload is written at its place in one
//! file below `.partial`, which is made when it begins, and moved to its name when all of it is there and is what was
//! announced. Without that file, and when nobody waits for the upload any more, its addresses are worth nothing.

mod http;
mod upload;

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use hmac::{Hmac, KeyInit, Mac};
pub use http::{Wanted, routes};
use ring::rand::{SecureRandom, SystemRandom};
use sha2::Sha256;
use warden_platform::sha256::hex;
use warden_protocol::Put;

use super::{Announced, Begun, DOWNLOAD_LIFE, Error, GRANT_LIFE, Key};

/// Where the addresses lie below the Supervisor's own.
pub const PATH: &str = "/objects";
/// Left free on the filesystem of the folder, whatever is uploaded.
const RESERVE: u64 = 256 << 20;
const KEY_FILE: &str = ".signing-key";
const PARTIAL: &str = ".partial";

/// A folder of archives.
#[derive(Debug, Clone)]
pub struct Local(Arc<Inner>);

struct Inner {
    folder: PathBuf,
    signing_key: [u8; 32],
    running: Mutex<upload::Running>,
}

/// What an address allows. Each field is in the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Allowed {
    verb: Verb,
    key: Key,
    /// Seconds since 1970 UTC.
    expires: i64,
    /// Of a PUT: how many bytes, exactly; of a GET nought.
    size: u64,
    part: u32,
    offset: u64,
    /// Of a GET: what the browser shall call it.
    name: String,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Verb {
    Get,
    Put,
}

impl Local {
    /// Takes the folder, and makes it and its key if they are not there.
    ///
    /// # Errors
    /// The folder cannot be made or read.
    pub fn open(folder: &Path) -> anyhow::Result<Local> {
        use anyhow::Context;
        let tell = || format!("cannot keep archives in {}", folder.display());
        fs::DirBuilder::new().recursive(true).mode(0o700).create(folder.join(PARTIAL)).with_context(tell)?;
        let signing_key = signing_key(&folder.join(KEY_FILE)).with_context(tell)?;
        Ok(Local(Arc::new(Inner { folder: folder.to_owned(), signing_key, running: Mutex::default() })))
    }

    pub(super) fn put(&self, key: Key, size: u64, part: u32, offset: u64, now: jiff::Timestamp) -> Put {
        let expires = now.as_second() + GRANT_LIFE.as_secs() as i64;
        let allowed = Allowed { verb: Verb::Put, key, expires, size, part, offset, name: String::new() };
        Put { url: self.address(&allowed), headers: Vec::new() }
    }

    pub(super) fn get(&self, key: Key, name: &str, now: jiff::Timestamp) -> String {
        let expires = now.as_second() + DOWNLOAD_LIFE.as_secs() as i64;
        let name = name.to_owned();
        self.address(&Allowed { verb: Verb::Get, key, expires, size: 0, part: 0, offset: 0, name })
    }

    pub(super) fn begin(&self, key: Key, announced: &Announced) -> Result<(), Error> {
        self.room_for(announced.size)?;
        self.abort(key)?;
        upload::open(self, key)
    }

    pub(super) fn resume(&self, key: Key, announced: &Announced) -> Result<(), Error> {
        if self.partial(key).exists() { Ok(()) } else { self.begin(key, announced) }
    }

    pub(super) async fn finish(&self, key: Key, announced: &Announced, begun: &Begun) -> Result<(), Error> {
        let (local, announced, begun) = (self.clone(), *announced, begun.clone());
        tokio::task::spawn_blocking(move || upload::finish(&local, key, &announced, &begun))
            .await
            .map_err(|error| Error::Unavailable(error.to_string()))?
    }

    pub(super) fn abort(&self, key: Key) -> Result<(), Error> {
        upload::forget(self, key)
    }

    pub(super) fn delete(&self, key: Key) -> Result<(), Error> {
        self.abort(key)?;
        remove(&self.object(key))
    }

    pub(super) fn ready(&self) -> Result<(), Error> {
        self.room_for(0)
    }

    /// Uploads and objects on disk, so that those nobody knows any more can be removed.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn kept(&self) -> std::io::Result<Vec<Key>> {
        let mut keys = Vec::new();
        for folder in [self.0.folder.clone(), self.0.folder.join(PARTIAL)] {
            for deployment in fs::read_dir(folder)? {
                let deployment = deployment?;
                if !deployment.file_type()?.is_dir() || deployment.file_name() == PARTIAL {
                    continue;
                }
                for object in fs::read_dir(deployment.path())? {
                    let path = format!(
                        "{}/{}",
                        deployment.file_name().to_string_lossy(),
                        object?.file_name().to_string_lossy()
                    );
                    keys.extend(Key::from_path(&path));
                }
            }
        }
        Ok(keys)
    }

    fn running(&self) -> MutexGuard<'_, upload::Running> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn object(&self, key: Key) -> PathBuf {
        self.0.folder.join(key.path())
    }

    fn partial(&self, key: Key) -> PathBuf {
        self.0.folder.join(PARTIAL).join(key.path())
    }

    fn room_for(&self, size: u64) -> Result<(), Error> {
        let about = nix::sys::statvfs::statvfs(&self.0.folder)
            .map_err(|error| Error::Unavailable(format!("{}: {error}", self.0.folder.display())))?;
        let free = about.blocks_available() * about.fragment_size();
        if free < size.saturating_add(RESERVE) {
            let needed = size.saturating_add(RESERVE);
            return Err(Error::Full(format!("{free} bytes are free, {needed} are needed")));
        }
        Ok(())
    }

    fn address(&self, allowed: &Allowed) -> String {
        let signature = hex(&self.mac(allowed).finalize().into_bytes());
        let query = url::form_urlencoded::Serializer::new(String::new())
            .append_pair("expires", &allowed.expires.to_string())
            .append_pair("size", &allowed.size.to_string())
            .append_pair("part", &allowed.part.to_string())
            .append_pair("offset", &allowed.offset.to_string())
            .append_pair("name", &allowed.name)
            .append_pair("signature", &signature)
            .finish();
        format!("{PATH}/{}?{query}", allowed.key.path())
    }

    /// Whether the address is one of ours, in time that does not depend on where it is not.
    fn is_signed(&self, allowed: &Allowed, signature: &[u8]) -> bool {
        self.mac(allowed).verify_slice(signature).is_ok()
    }

    fn mac(&self, allowed: &Allowed) -> Hmac<Sha256> {
        let Allowed { verb, key, expires, size, part, offset, name } = allowed;
        let verb = match verb {
            Verb::Get => "GET",
            Verb::Put => "PUT",
        };
        // The name comes last: it alone could hold a line feed.
        let text = format!("{verb}\n{}\n{expires}\n{size}\n{part}\n{offset}\n{name}", key.path());
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0.signing_key)
            .unwrap_or_else(|_| unreachable!("a key of 32 bytes is taken"));
        mac.update(text.as_bytes());
        mac
    }
}

impl std::fmt::Debug for Inner {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Local").field("folder", &self.folder).finish_non_exhaustive()
    }
}

/// A file that need not be there.
fn remove(path: &Path) -> Result<(), Error> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            Err(Error::Unavailable(format!("{}: {error}", path.display())))
        }
        _ => Ok(()),
    }
}

fn signing_key(path: &Path) -> anyhow::Result<[u8; 32]> {
    let mut key = [0; 32];
    match fs::read(path) {
        Ok(bytes) => {
            let is = bytes.as_slice();
            key = is
                .try_into()
                .map_err(|_| anyhow::anyhow!("{} is not a signing key of ours: remove it", path.display()))?;
        }
        Err(error) if error.kind() == ErrorKind::NotFound => {
            SystemRandom::new()
                .fill(&mut key)
                .map_err(|_| anyhow::anyhow!("the kernel gives no random bytes"))?;
            let fresh = path.with_extension("new");
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&key)?;
            file.sync_all()?;
            fs::rename(&fresh, path)?;
        }
        Err(error) => return Err(error.into()),
    }
    Ok(key)
}
