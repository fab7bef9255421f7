//! Deployments, and who may see them.

use sqlx::any::AnyRow;

use super::pagination::paged;
use super::row::{Columns, key};
use super::{Change, Page, Paged, Result, Store};

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Deployment {
    pub id: u64,
    pub tenant_id: u64,
    pub division_id: u64,
    pub environment_id: u64,
    pub name: String,
    pub plan: Plan,
    pub created_at: i64,
}

/// How many snapshots are kept, and how long.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Plan {
    Basic,
    Pro,
    Enterprise,
}

/// What is to be different; what is none stays.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    pub name: Option<String>,
    pub plan: Option<Plan>,
}

/// Why a deployment was not changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NotChanged {
    /// There is none of this id.
    Missing,
    /// Its environment has another one of this name.
    NameTaken,
}

/// What a caller may see at all; the rest does not exist for it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Scope {
    /// None: every tenant.
    pub tenant_id: Option<u64>,
    /// The key whose list of deployments is the limit.
    pub limited_by: Option<u64>,
}

impl Scope {
    pub const ALL: Scope = Scope { tenant_id: None, limited_by: None };

    /// Nought stands for no limit: no id is nought.
    pub(super) fn tenant(self) -> i64 {
        key(self.tenant_id.unwrap_or(0))
    }

    pub(super) fn limit(self) -> i64 {
        key(self.limited_by.unwrap_or(0))
    }
}

impl Plan {
    pub const ALL: [Plan; 3] = [Plan::Basic, Plan::Pro, Plan::Enterprise];

    pub fn as_str(self) -> &'static str {
        match self {
            Plan::Basic => "basic",
            Plan::Pro => "pro",
            Plan::Enterprise => "enterprise",
        }
    }
}

impl std::str::FromStr for Plan {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Plan, String> {
        let found = Plan::ALL.into_iter().find(|plan| plan.as_str() == text);
        found.ok_or_else(|| "expected basic, pro or enterprise".to_owned())
    }
}

fn read(row: &AnyRow) -> Result<Deployment> {
    Ok(Deployment {
        id: row.id("id")?,
        tenant_id: row.id("tenant_id")?,
        division_id: row.id("division_id")?,
        environment_id: row.id("environment_id")?,
        name: row.text("name")?,
        plan: row.parsed("plan")?,
        created_at: row.number("created_at")?,
    })
}

/// False when the tenant has one of this name in this environment already.
pub async fn insert(change: &mut Change, deployment: &Deployment) -> Result<bool> {
    let done = sqlx::query(
        "INSERT INTO deployments (id, tenant_id, division_id, environment_id, name, plan, created_at) \
         VALUES ($1, $2, $3, $4, $5, $6, $7) ON CONFLICT (tenant_id, environment_id, name) DO NOTHING",
    )
    .bind(key(deployment.id))
    .bind(key(deployment.tenant_id))
    .bind(key(deployment.division_id))
    .bind(key(deployment.environment_id))
    .bind(deployment.name.as_str())
    .bind(deployment.plan.as_str())
    .bind(deployment.created_at)
    .execute(change.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Changes name and plan. What the new plan does not keep any more, [`super::snapshots::expire`] removes. The change
/// is not to be committed when nothing was changed.
pub async fn update(
    change: &mut Change,
    id: u64,
    changes: &Changes,
) -> Result<std::result::Result<Deployment, NotChanged>> {
    let updated = sqlx::query(
        "UPDATE deployments SET name = COALESCE($2, name), plan = COALESCE($3, plan) \
         WHERE id = $1 AND removed_at IS NULL RETURNING *",
    )
    .bind(key(id))
    .bind(changes.name.as_deref())
    .bind(changes.plan.map(Plan::as_str))
    .fetch_optional(change.connection())
    .await;
    match updated {
        Ok(Some(row)) => Ok(Ok(read(&row)?)),
        Ok(None) => Ok(Err(NotChanged::Missing)),
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => Ok(Err(NotChanged::NameTaken)),
        Err(error) => Err(error),
    }
}

/// Removes a deployment, and frees its name. Its nodes, enrolments and snapshots must be gone; what is told of its past
/// stays. False when there is none of this id.
pub async fn remove(change: &mut Change, id: u64, now: i64) -> Result<bool> {
    sqlx::query("DELETE FROM api_key_deployments WHERE deployment_id = $1")
        .bind(key(id))
        .execute(change.connection())
        .await?;
    let done = sqlx::query(
        "UPDATE deployments SET removed_at = $2, name = name || ' (removed ' || CAST(id AS TEXT) || ')' \
         WHERE id = $1 AND removed_at IS NULL",
    )
    .bind(key(id))
    .bind(now)
    .execute(change.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

pub async fn get(store: &Store, scope: Scope, id: u64) -> Result<Option<Deployment>> {
    let row = sqlx::query(
        "SELECT * FROM deployments WHERE id = $1 AND removed_at IS NULL AND (tenant_id = $2 OR $2 = 0) AND ($3 = 0 OR id IN \
         (SELECT deployment_id FROM api_key_deployments WHERE api_key_id = $3))",
    )
    .bind(key(id))
    .bind(scope.tenant())
    .bind(scope.limit())
    .fetch_optional(store.readers())
    .await?;
    row.as_ref().map(read).transpose()
}

/// By what it is called in its environment.
pub async fn by_name(store: &Store, tenant: u64, environment: u64, name: &str) -> Result<Option<Deployment>> {
    let row = sqlx::query(
        "SELECT * FROM deployments WHERE tenant_id = $1 AND environment_id = $2 AND name = $3 \
         AND removed_at IS NULL",
    )
    .bind(key(tenant))
    .bind(key(environment))
    .bind(name)
    .fetch_optional(store.readers())
    .await?;
    row.as_ref().map(read).transpose()
}

pub async fn list(store: &Store, scope: Scope, page: Page) -> Result<Paged<Deployment>> {
    let count = "SELECT COUNT(*) FROM deployments WHERE removed_at IS NULL AND (tenant_id = $1 OR $1 = 0) AND ($2 = 0 OR id IN \
                 (SELECT deployment_id FROM api_key_deployments WHERE api_key_id = $2))";
    let list = "SELECT * FROM deployments WHERE removed_at IS NULL AND (tenant_id = $1 OR $1 = 0) AND ($2 = 0 OR id IN \
                (SELECT deployment_id FROM api_key_deployments WHERE api_key_id = $2)) \
                ORDER BY id DESC LIMIT $3 OFFSET $4";
    let count = sqlx::query(count).bind(scope.tenant()).bind(scope.limit());
    let list =
        sqlx::query(list).bind(scope.tenant()).bind(scope.limit()).bind(page.limit()).bind(page.offset());
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}
