//! Values in which some nodes are not like the others.

pub mod rules;
mod values;
mod variants;

use std::cmp::Reverse;

pub use rules::Topic;
use serde::Serialize;
pub use values::Settings;
use values::{Gathered, Place};
use variants::Variants;
use warden_host::quantity;

use super::nodes::{Member, NodeSet, Roster, listed};

/// Differences that are told: more is another machine rather than a drift.
const DIFFERENCES: usize = 500;

/// Values named as every node's own.
const OWN: usize = 200;

/// Nodes named in one sentence, and characters of each value in it.
const NAMED: usize = 4;
const CHARACTERS: usize = 80;
/// Values named in one sentence.
const VALUES: usize = 4;

#[derive(Debug, Serialize)]
pub struct Drift {
    pub topic: Topic,
    /// Whose evidence it is; empty for a fact of the host.
    pub check: String,
    /// `vm.max_map_count`, `Mounted: /var/lib/iggy, options`.
    pub what: String,
    /// All of it, in one sentence.
    pub text: String,
    /// What more than half of the nodes have; absent where no value is so frequent.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub usual: Option<Shared>,
    /// The other values, the most frequent first.
    pub others: Vec<Shared>,
}

/// A value and the nodes that have it.
#[derive(Debug, Serialize)]
pub struct Shared {
    /// Empty where they have none.
    pub value: String,
    pub nodes: Vec<Member>,
}

/// All of the drift: the facts of the hosts first, then by topic; in a topic first what a few nodes have and most have
/// not.
#[derive(Debug, Default)]
pub struct Differences {
    pub told: Vec<Drift>,
    pub left_out: usize,
    /// Values that are another on every node, as names are.
    pub own: Vec<String>,
    /// For each node, in how many values most nodes are not like it.
    pub of_node: Vec<usize>,
    /// Values that were not compared, because there were too many.
    pub not_compared: usize,
}

/// A value and the nodes that have it, before they have names.
type Held = (String, NodeSet);

/// A difference before it is put into words.
struct Candidate {
    topic: Topic,
    check: String,
    what: String,
    /// The most frequent first.
    values: Vec<Held>,
    /// Whether the first is on more than half.
    has_usual: bool,
}

pub fn differences(settings: Settings, roster: &Roster, nodes: usize) -> Differences {
    let mut own = Vec::new();
    let mut found = Vec::new();
    for (place, gathered) in settings.blocks {
        let Gathered { topic, whole, values, rows } = gathered;
        for (key, seen) in rows {
            let without = whole.without(seen.nodes);
            if !without.is_empty() && !seen.nodes.is_empty() {
                let values = vec![(seen.text, seen.nodes), ("not there".to_owned(), without)];
                found.push(Candidate::new(topic, &place, what(&place, &key, ""), values));
            }
        }
        for ((key, column), variants) in values {
            if !variants.differ() {
                continue;
            }
            let what = what(&place, &key, &column);
            if is_own(topic, &variants) {
                own.push(what);
                own.truncate(OWN);
                continue;
            }
            let Variants { each, rest } = variants;
            let mut values: Vec<Held> =
                each.into_iter().map(|variant| (variant.text.into(), variant.nodes)).collect();
            if !rest.is_empty() {
                values.push(("yet others".to_owned(), rest));
            }
            found.push(Candidate::new(topic, &place, what, values));
        }
    }
    // Stable: what ranks the same stays in the order of the catalogue.
    found.sort_by_key(Candidate::rank);
    let mut of_node = vec![0; nodes];
    for (_, others) in found.iter().filter_map(Candidate::parts) {
        for node in others.iter().flat_map(|(_, nodes)| nodes.iter()) {
            of_node[roster.member(node).at] += 1;
        }
    }
    let left_out = found.len().saturating_sub(DIFFERENCES);
    found.truncate(DIFFERENCES);
    Differences {
        told: found.into_iter().map(|candidate| candidate.told(roster)).collect(),
        left_out,
        own,
        of_node,
        not_compared: settings.left_out,
    }
}

impl Candidate {
    fn new(topic: Topic, place: &Place, what: String, mut values: Vec<Held>) -> Candidate {
        let nodes: usize = values.iter().map(|(_, nodes)| nodes.len()).sum();
        values.sort_by_key(|(_, nodes)| Reverse(nodes.len()));
        let has_usual = values.first().is_some_and(|(_, most)| most.len() * 2 > nodes);
        Candidate { topic, check: place.check.clone(), what, values, has_usual }
    }

    /// The usual value and the others, where there is a usual one.
    fn parts(&self) -> Option<(&Held, &[Held])> {
        self.values.split_first().filter(|_| self.has_usual)
    }

    fn rank(&self) -> (Topic, bool, bool, usize) {
        let deviating = |others: &[Held]| others.iter().map(|(_, nodes)| nodes.len()).sum();
        let deviating = self.parts().map_or(0, |(_, others)| deviating(others));
        (self.topic, !self.check.is_empty(), !self.has_usual, deviating)
    }

    fn told(self, roster: &Roster) -> Drift {
        let nodes: usize = self.values.iter().map(|(_, nodes)| nodes.len()).sum();
        let mut others: Vec<Shared> = (self.values.into_iter())
            .map(|(value, nodes)| Shared { value, nodes: roster.members(nodes) })
            .collect();
        let usual = self.has_usual.then(|| others.remove(0));
        others.sort_by(|a, b| b.nodes.len().cmp(&a.nodes.len()).then(a.nodes.cmp(&b.nodes)));
        let text = sentence(&self.what, usual.as_ref(), &others, nodes);
        Drift { topic: self.topic, check: self.check, what: self.what, text, usual, others }
    }
}

/// Whether every node has another, as it has another name: not for what should be one on all machines alike.
fn is_own(topic: Topic, variants: &Variants) -> bool {
    const FEWEST: usize = 3;
    let nodes = variants.nodes().len();
    topic > Topic::Version && nodes >= FEWEST && variants.each.iter().all(|variant| variant.nodes.len() == 1)
}

/// What a value is, as short as it is still clear.
fn what(place: &Place, key: &str, column: &str) -> String {
    const CLEAR_ALONE: [(&str, &str); 3] =
        [("", "host"), ("kernel-parameters", "Parameters"), ("runtime-iggy-config", "In force")];
    let alone = CLEAR_ALONE.contains(&(place.check.as_str(), place.title.as_str()));
    let key = if alone { key.to_owned() } else { format!("{}: {key}", place.title) };
    if matches!(column, "" | "value" | "state") { key } else { format!("{key}, {column}") }
}

fn sentence(what: &str, usual: Option<&Shared>, others: &[Shared], nodes: usize) -> String {
    let each = |join: &str| {
        let told =
            |shared: &Shared| format!("{}{join}{}", listed(&shared.nodes, NAMED), short(&shared.value));
        let mut told: Vec<String> = others.iter().take(VALUES).map(told).collect();
        let more = others.len().saturating_sub(VALUES);
        if more > 0 {
            told.push(quantity::count(more as u64, "more value", "more values"));
        }
        told.join("; ")
    };
    match (usual, others) {
        (Some(usual), [one]) => {
            let differ = if one.nodes.len() == 1 { "differs" } else { "differ" };
            format!(
                "{} {differ} from the other {} in {what}: {}, the others {}",
                listed(&one.nodes, NAMED),
                usual.nodes.len(),
                short(&one.value),
                short(&usual.value)
            )
        }
        (Some(usual), _) => format!(
            "{} of {nodes} differ in {what}: {}; the others {}",
            nodes - usual.nodes.len(),
            each(" "),
            short(&usual.value)
        ),
        (None, [one, other]) if nodes == 2 => {
            let names = [one, other].map(|shared| listed(&shared.nodes, NAMED));
            format!(
                "{} and {} differ in {what}: {} and {}",
                names[0],
                names[1],
                short(&one.value),
                short(&other.value)
            )
        }
        (None, _) => format!("no value of {what} is on more than half of {nodes}: {}", each(" ")),
    }
}

fn short(value: &str) -> String {
    if value.is_empty() {
        return "no value".to_owned();
    }
    match value.char_indices().nth(CHARACTERS) {
        Some((at, _)) => format!("{}…", &value[..at]),
        None => value.to_owned(),
    }
}

#[cfg(test)]
mod tests;
