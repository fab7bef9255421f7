//! What nodes say about the archives of snapshots, and what they are told: where to put one, and that it arrived.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use warden_platform::sha256;
use warden_protocol::{SnapshotProgress, ToNode, UploadGrant, UploadRefusal, UploadWanted, Uploaded};

use super::object_store::{Announced, Error, GRANT_LIFE, Objects, WHOLE_UPLOAD_BYTES};
use super::store::snapshots::{self, Removal};
use super::store::{self, Store};

/// Bytes of a ZIP archive with nothing in it (APPNOTE.TXT 4.3.16): less is none.
const SMALLEST_ARCHIVE: u64 = 22;

/// Shared by all connections.
#[derive(Clone)]
pub struct Uploads(Arc<Inner>);

struct Inner {
    store: Store,
    objects: Arc<Objects>,
    limits: Limits,
    /// Archives that are being granted or finished: reading one back takes longer than a node waits before it asks
    /// again, and two that are granted at once would begin two uploads.
    busy: Mutex<BTreeSet<u64>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Largest archive that is taken, in bytes.
    pub largest: u64,
    /// Largest archive that goes by one PUT, in bytes.
    pub whole: u64,
}

impl Default for Limits {
    fn default() -> Limits {
        // The largest data directory that can be packed by default is 2 GiB; a policy may let more through.
        Limits { largest: 64 << 30, whole: WHOLE_UPLOAD_BYTES }
    }
}

impl Uploads {
    pub fn new(store: Store, objects: Arc<Objects>, limits: Limits) -> Uploads {
        Uploads(Arc::new(Inner { store, objects, limits, busy: Mutex::default() }))
    }

    pub fn objects(&self) -> &Objects {
        &self.0.objects
    }

    /// Answers a node that has an archive. None: it shall ask again.
    pub async fn wanted(&self, node: u64, wanted: &UploadWanted) -> Option<ToNode> {
        let request = wanted.request;
        let _turn = self.turn(request)?;
        let answer = self.grant(node, wanted).await;
        self.told(request, node, answer)
    }

    /// Answers a node that has put its archive. None: it shall ask again.
    pub async fn uploaded(&self, node: u64, uploaded: &Uploaded) -> Option<ToNode> {
        let request = uploaded.request;
        let _turn = self.turn(request)?;
        let answer = self.finish(node, uploaded).await;
        self.told(request, node, answer)
    }

    /// Removes the archives of snapshots that are removed, uploads of those that failed, and, in a folder of ours,
    /// archives that no snapshot knows. What cannot be removed now is tried again by the next run.
    pub async fn remove_archives(&self, now: i64) -> store::Result<()> {
        let Inner { store, objects, .. } = &*self.0;
        for removal in snapshots::removed(store).await? {
            self.remove(&removal, now).await?;
        }
        if let Objects::Local(local) = &**objects {
            for key in local.kept().unwrap_or_default() {
                if !snapshots::is_known(store, key.snapshot).await? {
                    tracing::warn!(object = key.path(), "an archive that no snapshot knows is removed");
                    let _ = objects.delete(key).await;
                }
            }
        }
        Ok(())
    }

    /// Removes what was uploaded for a snapshot that has failed.
    pub async fn ended(&self, snapshot: u64, now: i64) {
        let removed = async {
            match snapshots::to_remove(&self.0.store, snapshot).await? {
                Some(removal) => self.remove(&removal, now).await,
                None => Ok(()),
            }
        };
        if let Err(error) = removed.await {
            tracing::warn!(snapshot, %error, "the upload of a snapshot that failed is removed later");
        }
    }

    async fn remove(&self, removal: &Removal, now: i64) -> store::Result<()> {
        let Inner { store, objects, .. } = &*self.0;
        if let Err(error) = remove(objects, removal).await {
            tracing::warn!(object = removal.key.path(), %error, "an archive cannot be removed yet");
            return Ok(());
        }
        // An address of S3 cannot be taken back: what is put there yet is removed by a later run.
        if matches!(**objects, Objects::S3(_)) && now < removal.since + GRANT_LIFE.as_millis() as i64 {
            return Ok(());
        }
        let mut change = store.change().await?;
        snapshots::forget(&mut change, removal.key.snapshot).await?;
        change.commit().await
    }

    /// Keeps how far a snapshot is.
    pub async fn progress(&self, node: u64, progress: &SnapshotProgress, now: i64) {
        if let Err(error) = snapshots::progress(&self.0.store, node, progress, now).await {
            tracing::warn!(node, request = progress.request, %error, "the progress of a snapshot is lost");
        }
    }

    async fn grant(&self, node: u64, wanted: &UploadWanted) -> Result<ToNode, Failed> {
        let Inner { store, objects, limits, .. } = &*self.0;
        let request = wanted.request;
        let sha256 = sha256::from_hex(&wanted.sha256)
            .ok_or(Failed::Refused(UploadRefusal::Mismatch, "a SHA-256 has 64 hex digits".to_owned()))?;
        if wanted.size > limits.largest {
            let Limits { largest, .. } = limits;
            let reason = format!("the archive has {} bytes, {largest} are taken", wanted.size);
            return Err(Failed::Refused(UploadRefusal::TooLarge, reason));
        }
        if wanted.size < SMALLEST_ARCHIVE {
            let reason = format!("{} bytes are no archive", wanted.size);
            return Err(Failed::Refused(UploadRefusal::Mismatch, reason));
        }
        let announced = Announced { size: wanted.size, sha256 };
        let known = snapshots::uploading(store, node, request).await?.ok_or_else(not_wanted)?;
        let key = known.key;
        if known.stored {
            return Ok(ToNode::UploadConfirmed { request });
        }
        let begun = match known.begun {
            Some((before, begun)) if before == announced => {
                objects.resume(key, &announced)?;
                begun
            }
            before => {
                if let Some((_, begun)) = before {
                    // Taken again by a node that lost the first one.
                    objects.abort(key, &begun).await?;
                }
                let begun = objects.begin(key, &announced, limits.whole).await?;
                if !snapshots::announce(store, node, request, &announced, &begun).await? {
                    objects.abort(key, &begun).await?;
                    return Err(not_wanted());
                }
                tracing::info!(node, request, size = announced.size, "the upload of a snapshot begins");
                begun
            }
        };
        let upload = objects.grant(key, &announced, &begun, &wanted.parts, jiff::Timestamp::now());
        let expires_ms = GRANT_LIFE.as_millis() as u64;
        Ok(ToNode::UploadGrant(UploadGrant { request, upload, expires_ms }))
    }

    async fn finish(&self, node: u64, uploaded: &Uploaded) -> Result<ToNode, Failed> {
        let Inner { store, objects, .. } = &*self.0;
        let request = uploaded.request;
        let known = snapshots::uploading(store, node, request).await?.ok_or_else(not_wanted)?;
        if known.stored {
            return Ok(ToNode::UploadConfirmed { request });
        }
        let (announced, begun) = known.begun.ok_or_else(not_wanted)?;
        match objects.finish(known.key, &announced, &begun, &uploaded.parts).await {
            Ok(()) => {}
            Err(Error::Mismatch(reason) | Error::Missing(reason)) => {
                return Err(Failed::Refused(UploadRefusal::Mismatch, reason));
            }
            Err(error @ (Error::Full(_) | Error::Unavailable(_))) => return Err(error.into()),
        }
        if !snapshots::stored(store, node, request, &uploaded.verdict).await? {
            objects.delete(known.key).await?;
            return Err(not_wanted());
        }
        tracing::info!(node, request, size = announced.size, "a snapshot is stored");
        Ok(ToNode::UploadConfirmed { request })
    }

    fn told(&self, request: u64, node: u64, answer: Result<ToNode, Failed>) -> Option<ToNode> {
        match answer {
            Ok(answer) => Some(answer),
            Err(Failed::Refused(code, reason)) => {
                tracing::warn!(node, request, reason, "the archive of a snapshot is refused");
                Some(ToNode::UploadRefused { request, code, reason })
            }
            Err(Failed::Later(error)) => {
                tracing::error!(node, request, error, "the archive of a snapshot must wait");
                None
            }
        }
    }

    /// None while another has it.
    fn turn(&self, request: u64) -> Option<Turn> {
        self.busy().insert(request).then(|| Turn { uploads: self.clone(), request })
    }

    fn busy(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        self.0.busy.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question of one archive is answered at a time. Given back however the answer ends.
struct Turn {
    uploads: Uploads,
    request: u64,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.uploads.busy().remove(&self.request);
    }
}

async fn remove(objects: &Objects, removal: &Removal) -> Result<(), Error> {
    if let Some(begun) = &removal.begun {
        objects.abort(removal.key, begun).await?;
    }
    objects.delete(removal.key).await
}

enum Failed {
    /// For good.
    Refused(UploadRefusal, String),
    Later(String),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Failed {
        Failed::Later(error.to_string())
    }
}

impl From<sqlx::Error> for Failed {
    fn from(error: sqlx::Error) -> Failed {
        Failed::Later(error.to_string())
    }
}

fn not_wanted() -> Failed {
    Failed::Refused(UploadRefusal::NotWanted, "there is no such snapshot under way for this node".to_owned())
}
