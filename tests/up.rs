//! `warden up`: a Supervisor and its own host, in one process.

use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::process::{Child, ChildStderr, ChildStdout, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;
use warden_host::recorder::Recording;

use crate::support::until;

fn warden(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
    command.args(arguments).env_clear().env("PATH", "/usr/bin:/bin").env("HOME", folder).stdin(Stdio::null());
    command
}

struct Up {
    child: Child,
    out: BufReader<ChildStdout>,
    log: Option<ChildStderr>,
}

impl Up {
    fn start(folder: &Path, more: &[&str]) -> Up {
        let (config, dir) = (folder.to_str().unwrap(), folder.join("state"));
        let mut command = warden(folder, &["up", "--config", config, "--listen", "127.0.0.1:0", "--dir"]);
        let command = command.arg(dir).args(more).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let log = child.stderr.take();
        Up { child, out, log }
    }

    fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line
    }

    /// The node, its deployment, and the address of the API.
    fn told(&mut self) -> (String, String, String) {
        let line = self.line();
        let rest = line.strip_prefix("this host is node ").unwrap_or_else(|| panic!("{line}"));
        let (node, rest) = rest.split_once(" of deployment ").unwrap();
        let (deployment, rest) = rest.split_once("; the API is at ").unwrap();
        let (url, rest) = rest.split_once(", told at ").unwrap();
        assert_eq!(rest, format!("{url}/docs\n"));
        (node.to_owned(), deployment.to_owned(), url.to_owned())
    }

    /// The exit code, and the log.
    fn stop(mut self) -> (Option<i32>, String) {
        kill(Pid::from_raw(i32::try_from(self.child.id()).unwrap()), Signal::SIGTERM).unwrap();
        self.ended()
    }

    fn ended(&mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.log.take().unwrap().read_to_string(&mut log).unwrap();
        (self.child.wait().unwrap().code(), log)
    }
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn ctl(folder: &Path, url: &str, key: &str, arguments: &[&str]) -> Output {
    let mut command = warden(folder, &["ctl"]);
    command.args(arguments).env("WARDEN_URL", url).env("WARDEN_API_KEY", key).output().unwrap()
}

#[test]
fn one_command_makes_a_whole_system_of_one_host_and_the_next_start_finds_it_again() {
    let home = tempfile::tempdir().unwrap();
    let mut up = Up::start(home.path(), &[]);
    let key = up.line();
    let key = key.trim().strip_prefix("administrator key, shown this once: ").unwrap().to_owned();
    let (node, deployment, url) = up.told();
    let nodes: Value = until("the node is online", || {
        let output = ctl(home.path(), &url, &key, &["nodes", "list", "--json"]);
        let nodes: Value = serde_json::from_slice(&output.stdout).ok()?;
        (nodes["items"][0]["status"] == "online").then_some(nodes)
    });
    assert_eq!(
        (&nodes["total_results"], nodes["items"][0]["id"].as_str().unwrap().to_owned()),
        (&Value::from(1), node.clone())
    );

    let asked = ["snapshots", "create", "--without-iggy", "--wait"];
    let made = ctl(home.path(), &url, &key, &asked);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let audit = ctl(home.path(), &url, &key, &["audit", "list", "--json"]);
    let audit: Value = serde_json::from_slice(&audit.stdout).unwrap();
    let did = |action: &str, actor: &str| {
        audit["items"].as_array().unwrap().iter().any(|e| e["action"] == action && e["actor_type"] == actor)
    };
    assert!(did("deployment.create", "supervisor") && did("enrolment.create", "supervisor"), "{audit:#}");
    let (code, log) = up.stop();
    assert_eq!(code, Some(0), "{log}");
    assert!(!log.contains("ERROR") && !log.contains(&key[key.len() - 40..]), "{log}");

    let mut again = Up::start(home.path(), &[]);
    let (same_node, same_deployment, url) = again.told();
    assert_eq!((same_node, same_deployment), (node, deployment), "and no key is shown");
    until("it links again", || {
        let output = ctl(home.path(), &url, &key, &["nodes", "list", "--json"]);
        let nodes: Value = serde_json::from_slice(&output.stdout).ok()?;
        (nodes["items"][0]["status"] == "online").then_some(())
    });
    assert_eq!(again.stop().0, Some(0));
}

/// What the check says of the flight recorder, and of what it drew charts.
fn recorder(report: &Value) -> (String, Vec<String>) {
    let checks = report["checks"].as_array().unwrap();
    let check = checks.iter().find(|check| check["id"] == "warden-recorder").unwrap();
    let charts = check["evidence"].as_array().unwrap().iter().filter(|one| one["kind"] == "series");
    let titles = charts.map(|chart| chart["title"].as_str().unwrap().to_owned());
    (check["summary"].as_str().unwrap().to_owned(), titles.collect())
}

#[test]
fn status_and_snapshots_are_those_of_the_agent_in_the_folder() {
    let home = tempfile::tempdir().unwrap();
    let (config, dir) = (home.path().to_str().unwrap(), home.path().join("state"));
    let dir_text = dir.to_str().unwrap();
    let status = |arguments: &[&str]| {
        let output = warden(home.path(), &["status"]).args(arguments).output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, told) = status(&["--config", config, "--dir", dir_text]);
    let start = format!("the agent does not run; start it: warden up --dir {dir_text}\n");
    assert_eq!((code, told.starts_with(&start)), (Some(3), true), "{told}");

    let mut up = Up::start(home.path(), &[]);
    let key = up.line();
    let key = key.trim().strip_prefix("administrator key, shown this once: ").unwrap().to_owned();
    let (node, .., url) = up.told();
    until("status tells that it is connected", || {
        let (code, told) = status(&["--config", config, "--dir", dir_text]);
        (code == Some(0)).then(|| assert!(told.contains(&format!(" as node {node}, since ")), "{told}"))
    });
    until("two samples are recorded", || {
        let files = std::fs::read_dir(dir.join("agent/recorder")).ok()?;
        let files = files.map(|file| std::fs::read_to_string(file.unwrap().path()).unwrap());
        let recording = files.fold(Recording::default(), |mut recording, text| {
            recording.read(&text);
            recording
        });
        (recording.samples.len() >= 2).then_some(())
    });

    let made = ctl(home.path(), &url, &key, &["snapshots", "create", "--without-iggy", "--wait"]);
    assert_eq!(made.status.code(), Some(0), "{}", String::from_utf8_lossy(&made.stderr));
    let list = ctl(home.path(), &url, &key, &["snapshots", "list", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let (id, bundle) = (list["items"][0]["id"].as_str().unwrap().to_owned(), home.path().join("bundle.zip"));
    let fetched =
        ctl(home.path(), &url, &key, &["snapshots", "download", &id, "--output", bundle.to_str().unwrap()]);
    assert_eq!(fetched.status.code(), Some(0), "{}", String::from_utf8_lossy(&fetched.stderr));
    let mut bundle = zip::ZipArchive::new(std::fs::File::open(bundle).unwrap()).unwrap();
    let by_agent = recorder(&serde_json::from_reader(bundle.by_name("report.json").unwrap()).unwrap());

    let by_hand = |arguments: &[&str]| {
        let mut command = warden(home.path(), &["snapshot", "--only=warden-recorder", "--output=-"]);
        let output = command.args(["--format=json", "--fail-on=never"]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        recorder(&serde_json::from_slice(&output.stdout).unwrap())
    };
    let by_folder = by_hand(&["--config", config, "--dir", dir_text]);
    let settings = format!("[agent]\nstate_directory = {:?}\n", dir.join("agent"));
    std::fs::write(home.path().join("warden.toml"), settings).unwrap();
    let by_configuration = by_hand(&["--config", config]);
    for (summary, charts) in [by_agent, by_folder, by_configuration] {
        assert!(summary.contains(" of the last 1 d recorded, "), "{summary}");
        assert!(charts.iter().any(|title| title == "Memory available, least"), "{charts:?}");
    }
    assert_eq!(up.stop().0, Some(0));
}

#[test]
fn a_host_that_is_a_node_elsewhere_stays_it() {
    let home = tempfile::tempdir().unwrap();
    let mut up = Up::start(home.path(), &["--deployment", "events"]);
    up.line();
    let (node, ..) = up.told();
    assert_eq!(up.stop().0, Some(0));
    std::fs::remove_dir_all(home.path().join("state/supervisor")).unwrap();

    let mut other = Up::start(home.path(), &[]);
    let (code, log) = other.ended();
    assert_eq!(code, Some(2), "{log}");
    let told = log.lines().last().unwrap();
    assert!(
        told.contains(&format!("this host is node {node} of the Supervisor at http://127.0.0.1:")),
        "{log}"
    );
    assert!(told.contains("state/agent/identity"), "{log}");
}

#[test]
fn which_deployment_must_be_said_where_there_are_several() {
    let home = tempfile::tempdir().unwrap();
    let mut up = Up::start(home.path(), &[]);
    let key = up.line();
    let key = key.trim().strip_prefix("administrator key, shown this once: ").unwrap().to_owned();
    let (.., url) = up.told();
    assert_eq!(ctl(home.path(), &url, &key, &["deployments", "create", "second"]).status.code(), Some(0));
    assert_eq!(up.stop().0, Some(0));
    std::fs::remove_dir_all(home.path().join("state/agent")).unwrap();

    let mut unsaid = Up::start(home.path(), &[]);
    let (code, log) = unsaid.ended();
    assert_eq!(code, Some(2), "{log}");
    let expected = "there are 2 deployments: say with --deployment which this host is part of";
    assert!(log.lines().last().unwrap().ends_with(expected), "{log}");

    let mut said = Up::start(home.path(), &["--deployment", "second"]);
    let (_, second, url) = said.told();
    let list = ctl(home.path(), &url, &key, &["deployments", "list", "--json"]);
    let list: Value = serde_json::from_slice(&list.stdout).unwrap();
    let is = list["items"].as_array().unwrap().iter().find(|item| item["name"] == "second").unwrap();
    assert_eq!(is["id"].as_str(), Some(&*second));
    assert_eq!(said.stop().0, Some(0));

    let (code, log) = Up::start(home.path(), &["--deployment", "third"]).ended();
    assert_eq!(code, Some(2), "{log}");
    assert!(
        log.lines().last().unwrap().contains(&format!("of deployment {second} already, which is not called")),
        "{log}"
    );
}
