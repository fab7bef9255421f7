//! Who did what.

use serde_json::Value;
use sqlx::any::AnyRow;

use super::deployments::Scope;
use super::pagination::paged;
use super::row::{Columns, json, key};
use super::{Change, Page, Paged, Result, Store};

#[derive(Debug, Clone, PartialEq)]
pub struct Entry {
    pub tenant_id: u64,
    pub actor: Actor,
    /// The address it called from.
    pub address: Option<String>,
    /// The id of the HTTP request.
    pub request: Option<String>,
    /// A resource and a verb: `deployment.create`.
    pub action: String,
    pub deployment_id: Option<u64>,
    pub resource_type: String,
    pub resource_id: Option<u64>,
    pub detail: Value,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Actor {
    ApiKey {
        id: u64,
        name: String,
    },
    Node {
        id: u64,
        name: String,
    },
    /// The Supervisor by itself.
    Supervisor,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Recorded {
    pub id: u64,
    pub at: i64,
    pub entry: Entry,
}

impl Actor {
    pub fn kind(&self) -> &'static str {
        match self {
            Actor::ApiKey { .. } => "api_key",
            Actor::Node { .. } => "node",
            Actor::Supervisor => "supervisor",
        }
    }

    pub fn id(&self) -> Option<u64> {
        match self {
            Actor::ApiKey { id, .. } | Actor::Node { id, .. } => Some(*id),
            Actor::Supervisor => None,
        }
    }

    pub fn name(&self) -> &str {
        match self {
            Actor::ApiKey { name, .. } | Actor::Node { name, .. } => name,
            Actor::Supervisor => "supervisor",
        }
    }
}

/// What both queries of [`list`] ask for; the parameters are those of [`bound`].
macro_rules! condition {
    () => {
        "(tenant_id = $1 OR $1 = 0) AND ($2 = '' OR actor = $2) \
         AND ($3 = '' OR action = $3 OR SUBSTR(action, 1, LENGTH($4)) = $4) \
         AND ($5 = 0 OR (resource_type = 'Node' AND resource_id = $5) OR (actor_type = 'node' AND actor_id = $5) \
              OR resource_id IN (SELECT async_action_id FROM activities WHERE node_id = $5)) \
         AND at >= $6 AND at <= $7"
    };
}

type Query<'q> = sqlx::query::Query<'q, sqlx::Any, sqlx::any::AnyArguments>;

fn bound<'q>(
    query: Query<'q>,
    scope: Scope,
    filter: &AuditFilter,
    actor: &str,
    action: &str,
    resource: &str,
) -> Query<'q> {
    query
        .bind(scope.tenant())
        .bind(actor.to_owned())
        .bind(action.to_owned())
        .bind(resource.to_owned())
        .bind(key(filter.node_id.unwrap_or(0)))
        .bind(filter.from)
        .bind(filter.to)
}

pub async fn record(change: &mut Change, entry: Entry, now: i64) -> Result<()> {
    let id = change.id(now);
    sqlx::query(
        "INSERT INTO audit (id, at, tenant_id, actor_type, actor_id, actor, address, request, action, \
         deployment_id, resource_type, resource_id, detail) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13)",
    )
    .bind(key(id))
    .bind(now)
    .bind(key(entry.tenant_id))
    .bind(entry.actor.kind())
    .bind(entry.actor.id().map(key))
    .bind(entry.actor.name())
    .bind(entry.address)
    .bind(entry.request)
    .bind(entry.action)
    .bind(entry.deployment_id.map(key))
    .bind(entry.resource_type)
    .bind(entry.resource_id.map(key))
    .bind(json(&entry.detail)?)
    .execute(change.connection())
    .await
    .map(|_| ())
}

/// Which entries a list has.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditFilter {
    /// Name of the actor.
    pub actor: Option<String>,
    /// `activity.start`, or everything of a resource: `activity`.
    pub action: Option<String>,
    /// Entries about this node, and requests that had an activity on it.
    pub node_id: Option<u64>,
    /// Unix milliseconds, both included.
    pub from: i64,
    pub to: i64,
}

impl Default for AuditFilter {
    fn default() -> AuditFilter {
        AuditFilter { actor: None, action: None, node_id: None, from: 0, to: i64::MAX }
    }
}

/// Returns a page of the audit log, newest first.
pub async fn list(store: &Store, scope: Scope, filter: &AuditFilter, page: Page) -> Result<Paged<Recorded>> {
    const COUNT: &str = concat!("SELECT COUNT(*) FROM audit WHERE ", condition!());
    const LIST: &str =
        concat!("SELECT * FROM audit WHERE ", condition!(), " ORDER BY id DESC LIMIT $8 OFFSET $9");
    let action = filter.action.clone().unwrap_or_default();
    let (resource, actor) = (format!("{action}."), filter.actor.clone().unwrap_or_default());
    let bind = |query| bound(query, scope, filter, &actor, &action, &resource);
    let list = bind(sqlx::query(LIST)).bind(page.limit()).bind(page.offset());
    let count = bind(sqlx::query(COUNT));
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}

/// Forgets what was done before `before`.
pub async fn forget(change: &mut Change, before: i64) -> Result<u64> {
    let done =
        sqlx::query("DELETE FROM audit WHERE at < $1").bind(before).execute(change.connection()).await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<Recorded> {
    let (id, name) = (row.maybe_id("actor_id")?, row.text("actor")?);
    let actor = match (row.text("actor_type")?.as_str(), id) {
        ("api_key", Some(id)) => Actor::ApiKey { id, name },
        ("node", Some(id)) => Actor::Node { id, name },
        _ => Actor::Supervisor,
    };
    Ok(Recorded {
        id: row.id("id")?,
        at: row.number("at")?,
        entry: Entry {
            tenant_id: row.id("tenant_id")?,
            actor,
            address: row.maybe_text("address")?,
            request: row.maybe_text("request")?,
            action: row.text("action")?,
            deployment_id: row.maybe_id("deployment_id")?,
            resource_type: row.text("resource_type")?,
            resource_id: row.maybe_id("resource_id")?,
            detail: row.json("detail")?,
        },
    })
}
