//! Snapshots that nodes took by themselves.

use serde::{Deserialize, Serialize};
use warden_protocol::{SnapshotOffered, Trigger};

use super::{Change, Columns, Result, Status, key};
use crate::store::row;

/// Longest sentence that is kept, in characters.
const REASON_LIMIT: usize = 300;

/// Why and when a node took a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cause {
    /// The node's number for it.
    pub offer: u64,
    pub trigger: Trigger,
    pub reason: String,
    pub taken_at_ms: i64,
}

impl Cause {
    /// As the node says, within bounds: nothing is taken after it was offered.
    pub fn told(offered: &SnapshotOffered, now: i64) -> Cause {
        Cause {
            offer: offered.offer,
            trigger: offered.trigger,
            reason: row::plain(&offered.reason, REASON_LIMIT),
            taken_at_ms: offered.taken_at_ms.clamp(0, now),
        }
    }
}

/// How the snapshot of an offer is; none when there is none, or only some that failed.
pub async fn status_of_offer(change: &mut Change, node: u64, offer: u64) -> Result<Option<Status>> {
    let row = sqlx::query(
        "SELECT status FROM snapshots WHERE node_id = $1 AND offer = $2 AND status <> 'failed' LIMIT 1",
    )
    .bind(key(node))
    .bind(key(offer))
    .fetch_optional(change.connection())
    .await?;
    row.map(|row| row.parsed("status")).transpose()
}

/// How many snapshots were begun since a moment because this node offered them, whatever became of them.
pub async fn offered_since(change: &mut Change, node: u64, since: i64) -> Result<u64> {
    let row = sqlx::query(
        "SELECT COUNT(*) AS offered FROM snapshots WHERE node_id = $1 AND offer IS NOT NULL AND created_at >= $2",
    )
    .bind(key(node))
    .bind(since)
    .fetch_one(change.connection())
    .await?;
    row.id("offered")
}
