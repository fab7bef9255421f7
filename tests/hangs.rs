//! A host whose kernel does not answer: the report still comes, names what hung, and the prompt comes back.

use std::process::{Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crate::support::mount::DeadMount;

#[test]
fn a_dead_mount_is_named_the_report_comes_and_the_command_ends() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("dead");
    std::fs::create_dir(&dead).unwrap();
    let mounted = DeadMount::new(&dead);

    let report = folder.path().join("report.json");
    let child = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "--only=disk-space,cpu-load", "--output"])
        .arg(&report)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait_with_output()));
    // Standard output stays open in the child that hangs: only its parent's end counts, so the bound is generous.
    let ended = wait_for_report(&report, Duration::from_secs(50));
    assert!(ended, "no report within the limit of a run");

    let report: serde_json::Value = serde_json::from_slice(&std::fs::read(&report).unwrap()).unwrap();
    let space =
        report["checks"].as_array().unwrap().iter().find(|check| check["id"] == "disk-space").unwrap();
    // The machine that runs this may have a full disk of its own.
    let told = format!("{0} could not be measured: space {0}: no answer in time", dead.display());
    let problems = space["problems"].as_array().unwrap();
    let problem = problems.iter().find(|problem| problem["text"] == told);
    assert_eq!(problem.unwrap_or_else(|| panic!("{space:#}"))["severity"], "warn");
    drop(mounted);
    let output = receiver.recv_timeout(Duration::from_secs(20)).unwrap().unwrap();
    assert_eq!(output.status.code(), Some(0), "{}", String::from_utf8_lossy(&output.stderr));
}

pub fn wait_for_report(path: &std::path::Path, limit: Duration) -> bool {
    let began = std::time::Instant::now();
    while began.elapsed() < limit {
        if path.exists() {
            return true;
        }
        std::thread::sleep(Duration::from_millis(50));
    }
    false
}

#[test]
fn a_data_directory_that_does_not_answer_ends_the_packing_with_the_reason_and_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let (dead, bundles) = (folder.path().join("dead"), folder.path().join("bundles"));
    std::fs::create_dir(&dead).unwrap();
    std::fs::create_dir(&bundles).unwrap();
    let mounted = DeadMount::new(&dead);
    let mut child = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "--only=system-identity", "--quiet", "--inspect=off"])
        .args(["--include-iggy", "--iggy-data"])
        .arg(&dead)
        .arg("--output")
        .arg(bundles.join("bundle.zip"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(std::fs::File::create(folder.path().join("said")).unwrap())
        .spawn()
        .unwrap();
    // What packs is behind every other session, and whoever started it is not.
    let (ours, packs) = (session("self"), child.id());
    let works = crate::support::until("the packing steps back", || {
        let children = std::fs::read_to_string(format!("/proc/{packs}/task/{packs}/children")).ok()?;
        let child = children.split_whitespace().next()?.to_owned();
        session(&child).ends_with(" nice 19").then_some(child)
    });
    assert_eq!(std::fs::read_to_string(format!("/proc/{works}/comm")).unwrap(), "warden\n");
    assert_eq!((session(&packs.to_string()), session("self")), (ours.clone(), ours));
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()));
    let status = receiver.recv_timeout(Duration::from_secs(120)).expect("it gives up").unwrap();
    let said = std::fs::read_to_string(folder.path().join("said")).unwrap();
    assert_eq!(status.code(), Some(2), "{said}");
    let told = format!(
        "error: the data directory {} does not answer: no sign of it for 30 s; look at its disk, or the server it is \
         mounted from, or leave out --include-iggy\n",
        dead.display()
    );
    assert_eq!(said, told);
    assert_eq!(std::fs::read_dir(&bundles).unwrap().count(), 0);
    drop(mounted);
}

/// The scheduler's group of a process, and how nice that is. A kernel that knows none would have nothing to show here.
fn session(process: &str) -> String {
    std::fs::read_to_string(format!("/proc/{process}/autogroup")).unwrap_or_default().trim_end().to_owned()
}

#[test]
fn the_prompt_comes_back_while_a_thread_still_hangs_in_the_kernel() {
    let folder = tempfile::tempdir().unwrap();
    let dead = folder.path().join("dead");
    std::fs::create_dir(&dead).unwrap();
    let mounted = DeadMount::new(&dead);
    let mut child = Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(["snapshot", "--fail-on=never", "--only=disk-space", "--quiet", "--output"])
        .arg(folder.path().join("report.json"))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || sender.send(child.wait()));
    let status = receiver
        .recv_timeout(Duration::from_secs(50))
        .expect("the command ends although a thread hangs")
        .unwrap();
    assert_eq!(status.code(), Some(0));
    drop(mounted);
}
