//! How snapshots go: first the row is hidden, then the archive is removed, then the row. Dying in between costs
//! nothing: what is hidden is found again.

use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;

use super::{Change, Columns, DAY_MS, Plan, Result, Status, Store, key, limits};
use crate::object_store::{Begun, Key};

/// Archives removed by one run of the job.
const BATCH: i64 = 100;

/// An archive that must go, with the upload that may be half done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Removal {
    pub key: Key,
    pub begun: Option<Begun>,
    /// Since when nothing is to be put there any more, in milliseconds.
    pub since: i64,
}

const TO_REMOVE: &str = "SELECT id, deployment_id, upload, COALESCE(removed_at, completed_at, created_at) AS since \
    FROM snapshots WHERE (removed_at IS NOT NULL OR (status = 'failed' AND upload IS NOT NULL))";

/// Hides a snapshot, or all of a run. None when there is none; false when one has not ended.
pub async fn remove(change: &mut Change, deployment: u64, snapshot: u64, now: i64) -> Result<Option<bool>> {
    let rows = sqlx::query(
        "SELECT id, status FROM snapshots WHERE (id = $1 OR run_id = $1) AND deployment_id = $2 \
         AND removed_at IS NULL",
    )
    .bind(key(snapshot))
    .bind(key(deployment))
    .fetch_all(change.connection())
    .await?;
    if rows.is_empty() {
        return Ok(None);
    }
    for row in &rows {
        if row.parsed::<Status>("status")? == Status::Processing {
            return Ok(Some(false));
        }
    }
    sqlx::query(
        "UPDATE snapshots SET removed_at = $2 WHERE (id = $1 OR run_id = $1) AND deployment_id = $3 \
         AND removed_at IS NULL AND status <> 'processing'",
    )
    .bind(key(snapshot))
    .bind(now)
    .bind(key(deployment))
    .execute(change.connection())
    .await?;
    Ok(Some(true))
}

/// Which runs may give their place to a new one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Replaceable {
    Any,
    /// Those that nodes took by themselves.
    Automatic,
}

impl Replaceable {
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Replaceable::Any => "any",
            Replaceable::Automatic => "automatic",
        }
    }
}

impl std::str::FromStr for Replaceable {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Replaceable, String> {
        [Replaceable::Any, Replaceable::Automatic]
            .into_iter()
            .find(|replaceable| replaceable.as_str() == text)
            .ok_or_else(|| format!("a snapshot that replaces {text:?}"))
    }
}

/// Finds the oldest run beside `but` that takes a place of the plan, has ended and is `replaceable`.
pub(super) async fn oldest(
    change: &mut Change,
    deployment: u64,
    replaceable: Replaceable,
    but: Option<u64>,
) -> Result<Option<u64>> {
    let oldest = sqlx::query(
        "SELECT MIN(run_id) AS run FROM snapshots WHERE deployment_id = $1 AND removed_at IS NULL \
         AND status = 'completed' AND ($2 = 0 OR cause IS NOT NULL) AND run_id <> $3 AND run_id NOT IN \
         (SELECT run_id FROM snapshots WHERE deployment_id = $1 AND status = 'processing')",
    )
    .bind(key(deployment))
    .bind(i64::from(replaceable == Replaceable::Automatic))
    .bind(key(but.unwrap_or(0)))
    .fetch_one(change.connection())
    .await?;
    oldest.maybe_id("run")
}

/// Hides all snapshots of a deployment, none of which is under way. How many it was.
pub async fn remove_all(change: &mut Change, deployment: u64, now: i64) -> Result<u64> {
    let done = sqlx::query(
        "UPDATE snapshots SET removed_at = $2 WHERE deployment_id = $1 AND removed_at IS NULL \
         AND status <> 'processing'",
    )
    .bind(key(deployment))
    .bind(now)
    .execute(change.connection())
    .await?;
    Ok(done.rows_affected())
}

/// Hides what is older than the plan of its deployment keeps. How many it was.
pub async fn expire(change: &mut Change, now: i64) -> Result<u64> {
    let mut expired = 0;
    for plan in Plan::ALL {
        let (_, days) = limits(plan);
        let done = sqlx::query(
            "UPDATE snapshots SET removed_at = $1 WHERE created_at < $2 AND status <> 'processing' \
             AND removed_at IS NULL AND deployment_id IN (SELECT id FROM deployments WHERE plan = $3)",
        )
        .bind(now)
        .bind(now - days * DAY_MS)
        .bind(plan.as_str())
        .execute(change.connection())
        .await?;
        expired += done.rows_affected();
    }
    Ok(expired)
}

/// Archives that are hidden, and those of snapshots that failed with an upload half done: at most 100.
pub async fn removed(store: &Store) -> Result<Vec<Removal>> {
    // A constant, and a place for the number.
    let rows = sqlx::query(AssertSqlSafe(format!("{TO_REMOVE} ORDER BY id LIMIT $1")))
        .bind(BATCH)
        .fetch_all(store.readers())
        .await?;
    rows.iter().map(read).collect()
}

/// The same of one snapshot; none when it has no archive that must go.
pub async fn to_remove(store: &Store, snapshot: u64) -> Result<Option<Removal>> {
    let row = sqlx::query(AssertSqlSafe(format!("{TO_REMOVE} AND id = $1")))
        .bind(key(snapshot))
        .fetch_optional(store.readers())
        .await?;
    row.as_ref().map(read).transpose()
}

fn read(row: &AnyRow) -> Result<Removal> {
    let key = Key { deployment: row.id("deployment_id")?, snapshot: row.id("id")? };
    Ok(Removal { key, begun: row.maybe_json("upload")?, since: row.number("since")? })
}

/// The archive is gone: so is the row, or, of one that failed and is not hidden, its upload.
pub async fn forget(change: &mut Change, snapshot: u64) -> Result<()> {
    sqlx::query("DELETE FROM snapshots WHERE id = $1 AND removed_at IS NOT NULL")
        .bind(key(snapshot))
        .execute(change.connection())
        .await?;
    sqlx::query(
        "UPDATE snapshots SET upload = NULL, size = NULL, sha256 = NULL WHERE id = $1 AND status = 'failed'",
    )
    .bind(key(snapshot))
    .execute(change.connection())
    .await
    .map(|_| ())
}

/// Whether there is a row of it at all, hidden or not.
pub async fn is_known(store: &Store, snapshot: u64) -> Result<bool> {
    let row = sqlx::query("SELECT id FROM snapshots WHERE id = $1")
        .bind(key(snapshot))
        .fetch_optional(store.readers())
        .await?;
    Ok(row.is_some())
}
