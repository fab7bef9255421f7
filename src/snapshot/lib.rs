//! Diagnoses a host: asks, judges, masks, reports.

mod alone;
pub mod archive;
pub mod bundle;
pub mod check_runner;
pub mod data_inspection;
pub mod diff;
pub mod encryption;
pub mod fleet;
pub mod host;
mod own_documents;
pub mod report;
pub mod second_scan;
pub mod signature;
pub mod verify;
mod zip_end_record;

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

pub use alone::{answering, certificates, data_directory};
use anyhow::{Context, anyhow};
use check_runner::{Bounds, End, Ended, Event};
use host::live::{Live, Secret};
use host::{Recording, recording_format};
use report::{Asked, CheckReport, Cost, HostFacts, Outcome, Report, Run, SourceKind, Unseen};
use warden_checks::Selection;
use warden_checks::iggy::{self, DataDirectory};
use warden_config as config;
use warden_host::{
    Advice, Answer, Authorities, Cause, Check, Clock, Failure, Host, IfAny, Read, Request, Rights,
    STATE_DIRECTORY, Settings, Source, missing, proc,
};
use warden_iggy::report::Mode;
use warden_platform::user_view::Directory;
use warden_redact::{Anonymizer, Known, Redactor};

/// The Supervisor, where it is called with nothing in between.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Direct {
    pub url: String,
    /// What alone proves it; absent: what this host trusts.
    pub authorities: Option<Authorities>,
}

/// What to diagnose, and how.
#[derive(Clone, Debug, Default)]
pub struct Order {
    pub selection: Selection,
    /// How far back logs are read; the default is [`config::SINCE`].
    pub since: Option<Duration>,
    /// File with an access token for Iggy's statistics; without it only what needs no rights is asked.
    pub iggy_token_file: Option<PathBuf>,
    /// A recording to judge instead of this host.
    pub recording: Option<PathBuf>,
    /// A policy to follow besides this host's own.
    pub policy: Option<PathBuf>,
    /// Whether addresses and names are taken out when all is judged.
    pub anonymize: bool,
    /// How deep Iggy's data directory is looked into; `None`: not at all.
    pub inspect: Option<Mode>,
    /// Where that directory is; without it, where the running server or its configuration says.
    pub data: Option<Place>,
    /// Where the agent keeps its state; the default is [`STATE_DIRECTORY`].
    pub agent_state: Option<PathBuf>,
    /// Why the data directory, which was asked for, is not packed.
    pub iggy_left_out: Option<String>,
    /// The Supervisor of this host's agent, if the way there is to be looked at.
    pub supervisor: Option<Direct>,
}

/// A data directory of Iggy, or an archive of one.
#[derive(Clone, Debug)]
pub struct Place {
    pub path: PathBuf,
    /// By what it was found.
    pub found_by: String,
    /// With whose rights it is read; `None`: with those of the user that it belongs to.
    pub rights: Option<Rights>,
}

impl Place {
    /// The data directory that was found on `host`.
    pub fn of(found: DataDirectory, host: &Host) -> Place {
        let rights = host.named().rights(&found.path);
        Place { path: PathBuf::from(found.path), found_by: found.found_by, rights }
    }

    /// Opens the directory, for all that is to be read in it.
    pub fn open(&self) -> anyhow::Result<Directory> {
        if let Some(rights) = &self.rights {
            return host::live::named::directory(rights, &self.path);
        }
        Directory::of_owner(&self.path).with_context(|| {
            format!(
                "cannot open the data directory {}; is it there, and may you read it?",
                self.path.display()
            )
        })
    }
}

/// A host, judged: the report and the evidence behind it, all of it masked.
pub struct Snapshot {
    pub report: Report,
    /// Content of the bundle's `host/` folder, by path.
    pub evidence: BTreeMap<String, String>,
    pub redactor: Arc<Redactor>,
    /// What took addresses and names out, if that was asked for.
    pub anonymizer: Option<Anonymizer>,
    /// The host's clock when the run began.
    pub clock: Clock,
}

/// Asks the host (or a recording of one) everything that the selected checks want to know, and judges it.
pub fn collect(order: &Order, observe: &mut dyn FnMut(Event)) -> anyhow::Result<Snapshot> {
    let began = Instant::now();
    let checks = order.selection.checks()?;
    let (inner, redactor, kind) = source(order, &checks)?;
    if let Some(path) = order.policy.as_deref().filter(|path| !path.exists()) {
        return Err(anyhow!("there is no policy {}", path.display()));
    }
    let mut policies = vec![Path::new(config::policy::PLACE)];
    policies.extend(order.policy.as_deref());
    let also = config::policy::also_mask(&policies)?;
    let redactor = Arc::new(redactor.also_masking(also));
    let recording = match kind {
        SourceKind::Live => Recording::new,
        SourceKind::Recording => Recording::replay,
    };
    let recording = Arc::new(recording(inner, Arc::clone(&redactor)));
    let source: Arc<dyn Source> = recording.clone();
    let facts_host = Host::new(Arc::clone(&source), began + config::RUN_LIMIT);
    let clock = facts_host.clock().map_err(|error| anyhow!("cannot tell the time: {error}"))?;
    let settings =
        facts_host.settings().map_err(|error| anyhow!("cannot tell how the run was set up: {error}"))?;

    let bounds = Bounds { side_by_side: config::SIDE_BY_SIDE, limit: config::RUN_LIMIT };
    let mut ended = check_runner::run(&checks, &source, bounds, observe);
    let host = facts(&facts_host, &clock);
    let mut data = data_inspection::look(order, kind, &facts_host, &redactor, observe);
    keep_it_running(&iggy::held::losses(&facts_host), &mut ended, data.as_mut());
    let answers = recording.answers();
    let mut report =
        assemble(order, kind, &clock, &settings, host, ended, &answers, &redactor, began.elapsed());
    report.count_in(data);
    let evidence = recording_format::write(&answers)?;
    let snapshot = Snapshot { report, evidence, redactor, anonymizer: None, clock };
    if order.anonymize { anonymized(snapshot) } else { Ok(snapshot) }
}

/// While a process holds the only copy of its data, the report begins with that, and nothing in it may advise what
/// would end the process.
fn keep_it_running(
    losses: &[iggy::held::Loss],
    ended: &mut [Ended],
    data: Option<&mut report::DataDirectory>,
) {
    if losses.is_empty() {
        return;
    }
    ended.sort_by_key(|one| one.check.id != iggy::held::TOLD_BY);
    for one in ended {
        if let End::Found(finding) = &mut one.end {
            iggy::held::hold_back(losses, finding);
        }
    }
    for problem in
        data.into_iter().flat_map(|data| &mut data.inspection).flat_map(|found| &mut found.problems)
    {
        let advice = Advice::text(problem.advice.as_ref());
        if let Some(advice) = iggy::held::held_back(losses, &problem.text, &advice) {
            problem.advice = advice.text.into();
        }
    }
}

/// The snapshot without addresses and names. All is judged by then, so that findings stay as they are.
fn anonymized(mut snapshot: Snapshot) -> anyhow::Result<Snapshot> {
    let Snapshot { report, evidence, redactor, .. } = &snapshot;
    let machines =
        [report.host.machine_id.clone(), report.host.boot_id.clone()].into_iter().flatten().collect();
    let named =
        ["etc/hostname", "proc/sys/kernel/hostname"].iter().filter_map(|path| evidence.get(*path).cloned());
    let known = Known { hosts: named.chain([report.host.name.clone()]).collect(), machines };
    let mut anonymizer = redactor.anonymizer(&known).context("addresses cannot be looked for")?;
    let report = serde_json::to_string(report)?;
    for text in evidence.keys().chain(evidence.values()).chain([&report]) {
        anonymizer.learn(text);
    }
    snapshot.apply(anonymizer.ready())?;
    Ok(snapshot)
}

impl Snapshot {
    /// Takes further names of users out, where names are taken out at all.
    pub fn anonymize_further(&mut self, names: BTreeSet<String>) -> anyhow::Result<()> {
        if names.is_empty() {
            return Ok(());
        }
        let Some(mut anonymizer) = self.anonymizer.take() else { return Ok(()) };
        anonymizer.learn_users(names);
        self.apply(anonymizer.ready())
    }

    fn apply(&mut self, anonymizer: Anonymizer) -> anyhow::Result<()> {
        let report = serde_json::to_string(&self.report)?;
        self.report = serde_json::from_str(&anonymizer.text(&report))
            .context("a report without names is none any more")?;
        let evidence = std::mem::take(&mut self.evidence);
        self.evidence = evidence
            .iter()
            .map(|(path, text)| (anonymizer.text(path).into_owned(), anonymizer.text(text).into_owned()))
            .collect();
        self.anonymizer = Some(anonymizer);
        Ok(())
    }
}

fn source(order: &Order, checks: &[&Check]) -> anyhow::Result<(Arc<dyn Source>, Redactor, SourceKind)> {
    if let Some(path) = &order.recording {
        let (recorded, digest) = host::open(path)?;
        return Ok((Arc::new(recorded), Redactor::new(digest), SourceKind::Recording));
    }
    let mut key = [0; 32];
    rustls::crypto::ring::default_provider()
        .secure_random
        .fill(&mut key)
        .map_err(|_| anyhow!("the system gives no random bytes for the redaction key"))?;
    let iggy_token = order.iggy_token_file.as_deref().map(Secret::read).transpose()?;
    let mut settings = settings(order.since.unwrap_or(config::SINCE));
    if let Some(state) = &order.agent_state {
        settings.state_directory = state.display().to_string();
    }
    if let Some(Direct { url, authorities }) = &order.supervisor {
        settings.supervisor_url = Some(url.clone());
        settings.supervisor_authorities = authorities.clone();
    }
    let live = Live::new(settings, iggy_token)?;
    let mut sampled: Vec<&str> = checks
        .iter()
        .flat_map(|check| check.reads)
        .filter_map(|read| if let Read::Sample(pattern) = read { Some(*pattern) } else { None })
        .collect();
    sampled.sort_unstable();
    sampled.dedup();
    live.begin_samples(sampled.into_iter());
    Ok((Arc::new(live), Redactor::new(key), SourceKind::Live))
}

fn settings(since: Duration) -> Settings {
    Settings {
        iggy_unit: config::IGGY_UNIT.to_owned(),
        connectors_unit: config::CONNECTORS_UNIT.to_owned(),
        warden_unit: config::WARDEN_UNIT.to_owned(),
        state_directory: STATE_DIRECTORY.to_owned(),
        supervisor_url: None,
        supervisor_authorities: None,
        since_seconds: since.as_secs(),
        own_pid: std::process::id(),
        effective_uid: nix::unistd::geteuid().as_raw(),
        capabilities: host::live::capabilities(),
    }
}

/// What stands at the head of the report; what cannot be read is left out there, and named among the unseen.
fn facts(host: &Host, clock: &Clock) -> HostFacts {
    let uname = host.uname().ok();
    let line = |path: &str| host.value(path).if_any().ok().flatten().filter(|text| !text.is_empty());
    let os_release = host.read("/etc/os-release").unwrap_or_default();
    let pretty = os_release.lines().find_map(|line| line.strip_prefix("PRETTY_NAME="));
    HostFacts {
        name: uname.as_ref().map_or_else(|| "unknown".to_owned(), |uname| uname.node.clone()),
        os: pretty.map(|name| name.trim_matches(['"', '\'']).to_owned()),
        kernel: uname.as_ref().map(|uname| uname.release.clone()),
        machine: uname.map(|uname| uname.machine),
        cores: line("/sys/devices/system/cpu/online").and_then(|ranges| cores_in(&ranges)),
        memory_bytes: host.read("/proc/meminfo").ok().and_then(|text| proc::kibibytes(&text, "MemTotal")),
        up_seconds: Some(clock.up_us / 1_000_000),
        machine_id: line("/etc/machine-id"),
        boot_id: line("/proc/sys/kernel/random/boot_id"),
    }
}

/// `0-3,8` is five.
fn cores_in(ranges: &str) -> Option<u32> {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        (last.parse::<u32>().ok()?.checked_sub(first.parse().ok()?))?.checked_add(1)
    };
    ranges.split(',').map(count).sum()
}

#[expect(clippy::too_many_arguments, reason = "the parts of a report meet only here")]
fn assemble(
    order: &Order,
    source: SourceKind,
    clock: &Clock,
    settings: &Settings,
    host: HostFacts,
    ended: Vec<Ended>,
    answers: &[(Request, Arc<Answer>)],
    redactor: &Redactor,
    wall: Duration,
) -> Report {
    let answers: BTreeMap<&Request, &Answer> =
        answers.iter().map(|(request, answer)| (request, &**answer)).collect();
    let checks: Vec<CheckReport> =
        ended.into_iter().map(|ended| check_report(ended, source, &answers, redactor)).collect();
    let mut counts = BTreeMap::new();
    for check in &checks {
        *counts.entry(check.outcome).or_default() += 1;
    }
    let has = |capability: &str| settings.capabilities.iter().any(|name| name == capability);
    Report {
        version: report::VERSION,
        warden: env!("CARGO_PKG_VERSION").to_owned(),
        host,
        run: Run {
            started_at: warden_host::quantity::time(clock.seconds()),
            wall_ms: (source == SourceKind::Live).then_some(wall.as_millis() as u64),
            sample_ms: config::SAMPLE_PAUSE.as_millis() as u64,
            source,
            privileged: settings.effective_uid == 0 || (has("CAP_DAC_READ_SEARCH") && has("CAP_SYS_PTRACE")),
            user_id: settings.effective_uid,
            since_seconds: settings.since_seconds,
            only: order.selection.only.clone(),
            skip: order.selection.skip.clone(),
        },
        verdict: checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Skip),
        counts,
        checks,
        data_directory: None,
        unseen: unseen(&answers),
        masked: redactor.receipt().counts,
    }
}

fn check_report(
    ended: Ended,
    source: SourceKind,
    answers: &BTreeMap<&Request, &Answer>,
    redactor: &Redactor,
) -> CheckReport {
    let Ended { check, end, asked, wall } = ended;
    let (outcome, summary, problems, evidence) = match end {
        End::Found(finding) => {
            (finding.verdict().into(), finding.summary, finding.problems, finding.evidence)
        }
        End::Unknown(error) => (Outcome::Unknown, error.to_string(), Vec::new(), Vec::new()),
        End::TimedOut => {
            let last =
                asked.last().map_or_else(String::new, |request| format!("; it last asked for {request}"));
            let seconds = warden_host::quantity::duration(check.deadline.as_secs_f64());
            (Outcome::TimedOut, format!("left behind after {seconds}{last}"), Vec::new(), Vec::new())
        }
        End::NeverBegan => {
            let limit = warden_host::quantity::duration(config::RUN_LIMIT.as_secs_f64());
            (
                Outcome::TimedOut,
                format!("never began: the {limit} for the whole run were over"),
                Vec::new(),
                Vec::new(),
            )
        }
        End::Panicked(message) => {
            let message = redactor.redact(warden_redact::Shape::Plain, &message).into_owned();
            (Outcome::Panicked, format!("a defect of this check: {message}"), Vec::new(), Vec::new())
        }
    };
    let told = |request: &Request| {
        let answer = answers.get(request).copied();
        let failure = match answer {
            Some(Err(failure)) => Some(failure.cause.to_string()),
            Some(Ok(_)) => None,
            None => Some(Cause::TimedOut.to_string()),
        };
        let path = answer
            .filter(|answer| answer.is_ok())
            .map(|answer| format!("host/{}", recording_format::place(request, answer)));
        Asked { what: request.to_string(), failure, path }
    };
    CheckReport {
        id: check.id.to_owned(),
        area: check.area,
        title: check.title.to_owned(),
        why: check.why.to_owned(),
        thresholds: check.thresholds.iter().map(|&text| text.to_owned()).collect(),
        outcome,
        summary,
        problems,
        evidence,
        asked: asked.iter().map(told).collect(),
        cost: (source == SourceKind::Live).then_some(Cost { wall_us: wall.as_micros() as u64 }),
    }
}

/// What was refused, and what was longer than is read. What does not exist is an answer.
fn unseen(answers: &BTreeMap<&Request, &Answer>) -> Vec<Unseen> {
    let why = |request: &Request, answer: &Answer| match answer {
        Err(Failure { cause: Cause::Absent, .. }) => None,
        Err(failure) => Some(Unseen { what: failure.what.clone(), why: failure.cause.to_string() }),
        Ok(data) => missing(data).map(|why| Unseen { what: request.to_string(), why }),
    };
    answers.iter().filter_map(|(request, answer)| why(request, answer)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cores_are_counted_from_their_ranges() {
        assert_eq!([cores_in("0"), cores_in("0-3,8"), cores_in("0-1023")], [Some(1), Some(5), Some(1024)]);
        assert_eq!([cores_in(""), cores_in("3-1"), cores_in("x")], [None; 3]);
    }
}
