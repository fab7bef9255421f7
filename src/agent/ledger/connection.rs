//! The ledger's file, held by this process alone. After a write that failed it is closed and opened anew, so that what
//! this process sees in it is what a restart would find.
//!
//! A commit that SQLite says has failed may lie whole in the write-ahead log: the fsync after it failed. SQLite goes on
//! without it, and the next start of the agent with it. So nobody believes either of them: the file is read as that
//! start would read it. And what is read may not be on disk, for after an fsync that failed Linux takes the pages for
//! clean (fsync(2)), and the next fsync says that all is well: so the log is written once more before it is believed.
//! (What is checkpointed needs no such care: SQLite writes it from the log again until an fsync of it succeeds.)

use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};

/// `PRAGMA user_version` of what this version writes.
const SCHEMA: i64 = 1;
/// How long another agent may hold the ledger, while it stops, before this one gives up.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// Pages of 4 KiB in the write-ahead log before they go to their places: about a megabyte.
const CHECKPOINT_PAGES: &str = "256";
/// Negative: KiB of memory for pages, of which a ledger's busy part needs few.
const CACHE: &str = "-512";

/// Bytes of the log that are written again at once.
const CHUNK: usize = 64 << 10;
const UNFINISHED: &str = "a write to it was not finished";

const CREATE: &str = "
BEGIN IMMEDIATE;
CREATE TABLE request (
    position INTEGER PRIMARY KEY AUTOINCREMENT, -- order of arrival
    request INTEGER NOT NULL UNIQUE,
    work TEXT,                                  -- JSON; absent: it was cancelled before it came
    author TEXT NOT NULL,
    received_at_ms INTEGER NOT NULL,            -- since 1970 UTC, like every _at_ms
    boot_id TEXT NOT NULL,                      -- what the deadline is counted in
    deadline_ms INTEGER NOT NULL,               -- CLOCK_BOOTTIME
    step TEXT NOT NULL,
    progress TEXT NOT NULL,                     -- JSON
    outcome TEXT,                               -- JSON
    intended_at_ms INTEGER,
    settled_at_ms INTEGER
);
CREATE INDEX request_open ON request (position) WHERE settled_at_ms IS NULL;
CREATE INDEX request_intended ON request (intended_at_ms) WHERE intended_at_ms IS NOT NULL;
PRAGMA user_version = 1;
COMMIT;
";

#[derive(Debug)]
pub struct Held {
    path: PathBuf,
    /// Absent: it could not be opened again.
    connection: Option<SqliteConnection>,
    /// Why a restart may find something else than this connection sees; absent when it cannot.
    doubt: Option<String>,
}

impl Held {
    /// # Errors
    /// It cannot be created or read, another agent has it, or it is of a version too far ahead.
    pub async fn open(path: &Path) -> anyhow::Result<Held> {
        let mut held =
            Held { path: path.to_owned(), connection: None, doubt: Some("it is not open".to_owned()) };
        held.reader().await?;
        if let Some(doubt) = &held.doubt {
            tracing::warn!("nothing is accepted for now: {doubt}");
        }
        Ok(held)
    }

    /// What there is, whether or not it is on disk: see [`Held::doubt`].
    ///
    /// # Errors
    /// It cannot be opened.
    pub async fn reader(&mut self) -> anyhow::Result<&mut SqliteConnection> {
        if self.doubt.is_some()
            && let Some(connection) = self.connection.take()
            && let Err(error) = connection.close().await
        {
            tracing::debug!("the ledger was not closed cleanly: {error}");
        }
        if self.connection.is_none() {
            let opened = connect(&self.path).await;
            let opened = opened.with_context(|| format!("cannot open the ledger {}", self.path.display()))?;
            self.connection = Some(opened);
            // Not before it is open: another agent might have it, and be writing.
            let path = self.path.clone();
            let put = tokio::task::spawn_blocking(move || put_on_disk(&path)).await?;
            self.doubt =
                put.err().map(|error| format!("what is in the ledger cannot be put on disk: {error}"));
        }
        self.connection.as_mut().ok_or_else(|| anyhow!("the ledger is not open"))
    }

    /// For one write, which ends with [`Held::written`]. One that does not leaves the file in doubt.
    ///
    /// # Errors
    /// It cannot be opened, or what is in it already cannot be put on disk.
    pub async fn writer(&mut self) -> anyhow::Result<&mut SqliteConnection> {
        self.reader().await?;
        if let Some(doubt) = &self.doubt {
            return Err(anyhow!("{doubt}"));
        }
        self.doubt = Some(UNFINISHED.to_owned());
        self.connection.as_mut().ok_or_else(|| anyhow!("the ledger is not open"))
    }

    pub fn written(&mut self) {
        self.doubt = None;
    }

    pub fn doubt(&self) -> Option<&str> {
        self.doubt.as_deref()
    }
}

/// Writes what is in the write-ahead log once more, as it is.
fn put_on_disk(path: &Path) -> io::Result<()> {
    let mut log = path.as_os_str().to_owned();
    log.push("-wal");
    match OpenOptions::new().read(true).write(true).open(&log) {
        Ok(log) => write_again(&log)?,
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    // Whether the log is there at all.
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

fn write_again(file: &File) -> io::Result<()> {
    let mut bytes = vec![0; CHUNK];
    let mut at = 0;
    loop {
        let read = file.read_at(&mut bytes, at)?;
        if read == 0 {
            return file.sync_all();
        }
        file.write_all_at(&bytes[..read], at)?;
        at += read as u64;
    }
}

async fn connect(path: &Path) -> anyhow::Result<SqliteConnection> {
    // Authors and sentences are nobody's business but root's and the agent's. SQLite gives its other files the
    // permissions of this one.
    let file = OpenOptions::new().create(true).append(true).mode(0o600).open(path);
    file.context("cannot create it")?;
    let mut connection = SqliteConnectOptions::new()
        .filename(path)
        // One fsync a write. Nobody else opens it, so there is no need of shared memory; and two agents that
        // somebody starts by mistake cannot both work.
        .locking_mode(SqliteLockingMode::Exclusive)
        .journal_mode(SqliteJournalMode::Wal)
        .synchronous(SqliteSynchronous::Full)
        .busy_timeout(BUSY_LIMIT)
        .pragma("wal_autocheckpoint", CHECKPOINT_PAGES)
        .pragma("cache_size", CACHE)
        .disable_statement_logging()
        .connect()
        .await?;
    let version: i64 = sqlx::query_scalar("PRAGMA user_version").fetch_one(&mut connection).await?;
    ensure!(
        version <= SCHEMA + 1,
        "it was written by a newer version of Warden (format {version}; this one reads up to {}): install that \
         version again, or move the file away if every activity of this node has ended",
        SCHEMA + 1
    );
    if version == 0 {
        sqlx::raw_sql(CREATE).execute(&mut connection).await.context("cannot create its table")?;
    }
    Ok(connection)
}
