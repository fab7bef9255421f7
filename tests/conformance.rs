//! What holds for all checks, so that the next one is like the others.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use warden_checks::CHECKS;
use warden_host::{
    Answer, Area, COMMANDS, Cause, Check, Failure, Finding, Host, Read, Recorded, Request, STATE_DIRECTORY,
    Settings, Source, Verdict,
};

#[test]
fn ids_are_unique_kebab_case_begin_with_the_area_and_name_the_file() {
    let catalog = Path::new(env!("CARGO_MANIFEST_DIR")).join("checks/src/catalog");
    let mut ids = BTreeSet::new();
    for check in CHECKS {
        let id = check.id;
        assert!(ids.insert(id), "{id} twice");
        assert!(id.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{id}");
        assert!(id.starts_with(&format!("{}-", check.area.name())), "{id}");
        let file = catalog.join(format!("{}.rs", id.replace('-', "_")));
        let folder = catalog.join(id.replace('-', "_"));
        assert!(file.is_file() || folder.is_dir(), "no {}", file.display());
    }
}

#[test]
fn every_area_has_checks_and_the_catalogue_is_grouped_by_area() {
    let areas: Vec<Area> = CHECKS.iter().map(|check| check.area).collect();
    let mut grouped = areas.clone();
    grouped.dedup();
    assert_eq!(grouped, Area::ALL, "each area once, in its order");
    assert!(CHECKS.len() >= 30);
}

#[test]
fn every_row_tells_a_person_what_why_when_and_what_to_do() {
    for check in CHECKS {
        let id = check.id;
        assert!(check.title.ends_with('?'), "{id}: the title is a question");
        assert!(
            check.why.matches(['.', ':']).count() >= 2 && check.why.ends_with('.'),
            "{id}: why, in some sentences"
        );
        assert!(!check.thresholds.is_empty() && !check.reads.is_empty(), "{id}");
        assert!(check.advice.len() > 20 && check.advice.ends_with('.'), "{id}: advice is a sentence");
        // Some wait for three timeouts of others; one check may still take no more than half of the run.
        assert!(check.deadline <= warden::config::RUN_LIMIT / 2, "{id}");
        for text in [check.title, check.why, check.advice] {
            assert!(!text.contains("  ") && !text.contains('\n'), "{id}: a broken string literal: {text:?}");
        }
        for read in check.reads {
            match read {
                Read::Command(name) => {
                    assert!(COMMANDS.iter().any(|row| row.name == *name), "{id}: no command {name}")
                }
                Read::Path(path) | Read::Tail(path) | Read::Sample(path) => {
                    assert!(path.starts_with('/') || path.starts_with("**"), "{id}: {path}")
                }
                _ => {}
            }
        }
    }
}

#[test]
fn every_command_of_the_table_is_used() {
    let used: BTreeSet<&str> = CHECKS
        .iter()
        .flat_map(|check| check.reads.iter().chain(warden_checks::iggy::READS))
        .filter_map(|read| if let Read::Command(name) = read { Some(*name) } else { None })
        .collect();
    let unused: Vec<_> = COMMANDS.iter().map(|row| row.name).filter(|name| !used.contains(name)).collect();
    assert!(unused.is_empty(), "{unused:?}");
}

/// A host that refuses everything but the facts of the run, for one reason.
struct Refusing {
    facts: Recorded,
    cause: Cause,
}

impl Source for Refusing {
    fn answer(&self, request: &Request, deadline: Instant) -> Arc<Answer> {
        match request {
            Request::Settings | Request::Clock => self.facts.answer(request, deadline),
            _ => Arc::new(Err(Failure { what: request.to_string(), cause: self.cause.clone() })),
        }
    }
}

fn on_a_host_that_refuses(
    cause: Cause,
    supervisor_url: Option<&str>,
) -> Vec<(&'static Check, warden_host::Result<Finding>)> {
    let settings = Settings {
        iggy_unit: "iggy.service".to_owned(),
        connectors_unit: "iggy-connectors.service".to_owned(),
        warden_unit: "warden.service".to_owned(),
        state_directory: STATE_DIRECTORY.to_owned(),
        supervisor_url: supervisor_url.map(str::to_owned),
        supervisor_authorities: None,
        since_seconds: 86_400,
        own_pid: 4711,
        effective_uid: 1000,
        capabilities: Vec::new(),
    };
    let facts = Recorded::new().settings(settings).at(1_795_263_000, 86_400);
    let source: Arc<dyn Source> = Arc::new(Refusing { facts, cause });
    let deadline = Instant::now() + Duration::from_secs(60);
    CHECKS.iter().map(|&check| (check, (check.run)(&Host::new(Arc::clone(&source), deadline)))).collect()
}

#[test]
fn a_host_that_shows_nothing_is_never_fine() {
    for cause in [Cause::Denied, Cause::TimedOut, Cause::Unrecorded, Cause::Other("is broken".to_owned())] {
        for (check, result) in on_a_host_that_refuses(cause.clone(), Some("https://supervisor.example:8443"))
        {
            let passes = matches!(&result, Ok(finding) if finding.verdict() == Verdict::Pass);
            assert!(!passes, "{} passes although everything is refused ({cause}): {result:?}", check.id);
        }
    }
}

#[test]
fn where_nothing_exists_nothing_passes_unseen_and_nothing_panics() {
    for cause in [Cause::Absent, Cause::Unavailable("no systemd on this host".to_owned())] {
        for (check, result) in on_a_host_that_refuses(cause.clone(), None) {
            let fails = matches!(&result, Ok(finding) if finding.verdict() == Verdict::Fail);
            assert!(!fails, "{} fails where nothing exists ({cause}): {result:?}", check.id);
        }
    }
}
