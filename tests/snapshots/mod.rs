//! Snapshots through the Supervisor: one POST, every node, one download. The agents are processes, as on a host.

mod faults;
mod large;
mod whole;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::AtomicI64;
use std::time::{Duration, SystemTime};

use serde_json::{Value, json};
use sha2::{Digest, Sha256};
use warden::secret::Secret;
use warden::supervisor::object_store::S3Settings;
use warden::supervisor::settings::{ObjectStore, Settings};

use crate::supervisor::Backend;
use crate::supervisor::served::{Served, settings};
use crate::support::objects::http;
use crate::support::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

const WARDEN: &str = env!("CARGO_BIN_EXE_warden");
/// Far longer than a snapshot of this machine takes.
const PATIENCE: Duration = Duration::from_secs(180);

/// A Supervisor whose clock goes, with one deployment.
struct Fleet {
    served: Served,
    deployment: u64,
    backend: Backend,
}

impl Fleet {
    async fn start(change: impl FnOnce(Settings) -> Settings) -> Fleet {
        let backend = Backend::sqlite();
        let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let clock = Arc::new(AtomicI64::new(i64::try_from(since.as_millis()).unwrap()));
        let served = Served::with(change(settings(&backend)), clock, None).await;
        let made = served.post("/deployments", &json!({ "name": "events-prod" })).await;
        let deployment = made.id("ld-deployment");
        Fleet { served, deployment, backend }
    }

    /// Stops the Supervisor and starts another one on the same store, elsewhere.
    async fn restarted(self, change: impl FnOnce(Settings) -> Settings) -> Fleet {
        let Fleet { served, deployment, backend } = self;
        let (clock, key) = (Arc::clone(&served.clock), served.key.clone());
        served.stop().await;
        let served = Served::with(change(settings(&backend)), clock, Some(&key)).await;
        Fleet { served, deployment, backend }
    }

    fn path(&self, rest: &str) -> String {
        format!("/deployments/{}/{rest}", self.deployment)
    }

    async fn node(&self) -> Node {
        Node::enrol(&format!("http://{}", self.served.address), &self.token().await)
    }

    async fn token(&self) -> String {
        let made = self.served.post(&self.path("enrolments"), &json!({})).await.json();
        made["token"].as_str().unwrap().to_owned()
    }

    /// Starts a run without the data directory; this machine may have none.
    async fn begin(&self) -> u64 {
        self.begin_with(false).await
    }

    async fn begin_with(&self, include_iggy: bool) -> u64 {
        let wish = json!({ "include_iggy": include_iggy });
        let begun = self.served.post(&self.path("snapshots"), &wish).await;
        assert_eq!(begun.status, 204, "{begun:?}");
        begun.id("ld-snapshot")
    }

    async fn rows(&self, run: u64) -> Vec<Value> {
        let listed = self.served.get(&self.path(&format!("snapshots?run_id={run}&results=100"))).await;
        listed.json()["items"].as_array().unwrap().clone()
    }

    /// The rows of a run when none is under way any more; `look` sees them all the while.
    async fn ended(&self, run: u64, mut look: impl FnMut(&[Value])) -> Vec<Value> {
        let began = std::time::Instant::now();
        loop {
            let rows = self.rows(run).await;
            look(&rows);
            if rows.iter().all(|row| row["status"] != "processing") {
                return rows;
            }
            assert!(began.elapsed() < PATIENCE, "{rows:#?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    async fn downloaded(&self, row: &Value) -> Vec<u8> {
        let told = self.served.get(&self.path(&format!("snapshots/{}/download", row["id"]))).await.json();
        let answer = http().get(told["url"].as_str().unwrap()).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.bytes().await.unwrap().to_vec()
    }
}

/// An enrolled host with a folder of its own.
struct Node {
    folder: tempfile::TempDir,
    /// What stands before its commands, where it has a host of its own.
    before: Vec<String>,
    agent: Option<Child>,
}

impl Node {
    fn enrol(supervisor: &str, token: &str) -> Node {
        Node::enrol_on(vec!["env".to_owned()], &[supervisor], token)
    }

    fn enrol_on(before: Vec<String>, supervisor: &[&str], token: &str) -> Node {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name).display().to_string();
        let config = format!(
            "[agent]\nstate_directory = {:?}\nruntime_directory = {:?}\npolicy = {:?}\nproxy = \"none\"\n\
             iggy_api = \"none\"\nheartbeat_seconds = 5\n",
            at("state"),
            at("run"),
            at("policy.toml"),
        );
        std::fs::write(folder.path().join("warden.toml"), config).unwrap();
        std::fs::write(folder.path().join("token"), token).unwrap();
        let node = Node { folder, before, agent: None };
        let enrolled = node
            .command(&[&["enroll"], supervisor].concat())
            .arg("--token-file")
            .arg(node.folder.path().join("token"))
            .output()
            .unwrap();
        assert!(enrolled.status.success(), "{}", String::from_utf8_lossy(&enrolled.stderr));
        node
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(&self.before[0]);
        command
            .args(&self.before[1..])
            .arg(WARDEN)
            .args(arguments)
            .arg("--config")
            .arg(self.folder.path())
            .env("WARDEN_LOG", "info");
        command
    }

    /// Adds a line to what `[agent]` says.
    fn configure(&self, line: &str) {
        let config = self.folder.path().join("warden.toml");
        let text = std::fs::read_to_string(&config).unwrap();
        std::fs::write(&config, format!("{text}{line}\n")).unwrap();
    }

    fn start(&mut self) {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.log()).unwrap();
        let agent = self.command(&["agent"]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(log).spawn();
        self.agent = Some(agent.unwrap());
    }

    /// As a power cut would, and its children with it.
    fn kill(&mut self) {
        if let Some(mut agent) = self.agent.take() {
            agent.kill().unwrap();
            agent.wait().unwrap();
        }
    }

    fn log(&self) -> PathBuf {
        self.folder.path().join("log")
    }

    fn outbox(&self) -> PathBuf {
        self.folder.path().join("state/outbox")
    }

    fn told(&self) -> String {
        std::fs::read_to_string(self.log()).unwrap_or_default()
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            // What went wrong inside is shown with a test that fails.
            let _ = std::io::Write::write_all(&mut std::io::stderr(), self.told().as_bytes());
        }
    }
}

fn names(archive: &[u8]) -> Vec<String> {
    let zip = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let all = zip.file_names().map(|name| name.unwrap().into_owned());
    let mut names: Vec<String> = all.filter(|name| !name.contains('/')).collect();
    names.sort();
    names
}

fn is_empty(folder: &Path) -> bool {
    std::fs::read_dir(folder).unwrap().next().is_none()
}

async fn three_nodes_give_three_archives(fleet: Fleet) {
    let mut nodes = vec![fleet.node().await, fleet.node().await, fleet.node().await];
    nodes.iter_mut().for_each(Node::start);
    let run = fleet.begin().await;
    let again = fleet.served.post(&fleet.path("snapshots"), &json!({})).await;
    assert_eq!(again.problem(), (409, "snapshot_in_progress".to_owned()));
    let mut progress = false;
    let rows = fleet
        .ended(run, |rows| {
            progress |= rows.iter().any(|row| row["progress"]["checks_total"].as_u64() > Some(50))
        })
        .await;
    assert!(progress, "nobody saw how far it was");
    assert_eq!(rows.len(), 3);
    for row in &rows {
        assert_eq!(row["status"], "completed", "{row:#}");
        assert!(
            ["pass", "note", "skip", "warn", "fail"].contains(&row["verdict"].as_str().unwrap()),
            "{row:#}"
        );
        let archive = fleet.downloaded(row).await;
        assert_eq!(row["size"], archive.len());
        let digest: String = Sha256::digest(&archive).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(row["sha256"], digest);
        assert_eq!(names(&archive), ["manifest.json", "report.html", "report.json"]);
    }
    for node in &nodes {
        assert!(is_empty(&node.outbox()), "what was sent need not stay");
    }
    let action = fleet.served.get(&format!("/async_actions/{run}")).await.json();
    assert_eq!(action["finished_message"], "Took a snapshot of 3 of 3 nodes");
    let removed = fleet.served.delete(&fleet.path(&format!("snapshots/{run}"))).await;
    assert_eq!(removed.status, 204);
    assert_eq!(fleet.rows(run).await, Vec::<Value>::new());
}

#[tokio::test(flavor = "multi_thread")]
async fn one_post_takes_a_snapshot_of_every_node_into_a_folder() {
    three_nodes_give_three_archives(Fleet::start(|settings| settings).await).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_post_takes_a_snapshot_of_every_node_into_an_s3_store() {
    let server = S3Server::start().await;
    let fleet = Fleet::start(|settings| in_s3(&server, settings)).await;
    three_nodes_give_three_archives(fleet).await;
}

fn in_s3(server: &S3Server, settings: Settings) -> Settings {
    let s3 = S3Settings {
        endpoint: format!("http://{}", server.address),
        region: "eu-central-1".to_owned(),
        bucket: BUCKET.to_owned(),
        access_key_id: ACCESS_KEY.to_owned(),
        secret_access_key: Secret::new(SECRET_KEY),
        virtual_host: false,
    };
    Settings { objects: ObjectStore::S3(s3), ..settings }
}

/// The label of the one archive in an outbox, once there is one.
fn label(outbox: &Path) -> Option<Value> {
    let entries = std::fs::read_dir(outbox).ok()?.map(|entry| entry.unwrap().path());
    let label = entries.into_iter().find(|path| path.extension().is_some_and(|ending| ending == "json"))?;
    serde_json::from_slice(&std::fs::read(label).ok()?).ok()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_goes_on_after_the_agent_was_killed_in_the_middle_and_is_not_taken_twice() {
    let fleet = Fleet::start(|settings| settings).await;
    let mut node = fleet.node().await;
    // Slow enough to be caught while it sends.
    let config = node.folder.path().join("warden.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text + "upload_kib_per_second = 20\n").unwrap();
    let run = fleet.begin().await;
    node.start();
    let taken = crate::support::until("there is an archive", || label(&node.outbox()));
    node.kill();
    assert_eq!(fleet.rows(run).await[0]["status"], "processing");
    node.start();
    crate::support::until("it is back", || (node.told().matches("linked to").count() == 2).then_some(()));
    node.kill();
    let config_again = std::fs::read_to_string(&config).unwrap().replace("= 20", "= 1000000");
    std::fs::write(&config, config_again).unwrap();
    node.start();
    let rows = fleet.ended(run, |_| ()).await;
    assert_eq!(rows[0]["status"], "completed", "{rows:#?}");
    assert_eq!(rows[0]["sha256"], taken["sha256"]);
    assert_eq!(names(&fleet.downloaded(&rows[0]).await), ["manifest.json", "report.html", "report.json"]);
    crate::support::until("the outbox is empty", || is_empty(&node.outbox()).then_some(()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_whose_policy_says_no_sends_nothing() {
    let fleet = Fleet::start(|settings| settings).await;
    let mut node = fleet.node().await;
    std::fs::write(node.folder.path().join("policy.toml"), "[snapshot]\nallow = false\n").unwrap();
    node.start();
    let rows = fleet.ended(fleet.begin().await, |_| ()).await;
    assert_eq!(rows[0]["status"], "failed");
    assert_eq!(rows[0]["reason"]["code"], "policy_denied");
    assert!(is_empty(&node.outbox()));
    std::fs::write(node.folder.path().join("policy.toml"), "[snapshot]\nlargest_upload_mib = 0\n").unwrap();
    let rows = fleet.ended(fleet.begin().await, |_| ()).await;
    assert_eq!(rows[0]["reason"]["code"], "policy_denied", "{rows:#?}");
    assert!(is_empty(&node.outbox()));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_says_how_much_of_its_data_directory_is_taken() {
    let fleet = Fleet::start(|settings| settings).await;
    let data = faults::data_directory();
    let address = format!("http://{}", fleet.served.address);
    let mut node = Node::enrol_on(faults::with_data(data.path()), &[&address], &fleet.token().await);
    node.configure("iggy_budget_mib = 1");
    node.start();
    let rows = fleet.ended(fleet.begin_with(true).await, |_| ()).await;
    assert_eq!(rows[0]["status"], "completed", "{rows:#?}");
    let size = rows[0]["size"].as_u64().unwrap();
    assert!(size < 20 << 20, "{size} bytes of 70 MiB that cannot be packed");
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_are_given_to_nobody_who_asks_for_them() {
    let fleet = Fleet::start(|settings| settings).await;
    let _node = fleet.node().await;
    let refused = fleet.served.post(&fleet.path("snapshots"), &json!({ "redact_secrets": false })).await;
    assert_eq!(refused.problem(), (400, "redaction_required".to_owned()));
    assert_eq!(refused.json()["field"], "redact_secrets");
    // Nothing of it is under way.
    fleet.begin().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_fails_comes_with_the_newest_lines_of_the_agents_log_masked() {
    let fleet = Fleet::start(|settings| settings).await;
    let mut node = fleet.node().await;
    let policy = "[redaction]\nalso_mask = [\"linked to the Supervisor\", \"Not a directory\"]\n";
    std::fs::write(node.folder.path().join("policy.toml"), policy).unwrap();
    node.start();
    crate::support::until("it is linked", || node.told().contains("linked to").then_some(()));
    std::fs::remove_dir(node.outbox()).unwrap();
    std::fs::write(node.outbox(), "in the way").unwrap();
    let rows = fleet.ended(fleet.begin().await, |_| ()).await;
    assert_eq!((&rows[0]["status"], &rows[0]["reason"]["code"]), (&json!("failed"), &json!("internal")));
    let reason = rows[0]["reason"]["reason"].as_str().unwrap();
    assert!(reason.starts_with("no room for a snapshot: [secret:"), "{reason}");
    let log: Vec<&str> =
        rows[0]["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(log[0].contains(" INFO the agent has started version="), "{log:?}");
    assert!(log.iter().any(|line| line.contains(" INFO [secret:")), "{log:?}");
    assert!(log.iter().all(|line| !line.contains("linked to")), "{log:?}");
    std::fs::remove_file(node.outbox()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_snapshot_that_is_late_comes_with_the_newest_lines_of_the_agents_log() {
    let short = |mut settings: Settings| {
        settings.limits.snapshot_deadline_ms = 5_000;
        settings
    };
    let fleet = Fleet::start(short).await;
    let mut node = fleet.node().await;
    // An archive would take minutes.
    node.configure("upload_kib_per_second = 1");
    node.start();
    crate::support::until("it is linked", || node.told().contains("linked to").then_some(()));
    let rows = fleet.ended(fleet.begin().await, |_| ()).await;
    let code = json!("deadline_exceeded");
    assert_eq!((&rows[0]["status"], &rows[0]["reason"]["code"]), (&json!("failed"), &code), "{rows:#?}");
    let log: Vec<&str> =
        rows[0]["log"].as_array().unwrap().iter().map(|line| line.as_str().unwrap()).collect();
    assert!(log.iter().any(|line| line.contains(" INFO linked to the Supervisor")), "{log:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_policy_of_a_host_masks_is_masked_in_what_it_sends() {
    let fleet = Fleet::start(|settings| settings).await;
    let mut node = fleet.node().await;
    let kernel = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap().trim().to_owned();
    let policy = format!("[redaction]\nalso_mask = [{kernel:?}]\n");
    std::fs::write(node.folder.path().join("policy.toml"), policy).unwrap();
    node.start();
    let rows = fleet.ended(fleet.begin().await, |_| ()).await;
    assert_eq!(rows[0]["status"], "completed", "{rows:#?}");
    let archive = fleet.downloaded(&rows[0]).await;
    let mut zip = zip::ZipArchive::new(std::io::Cursor::new(archive)).unwrap();
    let mut report = String::new();
    std::io::Read::read_to_string(&mut zip.by_name("report.json").unwrap(), &mut report).unwrap();
    assert!(!report.contains(&kernel), "the kernel's version was to be masked");
}
