//! `warden fleet`: several nodes side by side, and in what some are not like the others.

use std::collections::BTreeMap;
use std::path::PathBuf;

use anyhow::ensure;
use warden_host::quantity;

use super::compare_output;
use super::terminal::{Painter, Style, style_of};
use crate::snapshot::fleet::{
    Drift, Fleet, Gathering, Member, NODES, Node, Problem, headline, listed, page, subline,
};
use crate::snapshot::report::Outcome;

/// Problems and differences shown: what is more is read on the page.
const PROBLEMS: usize = 12;
const DIFFERENCES: usize = 20;
/// Of these, of the same nodes.
const ALIKE: usize = 8;
/// Nodes named of one problem.
const NAMED: usize = 4;
/// Nodes listed: the worst.
const WORST: usize = 8;
/// Characters of one line of text from the hosts.
const CHARACTERS: usize = 240;

/// Compare the snapshots of several nodes
///
/// Puts them side by side: which checks fail where, and in what some nodes differ.
///
/// Each may be a bundle, a report.json, or a recorded host, of different Wardens too; recorded hosts are judged now.
/// One that cannot be read is told as missing. Values that should be one on every node (kernel parameters, versions,
/// limits, mount options, configuration) are compared; names, addresses and numbers that run are not.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when nothing warns or fails, no node differs and none is missing; 1 when something \
                  does; 2 when no snapshot could be read."
)]
pub struct Arguments {
    /// Two to 256 of them
    #[arg(required = true, num_args = 2..=NODES, value_name = "SNAPSHOT")]
    snapshots: Vec<PathBuf>,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,

    /// Write everything as one page to this file
    #[arg(short = 'o', long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let mut gathering = Gathering::new();
    for path in &arguments.snapshots {
        gathering.add_file(path)?;
    }
    let any = gathering.read() > 0;
    let fleet = gathering.finish();
    let why = || fleet.missing.first().map(|missing| missing.why.clone()).unwrap_or_default();
    ensure!(any, "no snapshot could be read; of the first: {}", why());
    compare_output::tell(&fleet, arguments.json, arguments.html.as_deref(), page, text)?;
    Ok(u8::from(!fleet.is_well()))
}

/// What is told on a terminal.
pub fn text(fleet: &Fleet, paint: Painter) -> String {
    let headline = paint.paint(Style::Bold, &headline(fleet));
    let mut lines = vec![format!("{headline}: {}", subline(fleet))];
    for missing in &fleet.missing {
        let word = paint.paint(Style::Red, "missing");
        lines.push(format!("  {word} {}: {}", shown(&missing.source), shown(&missing.why)));
    }
    lines.extend(
        fleet.remarks.iter().map(|remark| format!("  {}", paint.paint(Style::Yellow, &shown(remark)))),
    );
    lines.extend(nodes(fleet, paint));
    let serious: Vec<&Problem> =
        fleet.problems.iter().filter(|problem| problem.severity >= Outcome::Unknown).collect();
    if !serious.is_empty() {
        lines.push(String::new());
    }
    for problem in serious.iter().take(PROBLEMS) {
        let outcome = paint.paint(style_of(problem.severity), &format!("{:>9}", problem.severity.name()));
        let id = paint.paint(Style::Bold, &shown(&problem.check));
        lines.push(format!("{outcome}  {id} on {}: {}", on(fleet, problem), shown(&problem.text)));
    }
    more(&mut lines, serious.len().saturating_sub(PROBLEMS) + fleet.left_out.problems, "problem", paint);
    if !fleet.drift.is_empty() {
        lines.push(String::new());
    }
    let told = differences(fleet);
    for drift in &told {
        lines.push(format!("{}  {}", paint.paint(Style::Cyan, "  differs"), shown(&drift.text)));
    }
    more(&mut lines, fleet.drift.len() - told.len() + fleet.left_out.drift, "difference", paint);
    lines.join("\n") + "\n"
}

/// A node that differs in everything does not hide in what another differs.
fn differences(fleet: &Fleet) -> Vec<&Drift> {
    let mut told: BTreeMap<Vec<&Member>, usize> = BTreeMap::new();
    let mut fitting = Vec::new();
    for drift in &fleet.drift {
        let nodes = drift.others.iter().flat_map(|shared| &shared.nodes).collect();
        let count = told.entry(nodes).or_default();
        *count += 1;
        if *count <= ALIKE && fitting.len() < DIFFERENCES {
            fitting.push(drift);
        }
    }
    fitting
}

/// The worst nodes, where they are not all well.
fn nodes(fleet: &Fleet, paint: Painter) -> Vec<String> {
    let mut worst: Vec<_> =
        fleet.nodes.iter().filter(|node| node.worst >= Outcome::Warn || node.differs_in > 0).collect();
    let count = |node: &Node, outcome| node.counts.get(&outcome).copied().unwrap_or(0);
    worst.sort_by_key(|node| {
        let key = (count(node, Outcome::Fail), count(node, Outcome::Warn), node.differs_in);
        std::cmp::Reverse((node.worst, key))
    });
    let line = |node: &&Node| {
        let outcome = paint.paint(style_of(node.worst), &format!("{:>9}", node.worst.name()));
        let mut parts = Vec::new();
        for outcome in [Outcome::Fail, Outcome::Warn] {
            if count(node, outcome) > 0 {
                parts.push(format!("{} {}", count(node, outcome), outcome.name()));
            }
        }
        if node.differs_in > 0 {
            parts.push(format!("differs in {}", quantity::count(node.differs_in as u64, "value", "values")));
        }
        format!("{outcome}  {}: {}", shown(&node.name), parts.join(", "))
    };
    let mut lines = Vec::new();
    if !worst.is_empty() {
        lines.push(String::new());
    }
    lines.extend(worst.iter().take(WORST).map(line));
    let left = worst.len().saturating_sub(WORST);
    if left > 0 {
        lines.push(paint.paint(Style::Dim, &format!("           and {left} more nodes")));
    }
    lines
}

fn on(fleet: &Fleet, problem: &Problem) -> String {
    let all = problem.nodes.len() == fleet.nodes.len();
    if all && fleet.nodes.len() > 1 { "every node".to_owned() } else { shown(&listed(&problem.nodes, NAMED)) }
}

fn more(lines: &mut Vec<String>, count: usize, what: &str, paint: Painter) {
    if count > 0 {
        let plural = if count == 1 { "" } else { "s" };
        let text = format!("           and {count} more {what}{plural}; -o shows them");
        lines.push(paint.paint(Style::Dim, &text));
    }
}

fn shown(text: &str) -> String {
    compare_output::shown(text, CHARACTERS)
}
