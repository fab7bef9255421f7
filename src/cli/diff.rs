//! `warden diff`: what changed between two snapshots.

use std::path::PathBuf;

use warden_host::Level;

use super::compare_output;
use super::terminal::{Painter, Style, style_of};
use crate::snapshot::diff::{CheckChange, Difference, Direction, Kind, Side, by, compare, page};
use crate::snapshot::report::Outcome;

/// Changed values and new log lines shown of one check.
const VALUES: usize = 6;
const LINES: usize = 4;
/// Checks shown of which only values changed: a running host changes everywhere.
const CHANGED: usize = 12;
/// Characters of one value or line: what is longer is read on the page.
const CHARACTERS: usize = 160;

/// Compare two snapshots
///
/// Tells what got worse and what better, and which values and log lines changed.
///
/// Each may be a bundle, a report.json, or a recorded host, of one host or of two, and of different Wardens.
/// Recorded hosts are judged now.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when no check got worse, 1 when one did, 2 when they could not be compared."
)]
pub struct Arguments {
    /// The earlier one: a bundle, a report.json, or a recorded folder
    before: PathBuf,

    /// The later one
    after: PathBuf,

    /// Print everything as JSON
    #[arg(long)]
    json: bool,

    /// Write everything as one page to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let difference = compare(&Side::open(&arguments.before)?, &Side::open(&arguments.after)?);
    compare_output::tell(&difference, arguments.json, arguments.html.as_deref(), page, text)?;
    Ok(u8::from(difference.worse))
}

fn text(difference: &Difference, paint: Painter) -> String {
    let mut lines = head(difference, paint);
    for direction in [Direction::Worse, Direction::Better, Direction::Changed] {
        let of_direction: Vec<&CheckChange> =
            difference.checks.iter().filter(|check| check.direction == direction).collect();
        let shown = if direction == Direction::Changed { CHANGED } else { of_direction.len() };
        for check in of_direction.iter().take(shown) {
            lines.push(String::new());
            lines.extend(check_lines(check, paint));
        }
        if of_direction.len() > shown {
            lines.push(String::new());
            let more = of_direction.len() - shown;
            lines.push(format!("and {more} more of which only values changed; --html shows them"));
        }
    }
    lines.push(String::new());
    for (only, which) in [(&difference.only_before, "first"), (&difference.only_after, "second")] {
        for one in only {
            let outcome = paint.paint(style_of(one.outcome), one.outcome.name());
            lines.push(format!("only in the {which}: {} {outcome}: {}", shown(&one.id), shown(&one.summary)));
        }
    }
    let counts = &difference.counts;
    let words = [
        (counts.worse, "worse", Style::Red),
        (counts.better, "better", Style::Green),
        (counts.changed, "with other values", Style::Cyan),
        (counts.same, "the same", Style::Dim),
    ];
    let words = words.map(|(count, word, style)| {
        let word = format!("{count} {word}");
        if count > 0 { paint.paint(style, &word) } else { word }
    });
    lines.push(words.join(" · "));
    lines.join("\n") + "\n"
}

fn head(difference: &Difference, paint: Painter) -> Vec<String> {
    let (before, after) = (&difference.before, &difference.after);
    let host = if before.host == after.host {
        shown(&after.host)
    } else {
        format!("{} → {}", shown(&before.host), shown(&after.host))
    };
    let host = paint.paint(Style::Bold, &host);
    let mut lines = vec![format!("{host}: {} → {}", shown(&before.started_at), shown(&after.started_at))];
    lines.extend(
        difference.remarks.iter().map(|remark| format!("  {}", paint.paint(Style::Yellow, &shown(remark)))),
    );
    let known = |text: &str| if text.is_empty() { "–".to_owned() } else { shown(text) };
    lines.extend(
        difference
            .host
            .iter()
            .map(|fact| format!("  {}: {} → {}", shown(&fact.name), known(&fact.before), known(&fact.after))),
    );
    lines
}

fn check_lines(check: &CheckChange, paint: Painter) -> Vec<String> {
    let (style, word) = match check.direction {
        Direction::Worse => (Style::Red, "worse"),
        Direction::Better => (Style::Green, "better"),
        Direction::Changed => (Style::Cyan, "changed"),
    };
    let outcome = |outcome: Outcome| paint.paint(style_of(outcome), outcome.name());
    let turn = if check.before == check.after {
        format!("still {}", outcome(check.after))
    } else {
        format!("{} → {}", outcome(check.before), outcome(check.after))
    };
    let (word, id) = (paint.paint(style, &format!("{word:>7}")), paint.paint(Style::Bold, &shown(&check.id)));
    let mut lines = vec![format!("{word}  {id}  {turn}: {}", shown(&check.summary_after))];
    let mut add = |mark: &str, text: String| lines.push(format!("         {mark} {text}"));
    for problem in &check.came {
        add("+", format!("{}: {}", outcome(problem.severity), shown(&problem.text)));
    }
    for problem in &check.went {
        add("-", paint.paint(Style::Dim, &format!("{}: {}", problem.severity.name(), shown(&problem.text))));
    }
    for stayed in check.stayed.iter().filter(|stayed| stayed.before != stayed.after) {
        add("=", format!("{}: {}", outcome(stayed.after.severity), shown(&stayed.after.text)));
    }
    for value in check.values.changes.iter().take(VALUES) {
        let column = value.column.as_ref().map_or_else(String::new, |column| format!(", {}", shown(column)));
        let what = format!("{}, {}{column}", shown(&value.of), shown(&value.key));
        let cell = |text: &Option<String>| shown(text.as_deref().unwrap_or("–"));
        let moved = value.ratio.map_or_else(String::new, |ratio| format!(" ({})", by(ratio)));
        add(
            "~",
            match value.kind {
                Kind::Came => format!("{what} came: {}", cell(&value.after)),
                Kind::Went => format!("{what} went: {}", cell(&value.before)),
                Kind::Word | Kind::Number => {
                    format!("{what}: {} → {}{moved}", cell(&value.before), cell(&value.after))
                }
            },
        );
    }
    let more = check.values.changes.len().saturating_sub(VALUES) + check.values.left_out;
    if more > 0 {
        add("~", paint.paint(Style::Dim, &format!("and {more} more values")));
    }
    for line in check.log.lines.iter().take(LINES) {
        let level = line.level.map_or("", Level::name);
        add("!", format!("{level} {}× {}", line.count, shown(&line.newest)));
    }
    let more = check.log.lines.len().saturating_sub(LINES) + check.log.left_out;
    if more > 0 {
        add("!", paint.paint(Style::Dim, &format!("and {more} more new log lines")));
    }
    lines
}

fn shown(text: &str) -> String {
    compare_output::shown(text, CHARACTERS)
}
