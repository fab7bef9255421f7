//! What a snapshot found, in a few lines.

use std::borrow::Cow;
use std::io::{self, Write};

use serde::Serialize;
use warden_host::{Cause, quantity};

use super::snapshot::Written;
use super::terminal::{Painter, Style, harmless, style_of};
use crate::snapshot::archive::Inventory;
use crate::snapshot::report::{CheckReport, Outcome, Report};

/// Findings shown; the rest is counted and stands in the report.
const SHOWN: usize = 12;

pub fn print(report: &Report, written: &Written) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text(report, written, Painter::stdout()).as_bytes())
}

fn text(report: &Report, written: &Written, paint: Painter) -> String {
    let worst = worst_first(report);
    let width = worst.iter().take(SHOWN).map(|check| check.id.len()).max().unwrap_or(0);
    let mut lines = vec![headline(report, paint), String::new()];
    for check in worst.iter().take(SHOWN) {
        let word = paint.paint(style_of(check.outcome), &format!("{:>9}", check.outcome.name()));
        let id = paint.paint(Style::Bold, &format!("{:width$}", check.id));
        let mut problems =
            check.problems.iter().filter(|problem| Outcome::from(problem.severity) == check.outcome);
        let first = problems.next();
        let sentence = first.map_or(check.summary.as_str(), |problem| problem.text.as_str());
        let more = match problems.count() {
            0 => String::new(),
            more => paint.paint(Style::Dim, &format!(" (and {more} more)")),
        };
        lines.push(format!("{word}  {id}  {}{more}", harmless(sentence)));
        if let Some(problem) = first {
            let advice = problem
                .advice
                .command
                .as_ref()
                .map_or_else(|| harmless(&problem.advice.text), |command| format!("$ {}", harmless(command)));
            lines.push(paint.paint(Style::Dim, &format!("{:>11}{:width$}  {advice}", "", "")));
        }
    }
    if worst.len() > SHOWN {
        lines.push(format!("{:>11}and {} more in the report", "", worst.len() - SHOWN));
    }
    if !worst.is_empty() {
        lines.push(String::new());
    }
    lines.push(format!("{:>9}  {}", "", counts(report, paint)));
    let denied = report.unseen.iter().filter(|unseen| unseen.why == Cause::Denied.to_string()).count();
    if !report.run.privileged && denied > 0 {
        let things = quantity::count(denied as u64, "thing was", "things were");
        lines.push(
            paint.paint(Style::Dim, &format!("{:>11}{things} closed to this user; as root it sees all", "")),
        );
    }
    lines.push(String::new());
    let path = paint.paint(Style::Bold, &harmless(&written.path.display().to_string()));
    let hint = if written.is_archive { ": unpack it and open report.html" } else { "" };
    lines.push(format!("Report written to {path} ({}){hint}", quantity::bytes(written.bytes)));
    lines.extend(written.iggy.as_ref().map(packed));
    lines.join("\n") + "\n"
}

fn packed(iggy: &Inventory) -> String {
    let left_out: u64 = iggy.left_out_by_reason.values().map(|tally| tally.files).sum();
    format!(
        "In it, iggy.zip: {} of the data directory, {} packed to {}; {left_out} left out (warden-inventory.tsv){}",
        quantity::count(iggy.files, "file", "files"),
        quantity::bytes(iggy.bytes),
        quantity::bytes(iggy.archive_bytes),
        if iggy.holds_credentials {
            ".\nIt holds credentials, as this host's policy says: whoever has it can act as your users"
        } else {
            ""
        },
    )
}

fn headline(report: &Report, paint: Painter) -> String {
    let host = &report.host;
    let about = [host.os.as_deref(), host.kernel.as_deref()].into_iter().flatten().map(harmless);
    let about: Vec<String> =
        about.chain(host.cores.map(|cores| quantity::count(cores.into(), "core", "cores"))).collect();
    let name = paint.paint(Style::Bold, &harmless(&host.name));
    let took = report.run.wall_ms.map(|wall_ms| format!(" in {}", quantity::duration(wall_ms as f64 / 1e3)));
    let took = took.unwrap_or_default();
    let checks = quantity::count(report.checks.len() as u64, "check", "checks");
    let absence =
        report.without_iggy().map(|told| paint.paint(Style::Yellow, &format!("; {}", harmless(told))));
    format!("{name} ({}): {checks}{took}{}", about.join(", "), absence.unwrap_or_default())
}

fn counts(report: &Report, paint: Painter) -> String {
    let counted = Outcome::ALL.iter().filter_map(|outcome| Some((outcome, report.counts.get(outcome)?)));
    let words = counted
        .map(|(outcome, count)| paint.paint(style_of(*outcome), &format!("{count} {}", outcome.name())));
    words.collect::<Vec<_>>().join(" · ")
}

/// Everything that asks for a look: worse than a note.
fn worst_first(report: &Report) -> Vec<Cow<'_, CheckReport>> {
    let mut worst: Vec<_> =
        report.findings().into_iter().filter(|check| check.outcome > Outcome::Note).collect();
    worst.sort_by_key(|check| std::cmp::Reverse(check.outcome));
    worst
}

#[derive(Serialize)]
struct Summary<'a> {
    path: String,
    bytes: u64,
    verdict: Outcome,
    counts: &'a std::collections::BTreeMap<Outcome, u32>,
    findings: Vec<SummaryFinding<'a>>,
    /// That no Iggy server runs here.
    #[serde(skip_serializing_if = "Option::is_none")]
    without_iggy: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    iggy: Option<&'a Inventory>,
}

#[derive(Serialize)]
struct SummaryFinding<'a> {
    id: &'a str,
    outcome: Outcome,
    summary: &'a str,
    problems: &'a [warden_host::Problem],
}

pub fn print_json(report: &Report, written: &Written) -> anyhow::Result<()> {
    let worst = worst_first(report);
    let findings = worst.iter().map(|check| SummaryFinding {
        id: &check.id,
        outcome: check.outcome,
        summary: &check.summary,
        problems: &check.problems,
    });
    let summary = Summary {
        path: written.path.display().to_string(),
        bytes: written.bytes,
        verdict: report.verdict,
        counts: &report.counts,
        findings: findings.collect(),
        without_iggy: report.without_iggy(),
        iggy: written.iggy.as_ref(),
    };
    let mut out = io::stdout().lock();
    serde_json::to_writer_pretty(&mut out, &summary)?;
    writeln!(out)?;
    Ok(())
}
