//! The Supervisor's state, in SQLite or PostgreSQL: one file a table, one SQL text for both.
//!
//! A change is one transaction together with what others are told when it is committed. Times are milliseconds since
//! 1970 UTC and come in as arguments.

pub mod activities;
pub mod async_actions;
pub mod audit;
pub mod beside;
pub mod deployments;
pub mod enrolments;
pub mod heartbeats;
pub mod idempotency;
pub mod keys;
pub mod nodes;
mod notify;
pub(super) mod open;
mod pagination;
mod row;
pub mod snapshots;

use std::sync::Arc;

use heartbeats::Fresh;
pub use notify::{Notice, Notices};
pub use open::FILE;
pub use pagination::{Page, Paged};
use sqlx::{Any, AnyConnection, AnyPool, Transaction};
use tokio::sync::broadcast;

use super::snowflake::Ids;

pub type Result<T> = std::result::Result<T, sqlx::Error>;

/// Notices a slow listener may be behind before it is told only that it missed some.
const NOTICES_WAITING: usize = 4096;

/// The state, shared by whoever holds a clone.
#[derive(Clone)]
pub struct Store {
    inner: Arc<Inner>,
}

struct Inner {
    kind: Kind,
    /// SQLite: the one connection that writes. PostgreSQL: the same pool as `readers`.
    writer: AnyPool,
    readers: AnyPool,
    ids: Ids,
    start: u64,
    notices: broadcast::Sender<Notice>,
    /// What nodes told a moment ago and is not written yet.
    fresh: Fresh,
    /// Keeps a second Supervisor out of the same SQLite file.
    _lock: Option<std::fs::File>,
    /// Ends the task that hears PostgreSQL's notifications with the store.
    _listener: Option<tokio_util::task::AbortOnDropHandle<()>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Sqlite,
    Postgres,
}

impl Store {
    pub fn kind(&self) -> Kind {
        self.inner.kind
    }

    /// How many Supervisors were started on this store before this one.
    pub fn start(&self) -> u64 {
        self.inner.start
    }

    pub fn id(&self, now: i64) -> u64 {
        self.inner.ids.next(now)
    }

    /// Starts a transaction. SQLite has one at a time.
    pub async fn change(&self) -> Result<Change> {
        let transaction = match self.inner.kind {
            Kind::Sqlite => self.inner.writer.begin_with("BEGIN IMMEDIATE").await?,
            Kind::Postgres => self.inner.writer.begin().await?,
        };
        Ok(Change { transaction, notices: Vec::new(), store: self.clone() })
    }

    /// Every notice from now on, of every Supervisor on this store.
    pub fn listen(&self) -> Notices {
        Notices::new(self.inner.notices.subscribe())
    }

    /// Tells everybody who listens, on every Supervisor of this store.
    pub async fn notify(&self, notice: Notice) -> Result<()> {
        match self.inner.kind {
            Kind::Sqlite => {
                // Nobody listening is no failure.
                let _ = self.inner.notices.send(notice);
                Ok(())
            }
            Kind::Postgres => {
                notify::send(&mut *self.inner.writer.acquire().await?, std::slice::from_ref(&notice)).await
            }
        }
    }

    /// Reads and writes a little: whether the store works now.
    ///
    /// # Errors
    /// It does not: no answer, no room, a disk that fails.
    pub async fn try_out(&self) -> Result<()> {
        sqlx::query("SELECT 1").execute(self.readers()).await?;
        let mut change = self.change().await?;
        sqlx::query(
            "INSERT INTO counters (name, value) VALUES ('tried_out', 1) \
             ON CONFLICT (name) DO UPDATE SET value = counters.value + 1",
        )
        .execute(change.connection())
        .await?;
        change.commit().await
    }

    /// Ends all connections, after what is under way.
    pub async fn close(&self) {
        self.inner.readers.close().await;
        self.inner.writer.close().await;
    }

    fn readers(&self) -> &AnyPool {
        &self.inner.readers
    }

    fn fresh(&self) -> &Fresh {
        &self.inner.fresh
    }
}

/// A transaction, and what is told when it is committed. Dropped, nothing of it happened.
pub struct Change {
    transaction: Transaction<'static, Any>,
    notices: Vec<Notice>,
    store: Store,
}

impl Change {
    pub fn notify(&mut self, notice: Notice) {
        // One after the other is often the same; one that comes twice does no harm.
        if self.notices.last() != Some(&notice) {
            self.notices.push(notice);
        }
    }

    pub fn id(&self, now: i64) -> u64 {
        self.store.id(now)
    }

    /// The number of this Supervisor.
    fn number(&self) -> u64 {
        self.store.inner.ids.number()
    }

    /// Takes the lock of a name until the transaction ends. False when another Supervisor holds it. SQLite has one
    /// Supervisor.
    pub async fn lock(&mut self, name: &str) -> Result<bool> {
        if self.store.inner.kind == Kind::Sqlite {
            return Ok(true);
        }
        let row = sqlx::query(
            "SELECT CASE WHEN pg_try_advisory_xact_lock(hashtext('warden'), hashtext($1)) THEN 1 ELSE 0 END",
        )
        .bind(name)
        .fetch_one(self.connection())
        .await?;
        Ok(sqlx::Row::try_get::<i64, _>(&row, 0)? == 1)
    }

    /// Whether the Supervisor that drew this id is gone, for certain. With SQLite there is none but this one.
    pub async fn is_gone(&mut self, id: u64) -> Result<bool> {
        match self.store.inner.kind {
            Kind::Sqlite => Ok(false),
            Kind::Postgres => self.has_ended(Ids::drawn_by(id)).await,
        }
    }

    /// Whether the Supervisor of that number, as [`Ids::number`] has it, has ended, for certain. On SQLite every other
    /// one has.
    pub(super) async fn has_ended(&mut self, number: u64) -> Result<bool> {
        if number == self.number() || self.store.inner.kind == Kind::Sqlite {
            return Ok(number != self.number());
        }
        let row = sqlx::query(
            "SELECT CASE WHEN pg_try_advisory_xact_lock(hashtext($1), CAST($2 AS INTEGER)) THEN 1 ELSE 0 END",
        )
        .bind(notify::LIVES)
        .bind(number.cast_signed())
        .fetch_one(self.connection())
        .await?;
        Ok(sqlx::Row::try_get::<i64, _>(&row, 0)? == 1)
    }

    pub async fn commit(mut self) -> Result<()> {
        if self.store.inner.kind == Kind::Postgres {
            notify::send(&mut self.transaction, &self.notices).await?;
        }
        self.transaction.commit().await?;
        if self.store.inner.kind == Kind::Sqlite {
            for notice in self.notices {
                self.store.notify(notice).await?;
            }
        }
        Ok(())
    }

    fn connection(&mut self) -> &mut AnyConnection {
        &mut self.transaction
    }
}
