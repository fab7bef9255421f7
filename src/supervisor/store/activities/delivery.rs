//! The way of an activity to its node: what is to be sent, what the node has, what it says of it.

use super::{Activity, State, read};
use crate::store::row::{self, Columns, key};
use crate::store::{Change, Result, Store, async_actions};

/// Activities handed out at once; the rest is asked for again.
const BATCH: i64 = 256;
/// Longest step of a node that is kept, in characters: a few words for a person.
const STEP_LIMIT: usize = 200;

/// What waits to be sent to a node, oldest first: at most 256.
pub async fn undelivered(store: &Store, node: u64) -> Result<Vec<Activity>> {
    let rows = sqlx::query(
        "SELECT * FROM activities WHERE node_id = $1 AND finished_at IS NULL AND state = 'queued' \
         ORDER BY id LIMIT $2",
    )
    .bind(key(node))
    .bind(BATCH)
    .fetch_all(store.readers())
    .await?;
    rows.iter().map(read).collect()
}

/// Everything of a node that has not ended, sent or not, oldest first: at most 256 after the activity `after`.
/// What was asked to be cancelled says so in `cancel_requested_at`.
pub async fn unfinished(store: &Store, node: u64, after: u64) -> Result<Vec<Activity>> {
    let rows = sqlx::query(
        "SELECT * FROM activities WHERE node_id = $1 AND finished_at IS NULL AND id > $2 ORDER BY id LIMIT $3",
    )
    .bind(key(node))
    .bind(key(after))
    .bind(BATCH)
    .fetch_all(store.readers())
    .await?;
    rows.iter().map(read).collect()
}

/// To be called before an activity is sent. True when it was queued and its deadline has not passed: from now on the
/// node may know of it, and it is the caller's to send. Otherwise somebody else sends it, or it has ended.
pub async fn delivered(store: &Store, activity: u64, now: i64) -> Result<bool> {
    Ok(!delivered_all(store, &[activity], now).await?.is_empty())
}

/// The same for some, by rising id: which of them are the caller's to send.
pub async fn delivered_all(store: &Store, activities: &[u64], now: i64) -> Result<Vec<u64>> {
    let mut change = store.change().await?;
    let mut ours = Vec::with_capacity(activities.len());
    for activity in activities {
        let done = sqlx::query(
            "UPDATE activities SET state = 'delivered', delivered_at = $2 \
             WHERE id = $1 AND state = 'queued' AND deadline_at > $2",
        )
        .bind(key(*activity))
        .bind(now)
        .execute(change.connection())
        .await?;
        if done.rows_affected() == 1 {
            ours.push(*activity);
        }
    }
    change.commit().await?;
    Ok(ours)
}

/// The node has it in its ledger. False when it is not this node's, or not open.
pub async fn accepted(store: &Store, node: u64, activity: u64, now: i64) -> Result<bool> {
    Ok(accepted_all(store, &[(node, activity)], now).await? == 1)
}

/// The same for some, node and activity, by rising id of the activity. How many it was.
pub async fn accepted_all(store: &Store, accepted: &[(u64, u64)], now: i64) -> Result<u64> {
    let mut change = store.change().await?;
    let mut count = 0;
    for (node, activity) in accepted {
        let done = sqlx::query(
            "UPDATE activities SET state = 'accepted', accepted_at = COALESCE(accepted_at, $3) \
             WHERE id = $1 AND node_id = $2 AND finished_at IS NULL",
        )
        .bind(key(*activity))
        .bind(key(*node))
        .bind(now)
        .execute(change.connection())
        .await?;
        count += done.rows_affected();
    }
    change.commit().await?;
    Ok(count)
}

/// What the node does right now. False when it is not this node's, or not open.
pub async fn progress(store: &Store, node: u64, activity: u64, step: &str, now: i64) -> Result<bool> {
    let step = row::plain(step, STEP_LIMIT);
    let mut change = store.change().await?;
    let Some(action) = note(&mut change, node, activity, &step, now).await? else { return Ok(false) };
    async_actions::progressed(&mut change, action, async_actions::Progress { node, activity, step }, now)
        .await?;
    change.commit().await?;
    Ok(true)
}

async fn note(change: &mut Change, node: u64, activity: u64, step: &str, now: i64) -> Result<Option<u64>> {
    let row = sqlx::query(
        "UPDATE activities SET step = $3, state = $5, accepted_at = COALESCE(accepted_at, $4) \
         WHERE id = $1 AND node_id = $2 AND finished_at IS NULL RETURNING async_action_id",
    )
    .bind(key(activity))
    .bind(key(node))
    .bind(step)
    .bind(now)
    .bind(State::Accepted.as_str())
    .fetch_optional(change.connection())
    .await?;
    row.map(|row| row.id("async_action_id")).transpose()
}
