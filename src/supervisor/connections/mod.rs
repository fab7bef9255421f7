//! Who is connected: so many at once, so many from one address, and room for enrolled nodes whatever others do.
//!
//! Whoever connects is a caller. A caller that shows a credential of a node becomes a node, and leaves the callers'
//! places. Where callers have no place left, one that said nothing yet makes way for the newcomer, the oldest first;
//! after those, one that nothing is under way for. So connections that say nothing keep nobody out, from wherever they
//! come.

mod serve;
mod watch;

use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
pub use serve::serve;
pub use watch::Visitor;
use watch::{Connection, Rank};

use super::network::Network;

/// Descriptors for what is no connection: the store, files of archives being checked, the journal, the runtime.
const OWN_DESCRIPTORS: u64 = 256;
/// Of a caller: its connection, and a file that it sends or fetches.
const DESCRIPTORS_OF_A_CALLER: u64 = 2;
/// Places for callers where the limit of descriptors leaves almost none.
const FEWEST_CALLERS: u64 = 32;
/// Addresses that are counted between two lines of the log.
const ADDRESSES_TOLD: usize = 1024;

/// How many may be connected at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Connections that are no node's.
    pub callers: usize,
    /// Of one address, of the callers: an IPv6 network of 64 bits counts as one. Not of a proxy that is trusted.
    pub per_address: usize,
    /// Links of nodes.
    pub nodes: usize,
}

impl Limits {
    /// As many as were asked for, as far as `descriptors` allow.
    pub fn within(self, descriptors: u64) -> Limits {
        let free = descriptors.saturating_sub(OWN_DESCRIPTORS);
        // Half of the descriptors are the nodes', whatever the callers do.
        let callers = (free / 2 / DESCRIPTORS_OF_A_CALLER).max(FEWEST_CALLERS).min(self.callers as u64);
        let nodes = free.saturating_sub(callers * DESCRIPTORS_OF_A_CALLER).min(self.nodes as u64);
        let callers = usize::try_from(callers).unwrap_or(usize::MAX);
        let nodes = usize::try_from(nodes).unwrap_or(usize::MAX);
        Limits { callers, per_address: self.per_address.min(callers), nodes }
    }
}

/// Raises this process's limit of open files as far as it may, and returns it.
pub fn raise_descriptors() -> u64 {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    // Without a limit of its own the kernel has one: fs.nr_open.
    let wanted = maximum.unwrap_or(1 << 20);
    if current.is_some_and(|current| current < wanted)
        && setrlimit(Resource::Nofile, Rlimit { current: Some(wanted), maximum }).is_ok()
    {
        return wanted;
    }
    current.unwrap_or(wanted)
}

/// All connections of a Supervisor.
#[derive(Clone)]
pub struct Connections(Arc<Inner>);

struct Inner {
    limits: Limits,
    trusted: Vec<Network>,
    open: Mutex<Open>,
}

#[derive(Default)]
struct Open {
    next: u64,
    /// By age.
    callers: BTreeMap<u64, Arc<Connection>>,
    by_address: HashMap<IpAddr, usize>,
    ended: Tally,
}

/// Why a connection was ended, or not begun, that did nothing wrong by HTTP.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// Not a byte came in time.
    Silent,
    /// No whole request came in time.
    NoRequest,
    /// Nothing moved in the middle of a request or an answer.
    Stalled,
    /// It was kept, and nothing more was asked for.
    Idle,
    /// It made way for another.
    MadeWay,
    /// All who are connected were being served.
    NoPlace,
}

/// How many ended since the last line of the log.
#[derive(Debug, Default)]
struct Tally {
    silent: u64,
    stalled: u64,
    made_way: u64,
    no_place: u64,
    by_address: HashMap<IpAddr, u64>,
}

/// A place among the connections; given back when dropped.
pub struct Place {
    connections: Connections,
    number: u64,
    connection: Arc<Connection>,
}

impl Connections {
    pub fn new(limits: Limits, trusted: Vec<Network>) -> Connections {
        Connections(Arc::new(Inner { limits, trusted, open: Mutex::default() }))
    }

    pub fn limits(&self) -> Limits {
        self.0.limits
    }

    /// A place for a newcomer; none when all who have one are being served.
    pub fn admit(&self, peer: IpAddr) -> Option<Place> {
        let address = self.counted(peer);
        let mut open = self.open();
        let of_address = address.and_then(|address| open.by_address.get(&address)).copied().unwrap_or(0);
        let placed = (of_address < self.0.limits.per_address || open.make_room(address))
            && (open.callers.len() < self.0.limits.callers || open.make_room(None));
        if !placed {
            open.ended.count(peer, Why::NoPlace);
            return None;
        }
        let number = open.next;
        open.next += 1;
        let connection = Arc::new(Connection::new(peer, address));
        open.callers.insert(number, Arc::clone(&connection));
        if let Some(address) = address {
            *open.by_address.entry(address).or_default() += 1;
        }
        Some(Place { connections: self.clone(), number, connection })
    }

    /// Callers that are connected now.
    pub fn callers(&self) -> usize {
        self.open().callers.len()
    }

    /// What the log should say of connections that ended since it was asked last.
    fn told(&self) -> Option<String> {
        std::mem::take(&mut self.open().ended).line()
    }

    fn ended(&self, peer: IpAddr, why: Why) {
        self.open().ended.count(peer, why);
    }

    fn leave(&self, number: u64) {
        self.open().remove(number);
    }

    /// The address that a caller counts for. All callers of a proxy have its address, and it has limits of its own.
    fn counted(&self, peer: IpAddr) -> Option<IpAddr> {
        let trusted = self.0.trusted.iter().any(|network| network.contains(peer));
        (!trusted).then(|| match peer.to_canonical() {
            // What one customer of a provider has.
            IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() & (u128::MAX << 64))),
            address @ IpAddr::V4(_) => address,
        })
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.open.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    /// Ends the connection that is missed least, of this address or of all. False when each is being served.
    fn make_room(&mut self, address: Option<IpAddr>) -> bool {
        let mut least: Option<(Rank, u64)> = None;
        for (number, connection) in &self.callers {
            if address.is_some() && connection.address != address {
                continue;
            }
            let rank = connection.rank();
            if rank < Rank::Served && least.is_none_or(|(known, _)| rank < known) {
                least = Some((rank, *number));
            }
            // Of those that asked for nothing, the oldest comes first.
            if rank == Rank::Unheard {
                break;
            }
        }
        let Some((_, number)) = least else { return false };
        if let Some(connection) = self.remove(number) {
            connection.end();
            self.ended.count(connection.peer, Why::MadeWay);
        }
        true
    }

    fn remove(&mut self, number: u64) -> Option<Arc<Connection>> {
        let connection = self.callers.remove(&number)?;
        if let Some(address) = connection.address
            && let Some(count) = self.by_address.get_mut(&address)
        {
            *count -= 1;
            if *count == 0 {
                self.by_address.remove(&address);
            }
        }
        Some(connection)
    }
}

impl Place {
    fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.connections.leave(self.number);
    }
}

impl Tally {
    fn count(&mut self, peer: IpAddr, why: Why) {
        match why {
            Why::Silent | Why::NoRequest => self.silent += 1,
            Why::Stalled => self.stalled += 1,
            Why::MadeWay => self.made_way += 1,
            Why::NoPlace => self.no_place += 1,
            // As connections are meant to end.
            Why::Idle => return,
        }
        if self.by_address.len() < ADDRESSES_TOLD || self.by_address.contains_key(&peer) {
            *self.by_address.entry(peer).or_default() += 1;
        }
    }

    fn line(self) -> Option<String> {
        let (address, most) = self.by_address.into_iter().max_by_key(|(_, count)| *count)?;
        let parts = [
            (self.silent, "sent no request in time"),
            (self.stalled, "stopped in the middle of one"),
            (self.made_way, "made way for others"),
            (self.no_place, "found no place"),
        ];
        let parts = parts.iter().filter(|(count, _)| *count > 0);
        let parts: Vec<String> = parts.map(|(count, what)| format!("{count} {what}")).collect();
        Some(format!("connections were closed: {}; most came from {address} ({most})", parts.join(", ")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: Limits = Limits { callers: 4, per_address: 2, nodes: 1 };

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn limits_keep_within_the_descriptors_and_half_of_them_for_nodes() {
        let wanted = Limits { callers: 4096, per_address: 1024, nodes: 10_000 };
        assert_eq!(wanted.within(1 << 20), wanted);
        assert_eq!(wanted.within(32_768), wanted);
        assert_eq!(wanted.within(4096), Limits { callers: 960, per_address: 960, nodes: 1920 });
        assert_eq!(wanted.within(0), Limits { callers: 32, per_address: 32, nodes: 0 });
    }

    #[test]
    fn who_says_nothing_makes_way_and_who_is_served_stays() {
        let connections = Connections::new(LIMITS, Vec::new());
        let (one, two) = (address("192.0.2.1"), address("192.0.2.2"));
        let first = connections.admit(one).unwrap();
        let second = connections.admit(one).unwrap();
        let asking = first.connection().asks();
        second.connection().hears();
        // Of its own address, the one that is not served, though the other is older.
        let third = connections.admit(one).unwrap();
        assert!(second.connection().is_ended() && !first.connection().is_ended());
        let other = [two, address("192.0.2.3")].map(|peer| connections.admit(peer).unwrap());
        let _asking = (third.connection().asks(), other.each_ref().map(|place| place.connection().asks()));
        assert!(connections.admit(one).is_none(), "two of its address are served");
        assert!(connections.admit(two).is_none(), "and four of all");
        drop(asking);
        let known = first.connection();
        known.is_known();
        let late = connections.admit(two).unwrap();
        assert!(known.is_ended(), "nothing was under way for it");
        assert_eq!(connections.callers(), 4);
        assert_eq!(
            connections.told().unwrap(),
            "connections were closed: 2 made way for others, 2 found no place; most came from 192.0.2.1 (3)"
        );
        assert_eq!(connections.told(), None);
        drop((first, second, third, other, late));
        assert_eq!(connections.callers(), 0);
        assert!(connections.open().by_address.is_empty());
    }

    #[test]
    fn who_asked_before_outlives_who_did_not_and_who_is_known_outlives_both() {
        let connections = Connections::new(Limits { per_address: 4, ..LIMITS }, Vec::new());
        let peer = address("192.0.2.1");
        let [known, asked, heard, silent] = [(); 4].map(|()| connections.admit(peer).unwrap());
        drop(known.connection().asks());
        known.connection().is_known();
        drop(asked.connection().asks());
        heard.connection().hears();
        let in_turn = [&heard, &silent, &asked, &known];
        let mut newcomers = Vec::new();
        for goes in in_turn {
            assert!(!goes.connection().is_ended());
            let newcomer = connections.admit(peer).unwrap();
            newcomers.push((newcomer.connection().asks(), newcomer));
            assert!(goes.connection().is_ended());
        }
        assert!(connections.admit(peer).is_none());
    }

    #[test]
    fn a_node_leaves_the_place_of_a_caller_to_others() {
        let connections = Connections::new(Limits { callers: 1, ..LIMITS }, Vec::new());
        let place = connections.admit(address("192.0.2.1")).unwrap();
        let asking = place.connection().asks();
        assert!(connections.admit(address("192.0.2.2")).is_none());
        Visitor::new(connections.clone(), place.number, Arc::clone(place.connection())).becomes_node();
        assert_eq!(connections.callers(), 0);
        assert!(connections.admit(address("192.0.2.2")).is_some());
        assert!(!place.connection().is_ended());
        drop((asking, place));
    }

    #[test]
    fn a_network_of_ipv6_is_one_address_and_a_trusted_proxy_is_none() {
        let connections = Connections::new(LIMITS, vec!["10.0.0.0/8".parse().unwrap()]);
        let counted = |text: &str| connections.counted(address(text)).map(|address| address.to_string());
        assert_eq!(counted("2001:db8:1:2:3:4:5:6").as_deref(), Some("2001:db8:1:2::"));
        assert_eq!(counted("::ffff:192.0.2.7").as_deref(), Some("192.0.2.7"));
        assert_eq!(counted("10.1.2.3"), None);
    }
}
