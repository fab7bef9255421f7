//! `report.json`: what a snapshot found, in the frozen form that other tools read (templates/report.schema.json).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use warden_host::{Area, Evidence, Problem, Verdict};

use super::data_directory::DataDirectory;

/// Changes when a reader of the previous version could misread this one; adding a field does not change it.
pub const VERSION: u32 = 1;

/// As runtime-iggy-process says it of a host that has Iggy's data or its unit.
const NO_IGGY_RUNS: &str = "no Iggy server runs";

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// [`VERSION`].
    pub version: u32,
    /// Version of the `warden` that judged.
    pub warden: String,
    pub host: HostFacts,
    pub run: Run,
    /// The worst outcome of all checks and of the data directory.
    pub verdict: Outcome,
    /// How many checks came to each outcome, the data directory counted as one; outcomes that none came to are absent.
    pub counts: BTreeMap<Outcome, u32>,
    /// In the order of the catalogue.
    pub checks: Vec<CheckReport>,
    /// Absent when there is none, or nobody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub data_directory: Option<DataDirectory>,
    /// What was asked and could not be seen, so that nobody takes it for healthy.
    pub unseen: Vec<Unseen>,
    /// How many secrets were masked, by rule.
    pub masked: BTreeMap<String, u64>,
}

impl Report {
    /// Adds what the data directory told, if there is one.
    pub fn count_in(&mut self, data: Option<DataDirectory>) {
        if let Some(data) = &data {
            self.verdict = self.verdict.max(data.outcome);
            *self.counts.entry(data.outcome).or_default() += 1;
        }
        self.data_directory = data;
    }

    /// That no Iggy server runs on this host, in the words of the check; none where one runs, where that could not be
    /// told, or where nobody asked.
    pub fn without_iggy(&self) -> Option<&str> {
        let told = self.checks.iter().find(|check| check.id == "runtime-iggy-process")?;
        let absent = told.outcome == Outcome::Skip || told.summary == NO_IGGY_RUNS;
        absent.then_some(told.summary.as_str())
    }

    /// What every check found, and then what the data directory told.
    pub fn findings(&self) -> Vec<Cow<'_, CheckReport>> {
        let data = self.data_directory.as_ref().map(|data| Cow::Owned(data.finding()));
        self.checks.iter().map(Cow::Borrowed).chain(data).collect()
    }
}

/// Who this is about; a value that could not be read is absent.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostFacts {
    pub name: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub os: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub kernel: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cores: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub memory_bytes: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub up_seconds: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub machine_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub boot_id: Option<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Run {
    /// RFC 3339 UTC: the host's clock when the evidence was read.
    pub started_at: String,
    /// Milliseconds, the sampling pause included. Absent when a recording was judged: it says nothing of the host,
    /// and the same recording makes the same report.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wall_ms: Option<u64>,
    pub sample_ms: u64,
    /// `live`, or `recording` when the evidence came from an earlier run.
    pub source: SourceKind,
    /// Whether it ran as root or with the capabilities that stand in for it.
    pub privileged: bool,
    pub user_id: u32,
    pub since_seconds: u64,
    /// What was asked for with `--only` and `--skip`; empty means everything.
    pub only: Vec<String>,
    pub skip: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum SourceKind {
    Live,
    Recording,
}

/// How a check ended. Ordered from best to worst: a check that could not tell is worse than a note, for nobody
/// knows what it would have said.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Skip,
    Pass,
    Note,
    /// It could not tell; `cause` says why.
    Unknown,
    /// It did not come back within its deadline and was left behind.
    TimedOut,
    /// A defect of the check itself.
    Panicked,
    Warn,
    Fail,
}

impl Outcome {
    pub const ALL: [Outcome; 8] = [
        Outcome::Fail,
        Outcome::Warn,
        Outcome::Panicked,
        Outcome::TimedOut,
        Outcome::Unknown,
        Outcome::Note,
        Outcome::Pass,
        Outcome::Skip,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Outcome::Skip => "skip",
            Outcome::Pass => "pass",
            Outcome::Note => "note",
            Outcome::Unknown => "unknown",
            Outcome::TimedOut => "timed out",
            Outcome::Panicked => "panicked",
            Outcome::Warn => "warn",
            Outcome::Fail => "fail",
        }
    }

    /// The name as a word of a style sheet and of an address.
    pub const fn class(self) -> &'static str {
        if let Outcome::TimedOut = self { "timed-out" } else { self.name() }
    }

    /// Whether the check could not say how things are.
    pub const fn is_blind(self) -> bool {
        matches!(self, Outcome::Unknown | Outcome::TimedOut | Outcome::Panicked)
    }
}

impl From<Verdict> for Outcome {
    fn from(verdict: Verdict) -> Outcome {
        match verdict {
            Verdict::Skip => Outcome::Skip,
            Verdict::Pass => Outcome::Pass,
            Verdict::Note => Outcome::Note,
            Verdict::Warn => Outcome::Warn,
            Verdict::Fail => Outcome::Fail,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CheckReport {
    pub id: String,
    pub area: Area,
    /// The question.
    pub title: String,
    pub why: String,
    /// What makes it warn or fail, a sentence each with the number in it.
    #[serde(default)]
    pub thresholds: Vec<String>,
    pub outcome: Outcome,
    /// One sentence; for a skipped check the reason, for one that could not tell the cause.
    pub summary: String,
    pub problems: Vec<Problem>,
    pub evidence: Vec<Evidence>,
    /// What it was judged by: one entry a question to the host.
    pub asked: Vec<Asked>,
    /// Absent when a recording was judged.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cost: Option<Cost>,
}

/// A question to the host and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Asked {
    /// `/proc/meminfo`, `command ip-route`.
    pub what: String,
    /// Why there was no answer; absent when there was one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure: Option<String>,
    /// Where the bundle keeps the answer.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub path: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cost {
    pub wall_us: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unseen {
    pub what: String,
    pub why: String,
}
