//! One connection while it lasts: what the node tells, and what it is to be told.

use std::convert::Infallible;
use std::time::Duration;

use tokio::sync::oneshot;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use warden_protocol::{self as protocol, FromNode, Hello, PING_SECONDS, PINGS_UNANSWERED, ToNode};

use super::Hub;
use super::batch_writer::Unwritten;
use super::delivery::Delivery;
use super::registry::{Close, Orders, Seat};
use super::socket::{Failure, Received, Socket};
use crate::store::nodes::Node;
use crate::store::{Kind, Notice, heartbeats, nodes};
use crate::upload_service::Uploads;

/// A node that pings and tells no heartbeat is noted as alive this often.
const SEEN: Duration = Duration::from_secs(45);
/// Between two heartbeats, and two steps of what runs, that are kept: what comes faster is not looked at.
const BEAT_APART: Duration = Duration::from_secs(2);
const STEP_APART: Duration = Duration::from_millis(200);
/// And two offers of snapshots: a node has a few at most, and offers again what is not answered.
const OFFER_APART: Duration = Duration::from_millis(200);

/// Messages that are kept meanwhile, of at most 64 KiB each; then the node must wait.
const HELD_MESSAGES: usize = 8;
/// For another Supervisor to say that it holds a living connection of another agent of the same node.
const ELSEWHERE: Duration = Duration::from_secs(6);
/// A node heard within this time may still be connected, in milliseconds: longer ago its connection was found dead.
const RECENT_MS: i64 = 60_000;

/// Why a connection ends.
#[derive(Debug)]
pub enum End {
    Failed(Failure),
    /// The node says nothing any more.
    Silent,
    WrongNode(String),
    Closed(Close),
    Store(String),
}

impl From<Failure> for End {
    fn from(failure: Failure) -> End {
        End::Failed(failure)
    }
}

impl From<sqlx::Error> for End {
    fn from(error: sqlx::Error) -> End {
        End::Store(error.to_string())
    }
}

impl From<Unwritten> for End {
    fn from(error: Unwritten) -> End {
        End::Store(error.to_string())
    }
}

/// What is known of a connection.
struct Carried<'a> {
    hub: &'a Hub,
    node: u64,
    deployment: u64,
    delivery: Delivery,
    probes: Vec<oneshot::Sender<()>>,
    /// Ticks without a word.
    silent: u32,
    heard: bool,
    seen: Instant,
    beat: Option<Instant>,
    step: Option<Instant>,
    offer: Option<Instant>,
    held_back: Option<HeldBack>,
}

/// Another agent of the same node may be connected to another Supervisor: until that had time to say so, nothing is sent to
/// this one, and nothing that it says is taken.
struct HeldBack {
    until: Instant,
    said: Vec<Utf8Bytes>,
}

impl Hub {
    /// Carries messages until the connection ends.
    pub(super) async fn carry(
        &self,
        node: &Node,
        mut hello: Hello,
        seat: &Seat<'_>,
        socket: &mut Socket,
    ) -> End {
        let mut carried = Carried {
            hub: self,
            node: node.id,
            deployment: node.deployment_id,
            delivery: Delivery::new(node.id, std::mem::take(&mut hello.open)),
            probes: Vec::new(),
            silent: 0,
            heard: true,
            seen: Instant::now(),
            beat: None,
            step: None,
            offer: None,
            held_back: None,
        };
        let end = match carried.carry(node, &hello.instance, seat, socket).await {
            Ok(never) => match never {},
            Err(end) => end,
        };
        if carried.delivery.is_unsure() {
            self.reconcile_elsewhere(node.id).await;
        }
        end
    }

    /// Looks at an object store, which may take long: the link goes on meanwhile.
    fn answer_about_archive<F>(&self, node: u64, ask: impl FnOnce(Uploads, u64) -> F)
    where
        F: Future<Output = Option<ToNode>> + Send + 'static,
    {
        if let Some(uploads) = &self.inner.uploads {
            self.answer_later(node, ask(uploads.clone(), node));
        }
    }

    /// Who gets no answer asks again.
    fn answer_later(&self, node: u64, asked: impl Future<Output = Option<ToNode>> + Send + 'static) {
        let Ok(turn) = self.inner.upload_turns.clone().try_acquire_owned() else { return };
        let hub = self.clone();
        self.inner.connections.spawn(async move {
            let _turn = turn;
            if let Some(answer) = asked.await {
                hub.inner.registry.answer(node, answer);
            }
        });
    }

    /// Whoever holds the node now sends again what may have been lost here. If nobody does, hello will.
    async fn reconcile_elsewhere(&self, node: u64) {
        self.inner.registry.reconcile(node);
        if self.inner.store.kind() == Kind::Postgres
            && let Err(error) = self.inner.store.notify(Notice::Reconcile(node)).await
        {
            tracing::warn!(node, %error, "the other Supervisors were not told what a node may miss");
        }
    }
}

impl Carried<'_> {
    async fn carry(
        &mut self,
        node: &Node,
        instance: &str,
        seat: &Seat<'_>,
        socket: &mut Socket,
    ) -> Result<Infallible, End> {
        // Futures that speak with the store are large: they are on the heap while they are needed, and not in every
        // idle connection.
        Box::pin(self.begin(node, instance, socket)).await?;
        let mut tick = interval(Duration::from_secs(PING_SECONDS));
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        tick.reset();
        loop {
            let held_until = self.held_back.as_ref().map(|held| held.until);
            tokio::select! {
                received = socket.receive(), if !self.has_heard_enough() => {
                    let received = received?;
                    self.hears();
                    match (received, &mut self.held_back) {
                        (Received::Text(text), Some(held)) => held.said.push(text),
                        (Received::Text(text), None) => Box::pin(self.heed(&text, socket)).await?,
                        (Received::Sign, _) => {}
                    }
                }
                () = sleep_until(held_until.unwrap_or_else(Instant::now)), if held_until.is_some() => {
                    Box::pin(self.go_on(socket)).await?;
                }
                orders = seat.mailbox.take() => {
                    Box::pin(self.obey(orders, socket)).await?;
                }
                _ = tick.tick() => self.turn(socket).await?,
            }
        }
    }

    /// What the node missed.
    async fn begin(&mut self, node: &Node, instance: &str, socket: &mut Socket) -> Result<(), End> {
        if self.hub.inner.store.kind() == Kind::Postgres && was_another(node, instance, self.hub.now()) {
            self.held_back = Some(HeldBack { until: Instant::now() + ELSEWHERE, said: Vec::new() });
            return Ok(());
        }
        self.go_on(socket).await
    }

    /// Nobody else has claimed to be this node.
    async fn go_on(&mut self, socket: &mut Socket) -> Result<(), End> {
        let said = self.held_back.take().map_or_else(Vec::new, |held| held.said);
        let (store, scribe) = (&self.hub.inner.store, &self.hub.inner.scribe);
        self.delivery.reconcile(store, scribe, self.hub.now(), socket).await?;
        for text in said {
            Box::pin(self.heed(&text, socket)).await?;
        }
        Ok(())
    }

    fn has_heard_enough(&self) -> bool {
        self.held_back.as_ref().is_some_and(|held| held.said.len() >= HELD_MESSAGES)
    }

    async fn obey(&mut self, orders: Orders, socket: &mut Socket) -> Result<(), End> {
        if let Some(why) = orders.close {
            return Err(End::Closed(why));
        }
        if !orders.probes.is_empty() {
            self.probes.extend(orders.probes);
            if self.has_heard_enough() {
                // It spoke a moment ago, and is not listened to now.
                self.hears();
            } else {
                socket.ping().await?;
            }
        }
        if self.held_back.is_some() {
            // Afterwards everything is looked for.
            return Ok(());
        }
        let (store, scribe) = (&self.hub.inner.store, &self.hub.inner.scribe);
        if orders.reconcile {
            self.delivery.reconcile(store, scribe, self.hub.now(), socket).await?;
        } else if orders.deliver {
            self.delivery.deliver(store, scribe, self.hub.now(), socket).await?;
        }
        for answer in orders.answers {
            socket.send(&answer).await?;
        }
        for request in orders.cancel {
            socket.send(&ToNode::Cancel { request }).await?;
        }
        Ok(())
    }

    /// The node lives.
    fn hears(&mut self) {
        self.heard = true;
        for probe in self.probes.drain(..) {
            let _ = probe.send(());
        }
    }

    /// Once in a while: is the node there, and is anything held that it does not need.
    async fn turn(&mut self, socket: &mut Socket) -> Result<(), End> {
        if std::mem::take(&mut self.heard) {
            self.silent = 0;
        } else if self.silent == PINGS_UNANSWERED {
            return Err(End::Silent);
        } else {
            self.silent += 1;
            socket.ping().await?;
        }
        if self.silent == 0 && self.seen.elapsed() >= SEEN {
            self.seen = Instant::now();
            nodes::seen(&self.hub.inner.store, self.node, self.hub.now());
        }
        socket.release().await;
        self.delivery.release();
        self.probes.shrink_to_fit();
        Ok(())
    }

    async fn heed(&mut self, text: &str, socket: &mut Socket) -> Result<(), End> {
        let message = protocol::decode(text).map_err(|error| Failure::Malformed(error.to_string()))?;
        let (store, scribe, now) = (&self.hub.inner.store, &self.hub.inner.scribe, self.hub.now());
        match message {
            FromNode::Hello(_) => {
                return Err(Failure::Malformed("a second hello".to_owned()).into());
            }
            FromNode::Accepted { request } => {
                self.delivery.accepted(request);
                scribe.accepted(self.node, request).await;
            }
            FromNode::Progress { request, step } => {
                if passed(&mut self.step, STEP_APART) {
                    scribe.progress(self.node, request, step).await;
                }
            }
            FromNode::Finished(finished) => {
                let (request, completed) = (finished.request, finished.outcome.is_completed());
                // What had ended before, and what is none of this node's, it need not tell again either.
                scribe.finished(self.node, finished).await?;
                tracing::info!(node = self.node, request, completed, "a node finished a request");
                socket.send(&ToNode::Settled { request }).await?;
                if !completed && let Some(uploads) = &self.hub.inner.uploads {
                    let uploads = uploads.clone();
                    // In case it was a snapshot, with an upload half done.
                    self.hub.inner.connections.spawn(async move { uploads.ended(request, now).await });
                }
                if self.delivery.settled(request) {
                    self.delivery.deliver(store, scribe, now, socket).await?;
                }
            }
            FromNode::Heartbeat(heartbeat) => {
                if passed(&mut self.beat, BEAT_APART) {
                    self.seen = Instant::now();
                    heartbeats::record(store, self.node, &heartbeat, now);
                }
            }
            FromNode::SnapshotProgress(progress) => {
                if let Some(uploads) = &self.hub.inner.uploads
                    && passed(&mut self.step, STEP_APART)
                {
                    uploads.progress(self.node, &progress, now).await;
                }
            }
            FromNode::UploadWanted(wanted) => {
                self.hub.answer_about_archive(self.node, |uploads, node| async move {
                    uploads.wanted(node, &wanted).await
                });
            }
            FromNode::SnapshotOffered(offered) => {
                if self.hub.inner.uploads.is_some() && passed(&mut self.offer, OFFER_APART) {
                    let (hub, node, deployment) = (self.hub.clone(), self.node, self.deployment);
                    self.hub.answer_later(node, async move { hub.offered(node, deployment, &offered).await });
                }
            }
            FromNode::Uploaded(uploaded) => {
                self.hub.answer_about_archive(self.node, |uploads, node| async move {
                    uploads.uploaded(node, &uploaded).await
                });
            }
        }
        Ok(())
    }
}

/// Whether another agent than this was heard as this node a moment ago.
fn was_another(node: &Node, instance: &str, now: i64) -> bool {
    let another = node.hello.as_ref().is_some_and(|hello| hello.instance != instance);
    another && node.last_seen_at.is_some_and(|seen| now.saturating_sub(seen) < RECENT_MS)
}

/// Whether `apart` has passed since the last time it had.
fn passed(last: &mut Option<Instant>, apart: Duration) -> bool {
    let now = Instant::now();
    let passed = last.is_none_or(|last| now.duration_since(last) >= apart);
    if passed {
        *last = Some(now);
    }
    passed
}
