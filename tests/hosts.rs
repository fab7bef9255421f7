//! Every check on every recorded host: one reviewable expectation a host (`tests/hosts/NAME.snap`).
//!
//! Written by hand (they hold `.host/complete`: what is not in them does not exist) are `healthy-debian`,
//! `strained-debian` (on its way to trouble), `sick-debian`, `sick-rhel`, `notable-ubuntu` (a lab machine where a lot
//! is worth knowing and nothing is wrong), `bare-board` (booted into memory, without Iggy) and `container`.
//! `unprivileged` is the healthy one as a user without rights sees it; `real-debian` was recorded on a booted systemd.
//! After a deliberate change: `INSTA_UPDATE=always cargo test --test tests hosts`, then read the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write;
use std::path::{Path, PathBuf};

use warden::snapshot::report::{Outcome, Report};
use warden::snapshot::{Order, Snapshot, collect};

/// The recorded hosts, by name.
pub fn all() -> BTreeMap<String, PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts");
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let hosts = entries.filter(|path| path.is_dir());
    hosts.map(|path| (path.file_name().unwrap().to_str().unwrap().to_owned(), path)).collect()
}

pub fn replay(host: &Path) -> Snapshot {
    collect(&Order { recording: Some(host.to_owned()), ..Order::default() }, &mut |_| ()).unwrap()
}

/// What a person would review: outcome and sentence of each check, and each problem below it.
pub fn expectation(report: &Report) -> String {
    let mut text = String::new();
    for check in &report.checks {
        writeln!(text, "{:<9} {}: {}", check.outcome.name(), check.id, check.summary).unwrap();
        for problem in &check.problems {
            writeln!(text, "          - {}: {}", Outcome::from(problem.severity).name(), problem.text)
                .unwrap();
        }
    }
    text
}

#[test]
fn every_recorded_host_is_judged_as_expected() {
    let hosts = all();
    assert!(
        hosts.len() >= 5,
        "a healthy one, a sick one, unprivileged, without systemd, and a real one: {hosts:?}"
    );
    for (name, path) in hosts {
        let mut settings = insta::Settings::new();
        settings.set_snapshot_path("hosts");
        settings.set_prepend_module_to_snapshot(false);
        settings.set_omit_expression(true);
        settings.bind(|| insta::assert_snapshot!(name.as_str(), expectation(&replay(&path).report)));
    }
}

fn outcomes(name: &str) -> BTreeMap<String, Outcome> {
    let checks = replay(&all()[name]).report.checks;
    checks.into_iter().map(|check| (check.id, check.outcome)).collect()
}

#[test]
fn the_healthy_host_is_healthy_and_each_check_finds_fault_with_a_sick_one() {
    let worst = outcomes("healthy-debian").into_values().max();
    assert_eq!(worst, Some(Outcome::Note));
    let (debian, rhel) = (outcomes("sick-debian"), outcomes("sick-rhel"));
    let is_bad = |outcome: &Outcome| matches!(outcome, Outcome::Warn | Outcome::Fail);
    let blind: Vec<_> =
        debian.iter().filter(|(id, outcome)| !is_bad(outcome) && !is_bad(&rhel[*id])).collect();
    assert!(blind.is_empty(), "{blind:?}");
}

#[test]
fn what_a_user_may_not_see_is_never_called_fine() {
    let seen = outcomes("unprivileged");
    for id in [
        "system-security-modules",
        "disk-mounts",
        "disk-latency",
        "disk-health",
        "network-listeners",
        "network-firewall",
        "process-limits",
        "runtime-versions",
        "runtime-iggy-process",
        "runtime-iggy-health",
        "runtime-iggy-config",
        "runtime-iggy-data",
        "runtime-connectors",
        "kernel-log",
        "certificates-files",
        "certificates-served",
        "logs-iggy",
        "logs-connectors",
        "logs-warden",
        "logs-journal",
        "logs-crashes",
        "warden-self",
        "warden-setup",
        "warden-recorder",
    ] {
        assert!(matches!(seen[id], Outcome::Note | Outcome::Unknown), "{id}: {:?}", seen[id]);
    }
}

#[test]
fn a_strained_host_is_warned_of_and_a_notable_one_only_noted() {
    let worst = |name| outcomes(name).into_values().max();
    assert_eq!(
        (worst("strained-debian"), worst("notable-ubuntu")),
        (Some(Outcome::Warn), Some(Outcome::Note))
    );
}

fn outcomes_of_all_hosts() -> BTreeMap<String, BTreeSet<Outcome>> {
    let mut seen: BTreeMap<String, BTreeSet<Outcome>> = BTreeMap::new();
    for check in all().values().flat_map(|path| replay(path).report.checks) {
        seen.entry(check.id).or_default().insert(check.outcome);
    }
    seen
}

#[test]
fn every_check_passes_somewhere_and_warns_somewhere_else() {
    let seen = outcomes_of_all_hosts();
    let good =
        |outcomes: &BTreeSet<Outcome>| outcomes.contains(&Outcome::Pass) || outcomes.contains(&Outcome::Note);
    let bad =
        |outcomes: &BTreeSet<Outcome>| outcomes.contains(&Outcome::Warn) || outcomes.contains(&Outcome::Fail);
    let never_good: Vec<_> = seen.iter().filter(|(_, outcomes)| !good(outcomes)).map(|(id, _)| id).collect();
    let never_bad: Vec<_> = seen.iter().filter(|(_, outcomes)| !bad(outcomes)).map(|(id, _)| id).collect();
    assert!(
        never_good.is_empty() && never_bad.is_empty(),
        "never pass: {never_good:?}\nnever warn: {never_bad:?}"
    );
}

#[test]
fn every_verdict_of_every_check_is_the_outcome_on_some_host() {
    let seen = outcomes_of_all_hosts();
    let mut missing = Vec::new();
    for check in warden_checks::CHECKS {
        let source = product_source(check.id);
        let can_be =
            SIGNS_OF_A_VERDICT.iter().filter(|(_, signs)| signs.iter().any(|sign| source.contains(sign)));
        let never_is = can_be.filter(|(outcome, _)| !seen[check.id].contains(outcome));
        missing.extend(never_is.map(|(outcome, _)| format!("{}: {}", check.id, outcome.name())));
    }
    assert!(missing.is_empty(), "no recorded host has these outcomes:\n{}", missing.join("\n"));
}

/// What the source of a check holds when it can come to a verdict; it can always pass.
const SIGNS_OF_A_VERDICT: [(Outcome, &[&str]); 5] = [
    (Outcome::Pass, &[""]),
    (Outcome::Skip, &["Finding::skip("]),
    (Outcome::Note, &[".note(", "Verdict::Note"]),
    (Outcome::Warn, &[".warn(", "Verdict::Warn"]),
    (Outcome::Fail, &[".fail(", "Verdict::Fail"]),
];

/// The file of a check, and those of the folder of its name, without their tests.
fn product_source(id: &str) -> String {
    let name = id.replace('-', "_");
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("checks/src/catalog");
    let below = std::fs::read_dir(catalog.join(&name)).into_iter().flatten();
    let files = below.map(|entry| entry.unwrap().path()).chain([catalog.join(format!("{name}.rs"))]);
    let files = files.filter(|file| !file.ends_with("tests.rs"));
    let texts = files.map(|file| std::fs::read_to_string(file).unwrap());
    texts.map(|text| text.split("#[cfg(test)]").next().unwrap().to_owned()).collect()
}

#[test]
fn what_a_check_asks_is_what_its_row_declares() {
    for (name, path) in all() {
        assert_eq!(undeclared(&path), Vec::<String>::new(), "on {name}");
    }
}

fn undeclared(path: &Path) -> Vec<String> {
    use std::sync::Arc;
    use std::time::{Duration, Instant};

    use warden_checks::CHECKS;
    use warden_host::{Host, Source};

    let source: Arc<dyn Source> = Arc::new(warden::snapshot::host::open(path).unwrap().0);
    let mut found = Vec::new();
    for check in CHECKS {
        let host = Host::new(Arc::clone(&source), Instant::now() + Duration::from_secs(60));
        let _ = (check.run)(&host);
        for request in host.asked().lock().unwrap().iter() {
            if !check.reads.iter().any(|read| read.covers(request)) {
                found.push(format!("{} asks for {request:?}, which its row does not declare", check.id));
            }
        }
    }
    found
}
