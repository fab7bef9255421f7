//! What the Supervisors on one store tell each other: in process on SQLite, by LISTEN and NOTIFY on PostgreSQL.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sqlx::AnyConnection;
use sqlx::postgres::PgListener;
use tokio::sync::broadcast;

use super::Result;

/// The channel of PostgreSQL's NOTIFY.
const CHANNEL: &str = "warden";
/// The name of the locks that Supervisors hold as long as they live.
pub(super) const LIVES: &str = "warden lives";
/// Bytes of one NOTIFY; PostgreSQL takes less than 8000.
const PAYLOAD_LIMIT: usize = 7000;
/// Until the listener is tried again when PostgreSQL does not answer.
const LISTEN_AGAIN: Duration = Duration::from_secs(1);

/// A hint to look into the store: it may come twice, and for something long done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// There are activities to deliver to this node.
    Wake(u64),
    /// This node shall end this activity if it has taken no effect yet.
    Cancel { node: u64, activity: u64 },
    /// The node was removed: its connection is to be closed.
    Removed(u64),
    /// This agent has connected to the Supervisor of that start, by that connection of it: one elsewhere that is
    /// older is to give way, or to say that it lives. Everybody hears arrivals in the same order.
    Arrived { node: u64, instance: String, supervisor: u64, connection: u64 },
    /// This agent is not the only one of its node, and the other was first.
    Contested { node: u64, instance: String },
    /// Something was sent to this node over a connection that ended: whoever holds it now looks what it misses.
    Reconcile(u64),
    /// An async action has a new event.
    Changed(u64),
    /// A key is void: what it still follows ends.
    KeyRemoved(u64),
    /// Notices were lost: everything may have changed.
    Missed,
}

pub struct Notices {
    receiver: broadcast::Receiver<Notice>,
}

impl Notices {
    pub(super) fn new(receiver: broadcast::Receiver<Notice>) -> Notices {
        Notices { receiver }
    }

    /// The next notice; none when the store is gone.
    pub async fn next(&mut self) -> Option<Notice> {
        match self.receiver.recv().await {
            Ok(notice) => Some(notice),
            Err(broadcast::error::RecvError::Lagged(_)) => Some(Notice::Missed),
            Err(broadcast::error::RecvError::Closed) => None,
        }
    }
}

/// Sends notices with the transaction: PostgreSQL delivers them when it is committed.
pub(super) async fn send(connection: &mut AnyConnection, notices: &[Notice]) -> Result<()> {
    for payload in payloads(notices) {
        sqlx::query("SELECT pg_notify($1, $2)").bind(CHANNEL).bind(payload).execute(&mut *connection).await?;
    }
    Ok(())
}

/// One notice a line, in as few texts as the limit allows.
fn payloads(notices: &[Notice]) -> Vec<String> {
    let mut payloads: Vec<String> = Vec::new();
    for notice in notices {
        let Ok(line) = serde_json::to_string(notice) else { continue };
        match payloads.last_mut().filter(|last| last.len() + line.len() < PAYLOAD_LIMIT) {
            Some(last) => {
                last.push('\n');
                last.push_str(&line);
            }
            None => payloads.push(line),
        }
    }
    payloads
}

/// Shows the other Supervisors that the one of this number lives: PostgreSQL gives the lock back when the connection
/// ends.
pub(super) async fn hold(listener: &mut PgListener, number: u64) -> Result<()> {
    sqlx::query("SELECT pg_try_advisory_lock(hashtext($1), CAST($2 AS INTEGER))")
        .bind(LIVES)
        .bind(number.cast_signed())
        .execute(listener)
        .await?;
    Ok(())
}

/// Hears PostgreSQL's notifications for as long as somebody may want them.
pub(super) async fn hear(mut listener: PgListener, number: u64, sender: broadcast::Sender<Notice>) {
    loop {
        match listener.try_recv().await {
            Ok(Some(notification)) => {
                for line in notification.payload().lines() {
                    // A newer Supervisor may say what this one does not know.
                    let _ = sender.send(serde_json::from_str(line).unwrap_or(Notice::Missed));
                }
            }
            Ok(None) => {
                let _ = sender.send(Notice::Missed);
                if let Err(error) = hold(&mut listener, number).await {
                    tracing::warn!(%error, "other Supervisors may take this one for gone");
                }
            }
            Err(error) => {
                tracing::warn!(%error, "cannot hear PostgreSQL's notifications, trying again");
                tokio::time::sleep(LISTEN_AGAIN).await;
                let _ = sender.send(Notice::Missed);
            }
        }
    }
}

pub(super) async fn listener(url: &str) -> Result<PgListener> {
    let mut listener = PgListener::connect(url).await?;
    listener.listen(CHANNEL).await?;
    Ok(listener)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn many_notices_go_in_few_payloads_below_the_limit() {
        let notices: Vec<Notice> = (0..1000).map(|node| Notice::Wake(u64::MAX - node)).collect();
        let payloads = payloads(&notices);
        assert!(payloads.len() < 10 && payloads.iter().all(|payload| payload.len() <= PAYLOAD_LIMIT));
        let read: Vec<Notice> = payloads
            .iter()
            .flat_map(|payload| payload.lines())
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        assert_eq!(read, notices);
    }
}
