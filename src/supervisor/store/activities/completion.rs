//! How activities end: the node said so, nobody answered, or somebody no longer wants them.
//!
//! Rows are locked in one order everywhere: activities by id, then async actions by id.

use std::collections::BTreeMap;

use warden_protocol::{Code, Finished, Outcome};

use super::{State, read};
use crate::store::async_actions::{self, AsyncAction, Ended};
use crate::store::row::{Columns, json, key};
use crate::store::{Change, Notice, Result, Store, snapshots};

/// Activities ended by one run of the job; it runs again at once while there are more.
const BATCH: i64 = 500;

/// What a node says of how an activity ended. True when it was this call that ended it; false when it had ended
/// before, or is not this node's.
///
/// What comes after the deadline changes no status; whether the unit was changed is still told, in the result; of a snapshot,
/// what its agent logged.
pub async fn finished(store: &Store, node: u64, finished: &Finished, now: i64) -> Result<bool> {
    let mut change = store.change().await?;
    let end = End { activity: finished.request, node: Some(node), only: None, outcome: &finished.outcome };
    let ended = end_all(&mut change, &[end], now).await?;
    if ended == 0 && !learn_late(&mut change, node, finished).await? {
        return Ok(false);
    }
    change.commit().await?;
    Ok(ended == 1)
}

/// The same for some, node and end, by rising id of the activity.
pub async fn finished_all(store: &Store, finished: &[(u64, &Finished)], now: i64) -> Result<()> {
    let mut change = store.change().await?;
    let ends: Vec<End<'_>> = finished
        .iter()
        .map(|(node, finished)| End {
            activity: finished.request,
            node: Some(*node),
            only: None,
            outcome: &finished.outcome,
        })
        .collect();
    if end_all(&mut change, &ends, now).await? < finished.len() as u64 {
        for (node, finished) in finished {
            learn_late(&mut change, *node, finished).await?;
        }
    }
    change.commit().await
}

async fn learn_late(change: &mut Change, node: u64, finished: &Finished) -> Result<bool> {
    let (Outcome::Completed { result } | Outcome::Rejected { result, .. }) = &finished.outcome;
    let Some(result) = result else { return Ok(false) };
    let done = sqlx::query(
        "UPDATE activities SET result = $3 WHERE id = $1 AND node_id = $2 AND state = 'rejected' \
         AND result IS NULL",
    )
    .bind(key(finished.request))
    .bind(key(node))
    .bind(json(result)?)
    .execute(change.connection())
    .await?;
    let learnt = done.rows_affected() == 1;
    if learnt {
        snapshots::learn_late(change, finished.request, result).await?;
    }
    Ok(learnt)
}

/// Activities whose deadline passed, with the state they were seen in: queued ones at once, those the node may
/// know of only `grace_ms` later.
pub async fn overdue(store: &Store, now: i64, grace_ms: i64) -> Result<Vec<(u64, State)>> {
    let rows = sqlx::query(
        "SELECT id, state FROM activities WHERE finished_at IS NULL AND deadline_at <= $1 \
         AND (state = 'queued' OR deadline_at <= $2) ORDER BY id LIMIT $3",
    )
    .bind(now)
    .bind(now - grace_ms)
    .bind(BATCH)
    .fetch_all(store.readers())
    .await?;
    rows.iter().map(|row| Ok((row.id("id")?, row.parsed("state")?))).collect()
}

/// Rejects what [`overdue`] found, unless it went on meanwhile. How many it was.
pub async fn reject_overdue(change: &mut Change, overdue: &[(u64, State)], now: i64) -> Result<u64> {
    let unreachable = Outcome::rejected(
        Code::NodeUnreachable,
        "the node was not connected until the deadline; nothing was done",
    );
    let exceeded = Outcome::rejected(
        Code::DeadlineExceeded,
        "the node did not say in time how it ended; look at the unit before you ask again",
    );
    let ends: Vec<End<'_>> = overdue
        .iter()
        .map(|(activity, state)| End {
            activity: *activity,
            node: None,
            only: Some(*state),
            outcome: if *state == State::Queued { &unreachable } else { &exceeded },
        })
        .collect();
    end_all(change, &ends, now).await
}

/// Ends everything open of a node that was removed.
pub async fn end_for_removed_node(change: &mut Change, node: u64, now: i64) -> Result<u64> {
    let rows =
        sqlx::query("SELECT id FROM activities WHERE node_id = $1 AND finished_at IS NULL ORDER BY id")
            .bind(key(node))
            .fetch_all(change.connection())
            .await?;
    let removed = Outcome::rejected(Code::NodeRemoved, "the node was removed from the deployment");
    let mut ends = Vec::with_capacity(rows.len());
    for row in &rows {
        ends.push(End { activity: row.id("id")?, node: Some(node), only: None, outcome: &removed });
    }
    end_all(change, &ends, now).await
}

/// Cancels an async action: what was not sent ends here, what a node may know of is asked back. Returns the action
/// as it is then.
pub async fn cancel(change: &mut Change, async_action: u64, now: i64) -> Result<AsyncAction> {
    let rows = sqlx::query(
        "UPDATE activities SET cancel_requested_at = COALESCE(cancel_requested_at, $2) \
         WHERE async_action_id = $1 AND finished_at IS NULL RETURNING *",
    )
    .bind(key(async_action))
    .bind(now)
    .fetch_all(change.connection())
    .await?;
    let cancelled = Outcome::rejected(Code::Cancelled, "cancelled before it was sent to the node");
    let mut ends = Vec::new();
    for row in &rows {
        let activity = read(row)?;
        if activity.state == State::Queued {
            let only = Some(State::Queued);
            ends.push(End { activity: activity.id, node: None, only, outcome: &cancelled });
        } else {
            change.notify(Notice::Cancel { node: activity.node_id, activity: activity.id });
        }
    }
    ends.sort_by_key(|end| end.activity);
    async_actions::cancelling(change, async_action, now).await?;
    end_all(change, &ends, now).await?;
    async_actions::within(change, async_action).await
}

struct End<'a> {
    activity: u64,
    /// Only if it is this node's.
    node: Option<u64>,
    /// Only if it is in this state.
    only: Option<State>,
    outcome: &'a Outcome,
}

/// How it ends in place of what the node says, when that is a snapshot of which no archive was confirmed.
async fn missing_archive(change: &mut Change, end: &End<'_>) -> Result<Option<Outcome>> {
    let Outcome::Completed { .. } = end.outcome else { return Ok(None) };
    let missing = snapshots::lacks_archive(change, end.activity).await?;
    Ok(missing.then(|| {
        let reason = "the node said that it is done, and no archive of it has arrived; take another snapshot";
        Outcome::rejected(Code::UploadFailed, reason)
    }))
}

/// Ends what is still open of `ends`, which come by rising id, and tells their async actions. How many it was.
async fn end_all(change: &mut Change, ends: &[End<'_>], now: i64) -> Result<u64> {
    let mut by_action: BTreeMap<u64, Vec<Ended>> = BTreeMap::new();
    for end in ends {
        let missing = missing_archive(change, end).await?;
        let outcome = missing.as_ref().unwrap_or(end.outcome);
        let (state, code, reason, result) = match outcome {
            Outcome::Completed { result } => (State::Completed, None, None, result),
            Outcome::Rejected { reason, result } => {
                (State::Rejected, Some(reason.code), Some(json(reason)?), result)
            }
        };
        let row = sqlx::query(
            "UPDATE activities SET state = $2, finished_at = $3, reason = $4, result = $5, step = NULL \
             WHERE id = $1 AND finished_at IS NULL AND ($6 = 0 OR node_id = $6) AND ($7 = '' OR state = $7) \
             RETURNING async_action_id, node_id",
        )
        .bind(key(end.activity))
        .bind(state.as_str())
        .bind(now)
        .bind(reason)
        .bind(result.as_ref().map(json).transpose()?)
        .bind(key(end.node.unwrap_or(0)))
        .bind(end.only.map_or("", State::as_str))
        .fetch_optional(change.connection())
        .await?;
        if let Some(row) = row {
            snapshots::ended(change, end.activity, outcome, now).await?;
            let ended = Ended { node: row.id("node_id")?, activity: end.activity, state, code };
            by_action.entry(row.id("async_action_id")?).or_default().push(ended);
        }
    }
    let mut count = 0;
    for (action, ended) in by_action {
        count += ended.len() as u64;
        async_actions::ended(change, action, &ended, now).await?;
    }
    Ok(count)
}
