//! One of the two that are compared: read from a bundle, a report or a recorded folder, of whatever version.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufReader, Read};
use std::path::Path;

use anyhow::{Context, ensure};
use serde::Deserialize;
use serde::de::{Deserializer, IgnoredAny};
use warden_host::{Evidence, quantity};
use zip::ZipArchive;

use crate::report::{DataDirectory, Outcome, VERSION};
use crate::zip_end_record::{Encrypted, open_archive};
use crate::{Order, collect};

/// A report of an ordinary host has 1 to 3 MiB; one with every log at its limit stays below this.
const REPORT_BYTES: u64 = 64 << 20;
/// Of one check; each is looked for among those of the other side.
const PROBLEMS: usize = 2_000;
const REPORT: &str = "report.json";

/// A report as other versions of Warden may have written it: what is missing is empty, what is unknown is left.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Side {
    pub version: u32,
    pub warden: String,
    pub host: BTreeMap<String, serde_json::Value>,
    pub run: Run,
    pub checks: Vec<Check>,
    #[serde(rename = "data_directory")]
    raw_data_directory: Option<serde_json::Value>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Run {
    pub started_at: String,
    pub privileged: Option<bool>,
    pub since_seconds: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Check {
    pub id: String,
    pub area: String,
    pub title: String,
    #[serde(rename = "outcome")]
    outcome_name: String,
    pub summary: String,
    pub problems: Vec<Problem>,
    #[serde(deserialize_with = "known")]
    pub evidence: Vec<Evidence>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Problem {
    #[serde(rename = "severity")]
    severity_name: String,
    pub text: String,
    pub advice: Advice,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Advice {
    pub text: String,
    pub command: Option<String>,
}

/// What this version knows of it. Each item is buffered alone: what a log holds is held once.
fn known<'de, D: Deserializer<'de>>(source: D) -> Result<Vec<Evidence>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Item {
        Known(Evidence),
        Unknown(IgnoredAny),
    }
    let known = |item: Item| match item {
        Item::Known(evidence) => Some(evidence),
        Item::Unknown(IgnoredAny) => None,
    };
    Ok(Vec::<Item>::deserialize(source)?.into_iter().filter_map(known).collect())
}

impl Check {
    /// One that this version does not know could not be told, as far as it can see.
    pub fn outcome(&self) -> Outcome {
        outcome(&self.outcome_name).unwrap_or(Outcome::Unknown)
    }
}

impl Problem {
    pub fn severity(&self) -> Outcome {
        outcome(&self.severity_name).unwrap_or(Outcome::Unknown)
    }
}

fn outcome(name: &str) -> Option<Outcome> {
    serde_json::from_value(serde_json::Value::String(name.to_owned())).ok()
}

impl Side {
    /// Reads `path`: a bundle, a `report.json`, an unpacked bundle, or a recorded host, which is judged now.
    pub fn open(path: &Path) -> anyhow::Result<Side> {
        let shown = path.display();
        let metadata = std::fs::metadata(path).with_context(|| format!("cannot open {shown}"))?;
        if metadata.is_dir() {
            let report = path.join(REPORT);
            return if report.is_file() { Side::of_file(&report) } else { Side::of_recording(path) };
        }
        Side::of_file(path)
    }

    fn of_file(path: &Path) -> anyhow::Result<Side> {
        let shown = path.display();
        let mut file = BufReader::new(File::open(path).with_context(|| format!("cannot open {shown}"))?);
        let mut first = [0; 1];
        let is_json = file.read(&mut first)? == 1 && matches!(first[0], b'{' | b' ' | b'\n' | b'\r' | b'\t');
        file.seek_relative(-1).or_else(|_| std::io::Seek::rewind(&mut file))?;
        if is_json {
            return Side::of_json(bounded(file)?).with_context(|| format!("{shown} is no report"));
        }
        let mut archive: ZipArchive<_> =
            open_archive(file).map_err(|error| match error.is::<Encrypted>() {
                true => error.context(format!("cannot read {shown}")),
                false => error.context(format!("{shown} is neither a bundle nor a report")),
            })?;
        let Some(index) = archive.index_for_name(REPORT) else { return Side::of_recording(path) };
        let content = archive.by_index(index).map_err(anyhow::Error::from).and_then(bounded);
        let content = content.with_context(|| format!("cannot read {REPORT} of {shown}"))?;
        Side::of_json(content).with_context(|| format!("{REPORT} of {shown} is no report"))
    }

    fn of_recording(path: &Path) -> anyhow::Result<Side> {
        let order = Order { recording: Some(path.to_owned()), ..Order::default() };
        let report = collect(&order, &mut |_| ())?.report;
        Side::of_json(serde_json::to_vec(&report)?)
    }

    pub fn of_json(content: Vec<u8>) -> anyhow::Result<Side> {
        let mut side: Side = serde_json::from_slice(&content).context("it cannot be understood")?;
        drop(content);
        ensure!(side.version > 0, "it has no version, which every report of a snapshot has");
        // One in a form that this version does not know is left.
        let data = side.raw_data_directory.take().and_then(|raw| serde_json::from_value(raw).ok());
        let finding = data.and_then(|data: DataDirectory| serde_json::to_value(data.finding()).ok());
        side.checks.extend(finding.and_then(|finding| serde_json::from_value(finding).ok()));
        for check in &mut side.checks {
            check.problems.truncate(PROBLEMS);
        }
        Ok(side)
    }

    /// Whether it was written by a Warden whose reports may mean something else.
    pub fn is_newer(&self) -> bool {
        self.version > VERSION
    }

    /// A fact of the host as text; empty when it is not known.
    pub fn fact(&self, name: &str) -> String {
        match self.host.get(name) {
            None | Some(serde_json::Value::Null) => String::new(),
            Some(serde_json::Value::String(text)) => text.clone(),
            Some(value) if name.ends_with("_bytes") => {
                value.as_u64().map_or_else(|| value.to_string(), quantity::bytes)
            }
            Some(value) => value.to_string(),
        }
    }
}

fn bounded(source: impl Read) -> anyhow::Result<Vec<u8>> {
    let mut content = Vec::new();
    source.take(REPORT_BYTES + 1).read_to_end(&mut content)?;
    let limit = quantity::bytes(REPORT_BYTES);
    ensure!(content.len() as u64 <= REPORT_BYTES, "a report has at most {limit}");
    Ok(content)
}
