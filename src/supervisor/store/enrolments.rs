//! Tokens by which hosts become nodes: one, or as many as was said, until they expire or are revoked.

use sqlx::any::AnyRow;

use super::audit::{self, Actor};
use super::nodes::{self, Node};
use super::pagination::paged;
use super::row::{self, Columns, key};
use super::{Change, Page, Paged, Result, Store};

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
    /// How many nodes it may serve.
    pub uses: u32,
}

/// An enrolment as it stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    pub enrolment: Enrolment,
    /// How many nodes it has served.
    pub used: u32,
    pub last_used_at: Option<i64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    /// It makes a node of the next host.
    Open,
    /// It has served as many nodes as it may.
    UsedUp,
    Expired,
}

impl Standing {
    pub fn status(&self, now: i64) -> Status {
        if self.used >= self.enrolment.uses {
            Status::UsedUp
        } else if self.enrolment.expires_at <= now {
            Status::Expired
        } else {
            Status::Open
        }
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Open => "open",
            Status::UsedUp => "used_up",
            Status::Expired => "expired",
        }
    }
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
        "INSERT INTO enrolments (id, deployment_id, token_hash, name, author_id, created_at, expires_at, uses) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8)",
    )
    .bind(key(enrolment.id))
    .bind(key(enrolment.deployment_id))
    .bind(enrolment.token_hash.as_str())
    .bind(enrolment.name.as_deref())
    .bind(key(enrolment.author_id))
    .bind(enrolment.created_at)
    .bind(enrolment.expires_at)
    .bind(i64::from(enrolment.uses))
    .execute(change.connection())
    .await
    .map(|_| ())
}

/// Trades a token for a node: of any number of hosts as many get one as it may serve. A host that did not hear the
/// answer may ask again with the same credential. None when there is no such token, it is too old, or used up.
pub async fn use_token(
    store: &Store,
    token_hash: &str,
    host: Applicant<'_>,
    now: i64,
) -> Result<Option<Node>> {
    let mut change = store.change().await?;
    if let Some(known) = answered_before(&mut change, token_hash, host).await? {
        return Ok(Some(known));
    }
    let row = sqlx::query(
        "UPDATE enrolments SET used = used + 1, used_at = $2 WHERE token_hash = $1 AND used < uses \
         AND expires_at > $2 RETURNING id, deployment_id, name",
    )
    .bind(token_hash)
    .bind(now)
    .fetch_optional(change.connection())
    .await?;
    // The host itself may have been quicker, over another connection.
    let Some(row) = row else { return answered_before(&mut change, token_hash, host).await };
    let (enrolment, deployment) = (row.id("id")?, row.id("deployment_id")?);
    let name = row.maybe_text("name")?.unwrap_or_else(|| row::plain(host.hostname, NAME_LIMIT));
    let made = nodes::insert(&mut change, deployment, enrolment, &name, host.credential_hash, now).await;
    let node = match made {
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            drop(change);
            return answered_before(&mut store.change().await?, token_hash, host).await;
        }
        made => made?,
    };
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

/// Whether this node came by this token.
pub async fn served(store: &Store, token_hash: &str, node: u64) -> Result<bool> {
    let row = sqlx::query(
        "SELECT nodes.id FROM nodes JOIN enrolments ON enrolments.id = nodes.enrolment_id \
         WHERE token_hash = $1 AND nodes.id = $2",
    )
    .bind(token_hash)
    .bind(key(node))
    .fetch_optional(store.readers())
    .await?;
    Ok(row.is_some())
}

/// Those of a deployment that are not forgotten yet, the newest first.
pub async fn list(store: &Store, deployment: u64, page: Page) -> Result<Paged<Standing>> {
    let count = sqlx::query("SELECT COUNT(*) FROM enrolments WHERE deployment_id = $1").bind(key(deployment));
    let list =
        sqlx::query("SELECT * FROM enrolments WHERE deployment_id = $1 ORDER BY id DESC LIMIT $2 OFFSET $3")
            .bind(key(deployment))
            .bind(page.limit())
            .bind(page.offset());
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}

/// Makes a token worthless; nodes that came by it stay. None when the deployment has no such enrolment.
pub async fn revoke(change: &mut Change, deployment: u64, enrolment: u64) -> Result<Option<Standing>> {
    let row = sqlx::query("DELETE FROM enrolments WHERE id = $1 AND deployment_id = $2 RETURNING *")
        .bind(key(enrolment))
        .bind(key(deployment))
        .fetch_optional(change.connection())
        .await?;
    row.as_ref().map(read).transpose()
}

/// Makes every token of a deployment worthless.
pub async fn revoke_all(change: &mut Change, deployment: u64) -> Result<u64> {
    let done = sqlx::query("DELETE FROM enrolments WHERE deployment_id = $1")
        .bind(key(deployment))
        .execute(change.connection())
        .await?;
    Ok(done.rows_affected())
}

async fn answered_before(change: &mut Change, token_hash: &str, host: Applicant<'_>) -> Result<Option<Node>> {
    let row = sqlx::query(
        "SELECT nodes.* FROM enrolments JOIN nodes ON nodes.enrolment_id = enrolments.id \
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

fn read(row: &AnyRow) -> Result<Standing> {
    let count = |column| Ok::<u32, sqlx::Error>(u32::try_from(row.number(column)?).unwrap_or(u32::MAX));
    let enrolment = Enrolment {
        id: row.id("id")?,
        deployment_id: row.id("deployment_id")?,
        token_hash: row.text("token_hash")?,
        name: row.maybe_text("name")?,
        author_id: row.id("author_id")?,
        created_at: row.number("created_at")?,
        expires_at: row.number("expires_at")?,
        uses: count("uses")?,
    };
    Ok(Standing { enrolment, used: count("used")?, last_used_at: row.maybe_number("used_at")? })
}
