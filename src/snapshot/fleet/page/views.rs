//! What the page shows of each part of a fleet: every text made harmless, and no more of anything than is read.

use std::collections::BTreeMap;

use warden_host::quantity;
use warden_host::shape::shape;

use super::{
    AreaView, CellView, DIFFERENCES, DriftView, FindingView, Head, NodeView, ProblemView, RowView, SaidView,
    TopicView,
};
use crate::fleet::drift::rules::{BLOCKS, Block, Treat};
use crate::fleet::nodes::listed;
use crate::fleet::{CheckRow, Drift, Fleet, Member, Node, Problem, Shared, Topic};
use crate::report::{Outcome, sanitize};

/// Problems of one check.
const PROBLEMS: usize = 50;
/// Values of one difference.
const VALUES: usize = 8;
/// Nodes named of one value or problem.
const NAMED: usize = 12;
/// Outcomes that the table of the nodes counts.
const COUNTED: [Outcome; 3] = [Outcome::Fail, Outcome::Warn, Outcome::Unknown];

pub(super) fn heads(nodes: &[Node]) -> Vec<Head> {
    let head = |(at, node): (usize, &Node)| Head {
        at,
        name: sanitize::line(&node.name),
        host: sanitize::line(&node.host),
        worst: node.worst,
    };
    nodes.iter().enumerate().map(head).collect()
}

pub(super) fn areas(fleet: &Fleet, anchors: &BTreeMap<&str, String>) -> Vec<AreaView> {
    let mut areas: Vec<AreaView> = Vec::new();
    for (at, row) in fleet.checks.iter().enumerate() {
        let name = sanitize::line(&row.area);
        if areas.last().is_none_or(|area| area.name != name) {
            let first = String::new();
            areas.push(AreaView { name, worst: row.worst, first, problems: 0, checks: 0, rows: Vec::new() });
        }
        let Some(area) = areas.last_mut() else { continue };
        area.checks += 1;
        area.problems += usize::from(row.worst >= Outcome::Unknown);
        area.worst = area.worst.max(row.worst);
        if !row.is_calm() {
            let row = row_view(at, row, fleet, anchors);
            if area.rows.is_empty() {
                area.first.clone_from(&row.anchor);
            }
            area.rows.push(row);
        }
    }
    areas.retain(|area| !area.rows.is_empty());
    areas
}

fn row_view(at: usize, row: &CheckRow, fleet: &Fleet, anchors: &BTreeMap<&str, String>) -> RowView {
    let mut cells: Vec<Option<CellView>> = fleet.nodes.iter().map(|_| None).collect();
    for said in &row.said {
        let summary = sanitize::line(&said.summary);
        for member in &said.nodes {
            let name = sanitize::line(&member.name);
            cells[member.at] = Some(CellView {
                outcome: said.outcome,
                target: cell_anchor(at, member),
                label: format!("{name}, {}: {summary}", said.outcome.name()),
                summary: summary.clone(),
            });
        }
    }
    RowView {
        anchor: anchors.get(row.id.as_str()).cloned().unwrap_or_default(),
        id: sanitize::line(&row.id),
        title: sanitize::line(&row.title),
        worst: row.worst,
        count: row.count(row.worst),
        cells,
    }
}

fn cell_anchor(check: usize, node: &Member) -> String {
    format!("c{check}n{}", node.at)
}

pub(super) fn finding(
    at: usize,
    row: &CheckRow,
    fleet: &Fleet,
    anchors: &BTreeMap<&str, String>,
) -> FindingView {
    let anchor = anchors.get(row.id.as_str()).cloned().unwrap_or_default();
    let of_check = || fleet.problems.iter().filter(|one| one.check == row.id && !one.severity.is_blind());
    let named = |members: &[Member]| -> Vec<(String, String)> {
        members.iter().map(|member| (cell_anchor(at, member), sanitize::line(&member.name))).collect()
    };
    let mut said: Vec<SaidView> = Vec::new();
    let mut shapes: BTreeMap<(Outcome, String), usize> = BTreeMap::new();
    for one in &row.said {
        // Nobody reads how well each of sixty nodes is: what differs only in its numbers is told once.
        let shape = (one.outcome, shape(&one.summary));
        if let Some(&known) = shapes.get(&shape).filter(|_| one.outcome <= Outcome::Pass) {
            said[known].nodes.extend(named(&one.nodes));
            continue;
        }
        shapes.insert(shape, said.len());
        let (summary, nodes) = (sanitize::line(&one.summary), named(&one.nodes));
        said.push(SaidView { outcome: Some(one.outcome), summary, nodes });
    }
    if !row.not_run.is_empty() {
        said.push(SaidView { outcome: None, summary: "not run".to_owned(), nodes: named(&row.not_run) });
    }
    let counts = Outcome::ALL.iter().map(|outcome| (row.count(*outcome), outcome.name()));
    let mut says: Vec<String> =
        counts.filter(|(count, _)| *count > 0).map(|(count, name)| format!("{count} {name}")).collect();
    if !row.not_run.is_empty() {
        says.push(format!("{} not run", row.not_run.len()));
    }
    FindingView {
        id: sanitize::line(&row.id),
        title: sanitize::line(&row.title),
        worst: row.worst,
        says: says.join(", "),
        open: row.worst >= Outcome::Warn,
        problems: of_check().take(PROBLEMS).map(|one| problem_view(one, anchor.clone())).collect(),
        problems_left_out: of_check().count().saturating_sub(PROBLEMS),
        said,
        anchor,
    }
}

pub(super) fn problem_view(problem: &Problem, anchor: String) -> ProblemView {
    let count = quantity::count(problem.nodes.len() as u64, "node", "nodes");
    let nodes = sanitize::line(&listed(&problem.nodes, NAMED));
    ProblemView {
        outcome: problem.severity,
        anchor,
        id: sanitize::line(&problem.check),
        text: sanitize::line(&problem.text),
        varies: problem.varies,
        advice: sanitize::line(&problem.advice),
        command: problem.command.as_deref().map(sanitize::line),
        on: if problem.nodes.len() <= 2 { nodes.clone() } else { count.clone() },
        count,
        nodes,
    }
}

pub(super) fn topics(drift: &[Drift], anchor: impl Fn(&str) -> Option<String>) -> Vec<TopicView> {
    let mut topics: Vec<TopicView> = Vec::new();
    for one in drift.iter().take(DIFFERENCES) {
        let name = match one.topic {
            Topic::Host => "The machines",
            Topic::Kernel => "Kernel",
            Topic::Version => "Versions",
            Topic::Configuration => "Configuration of the runtimes",
            Topic::Unit => "Units and limits",
            Topic::System => "The system around",
            Topic::Certificate => "Certificates",
            Topic::Other => "Other",
        };
        if topics.last().is_none_or(|topic| topic.name != name) {
            topics.push(TopicView { name, rows: Vec::new() });
        }
        let value = |shared: &Shared| {
            if shared.value.is_empty() { "–".to_owned() } else { sanitize::line(&shared.value) }
        };
        let other = |shared: &Shared| (value(shared), sanitize::line(&listed(&shared.nodes, NAMED)));
        let view = DriftView {
            what: sanitize::line(&one.what),
            check: sanitize::line(&one.check),
            anchor: anchor(&one.check),
            others: one.others.iter().take(VALUES).map(other).collect(),
            others_left_out: one.others.len().saturating_sub(VALUES),
            usual: one.usual.as_ref().map(|usual| (value(usual), usual.nodes.len())),
        };
        if let Some(topic) = topics.last_mut() {
            topic.rows.push(view);
        }
    }
    topics
}

/// What is left out of the comparison, for whoever misses it there.
pub(super) fn not_compared() -> Vec<(&'static str, String, &'static str)> {
    let names = |block: &Block, wanted: fn(Treat) -> bool| -> Vec<&str> {
        block.named.iter().filter(|(_, treat)| wanted(*treat)).map(|(name, _)| *name).collect()
    };
    let row = |block: &'static Block| {
        let title = if block.title == "*" { "everything else" } else { block.title };
        let (left, compared) =
            (names(block, |treat| treat == Treat::Leave), names(block, |treat| treat != Treat::Leave));
        let what = match (block.rest, left.is_empty(), compared.is_empty()) {
            (Treat::Leave, _, true) => title.to_owned(),
            (Treat::Leave, _, false) => format!("{title}, besides {}", compared.join(", ")),
            (_, false, _) => format!("{title}: {}", left.join(", ")),
            (_, true, _) => format!("{title}: numbers"),
        };
        (block.check, what, block.why)
    };
    BLOCKS.iter().filter(|block| !block.why.is_empty()).map(row).collect()
}

pub(super) fn node_view(at: usize, node: &Node) -> NodeView {
    let count = |outcome: Outcome| {
        let of = |known: &&Outcome| **known == outcome || outcome == Outcome::Unknown && known.is_blind();
        node.counts.iter().filter(|(known, _)| of(known)).map(|(_, count)| *count as usize).sum()
    };
    NodeView {
        at,
        // The name tells two hosts of one name apart.
        host: sanitize::line(if node.host.starts_with(&node.name) { &node.host } else { &node.name }),
        worst: node.worst,
        counts: COUNTED.map(count).to_vec(),
        differs_in: node.differs_in,
        started_at: sanitize::line(&node.started_at),
        warden: sanitize::line(&node.warden),
        source: sanitize::line(&node.source),
    }
}
