//! Problems, each told once with the nodes that have it.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use serde::Serialize;
use warden_host::shape::shape;

use super::checks::cut;
use super::host_specific::Own;
use super::nodes::{Member, NodeSet, Roster};
use crate::diff::Side;
use crate::report::Outcome;

/// Problems of one node, and of all together, that are told apart: no host has had a hundred.
const OF_ONE_NODE: usize = 500;
const ALL: usize = 5_000;

#[derive(Debug, Serialize)]
pub struct Problem {
    pub severity: Outcome,
    /// Id of the check that found it.
    pub check: String,
    /// As the first of the nodes tells it.
    pub text: String,
    /// Whether the others have other numbers in it.
    pub varies: bool,
    pub advice: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
    pub nodes: Vec<Member>,
}

#[derive(Debug, Default)]
pub struct Problems {
    /// By check, severity and shape.
    found: BTreeMap<(String, Outcome, String), Gathered>,
    pub left_out: usize,
}

#[derive(Debug)]
struct Gathered {
    text: String,
    /// The text without what is its node's own.
    steady: String,
    varies: bool,
    advice: String,
    command: Option<String>,
    nodes: NodeSet,
}

impl Problems {
    /// A check that could not tell is a problem of its own: nobody knows how that node is.
    pub fn add(&mut self, node: usize, side: &Side) {
        let own = Own::of(side);
        let mut told = 0;
        for check in &side.checks {
            let blind = check.outcome().is_blind();
            let blind = blind.then(|| (check.outcome(), &check.summary, String::new(), None));
            let problems = check.problems.iter().map(|problem| {
                let advice = &problem.advice;
                (problem.severity(), &problem.text, cut(&advice.text), advice.command.as_deref().map(cut))
            });
            for (severity, text, advice, command) in blind.into_iter().chain(problems) {
                told += 1;
                let steady = own.steady(text);
                let key = (cut(&check.id), severity, cut(&shape(&steady)));
                let steady = cut(&steady);
                let full = self.found.len() >= ALL;
                let known = self.found.get_mut(&key);
                if told > OF_ONE_NODE || known.is_none() && full {
                    self.left_out += 1;
                    continue;
                }
                let text = cut(text);
                if let Some(known) = known {
                    known.nodes.insert(node);
                    known.varies |= known.steady != steady;
                } else {
                    let mut nodes = NodeSet::default();
                    nodes.insert(node);
                    let gathered = Gathered { text, steady, varies: false, advice, command, nodes };
                    self.found.insert(key, gathered);
                }
            }
        }
    }

    /// The worst first, then what most nodes have.
    pub fn told(self, roster: &Roster) -> Vec<Problem> {
        let problem = |((check, severity, _), gathered): ((String, Outcome, String), Gathered)| Problem {
            severity,
            check,
            text: gathered.text,
            varies: gathered.varies,
            advice: gathered.advice,
            command: gathered.command,
            nodes: roster.members(gathered.nodes),
        };
        let mut told: Vec<Problem> = self.found.into_iter().map(problem).collect();
        told.sort_by_key(|problem| Reverse((problem.severity, problem.nodes.len())));
        told
    }
}
