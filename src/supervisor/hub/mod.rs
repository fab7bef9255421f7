//! The link hub: holds the websockets of the nodes, hands out what waits for them, and keeps what they tell.
//!
//! Which node is where is known only here, in memory. What is to be done stands in the store: a hub that starts anew,
//! or another replica's, sends what is missing as soon as the node says hello.

mod batch_writer;
mod connection;
mod delivery;
mod enrollment;
mod handshake;
mod offer;
mod registry;
mod socket;
mod upgrade;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context;
use axum::Router;
use axum::routing::{get, post};
use tokio::sync::Semaphore;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warden_protocol::{ENROL_PATH, LINK_PATH};

use self::batch_writer::{Notes, Scribe, scribe};
use self::registry::{Close, Registry};
use super::Clock;
use super::store::{Notice, Store};
use super::upload_service::Uploads;

/// Connections of one Supervisor. At some 25 KB each they fit 250 MB; whoever has more nodes has more replicas.
const CONNECTIONS: usize = 10_000;
/// Callers whose credential or token is looked up at one moment; the others wait their turn, for [`TURN_LIMIT`].
const LOOKED_UP_AT_ONCE: usize = 32;
/// Then they are told to come back: after a restart thousands of nodes come at once.
const TURN_LIMIT: Duration = Duration::from_secs(5);
/// When to come back, in seconds.
const COME_BACK: u64 = 5;
/// Questions about archives that are answered at one moment; who is not answered asks again.
const UPLOADS_AT_ONCE: usize = 32;
/// It is taken already, and without the data directory: one that is not here after half an hour holds up others.
const OFFER_DEADLINE_MS: i64 = 1_800_000;
/// For the connections to be closed when the Supervisor stops.
const GOODBYE: Duration = Duration::from_secs(5);

/// Bounds an operator may move.
#[derive(Debug, Clone, Copy)]
pub struct Limits {
    /// How often a node tells how it is.
    pub heartbeat_seconds: u32,
    pub connections: usize,
    /// For a snapshot that a node offered to be here, in milliseconds.
    pub offer_deadline_ms: i64,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits { heartbeat_seconds: 30, connections: CONNECTIONS, offer_deadline_ms: OFFER_DEADLINE_MS }
    }
}

#[derive(Clone)]
pub struct Hub {
    inner: Arc<Inner>,
}

struct Inner {
    store: Store,
    clock: Clock,
    limits: Limits,
    registry: Registry,
    lookups: Semaphore,
    scribe: Scribe,
    /// Taken by whoever runs the hub.
    notes: Mutex<Option<Notes>>,
    /// None: there is nowhere to put archives.
    uploads: Option<Uploads>,
    upload_turns: Arc<Semaphore>,
    connections: TaskTracker,
    stop: CancellationToken,
}

impl Hub {
    pub fn new(store: Store, clock: Clock, limits: Limits, uploads: Option<Uploads>) -> Hub {
        let (scribe, notes) = scribe();
        Hub {
            inner: Arc::new(Inner {
                store,
                clock,
                limits,
                registry: Registry::default(),
                lookups: Semaphore::new(LOOKED_UP_AT_ONCE),
                scribe,
                notes: Mutex::new(Some(notes)),
                uploads,
                upload_turns: Arc::new(Semaphore::new(UPLOADS_AT_ONCE)),
                connections: TaskTracker::new(),
                stop: CancellationToken::new(),
            }),
        }
    }

    /// Where nodes call. Needs the address of the caller as `ConnectInfo<SocketAddr>`.
    pub fn routes(&self) -> Router {
        Router::new()
            .route(LINK_PATH, get(upgrade::take))
            .route(ENROL_PATH, post(enrollment::enrol))
            .with_state(self.clone())
    }

    /// Hears what other parts and other Supervisors change, until told to stop; then closes every connection.
    pub async fn run(self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut notices = self.inner.store.listen();
        let ended = CancellationToken::new();
        let notes = self.inner.notes.lock().unwrap_or_else(PoisonError::into_inner).take();
        let notes = notes.context("the hub runs already")?;
        let writing = notes.write(self.inner.store.clone(), self.inner.clock.clone(), ended.clone());
        let writing = tokio::spawn(writing);
        loop {
            let notice = tokio::select! {
                () = stop.cancelled() => break,
                notice = notices.next() => notice,
            };
            let Some(notice) = notice else { break };
            self.heed(notice);
        }
        self.inner.stop.cancel();
        self.inner.registry.close_all(Close::GoingAway);
        self.inner.connections.close();
        // Whoever does not take the goodbye finds out by itself.
        let _ = timeout(GOODBYE, self.inner.connections.wait()).await;
        ended.cancel();
        writing.await.context("what nodes told last is not written")
    }

    /// There are activities for this node.
    pub fn wake(&self, node: u64) {
        self.inner.registry.wake(node);
    }

    /// This node shall end this activity if it has taken no effect yet.
    pub fn cancel(&self, node: u64, activity: u64) {
        self.inner.registry.cancel(node, activity);
    }

    /// Whether this Supervisor holds the node's connection; another replica may.
    pub fn connected(&self, node: u64) -> bool {
        self.inner.registry.has(node)
    }

    /// Nodes that are connected here.
    pub fn connections(&self) -> usize {
        self.inner.registry.count()
    }

    fn heed(&self, notice: Notice) {
        let registry = &self.inner.registry;
        match notice {
            Notice::Wake(node) => registry.wake(node),
            Notice::Cancel { node, activity } => registry.cancel(node, activity),
            Notice::Removed(node) => registry.close(node, Close::Removed),
            Notice::Missed => registry.reconcile_all(),
            Notice::Arrived { node, ref instance, supervisor, connection } => {
                if supervisor == self.inner.store.start() {
                    registry.announced(node, connection);
                } else {
                    self.elsewhere(node, instance.clone());
                }
            }
            Notice::Contested { node, ref instance } => registry.contested(node, instance),
            Notice::Reconcile(node) => registry.reconcile(node),
            Notice::Changed(_) | Notice::KeyRemoved(_) => {}
        }
    }

    fn now(&self) -> i64 {
        (self.inner.clock)()
    }
}
