//! Iggy's data directory in the report: what the inspection found, told as the checks tell theirs.

use serde::{Deserialize, Serialize};
/// What it is called beside the checks.
pub use warden_checks::DATA_DIRECTORY as ID;
use warden_host::quantity::{bytes, count, number};
use warden_host::{Advice, Area, Problem, Verdict};
use warden_iggy::report::{Generation, Inspection, Mode, Severity};

use super::data_evidence::evidence;
use super::model::{CheckReport, Cost, Outcome};

/// Why it is looked into, and what it is judged by: what `warden checks explain` tells of a check.
pub const TITLE: &str = "Is Iggy's data whole?";
pub const WHY: &str = "Iggy starts on bit rot without a word and answers polls of a damaged batch with nothing. Where index and log do \
     not fit, it refuses to start or moves the whole partition aside; where the end of the last log is damaged, it \
     starts, and what it takes from then on is lost at the next start. The checksums that it wrote tell before a \
     restart does.";
pub const THRESHOLDS: [&str; 3] = [
    "fails for messages, batches, indexes, offsets and metadata that do not fit their checksums or each other, for what a server refuses to start on or would start without, for fenced partitions, and for data of two versions",
    "warns for what only costs time or does not belong there: empty indexes, links, files that no server writes",
    "notes writes that were going on, and what was not looked at",
];

/// Iggy's data directory, looked into offline. Nothing of a message is in it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DataDirectory {
    pub path: String,
    /// By what it was found: the running server, its configuration, an option.
    pub found_by: String,
    pub outcome: Outcome,
    /// One sentence; where it could not be looked into, the cause.
    pub summary: String,
    /// Why `iggy.zip`, which was asked for, is not in the bundle, and how bad that is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub left_out: Option<LeftOut>,
    /// Absent where it could not be looked into.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub inspection: Option<Box<Inspection>>,
    /// Absent when a recording was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<InspectionCost>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LeftOut {
    pub why: String,
    pub severity: Verdict,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct InspectionCost {
    pub wall_us: u64,
    /// Bytes held against checksums in a second, by the clock; absent where none were.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u64>,
}

impl DataDirectory {
    /// What was found at `path`.
    pub fn inspected(path: String, found_by: String, inspection: Inspection) -> DataDirectory {
        let worst = inspection.problems.first().map(|problem| verdict(problem.severity).into());
        let unseen = inspection.scan.was_cancelled.then_some(Outcome::Note);
        let outcome = worst.into_iter().chain(unseen).max().unwrap_or(Outcome::Pass);
        let summary = summary(&inspection);
        let inspection = Some(Box::new(inspection));
        DataDirectory { path, found_by, outcome, summary, left_out: None, inspection, cost: None }
    }

    /// It could not be looked into, and why.
    pub fn unseen(path: String, found_by: String, outcome: Outcome, cause: String) -> DataDirectory {
        DataDirectory {
            path,
            found_by,
            outcome,
            summary: cause,
            left_out: None,
            inspection: None,
            cost: None,
        }
    }

    /// The same for a bundle in which the archive of the directory is missing although it was asked for.
    #[must_use]
    pub fn without_archive(mut self, why: String, severity: Verdict) -> DataDirectory {
        self.outcome = self.outcome.max(severity.into());
        if self.inspection.is_none() {
            self.summary = "the data directory was asked for and is not in this bundle".to_owned();
        }
        self.left_out = Some(LeftOut { why, severity });
        self
    }

    /// The same as a check tells it.
    pub fn finding(&self) -> CheckReport {
        let mut problems = self.inspection.as_deref().map_or_else(Vec::new, problems);
        if let Some(LeftOut { why, severity }) = &self.left_out {
            let text = format!("iggy.zip was asked for and is not in this bundle: {why}");
            let advice = Advice::text(
                "See that the filesystem is mounted and the directory is readable, then take another snapshot.",
            );
            problems.insert(0, Problem { severity: *severity, text, advice });
        }
        let evidence = self.inspection.as_deref().map_or_else(Vec::new, |found| evidence(self, found));
        CheckReport {
            id: ID.to_owned(),
            area: Area::Runtime,
            title: TITLE.to_owned(),
            why: WHY.to_owned(),
            thresholds: THRESHOLDS.map(str::to_owned).to_vec(),
            outcome: self.outcome,
            summary: self.summary.clone(),
            problems,
            evidence,
            asked: Vec::new(),
            cost: self.cost.map(|cost| Cost { wall_us: cost.wall_us }),
        }
    }
}

fn verdict(severity: Severity) -> Verdict {
    match severity {
        Severity::Note => Verdict::Note,
        Severity::Warning => Verdict::Warn,
        Severity::Damage => Verdict::Fail,
    }
}

fn problems(inspection: &Inspection) -> Vec<Problem> {
    let mut problems: Vec<Problem> = inspection
        .problems
        .iter()
        .map(|problem| Problem {
            severity: verdict(problem.severity),
            text: format!("{}: {}", problem.file, problem.text),
            advice: Advice::text(problem.advice.clone()),
        })
        .collect();
    if inspection.scan.was_cancelled {
        let behind = inspection.scan.segments_left_behind;
        let segments = count(inspection.totals.segments, "segment", "segments");
        let text = format!("the time was over: {behind} of {segments} were not looked into");
        let advice = "`warden inspect --scan full DIR` takes its time; it may run beside the server.";
        problems.push(Problem { severity: Verdict::Note, text, advice: Advice::text(advice) });
    }
    problems
}

fn summary(inspection: &Inspection) -> String {
    let (totals, scan) = (&inspection.totals, &inspection.scan);
    let content = match totals.segments {
        0 => "no segments".to_owned(),
        _ => format!(
            "{} in {} of {}",
            count(totals.messages, "message", "messages"),
            bytes(totals.log_bytes),
            count(totals.partitions, "partition", "partitions")
        ),
    };
    let held = match scan.mode {
        Mode::None => "only the structure was looked at".to_owned(),
        Mode::Sampled | Mode::Full if scan.verified_bytes >= scan.bytes => {
            "all of it held against its checksums".to_owned()
        }
        Mode::Sampled | Mode::Full => format!("{} % held against checksums", number(share(inspection))),
    };
    let damages = inspection.problems.iter().filter(|problem| problem.is_damage()).count() as u64;
    let more = if inspection.problems_left_out > 0 { "over " } else { "" };
    let found = match damages {
        0 => "nothing is damaged".to_owned(),
        damages => format!("{more}{}", count(damages, "damage", "damages")),
    };
    let is_known = inspection.generation != Generation::Unknown;
    let server = if is_known { inspection.generation.name() } else { "an unknown server" };
    format!("{content}, written by {server}: {held}, {found}")
}

/// Percent of the segments' bytes that were held against their checksums.
pub fn share(inspection: &Inspection) -> f64 {
    let scan = &inspection.scan;
    scan.verified_bytes as f64 / scan.bytes.max(1) as f64 * 100.0
}

#[cfg(test)]
mod tests {
    use warden_iggy::report::{self, Scan, Totals};

    use super::*;

    fn inspection(problems: Vec<report::Problem>) -> Inspection {
        Inspection {
            version: report::VERSION,
            path: String::new(),
            verdict: report::Verdict::Sound,
            generation: Generation::Edge,
            problems,
            problems_left_out: 0,
            totals: Totals { partitions: 1, segments: 2, messages: 14, log_bytes: 2786, ..Totals::default() },
            scan: Scan { mode: Mode::Sampled, bytes: 2786, verified_bytes: 2786, ..Scan::default() },
            superblock: None,
            journal: None,
            checkpoint: None,
            unchecked: Vec::new(),
            streams: Vec::new(),
            partitions_left_out: 0,
        }
    }

    fn told(inspection: Inspection) -> DataDirectory {
        DataDirectory::inspected("/data".to_owned(), "a test".to_owned(), inspection)
    }

    #[test]
    fn the_worst_problem_is_the_outcome() {
        let problem = |severity| report::Problem::new(severity, "made-up", "a/b", "it is so", "Leave it.");
        for (severity, outcome) in [
            (Severity::Damage, Outcome::Fail),
            (Severity::Warning, Outcome::Warn),
            (Severity::Note, Outcome::Note),
        ] {
            let told = told(inspection(vec![problem(severity)]));
            assert_eq!(told.outcome, outcome);
            assert_eq!(told.finding().problems[0].text, "a/b: it is so");
        }
        let sound = told(inspection(Vec::new()));
        assert_eq!((sound.outcome, sound.finding().problems.len()), (Outcome::Pass, 0));
        assert_eq!(
            sound.summary,
            "14 messages in 2.72 KiB of 1 partition, written by 0.9-edge: all of it held against its checksums, nothing is damaged"
        );
    }

    #[test]
    fn what_was_not_looked_at_is_never_fine() {
        let mut late = inspection(Vec::new());
        (late.scan.was_cancelled, late.scan.segments_left_behind) = (true, 2);
        late.scan.verified_bytes = 1393;
        let told = told(late);
        assert_eq!(told.outcome, Outcome::Note);
        assert!(told.summary.contains("50 % held against checksums"), "{}", told.summary);
        let problems = told.finding().problems;
        assert_eq!(problems[0].text, "the time was over: 2 of 2 segments were not looked into");
    }
}
