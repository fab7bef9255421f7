//! Whether the firewall of this host lets a new connection from another host in: the rules of nftables and iptables,
//! in the order in which the kernel runs them. Source: libnftables-json(5), iptables-save(8), nft(8).

mod condition;
mod evaluate;
mod iptables;
mod iptables_match;
mod nft;
mod nft_match;
mod read;
mod rule;
#[cfg(test)]
mod tests;

pub use evaluate::judge;
pub use read::{LEGACY_TABLES, LEGACY_TABLES_6, Rules};
use rule::Chain;
pub use rule::{Family, address_number};

/// Chains that decide together.
#[derive(Clone, Debug, Default)]
pub struct Ruleset {
    chains: Vec<Chain>,
    /// Tables with rules that nft shows in part only: iptables made them.
    opaque: Vec<String>,
}

impl Ruleset {
    /// Rules of any kind, of every hook.
    pub fn count(&self) -> u64 {
        self.chains.iter().map(|chain| chain.rules.len() as u64).sum()
    }

    /// Base chains that a packet for this host passes, and their policy.
    pub fn policies(&self) -> impl Iterator<Item = (&str, &'static str)> {
        self.chains.iter().filter_map(|chain| {
            let policy = if chain.base.as_ref()?.policy == rule::Verdict::Drop { "drop" } else { "accept" };
            Some((chain.name.as_str(), policy))
        })
    }

    fn rules_in(&self, table: &str) -> usize {
        self.chains.iter().filter(|chain| chain.table == table).map(|chain| chain.rules.len()).sum()
    }

    fn remove(&mut self, table: &str) {
        self.chains.retain(|chain| chain.table != table);
    }
}

/// Leaves each table that nft and an iptables of its back end both show with the one of the two that shows all of it.
fn remove_repeated(nft: &mut Ruleset, saved: &mut Ruleset, says_nf_tables: bool, family: Family) {
    let (family, program) = match family {
        Family::V4 => ("ip", "iptables"),
        Family::V6 => ("ip6", "ip6tables"),
    };
    let mut tables: Vec<String> = saved.chains.iter().map(|chain| chain.table.clone()).collect();
    tables.dedup();
    for table in tables {
        let Some(name) = table.strip_prefix(program) else { continue };
        let theirs = format!("{family}{name}");
        let is_there = nft.chains.iter().any(|chain| chain.table == theirs);
        // Old versions do not say which back end they are of.
        if !is_there || !(says_nf_tables || nft.rules_in(&theirs) == saved.rules_in(&table)) {
            continue;
        }
        match nft.opaque.contains(&theirs) {
            true => nft.remove(&theirs),
            false => saved.remove(&table),
        }
    }
}

/// A new connection from another host.
#[derive(Clone, Debug)]
pub struct Connection {
    pub family: Family,
    pub udp: bool,
    pub port: u16,
    /// The addresses of this host that it may be meant for, as numbers; none when they are not known.
    pub local: Vec<u128>,
    /// The interfaces that it may arrive on; none when they are not known.
    pub interfaces: Vec<String>,
    /// Judge the packets after the first one, which have to get in as well.
    pub later: bool,
}

impl Connection {
    fn protocol(&self) -> u128 {
        if self.udp { rule::UDP } else { rule::TCP }
    }
}

/// What earlier rules did to the packet.
#[derive(Clone, Copy, Debug, Default)]
struct Tracking {
    marked: bool,
    untracked: bool,
    /// It is where connection tracking has not seen it yet, and calls it invalid.
    early: bool,
}

impl Tracking {
    fn state(&self, connection: &Connection) -> &'static str {
        match (self.untracked, self.early, connection.later) {
            (true, ..) => "untracked",
            (_, true, _) => "invalid",
            (.., true) => "established",
            _ => "new",
        }
    }
}

/// What becomes of a connection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// Nobody is turned away.
    Accepted,
    /// Everybody is.
    TurnedAway(Decision),
    /// Only some get in: who, each a sentence part such as `source 10.0.0.0/8`.
    OnlySome(Vec<String>, Decision),
    /// All get in but some.
    AllBut(Vec<String>, Decision),
    /// Why Warden cannot tell, with the chain where it matters.
    NotJudged(String),
}

/// What turns a connection away.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `inet filter input`, `iptables filter INPUT`.
    pub chain: String,
    pub rejects: bool,
    /// `None` when no rule decides and the chain's policy does.
    pub rule: Option<String>,
}
