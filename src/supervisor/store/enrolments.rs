//! One-time tokens by which a host becomes a node.

use super::audit::{self, Actor};
use super::columns::{self, Columns, key};
use super::nodes::{self, Node};
use super::{Change, Result, Store};

/// Longest name of a node that its host may give it: one of a host, hostname(7).
const NAME_LIMIT: usize = 64;

/// What a token begins with.
pub const TOKEN_PREFIX: &str = "we_";

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Enrolment {
    pub id: u64,
    pub deployment_id: u64,
    /// SHA-256 of the token, in hexadecimal.
    pub token_hash: String,
    /// What the node shall be called; without it, as its host.
    pub name: Option<String>,
    pub author_id: u64,
    pub created_at: i64,
    pub expires_at: i64,
}

/// What a host brings along with its token.
#[derive(Debug, Clone, Copy)]
pub struct Applicant<'a> {
    pub hostname: &'a str,
    /// SHA-256 of the credential it will get, in hexadecimal.
    pub credential_hash: &'a str,
    /// Where it called from, for the audit.
    pub address: &'a str,
}

pub async fn insert(change: &mut Change, enrolment: &Enrolment) -> Result<()> {
    sqlx::query(
        "INSERT INTO enrolments (id, deployment_id, token_hash, name, author_id, created_at, expires_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7)",
    )
    .bind(key(enrolment.id))
    .bind(key(enrolment.deployment_id))
    .bind(enrolment.token_hash.as_str())
    .bind(enrolment.name.as_deref())
    .bind(key(enrolment.author_id))
    .bind(enrolment.created_at)
    .bind(enrolment.expires_at)
    .execute(change.connection())
    .await
    .map(|_| ())
}

/// Trades a token for a node, once: of any number of hosts one gets it. A host that did not hear the answer may ask
/// again with the same credential. None when there is no such token, it is too old, or another host used it.
pub async fn use_token(
    store: &Store,
    token_hash: &str,
    host: Applicant<'_>,
    now: i64,
) -> Result<Option<Node>> {
    let mut change = store.change().await?;
    let row = sqlx::query(
        "UPDATE enrolments SET used_at = $2 WHERE token_hash = $1 AND used_at IS NULL AND expires_at > $2 \
         RETURNING id, deployment_id, name",
    )
    .bind(token_hash)
    .bind(now)
    .fetch_optional(change.connection())
    .await?;
    let Some(row) = row else { return answered_before(&mut change, token_hash, host).await };
    let (enrolment, deployment) = (row.id("id")?, row.id("deployment_id")?);
    let name = row.maybe_text("name")?.unwrap_or_else(|| columns::plain(host.hostname, NAME_LIMIT));
    let node = nodes::insert(&mut change, deployment, &name, host.credential_hash, now).await?;
    sqlx::query("UPDATE enrolments SET node_id = $2 WHERE id = $1")
        .bind(key(enrolment))
        .bind(key(node.id))
        .execute(change.connection())
        .await?;
    let tenant = sqlx::query("SELECT tenant_id FROM deployments WHERE id = $1")
        .bind(key(deployment))
        .fetch_one(change.connection())
        .await?;
    let entry = audit::Entry {
        tenant_id: tenant.id("tenant_id")?,
        actor: Actor::Node { id: node.id, name: name.clone() },
        address: Some(host.address.to_owned()),
        request: None,
        action: "node.enrol".into(),
        deployment_id: Some(deployment),
        resource_type: "Node".into(),
        resource_id: Some(node.id),
        detail: serde_json::json!({ "enrolment_id": enrolment, "hostname": host.hostname }),
    };
    audit::record(&mut change, entry, now).await?;
    change.commit().await?;
    Ok(Some(node))
}

/// The node that a token became.
pub async fn node_of(store: &Store, token_hash: &str) -> Result<Option<u64>> {
    let row = sqlx::query("SELECT node_id FROM enrolments WHERE token_hash = $1 AND node_id IS NOT NULL")
        .bind(token_hash)
        .fetch_optional(store.readers())
        .await?;
    row.map(|row| row.id("node_id")).transpose()
}

async fn answered_before(change: &mut Change, token_hash: &str, host: Applicant<'_>) -> Result<Option<Node>> {
    let row = sqlx::query(
        "SELECT nodes.* FROM enrolments JOIN nodes ON nodes.id = enrolments.node_id \
         WHERE token_hash = $1 AND credential_hash = $2 AND removed_at IS NULL",
    )
    .bind(token_hash)
    .bind(host.credential_hash)
    .fetch_optional(change.connection())
    .await?;
    row.as_ref().map(nodes::read).transpose()
}

/// Forgets tokens that ended before `before`.
pub async fn forget(change: &mut Change, before: i64) -> Result<u64> {
    let done = sqlx::query("DELETE FROM enrolments WHERE expires_at < $1")
        .bind(before)
        .execute(change.connection())
        .await?;
    Ok(done.rows_affected())
}
