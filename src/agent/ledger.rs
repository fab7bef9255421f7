//! The ledger: every request this node ever accepted and how far it has come, on disk before anything follows from
//! it. SQLite, because it is torn by no crash.
//!
//! The schema grows by columns that may be absent, and by nothing else: an agent reads the ledger of the version
//! after its own, so that a package can be taken back, and refuses one from further ahead.

use std::fs::OpenOptions;
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, ensure};
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteConnection, SqliteJournalMode, SqliteLockingMode, SqliteSynchronous,
};
use sqlx::{ConnectOptions, Connection};
use tokio::sync::Mutex;

use super::clock::BootTime;
use super::request::{Progress, Record, Step};
use crate::protocol::{Outcome, Work};

/// `PRAGMA user_version` of what this version writes.
const SCHEMA: i64 = 1;
/// How long another agent may hold the ledger, while it stops, before this one gives up.
const BUSY_LIMIT: Duration = Duration::from_secs(10);
/// Pages of 4 KiB in the write-ahead log before they go to their places: about a megabyte.
const CHECKPOINT_PAGES: &str = "256";
/// Negative: KiB of memory for pages, of which a ledger's busy part needs few.
const CACHE: &str = "-512";

/// Settled requests are kept to know a duplicate by, for so long,
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// and so many at most;
const KEPT_MOST: i64 = 10_000;
/// so many stay whatever the clock says: it may have jumped.
const KEPT_LEAST: i64 = 1_000;

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
pub struct Ledger {
    connection: Mutex<SqliteConnection>,
}

/// What a request is, as it came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    pub request: u64,
    /// Absent: unknown to this version, or cancelled before it came.
    pub work: Option<Work>,
    pub author: String,
    pub boot_id: String,
    pub deadline: BootTime,
}

/// A request in the ledger.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub entry: Entry,
    /// Absent: another version of the agent has written something this one does not understand.
    pub record: Option<Record>,
    pub settled: bool,
}

/// Something that was begun, for the policy to count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub work: Work,
    pub author: String,
    pub at_ms: i64,
}

const COLUMNS: &str = "request, work, author, boot_id, deadline_ms, step, progress, outcome, settled_at_ms";
type Columns = (i64, Option<String>, String, String, i64, String, String, Option<String>, Option<i64>);

impl Ledger {
    /// # Errors
    /// It cannot be created or read, another agent has it, or it is of a version too far ahead.
    pub async fn open(path: &Path) -> anyhow::Result<Ledger> {
        let connection = connect(path).await;
        let connection = connection.with_context(|| format!("cannot open the ledger {}", path.display()))?;
        Ok(Ledger { connection: Mutex::new(connection) })
    }

    /// Writes a request and how far it has come; it is on disk when this returns. `now_ms` since 1970.
    ///
    /// # Errors
    /// The disk is full or broken. What was there before is unharmed.
    pub async fn write(&self, entry: &Entry, record: &Record, now_ms: i64) -> anyhow::Result<()> {
        let work = entry.work.as_ref().map(serde_json::to_string).transpose()?;
        let outcome = record.outcome.as_ref().map(serde_json::to_string).transpose()?;
        let intended = (record.step >= Step::Intended && record.step < Step::Finished).then_some(now_ms);
        let query = sqlx::query(
            "INSERT INTO request (request, work, author, received_at_ms, boot_id, deadline_ms, step, progress, \
             outcome, intended_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
             ON CONFLICT (request) DO UPDATE SET step = excluded.step, progress = excluded.progress, \
             outcome = excluded.outcome, intended_at_ms = COALESCE(intended_at_ms, excluded.intended_at_ms)",
        )
        .bind(entry.request.cast_signed())
        .bind(work)
        .bind(&entry.author)
        .bind(now_ms)
        .bind(&entry.boot_id)
        .bind(entry.deadline.0.cast_signed())
        .bind(word(record.step)?)
        .bind(serde_json::to_string(&record.progress)?)
        .bind(outcome)
        .bind(intended);
        query.execute(&mut *self.connection.lock().await).await?;
        Ok(())
    }

    /// Writes that the Supervisor has the outcome, and forgets requests that are old enough.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub async fn settle(&self, request: u64, now_ms: i64) -> anyhow::Result<()> {
        let mut connection = self.connection.lock().await;
        let mut transaction = connection.begin().await?;
        sqlx::query("UPDATE request SET settled_at_ms = COALESCE(settled_at_ms, $1) WHERE request = $2")
            .bind(now_ms)
            .bind(request.cast_signed())
            .execute(&mut *transaction)
            .await?;
        let kept = i64::try_from(KEPT_FOR.as_millis()).unwrap_or(i64::MAX);
        sqlx::query(
            "DELETE FROM request WHERE settled_at_ms IS NOT NULL AND (\
             position <= (SELECT MAX(position) FROM request) - $1 OR (settled_at_ms < $2 AND \
             position <= (SELECT MAX(position) FROM request) - $3))",
        )
        .bind(KEPT_MOST)
        .bind(now_ms.saturating_sub(kept))
        .bind(KEPT_LEAST)
        .execute(&mut *transaction)
        .await?;
        transaction.commit().await?;
        Ok(())
    }

    /// Every request that is not settled, in the order of arrival.
    ///
    /// # Errors
    /// The disk is broken.
    pub async fn open_requests(&self) -> anyhow::Result<Vec<Row>> {
        let sql = format!("SELECT {COLUMNS} FROM request WHERE settled_at_ms IS NULL ORDER BY position");
        let rows: Vec<Columns> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(&mut *self.connection.lock().await)
            .await
            .context("cannot read the ledger")?;
        Ok(rows.into_iter().map(row).collect())
    }

    /// A request this node knows, settled or not.
    ///
    /// # Errors
    /// The disk is broken.
    pub async fn find(&self, request: u64) -> anyhow::Result<Option<Row>> {
        let sql = format!("SELECT {COLUMNS} FROM request WHERE request = $1");
        let found: Option<Columns> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(request.cast_signed())
            .fetch_optional(&mut *self.connection.lock().await)
            .await
            .context("cannot read the ledger")?;
        Ok(found.map(row))
    }

    /// What was begun since a time, the newest first, `most` at most.
    ///
    /// # Errors
    /// The disk is broken.
    pub async fn begun_since(&self, since_ms: i64, most: u32) -> anyhow::Result<Vec<Begun>> {
        let rows: Vec<(Option<String>, String, i64)> = sqlx::query_as(
            "SELECT work, author, intended_at_ms FROM request WHERE intended_at_ms >= $1 \
             ORDER BY intended_at_ms DESC LIMIT $2",
        )
        .bind(since_ms)
        .bind(most)
        .fetch_all(&mut *self.connection.lock().await)
        .await
        .context("cannot read the ledger")?;
        let begun = rows.into_iter().filter_map(|(work, author, at_ms)| {
            Some(Begun { work: serde_json::from_str(&work?).ok()?, author, at_ms })
        });
        Ok(begun.collect())
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

fn row((request, work, author, boot_id, deadline, step, progress, outcome, settled): Columns) -> Row {
    let entry = Entry {
        request: request.cast_unsigned(),
        work: work.and_then(|work| serde_json::from_str(&work).ok()),
        author,
        boot_id,
        deadline: BootTime(deadline.cast_unsigned()),
    };
    Row { entry, record: record(&step, &progress, outcome.as_deref()), settled: settled.is_some() }
}

fn record(step: &str, progress: &str, outcome: Option<&str>) -> Option<Record> {
    let step: Step = serde_json::from_value(step.into()).ok()?;
    let progress: Progress = serde_json::from_str(progress).ok()?;
    let outcome: Option<Outcome> = outcome.map(serde_json::from_str).transpose().ok()?;
    Some(Record { step, progress, outcome })
}

fn word(step: Step) -> anyhow::Result<String> {
    Ok(serde_json::to_value(step)?.as_str().unwrap_or_default().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::{Action, Code, Runtime, UnitState};
    use crate::systemd::Standing;

    const DAY_MS: i64 = 24 * 3600 * 1000;

    fn entry(request: u64) -> Entry {
        Entry {
            request,
            work: Some(Work::Activity { runtime: Runtime::Iggy, action: Action::Restart }),
            author: "ops@example.com".into(),
            boot_id: "this boot".into(),
            deadline: BootTime(1_000),
        }
    }

    fn at(step: Step) -> Record {
        Record { step, progress: Progress::default(), outcome: None }
    }

    async fn sql(path: &Path, sql: &'static str) {
        let mut connection = SqliteConnectOptions::new().filename(path).connect().await.unwrap();
        sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
    }

    #[tokio::test]
    async fn what_was_written_is_read_again_in_the_order_of_arrival() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open(&path).await.unwrap();
        let (late, early) = (entry(3), entry(u64::MAX));
        ledger.write(&early, &at(Step::Accepted), 5).await.unwrap();
        ledger.write(&late, &at(Step::Accepted), 6).await.unwrap();
        let state = UnitState { invocation_id: "ab".into(), ..UnitState::default() };
        let before = Some(Standing { state, restarts: 7, ..Standing::default() });
        let progress = Progress { before, bus: Some("b :1.2".into()), ..Progress::default() };
        let record = Record { step: Step::Intended, progress, outcome: None };
        ledger.write(&early, &record, 7).await.unwrap();
        drop(ledger);

        let ledger = Ledger::open(&path).await.unwrap();
        let rows = ledger.open_requests().await.unwrap();
        assert_eq!(
            rows,
            [
                Row { entry: early.clone(), record: Some(record), settled: false },
                Row { entry: late, record: Some(at(Step::Accepted)), settled: false },
            ]
        );
        let begun = ledger.begun_since(7, 10).await.unwrap();
        assert_eq!(begun, [Begun { work: early.work.unwrap(), author: early.author, at_ms: 7 }]);
        assert_eq!(ledger.begun_since(8, 10).await.unwrap(), []);
        let mode = std::os::unix::fs::MetadataExt::mode(&std::fs::metadata(&path).unwrap());
        assert_eq!(mode & 0o777, 0o600);
    }

    #[tokio::test]
    async fn a_settled_request_is_known_for_thirty_days_but_the_newest_thousand_longer() {
        let folder = tempfile::tempdir().unwrap();
        let ledger = Ledger::open(&folder.path().join("ledger.sqlite")).await.unwrap();
        let outcome = Outcome::rejected(Code::PolicyDenied, "no");
        let finished = Record { outcome: Some(outcome), ..at(Step::Finished) };
        ledger.write(&entry(1), &finished, 0).await.unwrap();
        ledger.settle(1, 0).await.unwrap();
        assert!(ledger.open_requests().await.unwrap().is_empty());
        ledger.settle(1, 40 * DAY_MS).await.unwrap();
        let known = ledger.find(1).await.unwrap().unwrap();
        assert_eq!((known.settled, known.record), (true, Some(finished.clone())));
        for request in 2..=1_001 {
            ledger.write(&entry(request), &finished, 0).await.unwrap();
        }
        ledger.settle(2, 29 * DAY_MS).await.unwrap();
        assert!(ledger.find(1).await.unwrap().is_some());
        ledger.settle(2, 31 * DAY_MS).await.unwrap();
        assert!(ledger.find(1).await.unwrap().is_none());
        assert!(ledger.find(2).await.unwrap().is_some());
    }

    #[tokio::test]
    async fn a_second_agent_does_not_get_the_ledger() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let _first = Ledger::open(&path).await.unwrap();
        let options = SqliteConnectOptions::new().filename(&path).busy_timeout(Duration::ZERO);
        let mut second = options.connect().await.unwrap();
        let answer = sqlx::query("SELECT * FROM request").fetch_all(&mut second).await;
        assert!(answer.unwrap_err().to_string().contains("locked"));
    }

    #[tokio::test]
    async fn the_next_version_may_come_and_go_and_one_further_ahead_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        let ledger = Ledger::open(&path).await.unwrap();
        ledger.write(&entry(1), &at(Step::Accepted), 0).await.unwrap();
        drop(ledger);
        sql(
            &path,
            "ALTER TABLE request ADD COLUMN colour TEXT; PRAGMA user_version = 2; \
             INSERT INTO request (request, work, author, received_at_ms, boot_id, deadline_ms, step, progress, colour) \
             VALUES (2, '{\"kind\":\"dance\"}', 'a', 0, 'b', 0, 'accepted', '{\"mood\":1}', 'red'), \
             (3, NULL, 'a', 0, 'b', 0, 'rehearsed', '{}', 'red')",
        )
        .await;
        let ledger = Ledger::open(&path).await.unwrap();
        ledger.write(&entry(1), &at(Step::Intended), 0).await.unwrap();
        let rows = ledger.open_requests().await.unwrap();
        let seen: Vec<_> = rows.iter().map(|row| (row.entry.work.is_some(), row.record.is_some())).collect();
        assert_eq!(seen, [(true, true), (false, true), (false, false)]);
        drop(ledger);

        sql(&path, "PRAGMA user_version = 3").await;
        let error = format!("{:#}", Ledger::open(&path).await.unwrap_err());
        assert!(
            error.contains("written by a newer version of Warden (format 3; this one reads up to 2)"),
            "{error}"
        );
    }

    #[tokio::test]
    async fn what_is_no_ledger_is_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ledger.sqlite");
        std::fs::write(&path, "not a database, but somebody's letters".repeat(100)).unwrap();
        let error = format!("{:#}", Ledger::open(&path).await.unwrap_err());
        assert!(error.starts_with("cannot open the ledger /") && error.contains("not a database"), "{error}");
        assert!(std::fs::read_to_string(&path).unwrap().starts_with("not a database"));
    }
}
