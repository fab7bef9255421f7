//! Where the archives of snapshots lie: a folder of ours, or a store that speaks S3.
//!
//! An upload is begun, granted (as often as a grant runs out), and finished. Finishing looks at what lies in the
//! store, never at what the node says of it: size and SHA-256 are those that were announced, or there is no object.

pub mod local;
mod s3;

use std::time::Duration;

pub use local::Local;
pub use s3::{S3, S3Settings};
use serde::{Deserialize, Serialize};
use warden_platform::sha256::Digest;
use warden_protocol::{PARTS_OF_A_GRANT, PARTS_OF_AN_ARCHIVE, PartTag, Upload};

/// How long one address to put to stays good: time for 64 MiB at 100 kB/s, and little for a thief.
pub const GRANT_LIFE: Duration = Duration::from_secs(15 * 60);
/// How long an address to download from stays good.
pub const DOWNLOAD_LIFE: Duration = Duration::from_secs(5 * 60);
/// From here on in parts: what a broken connection costs is one part.
pub const WHOLE_UPLOAD_BYTES: u64 = 64 << 20;
/// Largest object of a single PUT that S3 takes.
pub const WHOLE_UPLOAD_LIMIT: u64 = 5 << 30;
/// Smallest part: S3 asks for 5 MiB, and a request has its own cost.
const PART_BYTES: u64 = 16 << 20;

/// Names one object: two numbers, so nothing that came from outside can be in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Key {
    pub deployment: u64,
    pub snapshot: u64,
}

/// What a node says it will put.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    pub size: u64,
    pub sha256: Digest,
}

/// An upload under way: what must be kept until it ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "how", rename_all = "snake_case")]
pub enum Begun {
    Whole,
    Parts {
        part_bytes: u64,
        /// What an S3 store calls it.
        upload_id: Option<String>,
    },
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// What lies there is not what was announced. It has been removed.
    #[error("the object is not what was announced: {0}")]
    Mismatch(String),
    /// Not all of it is there.
    #[error("the object is not there: {0}")]
    Missing(String),
    #[error("no room in the object store: {0}")]
    Full(String),
    /// Worth another try.
    #[error("the object store does not answer as it should: {0}")]
    Unavailable(String),
}

/// The one object store of a Supervisor.
#[derive(Debug)]
pub enum Objects {
    Local(Local),
    S3(Box<S3>),
}

impl Objects {
    /// Begins an upload: whole, or in parts from `whole_limit` bytes on.
    ///
    /// # Errors
    /// There is no room, or no answer.
    pub async fn begin(&self, key: Key, announced: &Announced, whole_limit: u64) -> Result<Begun, Error> {
        let whole = announced.size <= whole_limit.min(WHOLE_UPLOAD_LIMIT);
        match self {
            Objects::Local(local) => local.begin(key, announced)?,
            Objects::S3(s3) if !whole => return s3.begin_parts(key, part_bytes(announced.size)).await,
            Objects::S3(_) => {}
        }
        if whole {
            return Ok(Begun::Whole);
        }
        Ok(Begun::Parts { part_bytes: part_bytes(announced.size), upload_id: None })
    }

    /// Goes on with an upload that was begun; if what had arrived of it is gone, from its beginning.
    ///
    /// # Errors
    /// There is no room, or no answer.
    pub fn resume(&self, key: Key, announced: &Announced) -> Result<(), Error> {
        match self {
            Objects::Local(local) => local.resume(key, announced),
            Objects::S3(_) => Ok(()),
        }
    }

    /// Addresses for the parts named, or for the first ones; for an upload that goes whole, its one address.
    /// Numbers that are no parts of this archive are left out.
    pub fn grant(
        &self,
        key: Key,
        announced: &Announced,
        begun: &Begun,
        parts: &[u32],
        now: jiff::Timestamp,
    ) -> Upload {
        match begun {
            Begun::Whole => Upload::Whole {
                put: match self {
                    Objects::Local(local) => local.put(key, announced.size, 1, 0, now),
                    Objects::S3(s3) => s3.put(key, announced, now),
                },
            },
            Begun::Parts { part_bytes, upload_id } => {
                let count = announced.size.div_ceil((*part_bytes).max(1)) as u32;
                let asked: Vec<u32> = if parts.is_empty() { (1..=count).collect() } else { parts.to_vec() };
                let wanted = asked.into_iter().filter(|number| (1..=count).contains(number));
                let put = |number: u32| {
                    let offset = u64::from(number - 1) * part_bytes;
                    let size = (*part_bytes).min(announced.size - offset);
                    let put = match self {
                        Objects::Local(local) => local.put(key, size, number, offset, now),
                        Objects::S3(s3) => {
                            s3.put_part(key, upload_id.as_deref().unwrap_or_default(), number, size, now)
                        }
                    };
                    warden_protocol::PartPut { number, put }
                };
                let parts = wanted.take(PARTS_OF_A_GRANT).map(put).collect();
                Upload::Parts { part_bytes: *part_bytes, parts }
            }
        }
    }

    /// Makes the object of what was put, if it is what was announced; finishing twice is fine.
    ///
    /// # Errors
    /// `Mismatch` and `Missing` are final; `Unavailable` is worth another try.
    pub async fn finish(
        &self,
        key: Key,
        announced: &Announced,
        begun: &Begun,
        tags: &[PartTag],
    ) -> Result<(), Error> {
        match self {
            Objects::Local(local) => local.finish(key, announced, begun).await,
            Objects::S3(s3) => s3.finish(key, announced, begun, tags).await,
        }
    }

    /// Forgets an upload that will not be finished. There need not be one.
    ///
    /// # Errors
    /// No answer: what was put may still lie there, and cost.
    pub async fn abort(&self, key: Key, begun: &Begun) -> Result<(), Error> {
        match self {
            Objects::Local(local) => local.abort(key),
            Objects::S3(s3) => s3.abort(key, begun).await,
        }
    }

    /// Removes the object. There need not be one.
    ///
    /// # Errors
    /// It may still lie there.
    pub async fn delete(&self, key: Key) -> Result<(), Error> {
        match self {
            Objects::Local(local) => local.delete(key),
            Objects::S3(s3) => s3.delete(key).await,
        }
    }

    /// An address to download from, for [`DOWNLOAD_LIFE`]; the browser saves it as `name`. `base` is where this
    /// Supervisor is reached, without a slash at its end.
    pub fn download(&self, key: Key, name: &str, base: &str, now: jiff::Timestamp) -> String {
        match self {
            Objects::Local(local) => format!("{base}{}", local.get(key, name, now)),
            Objects::S3(s3) => s3.get(key, name, now),
        }
    }

    /// Whether it would take an object right now.
    ///
    /// # Errors
    /// Why not.
    pub async fn ready(&self) -> Result<(), Error> {
        match self {
            Objects::Local(local) => local.ready(),
            Objects::S3(s3) => s3.ready().await,
        }
    }
}

impl Key {
    /// Its path in the store: `611298765432109056/610809900976570889.zip`.
    pub fn path(self) -> String {
        format!("{}/{}.zip", self.deployment, self.snapshot)
    }

    /// The key that [`Key::path`] wrote, and no other text.
    pub fn from_path(path: &str) -> Option<Key> {
        let (deployment, snapshot) = path.strip_suffix(".zip")?.split_once('/')?;
        let key = Key { deployment: deployment.parse().ok()?, snapshot: snapshot.parse().ok()? };
        (key.path() == path).then_some(key)
    }
}

/// Whole MiB, no smaller than S3 allows, and few enough of them for one message.
fn part_bytes(size: u64) -> u64 {
    let fewest = size.div_ceil(u64::from(PARTS_OF_AN_ARCHIVE)).div_ceil(1 << 20) << 20;
    fewest.max(PART_BYTES)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_archive_of_any_size_has_parts_that_fit_into_a_message() {
        for size in [1, 64 << 20, (64 << 20) + 1, 16 << 30, 1 << 40] {
            let part = part_bytes(size);
            assert!(size.div_ceil(part) <= u64::from(PARTS_OF_AN_ARCHIVE), "{size}");
            assert!(part >= 5 << 20 && part.is_multiple_of(1 << 20), "{size}: {part}");
        }
        assert_eq!(part_bytes(1 << 30), 16 << 20);
        assert_eq!(part_bytes(16 << 30), 33 << 20);
    }

    #[test]
    fn only_a_path_of_ours_is_a_key() {
        let key = Key { deployment: 611298765432109056, snapshot: 7 };
        assert_eq!(key.path(), "611298765432109056/7.zip");
        assert_eq!(Key::from_path(&key.path()), Some(key));
        for path in
            ["", "/", "1/2", "1/2.zip/", "+1/2.zip", "01/2.zip", "1//2.zip", "../1/2.zip", "1/2.zip\0"]
        {
            assert_eq!(Key::from_path(path), None, "{path:?}");
        }
    }
}
