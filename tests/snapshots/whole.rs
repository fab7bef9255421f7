//! The whole system: three agents on hosts with networks of their own, a Supervisor over TLS, and a shell beside it.

use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value;

use super::{Node, WARDEN};
use crate::support::browser::{Script, open};
use crate::support::pki::Authority;
use crate::support::until;

/// Of the Supervisor, within its own network.
const ADDRESS: &str = "10.79.0.1";
const URL: &str = "https://10.79.0.1:7600";

/// Network namespaces, joined by a bridge in that of the Supervisor.
pub(super) struct Network {
    name: String,
    nodes: usize,
}

impl Network {
    pub(super) fn of(nodes: usize) -> Network {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::SeqCst);
        let network = Network { name: format!("warden-{}-{count}", std::process::id()), nodes };
        let all = network.space(0);
        ip(&["netns", "add", &all]);
        ip(&["-n", &all, "link", "add", "bridge", "type", "bridge"]);
        ip(&["-n", &all, "addr", "add", &format!("{ADDRESS}/24"), "dev", "bridge"]);
        for link in ["bridge", "lo"] {
            ip(&["-n", &all, "link", "set", link, "up"]);
        }
        for node in 1..=nodes {
            let (space, link) = (network.space(node), format!("to-node-{node}"));
            ip(&["netns", "add", &space]);
            ip(&["-n", &all, "link", "add", &link, "type", "veth", "peer", "name", "eth0", "netns", &space]);
            ip(&["-n", &all, "link", "set", &link, "master", "bridge", "up"]);
            ip(&["-n", &space, "addr", "add", &format!("10.79.0.{}/24", 10 + node), "dev", "eth0"]);
            for link in ["eth0", "lo"] {
                ip(&["-n", &space, "link", "set", link, "up"]);
            }
        }
        network
    }

    fn space(&self, node: usize) -> String {
        format!("{}-{node}", self.name)
    }

    /// What to put before a command so that it runs on the host of a node; 0 is that of the Supervisor.
    pub(super) fn on(&self, node: usize) -> Vec<String> {
        let named = format!("hostname node-{node}.test && exec \"$@\"");
        let before = ["ip", "netns", "exec", &self.space(node), "unshare", "--uts", "sh", "-c", &named, "sh"];
        before.map(str::to_owned).to_vec()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        for node in 0..=self.nodes {
            let _ = Command::new("ip").args(["netns", "del", &self.space(node)]).status();
        }
    }
}

fn ip(arguments: &[&str]) {
    let done = Command::new("ip").args(arguments).output().unwrap();
    assert!(done.status.success(), "ip {arguments:?}: {done:?}");
}

/// `warden supervisor` on a host of its own, and the shell of whoever runs it.
pub(super) struct Control {
    folder: tempfile::TempDir,
    before: Vec<String>,
    child: Child,
}

impl Control {
    pub(super) fn start(network: &Network) -> Control {
        let folder = tempfile::tempdir().unwrap();
        let authority = Authority::new("the test's");
        std::fs::write(folder.path().join("ca.pem"), authority.pem()).unwrap();
        let (certificate, key) = authority.server(ADDRESS).write(folder.path(), "server");
        std::fs::set_permissions(&key, std::fs::Permissions::from_mode(0o600)).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let before = network.on(0);
        let at = |name: &str| folder.path().join(name);
        let child = Command::new(&before[0])
            .args(&before[1..])
            .args([WARDEN, "supervisor", "--listen", &format!("{ADDRESS}:7600"), "--public-url", URL])
            .args([Path::new("--config"), &at("nothing"), Path::new("--data-dir"), &at("data")])
            .args([Path::new("--tls-cert"), &certificate, Path::new("--tls-key"), &key])
            .args([Path::new("--administrator-key-file"), &at("key")])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .unwrap();
        let control = Control { folder, before, child };
        until("it has started", || {
            std::fs::read(control.at("key")).ok().filter(|key| !key.is_empty()).map(drop)
        });
        control
    }

    pub(super) fn process(&self) -> u32 {
        self.child.id()
    }

    /// Where the archive of a snapshot lies.
    pub(super) fn object(&self, row: &Value) -> PathBuf {
        let id = |field: &str| row[field].as_str().unwrap().to_owned();
        self.at(&format!("data/objects/{}/{}.zip", id("deployment_id"), id("id")))
    }

    fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    pub(super) fn ctl(&self, arguments: &[&str]) -> Output {
        Command::new(&self.before[0])
            .args(&self.before[1..])
            .args([WARDEN, "ctl"])
            .args(arguments)
            .env("HOME", self.folder.path())
            .env("TMPDIR", self.folder.path())
            .env("WARDEN_URL", URL)
            .env("WARDEN_CA", self.at("ca.pem"))
            .env("WARDEN_API_KEY_FILE", self.at("key"))
            .current_dir(self.folder.path())
            .stdin(Stdio::null())
            .output()
            .unwrap()
    }

    /// What a command that must succeed printed.
    pub(super) fn says(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap().trim().to_owned()
    }

    pub(super) fn node(&self, before: Vec<String>) -> Node {
        let token = self.says(&["enrolments", "create"]);
        let ca = self.at("ca.pem").display().to_string();
        Node::enrol_on(before, &[URL, "--ca-file", &ca], &token)
    }

    /// Takes a snapshot of every node, and returns the id of the run.
    fn snapshots(&self) -> String {
        let output = self.ctl(&["snapshots", "create", "--without-iggy", "--wait"]);
        assert_eq!(output.status.code(), Some(0), "{output:?}");
        let told = String::from_utf8(output.stderr).unwrap();
        let hint =
            told.lines().find_map(|line| line.strip_prefix("side by side: warden ctl snapshots fleet "));
        hint.unwrap_or_else(|| panic!("{told}")).to_owned()
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            // What went wrong inside is shown with a test that fails.
            let log = std::fs::read(self.at("log")).unwrap_or_default();
            let _ = std::io::Write::write_all(&mut std::io::stderr(), &log);
        }
    }
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn archives_left(folder: &Path) -> usize {
    let Ok(entries) = std::fs::read_dir(folder) else { return 0 };
    entries.filter(|entry| entry.as_ref().unwrap().path().extension().is_some_and(|is| is == "zip")).count()
}

#[test]
fn one_page_shows_in_what_one_of_three_hosts_differs_and_whose_archive_is_not_as_it_was_stored() {
    let network = Network::of(3);
    let control = Control::start(&network);
    control.says(&["deployments", "create", "events-prod"]);
    let mut nodes: Vec<Node> = (1..=3).map(|node| control.node(network.on(node))).collect();
    // A parameter that each network has for itself.
    let space = network.space(3);
    ip(&["netns", "exec", &space, "sh", "-c", "echo 77 > /proc/sys/net/core/somaxconn"]);
    nodes.iter_mut().for_each(Node::start);
    let run = control.snapshots();

    let output = control.ctl(&["snapshots", "fleet", &run, "-o", "fleet.html"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let told = text(&output.stdout);
    let usual = std::fs::read_to_string("/proc/sys/net/core/somaxconn").unwrap();
    let drift =
        format!("node-3 differs from the other 2 in net.core.somaxconn: 77, the others {}\n", usual.trim());
    assert!(told.contains(&drift), "{told}");
    assert!(told.ends_with("Page written to fleet.html\n"), "{told}");
    let of_ours = control.at(&format!("warden-{}", nix::unistd::getuid()));
    assert_eq!(archives_left(&of_ours), 0, "archives are not kept");
    open(&control.at("fleet.html"), "", Script::Off, async |browser| {
        let shown = browser.shown_text("#drift").await;
        assert!(shown.contains("net.core.somaxconn") && shown.contains("77"), "{shown}");
        assert_eq!(browser.console().await, Vec::<String>::new());
    });

    // Of a run the page is opened, of one node its report.
    let opened = control.says(&["snapshots", "open", &run, "--print"]);
    assert!(opened.ends_with("-fleet.html"), "{opened}");
    let list = control.says(&["snapshots", "list", "--run", &run, "--json"]);
    let list: Value = serde_json::from_str(&list).unwrap();
    let first = &list["items"][0];
    let opened = control.says(&["snapshots", "open", first["id"].as_str().unwrap(), "--print"]);
    assert!(opened.ends_with(&format!("-{}.html", first["node_id"].as_str().unwrap())), "{opened}");
    assert!(std::fs::read_to_string(&opened).unwrap().contains("<!doctype html"), "{opened}");

    // An archive that was changed where it lies is not believed.
    let stored = control.object(first);
    let mut bytes = std::fs::read(&stored).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    std::fs::write(&stored, bytes).unwrap();
    let output = control.ctl(&["snapshots", "fleet", &run, "--json"]);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let fleet: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!(
        (fleet["nodes"].as_array().unwrap().len(), fleet["missing"].as_array().unwrap().len()),
        (2, 1)
    );
    let why = fleet["missing"][0]["why"].as_str().unwrap();
    assert!(why.starts_with("what came is not what was stored: SHA-256 "), "{why}");

    let output = control.ctl(&["snapshots", "fleet", "1"]);
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).contains("there is no run 1; "), "{output:?}");
}
