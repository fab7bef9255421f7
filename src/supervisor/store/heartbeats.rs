//! Heartbeats of nodes: every one for an hour, one in five minutes for a day.
//!
//! They come by the hundred a second from a large deployment, so they are written together, once a second.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::any::AnyRow;
use warden_protocol::{Agent, Heartbeat, Host, RuntimeState};

use super::pagination::paged;
use super::row::{Columns, json, key};
use super::{Change, Page, Paged, Result, Store};

/// How long every heartbeat is kept: the last hour is what an incident is judged by.
pub const DETAIL_KEPT_MS: i64 = 3_600_000;
/// How long the history goes back: "since yesterday". At 30 s a heartbeat that is about 400 of each runtime and of
/// the host, half a megabyte a node.
pub const HISTORY_KEPT_MS: i64 = 24 * 3_600_000;
/// Of the older history, one heartbeat in this time.
pub const HISTORY_STEP_MS: i64 = 300_000;
/// Runtimes of one heartbeat that are kept: a node has a handful, and one with all connectors there are some dozen.
const RUNTIMES_KEPT: usize = 64;
/// Rows removed at once: short transactions let others write in between.
const BATCH: i64 = 5_000;
/// What the host's own row is called beside those of the runtimes.
const HOST: &str = "host";

/// A heartbeat of the host itself.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OfHost {
    /// By the clock of the node.
    pub at_ms: i64,
    pub host: Host,
    pub agent: Agent,
}

/// The newest heartbeat of a node.
#[derive(Debug, Clone, PartialEq)]
pub struct Newest {
    pub node_id: u64,
    /// When the Supervisor got it, by its own clock.
    pub at: i64,
    pub of_host: OfHost,
    pub runtimes: Vec<RuntimeState>,
}

/// One entry of a history: when the Supervisor got it, and what it tells.
pub type Entry<T> = (i64, T);

/// What nodes told since the last write: of each node the newest.
#[derive(Default)]
pub(super) struct Fresh {
    told: Mutex<HashMap<u64, Told>>,
}

#[derive(Default)]
struct Told {
    seen: Option<i64>,
    unlinked: Option<Unlinked>,
    heartbeat: Option<(i64, Heartbeat)>,
    /// The last step of the history that has a heartbeat of this node.
    step: Option<i64>,
}

/// The end of a connection.
#[derive(Clone, Copy)]
struct Unlinked {
    /// It was made before.
    linked_at: i64,
    at: i64,
}

/// What is to be written of one node.
struct Taken {
    node: u64,
    seen: Option<i64>,
    unlinked: Option<Unlinked>,
    heartbeat: Option<Written>,
}

struct Written {
    at: i64,
    heartbeat: Heartbeat,
    /// It is the first of its step of the history.
    first: bool,
}

impl Fresh {
    pub fn seen(&self, node: u64, now: i64) {
        let mut told = self.lock();
        let told = told.entry(node).or_default();
        told.seen = told.seen.max(Some(now));
    }

    pub fn unlinked(&self, node: u64, linked_at: i64, at: i64) {
        self.lock().entry(node).or_default().unlinked = Some(Unlinked { linked_at, at });
    }

    fn heartbeat(&self, node: u64, now: i64, heartbeat: Heartbeat) {
        let mut told = self.lock();
        let told = told.entry(node).or_default();
        told.seen = told.seen.max(Some(now));
        told.heartbeat = Some((now, heartbeat));
    }

    fn take(&self, now: i64) -> Vec<Taken> {
        let mut told = self.lock();
        let mut taken = Vec::new();
        for (node, told) in told.iter_mut() {
            let (seen, unlinked) = (told.seen.take(), told.unlinked.take());
            if seen.is_none() && unlinked.is_none() {
                continue;
            }
            let heartbeat = told.heartbeat.take().map(|(at, heartbeat)| {
                let step = Some(at / HISTORY_STEP_MS);
                let first = told.step != step;
                told.step = step;
                Written { at, heartbeat, first }
            });
            taken.push(Taken { node: *node, seen, unlinked, heartbeat });
        }
        let oldest = (now - HISTORY_STEP_MS) / HISTORY_STEP_MS;
        told.retain(|_, told| told.step.is_some_and(|step| step >= oldest));
        taken.sort_by_key(|taken| taken.node);
        taken
    }

    /// Keeps what could not be written for the next time; what was told meanwhile is newer.
    fn put_back(&self, taken: Vec<Taken>) {
        let mut told = self.lock();
        for Taken { node, seen, unlinked, heartbeat } in taken {
            let told = told.entry(node).or_default();
            told.seen = told.seen.max(seen);
            told.unlinked = told.unlinked.or(unlinked);
            let Some(written) = heartbeat else { continue };
            if written.first {
                told.step = None;
            }
            told.heartbeat.get_or_insert((written.at, written.heartbeat));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Told>> {
        self.told.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Takes a heartbeat at `now`, the Supervisor's time. It is written by the next [`flush`].
pub fn record(store: &Store, node: u64, heartbeat: &Heartbeat, now: i64) {
    store.fresh().heartbeat(node, now, heartbeat.clone());
}

/// Writes what was recorded and seen. How many nodes it was. What cannot be written now is written by the next call.
pub async fn flush(store: &Store, now: i64) -> Result<usize> {
    let taken = store.fresh().take(now);
    if taken.is_empty() {
        return Ok(0);
    }
    match write_all(store, &taken).await {
        Ok(()) => Ok(taken.len()),
        Err(error) => {
            store.fresh().put_back(taken);
            Err(error)
        }
    }
}

async fn write_all(store: &Store, taken: &[Taken]) -> Result<()> {
    let mut change = store.change().await?;
    for Taken { node, seen, unlinked, heartbeat } in taken {
        if let Some(Unlinked { linked_at, at }) = unlinked {
            unlink(change.connection(), *node, *linked_at, *at).await?;
        }
        let Some(seen) = seen else { continue };
        let there = sqlx::query(
            "UPDATE nodes SET unreachable_at = CASE WHEN unlinked_at >= $2 THEN unreachable_at END, \
             unlinked_at = CASE WHEN unlinked_at >= $2 THEN unlinked_at END, \
             last_seen_at = CASE WHEN last_seen_at > $2 THEN last_seen_at ELSE $2 END \
             WHERE id = $1 AND removed_at IS NULL",
        )
        .bind(key(*node))
        .bind(*seen)
        .execute(change.connection())
        .await?;
        let Some(written) = heartbeat.as_ref().filter(|_| there.rows_affected() == 1) else { continue };
        let Heartbeat { at_ms, host, agent, runtimes } = &written.heartbeat;
        let of_host = OfHost { at_ms: *at_ms, host: host.clone(), agent: agent.clone() };
        write(change.connection(), *node, written, HOST, json(&of_host)?).await?;
        for state in runtimes.iter().take(RUNTIMES_KEPT) {
            let subject = state.runtime.to_string();
            write(change.connection(), *node, written, &subject, json(state)?).await?;
        }
    }
    change.commit().await
}

async fn unlink(connection: &mut AnyConnection, node: u64, linked_at: i64, at: i64) -> Result<()> {
    sqlx::query("UPDATE nodes SET unlinked_at = $3 WHERE id = $1 AND hello_at <= $2 AND removed_at IS NULL")
        .bind(key(node))
        .bind(linked_at)
        .bind(at)
        .execute(connection)
        .await
        .map(|_| ())
}

async fn write(
    connection: &mut AnyConnection,
    node: u64,
    written: &Written,
    subject: &str,
    data: String,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO heartbeats (node_id, at, subject, kept, data) VALUES ($1, $2, $3, $4, $5) \
         ON CONFLICT (node_id, at, subject) DO NOTHING",
    )
    .bind(key(node))
    .bind(written.at)
    .bind(subject)
    .bind(i64::from(written.first))
    .bind(data)
    .execute(connection)
    .await
    .map(|_| ())
}

/// The newest heartbeat of each of some nodes that ever sent one.
pub async fn newest(store: &Store, nodes: &[u64]) -> Result<Vec<Newest>> {
    let mut connection = store.readers().acquire().await?;
    let mut found = Vec::with_capacity(nodes.len());
    for node in nodes {
        let rows = sqlx::query(
            "SELECT at, subject, data FROM heartbeats WHERE node_id = $1 \
             AND at = (SELECT MAX(at) FROM heartbeats WHERE node_id = $1) ORDER BY subject",
        )
        .bind(key(*node))
        .fetch_all(&mut *connection)
        .await?;
        let (mut of_host, mut runtimes) = (None, Vec::new());
        for row in &rows {
            if row.text("subject")? == HOST {
                of_host = Some((row.number("at")?, row.json("data")?));
            } else {
                runtimes.push(row.json("data")?);
            }
        }
        if let Some((at, of_host)) = of_host {
            found.push(Newest { node_id: *node, at, of_host, runtimes });
        }
    }
    Ok(found)
}

/// Which part of a node's history.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Span {
    pub from: i64,
    /// Included.
    pub to: i64,
}

/// The history of a runtime, newest first.
pub async fn of_runtime(
    store: &Store,
    node: u64,
    runtime: &str,
    span: Span,
    page: Page,
) -> Result<Paged<Entry<RuntimeState>>> {
    history(store, node, runtime, span, page, |row| Ok((row.number("at")?, row.json("data")?))).await
}

/// The history of the host itself, newest first.
pub async fn of_host(store: &Store, node: u64, span: Span, page: Page) -> Result<Paged<Entry<OfHost>>> {
    history(store, node, HOST, span, page, |row| Ok((row.number("at")?, row.json("data")?))).await
}

async fn history<T>(
    store: &Store,
    node: u64,
    subject: &str,
    span: Span,
    page: Page,
    read: impl Fn(&AnyRow) -> Result<T>,
) -> Result<Paged<T>> {
    let bound = |sql: &'static str| {
        sqlx::query(sql).bind(key(node)).bind(subject.to_owned()).bind(span.from).bind(span.to)
    };
    let count = bound(
        "SELECT COUNT(*) FROM heartbeats WHERE node_id = $1 AND subject = $2 AND at >= $3 AND at <= $4",
    );
    let list = bound(
        "SELECT at, data FROM heartbeats WHERE node_id = $1 AND subject = $2 AND at >= $3 AND at <= $4 \
         ORDER BY at DESC LIMIT $5 OFFSET $6",
    );
    let list = list.bind(page.limit()).bind(page.offset());
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}

/// Removes what the bounds of the history no longer allow, a batch at a time. How many rows it was.
pub async fn thin(change: &mut Change, now: i64) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM heartbeats WHERE (node_id, at, subject) IN (SELECT node_id, at, subject FROM heartbeats \
         WHERE at < $1 OR (at < $2 AND kept = 0) LIMIT $3)",
    )
    .bind(now - HISTORY_KEPT_MS)
    .bind(now - DETAIL_KEPT_MS)
    .bind(BATCH)
    .execute(change.connection())
    .await?;
    Ok(done.rows_affected())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_heartbeat_of_each_step_is_marked_to_stay_and_silent_nodes_are_forgotten() {
        let heartbeat =
            Heartbeat { at_ms: 0, host: Host::default(), agent: Agent::default(), runtimes: Vec::new() };
        let fresh = Fresh::default();
        let mut stay = Vec::new();
        for second in (0..1800).step_by(30) {
            fresh.heartbeat(7, second * 1000, heartbeat.clone());
            for taken in fresh.take(second * 1000) {
                stay.extend(taken.heartbeat.filter(|beat| beat.first).map(|beat| beat.at / 1000));
            }
        }
        assert_eq!(stay, [0, 300, 600, 900, 1200, 1500]);
        assert!(fresh.take(3_600_000).is_empty());
        assert!(fresh.lock().is_empty());
    }
}
