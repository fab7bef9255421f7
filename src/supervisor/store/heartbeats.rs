//! Heartbeats of nodes: every one for an hour, one in five minutes for a day.
//!
//! They come by the hundred a second from a large deployment, so they are written together, once a second.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sqlx::any::AnyRow;

use super::columns::{Columns, json, key};
use super::page::paged;
use super::{Change, Page, Paged, Result, Store};
use crate::protocol::Heartbeat;

/// How long every heartbeat is kept: the last hour is what an incident is judged by.
pub const DETAIL_KEPT_MS: i64 = 3_600_000;
/// How long the history goes back: "since yesterday". At 30 s a heartbeat that is about 400 rows, 300 KB a node.
pub const HISTORY_KEPT_MS: i64 = 24 * 3_600_000;
/// Of the older history, one heartbeat in this time.
pub const HISTORY_STEP_MS: i64 = 300_000;
/// Rows removed at once: short transactions let others write in between.
const BATCH: i64 = 5_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Beat {
    pub node_id: u64,
    /// When the Supervisor got it, by its own clock.
    pub at: i64,
    pub heartbeat: Heartbeat,
}

/// What nodes told since the last write: of each node the newest.
#[derive(Default)]
pub(super) struct Fresh {
    told: Mutex<HashMap<u64, Told>>,
}

#[derive(Default)]
struct Told {
    seen: Option<i64>,
    heartbeat: Option<(i64, String)>,
    /// The last step of the history that has a heartbeat of this node.
    step: Option<i64>,
}

/// What is to be written of one node.
struct Taken {
    node: u64,
    seen: i64,
    heartbeat: Option<Written>,
}

struct Written {
    at: i64,
    text: String,
    /// It is the first of its step of the history.
    first: bool,
}

impl Fresh {
    pub fn seen(&self, node: u64, now: i64) {
        let mut told = self.lock();
        let told = told.entry(node).or_default();
        told.seen = told.seen.max(Some(now));
    }

    fn heartbeat(&self, node: u64, now: i64, text: String) {
        let mut told = self.lock();
        let told = told.entry(node).or_default();
        told.seen = told.seen.max(Some(now));
        told.heartbeat = Some((now, text));
    }

    fn take(&self, now: i64) -> Vec<Taken> {
        let mut told = self.lock();
        let mut taken = Vec::new();
        for (node, told) in told.iter_mut() {
            let Some(seen) = told.seen.take() else { continue };
            let heartbeat = told.heartbeat.take().map(|(at, text)| {
                let step = Some(at / HISTORY_STEP_MS);
                let first = told.step != step;
                told.step = step;
                Written { at, text, first }
            });
            taken.push(Taken { node: *node, seen, heartbeat });
        }
        let oldest = (now - HISTORY_STEP_MS) / HISTORY_STEP_MS;
        told.retain(|_, told| told.step.is_some_and(|step| step >= oldest));
        taken.sort_by_key(|taken| taken.node);
        taken
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a heartbeat at `now`, the Supervisor's time. It is written by the next [`flush`].
pub fn record(store: &Store, node: u64, heartbeat: &Heartbeat, now: i64) {
    // Figures that JSON cannot write, such as a NaN, come out as null.
    if let Ok(text) = json(heartbeat) {
        store.fresh().heartbeat(node, now, text);
    }
}

/// Writes what was recorded and seen. How many nodes it was.
pub async fn flush(store: &Store, now: i64) -> Result<usize> {
    let taken = store.fresh().take(now);
    if taken.is_empty() {
        return Ok(0);
    }
    let mut change = store.change().await?;
    for Taken { node, seen, heartbeat } in &taken {
        sqlx::query(
            "UPDATE nodes SET last_seen_at = $2, unreachable_at = NULL \
             WHERE id = $1 AND (last_seen_at IS NULL OR last_seen_at < $2)",
        )
        .bind(key(*node))
        .bind(*seen)
        .execute(change.connection())
        .await?;
        let Some(Written { at, text, first }) = heartbeat else { continue };
        sqlx::query(
            "INSERT INTO heartbeats (node_id, at, kept, data) SELECT id, $2, $3, $4 FROM nodes \
             WHERE id = $1 AND removed_at IS NULL ON CONFLICT (node_id, at) DO NOTHING",
        )
        .bind(key(*node))
        .bind(*at)
        .bind(i64::from(*first))
        .bind(text.as_str())
        .execute(change.connection())
        .await?;
    }
    change.commit().await?;
    Ok(taken.len())
}

/// The newest heartbeat of each of some nodes.
pub async fn newest(store: &Store, nodes: &[u64]) -> Result<Vec<Beat>> {
    let mut connection = store.readers().acquire().await?;
    let mut beats = Vec::with_capacity(nodes.len());
    for node in nodes {
        let row = sqlx::query("SELECT * FROM heartbeats WHERE node_id = $1 ORDER BY at DESC LIMIT 1")
            .bind(key(*node))
            .fetch_optional(&mut *connection)
            .await?;
        if let Some(row) = row {
            beats.push(read(&row)?);
        }
    }
    Ok(beats)
}

/// A node's heartbeats from `from` up to and with `to`, newest first.
pub async fn history(store: &Store, node: u64, from: i64, to: i64, page: Page) -> Result<Paged<Beat>> {
    let count = sqlx::query("SELECT COUNT(*) FROM heartbeats WHERE node_id = $1 AND at >= $2 AND at <= $3")
        .bind(key(node))
        .bind(from)
        .bind(to);
    let list = sqlx::query(
        "SELECT * FROM heartbeats WHERE node_id = $1 AND at >= $2 AND at <= $3 \
         ORDER BY at DESC LIMIT $4 OFFSET $5",
    )
    .bind(key(node))
    .bind(from)
    .bind(to)
    .bind(page.limit())
    .bind(page.offset());
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}

/// Removes what the bounds of the history no longer allow, a batch at a time. How many rows it was.
pub async fn thin(change: &mut Change, now: i64) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM heartbeats WHERE (node_id, at) IN (SELECT node_id, at FROM heartbeats \
         WHERE at < $1 OR (at < $2 AND kept = 0) LIMIT $3)",
    )
    .bind(now - HISTORY_KEPT_MS)
    .bind(now - DETAIL_KEPT_MS)
    .bind(BATCH)
    .execute(change.connection())
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<Beat> {
    Ok(Beat { node_id: row.id("node_id")?, at: row.number("at")?, heartbeat: row.json("data")? })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_heartbeat_of_each_step_is_marked_to_stay_and_silent_nodes_are_forgotten() {
        let fresh = Fresh::default();
        let mut stay = Vec::new();
        for second in (0..1800).step_by(30) {
            fresh.heartbeat(7, second * 1000, String::new());
            for taken in fresh.take(second * 1000) {
                stay.extend(taken.heartbeat.filter(|beat| beat.first).map(|beat| beat.at / 1000));
            }
        }
        assert_eq!(stay, [0, 300, 600, 900, 1200, 1500]);
        assert!(fresh.take(3_600_000).is_empty());
        assert!(fresh.lock().is_empty());
    }
}
