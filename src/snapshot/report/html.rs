//! `report.html`: the report as one page that asks nothing of anywhere.

use std::collections::BTreeMap;

use anyhow::Context;
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use warden_host::{Area, quantity};

use super::data_view::DataView;
use super::evidence::{Body, CellKind};
use super::finding::{FindingView, LogLines};
use super::model::{Outcome, Report, SourceKind};
use super::{charts, sanitize};

const STYLE: &str = include_str!("../../../templates/report.css");
const SCRIPT: &str = include_str!("../../../templates/report.js");

/// Problems that the list at the top names; the findings below have them all.
const ATTENTION: usize = 12;
/// Of the data directory alone: one bad disk has a hundred.
const ATTENTION_TO_DATA: usize = 3;

/// The page. Everything in `report` is taken for hostile; nothing of it can become markup or script.
pub fn page(report: &Report) -> anyhow::Result<String> {
    Page::new(report).render().context("cannot render the report page")
}

#[derive(Template)]
#[template(path = "report.html", whitespace = "minimize")]
struct Page {
    style: &'static str,
    script: &'static str,
    policy: String,
    icon: String,
    warden: String,
    host: String,
    started_at: String,
    verdict: Outcome,
    headline: String,
    subline: String,
    privileged: bool,
    user_id: u32,
    recording: bool,
    facts: Vec<(&'static str, String)>,
    run: Vec<(&'static str, String)>,
    counts: Vec<(Outcome, u32)>,
    share: String,
    areas: Vec<AreaView>,
    attention: Vec<AttentionView>,
    attention_left_out: usize,
    data: Option<DataView>,
    findings: Vec<FindingView>,
    unseen: Vec<(String, String)>,
    masked: Vec<(String, u64)>,
    masked_total: u64,
}

/// An area in the index: its worst outcome, and the finding that has it.
struct AreaView {
    name: &'static str,
    label: String,
    worst: Outcome,
    first: String,
    checks: usize,
    problems: usize,
}

/// A problem in the list at the top.
struct AttentionView {
    outcome: Outcome,
    text: String,
    id: String,
}

impl Page {
    fn new(report: &Report) -> Page {
        let mut lines = LogLines::share(report);
        let mut findings: Vec<FindingView> =
            report.checks.iter().map(|check| FindingView::new(check, &mut lines)).collect();
        findings.sort_by_key(|finding| std::cmp::Reverse(finding.outcome));
        open_the_worst(&mut findings);
        let data = report.data_directory.as_ref().map(|data| DataView::new(data, &mut lines));
        let of_data: Vec<AttentionView> = data.iter().flat_map(|data| attention(&data.finding)).collect();
        let too_many = of_data.len().saturating_sub(ATTENTION_TO_DATA);
        let of_data = of_data.into_iter().take(ATTENTION_TO_DATA);
        let mut attention: Vec<AttentionView> = of_data.chain(findings.iter().flat_map(attention)).collect();
        attention.sort_by_key(|problem| std::cmp::Reverse(problem.outcome));
        let attention_left_out = attention.len().saturating_sub(ATTENTION) + too_many;
        attention.truncate(ATTENTION);
        let told = || findings.iter().chain(data.iter().map(|data| &data.finding));
        let (counts, areas) = (counts(told()), areas(report, told()));
        Page {
            style: STYLE,
            script: SCRIPT,
            policy: policy(),
            icon: icon(report.verdict),
            warden: sanitize::line(&report.warden),
            host: sanitize::line(&report.host.name),
            started_at: sanitize::line(&report.run.started_at),
            verdict: report.verdict,
            headline: headline(&counts) + &absence(report),
            subline: subline(&counts),
            privileged: report.run.privileged,
            user_id: report.run.user_id,
            recording: report.run.source == SourceKind::Recording,
            facts: facts(report),
            run: run(report),
            share: charts::share(&counts),
            counts,
            areas,
            attention,
            attention_left_out,
            data,
            findings,
            unseen: report
                .unseen
                .iter()
                .map(|one| (sanitize::line(&one.what), sanitize::line(&one.why)))
                .collect(),
            masked: report.masked.iter().map(|(rule, count)| (sanitize::line(rule), *count)).collect(),
            masked_total: report.masked.values().fold(0, |sum, count| sum.saturating_add(*count)),
        }
    }
}

/// The browser runs and applies exactly the two embedded texts, and fetches nothing.
fn policy() -> String {
    let hash = |text: &str| format!("'sha256-{}'", STANDARD.encode(Sha256::digest(text)));
    format!(
        "default-src 'none'; script-src {}; style-src {}; img-src data:; base-uri 'none'; form-action 'none'",
        hash(SCRIPT),
        hash(STYLE)
    )
}

/// A dot in the colour of the verdict, so that open tabs can be told apart.
pub(crate) fn icon(verdict: Outcome) -> String {
    let colour = match verdict {
        Outcome::Fail => "d1382c",
        Outcome::Warn => "e5a000",
        Outcome::Panicked | Outcome::TimedOut | Outcome::Unknown => "8957c9",
        Outcome::Note => "2f7fd6",
        Outcome::Pass | Outcome::Skip => "2da44e",
    };
    format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%3E\
         %3Ccircle cx='8' cy='8' r='7' fill='%23{colour}'/%3E%3C/svg%3E"
    )
}

/// Failing findings are open; where nothing fails, those that warn.
fn open_the_worst(findings: &mut [FindingView]) {
    let worst = findings.first().map(|finding| finding.outcome);
    for finding in findings {
        finding.open = Some(finding.outcome) == worst && finding.outcome >= Outcome::Warn;
    }
}

fn attention(finding: &FindingView) -> Vec<AttentionView> {
    let row = |outcome, text: &str| AttentionView { outcome, text: text.to_owned(), id: finding.id.clone() };
    if finding.outcome.is_blind() {
        return vec![row(finding.outcome, &format!("{} {}", finding.title, finding.summary))];
    }
    finding
        .problems
        .iter()
        .filter(|problem| problem.outcome >= Outcome::Warn)
        .map(|problem| row(problem.outcome, &problem.text))
        .collect()
}

/// Counted from the findings on the page, so that a count is what its filter shows.
fn counts<'f>(findings: impl Iterator<Item = &'f FindingView>) -> Vec<(Outcome, u32)> {
    let mut counts: BTreeMap<Outcome, u32> = BTreeMap::new();
    for finding in findings {
        *counts.entry(finding.outcome).or_default() += 1;
    }
    counts.into_iter().rev().collect()
}

fn headline(counts: &[(Outcome, u32)]) -> String {
    let total: u32 = counts.iter().map(|(_, count)| count).sum();
    match counts.first() {
        Some((Outcome::Fail, 1)) => format!("1 of {total} checks fails"),
        Some((Outcome::Fail, count)) => format!("{count} of {total} checks fail"),
        Some((Outcome::Warn, 1)) => "Nothing fails; 1 check warns".to_owned(),
        Some((Outcome::Warn, count)) => format!("Nothing fails; {count} checks warn"),
        Some((Outcome::Panicked | Outcome::TimedOut | Outcome::Unknown, _)) => {
            "No problem was found, but not everything could be seen".to_owned()
        }
        Some((Outcome::Note | Outcome::Pass, _)) => "No problem was found".to_owned(),
        Some((Outcome::Skip, _)) => "No check applies to this host".to_owned(),
        None => "No check was run".to_owned(),
    }
}

/// Much of what is asked is about Iggy: a reader must not take its silence for its health.
fn absence(report: &Report) -> String {
    report.without_iggy().map_or_else(String::new, |told| format!("; {}", sanitize::line(told)))
}

fn subline(counts: &[(Outcome, u32)]) -> String {
    let of = |wanted: fn(Outcome) -> bool| -> u32 {
        counts.iter().filter(|(outcome, _)| wanted(*outcome)).map(|(_, count)| count).sum()
    };
    let blind = of(Outcome::is_blind);
    let mut parts = Vec::new();
    if counts.first().is_some_and(|(worst, _)| *worst == Outcome::Fail) {
        parts.push(format!("{} warn", of(|outcome| outcome == Outcome::Warn)));
    }
    if blind > 0 {
        parts.push(format!("{blind} could not tell"));
    }
    parts.push(format!("{} pass", of(|outcome| matches!(outcome, Outcome::Pass | Outcome::Note))));
    parts.push(format!("{} do not apply", of(|outcome| outcome == Outcome::Skip)));
    parts.join(", ")
}

fn facts(report: &Report) -> Vec<(&'static str, String)> {
    let host = &report.host;
    let text = |text: &Option<String>| text.as_deref().map(sanitize::line);
    [
        ("System", text(&host.os)),
        ("Kernel", text(&host.kernel)),
        ("Machine", text(&host.machine)),
        ("Cores", host.cores.map(|cores| cores.to_string())),
        ("Memory", host.memory_bytes.map(quantity::bytes)),
        ("Up for", host.up_seconds.map(|seconds| quantity::duration(seconds as f64))),
    ]
    .into_iter()
    .filter_map(|(name, value)| Some((name, value?)))
    .collect()
}

fn run(report: &Report) -> Vec<(&'static str, String)> {
    let (host, run) = (&report.host, &report.run);
    let source = match run.source {
        SourceKind::Live => "this host, live",
        SourceKind::Recording => "a recording of an earlier run",
    };
    let list = |names: &[String]| sanitize::line(&names.join(", "));
    let mut rows = vec![
        ("Evidence read at", sanitize::line(&run.started_at)),
        ("Sampling pause", quantity::duration(run.sample_ms as f64 / 1e3)),
        ("Looked back", quantity::duration(run.since_seconds as f64)),
        ("Source", source.to_owned()),
        (
            "User",
            format!("{}{}", run.user_id, if run.privileged { ", privileged" } else { ", not privileged" }),
        ),
        ("Warden", sanitize::line(&report.warden)),
        ("Report format", report.version.to_string()),
    ];
    rows.extend(run.wall_ms.map(|wall_ms| ("Took", quantity::duration(wall_ms as f64 / 1e3))));
    rows.extend(host.machine_id.as_deref().map(|id| ("Machine id", sanitize::line(id))));
    rows.extend(host.boot_id.as_deref().map(|id| ("Boot id", sanitize::line(id))));
    if !run.only.is_empty() {
        rows.push(("Only", list(&run.only)));
    }
    if !run.skip.is_empty() {
        rows.push(("Without", list(&run.skip)));
    }
    rows
}

/// In the order of the catalogue; an area of which nothing was asked is left out.
fn areas<'f>(report: &Report, findings: impl Iterator<Item = &'f FindingView>) -> Vec<AreaView> {
    let findings: Vec<&FindingView> = findings.collect();
    let area = |area: Area| {
        let of_area: Vec<&FindingView> =
            findings.iter().copied().filter(|finding| finding.area == area.name()).collect();
        let first = of_area.iter().rev().max_by_key(|finding| finding.outcome)?;
        Some(AreaView {
            name: area.name(),
            label: label(area),
            worst: first.outcome,
            first: first.id.clone(),
            checks: of_area.len(),
            problems: of_area.iter().filter(|finding| finding.outcome > Outcome::Note).count(),
        })
    };
    let mut order: Vec<Area> = Vec::new();
    for check in &report.findings() {
        if !order.contains(&check.area) {
            order.push(check.area);
        }
    }
    order.into_iter().filter_map(area).collect()
}

fn label(area: Area) -> String {
    let name = area.name();
    if area == Area::Cpu { name.to_uppercase() } else { name[..1].to_uppercase() + &name[1..] }
}
