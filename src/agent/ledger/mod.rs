//! The ledger: every request this node ever accepted and how far it has come, on disk before anything follows from
//! it. SQLite, because it is torn by no crash.
//!
//! The schema grows by columns that may be absent, and by nothing else: an agent reads the ledger of the version
//! after its own, so that a package can be taken back, and refuses one from further ahead.

mod connection;
#[cfg(test)]
mod tests;

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use connection::Held;
use sqlx::Connection;
use sqlx::sqlite::SqliteConnection;
use tokio::sync::Mutex;
use warden_platform::boot_time::BootTime;
use warden_protocol::{Outcome, Work};

use super::request::{Progress, Record, Step};

/// Settled requests are kept to know a duplicate by, for so long,
const KEPT_FOR: Duration = Duration::from_secs(30 * 24 * 3600);
/// and so many at most;
const KEPT_MOST: i64 = 10_000;
/// so many stay whatever the clock says: it may have jumped.
const KEPT_LEAST: i64 = 1_000;

#[derive(Debug)]
pub struct Ledger {
    held: Mutex<Held>,
}

/// Why a request is not in the ledger as it should be.
#[derive(Debug, thiserror::Error)]
pub enum NotWritten {
    /// Nothing of it has reached the file.
    #[error("{0:#}")]
    Untouched(anyhow::Error),
    /// It may be there after a restart, and may not: [`Ledger::find`] tells.
    #[error("{0:#}")]
    Doubtful(anyhow::Error),
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

/// Requests that are looked at for how long they took.
const TOOK_LOOKED_AT: u32 = 8;

const COLUMNS: &str = "request, work, author, boot_id, deadline_ms, step, progress, outcome, settled_at_ms";
type Columns = (i64, Option<String>, String, String, i64, String, String, Option<String>, Option<i64>);

impl Ledger {
    /// # Errors
    /// It cannot be created or read, another agent has it, or it is of a version too far ahead.
    pub async fn open(path: &Path) -> anyhow::Result<Ledger> {
        Ok(Ledger { held: Mutex::new(Held::open(path).await?) })
    }

    /// Writes a request and how far it has come; it is on disk when this returns. `now_ms` since 1970.
    ///
    /// # Errors
    /// The disk is full or broken. What was there before is unharmed.
    pub async fn write(&self, entry: &Entry, record: &Record, now_ms: i64) -> Result<(), NotWritten> {
        let mut held = self.held.lock().await;
        let texts = Texts::of(entry, record).map_err(NotWritten::Untouched)?;
        let connection = held.writer().await.map_err(NotWritten::Untouched)?;
        insert(connection, entry, record, texts, now_ms)
            .await
            .map_err(|error| NotWritten::Doubtful(error.into()))?;
        held.written();
        Ok(())
    }

    /// Writes that the Supervisor has the outcome, and forgets requests that are old enough.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub async fn settle(&self, request: u64, now_ms: i64) -> anyhow::Result<()> {
        let mut held = self.held.lock().await;
        let mut transaction = held.writer().await?.begin().await?;
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
        held.written();
        Ok(())
    }

    /// Every request that is not settled, in the order of arrival.
    ///
    /// # Errors
    /// The disk is broken.
    pub async fn open_requests(&self) -> anyhow::Result<Vec<Row>> {
        let sql = format!("SELECT {COLUMNS} FROM request WHERE settled_at_ms IS NULL ORDER BY position");
        let rows: Vec<Columns> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_all(self.held.lock().await.reader().await?)
            .await
            .context("cannot read the ledger")?;
        Ok(rows.into_iter().map(row).collect())
    }

    /// A request this node knows, settled or not; one that is found is on disk.
    ///
    /// # Errors
    /// The disk is broken.
    pub async fn find(&self, request: u64) -> anyhow::Result<Option<Row>> {
        let mut held = self.held.lock().await;
        let sql = format!("SELECT {COLUMNS} FROM request WHERE request = $1");
        let found: Option<Columns> = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .bind(request.cast_signed())
            .fetch_optional(held.reader().await?)
            .await
            .context("cannot read the ledger")?;
        if let (Some(_), Some(doubt)) = (&found, held.doubt()) {
            bail!("{doubt}");
        }
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
        .fetch_all(self.held.lock().await.reader().await?)
        .await
        .context("cannot read the ledger")?;
        let begun = rows.into_iter().filter_map(|(work, author, at_ms)| {
            Some(Begun { work: serde_json::from_str(&work?).ok()?, author, at_ms })
        });
        Ok(begun.collect())
    }
}

impl Ledger {
    /// How long the same work took the last time that it was begun since then, in milliseconds: until its job ended and,
    /// where that took longer than the unit had to stay up, the runtime answered; or until it was given up as late.
    ///
    /// # Errors
    /// The disk is broken.
    pub async fn last_took_ms(&self, work: &Work, since_ms: i64) -> anyhow::Result<Option<u64>> {
        let rows: Vec<(String,)> = sqlx::query_as(
            "SELECT progress FROM request WHERE work = $1 AND intended_at_ms >= $2 \
             ORDER BY intended_at_ms DESC LIMIT $3",
        )
        .bind(serde_json::to_string(work)?)
        .bind(since_ms)
        .bind(TOOK_LOOKED_AT)
        .fetch_all(self.held.lock().await.reader().await?)
        .await
        .context("cannot read the ledger")?;
        // One that is under way, or was interrupted, does not tell.
        let took = rows.iter().find_map(|(progress,)| {
            let progress: Progress = serde_json::from_str(progress).ok()?;
            let took = progress.took_ms.max(progress.late_ms)?;
            Some(took.saturating_add(progress.answered_late_ms.unwrap_or(0)))
        });
        Ok(took)
    }
}

/// What is text in the table.
struct Texts {
    work: Option<String>,
    step: String,
    progress: String,
    outcome: Option<String>,
}

impl Texts {
    fn of(entry: &Entry, record: &Record) -> anyhow::Result<Texts> {
        Ok(Texts {
            work: entry.work.as_ref().map(serde_json::to_string).transpose()?,
            step: word(record.step)?,
            progress: serde_json::to_string(&record.progress)?,
            outcome: record.outcome.as_ref().map(serde_json::to_string).transpose()?,
        })
    }
}

async fn insert(
    connection: &mut SqliteConnection,
    entry: &Entry,
    record: &Record,
    texts: Texts,
    now_ms: i64,
) -> sqlx::Result<()> {
    let intended = (record.step >= Step::Intended && record.step < Step::Finished).then_some(now_ms);
    sqlx::query(
        "INSERT INTO request (request, work, author, received_at_ms, boot_id, deadline_ms, step, progress, \
         outcome, intended_at_ms) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10) \
         ON CONFLICT (request) DO UPDATE SET step = excluded.step, progress = excluded.progress, \
         outcome = excluded.outcome, intended_at_ms = COALESCE(intended_at_ms, excluded.intended_at_ms)",
    )
    .bind(entry.request.cast_signed())
    .bind(texts.work)
    .bind(&entry.author)
    .bind(now_ms)
    .bind(&entry.boot_id)
    .bind(entry.deadline.0.cast_signed())
    .bind(texts.step)
    .bind(texts.progress)
    .bind(texts.outcome)
    .bind(intended)
    .execute(connection)
    .await?;
    Ok(())
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
