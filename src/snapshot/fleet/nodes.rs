//! Who is in a fleet: each node with a name of its own, in the order a person counts them.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::{Serialize, Serializer};

use super::NODES;
use crate::diff::Side;
use crate::report::Outcome;

const WORDS: usize = NODES.div_ceil(64);

/// Some of the nodes, by the order they were added in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct NodeSet([u64; WORDS]);

impl NodeSet {
    pub fn insert(&mut self, node: usize) {
        if let Some(word) = self.0.get_mut(node / 64) {
            *word |= 1 << (node % 64);
        }
    }

    pub fn contains(&self, node: usize) -> bool {
        self.0.get(node / 64).is_some_and(|word| word & (1 << (node % 64)) != 0)
    }

    pub fn len(&self) -> usize {
        self.0.iter().map(|word| word.count_ones() as usize).sum()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn without(mut self, others: NodeSet) -> NodeSet {
        self.0.iter_mut().zip(others.0).for_each(|(word, other)| *word &= !other);
        self
    }

    pub fn and(mut self, others: NodeSet) -> NodeSet {
        self.0.iter_mut().zip(others.0).for_each(|(word, other)| *word |= other);
        self
    }

    pub fn iter(self) -> impl Iterator<Item = usize> {
        (0..NODES).filter(move |node| self.contains(*node))
    }
}

/// A node where it is named: its place in [`super::Fleet::nodes`], and its name, which is all that JSON tells.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Member {
    pub at: usize,
    pub name: Arc<str>,
}

impl Serialize for Member {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        to.serialize_str(&self.name)
    }
}

#[derive(Debug, Serialize)]
pub struct Node {
    /// Its host's name without the domain that all share; with a number behind it where another has the same.
    pub name: String,
    /// The whole name of its host.
    pub host: String,
    /// Where its snapshot was read from.
    pub source: String,
    /// RFC 3339 UTC.
    pub started_at: String,
    pub warden: String,
    pub worst: Outcome,
    /// How many of its checks came to each outcome.
    pub counts: BTreeMap<Outcome, u32>,
    /// In how many values of [`super::Fleet::drift`] it is not like most of the others.
    pub differs_in: usize,
}

/// What is kept of a node while others are read.
#[derive(Debug)]
pub struct Added {
    pub host: String,
    pub source: String,
    pub started_at: String,
    pub warden: String,
    pub machine_id: String,
    pub privileged: Option<bool>,
    pub is_newer: bool,
    pub counts: BTreeMap<Outcome, u32>,
}

/// Characters of a name, a place or a version: more is not read.
const CHARACTERS: usize = 200;

impl Added {
    pub fn new(source: &str, side: &Side) -> Added {
        let cut = |text: &str| text.chars().take(CHARACTERS).collect::<String>();
        let host = cut(&side.fact("name"));
        let file = source.rsplit('/').next().unwrap_or(source);
        let stem = file.rsplit_once('.').map_or(file, |(stem, _)| stem);
        Added {
            host: if host.is_empty() { cut(stem) } else { host },
            source: source.to_owned(),
            started_at: cut(&side.run.started_at),
            warden: cut(&side.warden),
            machine_id: cut(&side.fact("machine_id")),
            privileged: side.run.privileged,
            is_newer: side.is_newer(),
            counts: BTreeMap::new(),
        }
    }
}

/// The order that the nodes are shown in, and what each is called.
pub struct Roster {
    /// By the order they were added in.
    members: Vec<Member>,
}

impl Roster {
    pub fn new(added: &[Added]) -> Roster {
        let shared = shared_domain(added);
        let short = |node: usize| {
            let host = added[node].host.as_str();
            if shared { host.split('.').next().unwrap_or(host) } else { host }
        };
        let mut order: Vec<usize> = (0..added.len()).collect();
        order.sort_by_key(|&node| (natural(short(node)), node));
        let mut members: Vec<Option<Member>> = vec![None; added.len()];
        let mut taken: BTreeMap<String, usize> = BTreeMap::new();
        for (at, &node) in order.iter().enumerate() {
            let host = short(node).to_owned();
            let mut name = host.clone();
            // Another host may really be called `a (2)`.
            while taken.contains_key(&name) {
                let nth = taken.entry(host.clone()).or_insert(1);
                *nth += 1;
                name = format!("{host} ({nth})");
            }
            taken.insert(name.clone(), 1);
            members[node] = Some(Member { at, name: name.into() });
        }
        Roster { members: members.into_iter().flatten().collect() }
    }

    pub fn member(&self, node: usize) -> &Member {
        &self.members[node]
    }

    pub fn members(&self, nodes: NodeSet) -> Vec<Member> {
        let mut members: Vec<Member> =
            nodes.iter().filter_map(|node| self.members.get(node)).cloned().collect();
        members.sort();
        members
    }
}

fn shared_domain(added: &[Added]) -> bool {
    let domain = |one: &Added| {
        one.host.split_once('.').filter(|(name, _)| !name.is_empty()).map(|(_, domain)| domain.to_owned())
    };
    let first = added.first().and_then(domain);
    added.len() > 1 && first.is_some() && added.iter().all(|one| domain(one) == first)
}

/// `node-2` before `node-10`.
fn natural(name: &str) -> Vec<Chunk> {
    let mut chunks: Vec<Chunk> = Vec::new();
    for char in name.chars() {
        match (chunks.last_mut(), char.to_digit(10)) {
            (Some(Chunk::Number(number)), Some(digit)) => {
                *number = number.saturating_mul(10).saturating_add(u64::from(digit));
            }
            (_, Some(digit)) => chunks.push(Chunk::Number(u64::from(digit))),
            (Some(Chunk::Text(text)), None) => text.push(char),
            (_, None) => chunks.push(Chunk::Text(char.to_string())),
        }
    }
    chunks
}

#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum Chunk {
    Number(u64),
    Text(String),
}

/// Up to `shown` names, and how many more there are: `a, b and 3 more`.
pub fn listed(members: &[Member], shown: usize) -> String {
    let names = |members: &[Member]| members.iter().map(|one| one.name.to_string()).collect::<Vec<_>>();
    match members {
        [] => String::new(),
        [one] => one.name.to_string(),
        // Nobody is helped by `and 1 more`.
        _ if members.len() <= shown + 1 => {
            let (last, first) = (names(&members[members.len() - 1..]), names(&members[..members.len() - 1]));
            format!("{} and {}", first.join(", "), last.concat())
        }
        _ => format!("{} and {} more", names(&members[..shown]).join(", "), members.len() - shown),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn roster(hosts: &[&str]) -> Vec<String> {
        let added = hosts.iter().map(|host| Added {
            host: (*host).to_owned(),
            source: String::new(),
            started_at: String::new(),
            warden: String::new(),
            machine_id: String::new(),
            privileged: None,
            is_newer: false,
            counts: BTreeMap::new(),
        });
        let roster = Roster::new(&added.collect::<Vec<_>>());
        let mut all = NodeSet::default();
        (0..hosts.len()).for_each(|node| all.insert(node));
        roster.members(all).iter().map(|member| member.name.to_string()).collect()
    }

    #[test]
    fn nodes_are_counted_as_a_person_counts_and_no_two_have_one_name() {
        assert_eq!(roster(&["node-10", "node-9", "node-10", "a"]), ["a", "node-9", "node-10", "node-10 (2)"]);
        assert_eq!(roster(&["a", "a", "a (2)", "a"]), ["a", "a (2)", "a (3)", "a (2) (2)"]);
        assert_eq!(roster(&["b.x.org", "a.x.org", "a.x.org"]), ["a", "a (2)", "b"]);
        assert_eq!(roster(&["b.x.org", "a.y.org"]), ["a.y.org", "b.x.org"]);
    }

    #[test]
    fn a_list_of_nodes_names_the_first_and_counts_the_rest() {
        let members: Vec<Member> = "abcdef"
            .chars()
            .enumerate()
            .map(|(at, name)| Member { at, name: name.to_string().into() })
            .collect();
        assert_eq!(
            [0, 1, 2, 4, 5, 6].map(|count| listed(&members[..count], 3)),
            ["", "a", "a and b", "a, b, c and d", "a, b, c and 2 more", "a, b, c and 3 more"]
        );
    }

    #[test]
    fn a_set_holds_every_node_there_may_be() {
        let mut set = NodeSet::default();
        [0, 63, 64, NODES - 1, NODES, usize::MAX].iter().for_each(|node| set.insert(*node));
        assert_eq!(set.iter().collect::<Vec<_>>(), [0, 63, 64, NODES - 1]);
        assert_eq!(set.len(), 4);
    }
}
