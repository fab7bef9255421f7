//! Connections that say nothing, by the thousand: they keep no node and no call out, and are closed.

use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

use nix::sys::resource::{Resource, getrlimit, setrlimit};
use reqwest::{Client, Method, StatusCode};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore, StreamOwned};
use serde_json::{Value, json};
use warden::protocol::{About, ENROL_PATH, Enrol, Enrolled, decode, encode};
use warden::secret::Secret;

use super::listen::{Certificates, Running, command};
use crate::link::node::Node;

/// As many as this process may have open, and no more than this.
const SILENT: usize = 5_000;
/// Descriptors for all other tests that run beside this one.
const OTHERS: u64 = 2_000;
/// Longer than the Supervisor waits for whoever connects.
const PATIENCE: Duration = Duration::from_secs(120);
/// What a client of HTTP/2 begins with, without its end.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n";

/// How many connections this process may open, once it has raised its limit.
fn silent() -> usize {
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    if soft < hard {
        setrlimit(Resource::RLIMIT_NOFILE, hard, hard).unwrap();
    }
    SILENT.min(usize::try_from(hard.saturating_sub(OTHERS)).unwrap())
}

struct Caller {
    http: Client,
    base: String,
    key: String,
}

impl Caller {
    async fn call(&self, method: Method, path: &str, body: String) -> (StatusCode, String) {
        let request =
            self.http.request(method, format!("{}{path}", self.base)).header("ld-api-key", &self.key);
        let request = request.header("content-type", "application/json");
        let answer = request.body(body).send().await.unwrap();
        (answer.status(), answer.text().await.unwrap())
    }

    async fn made(&self, path: &str, body: Value) -> Value {
        let (status, text) = self.call(Method::POST, path, body.to_string()).await;
        assert!(status.is_success(), "{text}");
        serde_json::from_str(&text).unwrap()
    }

    async fn enrolled(&self, deployment: &Value) -> (u64, Secret) {
        let made = self.made(&format!("/deployments/{deployment}/enrolments"), json!({})).await;
        let credential = Secret::draw("wnode_").unwrap();
        let host = About { hostname: "iggy-1".into(), ..About::default() };
        let token = made["token"].as_str().unwrap().to_owned();
        let enrol = Enrol { token, credential_hash: credential.hash(), host };
        let (_, enrolled) = self.call(Method::POST, ENROL_PATH, encode(&enrol).unwrap()).await;
        let enrolled: Enrolled = decode(&enrolled).unwrap();
        (enrolled.node, credential)
    }
}

/// Every caller dials anew: one that was connected before would prove nothing.
fn a_client() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().pool_max_idle_per_host(0).timeout(PATIENCE).build().unwrap()
}

/// Waits for the end of a stream; what comes before it, such as the settings of HTTP/2, does not matter.
fn is_closed(mut stream: impl Read) -> bool {
    loop {
        match stream.read(&mut [0; 256]) {
            Ok(0) => return true,
            Ok(_) => {}
            // The time is over.
            Err(error) if error.kind() == ErrorKind::WouldBlock => return false,
            Err(_) => return true,
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn thousands_that_say_nothing_keep_no_node_and_no_call_out_and_are_closed() {
    let count = silent();
    assert!(count > 1_000, "this test needs a limit of some thousand open files");
    let folder = tempfile::tempdir().unwrap();
    let mut running = Running::start(command(folder.path(), &["--listen", "127.0.0.1:0"]));
    let address: SocketAddr = running.address.parse().unwrap();
    let caller = Caller { http: a_client(), base: format!("http://{address}"), key: running.key() };
    let deployment = caller.made("/deployments", json!({ "name": "events-prod" })).await["id"].clone();
    let (id, credential) = caller.enrolled(&deployment).await;
    let mut node = Node::link(address, id, &credential, "a").await;

    let silent: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut stream = TcpStream::connect(address).unwrap();
            stream.set_read_timeout(Some(PATIENCE)).unwrap();
            if number % 4 == 0 {
                // One that has made way already cannot be written to.
                let _ = stream.write_all(PREFACE);
            }
            stream
        })
        .collect();
    for _ in 0..10 {
        assert_eq!(caller.call(Method::GET, "/deployments", String::new()).await.0, StatusCode::OK);
    }
    let (other, credential) = caller.enrolled(&deployment).await;
    let mut second = Node::link(address, other, &credential, "b").await;
    caller.made(&format!("/deployments/{deployment}/activities/iggy/restart"), json!({})).await;
    let (first, second) = (node.request().await.request, second.request().await.request);
    assert_ne!(first, second, "the node of before and the one that came meanwhile are both linked");

    // All of them are closed, with no word from them.
    let closed = tokio::task::spawn_blocking(move || silent.iter().all(is_closed));
    assert!(closed.await.unwrap());
    running.logged("connections were closed: ");
    running.logged("sent no request in time");
    running.logged("most came from 127.0.0.1 (");
}

#[test]
fn who_shakes_hands_over_tls_and_asks_nothing_is_closed_as_who_does_not() {
    let certificates = Certificates::new();
    let folder = tempfile::tempdir().unwrap();
    let (certificate, key) = (certificates.text("server.pem"), certificates.text("server.key"));
    let tls = ["--listen", "127.0.0.1:0", "--tls-cert", &certificate, "--tls-key", &key];
    let running = Running::start(command(folder.path(), &tls));
    let address: SocketAddr = running.address.parse().unwrap();
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(certificates.path("ca.pem")).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let config = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let config = Arc::new(config.with_root_certificates(roots).with_no_client_auth());
    let connect = || {
        let stream = TcpStream::connect(address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    };
    let name = ServerName::from(std::net::IpAddr::from(Ipv4Addr::LOCALHOST));
    let connection = ClientConnection::new(config, name).unwrap();
    let mut shaken = StreamOwned::new(connection, connect());
    shaken.conn.complete_io(&mut shaken.sock).unwrap();
    let mut silent = connect();
    // A hello of TLS that claims more than it has.
    let mut torn = connect();
    torn.write_all(&[0x16, 3, 1, 2, 0, 1]).unwrap();
    assert!(is_closed(&mut silent) && is_closed(&mut torn) && is_closed(&mut shaken));
}
