//! The fleet as one page in the report's style, that runs nothing and asks nothing of anywhere.

mod views;

use std::collections::{BTreeMap, BTreeSet};

use anyhow::Context;
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use views::{areas, finding, heads, node_view, not_compared, problem_view, topics};
use warden_host::quantity;

use super::{CheckRow, Fleet, Problem};
use crate::report::{DATA_DIRECTORY, Outcome, icon, sanitize, share};

/// Of the report, and what only this page has.
const STYLE: &str = concat!(
    include_str!("../../../../templates/report.css"),
    include_str!("../../../../templates/fleet.css")
);

/// Problems that the list at the top names; the checks below have them all.
const ATTENTION: usize = 12;
/// Differences on the page; JSON has them all.
const DIFFERENCES: usize = 300;
/// Nodes up to which there is room for what each says in its cell.
const SPOKEN: usize = 4;

/// The page. Everything in `fleet` is taken for hostile; nothing of it can become markup or script.
pub fn page(fleet: &Fleet) -> anyhow::Result<String> {
    Page::new(fleet).render().context("cannot render the page of the fleet")
}

#[derive(Template)]
#[template(path = "fleet.html", whitespace = "minimize")]
struct Page {
    style: &'static str,
    policy: String,
    icon: String,
    version: &'static str,
    title: String,
    times: Vec<String>,
    warden: String,
    worst: Outcome,
    headline: String,
    subline: String,
    counts: Vec<(Outcome, u32)>,
    share: String,
    remarks: Vec<String>,
    missing: Vec<(String, String)>,
    attention: Vec<ProblemView>,
    attention_left_out: usize,
    topics: Vec<TopicView>,
    differences: usize,
    differences_left_out: usize,
    own: Vec<String>,
    /// Check, what of it, and why.
    not_compared: Vec<(&'static str, String, &'static str)>,
    heads: Vec<Head>,
    spoken: bool,
    areas: Vec<AreaView>,
    calm: Vec<(String, String, &'static str)>,
    findings: Vec<FindingView>,
    nodes: Vec<NodeView>,
    values_left_out: usize,
    checks_left_out: usize,
}

struct Head {
    at: usize,
    name: String,
    host: String,
    worst: Outcome,
}

struct AreaView {
    name: String,
    worst: Outcome,
    first: String,
    problems: usize,
    checks: usize,
    rows: Vec<RowView>,
}

struct RowView {
    anchor: String,
    id: String,
    title: String,
    worst: Outcome,
    count: usize,
    cells: Vec<Option<CellView>>,
}

struct CellView {
    outcome: Outcome,
    target: String,
    summary: String,
    label: String,
}

struct FindingView {
    anchor: String,
    id: String,
    title: String,
    worst: Outcome,
    says: String,
    open: bool,
    problems: Vec<ProblemView>,
    problems_left_out: usize,
    said: Vec<SaidView>,
}

struct SaidView {
    outcome: Option<Outcome>,
    summary: String,
    /// Anchor and name.
    nodes: Vec<(String, String)>,
}

struct ProblemView {
    outcome: Outcome,
    anchor: String,
    id: String,
    text: String,
    varies: bool,
    advice: String,
    command: Option<String>,
    count: String,
    nodes: String,
    /// Their names, or how many they are: whichever is shorter.
    on: String,
}

struct TopicView {
    name: &'static str,
    rows: Vec<DriftView>,
}

struct DriftView {
    what: String,
    check: String,
    anchor: Option<String>,
    /// Value, nodes, and whether there are several nodes.
    others: Vec<(String, String)>,
    others_left_out: usize,
    usual: Option<(String, usize)>,
}

struct NodeView {
    at: usize,
    host: String,
    worst: Outcome,
    counts: Vec<usize>,
    differs_in: usize,
    started_at: String,
    warden: String,
    source: String,
}

impl Page {
    fn new(fleet: &Fleet) -> Page {
        let anchors = anchors(&fleet.checks);
        let shown: BTreeSet<&str> =
            fleet.checks.iter().filter(|row| !row.is_calm()).map(|row| row.id.as_str()).collect();
        let anchor = |check: &str| anchors.get(check).filter(|_| shown.contains(check)).cloned();
        let serious = || fleet.problems.iter().filter(|problem| problem.severity >= Outcome::Unknown);
        let problem = |problem: &Problem| problem_view(problem, anchor(&problem.check).unwrap_or_default());
        let mut times: Vec<String> = fleet
            .nodes
            .iter()
            .map(|node| sanitize::line(&node.started_at))
            .filter(|time| !time.is_empty())
            .collect();
        times.sort();
        times.dedup();
        times = times.first().into_iter().chain(times.last().filter(|_| times.len() > 1)).cloned().collect();
        let wardens: BTreeSet<&str> = fleet.nodes.iter().map(|node| node.warden.as_str()).collect();
        let counts: Vec<(Outcome, u32)> = (fleet.counts.iter().rev())
            .map(|(outcome, count)| (*outcome, u32::try_from(*count).unwrap_or(u32::MAX)))
            .collect();
        Page {
            style: STYLE,
            policy: format!(
                "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
                STANDARD.encode(Sha256::digest(STYLE))
            ),
            icon: icon(fleet.worst),
            version: env!("CARGO_PKG_VERSION"),
            title: quantity::count(fleet.nodes.len() as u64, "node", "nodes"),
            times,
            warden: sanitize::line(&wardens.into_iter().collect::<Vec<_>>().join(", ")),
            worst: fleet.worst,
            headline: headline(fleet),
            subline: subline(fleet),
            share: share(&counts),
            counts,
            remarks: fleet.remarks.iter().map(|remark| sanitize::line(remark)).collect(),
            missing: (fleet.missing.iter())
                .map(|missing| (sanitize::line(&missing.source), sanitize::line(&missing.why)))
                .collect(),
            attention: serious().take(ATTENTION).map(problem).collect(),
            attention_left_out: serious().count().saturating_sub(ATTENTION) + fleet.left_out.problems,
            topics: topics(&fleet.drift, anchor),
            differences: fleet.drift.len() + fleet.left_out.drift,
            differences_left_out: fleet.drift.len().saturating_sub(DIFFERENCES) + fleet.left_out.drift,
            own: fleet.own.iter().map(|what| sanitize::line(what)).collect(),
            not_compared: not_compared(),
            heads: heads(&fleet.nodes),
            spoken: fleet.nodes.len() <= SPOKEN,
            areas: areas(fleet, &anchors),
            calm: (fleet.checks.iter().filter(|row| row.is_calm()))
                .map(|row| (sanitize::line(&row.id), sanitize::line(&row.title), row.worst.name()))
                .collect(),
            findings: (fleet.checks.iter().enumerate().filter(|(_, row)| !row.is_calm()))
                .map(|(at, row)| finding(at, row, fleet, &anchors))
                .collect(),
            nodes: fleet.nodes.iter().enumerate().map(|(at, node)| node_view(at, node)).collect(),
            values_left_out: fleet.left_out.values,
            checks_left_out: fleet.left_out.checks,
        }
    }
}

/// Where each check is told on the page: its id where that is known to be a good name, or its number.
fn anchors(rows: &[CheckRow]) -> BTreeMap<&str, String> {
    let known: BTreeSet<&str> =
        warden_checks::CHECKS.iter().map(|check| check.id).chain([DATA_DIRECTORY]).collect();
    let anchor = |(at, row): (usize, &CheckRow)| {
        if known.contains(row.id.as_str()) { row.id.clone() } else { format!("c{at}") }
    };
    rows.iter().enumerate().map(|row| (row.1.id.as_str(), anchor(row))).collect()
}

pub fn headline(fleet: &Fleet) -> String {
    let nodes = fleet.nodes.len();
    let count = fleet.counts.get(&fleet.worst).copied().unwrap_or(0);
    let of =
        |one: &str, many: &str| format!("{count} of {nodes} nodes {}", if count == 1 { one } else { many });
    match fleet.worst {
        _ if nodes == 0 => "No snapshot could be read".to_owned(),
        Outcome::Fail => of("fails", "fail"),
        Outcome::Warn => format!("Nothing fails; {}", of("warns", "warn")),
        Outcome::Panicked | Outcome::TimedOut | Outcome::Unknown => {
            "No problem was found, but not everything could be seen".to_owned()
        }
        Outcome::Note | Outcome::Pass => "No problem was found".to_owned(),
        Outcome::Skip => "No check applies to these nodes".to_owned(),
    }
}

pub fn subline(fleet: &Fleet) -> String {
    let of = |wanted: fn(Outcome) -> bool| -> usize {
        fleet.counts.iter().filter(|(outcome, _)| wanted(**outcome)).map(|(_, count)| count).sum()
    };
    let mut parts = Vec::new();
    if fleet.worst == Outcome::Fail {
        parts.push(format!("{} warn", of(|outcome| outcome == Outcome::Warn)));
    }
    let blind = of(Outcome::is_blind);
    if blind > 0 {
        parts.push(format!("{blind} could not tell everything"));
    }
    parts.push(format!("{} well", of(|outcome| outcome <= Outcome::Note)));
    if !fleet.missing.is_empty() {
        parts.push(format!("{} missing", fleet.missing.len()));
    }
    let differences = (fleet.drift.len() + fleet.left_out.drift) as u64;
    parts.push(match differences {
        0 => "no differences".to_owned(),
        _ => quantity::count(differences, "difference", "differences"),
    });
    parts.join(", ")
}
