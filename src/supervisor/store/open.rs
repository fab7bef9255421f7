//! Opens the store: connections, pragmas, migrations, and the number of this start.

use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::Path;
use std::str::FromStr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rustix::fs::{FlockOperation, flock};
use sqlx::any::{AnyConnectOptions, AnyPoolOptions, install_default_drivers};
use sqlx::migrate::{Migration, MigrationType, Migrator};
use sqlx::{AnyConnection, AnyPool, Connection, Row, SqlSafeStr};
use tokio::sync::broadcast;
use tokio_util::task::AbortOnDropHandle;
use warden_platform::secret::Secret;

use super::heartbeats::Fresh;
use super::{Inner, Kind, NOTICES_WAITING, Store, notify};
use crate::settings::Database;
use crate::snowflake::Ids;

/// The file of SQLite in the data directory.
pub const FILE: &str = "warden.sqlite";
/// Connections that read SQLite side by side: as many as the cores of a small machine.
const SQLITE_READERS: u32 = 4;
/// Connections to PostgreSQL of one Supervisor; a server takes 100 by default.
const POSTGRES_CONNECTIONS: u32 = 16;
/// For a connection to be free, and for SQLite's lock: longer means the store is overwhelmed, and the caller is told.
const PATIENCE: Duration = Duration::from_secs(5);

/// In the order they are applied; one that was released is never changed again.
const MIGRATIONS: &[(i64, &str, &str)] = &[
    (1, "first", include_str!("migrations/0001_first.sql")),
    (2, "snapshots", include_str!("migrations/0002_snapshots.sql")),
    (3, "offers", include_str!("migrations/0003_offers.sql")),
    (4, "snapshot_log", include_str!("migrations/0004_snapshot_log.sql")),
    (5, "operators", include_str!("migrations/0005_operators.sql")),
    (6, "links", include_str!("migrations/0006_links.sql")),
    (7, "replacement", include_str!("migrations/0007_replacement.sql")),
];

/// The number of the tables that this program knows.
pub(super) fn newest() -> i64 {
    MIGRATIONS.last().map_or(0, |(version, ..)| *version)
}

impl Store {
    /// Opens the store, makes it where it is not there yet, and brings its tables up to date.
    pub async fn open(database: &Database) -> anyhow::Result<Store> {
        install_default_drivers();
        let (sender, _) = broadcast::channel(NOTICES_WAITING);
        let (kind, writer, readers, lock, listener) = match database {
            Database::Sqlite { directory } => {
                let lock = claim(directory)?;
                let file = directory.join(FILE);
                // SQLite gives its other files the mode of the first.
                std::fs::OpenOptions::new()
                    .create(true)
                    .append(true)
                    .mode(0o600)
                    .open(&file)
                    .with_context(|| format!("cannot write {}", file.display()))?;
                let options = options(&file)?;
                let writer = writer(&file).await?;
                migrate(&writer).await?;
                let readers = sqlite_pool(SQLITE_READERS, true, options).await?;
                (Kind::Sqlite, writer, readers, Some(lock), None)
            }
            Database::Postgres { url } => {
                let pool = postgres(url).await?;
                migrate(&pool).await?;
                let listener = notify::listener(url.expose()).await.context("cannot listen to PostgreSQL")?;
                (Kind::Postgres, pool.clone(), pool, None, Some(listener))
            }
        };
        let start = next_start(&writer).await.context("cannot count this start in the store")?;
        let ids = Ids::new(start);
        let listener = match listener {
            Some(mut listener) => {
                notify::hold(&mut listener, ids.number()).await.context("cannot say that this one lives")?;
                let task = tokio::spawn(notify::hear(listener, ids.number(), sender.clone()));
                Some(AbortOnDropHandle::new(task))
            }
            None => None,
        };
        Ok(Store {
            inner: Arc::new(Inner {
                kind,
                writer,
                readers,
                ids,
                start,
                notices: sender,
                fresh: Fresh::default(),
                _lock: lock,
                _listener: listener,
            }),
        })
    }
}

/// How a file of SQLite that is there is opened.
pub(super) fn options(file: &Path) -> anyhow::Result<AnyConnectOptions> {
    connect_options(&format!("sqlite://{}?mode=rw", percent_encoded(file)?))
}

/// The one connection that writes SQLite.
pub(super) async fn writer(file: &Path) -> anyhow::Result<AnyPool> {
    sqlite_pool(1, false, options(file)?).await
}

pub(super) async fn postgres(url: &Secret) -> anyhow::Result<AnyPool> {
    AnyPoolOptions::new()
        .max_connections(POSTGRES_CONNECTIONS)
        .acquire_timeout(PATIENCE)
        .before_acquire(|connection, _| {
            let at_rest = is_at_rest(connection);
            Box::pin(async move { Ok(at_rest) })
        })
        .connect_with(connect_options(url.expose())?)
        .await
        .context("cannot connect to PostgreSQL")
}

/// Makes the directory, and holds it against a second Supervisor: two of them need PostgreSQL.
pub fn claim(directory: &Path) -> anyhow::Result<std::fs::File> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(directory)
        .with_context(|| format!("cannot make the data directory {}", directory.display()))?;
    let path = directory.join("lock");
    let lock = std::fs::OpenOptions::new()
        .create(true)
        .append(true)
        .mode(0o600)
        .open(&path)
        .with_context(|| format!("cannot write {}", path.display()))?;
    ensure!(
        flock(&lock, FlockOperation::NonBlockingLockExclusive).is_ok(),
        "another Supervisor runs on {}; stop it, or let both use PostgreSQL",
        directory.display()
    );
    Ok(lock)
}

fn connect_options(url: &str) -> anyhow::Result<AnyConnectOptions> {
    // The error could repeat the address with its password.
    AnyConnectOptions::from_str(url).ok().context("the address of the database is no URL")
}

async fn sqlite_pool(
    connections: u32,
    read_only: bool,
    options: AnyConnectOptions,
) -> anyhow::Result<AnyPool> {
    let pragmas = if read_only {
        "PRAGMA busy_timeout = 5000; PRAGMA query_only = ON;"
    } else {
        // FULL: what was answered with 2xx survives a power cut.
        "PRAGMA busy_timeout = 5000; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; \
         PRAGMA foreign_keys = ON; PRAGMA journal_size_limit = 67108864;"
    };
    AnyPoolOptions::new()
        .max_connections(connections)
        .min_connections(1)
        .acquire_timeout(PATIENCE)
        // A file does not go away between two questions.
        .test_before_acquire(false)
        .idle_timeout(None)
        .max_lifetime(None)
        .before_acquire(|connection, _| {
            let at_rest = is_at_rest(connection);
            Box::pin(async move { Ok(at_rest) })
        })
        .after_connect(move |connection, _| {
            Box::pin(async move { sqlx::raw_sql(pragmas).execute(connection).await.map(|_| ()) })
        })
        .connect_with(options)
        .await
        .context("cannot open SQLite")
}

/// Whether a connection that nobody uses is in no transaction, as it must be. SQLite rolls back by itself when the disk is
/// full, and the driver, which cannot roll back a second time, counts the transaction as open for ever: no other can be
/// begun. Such a connection is closed, and another one opened in its place.
fn is_at_rest(connection: &mut AnyConnection) -> bool {
    let at_rest = !connection.is_in_transaction();
    if !at_rest {
        tracing::warn!("a connection to the store was left in a transaction that failed; it is replaced");
    }
    at_rest
}

/// As the SQLite driver decodes it: `%` and what a URL has a meaning for.
fn percent_encoded(path: &Path) -> anyhow::Result<String> {
    let path = std::path::absolute(path)?;
    let text = path.to_str().context("the data directory must be named in UTF-8")?;
    Ok(text
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'_' | b'.' | b'~' => {
                char::from(byte).to_string()
            }
            other => format!("%{other:02X}"),
        })
        .collect())
}

async fn migrate(pool: &AnyPool) -> anyhow::Result<()> {
    let migrations = MIGRATIONS
        .iter()
        .map(|(version, name, sql)| {
            Migration::new(*version, (*name).into(), MigrationType::Simple, sql.into_sql_str(), false)
        })
        .collect();
    Migrator::with_migrations(migrations).run(pool).await.context(
        "cannot bring the tables of the store up to date; a store that a newer Warden wrote needs that Warden",
    )
}

/// Counts the starts of Supervisors on this store, and returns how many there were before.
pub(super) async fn next_start(pool: &AnyPool) -> super::Result<u64> {
    let row = sqlx::query(
        "INSERT INTO counters (name, value) VALUES ('starts', 1) \
         ON CONFLICT (name) DO UPDATE SET value = counters.value + 1 RETURNING value",
    )
    .fetch_one(pool)
    .await?;
    Ok(row.try_get::<i64, _>(0)?.cast_unsigned().saturating_sub(1))
}
