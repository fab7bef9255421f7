//! The way of an archive: announced by its node, under way, stored.

use warden_platform::sha256::{from_hex, hex};

use super::{Change, Columns, Result, SnapshotProgress, Store, json, key};
use crate::object_store::{Announced, Begun, Key};
use crate::store::activities;

/// Verdicts that a report can have, and so a row.
const VERDICTS: [&str; 5] = ["pass", "note", "skip", "warn", "fail"];

/// The archive of a snapshot that has not ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Uploading {
    pub key: Key,
    /// What was announced, and how its upload began.
    pub begun: Option<(Announced, Begun)>,
    /// Whole and as announced: nothing is to be sent.
    pub stored: bool,
}

/// Keeps what the node will put, and how its upload began, in the stead of what it announced before. False: the
/// snapshot is not this node's, has ended, or is stored.
pub async fn announce(
    store: &Store,
    node: u64,
    snapshot: u64,
    announced: &Announced,
    begun: &Begun,
) -> Result<bool> {
    let mut change = store.change().await?;
    let done = sqlx::query(
        "UPDATE snapshots SET size = $3, sha256 = $4, upload = $5 WHERE id = $1 AND node_id = $2 \
         AND status = 'processing' AND verdict IS NULL AND removed_at IS NULL",
    )
    .bind(key(snapshot))
    .bind(key(node))
    .bind(key(announced.size))
    .bind(hex(&announced.sha256))
    .bind(json(begun)?)
    .execute(change.connection())
    .await?;
    change.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// How far the archive of a snapshot is. None: it is not this node's, or it has ended.
pub async fn uploading(store: &Store, node: u64, snapshot: u64) -> Result<Option<Uploading>> {
    let row = sqlx::query(
        "SELECT deployment_id, size, sha256, upload, verdict FROM snapshots WHERE id = $1 AND node_id = $2 \
         AND status = 'processing' AND removed_at IS NULL",
    )
    .bind(key(snapshot))
    .bind(key(node))
    .fetch_optional(store.readers())
    .await?;
    let Some(row) = row else { return Ok(None) };
    let sha256 = row.maybe_text("sha256")?.and_then(|text| from_hex(&text));
    let announced = row.maybe_id("size")?.zip(sha256).map(|(size, sha256)| Announced { size, sha256 });
    Ok(Some(Uploading {
        key: Key { deployment: row.id("deployment_id")?, snapshot },
        begun: announced.zip(row.maybe_json("upload")?),
        stored: row.maybe_text("verdict")?.is_some(),
    }))
}

/// The archive is in the object store, as announced. A verdict nobody knows is none.
pub async fn stored(store: &Store, node: u64, snapshot: u64, verdict: &str) -> Result<bool> {
    let verdict = VERDICTS.into_iter().find(|known| *known == verdict).unwrap_or("unknown");
    let mut change = store.change().await?;
    let done = sqlx::query(
        "UPDATE snapshots SET verdict = $3 WHERE id = $1 AND node_id = $2 AND status = 'processing' \
         AND size IS NOT NULL",
    )
    .bind(key(snapshot))
    .bind(key(node))
    .bind(verdict)
    .execute(change.connection())
    .await?;
    change.commit().await?;
    Ok(done.rows_affected() == 1)
}

/// Whether this is a snapshot under way of which no archive was confirmed.
pub async fn lacks_archive(change: &mut Change, snapshot: u64) -> Result<bool> {
    let row =
        sqlx::query("SELECT id FROM snapshots WHERE id = $1 AND status = 'processing' AND verdict IS NULL")
            .bind(key(snapshot))
            .fetch_optional(change.connection())
            .await?;
    Ok(row.is_some())
}

/// Whether bytes of this archive are still wanted: announced, not confirmed, and its snapshot under way.
pub async fn awaits(store: &Store, archive: Key) -> Result<bool> {
    let row = sqlx::query(
        "SELECT id FROM snapshots WHERE id = $1 AND deployment_id = $2 AND status = 'processing' \
         AND upload IS NOT NULL AND verdict IS NULL AND removed_at IS NULL",
    )
    .bind(key(archive.snapshot))
    .bind(key(archive.deployment))
    .fetch_optional(store.readers())
    .await?;
    Ok(row.is_some())
}

/// How far it is. False when it is not this node's, or has ended.
pub async fn progress(store: &Store, node: u64, progress: &SnapshotProgress, now: i64) -> Result<bool> {
    let mut change = store.change().await?;
    let done = sqlx::query(
        "UPDATE snapshots SET progress = $3 WHERE id = $1 AND node_id = $2 AND status = 'processing'",
    )
    .bind(key(progress.request))
    .bind(key(node))
    .bind(json(progress)?)
    .execute(change.connection())
    .await?;
    change.commit().await?;
    let known = done.rows_affected() == 1;
    if known {
        activities::progress(store, node, progress.request, &words(progress), now).await?;
    }
    Ok(known)
}

fn words(progress: &SnapshotProgress) -> String {
    const MIB: u64 = 1 << 20;
    let SnapshotProgress { checks_done, checks_total, bytes_packed, bytes_sent, bytes_total, .. } = progress;
    if *bytes_total > 0 {
        format!("sent {} of {} MiB", bytes_sent / MIB, bytes_total.div_ceil(MIB))
    } else if *bytes_packed > 0 {
        format!("packed {} MiB", bytes_packed / MIB)
    } else {
        format!("{checks_done} of {checks_total} checks")
    }
}
