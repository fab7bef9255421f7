//! Hosts larger than most: time and size stay bounded.

use std::fmt::Write;
use std::path::Path;

use warden::snapshot::bundle::Bundle;
use warden::snapshot::report::Outcome;
use warden_host::{Data, Request, Sample, Samples};

/// The healthy host, with some answers put in place of its own.
fn healthy_but(folder: &Path, answers: &[(Request, Data)]) {
    let healthy = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/hosts/healthy-debian");
    copy(&healthy, folder);
    for (request, data) in answers {
        let (kind, name) = request.key();
        let place = folder.join(".host").join(kind).join(format!("{}.json", name.trim_start_matches('/')));
        std::fs::create_dir_all(place.parent().unwrap()).unwrap();
        let record = serde_json::json!({ "request": request, "answer": data });
        std::fs::write(place, record.to_string()).unwrap();
    }
}

fn copy(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let place = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy(&entry.path(), &place);
        } else {
            std::fs::copy(entry.path(), place).unwrap();
        }
    }
}

fn sample(path: &str, first: String, second: String) -> (Request, Data) {
    let files = vec![Sample { path: path.to_owned(), first: Some(first), second: Some(second) }];
    (
        Request::Sample { pattern: path.to_owned() },
        Data::Samples(Samples { elapsed_us: 250_000, files, left_out: 0 }),
    )
}

#[test]
fn fifteen_hundred_cores_and_twenty_thousand_processes_make_an_ordinary_report() {
    let stat = |busy: u64| {
        let mut text = format!("cpu  {} 0 0 {} 0 0 0 0 0 0\n", busy * 1500, 90_000_000);
        for core in 0..1500 {
            writeln!(text, "cpu{core} {busy} 0 0 60000 0 0 0 0 0 0").unwrap();
        }
        text + "ctxt 1\nbtime 1795000000\nprocesses 9\nprocs_running 1\nprocs_blocked 0\n"
    };
    let process = |pid: u32, ticks: u64| {
        format!(
            "{pid} (worker (x)) S 1 {pid} {pid} 0 -1 4194560 0 0 0 0 {ticks} 0 0 0 20 0 3 0 4567 1000 250 0\n"
        )
    };
    let processes = (2..20_000).map(|pid| Sample {
        path: format!("/proc/{pid}/stat"),
        first: Some(process(pid, 5)),
        second: Some(process(pid, 5)),
    });
    let pattern = "/proc/[pid]/stat".to_owned();
    let processes = Data::Samples(Samples { elapsed_us: 250_000, files: processes.collect(), left_out: 0 });
    let folder = tempfile::tempdir().unwrap();
    healthy_but(
        folder.path(),
        &[sample("/proc/stat", stat(1000), stat(1010)), (Request::Sample { pattern }, processes)],
    );
    let snapshot = crate::hosts::replay(folder.path());
    for check in &snapshot.report.checks {
        let told = !matches!(check.outcome, Outcome::TimedOut | Outcome::Panicked | Outcome::Unknown);
        assert!(told, "{}: {}", check.id, check.summary);
    }
    let page = Bundle::new(&snapshot).unwrap();
    let size = page.file("report.html").unwrap().len();
    assert!(size < 2 << 20, "the page has {size} bytes");
}
