//! What the agent costs a host: memory, CPU and wake-ups while nothing is asked of it, and whether it grows over as many
//! requests as come in a day if one comes every 30 s.
//!
//! cargo bench --bench idle -- --seconds 300 --requests 2880

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod served;

use std::path::Path;
use std::time::Duration;

use rustls::ClientConfig;
use served::{Process, Supervisor, prepare};
use warden::agent::Identity;
use warden::tls::{self, Trust};

/// For the first heartbeats, and for what a start leaves behind to be given back.
const WARM: Duration = Duration::from_secs(40);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: u64| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().expect("a number"))
    };
    let (seconds, requests) = (number("--seconds", 300), number("--requests", 2880));
    let folder = tempfile::tempdir().expect("a folder");
    let (deployment, nodes) = prepare(folder.path(), 1);
    let supervisor = Supervisor::start(folder.path());
    let url = format!("https://127.0.0.1:{}", supervisor.port);
    let agent = agent(folder.path(), &url, &nodes[0]);

    std::thread::sleep(WARM);
    let (cpu, woken) = (agent.cpu_seconds(), wake_ups(&agent));
    std::thread::sleep(Duration::from_secs(seconds));
    let (cpu, woken) = (agent.cpu_seconds() - cpu, wake_ups(&agent) - woken);
    let (shared, alone) = (agent.pss_kib(), resident_kib(&agent));
    println!(
        "idle for {seconds} s: {:.1} MiB, {:.1} if nobody shared a page with it (bar: 12), {:.3} % of a core (bar: 0.1), \
         woken {:.2} times a second",
        shared as f64 / 1024.0,
        alone as f64 / 1024.0,
        cpu * 100.0 / seconds as f64,
        woken as f64 / seconds as f64
    );
    println!("its Supervisor: {:.1} MiB", supervisor.process.pss_kib() as f64 / 1024.0);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(a_day(&agent, folder.path(), &format!("{url}/deployments/{deployment}"), requests));
}

/// Has the agent refuse one request after the other; its policy says so.
async fn a_day(agent: &Process, folder: &Path, deployment: &str, requests: u64) {
    let trust = Trust::File(&folder.join("ca.pem"));
    let configuration: ClientConfig = tls::configuration(trust, None).expect("the authority");
    let http = reqwest::Client::builder().tls_backend_preconfigured(configuration).build().expect("a client");
    let key = Supervisor::key(folder);
    let mut early = 0;
    for request in 1..=requests {
        let asked = http
            .post(format!("{deployment}/activities/iggy/restart"))
            .header("ld-api-key", &key)
            .header("content-type", "application/json")
            .body("{}");
        assert_eq!(asked.send().await.expect("an answer").status().as_u16(), 202);
        loop {
            let open =
                http.get(format!("{deployment}/activities?status=processing")).header("ld-api-key", &key);
            let open: serde_json::Value = open.send().await.expect("an answer").json().await.expect("a page");
            if open["total_results"] == 0 {
                break;
            }
        }
        if request == requests / 10 {
            early = agent.pss_kib();
        }
    }
    let late = agent.pss_kib();
    println!(
        "{requests} requests: {:.1} MiB after a tenth of them, {:.1} MiB after all",
        early as f64 / 1024.0,
        late as f64 / 1024.0
    );
}

fn agent(folder: &Path, supervisor: &str, node: &served::Node) -> Process {
    let state = folder.join("agent");
    std::fs::create_dir(&state).expect("a folder");
    let identity = Identity {
        node: node.id,
        deployment: 1,
        supervisor: supervisor.parse().expect("an address"),
        ca: Some(std::fs::read_to_string(folder.join("ca.pem")).expect("the authority")),
        credential: node.credential.clone(),
    };
    identity.write(&state).expect("the identity");
    let policy = folder.join("policy.toml");
    std::fs::write(&policy, "[[rule]]\nname = \"nobody\"\nthen = \"deny\"\n").expect("a policy");
    let run = folder.join("run");
    let text =
        format!("[agent]\nstate_directory = {state:?}\nruntime_directory = {run:?}\npolicy = {policy:?}\n");
    std::fs::write(folder.join("warden.toml"), text).expect("a configuration");
    Process::start(&["agent".into(), "--config".into(), folder.into()], "linked").0
}

/// All its pages, also those of libraries that others have too.
fn resident_kib(agent: &Process) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{}/status", agent.id())).expect("its state");
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("its memory");
    line.trim().trim_end_matches(" kB").parse().expect("a number")
}

/// How often a thread of it had waited and went on.
fn wake_ups(agent: &Process) -> u64 {
    let tasks = std::fs::read_dir(format!("/proc/{}/task", agent.id())).expect("its threads");
    let of = |task: std::fs::DirEntry| {
        let text = std::fs::read_to_string(task.path().join("status")).unwrap_or_default();
        let line = text.lines().find_map(|line| line.strip_prefix("voluntary_ctxt_switches:"));
        line.and_then(|number| number.trim().parse::<u64>().ok()).unwrap_or(0)
    };
    tasks.flatten().map(of).sum()
}
