//! What an operator does on the Supervisor's host: backup, restore, another administrator's key. The program itself.

use std::io::{BufRead, BufReader, Read};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::Backend;
use super::served::Served;
use crate::support::until;

/// A host with a configuration of its own and nothing else.
struct Host {
    folder: tempfile::TempDir,
    port: u16,
}

/// A program that runs until the end of the test.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

impl Running {
    fn end(mut self, signal: Signal) {
        kill(Pid::from_raw(i32::try_from(self.0.id()).unwrap()), signal).unwrap();
        self.0.wait().unwrap();
    }
}

impl Host {
    fn new() -> Host {
        let folder = tempfile::tempdir().unwrap();
        let [state, run] = ["agent", "run"].map(|name| folder.path().join(name));
        let settings =
            format!("[agent]\nstate_directory = {state:?}\nruntime_directory = {run:?}\nproxy = \"none\"\n");
        std::fs::write(folder.path().join("warden.toml"), settings).unwrap();
        // Free a moment ago; the nodes must find the restored one where the old one was.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        Host { folder, port }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn url(&self) -> String {
        format!("http://127.0.0.1:{}", self.port)
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
        command.args(arguments).env_clear().env("HOME", self.folder.path()).current_dir(self.folder.path());
        command.stdin(Stdio::null());
        command
    }

    fn run(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// What a verb of the Supervisor says that must succeed.
    fn says(&self, arguments: &[&str]) -> String {
        let output = self.upkeep(arguments);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn upkeep(&self, arguments: &[&str]) -> Output {
        self.run(&[&["supervisor"], arguments, &["--config", "."]].concat())
    }

    /// Starts the Supervisor on `data`; with what it prints at the first start.
    fn supervisor(&self, data: &str) -> (Running, String) {
        let listen = format!("127.0.0.1:{}", self.port);
        let mut command =
            self.command(&["supervisor", "--config", ".", "--data-dir", data, "--listen", &listen]);
        let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        let (mut out, err) = (child.stdout.take().unwrap(), BufReader::new(child.stderr.take().unwrap()));
        let running = Running(child);
        let log: Vec<String> = std::thread::spawn(move || {
            let mut lines = err.lines().map(Result::unwrap);
            let mut told: Vec<String> = Vec::new();
            while !told.last().is_some_and(|line| line.contains("listens on")) {
                told.push(lines.next().unwrap_or_else(|| panic!("it ended: {told:?}")));
            }
            // Read on, so that it never waits for somebody to take its lines.
            std::thread::spawn(move || lines.for_each(drop));
            told
        })
        .join()
        .unwrap();
        assert!(!log.is_empty());
        let mut line = vec![0; 256];
        let is_first = !self.path("token").exists();
        let read = if is_first { out.read(&mut line).unwrap() } else { 0 };
        (running, String::from_utf8_lossy(&line[..read]).into_owned())
    }

    fn ctl(&self, key: &str, arguments: &[&str]) -> Output {
        let mut command = self.command(&[&["ctl"], arguments].concat());
        command.env("WARDEN_URL", self.url()).env("WARDEN_API_KEY", key).output().unwrap()
    }

    fn json(&self, key: &str, arguments: &[&str]) -> Value {
        let output = self.ctl(key, &[arguments, &["--json"]].concat());
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        serde_json::from_slice(&output.stdout).unwrap()
    }

    fn agent(&self) -> Running {
        let mut command = self.command(&["agent", "--config", "."]);
        Running(command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap())
    }
}

fn key_in(printed: &str) -> String {
    let line = printed.lines().next().unwrap();
    line.strip_prefix("administrator key, shown this once: ").unwrap_or_else(|| panic!("{line}")).to_owned()
}

fn error(output: &Output) -> (Option<i32>, String) {
    assert_eq!(output.stdout, b"", "{output:?}");
    (output.status.code(), String::from_utf8(output.stderr.clone()).unwrap())
}

fn mode(path: &Path) -> u32 {
    std::fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// When the node said last what it is, which is with every connection.
fn connected(host: &Host, key: &str) -> Option<String> {
    let output = host.ctl(key, &["nodes", "list", "--json"]);
    let nodes: Value = serde_json::from_slice(&output.stdout).ok()?;
    nodes["items"][0]["connected_at"].as_str().map(str::to_owned)
}

#[test]
fn a_supervisor_that_is_lost_is_restored_from_its_backup_and_its_node_comes_back() {
    let host = Host::new();
    let (supervisor, printed) = host.supervisor("old");
    let key = key_in(&printed);
    assert_eq!(host.ctl(&key, &["deployments", "create", "events-prod"]).status.code(), Some(0));
    assert_eq!(host.ctl(&key, &["enrolments", "create", "--into", "token"]).status.code(), Some(0));
    let enrolled = host.run(&["enroll", &host.url(), "--token-file", "token", "--config", "."]);
    assert_eq!(enrolled.status.code(), Some(0), "{enrolled:?}");
    let _agent = host.agent();
    let before = until("the node is connected", || connected(&host, &key));

    // While it runs.
    let said = host.says(&["backup", "backup.sqlite", "--data-dir", "old"]);
    assert!(said.starts_with("backup.sqlite: 1 deployment, 1 node, 1 key; "), "{said}");
    assert!(said.contains("\n  old/objects\n      0 archives of snapshots\n"), "{said}");
    assert_eq!(mode(&host.path("backup.sqlite")), 0o600);
    let held = std::fs::read(host.path("backup.sqlite")).unwrap();
    let holds = |secret: &str| held.windows(secret.len()).any(|part| part == secret.as_bytes());
    assert!(!holds(&key), "only a hash of it");
    let token = std::fs::read_to_string(host.path("token")).unwrap();
    assert!(!holds(token.trim()));
    let refused = error(&host.upkeep(&["backup", "backup.sqlite", "--data-dir", "old"]));
    assert_eq!(refused, (Some(2), "error: backup.sqlite is there already; --replace overwrites it\n".into()));
    host.says(&["backup", "backup.sqlite", "--data-dir", "old", "--replace"]);
    let (code, told) = error(&host.upkeep(&["restore", "backup.sqlite", "--data-dir", "old", "--replace"]));
    assert_eq!(code, Some(2));
    assert!(told.starts_with("error: stop the Supervisor before its state is replaced: "), "{told}");

    supervisor.end(Signal::SIGKILL);
    std::fs::remove_dir_all(host.path("old")).unwrap();
    let said = host.says(&["restore", "backup.sqlite", "--data-dir", "new"]);
    assert!(said.starts_with("restored from backup.sqlite: 1 deployment, 1 node, 1 key; "), "{said}");
    assert_eq!(mode(&host.path("new/warden.sqlite")), 0o600);
    assert_eq!(mode(&host.path("new")), 0o700);
    let (supervisor, _) = host.supervisor("new");
    let nodes = until("the node is connected again", || {
        let again = connected(&host, &key)?;
        (again > before).then(|| host.json(&key, &["nodes", "list"]))
    });
    assert_eq!(nodes["items"][0]["status"], "online");
    let audit = host.json(&key, &["audit", "list", "--action", "supervisor.restore"]);
    assert_eq!(audit["total_results"], 1, "{audit:#}");

    // A state that is there is not lost by a restore.
    supervisor.end(Signal::SIGTERM);
    let refused = error(&host.upkeep(&["restore", "backup.sqlite", "--data-dir", "new"]));
    let told =
        "error: there is a state already in new; --replace puts it aside and takes that of backup.sqlite\n";
    assert_eq!(refused, (Some(2), told.to_owned()));
    let said = host.says(&["restore", "backup.sqlite", "--data-dir", "new", "--replace"]);
    assert!(said.contains("\nthe state that was here is now new/warden.sqlite.replaced\n"), "{said}");
    let (_supervisor, _) = host.supervisor("new");
    let audit = host.json(&key, &["audit", "list", "--action", "supervisor.restore"]);
    assert_eq!(audit["total_results"], 1, "the second restore began from the backup as well");
}

#[test]
fn what_is_no_backup_is_not_restored_and_changes_nothing() {
    let host = Host::new();
    let (supervisor, _) = host.supervisor("old");
    supervisor.end(Signal::SIGTERM);
    std::fs::copy(host.path("old/warden.sqlite"), host.path("raw")).unwrap();
    let kept = std::fs::read(host.path("old/warden.sqlite")).unwrap();
    std::fs::write(host.path("garbage"), "SQLite format 3\0".repeat(4096)).unwrap();
    std::fs::write(host.path("empty"), "").unwrap();
    host.says(&["backup", "whole", "--data-dir", "old"]);
    let whole = std::fs::read(host.path("whole")).unwrap();
    std::fs::write(host.path("cut"), &whole[..whole.len() / 2]).unwrap();
    for file in ["raw", "garbage", "empty", "cut", "missing"] {
        let (code, told) = error(&host.upkeep(&["restore", file, "--data-dir", "old", "--replace"]));
        let expected = if file == "missing" { "cannot read missing: " } else { "cannot be restored: " };
        assert!(code == Some(2) && told.contains(expected), "{file}: {told}");
        assert_eq!(std::fs::read(host.path("old/warden.sqlite")).unwrap(), kept, "{file}");
        let left = |name: &str| name.contains("partial") || name.contains("replaced");
        let names = std::fs::read_dir(host.path("old")).unwrap();
        let names: Vec<String> =
            names.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        assert!(!names.iter().any(|name| left(name)), "{file}: {names:?}");
    }
    let nothing = error(&host.upkeep(&["backup", "b", "--data-dir", "nowhere"]));
    assert!(
        nothing.0 == Some(2) && nothing.1.starts_with("error: there is no store at nowhere/"),
        "{nothing:?}"
    );
    assert!(!host.path("b").exists() && !host.path("nowhere").exists());
}

#[test]
fn for_postgresql_its_own_tools_are_named_and_its_password_is_not() {
    let host = Host::new();
    for verb in ["backup", "restore"] {
        let mut command = host.command(&["supervisor", verb, "file", "--config", "."]);
        let output =
            command.env("WARDEN_DATABASE_URL", "postgres://warden:canary@db/warden").output().unwrap();
        let (code, told) = error(&output);
        assert_eq!(code, Some(2));
        assert!(told.contains("pg_dump ") && told.contains("pg_restore "), "{told}");
        assert!(!told.contains("canary"), "{told}");
    }
}

#[test]
fn a_new_administrators_key_is_good_at_once_and_the_old_one_no_more() {
    let host = Host::new();
    let (_supervisor, printed) = host.supervisor("data");
    let first = key_in(&printed);
    let made = host.ctl(&first, &["keys", "create", "ops", "--administrator"]);
    let ops = String::from_utf8(made.stdout).unwrap().trim().to_owned();
    let may = |key: &str| host.ctl(key, &["keys", "list"]).status.code() == Some(0);

    let output = host.upkeep(&["rotate-admin-key", "--data-dir", "data"]);
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let second = String::from_utf8(output.stdout).unwrap().trim().to_owned();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(said.starts_with("key ") && said.ends_with(" is valid; 1 old key removed\n"), "{said}");
    assert_eq!((may(&first), may(&second), may(&ops)), (false, true, true));

    let said = host.says(&["rotate-admin-key", "--data-dir", "data", "--into", "admin.key", "--keep-old"]);
    assert_eq!(said, "written to admin.key\n");
    let third = std::fs::read_to_string(host.path("admin.key")).unwrap();
    assert_eq!(mode(&host.path("admin.key")), 0o600);
    assert_eq!((may(&second), may(third.trim())), (true, true));

    // Where the new one cannot be written, the old ones are as good as before.
    let (code, told) = error(&host.upkeep(&["rotate-admin-key", "--data-dir", "data", "--into", "no/where"]));
    assert!(code == Some(2) && told.starts_with("error: the old keys are still valid: "), "{told}");
    assert_eq!((may(&second), may(third.trim())), (true, true));
    let audit = host.json(third.trim(), &["audit", "list", "--action", "api_key.remove"]);
    assert_eq!(audit["items"][0]["actor_type"], "supervisor");

    let (code, told) = error(&host.upkeep(&["rotate-admin-key", "--data-dir", "nowhere"]));
    assert!(code == Some(2) && told.starts_with("error: there is no store at nowhere/"), "{told}");
}

#[tokio::test(flavor = "multi_thread")]
async fn in_postgresql_the_administrators_key_is_replaced_as_well() {
    let backend = Backend::postgres();
    let Backend::Postgres { url, .. } = &backend else { panic!("it is PostgreSQL") };
    let (served, host) = (Served::start(&backend).await, Host::new());
    let mut command = host.command(&["supervisor", "rotate-admin-key", "--config", "."]);
    let output = command.env("WARDEN_DATABASE_URL", url).output().unwrap();
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let new = String::from_utf8(output.stdout).unwrap();
    assert_eq!(served.get("/api_keys").await.status, 401);
    let headers = [("ld-api-key", new.trim())];
    assert_eq!(served.call(axum::http::Method::GET, "/api_keys", &headers, "").await.status, 200);
    served.stop().await;
}
