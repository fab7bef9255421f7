//! The first answer to a request with an idempotency key, so that a repeated one has no second effect.
//!
//! A request first claims its key. Its effect and its answer are then committed together: a claim without an answer
//! never had an effect, and may be taken over when whoever made it is gone.

use super::row::{Columns, json, key};
use super::{Change, Result, Store};

/// How long an answer is kept.
pub const KEPT_MS: i64 = 600_000;
/// A claim older than this has no request behind it: requests are cut off long before. One of a Supervisor that is gone
/// has none either, and is not waited for.
pub const ABANDONED_AFTER_MS: i64 = 60_000;

/// One idempotency key of one API key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Slot {
    pub api_key: u64,
    pub idempotency_key: String,
}

/// The answer that is replayed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: String,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Claim {
    /// The request is to be carried out, and to end with [`answer`] or [`release`].
    Mine(u64),
    /// Another request with this key is under way.
    Running,
    /// The key was used with another request.
    Differs,
    Answered(Answer),
}

/// Claims a slot for a request, told by its fingerprint.
pub async fn claim(store: &Store, slot: &Slot, fingerprint: &str, now: i64) -> Result<Claim> {
    let mut change = store.change().await?;
    let mine = change.id(now);
    // An answer that is too old, and a claim nobody holds any more, make way.
    let done = sqlx::query(
        "INSERT INTO idempotency (api_key_id, idempotency_key, fingerprint, claim, claimed_at) \
         VALUES ($1, $2, $3, $4, $5) ON CONFLICT (api_key_id, idempotency_key) DO UPDATE SET \
         fingerprint = excluded.fingerprint, claim = excluded.claim, claimed_at = excluded.claimed_at, \
         status = NULL, headers = NULL, body = NULL \
         WHERE idempotency.claimed_at <= $6 OR (idempotency.status IS NULL AND idempotency.claimed_at <= $7)",
    )
    .bind(key(slot.api_key))
    .bind(slot.idempotency_key.as_str())
    .bind(fingerprint)
    .bind(key(mine))
    .bind(now)
    .bind(now - KEPT_MS)
    .bind(now - ABANDONED_AFTER_MS)
    .execute(change.connection())
    .await?;
    if done.rows_affected() == 1 {
        change.commit().await?;
        return Ok(Claim::Mine(mine));
    }
    let row = sqlx::query(
        "SELECT fingerprint, claim, status, headers, body FROM idempotency \
         WHERE api_key_id = $1 AND idempotency_key = $2",
    )
    .bind(key(slot.api_key))
    .bind(slot.idempotency_key.as_str())
    .fetch_optional(change.connection())
    .await?;
    // It was released this moment: the caller may try again.
    let Some(row) = row else { return Ok(Claim::Running) };
    if row.text("fingerprint")? != fingerprint {
        return Ok(Claim::Differs);
    }
    let Some(status) = row.maybe_number("status")? else {
        return take_over(change, slot, row.id("claim")?, mine, now).await;
    };
    Ok(Claim::Answered(Answer {
        status: u16::try_from(status).unwrap_or(500),
        headers: row.json("headers")?,
        body: row.text("body")?,
    }))
}

/// Of a Supervisor that is gone: nobody waits for its requests to be old.
async fn take_over(mut change: Change, slot: &Slot, held: u64, mine: u64, now: i64) -> Result<Claim> {
    if !change.is_gone(held).await? {
        return Ok(Claim::Running);
    }
    let done = sqlx::query(
        "UPDATE idempotency SET claim = $4, claimed_at = $5 \
         WHERE api_key_id = $1 AND idempotency_key = $2 AND claim = $3 AND status IS NULL",
    )
    .bind(key(slot.api_key))
    .bind(slot.idempotency_key.as_str())
    .bind(key(held))
    .bind(key(mine))
    .bind(now)
    .execute(change.connection())
    .await?;
    if done.rows_affected() == 0 {
        return Ok(Claim::Running);
    }
    change.commit().await?;
    Ok(Claim::Mine(mine))
}

/// Keeps the answer with the effect of the change. False when the claim was taken over: then the change must not be
/// committed.
pub async fn answer(change: &mut Change, slot: &Slot, claim: u64, answer: &Answer) -> Result<bool> {
    let done = sqlx::query(
        "UPDATE idempotency SET status = $4, headers = $5, body = $6 \
         WHERE api_key_id = $1 AND idempotency_key = $2 AND claim = $3 AND status IS NULL",
    )
    .bind(key(slot.api_key))
    .bind(slot.idempotency_key.as_str())
    .bind(key(claim))
    .bind(i64::from(answer.status))
    .bind(json(&answer.headers)?)
    .bind(answer.body.as_str())
    .execute(change.connection())
    .await?;
    Ok(done.rows_affected() == 1)
}

/// Gives a claim back: the request failed in a way that is worth trying again.
pub async fn release(store: &Store, slot: &Slot, claim: u64) -> Result<()> {
    let mut change = store.change().await?;
    sqlx::query(
        "DELETE FROM idempotency WHERE api_key_id = $1 AND idempotency_key = $2 AND claim = $3 \
         AND status IS NULL",
    )
    .bind(key(slot.api_key))
    .bind(slot.idempotency_key.as_str())
    .bind(key(claim))
    .execute(change.connection())
    .await?;
    change.commit().await
}

/// Takes over what this store's only Supervisor left behind when it was stopped: for SQLite, at the start.
pub async fn release_all(store: &Store) -> Result<()> {
    let mut change = store.change().await?;
    sqlx::query("DELETE FROM idempotency WHERE status IS NULL").execute(change.connection()).await?;
    change.commit().await
}

/// Forgets answers that are too old.
pub async fn forget(change: &mut Change, now: i64) -> Result<u64> {
    let done = sqlx::query("DELETE FROM idempotency WHERE claimed_at <= $1")
        .bind(now - KEPT_MS)
        .execute(change.connection())
        .await?;
    Ok(done.rows_affected())
}
