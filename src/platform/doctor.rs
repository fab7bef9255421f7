//! What `warden doctor` says of one thing that it looked at.

use std::io::Read;
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Serialize;
use sqlx::sqlite::SqliteConnectOptions;
use sqlx::{ConnectOptions, Connection};

#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    Pass,
    /// It works, and something about it should not stay as it is.
    Warn,
    Fail,
    /// It could not be seen.
    Unknown,
}

/// A file of SQLite begins so (https://www.sqlite.org/fileformat.html, 1.3).
const MAGIC: &[u8] = b"SQLite format 3\0";

/// One thing that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// In a word.
    pub about: &'static str,
    pub verdict: Verdict,
    pub told: String,
    /// What to do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub advice: Option<String>,
}

/// What it takes to see everything.
pub const AS_ROOT: &str = "run this as root";

pub fn is_denied(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::PermissionDenied)
}

pub fn pass(about: &'static str, told: impl ToString) -> Finding {
    Finding { about, verdict: Verdict::Pass, told: told.to_string(), advice: None }
}

pub fn warn(about: &'static str, told: impl ToString, advice: impl ToString) -> Finding {
    Finding { about, verdict: Verdict::Warn, told: told.to_string(), advice: Some(advice.to_string()) }
}

pub fn fail(about: &'static str, told: impl ToString, advice: impl ToString) -> Finding {
    Finding { about, verdict: Verdict::Fail, told: told.to_string(), advice: Some(advice.to_string()) }
}

pub fn unknown(about: &'static str, told: impl ToString) -> Finding {
    Finding { about, verdict: Verdict::Unknown, told: told.to_string(), advice: Some(AS_ROOT.to_owned()) }
}

/// Fails where a file is no database of SQLite.
pub fn is_sqlite(file: &Path) -> anyhow::Result<()> {
    let mut head = [0; MAGIC.len()];
    let read = std::fs::File::open(file).and_then(|mut file| file.read_exact(&mut head));
    read.with_context(|| format!("cannot read {}", file.display()))?;
    ensure!(head == MAGIC, "{} is no database", file.display());
    Ok(())
}

/// Whether a database that nobody has open is whole. Without a lock and without a file beside it, which would be
/// another user's.
///
/// # Errors
/// It is damaged, or none.
pub async fn check_sqlite(ledger: &Path) -> anyhow::Result<()> {
    is_sqlite(ledger)?;
    let options = SqliteConnectOptions::new().filename(ledger).read_only(true).immutable(true);
    let checked = async {
        let mut connection = options.connect().await?;
        let told: Vec<String> =
            sqlx::query_scalar("PRAGMA quick_check(1)").fetch_all(&mut connection).await?;
        connection.close().await?;
        ensure!(told == ["ok"], "{}", told.join("; "));
        Ok(())
    };
    checked.await.with_context(|| format!("{} is damaged", ledger.display()))
}
