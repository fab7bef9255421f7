//! Who is connected here, and what each connection is to do next.

use std::collections::{BTreeSet, HashMap};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{Notify, oneshot};
use warden_protocol::ToNode;

/// Cancellations that wait for one connection; more, and it looks into the store for itself.
const CANCELS: usize = 64;
/// Answers about archives that wait for one connection; who misses one asks again.
const ANSWERS: usize = 16;
/// Newcomers that wait to hear whether a connection is alive; more are two machines at war.
const PROBES: usize = 4;

#[derive(Default)]
pub struct Registry {
    peers: Mutex<HashMap<u64, Peer>>,
    numbers: AtomicU64,
}

struct Peer {
    number: u64,
    instance: Box<str>,
    mailbox: Arc<Mailbox>,
    /// The instance that was refused last, so that a war of two is told once.
    refused: Option<Box<str>>,
    /// Its arrival was told to all Supervisors: what arrives elsewhere from now on is newer.
    announced: bool,
}

/// What a connection is to do: bounded, and nothing of it matters once the connection is gone.
#[derive(Default)]
pub struct Mailbox {
    orders: Mutex<Orders>,
    there: Notify,
}

#[derive(Default)]
pub struct Orders {
    /// Look for activities to send.
    pub deliver: bool,
    /// Hold everything against the store, cancellations too.
    pub reconcile: bool,
    pub cancel: BTreeSet<u64>,
    pub close: Option<Close>,
    /// What to say.
    pub answers: Vec<ToNode>,
    /// Whom to tell that the node is alive, as soon as it shows.
    pub probes: Vec<oneshot::Sender<()>>,
}

/// Why a connection is closed from this side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Close {
    /// The same agent has connected anew.
    Replaced,
    /// Another agent of the same identity came, and this one did not answer.
    Silent,
    /// This one is the other agent.
    Duplicate,
    Removed,
    GoingAway,
}

/// A place in the registry; given back when dropped.
pub struct Seat<'a> {
    registry: &'a Registry,
    node: u64,
    pub number: u64,
    pub mailbox: Arc<Mailbox>,
}

pub enum Claim<'a> {
    Seated(Seat<'a>),
    /// Another agent has the place. Whether it is alive comes through the receiver; that it is not, by the receiver's
    /// closing or by nothing coming. `told` when this instance was refused before.
    Taken {
        alive: oneshot::Receiver<()>,
        number: u64,
        told: bool,
    },
}

impl Registry {
    /// A place for this agent. One of the same instance gives way; one of another is asked whether it lives, unless
    /// it is `dead`: the number of a connection that did not answer.
    pub fn claim(&self, node: u64, instance: &str, dead: Option<u64>) -> Claim<'_> {
        let mut peers = self.lock();
        if let Some(peer) = peers.get_mut(&node) {
            if *peer.instance == *instance {
                peer.mailbox.post(|orders| orders.close = Some(Close::Replaced));
            } else if dead == Some(peer.number) {
                peer.mailbox.post(|orders| orders.close = Some(Close::Silent));
            } else {
                let told = peer.refused.as_deref() == Some(instance);
                return Claim::Taken { alive: peer.probe(), number: peer.number, told };
            }
        }
        let number = self.numbers.fetch_add(1, Ordering::Relaxed);
        let mailbox = Arc::new(Mailbox::default());
        let peer = Peer {
            number,
            instance: instance.into(),
            mailbox: mailbox.clone(),
            refused: None,
            announced: false,
        };
        peers.insert(node, peer);
        Claim::Seated(Seat { registry: self, node, number, mailbox })
    }

    /// Asks whether the agent that has this place lives, on behalf of `instance`, which is connected elsewhere.
    pub fn probe(&self, node: u64, instance: &str) -> Option<(oneshot::Receiver<()>, u64)> {
        let peers = self.lock();
        let peer = peers.get(&node).filter(|peer| *peer.instance != *instance)?;
        Some((peer.probe(), peer.number))
    }

    /// Closes the connection of this number, if it is still there.
    pub fn close_number(&self, node: u64, number: u64, why: Close) {
        if let Some(peer) = self.lock().get(&node).filter(|peer| peer.number == number) {
            peer.mailbox.post(|orders| orders.close = Some(why));
        }
    }

    /// Remembers that this instance was refused, for as long as the other is connected.
    pub fn refuse(&self, node: u64, instance: &str) {
        if let Some(peer) = self.lock().get_mut(&node) {
            peer.refused = Some(instance.into());
        }
    }

    pub fn wake(&self, node: u64) {
        self.post(node, |orders| orders.deliver = true);
    }

    pub fn cancel(&self, node: u64, activity: u64) {
        self.post(node, |orders| {
            if orders.cancel.len() < CANCELS {
                orders.cancel.insert(activity);
            } else {
                orders.reconcile = true;
            }
        });
    }

    /// Says this to the node, if it is still there.
    pub fn answer(&self, node: u64, answer: ToNode) {
        self.post(node, |orders| {
            if orders.answers.len() < ANSWERS {
                orders.answers.push(answer);
            }
        });
    }

    pub fn close(&self, node: u64, why: Close) {
        self.post(node, |orders| orders.close = Some(why));
    }

    pub fn close_all(&self, why: Close) {
        self.lock().values().for_each(|peer| peer.mailbox.post(|orders| orders.close = Some(why)));
    }

    /// The node may miss what was sent over a connection that ended.
    pub fn reconcile(&self, node: u64) {
        self.post(node, |orders| orders.reconcile = true);
    }

    /// Notices were lost.
    pub fn reconcile_all(&self) {
        self.lock().values().for_each(|peer| peer.mailbox.post(|orders| orders.reconcile = true));
    }

    /// Another Supervisor holds a living connection of this node, by another instance than this.
    pub fn contested(&self, node: u64, instance: &str) {
        if let Some(peer) = self.lock().get(&node).filter(|peer| *peer.instance == *instance) {
            peer.mailbox.post(|orders| orders.close = Some(Close::Duplicate));
        }
    }

    pub fn has(&self, node: u64) -> bool {
        self.lock().contains_key(&node)
    }

    /// Whether the connection of this number is the node's newest here.
    pub fn holds(&self, node: u64, number: u64) -> bool {
        self.lock().get(&node).is_some_and(|peer| peer.number == number)
    }

    pub fn count(&self) -> usize {
        self.lock().len()
    }

    /// All Supervisors have heard of this connection.
    pub fn announced(&self, node: u64, number: u64) {
        if let Some(peer) = self.lock().get_mut(&node).filter(|peer| peer.number == number) {
            peer.announced = true;
        }
    }

    /// The instance that is connected here as this node, if all Supervisors have heard of it.
    pub fn instance(&self, node: u64) -> Option<Box<str>> {
        self.lock().get(&node).filter(|peer| peer.announced).map(|peer| peer.instance.clone())
    }

    fn post(&self, node: u64, change: impl FnOnce(&mut Orders)) {
        if let Some(peer) = self.lock().get(&node) {
            peer.mailbox.post(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<u64, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peer {
    fn probe(&self) -> oneshot::Receiver<()> {
        let (sender, alive) = oneshot::channel();
        self.mailbox.post(|orders| {
            if orders.probes.len() < PROBES {
                orders.probes.push(sender);
            } else {
                let _ = sender.send(());
            }
        });
        alive
    }
}

impl Drop for Seat<'_> {
    fn drop(&mut self) {
        let mut peers = self.registry.lock();
        // Whoever came in its stead stays.
        if peers.get(&self.node).is_some_and(|peer| peer.number == self.number) {
            peers.remove(&self.node);
        }
        // A map that held ten thousand once need not keep their room for ever.
        if peers.capacity() > 1024 && peers.len() < peers.capacity() / 4 {
            peers.shrink_to_fit();
        }
    }
}

impl Mailbox {
    pub fn post(&self, change: impl FnOnce(&mut Orders)) {
        change(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner));
        self.there.notify_one();
    }

    /// Waits for orders and takes them all.
    pub async fn take(&self) -> Orders {
        self.there.notified().await;
        std::mem::take(&mut self.orders.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seated(claim: Claim<'_>) -> Seat<'_> {
        match claim {
            Claim::Seated(seat) => seat,
            Claim::Taken { .. } => panic!("the place is taken"),
        }
    }

    #[tokio::test]
    async fn the_same_agent_takes_its_own_place_and_leaves_it_once() {
        let registry = Registry::default();
        let first = seated(registry.claim(1, "a", None));
        let second = seated(registry.claim(1, "a", None));
        assert_eq!(first.mailbox.take().await.close, Some(Close::Replaced));
        drop(first);
        assert!(registry.has(1));
        drop(second);
        assert_eq!(registry.count(), 0);
    }

    #[tokio::test]
    async fn another_agent_gets_the_place_only_of_a_dead_one() {
        let registry = Registry::default();
        let first = seated(registry.claim(1, "a", None));
        let Claim::Taken { alive, number, told: false } = registry.claim(1, "b", None) else {
            panic!("the place is free");
        };
        for probe in first.mailbox.take().await.probes {
            probe.send(()).unwrap();
        }
        alive.await.unwrap();
        registry.refuse(1, "b");
        assert!(matches!(registry.claim(1, "b", None), Claim::Taken { told: true, .. }));
        assert!(matches!(registry.claim(1, "b", Some(number + 1)), Claim::Taken { .. }));
        let second = seated(registry.claim(1, "b", Some(number)));
        assert_eq!(first.mailbox.take().await.close, Some(Close::Silent));
        drop(first);
        assert_eq!(registry.instance(1), None);
        registry.announced(1, second.number);
        assert_eq!(registry.instance(1).as_deref(), Some("b"));
        drop(second);
    }

    #[tokio::test]
    async fn orders_add_up_and_stay_bounded() {
        let registry = Registry::default();
        let seat = seated(registry.claim(1, "a", None));
        registry.wake(1);
        registry.wake(1);
        for activity in 0..1_000 {
            registry.cancel(1, activity);
        }
        let orders = seat.mailbox.take().await;
        assert!(orders.deliver && orders.reconcile);
        assert_eq!(orders.cancel.len(), CANCELS);
        let probes: Vec<_> = (0..PROBES + 1).map(|_| registry.claim(1, "b", None)).collect();
        assert_eq!(seat.mailbox.take().await.probes.len(), PROBES);
        drop(probes);
    }
}
