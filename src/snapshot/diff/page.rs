//! The difference as one page in the report's style, that runs nothing and asks nothing of anywhere.

use anyhow::Context;
use askama::Template;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use sha2::{Digest, Sha256};
use warden_host::{Level, quantity};

use super::logs::NewLine;
use super::values::{Kind, ValueChange};
use super::{CheckChange, Difference, Direction, ProblemSaid};
use crate::report::{Outcome, icon, sanitize};

/// Of the report, and what only this page has.
const STYLE: &str =
    concat!(include_str!("../../../templates/report.css"), include_str!("../../../templates/diff.css"));

/// The page. Everything in `difference` is taken for hostile; nothing of it can become markup or script.
pub fn page(difference: &Difference) -> anyhow::Result<String> {
    Page::new(difference).render().context("cannot render the page of the difference")
}

#[derive(Template)]
#[template(path = "diff.html", whitespace = "minimize")]
struct Page {
    style: &'static str,
    policy: String,
    icon: String,
    version: &'static str,
    host: String,
    before_at: String,
    after_at: String,
    warden: String,
    /// A word of the style sheet.
    verdict: &'static str,
    headline: String,
    subline: String,
    remarks: Vec<String>,
    facts: Vec<(String, String, String)>,
    groups: Vec<Group>,
    only: Vec<OnlyView>,
}

struct Group {
    anchor: &'static str,
    name: &'static str,
    class: &'static str,
    icon: &'static str,
    checks: Vec<CheckView>,
}

struct CheckView {
    id: String,
    title: String,
    class: &'static str,
    direction: &'static str,
    before: Outcome,
    after: Outcome,
    summary: String,
    open: bool,
    problems: Vec<ProblemView>,
    values: Vec<ValueView>,
    values_left_out: usize,
    small: usize,
    lines: Vec<LineView>,
    lines_left_out: usize,
}

struct ProblemView {
    class: String,
    severity: &'static str,
    icon: &'static str,
    kind: &'static str,
    text: String,
    before: Option<String>,
}

struct ValueView {
    of: String,
    what: String,
    before: String,
    after: String,
    change: String,
}

struct LineView {
    class: &'static str,
    level: &'static str,
    count: u64,
    text: String,
}

struct OnlyView {
    side: &'static str,
    id: String,
    outcome: Outcome,
    summary: String,
}

impl Page {
    fn new(difference: &Difference) -> Page {
        let (before, after) = (&difference.before, &difference.after);
        let turn = |before: &str, after: &str| {
            sanitize::line(&if before == after { after.to_owned() } else { format!("{before} → {after}") })
        };
        let counts = &difference.counts;
        let verdict = if difference.worse { Outcome::Fail } else { Outcome::Pass };
        let only = |side, checks: &[super::Only]| -> Vec<OnlyView> {
            let view = |one: &super::Only| OnlyView {
                side,
                id: sanitize::line(&one.id),
                outcome: one.outcome,
                summary: sanitize::line(&one.summary),
            };
            checks.iter().map(view).collect()
        };
        Page {
            style: STYLE,
            policy: format!(
                "default-src 'none'; style-src 'sha256-{}'; img-src data:; base-uri 'none'; form-action 'none'",
                STANDARD.encode(Sha256::digest(STYLE))
            ),
            icon: icon(verdict),
            version: env!("CARGO_PKG_VERSION"),
            host: turn(&before.host, &after.host),
            before_at: sanitize::line(&before.started_at),
            after_at: sanitize::line(&after.started_at),
            warden: turn(&before.warden, &after.warden),
            verdict: verdict.class(),
            headline: match (counts.worse, counts.better) {
                (0, 0) => "Nothing got worse or better".to_owned(),
                (0, better) => format!(
                    "{} better, none worse",
                    quantity::count(better as u64, "check got", "checks got")
                ),
                (worse, 0) => format!("{} worse", quantity::count(worse as u64, "check got", "checks got")),
                (worse, better) => {
                    format!(
                        "{} worse, {better} better",
                        quantity::count(worse as u64, "check got", "checks got")
                    )
                }
            },
            subline: format!("{} with other values or log lines, {} the same", counts.changed, counts.same),
            remarks: difference.remarks.iter().map(|remark| sanitize::line(remark)).collect(),
            facts: (difference.host.iter())
                .map(|fact| (sanitize::line(&fact.name), dash(&fact.before), dash(&fact.after)))
                .collect(),
            groups: groups(&difference.checks),
            only: [only("the first", &difference.only_before), only("the second", &difference.only_after)]
                .into_iter()
                .flatten()
                .collect(),
        }
    }
}

fn groups(checks: &[CheckChange]) -> Vec<Group> {
    let of = |direction, anchor, name, class, icon| {
        let of_group = checks.iter().filter(|check| check.direction == direction);
        let checks: Vec<CheckView> = of_group.map(check_view).collect();
        (!checks.is_empty()).then_some(Group { anchor, name, class, icon, checks })
    };
    [
        of(Direction::Worse, "worse", "Worse", "fail", "fail"),
        of(Direction::Better, "better", "Better", "pass", "pass"),
        of(Direction::Changed, "changed", "Other values and log lines", "note", "note"),
    ]
    .into_iter()
    .flatten()
    .collect()
}

fn check_view(check: &CheckChange) -> CheckView {
    let (direction, class) = match check.direction {
        Direction::Worse => ("worse", check.after.class()),
        Direction::Better => ("better", "better"),
        Direction::Changed => ("changed", "changed"),
    };
    let problem = |kind, gone: bool, problem: &ProblemSaid, before: Option<&ProblemSaid>| ProblemView {
        class: if gone { "gone".to_owned() } else { problem.severity.class().to_owned() },
        severity: problem.severity.name(),
        icon: if gone { "pass" } else { problem.severity.class() },
        kind,
        text: sanitize::line(&problem.text),
        before: before.map(|before| sanitize::line(&before.text)),
    };
    let mut problems: Vec<ProblemView> =
        check.came.iter().map(|came| problem("new", false, came, None)).collect();
    problems.extend(check.went.iter().map(|went| problem("gone", true, went, None)));
    problems.extend(check.stayed.iter().map(|stayed| {
        let before = Some(&stayed.before).filter(|before| **before != stayed.after);
        problem("still", false, &stayed.after, before)
    }));
    CheckView {
        id: sanitize::line(&check.id),
        title: sanitize::line(&check.title),
        class,
        direction,
        before: check.before,
        after: check.after,
        summary: sanitize::line(&check.summary_after),
        open: check.direction == Direction::Worse,
        problems,
        values: check.values.changes.iter().map(value_view).collect(),
        values_left_out: check.values.left_out,
        small: check.values.small,
        lines: check.log.lines.iter().map(line_view).collect(),
        lines_left_out: check.log.left_out,
    }
}

fn value_view(value: &ValueChange) -> ValueView {
    let what = match &value.column {
        Some(column) => format!("{} · {column}", value.key),
        None => value.key.clone(),
    };
    ValueView {
        of: sanitize::line(&value.of),
        what: sanitize::line(&what),
        before: dash(value.before.as_deref().unwrap_or_default()),
        after: dash(value.after.as_deref().unwrap_or_default()),
        change: match (value.kind, value.ratio) {
            (Kind::Came, _) => "came".to_owned(),
            (Kind::Went, _) => "went".to_owned(),
            (Kind::Word | Kind::Number, ratio) => ratio.map(by).unwrap_or_default(),
        },
    }
}

/// `+12 %`, `-30 %`, `×3.2`, `÷12`.
pub fn by(ratio: f64) -> String {
    match ratio {
        ratio if ratio >= 2.0 => format!("×{}", quantity::number(ratio)),
        ratio if ratio <= 0.5 => format!("÷{}", quantity::number(1.0 / ratio)),
        ratio => format!("{:+.0} %", (ratio - 1.0) * 100.0),
    }
}

fn line_view(line: &NewLine) -> LineView {
    let class = match line.level {
        Some(Level::Critical) => "c",
        Some(Level::Error) => "e",
        Some(Level::Warn) => "w",
        Some(Level::Info) => "i",
        Some(Level::Debug) => "d",
        Some(Level::Trace) => "t",
        None => "",
    };
    let level = line.level.map_or("", |level| if level == Level::Critical { "crit" } else { level.name() });
    LineView { class, level, count: line.count, text: sanitize::line(&line.newest) }
}

fn dash(text: &str) -> String {
    if text.is_empty() { "–".to_owned() } else { sanitize::line(text) }
}
