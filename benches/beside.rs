//! What a producer of a running Iggy feels of a snapshot with the data directory: the latency of steady requests while
//! nothing else happens, during `warden snapshot --include-iggy`, and during `zip -r` of the same directory, in turn.
//!
//! cargo bench --bench beside -- --iggy http://127.0.0.1:3000 --password-file FILE --data DIR

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

const ROUNDS: usize = 3;
/// How long nothing else happens, before each of the two.
const CALM: Duration = Duration::from_secs(20);
/// Bytes of a message of the steady load, and of one that fills the disk.
const MESSAGE: usize = 1024;
const FILLER: usize = 512 << 10;
const STREAM: &str = "warden-bench";

struct Iggy {
    url: String,
    token: String,
    http: reqwest::Client,
}

/// Latencies of one phase, in milliseconds.
#[derive(Clone, Copy)]
struct Phase {
    median: f64,
    p99: f64,
    seconds: f64,
    requests: usize,
}

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let told = |name: &str| {
        let at = arguments.iter().position(|argument| argument == name)?;
        arguments.get(at + 1).cloned()
    };
    let (Some(url), Some(password), Some(data)) = (told("--iggy"), told("--password-file"), told("--data"))
    else {
        println!(
            "beside: needs a running Iggy: --iggy URL --password-file FILE --data DIR [--rate 200] [--mib 1024]"
        );
        return;
    };
    let number =
        |name: &str, default: u64| told(name).map_or(default, |text| text.parse().expect("a number"));
    let (rate, mib) = (number("--rate", 200), number("--mib", 1024));
    let password = std::fs::read_to_string(password).expect("the password of root");
    let folder = tempfile::tempdir().expect("a folder");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(async {
        let iggy = Iggy::open(url, password.trim()).await;
        iggy.fill(mib).await;
        let pace = Duration::from_secs(1) / u32::try_from(rate).expect("a rate");
        let (ours, theirs) = (snapshot(folder.path()), zip(folder.path(), &PathBuf::from(data)));
        let mut phases: [Vec<Phase>; 3] = Default::default();
        for _ in 0..ROUNDS {
            for (at, command) in [(1, &ours), (2, &theirs)] {
                phases[0].push(iggy.load(pace, None).await);
                phases[at].push(iggy.load(pace, Some(command)).await);
                for name in ["bundle.zip", "peer.zip"] {
                    let _ = std::fs::remove_file(folder.path().join(name));
                }
            }
        }
        let [calm, ours, theirs] = phases.map(|runs| middle(&runs));
        println!("{rate} requests of {MESSAGE} bytes a second; medians of {ROUNDS} rounds");
        for (name, phase) in [("nothing else", calm), ("warden snapshot", ours), ("zip -r", theirs)] {
            println!(
                "{name:<16} median {:>7.2} ms   p99 {:>8.2} ms ({:+.0} %)   for {:.1} s, {} requests",
                phase.median,
                phase.p99,
                (phase.p99 / calm.p99 - 1.0) * 100.0,
                phase.seconds,
                phase.requests
            );
        }
        println!("ratio of the p99: {:.2} (ours to zip -r)", ours.p99 / theirs.p99);
    });
}

fn middle(runs: &[Phase]) -> Phase {
    Phase {
        median: median(runs, |run| run.median),
        p99: median(runs, |run| run.p99),
        seconds: median(runs, |run| run.seconds),
        requests: runs.iter().map(|run| run.requests).sum(),
    }
}

fn median(runs: &[Phase], value: impl Fn(&Phase) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn snapshot(folder: &Path) -> Vec<String> {
    let output = folder.join("bundle.zip").to_string_lossy().into_owned();
    [
        env!("CARGO_BIN_EXE_warden"),
        "snapshot",
        "--include-iggy",
        "--iggy-budget=8GiB",
        "--fail-on=never",
        "--output",
    ]
    .map(str::to_owned)
    .into_iter()
    .chain([output])
    .collect()
}

fn zip(folder: &Path, data: &Path) -> Vec<String> {
    let output = folder.join("peer.zip").to_string_lossy().into_owned();
    vec!["zip".into(), "-q".into(), "-r".into(), output, data.to_string_lossy().into_owned()]
}

impl Iggy {
    async fn open(url: String, password: &str) -> Iggy {
        let http = reqwest::Client::builder()
            .tls_backend_preconfigured(
                warden::tls::configuration(warden::tls::Trust::Nobody, None).expect("TLS"),
            )
            .build()
            .expect("a client");
        let login = json!({ "username": "iggy", "password": password });
        let answer = http.post(format!("{url}/users/login")).json(&login).send().await.expect("Iggy answers");
        let answer: Value = answer.json().await.expect("a token");
        let token = answer["access_token"]["token"].as_str().expect("a token").to_owned();
        let iggy = Iggy { url, token, http };
        // Both may be there from another run.
        iggy.post("/streams", &json!({ "name": STREAM })).await;
        let topic = json!({ "name": "load", "partitions_count": 2, "compression_algorithm": "none",
                            "message_expiry": 0, "max_topic_size": 0, "replication_factor": 1 });
        iggy.post(&format!("/streams/{STREAM}/topics"), &topic).await;
        iggy
    }

    async fn post(&self, path: &str, body: &Value) -> u16 {
        let asked = self.http.post(format!("{}{path}", self.url)).bearer_auth(&self.token).json(body);
        let answer = asked.send().await.expect("Iggy answers");
        let status = answer.status().as_u16();
        let _ = answer.bytes().await;
        status
    }

    async fn send(&self, payload: &str) {
        let body = json!({ "partitioning": { "kind": "balanced", "value": "" },
                           "messages": [{ "id": 0, "payload": payload }] });
        let status = self.post(&format!("/streams/{STREAM}/topics/load/messages"), &body).await;
        assert!((200..300).contains(&status), "Iggy says {status}");
    }

    /// Messages of which a compressor makes something, but not nothing.
    async fn fill(&self, mib: u64) {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for _ in 0..(mib << 20) / FILLER as u64 {
            let mut payload = Vec::with_capacity(FILLER);
            while payload.len() < FILLER {
                seed ^= seed << 13;
                seed ^= seed >> 7;
                seed ^= seed << 17;
                payload.extend_from_slice(format!("{{\"order\":{seed},\"state\":\"shipped\"}}\n").as_bytes());
            }
            self.send(&BASE64_STANDARD.encode(&payload)).await;
        }
    }

    /// Sends at a steady pace, whether or not answers come: for [`CALM`], or until the command has ended.
    async fn load(&self, pace: Duration, command: Option<&Vec<String>>) -> Phase {
        let payload = BASE64_STANDARD.encode([7; MESSAGE]);
        let mut running = command.map(|command| {
            Command::new(&command[0])
                .args(&command[1..])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .spawn()
                .expect("it starts")
        });
        let began = Instant::now();
        let mut ticks = tokio::time::interval(pace);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Burst);
        let (arrived, mut arriving) = tokio::sync::mpsc::unbounded_channel();
        loop {
            // When it was due counts, not when this process came to send it.
            let due = ticks.tick().await.into_std();
            let over = match &mut running {
                Some(running) => running.try_wait().expect("its end").is_some(),
                None => began.elapsed() > CALM,
            };
            if over {
                break;
            }
            let (iggy, payload, arrived) = (self.again(), payload.clone(), arrived.clone());
            tokio::spawn(async move {
                iggy.send(&payload).await;
                let _ = arrived.send(due.elapsed().as_secs_f64() * 1000.0);
            });
        }
        let seconds = began.elapsed().as_secs_f64();
        drop(arrived);
        let mut latencies = Vec::new();
        while let Some(latency) = arriving.recv().await {
            latencies.push(latency);
        }
        latencies.sort_by(f64::total_cmp);
        let at = |share: f64| latencies[((latencies.len() - 1) as f64 * share) as usize];
        Phase { median: at(0.5), p99: at(0.99), seconds, requests: latencies.len() }
    }

    fn again(&self) -> Iggy {
        Iggy { url: self.url.clone(), token: self.token.clone(), http: self.http.clone() }
    }
}
