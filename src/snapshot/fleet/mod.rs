//! A fleet: the snapshots of several nodes side by side, and in what some nodes are not like the others.

mod checks;
mod drift;
mod host_specific;
mod nodes;
mod page;
mod problems;
mod warnings;

use std::collections::BTreeMap;
use std::path::Path;

use anyhow::ensure;
pub use checks::{CheckRow, Said};
use drift::Settings;
pub use drift::{Drift, Shared, Topic};
use nodes::{Added, NodeSet, Roster};
pub use nodes::{Member, Node, listed};
pub use page::{headline, page, subline};
pub use problems::Problem;
use serde::Serialize;

use super::diff::Side;
use super::report::Outcome;

/// Changes when a reader of the previous version could misread this one; adding a field does not change it.
pub const VERSION: u32 = 1;

/// Nodes side by side: more than the largest deployments have, and a page of them still opens at once.
pub const NODES: usize = 256;

/// Everything in it is text of the hosts, masked and otherwise as it was.
#[derive(Debug, Serialize)]
pub struct Fleet {
    /// [`VERSION`].
    pub version: u32,
    /// The worst outcome of all checks of all nodes.
    pub worst: Outcome,
    /// How many nodes have each outcome as their worst.
    pub counts: BTreeMap<Outcome, usize>,
    /// By name, as a person counts.
    pub nodes: Vec<Node>,
    /// Nodes that should be here and are not.
    pub missing: Vec<Missing>,
    /// What to know before reading on.
    pub remarks: Vec<String>,
    /// The worst first.
    pub problems: Vec<Problem>,
    pub drift: Vec<Drift>,
    /// Values that are another on every node, as names are; they are no drift.
    pub own: Vec<String>,
    /// Area by area, the worst first.
    pub checks: Vec<CheckRow>,
    pub left_out: LeftOut,
}

#[derive(Debug, Serialize)]
pub struct Missing {
    pub source: String,
    pub why: String,
}

/// What there was too much of.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct LeftOut {
    pub problems: usize,
    pub drift: usize,
    /// Values that were not compared.
    pub values: usize,
    pub checks: usize,
}

impl Fleet {
    /// Whether nothing warns or fails, no node is missing, and no node differs.
    pub fn is_well(&self) -> bool {
        self.worst < Outcome::Warn && self.missing.is_empty() && self.drift.is_empty()
    }
}

/// Takes in one snapshot after the other, and keeps of each only what is compared.
#[derive(Debug, Default)]
pub struct Gathering {
    added: Vec<Added>,
    missing: Vec<Missing>,
    checks: checks::Checks,
    problems: problems::Problems,
    settings: Settings,
}

impl Gathering {
    pub fn new() -> Gathering {
        Gathering::default()
    }

    /// Reads the snapshot at `path`: a bundle, a `report.json`, or a recorded host. One that cannot be read is missing,
    /// and the page says why.
    pub fn add_file(&mut self, path: &Path) -> anyhow::Result<()> {
        let source = path.display().to_string();
        match Side::open(path) {
            Ok(side) => self.add(&source, &side),
            Err(error) => self.miss(&source, &format!("{error:#}")),
        }
    }

    /// Adds a node whose snapshot is `side`, read from `source`.
    pub fn add(&mut self, source: &str, side: &Side) -> anyhow::Result<()> {
        self.ensure_room()?;
        let node = self.added.len();
        let mut added = Added::new(source, side);
        added.counts = self.checks.add(node, side);
        self.added.push(added);
        self.problems.add(node, side);
        self.settings.add(node, side);
        Ok(())
    }

    /// A node without a snapshot.
    pub fn miss(&mut self, source: &str, why: &str) -> anyhow::Result<()> {
        self.ensure_room()?;
        self.missing.push(Missing { source: checks::cut(source), why: checks::cut(why) });
        Ok(())
    }

    fn ensure_room(&self) -> anyhow::Result<()> {
        let nodes = self.added.len() + self.missing.len();
        ensure!(nodes < NODES, "a fleet has at most {NODES} nodes; give the others to a second one");
        Ok(())
    }

    /// How many snapshots were read.
    pub fn read(&self) -> usize {
        self.added.len()
    }

    pub fn finish(self) -> Fleet {
        let Gathering { added, missing, checks, problems, settings } = self;
        let roster = Roster::new(&added);
        let mut all = NodeSet::default();
        (0..added.len()).for_each(|node| all.insert(node));
        let differences = drift::differences(settings, &roster, added.len());
        let left_out = LeftOut {
            problems: problems.left_out,
            drift: differences.left_out,
            values: differences.not_compared,
            checks: checks.left_out,
        };
        let remarks = warnings::remarks(&added, &roster);
        let mut nodes: Vec<Option<Node>> = added.iter().map(|_| None).collect();
        for (node, one) in added.into_iter().enumerate() {
            let member = roster.member(node);
            nodes[member.at] = Some(Node {
                name: member.name.to_string(),
                host: one.host,
                source: one.source,
                started_at: one.started_at,
                warden: one.warden,
                worst: one.counts.keys().max().copied().unwrap_or(Outcome::Skip),
                counts: one.counts,
                differs_in: differences.of_node[member.at],
            });
        }
        let nodes: Vec<Node> = nodes.into_iter().flatten().collect();
        let mut counts = BTreeMap::new();
        nodes.iter().for_each(|node| *counts.entry(node.worst).or_insert(0) += 1);
        Fleet {
            version: VERSION,
            worst: counts.keys().max().copied().unwrap_or(Outcome::Skip),
            counts,
            nodes,
            missing,
            remarks,
            problems: problems.told(&roster),
            drift: differences.told,
            own: differences.own,
            checks: checks.rows(&roster, all),
            left_out,
        }
    }
}
