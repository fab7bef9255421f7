//! The matrix: what every check came to on every node.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;

use super::nodes::{Member, NodeSet, Roster};
use crate::diff::Side;
use crate::report::Outcome;

/// Different checks of all nodes together: the catalogue has some 60, and other versions of Warden others.
const CHECKS: usize = 500;

/// Characters of a sentence that are kept: a cell is read at a glance, and the report has all of it.
const CHARACTERS: usize = 300;

#[derive(Debug, Serialize)]
pub struct CheckRow {
    pub id: String,
    pub area: String,
    /// The question.
    pub title: String,
    pub worst: Outcome,
    /// Whether it came to the same everywhere.
    pub same: bool,
    /// What it said, and where: the worst first, then the most frequent.
    pub said: Vec<Said>,
    /// Nodes where it was not run.
    pub not_run: Vec<Member>,
}

#[derive(Debug, Serialize)]
pub struct Said {
    pub outcome: Outcome,
    /// One sentence.
    pub summary: String,
    pub nodes: Vec<Member>,
}

impl CheckRow {
    /// How many nodes came to `outcome`.
    pub fn count(&self, outcome: Outcome) -> usize {
        self.said.iter().filter(|said| said.outcome == outcome).map(|said| said.nodes.len()).sum()
    }

    /// Whether nobody needs to see it: it is the same everywhere, and nothing is wrong.
    pub fn is_calm(&self) -> bool {
        self.same && self.worst <= Outcome::Pass
    }
}

#[derive(Debug, Default)]
pub struct Checks {
    by_id: BTreeMap<String, Gathered>,
    pub left_out: usize,
}

#[derive(Debug)]
struct Gathered {
    area: String,
    title: String,
    said: Vec<(Outcome, String, NodeSet)>,
    nodes: NodeSet,
}

impl Checks {
    /// Returns how many checks of this node came to each outcome.
    pub fn add(&mut self, node: usize, side: &Side) -> BTreeMap<Outcome, u32> {
        let mut counts = BTreeMap::new();
        for check in &side.checks {
            let id = cut(&check.id);
            if !self.by_id.contains_key(&id) && self.by_id.len() >= CHECKS {
                self.left_out += 1;
                continue;
            }
            let gathered = self.by_id.entry(id).or_insert_with(|| Gathered {
                area: cut(&check.area),
                title: cut(&check.title),
                said: Vec::new(),
                nodes: NodeSet::default(),
            });
            if gathered.nodes.contains(node) {
                continue;
            }
            gathered.nodes.insert(node);
            let (outcome, summary) = (check.outcome(), cut(&check.summary));
            *counts.entry(outcome).or_insert(0) += 1;
            let known =
                gathered.said.iter_mut().find(|(known, text, _)| *known == outcome && *text == summary);
            if let Some((_, _, nodes)) = known {
                nodes.insert(node);
            } else {
                let mut nodes = NodeSet::default();
                nodes.insert(node);
                gathered.said.push((outcome, summary, nodes));
            }
        }
        counts
    }

    /// Area by area, in each the worst first.
    pub fn rows(self, roster: &Roster, all: NodeSet) -> Vec<CheckRow> {
        let row = |(id, gathered): (String, Gathered)| {
            let mut said: Vec<Said> = (gathered.said.into_iter())
                .map(|(outcome, summary, nodes)| Said { outcome, summary, nodes: roster.members(nodes) })
                .collect();
            said.sort_by(|a, b| {
                (Reverse((a.outcome, a.nodes.len())), &a.nodes)
                    .cmp(&(Reverse((b.outcome, b.nodes.len())), &b.nodes))
            });
            let worst = said.first().map_or(Outcome::Skip, |said| said.outcome);
            let not_run = all.without(gathered.nodes);
            let same = not_run.is_empty() && said.iter().all(|said| said.outcome == worst);
            let (area, title) = (gathered.area, gathered.title);
            CheckRow { id, area, title, worst, same, said, not_run: roster.members(not_run) }
        };
        let mut rows: Vec<CheckRow> = self.by_id.into_iter().map(row).collect();
        let known = warden_checks::CHECKS;
        rows.sort_by_key(|row| known.iter().position(|check| check.id == row.id).unwrap_or(known.len()));
        let mut areas: BTreeMap<String, (Outcome, usize)> = BTreeMap::new();
        for (at, row) in rows.iter().enumerate() {
            let (worst, _) = areas.entry(row.area.clone()).or_insert((row.worst, at));
            *worst = row.worst.max(*worst);
        }
        let rank = |row: &CheckRow| {
            let (worst, at) = areas.get(&row.area).copied().unwrap_or((Outcome::Skip, 0));
            (Reverse(worst), at, Reverse((row.worst, row.count(row.worst))))
        };
        rows.sort_by_key(rank);
        rows
    }
}

pub fn cut(text: &str) -> String {
    match text.char_indices().nth(CHARACTERS) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text.to_owned(),
    }
}
