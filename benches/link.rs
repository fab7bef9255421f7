//! A fleet on one Supervisor with one core, SQLite and TLS: memory of an idle agent at its Supervisor, and how long a
//! request over HTTP takes to its node, beside a websocket ping on the same links.
//!
//! cargo bench --bench link -- --agents 5000 --requests 2000

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod served;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures_util::{SinkExt, StreamExt, stream};
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;
use rustls::ClientConfig;
use served::{Node, Supervisor, now, prepare};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio_rustls::client::TlsStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;
use warden::protocol::{
    self, About, Agent, Finished, FromNode, Heartbeat, Hello, Host, LINK_PATH, Outcome, ToNode,
};
use warden::tls::{self, Trust};

/// Agents that dial at once.
const DIALLING: usize = 32;
/// Requests on their way at once.
const AT_ONCE: usize = 4;
/// Links that are pinged.
const PINGED: usize = 500;
/// For connections to become quiet before memory is read, and for the CPU of an idle fleet.
const QUIET: Duration = Duration::from_secs(30);

type Socket = WebSocketStream<TlsStream<TcpStream>>;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let number = |name: &str, default: usize| {
        let at = arguments.iter().position(|argument| argument == name);
        at.map_or(default, |at| arguments[at + 1].parse().expect("a number"))
    };
    let (agents, requests) = (number("--agents", 5000), number("--requests", 2000));
    let folder = tempfile::tempdir().expect("a folder");
    let prepared = prepare(folder.path(), agents);

    // One core is the Supervisor's, the other that of the fleet.
    pin(0);
    let supervisor = Supervisor::start(folder.path());
    pin(1);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    runtime.block_on(measure(&supervisor, folder.path(), prepared, requests));
}

async fn measure(
    supervisor: &Supervisor,
    folder: &Path,
    (deployment, nodes): (u64, Vec<Node>),
    requests: usize,
) {
    let configuration =
        Arc::new(tls::configuration(Trust::File(&folder.join("ca.pem")), None).expect("the authority"));
    let empty = supervisor.process.pss_kib();
    let (heard, mut hearing) = mpsc::unbounded_channel();
    let (began, ids) = (Instant::now(), nodes.iter().map(|node| node.id).collect::<Vec<_>>());
    let count = nodes.len();
    let linked = stream::iter(nodes.into_iter().enumerate()).map(|(at, node)| {
        let configuration = Arc::clone(&configuration);
        async move { (at, node.id, link(supervisor.port, configuration, &node).await) }
    });
    let mut linked: Vec<_> = linked.buffer_unordered(DIALLING).collect().await;
    let took = began.elapsed().as_secs_f64();
    println!("{count} agents linked in {took:.1} s ({:.0} a second)", count as f64 / took);

    tokio::time::sleep(QUIET).await;
    let full = supervisor.process.pss_kib();
    let each = (full - empty) as f64 / count as f64;
    println!(
        "Supervisor: {:.1} MiB alone, {:.1} MiB with all, {each:.1} KiB an idle agent (bar: 25)",
        empty as f64 / 1024.0,
        full as f64 / 1024.0
    );

    let mut pings = Vec::new();
    for (_, _, socket) in linked.iter_mut().take(PINGED) {
        let began = Instant::now();
        socket.send(Message::Ping("p".into())).await.expect("a ping");
        while !matches!(socket.next().await, Some(Ok(Message::Pong(_)))) {}
        pings.push(began.elapsed());
    }
    let ping = show("websocket ping, there and back", pings);

    for (at, id, socket) in linked {
        tokio::spawn(live(at, id, socket, heard.clone()));
    }
    let (cpu, began) = (supervisor.process.cpu_seconds(), Instant::now());
    tokio::time::sleep(QUIET).await;
    let share = (supervisor.process.cpu_seconds() - cpu) / began.elapsed().as_secs_f64();
    println!(
        "Supervisor with {count} agents that tell every 30 s how they are: {:.1} % of a core",
        share * 100.0
    );

    let http = reqwest::Client::builder()
        .tls_backend_preconfigured(ClientConfig::clone(&configuration))
        .build()
        .expect("a client");
    let url =
        format!("https://127.0.0.1:{}/deployments/{deployment}/activities/iggy/restart", supervisor.port);
    let key = Supervisor::key(folder);
    let post = |body: String| {
        http.post(&url)
            .header("ld-api-key", &key)
            .header("content-type", "application/json")
            .body(body)
            .send()
    };
    let mut sent = vec![None; count];
    let mut latencies = Vec::new();
    let mut next = 0;
    let mut answers = tokio::task::JoinSet::new();
    while latencies.len() < requests {
        while next < requests && next - latencies.len() < AT_ONCE {
            sent[next % count] = Some(Instant::now());
            let asked = post(format!(r#"{{"nodes":[{}]}}"#, ids[next % count]));
            answers.spawn(async move { asked.await.expect("an answer").status().as_u16() });
            next += 1;
        }
        let (at, when): (usize, Instant) = hearing.recv().await.expect("the fleet lives");
        latencies.push(when - sent[at].take().expect("it was asked"));
    }
    while let Some(status) = answers.join_next().await {
        assert_eq!(status.expect("it runs"), 202);
    }
    let dispatch = show("POST sent to request at its node (bar: p99 50 ms)", latencies);
    println!("ratio of the medians: {:.1} pings", dispatch / ping);

    let began = Instant::now();
    let status = post("{}".to_owned()).await.expect("an answer").status();
    assert_eq!(status.as_u16(), 202);
    let answered = began.elapsed();
    let mut last = began;
    for _ in 0..count {
        last = hearing.recv().await.expect("the fleet lives").1;
    }
    println!(
        "one POST to all {count}: answered in {answered:.0?}, at the last node after {:.0?}",
        last - began
    );
}

/// Prints the spread; returns the median in seconds.
fn show(what: &str, mut times: Vec<Duration>) -> f64 {
    times.sort();
    let at = |share: f64| times[((times.len() - 1) as f64 * share) as usize];
    println!(
        "{what}: median {:.2?}, p99 {:.2?}, longest {:.2?} of {}",
        at(0.5),
        at(0.99),
        at(1.0),
        times.len()
    );
    at(0.5).as_secs_f64()
}

async fn link(port: u16, configuration: Arc<ClientConfig>, node: &Node) -> Socket {
    let stream = TcpStream::connect(("127.0.0.1", port)).await.expect("a connection");
    stream.set_nodelay(true).expect("no delay");
    let stream =
        tls::handshake(ClientConfig::clone(&configuration), "127.0.0.1", stream, "").await.expect("TLS");
    let mut request = format!("wss://127.0.0.1:{port}{LINK_PATH}").into_client_request().expect("a request");
    let shown = format!("Bearer {}", node.credential.expose()).parse().expect("a header");
    request.headers_mut().insert("authorization", shown);
    let (mut socket, _) = tokio_tungstenite::client_async(request, stream).await.expect("a websocket");
    let hello = Hello {
        node: node.id,
        boot_id: "3c1f0a52-6f5b-4a10-9a4e-0a8f0f5d8c11".into(),
        instance: format!("{:032x}", node.id),
        agent_version: "0.1.0".into(),
        capabilities: vec!["activity".into()],
        host: About { hostname: "iggy".into(), ..About::default() },
        open: Vec::new(),
    };
    say(&mut socket, &FromNode::Hello(hello)).await;
    while !matches!(socket.next().await, Some(Ok(Message::Text(_)))) {}
    socket
}

/// Answers requests as done at once, and tells every 30 s how the node is.
async fn live(at: usize, id: u64, mut socket: Socket, heard: mpsc::UnboundedSender<(usize, Instant)>) {
    // Spread, as those of nodes that were not started together.
    let mut beats = tokio::time::interval_at(
        tokio::time::Instant::now() + Duration::from_millis(id % 30_000),
        Duration::from_secs(30),
    );
    loop {
        tokio::select! {
            _ = beats.tick() => say(&mut socket, &FromNode::Heartbeat(heartbeat())).await,
            message = socket.next() => {
                let Some(Ok(message)) = message else { return };
                let Message::Text(text) = message else { continue };
                let ToNode::Request(request) = protocol::decode(&text).expect("a message") else { continue };
                let _ = heard.send((at, Instant::now()));
                let request = request.request;
                say(&mut socket, &FromNode::Accepted { request }).await;
                let outcome = Outcome::Completed { result: None };
                say(&mut socket, &FromNode::Finished(Finished { request, outcome })).await;
            }
        }
    }
}

fn heartbeat() -> Heartbeat {
    let host = Host { uptime_seconds: Some(86_400), load_1m: Some(0.4), cpu: Some(0.2), ..Host::default() };
    Heartbeat { at_ms: now(), host, agent: Agent::default(), runtimes: Vec::new() }
}

async fn say(socket: &mut Socket, message: &FromNode) {
    let text = protocol::encode(message).expect("a message");
    socket.send(Message::text(text)).await.expect("the Supervisor listens");
}

/// Lets this thread, and those it starts, run on this core alone; on a machine with one core nothing is to be chosen.
fn pin(core: usize) {
    let mut cores = CpuSet::new();
    cores.set(core).expect("a core");
    let _ = sched_setaffinity(Pid::from_raw(0), &cores);
}
