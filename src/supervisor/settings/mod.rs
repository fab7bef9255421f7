//! What a Supervisor is told to be, by its command line and `[supervisor]` of the configuration.

mod file;

use std::net::SocketAddr;
use std::path::PathBuf;

use warden_config::log::LogLevel;
use warden_platform::secret::Secret;

use super::network::Network;
use super::object_store::S3Settings;
use super::upload_service::Limits as Archives;

/// Where it listens when nobody says otherwise: reachable from this host alone, without TLS.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7600);
/// Where its state is when nobody says otherwise.
pub const DATA_DIRECTORY: &str = "/var/lib/warden-supervisor";

#[derive(Debug, Clone)]
pub struct Settings {
    pub listen: SocketAddr,
    pub tls: Option<Tls>,
    /// Serves others than this host without TLS: keys and credentials can be read on the way.
    pub plain_beyond_loopback: bool,
    /// How nodes and people reach it, without a slash at the end. Without it, as the caller did.
    pub public_url: Option<String>,
    /// Proxies whose `x-forwarded-for` is believed.
    pub trusted_proxies: Vec<Network>,
    pub metrics: Metrics,
    pub database: Database,
    pub objects: ObjectStore,
    pub archives: Archives,
    pub limits: Limits,
    pub log: LogLevel,
}

impl Settings {
    /// Why nobody may be served like this: the way to others than this host would be open.
    pub fn exposure(&self) -> Option<String> {
        let listen = self.listen;
        let closed = self.tls.is_some() || self.plain_beyond_loopback || listen.ip().is_loopback();
        (!closed).then(|| {
            format!(
                "without TLS, keys and credentials can be read on the way to {listen}; give a certificate and its key \
                 (`warden supervisor init-tls` makes both), listen on 127.0.0.1 behind a proxy that has them, or say \
                 --insecure-plain-http"
            )
        })
    }
}

/// Who may read `/metrics`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Metrics {
    /// Whoever sends this, from anywhere.
    pub token: Option<Secret>,
    /// Whoever calls from here, without a token.
    pub networks: Vec<Network>,
}

impl Default for Metrics {
    /// This host alone.
    fn default() -> Metrics {
        let networks = ["127.0.0.0/8", "::1/128"].iter().filter_map(|text| text.parse().ok()).collect();
        Metrics { token: None, networks }
    }
}

/// Where the archives of snapshots lie.
#[derive(Debug, Clone)]
pub enum ObjectStore {
    Folder(PathBuf),
    S3(S3Settings),
}

#[derive(Debug, Clone)]
pub struct Tls {
    /// PEM: the certificate and those above it.
    pub certificate: PathBuf,
    /// PEM
    pub key: PathBuf,
    /// PEM: every client must show a certificate that one of these authorities signed.
    pub client_ca: Option<PathBuf>,
}

#[derive(Debug, Clone)]
pub enum Database {
    Sqlite { directory: PathBuf },
    Postgres { url: Secret },
}

/// Bounds an operator may move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Requests one key may make at once, and how many a second it gets back.
    pub burst: u32,
    pub per_second: u32,
    /// How long an activity may take, from asked to ended, unless the request says otherwise.
    pub activity_deadline_ms: i64,
    /// How long a snapshot may take, from asked to stored.
    pub snapshot_deadline_ms: i64,
    /// How much later than the deadline a node's answer is still waited for.
    pub deadline_grace_ms: i64,
    /// How often a node tells how it is.
    pub heartbeat_seconds: u32,
    /// Connections that are no node's, at once.
    pub connections: u32,
    /// Of those, from one address.
    pub connections_per_address: u32,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            // A console that opens, or a script over a fleet, comes in bursts.
            burst: 200,
            per_second: 50,
            // systemd gives a unit 90 s to stop and 90 s to start.
            activity_deadline_ms: 300_000,
            // 16 GiB at 5 MB/s, which is a node behind a slow line.
            snapshot_deadline_ms: 3_600_000,
            // A reconnect after the longest pause of 60 s is still in time.
            deadline_grace_ms: 90_000,
            heartbeat_seconds: 30,
            // Nodes of a large deployment that come all at once after a restart, from behind one address, and people
            // beside them; with their files that is a quarter of the descriptors that the packaged unit has.
            connections: 4096,
            connections_per_address: 1024,
        }
    }
}

/// What the command line says; it wins over the files.
#[derive(Debug, Default)]
pub struct Overrides {
    pub listen: Option<SocketAddr>,
    pub public_url: Option<String>,
    pub data_directory: Option<PathBuf>,
    pub database_url: Option<Secret>,
    pub tls_certificate: Option<PathBuf>,
    pub tls_key: Option<PathBuf>,
    pub plain_beyond_loopback: bool,
}
