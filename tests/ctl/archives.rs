//! The archives of a run: a few are fetched at once, and told in the order of the run.

use std::collections::BTreeSet;
use std::sync::{Arc, Condvar, Mutex};
use std::time::Duration;

use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use super::scripted::{Reply, Scripted};
use super::{ctl, told};
use crate::support::program::{host, warden};

/// As many as are fetched at once.
const AT_ONCE: usize = 4;
const PATIENCE: Duration = Duration::from_secs(60);

#[derive(Default)]
struct UnderWay {
    now: usize,
    most: usize,
    began: BTreeSet<usize>,
    ended: BTreeSet<usize>,
}

/// The first answers come when all of them are asked for, and that to the very first comes last.
fn wait_in_line(line: &(Mutex<UnderWay>, Condvar), archive: usize) {
    let (under_way, changed) = line;
    let mut held = under_way.lock().unwrap();
    held.now += 1;
    held.most = held.most.max(held.now);
    held.began.insert(archive);
    changed.notify_all();
    let must_wait = |seen: &mut UnderWay| {
        let others = (1..AT_ONCE).all(|other| seen.ended.contains(&other));
        archive < AT_ONCE && seen.began.len() < AT_ONCE || archive == 0 && !others
    };
    held = changed.wait_timeout_while(held, PATIENCE, must_wait).unwrap().0;
    held.now -= 1;
    held.ended.insert(archive);
    changed.notify_all();
}

#[test]
fn a_few_archives_are_fetched_at_once_and_told_in_the_order_of_the_run() {
    let home = tempfile::tempdir().unwrap();
    let made = ["snapshot", "--host", &host("healthy-debian"), "--fail-on=never", "-o", "report.json"];
    assert!(warden(&made, home.path()).status.success());
    let report = std::fs::read(home.path().join("report.json")).unwrap();
    let mut report: Value = serde_json::from_slice(&report).unwrap();
    let mut of_node = |node: usize| {
        report["host"]["name"] = format!("node-{node}").into();
        report.to_string().into_bytes()
    };
    let archives: Vec<Vec<u8>> = (0..7).map(&mut of_node).collect();
    let snapshots: Vec<Value> = (0..7)
        .map(|at| {
            let digest: String =
                Sha256::digest(&archives[at]).iter().map(|byte| format!("{byte:02x}")).collect();
            // Two are not what they should be, and the second of them comes first.
            let sha256 = if [0, 2].contains(&at) { "0".repeat(64) } else { digest };
            json!({ "id": 10 + at, "run_id": 9, "node_id": 100 + at, "name": "snapshot-20260601-103000",
                    "status": "completed", "size": archives[at].len(), "sha256": sha256 })
        })
        .collect();

    let line = Arc::new((Mutex::new(UnderWay::default()), Condvar::new()));
    let waiting = Arc::clone(&line);
    let page = |items: &[Value]| json!({ "items": items, "page": 1, "results": 100, "total_results": items.len(), "total_pages": 1 });
    let (listed, nodes) = (page(&snapshots), page(&[]));
    let server = Scripted::new(move |asked, _| {
        let path = asked.line.strip_prefix("GET ").unwrap();
        if let Some(archive) = path.strip_prefix("/objects/") {
            let archive: usize = archive.parse().unwrap();
            wait_in_line(&waiting, archive);
            return Reply::Bytes(archives[archive].clone());
        }
        if let Some(rest) = path.strip_prefix("/deployments/1/snapshots/") {
            let id: usize = rest.strip_suffix("/download").unwrap().parse().unwrap();
            let url = format!("http://{}/objects/{}", asked.header("host").unwrap(), id - 10);
            return Reply::Json(200, json!({ "url": url }));
        }
        Reply::Json(
            200,
            if path.starts_with("/deployments/1/nodes") { nodes.clone() } else { listed.clone() },
        )
    });
    let arguments = ["snapshots", "fleet", "9", "--json", "--deployment", "1", "--url", &server.url];
    let mut command = ctl(home.path(), &arguments);
    let output = command.env("WARDEN_API_KEY", "k").env("TMPDIR", home.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(1), "{}", told(&output).2);
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    let texts = |list: &str, part: &str| -> Vec<String> {
        fleet[list].as_array().unwrap().iter().map(|one| one[part].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(texts("nodes", "name"), ["node-1", "node-3", "node-4", "node-5", "node-6"]);
    assert_eq!(texts("missing", "source"), ["100", "102"]);
    assert_eq!(line.0.lock().unwrap().most, AT_ONCE);
    let left = std::fs::read_dir(home.path().join(format!("warden-{}", nix::unistd::getuid()))).unwrap();
    assert_eq!(left.count(), 0, "archives are not kept");
}
