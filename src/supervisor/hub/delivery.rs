//! What is sent to one node over one connection: everything it has not got, once, and not too much at a time.

use std::collections::BTreeSet;

use warden_protocol::{Code, Finished, Outcome, ToNode};

use super::batch_writer::Scribe;
use super::connection::End;
use super::socket::Socket;
use crate::store::Store;
use crate::store::activities::{self, Activity, State};

/// Requests a node may hold that have not ended; it does one after the other for each runtime.
const WINDOW: usize = 64;
/// A node names at most so many requests in its hello: from here on what is not named may still be known to it.
const OPEN_LIMIT: usize = 1_000;

pub struct Delivery {
    node: u64,
    /// What the node has, as far as this connection knows: named in its hello, or sent.
    held: BTreeSet<u64>,
    /// What was sent and is not known to have come.
    unsure: BTreeSet<u64>,
    /// The hello named everything the node has.
    complete: bool,
    /// Something may wait for a free place.
    behind: bool,
}

impl Delivery {
    pub fn new(node: u64, open: Vec<u64>) -> Delivery {
        let complete = open.len() < OPEN_LIMIT;
        let held = open.into_iter().take(OPEN_LIMIT).collect();
        Delivery { node, held, unsure: BTreeSet::new(), complete, behind: false }
    }

    /// Whether something was sent of which nobody knows whether it came.
    pub fn is_unsure(&self) -> bool {
        !self.unsure.is_empty()
    }

    /// The node has this request.
    pub fn accepted(&mut self, request: u64) {
        self.unsure.remove(&request);
    }

    /// Holds all that has not ended against what the node has: sends what it misses, and what is no longer wanted.
    pub async fn reconcile(
        &mut self,
        store: &Store,
        scribe: &Scribe,
        now: i64,
        socket: &mut Socket,
    ) -> Result<(), End> {
        let mut after = 0;
        loop {
            let batch = activities::unfinished(store, self.node, after).await?;
            let Some(last) = batch.last() else { break };
            after = last.id;
            for activity in batch {
                self.reconcile_one(scribe, &activity, now, socket).await?;
            }
        }
        self.deliver(store, scribe, now, socket).await
    }

    /// Sends what waits.
    pub async fn deliver(
        &mut self,
        store: &Store,
        scribe: &Scribe,
        now: i64,
        socket: &mut Socket,
    ) -> Result<(), End> {
        self.behind = false;
        for activity in activities::undelivered(store, self.node).await? {
            if self.held.len() >= WINDOW {
                self.behind = true;
                return Ok(());
            }
            self.send_queued(scribe, &activity, now, socket).await?;
        }
        Ok(())
    }

    /// A request has ended. True when others wait for its place.
    pub fn settled(&mut self, request: u64) -> bool {
        self.held.remove(&request);
        self.unsure.remove(&request);
        self.behind
    }

    /// Gives back what an empty set need not hold.
    pub fn release(&mut self) {
        for set in [&mut self.held, &mut self.unsure] {
            if set.is_empty() {
                *set = BTreeSet::new();
            }
        }
    }

    async fn reconcile_one(
        &mut self,
        scribe: &Scribe,
        activity: &Activity,
        now: i64,
        socket: &mut Socket,
    ) -> Result<(), End> {
        let request = activity.id;
        let held = self.held.contains(&request);
        if activity.cancel_requested_at.is_some() && activity.state != State::Queued {
            socket.send(&ToNode::Cancel { request }).await?;
        } else if held || activity.deadline_at <= now {
            // The node tells how it ends, or the deadline does.
        } else if activity.state == State::Delivered {
            // It was on its way when a connection broke.
            self.send(activity, now, socket).await?;
        } else if activity.state == State::Accepted && self.complete {
            // It was in the node's ledger, and is not: it must not be done a second time.
            let outcome = Outcome::rejected(
                Code::Interrupted,
                "the node lost its ledger: whether this was done cannot be told",
            );
            scribe.finished(self.node, Finished { request, outcome }).await?;
        }
        Ok(())
    }

    async fn send_queued(
        &mut self,
        scribe: &Scribe,
        activity: &Activity,
        now: i64,
        socket: &mut Socket,
    ) -> Result<(), End> {
        if scribe.delivered(activity.id).await? {
            self.send(activity, now, socket).await?;
        }
        Ok(())
    }

    async fn send(&mut self, activity: &Activity, now: i64, socket: &mut Socket) -> Result<(), End> {
        self.held.insert(activity.id);
        self.unsure.insert(activity.id);
        tracing::info!(node = self.node, request = activity.id, "a request is sent to a node");
        socket.send(&ToNode::Request(activity.request(now))).await?;
        Ok(())
    }
}
