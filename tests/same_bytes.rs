//! One recording judged twice gives the same bytes, whatever is written and however the threads fell.

use std::path::Path;
use std::process::Command;

use warden::snapshot::bundle::Bundle;

use crate::hosts::{all, replay};

/// What `warden snapshot --host HOST -o NAME` writes.
fn written(host: &Path, name: &str) -> Vec<u8> {
    let folder = tempfile::tempdir().unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "--host", host.to_str().unwrap(), "-o", name])
        .env_clear()
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    std::fs::read(folder.path().join(name)).unwrap()
}

#[test]
fn every_recorded_host_gives_the_same_archive_page_and_data_twice() {
    for (host, path) in all() {
        for name in ["a.zip", "a.html", "a.json"] {
            assert!(written(&path, name) == written(&path, name), "{name} of {host}");
        }
    }
}

#[test]
fn a_recording_of_this_host_gives_the_same_archive_twice_and_its_replay_once_more() {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let live = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "-o", path("live.zip").to_str().unwrap()])
        .env_clear()
        .output()
        .unwrap();
    assert!(live.status.success(), "{}", String::from_utf8_lossy(&live.stderr));
    let first = written(&path("live.zip"), "a.zip");
    assert!(first == written(&path("live.zip"), "a.zip"));
    std::fs::write(path("first.zip"), &first).unwrap();
    let second = written(&path("first.zip"), "a.zip");
    assert!(second == written(&path("first.zip"), "a.zip"));
}

#[test]
fn what_a_run_cost_is_told_of_a_live_host_only() {
    let (_, recorded) = all().pop_first().unwrap();
    let snapshot = replay(&recorded);
    assert_eq!(snapshot.report.run.wall_ms, None);
    assert!(snapshot.report.checks.iter().all(|check| check.cost.is_none()));
    let bundle = Bundle::new(&snapshot).unwrap();
    for name in ["report.html", "report.json", "manifest.json"] {
        let text = String::from_utf8(bundle.file(name).unwrap().to_vec()).unwrap();
        for word in ["wall_us", "wall_ms", "\"cost\"", "> took ", "<dt>Took</dt>"] {
            assert!(!text.contains(word), "{word} in {name}");
        }
    }
}
