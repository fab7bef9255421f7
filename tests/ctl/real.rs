//! Against a real Supervisor: what it says, and what is shown of it.

use std::net::SocketAddr;
use std::process::Output;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use serde_json::Value;
use tokio_util::sync::CancellationToken;
use warden::config::log::LogLevel;
use warden::secret::Secret;
use warden::supervisor::settings::{Database, Limits, Metrics, ObjectStore, Settings};
use warden::supervisor::store::Store;
use warden::supervisor::store::enrolments::{self, Applicant};
use warden::supervisor::{Clock, Supervisor, upload_service};

use super::{ctl, told};

pub struct Real {
    home: tempfile::TempDir,
    url: String,
    key: String,
    store: Store,
    runtime: tokio::runtime::Runtime,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

impl Real {
    pub fn start() -> Real {
        let home = tempfile::tempdir().unwrap();
        let settings = Settings {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls: None,
            plain_beyond_loopback: false,
            public_url: None,
            trusted_proxies: Vec::new(),
            metrics: Metrics::default(),
            database: Database::Sqlite { directory: home.path().to_owned() },
            objects: ObjectStore::Folder(home.path().join("objects")),
            archives: upload_service::Limits::default(),
            limits: Limits { deadline_grace_ms: 1, ..Limits::default() },
            log: LogLevel::default(),
        };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let stop = CancellationToken::new();
        let clock: Clock = Arc::new(now);
        let supervisor = runtime.block_on(Supervisor::start(settings, clock, false, stop.clone())).unwrap();
        Real {
            home,
            url: format!("http://{}", supervisor.address),
            key: supervisor.administrator_key.as_ref().unwrap().expose().to_owned(),
            store: supervisor.store().clone(),
            running: runtime.spawn(supervisor.run()),
            runtime,
            stop,
        }
    }

    pub fn ctl_by(&self, key: &str, arguments: &[&str]) -> Output {
        let mut command = ctl(self.home.path(), arguments);
        command.env("WARDEN_URL", &self.url).env("WARDEN_API_KEY", key).output().unwrap()
    }

    pub fn ctl(&self, arguments: &[&str]) -> Output {
        self.ctl_by(&self.key, arguments)
    }

    /// What a command that must succeed printed.
    pub fn says(&self, arguments: &[&str]) -> String {
        let output = self.ctl(arguments);
        assert_eq!(output.status.code(), Some(0), "{arguments:?}: {}", told(&output).2);
        String::from_utf8(output.stdout).unwrap()
    }

    /// A node of the only deployment, enrolled and never heard since.
    pub fn node(&self, name: &str) -> u64 {
        let token = self.says(&["enrolments", "create", "--name", name]);
        let (token, credential) = (Secret::new(token.trim()).hash(), Secret::new(name).hash());
        let applicant = Applicant { hostname: "host", credential_hash: &credential, address: "127.0.0.1" };
        let enrolled = enrolments::use_token(&self.store, &token, applicant, now());
        self.runtime.block_on(enrolled).unwrap().unwrap().id
    }

    pub fn end(self) {
        self.stop.cancel();
        self.runtime.block_on(self.running).unwrap().unwrap();
    }
}

fn now() -> i64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis().try_into().unwrap()
}

/// Each digit of ids, times and request ids as a `#`, the rest as it is.
pub fn shape(text: &str) -> String {
    let hexadecimal = |word: &str| word.len() == 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let mut shown = text.to_owned();
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| hexadecimal(word)) {
        shown = shown.replace(word, "REQUEST");
    }
    let digits = |word: &str| word.len() >= 12 && word.bytes().all(|byte| byte.is_ascii_digit());
    for word in text.split(|c: char| !c.is_ascii_alphanumeric()).filter(|word| digits(word)) {
        shown = shown.replace(word, &"#".repeat(word.len()));
    }
    let time = regex::Regex::new(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d").unwrap();
    time.replace_all(&shown, "YYYY-MM-DD hh:mm:ss").into_owned()
}

#[test]
fn deployments_nodes_and_keys_are_made_listed_and_removed() {
    let real = Real::start();
    let id = real.says(&["deployments", "create", "events-prod", "--plan", "pro"]);
    assert_eq!(
        shape(&real.says(&["deployments", "list"])),
        concat!(
            "                ID  NAME         PLAN  CREATED (UTC)\n",
            "##################  events-prod  pro   YYYY-MM-DD hh:mm:ss\n",
        )
    );
    let json: Value =
        serde_json::from_str(&real.says(&["deployments", "show", id.trim(), "--json"])).unwrap();
    assert_eq!(
        (json["id"].as_str().unwrap().to_owned(), &json["plan"]),
        (id.trim().to_owned(), &Value::from("pro"))
    );

    let node = real.node("iggy-1").to_string();
    assert_eq!(
        shape(&real.says(&["nodes", "list"])),
        concat!(
            "                ID  NAME    STATUS   SEEN  AGENT  SYSTEM  ENROLLED (UTC)\n",
            "##################  iggy-1  pending                       YYYY-MM-DD hh:mm:ss\n",
        )
    );
    let shown = real.says(&["nodes", "show", &node]);
    let fields: Vec<Vec<&str>> = shown
        .lines()
        .map(|line| line.split("  ").map(str::trim).filter(|word| !word.is_empty()).collect())
        .collect();
    assert_eq!(fields[1..3], [["name", "iggy-1"], ["status", "pending"]], "{shown}");
    assert_eq!(
        shape(&real.says(&["heartbeats", "list"])),
        concat!(
            "              NODE  NAME    STATUS   TOLD  CPU  LOAD  FREE MEMORY  RUNTIMES\n",
            "##################  iggy-1  pending\n",
        )
    );
    assert_eq!(real.says(&["heartbeats", "show", &node, "iggy"]), "no heartbeats\n");

    let key = real.says(&["keys", "create", "reader", "--permission", "deployment:read", "--days", "365"]);
    let output = real.ctl_by(key.trim(), &["nodes", "delete", &node]);
    assert_eq!(output.status.code(), Some(2));
    assert!(told(&output).2.contains("permission_denied, status 403"), "{output:?}");
    assert_eq!(real.ctl_by(key.trim(), &["nodes", "list"]).status.code(), Some(0));
    let listed: Value = serde_json::from_str(&real.says(&["keys", "list", "--json"])).unwrap();
    let reader = listed["items"][0]["id"].as_str().unwrap().to_owned();
    assert_eq!(listed["items"][0]["name"], "reader");
    assert_eq!(real.says(&["keys", "delete", &reader]), format!("key {reader} removed\n"));
    let output = real.ctl_by(key.trim(), &["nodes", "list"]);
    assert!(told(&output).2.contains("status 401"), "{output:?}");

    assert_eq!(real.says(&["nodes", "delete", &node]), format!("node {node} removed\n"));
    assert_eq!(real.says(&["nodes", "list"]), "no nodes\n");
    let audit: Value = serde_json::from_str(&real.says(&["audit", "list", "--json"])).unwrap();
    let actions: Vec<_> =
        audit["items"].as_array().unwrap().iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    assert_eq!(
        actions,
        [
            "node.remove",
            "api_key.remove",
            "api_key.create",
            "node.enrol",
            "enrolment.create",
            "deployment.create",
            "api_key.create",
        ]
    );
    real.end();
}

#[test]
fn what_no_node_answers_is_told_as_rejected_and_stands_in_the_lists() {
    let real = Real::start();
    real.says(&["deployments", "create", "events-prod"]);
    let output = real.ctl(&["restart", "iggy"]);
    let expected = "error: the deployment has no nodes yet (no_nodes, status 409, ld-request REQUEST)\n";
    assert_eq!(shape(told(&output).2), expected);

    let node = real.node("iggy-1").to_string();
    let output = real.ctl(&["restart", "iggy", "--node", &node, "--deadline", "1", "--wait"]);
    let line = told(&output).1.lines().next().unwrap();
    assert!(line.starts_with(&format!("rejected   iggy-1 ({node})  node_unreachable: ")), "{output:?}");
    assert_eq!(told(&output).1.lines().last().unwrap(), "restart of iggy: 0 completed, 1 rejected");
    assert_eq!(output.status.code(), Some(1));

    let listed = real.says(&["activities", "list", "--status", "rejected", "--runtime", "iggy"]);
    assert_eq!(
        shape(&listed),
        concat!(
            "                ID  RUNTIME  ACTION                 NODE  STATUS    CREATED (UTC)        FINISHED (UTC)       FORCED  REASON\n",
            "##################  iggy     restart  ##################  rejected  YYYY-MM-DD hh:mm:ss  YYYY-MM-DD hh:mm:ss          node_unreachable\n",
        )
    );
    let actions: Value = serde_json::from_str(&real.says(&["actions", "list", "--json"])).unwrap();
    assert_eq!(
        (&actions["items"][0]["started_via"], &actions["items"][0]["finished_success"]),
        (&Value::from("cli"), &Value::from(false))
    );

    let started = real.says(&["stop", "connectors", "--json"]);
    let started: Value = serde_json::from_str(&started).unwrap();
    let action = started["items"][0]["async_action_id"].as_str().unwrap().to_owned();
    assert_eq!(real.says(&["actions", "cancel", &action]), format!("action {action} is being cancelled\n"));
    let activity = started["items"][0]["id"].as_str().unwrap().to_owned();
    let shown = real.says(&["activities", "show", &activity]);
    assert!(shown.contains("cancelled"), "{shown}");
    real.end();
}
