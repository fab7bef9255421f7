//! What changed between two snapshots: what got worse and better, and which values, packages, units and log lines.

mod input;
mod logs;
mod page;
pub(crate) mod row_keys;
mod values;

use std::collections::BTreeMap;

pub use input::Side;
use input::{Check, Problem};
pub use logs::NewLines;
pub(crate) use logs::is_shape_table;
pub use page::{by, page};
use serde::Serialize;
pub use values::{Kind, Values};
use warden_host::quantity;
use warden_host::shape::shape;

use super::report::Outcome;

/// Changes when a reader of the previous version could misread this one; adding a field does not change it.
pub const VERSION: u32 = 1;

/// From `before` to `after`. Everything in it is text of the two hosts, masked and otherwise as it was.
#[derive(Debug, Serialize)]
pub struct Difference {
    /// [`VERSION`].
    pub version: u32,
    pub before: About,
    pub after: About,
    /// Whether a check got worse.
    pub worse: bool,
    pub counts: Counts,
    /// What to know before reading on: a reboot in between, two different machines, other versions.
    pub remarks: Vec<String>,
    /// Facts of the host that are not what they were.
    pub host: Vec<FactChange>,
    /// Worse first, then better, then those of which only values or log lines changed. The unchanged are counted.
    pub checks: Vec<CheckChange>,
    pub only_before: Vec<Only>,
    pub only_after: Vec<Only>,
}

#[derive(Debug, Serialize)]
pub struct About {
    pub host: String,
    /// RFC 3339 UTC.
    pub started_at: String,
    pub warden: String,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub worse: usize,
    pub better: usize,
    /// Neither, but values or log lines changed.
    pub changed: usize,
    pub same: usize,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct FactChange {
    pub name: String,
    /// Empty when it is not known.
    pub before: String,
    pub after: String,
}

/// A check that only one of the two has: it was left out, or its Warden does not know it.
#[derive(Debug, Serialize)]
pub struct Only {
    pub id: String,
    pub outcome: Outcome,
    pub summary: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    Worse,
    Better,
    Changed,
}

#[derive(Debug, Serialize)]
pub struct CheckChange {
    pub id: String,
    pub area: String,
    pub title: String,
    pub direction: Direction,
    pub before: Outcome,
    pub after: Outcome,
    pub summary_before: String,
    pub summary_after: String,
    /// Problems, worst first.
    pub came: Vec<ProblemSaid>,
    pub went: Vec<ProblemSaid>,
    pub stayed: Vec<Stayed>,
    pub values: Values,
    pub log: NewLines,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProblemSaid {
    pub severity: Outcome,
    pub text: String,
}

/// A problem that is the same but for its numbers.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Stayed {
    pub before: ProblemSaid,
    pub after: ProblemSaid,
}

/// Compares two snapshots, of one host or of two.
pub fn compare(before: &Side, after: &Side) -> Difference {
    let known: BTreeMap<&str, &Check> =
        before.checks.iter().map(|check| (check.id.as_str(), check)).collect();
    let ids: std::collections::BTreeSet<&str> = after.checks.iter().map(|check| check.id.as_str()).collect();
    let mut counts = Counts::default();
    let mut checks = Vec::new();
    for check in &after.checks {
        let Some(earlier) = known.get(check.id.as_str()) else { continue };
        match change(earlier, check) {
            Some(change) => {
                match change.direction {
                    Direction::Worse => counts.worse += 1,
                    Direction::Better => counts.better += 1,
                    Direction::Changed => counts.changed += 1,
                }
                checks.push(change);
            }
            None => counts.same += 1,
        }
    }
    checks.sort_by_key(|change| {
        let worst_first = match change.direction {
            Direction::Worse | Direction::Changed => change.after,
            Direction::Better => change.before,
        };
        (change.direction, std::cmp::Reverse(worst_first))
    });
    let only = |check: &Check| Only {
        id: check.id.clone(),
        outcome: check.outcome(),
        summary: check.summary.clone(),
    };
    Difference {
        version: VERSION,
        before: about(before),
        after: about(after),
        worse: counts.worse > 0,
        counts,
        remarks: remarks(before, after),
        host: facts(before, after),
        checks,
        only_before: before
            .checks
            .iter()
            .filter(|check| !ids.contains(check.id.as_str()))
            .map(only)
            .collect(),
        only_after: after
            .checks
            .iter()
            .filter(|check| !known.contains_key(check.id.as_str()))
            .map(only)
            .collect(),
    }
}

fn about(side: &Side) -> About {
    let host = side.fact("name");
    let host = if host.is_empty() { "unknown".to_owned() } else { host };
    About { host, started_at: side.run.started_at.clone(), warden: side.warden.clone() }
}

fn remarks(before: &Side, after: &Side) -> Vec<String> {
    let differs = |name: &str| {
        let (before, after) = (before.fact(name), after.fact(name));
        !before.is_empty() && !after.is_empty() && before != after
    };
    let mut remarks = Vec::new();
    let other_machine = differs("machine_id") || before.fact("machine_id").is_empty() && differs("name");
    if other_machine {
        remarks.push("these are two different machines".to_owned());
    } else if differs("boot_id") {
        remarks.push("rebooted in between".to_owned());
    }
    let time = |side: &Side| side.run.started_at.parse::<jiff::Timestamp>().ok();
    if let (Some(first), Some(second)) = (time(before), time(after))
        && second < first
    {
        let seconds = first.as_second().saturating_sub(second.as_second());
        remarks.push(format!(
            "the second is {} older than the first: worse and better are as the two are given",
            quantity::duration(seconds as f64)
        ));
    }
    if before.warden != after.warden {
        remarks.push(format!(
            "judged by different Wardens, {} and {}: a change may be one of the judge",
            before.warden, after.warden
        ));
    }
    if before.run.privileged != after.run.privileged {
        remarks.push("one ran privileged and the other did not: they did not see the same".to_owned());
    }
    if before.is_newer() || after.is_newer() {
        remarks.push(
            "a report is of a newer form than this warden knows: what it does not know is left out"
                .to_owned(),
        );
    }
    remarks
}

/// In the order a person asks; what else a newer Warden knows follows. How long it is up changes by itself.
fn facts(before: &Side, after: &Side) -> Vec<FactChange> {
    const ORDER: [&str; 8] =
        ["name", "os", "kernel", "machine", "cores", "memory_bytes", "machine_id", "boot_id"];
    const BY_ITSELF: &str = "up_seconds";
    let others = before.host.keys().chain(after.host.keys()).map(String::as_str);
    let others: std::collections::BTreeSet<&str> =
        others.filter(|name| !ORDER.contains(name) && *name != BY_ITSELF).collect();
    let change = |name: &str| {
        let (before, after) = (before.fact(name), after.fact(name));
        (before != after).then(|| FactChange { name: name.replace('_', " "), before, after })
    };
    ORDER.into_iter().chain(others).filter_map(change).collect()
}

/// `None` when nothing changed.
fn change(before: &Check, after: &Check) -> Option<CheckChange> {
    let (came, went, stayed) = problems(&before.problems, &after.problems);
    let values = values::compare(&before.evidence, &after.evidence);
    let log = logs::compare(&before.evidence, &after.evidence);
    let (outcome_before, outcome_after) = (before.outcome(), after.outcome());
    let direction = direction(outcome_before, outcome_after, &came, &went, &stayed);
    let unchanged = direction == Direction::Changed
        && outcome_before == outcome_after
        && came.is_empty()
        && went.is_empty()
        && values.is_empty()
        && log.is_empty();
    (!unchanged).then(|| CheckChange {
        id: after.id.clone(),
        area: after.area.clone(),
        title: after.title.clone(),
        direction,
        before: outcome_before,
        after: outcome_after,
        summary_before: before.summary.clone(),
        summary_after: after.summary.clone(),
        came,
        went,
        stayed,
        values,
        log,
    })
}

/// How bad it is that a check came to this: nothing, nobody knows, a warning, a failure.
fn badness(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Skip | Outcome::Pass | Outcome::Note => 0,
        Outcome::Unknown | Outcome::TimedOut | Outcome::Panicked => 1,
        Outcome::Warn => 2,
        Outcome::Fail => 3,
    }
}

/// A check that cannot tell any more is no improvement over one that warned, and neither is one that does not apply
/// any more: what it warned of may still be so.
fn direction(
    before: Outcome,
    after: Outcome,
    came: &[ProblemSaid],
    went: &[ProblemSaid],
    stayed: &[Stayed],
) -> Direction {
    let counts = |problem: &&ProblemSaid| problem.severity >= Outcome::Warn;
    let (bad_before, bad_after) = (badness(before), badness(after));
    if after.is_blind() {
        return if before.is_blind() { Direction::Changed } else { Direction::Worse };
    }
    if bad_after > bad_before
        || came.iter().any(|problem| counts(&problem))
        || stayed
            .iter()
            .any(|stayed| stayed.after.severity > stayed.before.severity && counts(&&stayed.after))
    {
        Direction::Worse
    } else if after == Outcome::Skip {
        Direction::Changed
    } else if bad_after < bad_before
        || went.iter().any(|problem| counts(&problem))
        || stayed
            .iter()
            .any(|stayed| stayed.after.severity < stayed.before.severity && counts(&&stayed.before))
    {
        Direction::Better
    } else {
        Direction::Changed
    }
}

/// Which problems came, which went, and which are the same but for their numbers.
fn problems(before: &[Problem], after: &[Problem]) -> (Vec<ProblemSaid>, Vec<ProblemSaid>, Vec<Stayed>) {
    let said = |problem: &Problem| ProblemSaid { severity: problem.severity(), text: problem.text.clone() };
    let mut left: Vec<Keyed> = before.iter().map(Keyed::new).collect();
    let mut open: Vec<Keyed> = after.iter().map(Keyed::new).collect();
    let mut stayed = Vec::new();
    // Equal words first: of two problems that differ only in a number, each finds its own.
    let equal_text = |a: &Keyed, b: &Keyed| a.text == b.text;
    let equal_shape = |a: &Keyed, b: &Keyed| a.shape == b.shape;
    for same in [equal_text as fn(&Keyed, &Keyed) -> bool, equal_shape] {
        open.retain(|problem| {
            let Some(at) = left.iter().position(|earlier| same(earlier, problem)) else { return true };
            stayed.push(Stayed { before: said(left.remove(at).problem), after: said(problem.problem) });
            false
        });
    }
    let mut came: Vec<ProblemSaid> = open.iter().map(|problem| said(problem.problem)).collect();
    let mut went: Vec<ProblemSaid> = left.iter().map(|problem| said(problem.problem)).collect();
    came.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    went.sort_by_key(|problem| std::cmp::Reverse(problem.severity));
    stayed.sort_by_key(|stayed| std::cmp::Reverse(stayed.after.severity));
    (came, went, stayed)
}

/// A problem with what it is recognized by.
struct Keyed<'a> {
    text: std::borrow::Cow<'a, str>,
    shape: String,
    problem: &'a Problem,
}

impl Keyed<'_> {
    fn new(problem: &Problem) -> Keyed<'_> {
        let text = row_keys::without_keys(&problem.text);
        Keyed { shape: shape(&text), text, problem }
    }
}

#[cfg(test)]
mod tests;
