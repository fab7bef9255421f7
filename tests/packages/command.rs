//! From an installed package to a restart that was asked for elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::process::Output;

use serde_json::Value;

use crate::support::pki::Authority;
use crate::support::sandbox::Sandbox;
use crate::support::until;

const KEY_FILE: &str = "/var/lib/warden-supervisor/administrator.key";
const CA_FILE: &str = "/root/ca.pem";
/// Its data is somewhere that only its environment and its open files tell, which are its own to read.
const IGGY: &str = "[Service]\nUser=nobody\nExecStart=/bin/sleep infinity\n\
                    Environment=IGGY_SYSTEM_PATH=/srv/broker\n\
                    StandardOutput=append:/srv/broker/logs/iggy-server.log\n";

/// Where a snapshot of the agent is put, below the root of the sandbox.
const AGENTS: &str = "root/agent.zip";

/// Checks that the packaged agent answers otherwise than root, and why that is so.
const WITHOUT_ROOT: [(&str, &str); 1] = [(
    "network-firewall",
    "whoever may read the rules (CAP_NET_ADMIN) may change them, and an agent that could would be worth taking over",
)];
/// Shows rules to root alone, as nft does, whatever is installed on the machine of the tests.
const NFT: &str = r#"#!/bin/sh
[ "$(/usr/bin/id -u)" = 0 ] || { echo "Operation not permitted (you must be root)" >&2; exit 1; }
echo '{"nftables":[{"metainfo":{"version":"1.0.6","json_schema_version":1}}]}'
"#;
/// Checks of the moment: two snapshots one after the other differ, whoever takes them.
const AS_BUSY_AS_THE_MACHINE: [&str; 8] = [
    "cpu-load",
    "cpu-steal",
    "memory-usage",
    "memory-swap",
    "disk-latency",
    "network-tcp",
    "process-top",
    "process-states",
];

/// A host that is a node of the Supervisor on it.
pub struct Node<'a> {
    sandbox: &'a Sandbox,
    pub url: &'static str,
    pub id: String,
}

impl<'a> Node<'a> {
    /// Starts the Supervisor as it is packaged, for this host alone, and enrols the host.
    pub fn enrolled(sandbox: &'a Sandbox) -> Node<'a> {
        Node::enrolled_at(sandbox, "http://127.0.0.1:7600")
    }

    /// The same with TLS, as docs/operations.md tells it.
    pub fn enrolled_by_tls(sandbox: &'a Sandbox) -> Node<'a> {
        let authority = Authority::new("of the test");
        let served = authority.server("127.0.0.1");
        sandbox.write(CA_FILE, &authority.pem());
        sandbox.write("/etc/warden/supervisor.pem", &served.certificate);
        sandbox.write("/etc/warden/supervisor.key", &served.key);
        sandbox.run(&["chown", "root:warden-supervisor", "/etc/warden/supervisor.key"]);
        sandbox.run(&["chmod", "640", "/etc/warden/supervisor.key"]);
        sandbox.write(
            "/etc/warden/warden.d/supervisor.toml",
            "[supervisor]\nlisten = \"0.0.0.0:7600\"\ntls_certificate = \"/etc/warden/supervisor.pem\"\n\
             tls_key = \"/etc/warden/supervisor.key\"\n",
        );
        Node::enrolled_at(sandbox, "https://127.0.0.1:7600")
    }

    fn enrolled_at(sandbox: &'a Sandbox, url: &'static str) -> Node<'a> {
        sandbox.run(&["mkdir", "-p", "/srv/broker/streams", "/srv/broker/logs"]);
        sandbox.run(&["chown", "-R", "nobody", "/srv/broker"]);
        sandbox.run(&["chmod", "-R", "u=rwX,go=", "/srv/broker"]);
        sandbox.unit("iggy.service", IGGY);
        sandbox.run(&["systemctl", "start", "iggy.service"]);
        sandbox.run(&["systemctl", "enable", "--now", "warden-supervisor.service"]);
        assert_eq!(sandbox.run(&["stat", "--format=%a %U", KEY_FILE]), "600 warden-supervisor");
        let said = sandbox.run(&["journalctl", "--unit=warden-supervisor", "--output=cat"]);
        assert!(!said.contains(sandbox.read(KEY_FILE).trim()), "the key is in the journal");

        let mut node = Node { sandbox, url, id: String::new() };
        node.says(&["deployments", "create", "events"]);
        node.says(&["enrolments", "create", "--into", "/root/token"]);
        // What runs here in Iggy's place answers nobody.
        sandbox.write("/etc/warden/warden.d/60-test.toml", "[agent]\nanswer_seconds = 0\n");
        sandbox.run(&["systemctl", "restart", "warden.service"]);
        let mut enrol = vec!["warden", "enroll", url, "--token-file", "/root/token", "--json"];
        if url.starts_with("https") {
            enrol.extend(["--ca-file", CA_FILE]);
        }
        let enrolled: Value = serde_json::from_str(&sandbox.run(&enrol)).unwrap();
        enrolled["node"].as_str().unwrap().clone_into(&mut node.id);
        assert_eq!(sandbox.run(&["stat", "--format=%a %U", "/var/lib/warden/identity"]), "600 warden");
        node.linked();
        node
    }

    fn ctl(&self, arguments: &[&str]) -> Output {
        let mut command = self.sandbox.command("warden");
        command.arg("ctl").args(arguments).env("WARDEN_URL", self.url).env("WARDEN_API_KEY_FILE", KEY_FILE);
        if self.url.starts_with("https") {
            command.env("WARDEN_CA", CA_FILE);
        }
        command.output().unwrap()
    }

    fn says(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    fn lists(&self, what: &str) -> Value {
        serde_json::from_str(&self.says(&[what, "list", "--json"])).unwrap()
    }

    /// Waits until both sides say so.
    pub fn linked(&self) {
        until("the agent is connected", || {
            let output = self.sandbox.output(&["warden", "status"]);
            output.status.success().then_some(())
        });
        let listed = self.lists("nodes");
        assert_eq!(listed["items"][0]["id"].as_str(), Some(&*self.id));
        assert_eq!(listed["items"][0]["status"], "online");
    }

    /// Asks for a restart of iggy, which must come about, once, by an agent that is not root.
    pub fn restarts_iggy(&self) {
        let sandbox = self.sandbox;
        let agent = sandbox.property("warden.service", "MainPID");
        assert_eq!(sandbox.run(&["ps", "-o", "user=", "-p", &agent]), "warden");
        let before = sandbox.property("iggy.service", "MainPID");
        let invocation = sandbox.property("iggy.service", "InvocationID");
        let told = self.says(&["restart", "iggy", "--wait"]);
        let after = sandbox.property("iggy.service", "MainPID");
        assert_ne!(before, after);
        assert_ne!(sandbox.property("iggy.service", "InvocationID"), invocation);
        let ended = format!("iggy.service is active (running), main PID {after}, took ");
        assert!(told.starts_with("completed  ") && told.contains(&ended), "{told}");
        assert!(told.ends_with("restart of iggy: 1 completed\n"), "{told}");
        let status = sandbox.run(&["warden", "status"]);
        assert!(status.contains(&format!("iggy.service, main PID {after}, since ")), "{status}");
    }

    /// The agent ends as soon as it is told to, and says so.
    pub fn stops_in_order(&self) {
        self.sandbox.run(&["systemctl", "stop", "warden.service"]);
        assert_eq!(self.sandbox.property("warden.service", "Result"), "success");
        assert_eq!(self.sandbox.property("warden.service", "ExecMainStatus"), "0");
        assert_eq!(self.sandbox.property("iggy.service", "ActiveState"), "active");
        let output = self.sandbox.output(&["warden", "status"]);
        assert_eq!(output.status.code(), Some(3));
        let told = String::from_utf8(output.stdout).unwrap();
        assert!(told.starts_with("the agent does not run; start it: systemctl start warden\n"), "{told}");
        self.sandbox.run(&["systemctl", "start", "warden.service"]);
        self.linked();
    }

    /// A snapshot that the confined agent takes says what one says that root takes: each check that does not has its
    /// reason in [`WITHOUT_ROOT`].
    pub fn sees_what_root_sees(&self) {
        let sandbox = self.sandbox;
        sandbox.write("/usr/sbin/nft", NFT);
        sandbox.run(&["chmod", "755", "/usr/sbin/nft"]);
        self.takes_a_snapshot();
        sandbox.run(&["warden", "snapshot", "--fail-on=never", "--quiet", "-o", "/root/root.zip"]);
        let (agent, root) = (judged(sandbox, AGENTS), judged(sandbox, "root/root.zip"));
        assert_eq!(agent.keys().collect::<Vec<_>>(), root.keys().collect::<Vec<_>>());

        let unseen = |check: &Value| ["unknown", "timed_out"].contains(&check["outcome"].as_str().unwrap());
        let mut differing = BTreeSet::new();
        for (id, agents) in &agent {
            let roots = &root[id];
            let same = match AS_BUSY_AS_THE_MACHINE.contains(&id.as_str()) {
                true => unseen(agents) == unseen(roots),
                false => agents["outcome"] == roots["outcome"],
            };
            if !same {
                differing.insert(id.as_str());
            }
        }
        let reasons: BTreeSet<&str> = WITHOUT_ROOT.iter().map(|(id, _)| *id).collect();
        let told = |id: &&str| format!("{id}:\n  {:#}\n  {:#}", agent[*id], root[*id]);
        let unexpected: Vec<String> = differing.symmetric_difference(&reasons).map(told).collect();
        assert!(unexpected.is_empty(), "{}", unexpected.join("\n"));

        let mounts = agent["disk-mounts"]["summary"].as_str().unwrap();
        assert!(mounts.starts_with("/srv/broker is on overlay (sandbox), mounted at / with rw,"), "{mounts}");
    }

    /// Has the agent take a snapshot, and puts it where [`AGENTS`] is.
    fn takes_a_snapshot(&self) {
        // Systemd shows it to the agent read-only; it is meant to be written, and is.
        self.sandbox.write("/etc/fstab", "sandbox / overlay defaults 0 0\n");
        self.says(&["snapshots", "create", "--without-iggy", "--wait"]);
        let id = self.lists("snapshots")["items"][0]["id"].as_str().unwrap().to_owned();
        self.says(&["snapshots", "download", &id, "--output", &format!("/{AGENTS}")]);
    }

    /// A snapshot of an agent that was denied what the package gives it says what it does not know, and nothing false.
    pub fn tells_what_it_may_not_see(&self) {
        let sandbox = self.sandbox;
        let place = "/etc/systemd/system/warden.service.d/50-test.conf";
        sandbox.write(place, "[Service]\nAmbientCapabilities=\nCapabilityBoundingSet=\n");
        sandbox.run(&["systemctl", "daemon-reload"]);
        sandbox.run(&["systemctl", "restart", "warden.service"]);
        self.linked();
        self.takes_a_snapshot();
        let mounts = &judged(sandbox, AGENTS)["disk-mounts"];
        assert_eq!(mounts["outcome"], "note", "{mounts:#}");
        let told =
            "what is read-only here may be so for Warden alone, which can be confined: /proc/1/mountinfo: ";
        assert!(mounts["problems"].to_string().contains(told), "{mounts:#}");
        let told = sandbox.run(&["warden", "doctor"]);
        let line = "warn     rights         the agent has no CAP_DAC_READ_SEARCH and no CAP_SYS_PTRACE: ";
        assert!(told.contains(line), "{told}");
        sandbox.run(&["rm", place]);
        sandbox.run(&["systemctl", "daemon-reload"]);
        sandbox.run(&["systemctl", "restart", "warden.service"]);
        self.linked();
    }

    /// Requests in the agent's ledger, whatever became of them.
    pub fn activities(&self) -> u64 {
        self.lists("activities")["total_results"].as_u64().unwrap()
    }
}

/// The checks in the report of a bundle, by id.
fn judged(sandbox: &Sandbox, bundle: &str) -> BTreeMap<String, Value> {
    let mut bundle = zip::ZipArchive::new(File::open(sandbox.root().join(bundle)).unwrap()).unwrap();
    let report: Value = serde_json::from_reader(bundle.by_name("report.json").unwrap()).unwrap();
    let checks = report["checks"].as_array().unwrap().iter();
    checks.map(|check| (check["id"].as_str().unwrap().to_owned(), check.clone())).collect()
}
