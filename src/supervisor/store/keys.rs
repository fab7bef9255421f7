//! API keys: only hashes of them.

use std::collections::BTreeSet;

use sqlx::AnyConnection;
use sqlx::any::AnyRow;

use super::deployments::Scope;
use super::pagination::paged;
use super::row::{Columns, key};
use super::{Change, Notice, Page, Paged, Result, Store};
use crate::network::Network;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ApiKey {
    pub id: u64,
    pub tenant_id: u64,
    pub name: String,
    /// SHA-256 of the key, in hexadecimal.
    pub hash: String,
    /// May do everything, in every tenant.
    pub administrator: bool,
    pub permissions: BTreeSet<Permission>,
    /// Where it may be used from; empty: anywhere.
    pub allow_list: Vec<Network>,
    /// The deployments it is limited to; none: all of its tenant.
    pub deployments: Option<Vec<u64>>,
    pub author_id: Option<u64>,
    pub created_at: i64,
    pub expires_at: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Permission {
    DeploymentRead,
    DeploymentManage,
    ConnectorRead,
    ConnectorManage,
    ConfigRead,
    ConfigManage,
}

impl Permission {
    pub const ALL: [Permission; 6] = [
        Permission::DeploymentRead,
        Permission::DeploymentManage,
        Permission::ConnectorRead,
        Permission::ConnectorManage,
        Permission::ConfigRead,
        Permission::ConfigManage,
    ];

    pub fn as_str(self) -> &'static str {
        match self {
            Permission::DeploymentRead => "deployment:read",
            Permission::DeploymentManage => "deployment:manage",
            Permission::ConnectorRead => "deployment:connector:read",
            Permission::ConnectorManage => "deployment:connector:manage",
            Permission::ConfigRead => "deployment:config:read",
            Permission::ConfigManage => "deployment:config:manage",
        }
    }

    /// What it lets a key do, in a few words.
    pub fn about(self) -> &'static str {
        match self {
            Permission::DeploymentRead => "See deployments, nodes, activities and snapshots",
            Permission::DeploymentManage => {
                "Start, stop and restart; take snapshots; enroll and remove nodes"
            }
            Permission::ConnectorRead => "See connectors",
            Permission::ConnectorManage => "Start and remove connectors",
            Permission::ConfigRead => "See configurations",
            Permission::ConfigManage => "Create, apply and delete configurations",
        }
    }
}

impl std::str::FromStr for Permission {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Permission, String> {
        Permission::ALL.into_iter().find(|permission| permission.as_str() == text).ok_or_else(|| {
            let all: Vec<&str> = Permission::ALL.map(Permission::as_str).to_vec();
            format!("expected one of {}", all.join(", "))
        })
    }
}

impl ApiKey {
    pub fn allows(&self, permission: Permission) -> bool {
        self.administrator || self.permissions.contains(&permission)
    }

    /// What exists for this key.
    pub fn scope(&self) -> Scope {
        Scope {
            tenant_id: (!self.administrator).then_some(self.tenant_id),
            limited_by: self.deployments.is_some().then_some(self.id),
        }
    }
}

pub async fn insert(change: &mut Change, api_key: &ApiKey) -> Result<()> {
    sqlx::query(
        "INSERT INTO api_keys (id, tenant_id, name, hash, administrator, permissions, allow_list, limited, \
         author_id, created_at, expires_at) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11)",
    )
    .bind(key(api_key.id))
    .bind(key(api_key.tenant_id))
    .bind(api_key.name.as_str())
    .bind(api_key.hash.as_str())
    .bind(i64::from(api_key.administrator))
    .bind(spaced(api_key.permissions.iter().map(|permission| permission.as_str())))
    .bind(spaced(api_key.allow_list.iter().map(Network::to_string)))
    .bind(i64::from(api_key.deployments.is_some()))
    .bind(api_key.author_id.map(key))
    .bind(api_key.created_at)
    .bind(api_key.expires_at)
    .execute(change.connection())
    .await?;
    for deployment in api_key.deployments.iter().flatten() {
        sqlx::query(
            "INSERT INTO api_key_deployments (api_key_id, deployment_id) VALUES ($1, $2) \
             ON CONFLICT (api_key_id, deployment_id) DO NOTHING",
        )
        .bind(key(api_key.id))
        .bind(key(*deployment))
        .execute(change.connection())
        .await?;
    }
    Ok(())
}

pub async fn by_id(store: &Store, id: u64) -> Result<Option<ApiKey>> {
    let mut connection = store.readers().acquire().await?;
    let row = sqlx::query("SELECT * FROM api_keys WHERE id = $1")
        .bind(key(id))
        .fetch_optional(&mut *connection)
        .await?;
    let Some(row) = row else { return Ok(None) };
    let mut found = read(&row)?;
    complete(&mut connection, &mut found).await?;
    Ok(Some(found))
}

pub async fn list(store: &Store, scope: Scope, page: Page) -> Result<Paged<ApiKey>> {
    let mut connection = store.readers().acquire().await?;
    let count =
        sqlx::query("SELECT COUNT(*) FROM api_keys WHERE (tenant_id = $1 OR $1 = 0)").bind(scope.tenant());
    let list = sqlx::query(
        "SELECT * FROM api_keys WHERE (tenant_id = $1 OR $1 = 0) ORDER BY id DESC LIMIT $2 OFFSET $3",
    )
    .bind(scope.tenant())
    .bind(page.limit())
    .bind(page.offset());
    let mut keys = paged(&mut connection, count, list, read).await?;
    for api_key in &mut keys.items {
        complete(&mut connection, api_key).await?;
    }
    Ok(keys)
}

/// False when there is none.
pub async fn delete(change: &mut Change, id: u64) -> Result<bool> {
    sqlx::query("DELETE FROM api_key_deployments WHERE api_key_id = $1")
        .bind(key(id))
        .execute(change.connection())
        .await?;
    let done =
        sqlx::query("DELETE FROM api_keys WHERE id = $1").bind(key(id)).execute(change.connection()).await?;
    change.notify(Notice::KeyRemoved(id));
    Ok(done.rows_affected() == 1)
}

/// How many administrators' keys are good at `now`.
pub async fn administrators(change: &mut Change, now: i64) -> Result<u64> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS administrators FROM api_keys WHERE administrator = 1 AND expires_at > $1",
    )
    .bind(now)
    .fetch_one(change.connection())
    .await?;
    row.id("administrators")
}

/// Administrators' keys that the Supervisor or somebody on its host made, not somebody over the API.
pub async fn made_on_the_host(change: &mut Change) -> Result<Vec<ApiKey>> {
    let rows =
        sqlx::query("SELECT * FROM api_keys WHERE administrator = 1 AND author_id IS NULL ORDER BY id")
            .fetch_all(change.connection())
            .await?;
    rows.iter().map(read).collect()
}

/// Counts a thing that is done once in the life of a store. True for the first caller ever.
pub async fn first_time(change: &mut Change, thing: &str) -> Result<bool> {
    let done = sqlx::query("INSERT INTO counters (name, value) VALUES ($1, 1) ON CONFLICT (name) DO NOTHING")
        .bind(thing)
        .execute(change.connection())
        .await?;
    Ok(done.rows_affected() == 1)
}

async fn complete(connection: &mut AnyConnection, api_key: &mut ApiKey) -> Result<()> {
    if api_key.deployments.is_none() {
        return Ok(());
    }
    let rows = sqlx::query(
        "SELECT deployment_id FROM api_key_deployments WHERE api_key_id = $1 ORDER BY deployment_id",
    )
    .bind(key(api_key.id))
    .fetch_all(connection)
    .await?;
    let ids: Result<Vec<u64>> = rows.iter().map(|row| row.id("deployment_id")).collect();
    api_key.deployments = Some(ids?);
    Ok(())
}

fn spaced(items: impl Iterator<Item = impl AsRef<str>>) -> String {
    items.fold(String::new(), |mut text, item| {
        if !text.is_empty() {
            text.push(' ');
        }
        text.push_str(item.as_ref());
        text
    })
}

fn unspaced<T: std::str::FromStr<Err: ToString>>(text: &str) -> Result<Vec<T>> {
    text.split_whitespace()
        .map(|item| item.parse().map_err(|error: T::Err| sqlx::Error::Decode(error.to_string().into())))
        .collect()
}

fn read(row: &AnyRow) -> Result<ApiKey> {
    Ok(ApiKey {
        id: row.id("id")?,
        tenant_id: row.id("tenant_id")?,
        name: row.text("name")?,
        hash: row.text("hash")?,
        administrator: row.yes("administrator")?,
        permissions: unspaced(&row.text("permissions")?)?.into_iter().collect(),
        allow_list: unspaced(&row.text("allow_list")?)?,
        deployments: row.yes("limited")?.then(Vec::new),
        author_id: row.maybe_id("author_id")?,
        created_at: row.number("created_at")?,
        expires_at: row.number("expires_at")?,
    })
}
