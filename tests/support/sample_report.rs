//! A made-up report of an ailing node: every outcome, every kind of evidence, and text that means harm.

mod blind;
mod machine;
mod runtimes;
mod well;

use std::collections::BTreeMap;

use warden::snapshot::report::{
    Asked, CheckReport, Cost, HostFacts, Outcome, Report, Run, SourceKind, Unseen, VERSION,
};
use warden_host::{Area, Finding, Level, LogLine};

/// 2026-11-21T12:00:00Z, when the sample's evidence was read.
const NOW_US: i64 = 1_795_262_400_000_000;

const GIB: u64 = 1 << 30;

/// Text that closes elements, opens attributes, hides and turns around.
pub const HOSTILE: [&str; 6] = [
    "</script><script>alert(1)</script>",
    "\" onmouseover=\"alert(2)\" x=\"",
    "<img src=x onerror=alert(3)>",
    "invoice\u{202e}fdp.exe",
    "nul \0 bell \x07 \x1b[31mred\x1b[0m",
    "{{ 7*7 }}{% raw %}&lt;b&gt;",
];

pub fn sample_report() -> Report {
    let mut checks: Vec<CheckReport> = machine::checks()
        .into_iter()
        .chain(runtimes::checks())
        .chain(blind::checks())
        .chain(well::checks())
        .collect();
    checks.sort_by_key(|check| check.area);
    report_of(checks)
}

pub fn report_of(checks: Vec<CheckReport>) -> Report {
    let mut counts = BTreeMap::new();
    for check in &checks {
        *counts.entry(check.outcome).or_insert(0) += 1;
    }
    let unseen = checks.iter().flat_map(|check| &check.asked).filter_map(|asked| {
        asked.failure.as_ref().map(|why| Unseen { what: asked.what.clone(), why: why.clone() })
    });
    Report {
        version: VERSION,
        warden: "0.1.0".to_owned(),
        host: HostFacts {
            name: "iggy-node-07.eu-west.example.com".to_owned(),
            os: Some("Debian GNU/Linux 12 (bookworm)".to_owned()),
            kernel: Some("6.1.0-28-amd64".to_owned()),
            machine: Some("QEMU Standard PC, KVM".to_owned()),
            cores: Some(16),
            memory_bytes: Some(64 << 30),
            up_seconds: Some(1_051_200),
            machine_id: Some("8c5a1f0e6d9b4c7f9a3e2b1d0c4f5a6b".to_owned()),
            boot_id: Some("5f1d3c2b-9a8e-4d7c-b6a5-1f2e3d4c5b6a".to_owned()),
        },
        run: Run {
            started_at: "2026-11-21T12:00:00Z".to_owned(),
            wall_ms: Some(4_312),
            sample_ms: 1_000,
            source: SourceKind::Live,
            privileged: true,
            user_id: 0,
            since_seconds: 86_400,
            only: Vec::new(),
            skip: Vec::new(),
        },
        verdict: checks.iter().map(|check| check.outcome).max().unwrap_or(Outcome::Pass),
        counts,
        unseen: unseen.collect(),
        masked: BTreeMap::from([
            ("authorization-header".to_owned(), 4),
            ("iggy-password".to_owned(), 7),
            ("jwt".to_owned(), 2),
            ("url-credentials".to_owned(), 1),
        ]),
        checks,
        data_directory: None,
    }
}

/// What a check is, without its answer.
struct Question {
    id: &'static str,
    area: Area,
    title: &'static str,
    why: &'static str,
    thresholds: &'static [&'static str],
    asked: &'static [&'static str],
}

impl Question {
    fn answered(self, finding: Finding) -> CheckReport {
        let outcome = finding.verdict().into();
        let asked = self.asked.iter().map(|what| answered(what)).collect();
        CheckReport {
            summary: finding.summary,
            problems: finding.problems,
            evidence: finding.evidence,
            ..self.report(outcome, asked)
        }
    }

    fn unanswered(self, outcome: Outcome, cause: &str) -> CheckReport {
        let refused =
            |what: &&str| Asked { what: (*what).to_owned(), failure: Some(cause.to_owned()), path: None };
        let asked = self.asked.iter().map(refused).collect();
        CheckReport { summary: cause.to_owned(), ..self.report(outcome, asked) }
    }

    fn report(&self, outcome: Outcome, asked: Vec<Asked>) -> CheckReport {
        CheckReport {
            id: self.id.to_owned(),
            area: self.area,
            title: self.title.to_owned(),
            why: self.why.to_owned(),
            thresholds: self.thresholds.iter().map(|&text| text.to_owned()).collect(),
            outcome,
            summary: String::new(),
            problems: Vec::new(),
            evidence: Vec::new(),
            asked,
            // Unlike from check to check, and the same in every run.
            cost: Some(Cost { wall_us: self.id.bytes().map(u64::from).sum::<u64>() * 7 }),
        }
    }
}

fn answered(what: &str) -> Asked {
    let path = match what.split_once(' ') {
        Some((kind, rest)) => format!("host/.host/{kind}/{}", rest.replace(['/', ' '], "_")),
        None => format!("host{what}"),
    };
    Asked { what: what.to_owned(), failure: None, path: Some(path) }
}

/// `count` lines of a server that is mostly content, a step of `step_ms` apart, the newest now.
fn log_lines(count: usize, step_ms: i64, origin: &str, texts: &[(Level, &str)]) -> Vec<LogLine> {
    let line = |at: usize| {
        // Long runs of ordinary lines with a few bad ones between them, as logs are.
        let odd = at % 41 == 40;
        let (level, text) = texts[if odd { 1 + at / 41 % (texts.len() - 1) } else { 0 }];
        LogLine {
            at_us: Some(NOW_US - (count - at) as i64 * step_ms * 1000),
            level: Some(level),
            origin: origin.to_owned(),
            text: text.replace("{n}", &(at * 7919 % 100_003).to_string()),
        }
    };
    (0..count).map(line).collect()
}
