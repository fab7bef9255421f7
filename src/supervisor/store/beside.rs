//! The store beside a Supervisor that may be running on it, and as a file: for what an operator does on its host.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context, ensure};
use sqlx::any::{AnyPoolOptions, install_default_drivers};
use sqlx::{AnyPool, Row};
use tokio::sync::broadcast;

use super::heartbeats::Fresh;
use super::open::{self, FILE};
use super::row::Columns;
use super::{Inner, Kind, NOTICES_WAITING, Store};
use crate::object_store::Key;
use crate::settings::Database;
use crate::snowflake::Ids;

/// The counter that tells when a file was copied from a store. Absent in a store that is no copy.
const COPIED_AT: &str = "copied_at";

/// The migration from which on deployments can be removed.
const DEPLOYMENTS_ARE_REMOVED: i64 = 5;

/// What a copy of a store holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Content {
    /// The tables it has, by the number of the migration that came last.
    pub version: i64,
    pub deployments: u64,
    pub nodes: u64,
    pub keys: u64,
    /// Archives that an object store must have.
    pub archives: Vec<Key>,
    /// When it was copied, in milliseconds since 1970 UTC.
    pub copied_at: Option<i64>,
}

impl Store {
    /// Opens the store as it is: makes nothing, brings no table up to date, and keeps nobody out.
    ///
    /// # Errors
    /// There is no store, or its tables are those of another version of this program.
    pub async fn beside(database: &Database) -> anyhow::Result<Store> {
        install_default_drivers();
        let (kind, pool) = match database {
            Database::Sqlite { directory } => {
                let file = directory.join(FILE);
                exists(&file)?;
                (Kind::Sqlite, open::writer(&file).await?)
            }
            Database::Postgres { url } => (Kind::Postgres, open::postgres(url).await?),
        };
        let version = version(&pool).await?;
        ensure!(
            version == open::newest(),
            "the tables of the store are those of another version of Warden: restart the Supervisor, which brings them \
             up to date"
        );
        Store::over(kind, pool).await
    }

    async fn over(kind: Kind, pool: AnyPool) -> anyhow::Result<Store> {
        let start = open::next_start(&pool).await.context("cannot count this start in the store")?;
        let (notices, _) = broadcast::channel(NOTICES_WAITING);
        let ids = Ids::new(start);
        let (writer, readers, fresh) = (pool.clone(), pool, Fresh::default());
        let inner = Inner { kind, writer, readers, ids, start, notices, fresh, _lock: None, _listener: None };
        Ok(Store { inner: Arc::new(inner) })
    }
}

/// Copies the SQLite store of `directory` into `file`, which is there and empty, as it is at one moment. A Supervisor
/// may be running on it: it neither waits for this nor is waited for.
pub async fn copy(directory: &Path, file: &Path, now: i64) -> anyhow::Result<Content> {
    install_default_drivers();
    let source = directory.join(FILE);
    exists(&source)?;
    let pool = open::writer(&source).await?;
    let into = file.to_str().context("the backup must be named in UTF-8")?;
    let copied = sqlx::query("VACUUM INTO $1").bind(into).execute(&pool).await;
    pool.close().await;
    copied.with_context(|| format!("cannot copy {} into {into}", source.display()))?;
    let pool = alone(file).await?;
    let marked = mark(&pool, now).await;
    let content = content(&pool).await;
    pool.close().await;
    marked.context("cannot write into the copy")?;
    content
}

/// Looks at a copy and makes a store of it again: it is what `copy` wrote, whole, and no newer than this program.
/// `audited` writes down what is done.
pub async fn revive(
    file: &Path,
    audited: impl AsyncFnOnce(&Store, &Content) -> super::Result<()>,
) -> anyhow::Result<Content> {
    install_default_drivers();
    let pool = alone(file).await?;
    let revived = async {
        let content = content(&pool).await?;
        ensure!(content.copied_at.is_some(), "it is no backup of a Supervisor");
        ensure!(
            content.version <= open::newest(),
            "a newer Warden wrote it: restore it with that version or a later one"
        );
        let verdict: String = sqlx::query("PRAGMA integrity_check(1)").fetch_one(&pool).await?.try_get(0)?;
        ensure!(verdict == "ok", "it is damaged: {verdict}");
        sqlx::query("DELETE FROM counters WHERE name = $1").bind(COPIED_AT).execute(&pool).await?;
        let store = Store::over(Kind::Sqlite, pool.clone()).await?;
        audited(&store, &content).await?;
        Ok(content)
    };
    let revived = revived.await;
    pool.close().await;
    revived
}

fn exists(file: &Path) -> anyhow::Result<()> {
    let metadata = std::fs::metadata(file);
    metadata.map(|_| ()).with_context(|| match std::fs::symlink_metadata(file) {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            format!("there is no store at {}; --data-dir or --config says where it is", file.display())
        }
        _ => format!("cannot look at {}: run this as root or as the user warden-supervisor", file.display()),
    })
}

/// A file that nobody else has open, without a log beside it.
async fn alone(file: &Path) -> anyhow::Result<AnyPool> {
    let pool = AnyPoolOptions::new()
        .max_connections(1)
        .idle_timeout(None)
        .max_lifetime(None)
        .connect_with(open::options(file)?)
        .await?;
    // Not as it connects: a pool tries that again and again.
    let pragmas = "PRAGMA journal_mode = DELETE; PRAGMA synchronous = FULL;";
    sqlx::raw_sql(pragmas).execute(&pool).await.context("it is no backup of a Supervisor")?;
    Ok(pool)
}

async fn mark(pool: &AnyPool, now: i64) -> super::Result<()> {
    sqlx::query(
        "INSERT INTO counters (name, value) VALUES ($1, $2) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
    )
    .bind(COPIED_AT)
    .bind(now)
    .execute(pool)
    .await
    .map(|_| ())
}

async fn version(pool: &AnyPool) -> anyhow::Result<i64> {
    let row = sqlx::query("SELECT MAX(version) AS version FROM _sqlx_migrations").fetch_one(pool).await;
    let version = row.and_then(|row| row.number("version"));
    version.context("no Supervisor has kept its state here")
}

async fn content(pool: &AnyPool) -> anyhow::Result<Content> {
    let foreign = "it is no backup of a Supervisor";
    let version = version(pool).await.context(foreign)?;
    let count = async |sql: &'static str| sqlx::query(sql).fetch_one(pool).await?.id("count");
    let rows = sqlx::query(
        "SELECT deployment_id, id FROM snapshots WHERE status = 'completed' AND removed_at IS NULL ORDER BY id",
    );
    let archive =
        |row: &sqlx::any::AnyRow| Ok(Key { deployment: row.id("deployment_id")?, snapshot: row.id("id")? });
    let archives: super::Result<Vec<Key>> =
        rows.fetch_all(pool).await.context(foreign)?.iter().map(archive).collect();
    let copied_at = sqlx::query("SELECT value FROM counters WHERE name = $1")
        .bind(COPIED_AT)
        .fetch_optional(pool)
        .await?
        .map(|row| row.number("value"))
        .transpose()?;
    Ok(Content {
        version,
        deployments: count(if version < DEPLOYMENTS_ARE_REMOVED {
            "SELECT COUNT(*) AS count FROM deployments"
        } else {
            "SELECT COUNT(*) AS count FROM deployments WHERE removed_at IS NULL"
        })
        .await?,
        nodes: count("SELECT COUNT(*) AS count FROM nodes WHERE removed_at IS NULL").await?,
        keys: count("SELECT COUNT(*) AS count FROM api_keys").await?,
        archives: archives?,
        copied_at,
    })
}
