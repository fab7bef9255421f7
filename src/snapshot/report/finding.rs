//! One finding as the page shows it.

use warden_host::{Evidence, Log, quantity};

use super::evidence::{EvidenceView, pair_up};
use super::model::{Asked, CheckReport, Outcome, Report};
use super::sanitize;

/// Questions to the host that the page lists of one check; those without an answer come first.
const ASKED: usize = 100;

/// Problems that the page tells of one finding; a directory that is damaged throughout has a thousand.
const PROBLEMS: usize = 60;

/// Log lines on the whole page: enough for three full logs, and a browser still scrolls and searches at once.
const LOG_LINES: usize = 6_000;

/// Characters of log on the whole page; with everything else the page stays in the order of two megabytes.
const LOG_CHARACTERS: usize = 1_500_000;

pub struct FindingView {
    pub id: String,
    pub area: &'static str,
    pub title: String,
    pub why: String,
    pub thresholds: Vec<String>,
    pub outcome: Outcome,
    pub summary: String,
    pub open: bool,
    pub problems: Vec<ProblemView>,
    /// Problems of the report that the page does not show.
    pub problems_left_out: usize,
    pub evidence: Vec<EvidenceView>,
    /// Whether it was judged by questions to the host at all.
    pub by_questions: bool,
    pub asked: Vec<AskedView>,
    pub asked_count: String,
    pub asked_left_out: usize,
    pub unanswered: usize,
    pub cost: Option<String>,
}

pub struct ProblemView {
    pub outcome: Outcome,
    pub text: String,
    pub advice: String,
    pub command: Option<String>,
}

pub struct AskedView {
    pub what: String,
    pub failure: Option<String>,
    pub path: Option<String>,
}

impl FindingView {
    pub fn new(check: &CheckReport, lines: &mut LogLines) -> FindingView {
        let problems = check.problems.iter().map(|problem| ProblemView {
            outcome: problem.severity.into(),
            text: sanitize::line(&problem.text),
            advice: sanitize::line(&problem.advice.text),
            command: problem.advice.command.as_deref().map(sanitize::line),
        });
        let mut problems: Vec<ProblemView> = problems.collect();
        problems.sort_by_key(|problem| std::cmp::Reverse(problem.outcome));
        let problems_left_out = problems.len().saturating_sub(PROBLEMS);
        problems.truncate(PROBLEMS);
        let mut evidence: Vec<EvidenceView> =
            check.evidence.iter().map(|evidence| EvidenceView::new(evidence, lines)).collect();
        pair_up(&mut evidence);
        let (unanswered, answered): (Vec<&Asked>, Vec<&Asked>) =
            check.asked.iter().partition(|asked| asked.failure.is_some());
        let cost = check.cost.map(|cost| quantity::duration(cost.wall_us as f64 / 1e6));
        FindingView {
            id: sanitize::line(&check.id),
            area: check.area.name(),
            title: sanitize::line(&check.title),
            why: sanitize::line(&check.why),
            thresholds: check.thresholds.iter().map(|text| sanitize::line(text)).collect(),
            outcome: check.outcome,
            summary: sanitize::line(&check.summary),
            open: false,
            problems,
            problems_left_out,
            evidence,
            by_questions: true,
            asked: unanswered.iter().chain(&answered).take(ASKED).map(|asked| asked_view(asked)).collect(),
            asked_count: quantity::count(check.asked.len() as u64, "question", "questions"),
            asked_left_out: check.asked.len().saturating_sub(ASKED),
            unanswered: unanswered.len(),
            cost,
        }
    }
}

fn asked_view(asked: &Asked) -> AskedView {
    AskedView {
        what: sanitize::line(&asked.what),
        failure: asked.failure.as_deref().map(sanitize::line),
        path: asked.path.as_deref().map(sanitize::line),
    }
}

/// How many lines of a log the page may show.
pub struct LogLines {
    pub each: usize,
    /// Logs drawn so far: their number tells the controls of one from those of another.
    pub drawn: usize,
}

impl LogLines {
    /// The largest share for each log with which all of them together stay within [`LOG_LINES`] and
    /// [`LOG_CHARACTERS`]: short logs are whole, long ones give way.
    pub fn share(report: &Report) -> LogLines {
        let evidence = report.checks.iter().flat_map(|check| &check.evidence);
        let logs =
            evidence.filter_map(|evidence| if let Evidence::Log(log) = evidence { Some(log) } else { None });
        let logs: Vec<&Log> = logs.collect();
        let mut each = fair_share(logs.iter().map(|log| log.lines.len()).collect());
        while each > 1 && logs.iter().map(|log| characters(log, each)).sum::<usize>() > LOG_CHARACTERS {
            each /= 2;
        }
        LogLines { each, drawn: 0 }
    }
}

fn fair_share(mut lengths: Vec<usize>) -> usize {
    lengths.sort_unstable();
    let mut left = LOG_LINES;
    for (done, length) in lengths.iter().enumerate() {
        let each = left / (lengths.len() - done);
        if *length > each {
            return each;
        }
        left -= length;
    }
    LOG_LINES
}

/// What the newest `count` lines of a log come to on the page.
fn characters(log: &Log, count: usize) -> usize {
    let newest = log.lines.iter().rev().take(count);
    newest.map(|line| line.text.len().min(sanitize::LINE) + line.origin.len().min(sanitize::LINE)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_logs_are_whole_and_long_ones_share_the_rest() {
        assert_eq!(fair_share(vec![2000, 2000, 2000]), 6000, "all of it fits");
        assert_eq!(fair_share(vec![1000, 9000, 2000, 9000]), 1666);
        assert_eq!(fair_share(Vec::new()), 6000);
    }
}
