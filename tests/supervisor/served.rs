//! A Supervisor that listens, with a clock of its own, and every answer held against its OpenAPI document.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};

use axum::body::Body;
use axum::http::{HeaderMap, Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;
use warden::config::log::LogLevel;
use warden::supervisor::settings::{Limits, Metrics, Settings};
use warden::supervisor::store::Store;
use warden::supervisor::store::enrolments::{self, Applicant};
use warden::supervisor::{Clock, Supervisor};

use super::Backend;
use super::document::Contract;

/// What the clock says at first.
pub const NOW: i64 = 1_780_000_000_000;

pub struct Served {
    pub address: SocketAddr,
    pub store: Store,
    /// The administrator's key.
    pub key: String,
    /// Milliseconds since 1970; stands still unless a test moves it.
    pub clock: Arc<AtomicI64>,
    contract: Contract,
    client: Client<HttpConnector, Body>,
    stop: CancellationToken,
    running: tokio::task::JoinHandle<anyhow::Result<()>>,
}

#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub text: String,
}

impl Answer {
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.text).unwrap_or_else(|error| panic!("{error}: {}", self.text))
    }

    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    pub fn id(&self, header: &str) -> u64 {
        self.header(header).parse().unwrap_or_else(|_| panic!("no {header}: {self:?}"))
    }

    /// Status and code of a problem.
    pub fn problem(&self) -> (u16, String) {
        (self.status, self.json()["code"].as_str().unwrap_or_default().to_owned())
    }
}

pub fn settings(backend: &Backend) -> Settings {
    Settings {
        listen: SocketAddr::new(IpAddr::from([127, 0, 0, 1]), 0),
        tls: None,
        plain_beyond_loopback: false,
        public_url: None,
        trusted_proxies: Vec::new(),
        metrics: Metrics::default(),
        database: backend.database(),
        objects: backend.objects(),
        archives: warden::supervisor::upload_service::Limits::default(),
        // No test but those of the limit is about it.
        limits: Limits { burst: 1_000_000, per_second: 1_000_000, ..Limits::default() },
        log: LogLevel::default(),
    }
}

impl Served {
    pub async fn start(backend: &Backend) -> Served {
        Served::with(settings(backend), Arc::new(AtomicI64::new(NOW)), None).await
    }

    /// `key`: the administrator's, when the store was used before.
    pub async fn with(settings: Settings, clock: Arc<AtomicI64>, key: Option<&str>) -> Served {
        // What went wrong inside is shown with a test that fails.
        let filter = tracing_subscriber::EnvFilter::new("warn");
        let _ = tracing_subscriber::fmt().with_test_writer().with_env_filter(filter).try_init();
        let told = Arc::clone(&clock);
        let now: Clock = Arc::new(move || told.load(Ordering::SeqCst));
        let stop = CancellationToken::new();
        let supervisor = Supervisor::start(settings, now, false, stop.clone()).await.unwrap();
        let made = supervisor.administrator_key.as_ref().map(|key| key.expose().to_owned());
        let (address, store) = (supervisor.address, supervisor.store().clone());
        let mut served = Served {
            address,
            store,
            key: made.or(key.map(str::to_owned)).unwrap(),
            clock,
            contract: Contract::default(),
            client: Client::builder(TokioExecutor::new()).build_http(),
            stop,
            running: tokio::spawn(supervisor.run()),
        };
        let document = served.get("/openapi.json").await;
        served.contract = Contract::new(document.json());
        served
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.running.await.unwrap().unwrap();
    }

    /// Stops it, and starts another one on the same store.
    pub async fn restarted(self, backend: &Backend) -> Served {
        let (clock, key) = (Arc::clone(&self.clock), self.key.clone());
        self.stop().await;
        Served::with(settings(backend), clock, Some(&key)).await
    }

    pub fn pass(&self, milliseconds: i64) {
        self.clock.fetch_add(milliseconds, Ordering::SeqCst);
    }

    pub fn now(&self) -> i64 {
        self.clock.load(Ordering::SeqCst)
    }

    pub async fn get(&self, path: &str) -> Answer {
        self.call(Method::GET, path, &[("ld-api-key", &self.key)], "").await
    }

    pub async fn delete(&self, path: &str) -> Answer {
        self.call(Method::DELETE, path, &[("ld-api-key", &self.key)], "").await
    }

    pub async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_as(&self.key, path, body).await
    }

    pub async fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        let headers = [("ld-api-key", key), ("content-type", "application/json")];
        self.call(Method::POST, path, &headers, &body.to_string()).await
    }

    /// A POST with an idempotency key.
    pub async fn once(&self, idempotency_key: &str, path: &str, body: &Value) -> Answer {
        let headers = [
            ("ld-api-key", self.key.as_str()),
            ("content-type", "application/json"),
            ("idempotency-key", idempotency_key),
        ];
        self.call(Method::POST, path, &headers, &body.to_string()).await
    }

    pub async fn call(&self, method: Method, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut request = Request::builder().method(method.clone()).uri(self.url(path));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = self.send(request.body(Body::from(body.to_owned())).unwrap()).await;
        self.contract.hold(&method, path, &answer);
        answer
    }

    pub async fn send(&self, request: Request<Body>) -> Answer {
        let response = self.client.request(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = axum::body::to_bytes(Body::new(body), usize::MAX).await.unwrap();
        let text = String::from_utf8(bytes.to_vec()).unwrap();
        Answer { status: parts.status.as_u16(), headers: parts.headers, text }
    }

    /// A response whose body is read as it comes.
    pub async fn stream(
        &self,
        path: &str,
        headers: &[(&str, &str)],
    ) -> axum::http::Response<hyper::body::Incoming> {
        self.stream_as(&self.key, path, headers).await
    }

    pub async fn stream_as(
        &self,
        key: &str,
        path: &str,
        headers: &[(&str, &str)],
    ) -> axum::http::Response<hyper::body::Incoming> {
        let mut request = Request::builder().uri(self.url(path)).header("ld-api-key", key);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.client.request(request.body(Body::empty()).unwrap()).await.unwrap()
    }

    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }

    /// Makes a deployment.
    pub async fn deployment(&self, name: &str) -> u64 {
        self.post("/deployments", &json!({ "name": name })).await.id("ld-deployment")
    }

    /// Makes a node, as an agent with a token does.
    pub async fn node(&self, deployment: u64, name: &str) -> u64 {
        let path = format!("/deployments/{deployment}/enrolments");
        let token = self.post(&path, &json!({})).await.json()["token"].as_str().unwrap().to_owned();
        let token = warden::secret::Secret::new(token);
        let credential = warden::secret::Secret::draw("wn_").unwrap().hash();
        let host = Applicant { hostname: name, credential_hash: &credential, address: "127.0.0.1" };
        enrolments::use_token(&self.store, &token.hash(), host, self.now()).await.unwrap().unwrap().id
    }

    /// Makes a key; returns its id and its secret.
    pub async fn key(&self, more: Value) -> (u64, String) {
        let day = 24 * 3_600_000;
        let expires_at = jiff::Timestamp::from_millisecond(self.now() + 30 * day).unwrap();
        let mut body = json!({ "name": "test", "expires_at": expires_at.to_string() });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = self.post("/api_keys", &body).await;
        assert_eq!(made.status, 201, "{}", made.text);
        (made.id("ld-key"), made.json()["key"].as_str().unwrap().to_owned())
    }
}
