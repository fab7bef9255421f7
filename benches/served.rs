//! A Supervisor and enrolled nodes for a bench, and what a process of ours costs while it runs.

use std::ffi::OsString;
use std::io::{BufRead, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use warden::secret::Secret;
use warden::supervisor::settings::Database;
use warden::supervisor::store::Store;
use warden::supervisor::store::deployments::{self, Deployment, Plan};
use warden::supervisor::store::enrolments::{self, Applicant, Enrolment};

pub struct Node {
    pub id: u64,
    pub credential: Secret,
}

/// A process of ours; killed when dropped.
pub struct Process(Child);

/// `warden supervisor`, with TLS and SQLite.
pub struct Supervisor {
    pub process: Process,
    pub port: u16,
}

impl Supervisor {
    /// On what [`prepare`] made in this folder.
    pub fn start(folder: &Path) -> Supervisor {
        certificates(folder);
        std::fs::create_dir_all(folder.join("supervisor")).expect("a folder");
        std::fs::write(
            folder.join("supervisor/warden.toml"),
            "[supervisor]\nrequests_per_second = 100000\nrequests_at_once = 100000\n",
        )
        .expect("a configuration");
        let file = |name: &str| folder.join(name).into_os_string();
        let mut arguments: Vec<OsString> =
            ["supervisor", "--listen", "127.0.0.1:0"].map(OsString::from).into();
        for (option, name) in [
            ("--config", "supervisor"),
            ("--data-dir", "data"),
            ("--tls-cert", "server.pem"),
            ("--tls-key", "server.key"),
            ("--administrator-key-file", "key"),
        ] {
            arguments.extend([option.into(), file(name)]);
        }
        let (process, line) = Process::start(&arguments, "listens on ");
        let address = line.split("listens on ").nth(1).expect("an address");
        let port = address.split_whitespace().next().and_then(|address| address.rsplit(':').next());
        Supervisor { process, port: port.and_then(|port| port.parse().ok()).expect("a port") }
    }

    /// The administrator's key.
    pub fn key(folder: &Path) -> String {
        std::fs::read_to_string(folder.join("key")).expect("the key").trim().to_owned()
    }
}

impl Process {
    /// Runs `warden` until it logs this; returns that line.
    pub fn start(arguments: &[OsString], logged: &str) -> (Process, String) {
        let mut child = Command::new(env!("CARGO_BIN_EXE_warden"))
            .args(arguments)
            .stdin(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut log = BufReader::new(child.stderr.take().expect("its log"));
        let mut line = String::new();
        while !line.contains(logged) {
            line.clear();
            assert!(log.read_line(&mut line).expect("its log") > 0, "it ended early");
        }
        std::thread::spawn(move || std::io::copy(&mut log, &mut std::io::sink()));
        (Process(child), line)
    }

    /// The memory that would be free without it, shared pages by their share.
    pub fn pss_kib(&self) -> u64 {
        let text = self.proc("smaps_rollup");
        let line = text.lines().find_map(|line| line.strip_prefix("Pss:")).expect("PSS");
        line.trim().trim_end_matches(" kB").parse().expect("a number")
    }

    pub fn cpu_seconds(&self) -> f64 {
        let text = self.proc("stat");
        let fields: Vec<&str> = text.rsplit(')').next().expect("fields").split_whitespace().collect();
        let ticks = |at: usize| fields[at].parse::<f64>().expect("ticks");
        // `utime` and `stime`, in USER_HZ (proc(5)).
        (ticks(11) + ticks(12)) / 100.0
    }

    fn proc(&self, name: &str) -> String {
        std::fs::read_to_string(format!("/proc/{}/{name}", self.id())).expect("it runs")
    }

    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A deployment and enrolled nodes, written while no Supervisor runs.
pub fn prepare(folder: &Path, nodes: usize) -> (u64, Vec<Node>) {
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(enrol(folder, nodes))
}

async fn enrol(folder: &Path, count: usize) -> (u64, Vec<Node>) {
    let directory = folder.join("data");
    std::fs::create_dir(&directory).expect("a folder");
    let store = Store::open(&Database::Sqlite { directory }).await.expect("a store");
    let deployment = Deployment {
        id: store.id(now()),
        tenant_id: 1,
        division_id: 1,
        environment_id: 1,
        name: "bench".to_owned(),
        plan: Plan::Basic,
        created_at: now(),
    };
    let mut change = store.change().await.expect("a change");
    assert!(deployments::insert(&mut change, &deployment).await.expect("a deployment"));
    let tokens: Vec<String> = (0..count).map(|at| format!("{at:064x}")).collect();
    for token_hash in &tokens {
        let enrolment = Enrolment {
            id: store.id(now()),
            deployment_id: deployment.id,
            token_hash: token_hash.clone(),
            name: None,
            author_id: 1,
            created_at: now(),
            expires_at: now() + 3_600_000,
            uses: 1,
        };
        enrolments::insert(&mut change, &enrolment).await.expect("a token");
    }
    change.commit().await.expect("tokens");
    let mut nodes = Vec::new();
    for (at, token) in tokens.iter().enumerate() {
        let credential = Secret::draw("wnode_").expect("a credential");
        let (hostname, credential_hash) = (format!("iggy-{at}"), credential.hash());
        let host = Applicant { hostname: &hostname, credential_hash: &credential_hash, address: "127.0.0.1" };
        let node = enrolments::use_token(&store, token, host, now()).await.expect("a node").expect("a node");
        nodes.push(Node { id: node.id, credential });
    }
    store.close().await;
    (deployment.id, nodes)
}

/// An authority, `ca.pem`, and a certificate by it for 127.0.0.1.
fn certificates(folder: &Path) {
    let mut params = CertificateParams::default();
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.distinguished_name.push(DnType::CommonName, "an authority");
    let ca = CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("an authority");
    let own = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("a name");
    let signed = params.signed_by(&own, &ca).expect("a certificate");
    for (name, text) in
        [("ca.pem", ca.pem()), ("server.pem", signed.pem()), ("server.key", own.serialize_pem())]
    {
        std::fs::write(folder.join(name), text).expect("a file");
    }
}

/// Milliseconds since 1970 UTC.
pub fn now() -> i64 {
    jiff::Timestamp::now().as_millisecond()
}
