//! Nodes: who they are, what they said of themselves, when they were last heard.

use serde::{Deserialize, Serialize};
use sqlx::any::AnyRow;
use warden_protocol as protocol;

use super::pagination::paged;
use super::row::{Columns, json, key};
use super::{Change, Notice, Page, Paged, Result, Store};

/// A node that said nothing for so long is unreachable, until it speaks again.
pub const UNREACHABLE_AFTER_MS: i64 = 120_000;
/// One whose connection ended is unreachable after this time, unless it is back: an agent that was restarted dials at
/// once, and one that lost its connection some seconds later.
pub const RECONNECT_GRACE_MS: i64 = 10_000;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub id: u64,
    pub deployment_id: u64,
    pub name: String,
    pub enrolled_at: i64,
    /// What it said when it connected last.
    pub hello: Option<Hello>,
    pub hello_at: Option<i64>,
    pub last_seen_at: Option<i64>,
    /// When its connection ended; none while it is connected.
    pub unlinked_at: Option<i64>,
    /// When it was found to be unreachable; none while it speaks.
    pub unreachable_at: Option<i64>,
}

/// What is kept of [`protocol::Hello`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hello {
    pub boot_id: String,
    pub instance: String,
    pub agent_version: String,
    pub capabilities: Vec<String>,
    pub host: protocol::About,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// Enrolled, and never heard since.
    Pending,
    Online,
    Unreachable,
}

impl Node {
    pub fn status(&self, now: i64) -> Status {
        match self.unreachable_from() {
            None => Status::Pending,
            Some(from) if now >= from => Status::Unreachable,
            Some(_) => Status::Online,
        }
    }

    /// From when on it is unreachable unless it speaks; none: it never spoke.
    pub fn unreachable_from(&self) -> Option<i64> {
        let silent = self.last_seen_at?.saturating_add(UNREACHABLE_AFTER_MS);
        let gone = self.unlinked_at.map_or(i64::MAX, |at| at.saturating_add(RECONNECT_GRACE_MS));
        Some(silent.min(gone))
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Pending => "pending",
            Status::Online => "online",
            Status::Unreachable => "unreachable",
        }
    }
}

pub(super) fn read(row: &AnyRow) -> Result<Node> {
    Ok(Node {
        id: row.id("id")?,
        deployment_id: row.id("deployment_id")?,
        name: row.text("name")?,
        enrolled_at: row.number("enrolled_at")?,
        hello: row.maybe_json("hello")?,
        hello_at: row.maybe_number("hello_at")?,
        last_seen_at: row.maybe_number("last_seen_at")?,
        unlinked_at: row.maybe_number("unlinked_at")?,
        unreachable_at: row.maybe_number("unreachable_at")?,
    })
}

/// The node whose credential has this SHA-256, in hexadecimal.
pub async fn by_credential_hash(store: &Store, hash: &str) -> Result<Option<Node>> {
    let row = sqlx::query("SELECT * FROM nodes WHERE credential_hash = $1 AND removed_at IS NULL")
        .bind(hash)
        .fetch_optional(store.readers())
        .await?;
    row.as_ref().map(read).transpose()
}

/// What a node told when it connected, and what is told of that to all Supervisors.
#[derive(Debug)]
pub struct Told {
    pub node: u64,
    pub hello: protocol::Hello,
    pub arrived: Notice,
}

/// A node connected and told what it is.
pub async fn hello(store: &Store, node: u64, hello: &protocol::Hello, now: i64) -> Result<()> {
    let mut change = store.change().await?;
    write_hello(&mut change, node, hello, now).await?;
    change.commit().await
}

/// The same for some, by rising id of the node, and with a word to all Supervisors.
pub async fn arrived(store: &Store, told: &[&Told], now: i64) -> Result<()> {
    let mut change = store.change().await?;
    for told in told {
        write_hello(&mut change, told.node, &told.hello, now).await?;
        change.notify(told.arrived.clone());
    }
    change.commit().await
}

async fn write_hello(change: &mut Change, node: u64, hello: &protocol::Hello, now: i64) -> Result<()> {
    let kept = Hello {
        boot_id: hello.boot_id.clone(),
        instance: hello.instance.clone(),
        agent_version: hello.agent_version.clone(),
        capabilities: hello.capabilities.clone(),
        host: hello.host.clone(),
    };
    sqlx::query(
        "UPDATE nodes SET hello = $2, hello_at = $3, last_seen_at = $3, unlinked_at = NULL, unreachable_at = NULL, \
         linked_by = $4 WHERE id = $1 AND removed_at IS NULL",
    )
    .bind(key(node))
    .bind(json(&kept)?)
    .bind(now)
    .bind(key(change.number()))
    .execute(change.connection())
    .await
    .map(|_| ())
}

/// Puts what a node said before in the place of what the agent `instance` said since.
pub async fn restore_hello(store: &Store, node: u64, instance: &str, before: &Hello) -> Result<()> {
    let mut change = store.change().await?;
    let row = sqlx::query("SELECT hello FROM nodes WHERE id = $1 AND removed_at IS NULL")
        .bind(key(node))
        .fetch_optional(change.connection())
        .await?;
    let now = row.map(|row| row.maybe_json::<Hello>("hello")).transpose()?.flatten();
    if now.is_none_or(|now| now.instance != instance) {
        return Ok(());
    }
    sqlx::query("UPDATE nodes SET hello = $2 WHERE id = $1")
        .bind(key(node))
        .bind(json(before)?)
        .execute(change.connection())
        .await?;
    change.commit().await
}

/// A node was heard. Written within a second, together with others; a crash before that loses nothing of worth.
pub fn seen(store: &Store, node: u64, now: i64) {
    store.fresh().seen(node, now);
}

/// The connection of a node ended that was made before `linked_at`. Written as [`seen`] is; nothing is changed when the
/// node has said hello since, to this Supervisor or to another.
pub fn unlinked(store: &Store, node: u64, linked_at: i64, now: i64) {
    store.fresh().unlinked(node, linked_at, now);
}

pub(super) async fn insert(
    change: &mut Change,
    deployment: u64,
    enrolment: u64,
    name: &str,
    credential_hash: &str,
    now: i64,
) -> Result<Node> {
    let id = change.id(now);
    let row = sqlx::query(
        "INSERT INTO nodes (id, deployment_id, enrolment_id, name, credential_hash, enrolled_at) \
         VALUES ($1, $2, $3, $4, $5, $6) RETURNING *",
    )
    .bind(key(id))
    .bind(key(deployment))
    .bind(key(enrolment))
    .bind(name)
    .bind(credential_hash)
    .bind(now)
    .fetch_one(change.connection())
    .await?;
    read(&row)
}

pub async fn get(store: &Store, deployment: u64, node: u64) -> Result<Option<Node>> {
    let row = sqlx::query("SELECT * FROM nodes WHERE id = $1 AND deployment_id = $2 AND removed_at IS NULL")
        .bind(key(node))
        .bind(key(deployment))
        .fetch_optional(store.readers())
        .await?;
    row.as_ref().map(read).transpose()
}

pub async fn list(store: &Store, deployment: u64, page: Page) -> Result<Paged<Node>> {
    let count = sqlx::query("SELECT COUNT(*) FROM nodes WHERE deployment_id = $1 AND removed_at IS NULL")
        .bind(key(deployment));
    let list = sqlx::query(
        "SELECT * FROM nodes WHERE deployment_id = $1 AND removed_at IS NULL ORDER BY id DESC LIMIT $2 OFFSET $3",
    )
    .bind(key(deployment))
    .bind(page.limit())
    .bind(page.offset());
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}

/// The ids of a deployment's nodes, oldest first, as the change sees them.
pub async fn ids(change: &mut Change, deployment: u64) -> Result<Vec<u64>> {
    let rows =
        sqlx::query("SELECT id FROM nodes WHERE deployment_id = $1 AND removed_at IS NULL ORDER BY id")
            .bind(key(deployment))
            .fetch_all(change.connection())
            .await?;
    rows.iter().map(|row| row.id("id")).collect()
}

/// Names of those nodes that said what they can do and did not name `capability`.
pub async fn without(change: &mut Change, nodes: &[u64], capability: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for id in nodes {
        let row = sqlx::query("SELECT name, hello FROM nodes WHERE id = $1 AND hello IS NOT NULL")
            .bind(key(*id))
            .fetch_optional(change.connection())
            .await?;
        let Some(row) = row else { continue };
        let hello: Option<Hello> = row.maybe_json("hello")?;
        if hello.is_some_and(|hello| !hello.capabilities.iter().any(|known| known == capability)) {
            names.push(row.text("name")?);
        }
    }
    Ok(names)
}

/// Takes a node out of its deployment: its credential is worth nothing from now on. False when it is not there.
pub async fn remove(change: &mut Change, deployment: u64, node: u64, now: i64) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE nodes SET removed_at = $3 WHERE id = $1 AND deployment_id = $2 AND removed_at IS NULL",
    )
    .bind(key(node))
    .bind(key(deployment))
    .bind(now)
    .execute(change.connection())
    .await?;
    change.notify(Notice::Removed(node));
    Ok(done.rows_affected() == 1)
}

/// Writes down that connections ended which were made to Supervisors that have ended, such as by a crash. How many.
pub async fn unlink_orphans(change: &mut Change, now: i64) -> Result<u64> {
    let rows = sqlx::query(
        "SELECT DISTINCT linked_by FROM nodes WHERE linked_by IS NOT NULL AND unlinked_at IS NULL \
         AND unreachable_at IS NULL AND removed_at IS NULL",
    )
    .fetch_all(change.connection())
    .await?;
    let mut orphans = 0;
    for row in rows {
        let number = row.id("linked_by")?;
        if change.has_ended(number).await? {
            let unlinked =
                sqlx::query("UPDATE nodes SET unlinked_at = $2 WHERE linked_by = $1 AND unlinked_at IS NULL")
                    .bind(key(number))
                    .bind(now)
                    .execute(change.connection())
                    .await?;
            orphans += unlinked.rows_affected();
        }
    }
    Ok(orphans)
}

/// Marks the nodes that fell silent or are not connected any more, and returns them with their names.
pub async fn mark_unreachable(change: &mut Change, now: i64) -> Result<Vec<(u64, String)>> {
    let rows = sqlx::query(
        "UPDATE nodes SET unreachable_at = $1 WHERE (last_seen_at <= $2 OR unlinked_at <= $3) \
         AND removed_at IS NULL AND unreachable_at IS NULL RETURNING id, name",
    )
    .bind(now)
    .bind(now - UNREACHABLE_AFTER_MS)
    .bind(now - RECONNECT_GRACE_MS)
    .fetch_all(change.connection())
    .await?;
    rows.iter().map(|row| Ok((row.id("id")?, row.text("name")?))).collect()
}

/// Nodes there are, and how many of them are unreachable at `now`.
pub async fn count(store: &Store, now: i64) -> Result<(u64, u64)> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS nodes, COUNT(CASE WHEN last_seen_at <= $1 OR unlinked_at <= $2 THEN 1 END) AS silent \
         FROM nodes WHERE removed_at IS NULL",
    )
    .bind(now - UNREACHABLE_AFTER_MS)
    .bind(now - RECONNECT_GRACE_MS)
    .fetch_one(store.readers())
    .await?;
    Ok((row.id("nodes")?, row.id("silent")?))
}
