//! `[supervisor]` of the configuration: what a Supervisor is told to be.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::Deserialize;

use super::network::Network;
use super::objects::S3Settings;
use super::uploads::Limits as Archives;
use crate::config::fragments::{Fragments, Problems};
use crate::secret::Secret;

/// Where it listens when nobody says otherwise: reachable from this host alone, without TLS.
pub const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 7600);
/// Where its state is when nobody says otherwise.
pub const DATA_DIRECTORY: &str = "/var/lib/warden-supervisor";
/// An address of a database is a line.
const URL_FILE_LIMIT: u64 = 4096;

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
    pub database: Database,
    pub objects: ObjectStore,
    pub archives: Archives,
    pub limits: Limits,
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

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    listen: Option<SocketAddr>,
    public_url: Option<String>,
    data_directory: Option<PathBuf>,
    database_url_file: Option<PathBuf>,
    tls_certificate: Option<PathBuf>,
    tls_key: Option<PathBuf>,
    tls_client_ca: Option<PathBuf>,
    plain_beyond_loopback: Option<bool>,
    trusted_proxies: Vec<String>,
    requests_per_second: Option<u32>,
    requests_at_once: Option<u32>,
    activity_deadline_seconds: Option<u32>,
    snapshot_deadline_seconds: Option<u32>,
    deadline_grace_seconds: Option<u32>,
    heartbeat_seconds: Option<u32>,
    /// Without `s3`; by default `objects` in the data directory.
    objects_directory: Option<PathBuf>,
    s3: Option<S3Section>,
    largest_archive_mib: Option<u32>,
    whole_upload_mib: Option<u32>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct S3Section {
    endpoint: String,
    region: String,
    bucket: String,
    access_key_id: String,
    secret_access_key_file: PathBuf,
    /// The bucket in the host name instead of the path.
    #[serde(default)]
    virtual_host: bool,
}

impl Settings {
    /// The `[supervisor]` of the files, under what the command line says. Every problem is told at once.
    pub fn read(mut fragments: Fragments, overrides: Overrides) -> Result<Settings, Problems> {
        let section: Section = fragments.section("supervisor");
        let mut wrong = |key: &str, what: &str| fragments.wrong("supervisor", key, what);
        let certificate = overrides.tls_certificate.or(section.tls_certificate);
        let tls = match (certificate, overrides.tls_key.or(section.tls_key)) {
            (Some(certificate), Some(key)) => {
                Some(Tls { certificate, key, client_ca: section.tls_client_ca })
            }
            (None, None) => {
                if section.tls_client_ca.is_some() {
                    wrong("tls_client_ca", "needs tls_certificate and tls_key beside it");
                }
                None
            }
            (Some(_), None) => {
                wrong("tls_certificate", "needs tls_key beside it");
                None
            }
            (None, Some(_)) => {
                wrong("tls_key", "needs tls_certificate beside it");
                None
            }
        };
        let public_url = overrides.public_url.or(section.public_url);
        if public_url.as_deref().is_some_and(|url| !is_base_url(url)) {
            wrong("public_url", "must be like https://warden.example.com, without a query");
        }
        let mut trusted_proxies = Vec::new();
        for text in &section.trusted_proxies {
            match text.parse() {
                Ok(network) => trusted_proxies.push(network),
                Err(error) => wrong("trusted_proxies", &format!("has {text:?}: {error}")),
            }
        }
        let mut limits = Limits::default();
        let mut number = |key: &str, value: Option<u32>, range: std::ops::RangeInclusive<u32>| {
            let value = value?;
            if !range.contains(&value) {
                wrong(key, &format!("must be from {} to {}", range.start(), range.end()));
            }
            Some(value)
        };
        let milliseconds = |seconds: u32| i64::from(seconds) * 1000;
        if let Some(value) = number("requests_per_second", section.requests_per_second, 1..=100_000) {
            limits.per_second = value;
        }
        if let Some(value) = number("requests_at_once", section.requests_at_once, 1..=100_000) {
            limits.burst = value;
        }
        if let Some(value) =
            number("activity_deadline_seconds", section.activity_deadline_seconds, 1..=86_400)
        {
            limits.activity_deadline_ms = milliseconds(value);
        }
        if let Some(value) =
            number("snapshot_deadline_seconds", section.snapshot_deadline_seconds, 60..=86_400)
        {
            limits.snapshot_deadline_ms = milliseconds(value);
        }
        let mut archives = Archives::default();
        let mebibytes = |mebibytes: u32| u64::from(mebibytes) << 20;
        if let Some(value) = number("largest_archive_mib", section.largest_archive_mib, 1..=1 << 22) {
            archives.largest = mebibytes(value);
        }
        // S3 takes at most 5 GiB by one PUT.
        if let Some(value) = number("whole_upload_mib", section.whole_upload_mib, 1..=5 << 10) {
            archives.whole = mebibytes(value);
        }
        if let Some(value) = number("deadline_grace_seconds", section.deadline_grace_seconds, 1..=86_400) {
            limits.deadline_grace_ms = milliseconds(value);
        }
        // A node must be heard at least twice before it counts as silent.
        if let Some(value) = number("heartbeat_seconds", section.heartbeat_seconds, 5..=60) {
            limits.heartbeat_seconds = value;
        }
        let from_file = section.database_url_file.and_then(|path| match secret_of(&path) {
            Ok(url) => Some(url),
            Err(error) => {
                wrong("database_url_file", &format!("cannot be read: {error}"));
                None
            }
        });
        let data_directory = overrides.data_directory.or(section.data_directory);
        let home = data_directory.unwrap_or_else(|| DATA_DIRECTORY.into());
        let objects = match section.s3 {
            None => ObjectStore::Folder(section.objects_directory.unwrap_or_else(|| home.join("objects"))),
            Some(s3) => {
                if section.objects_directory.is_some() {
                    wrong("objects_directory", "and s3 are two places: say one");
                }
                let secret = secret_of(&s3.secret_access_key_file).unwrap_or_else(|error| {
                    wrong("s3.secret_access_key_file", &format!("cannot be read: {error}"));
                    Secret::new("")
                });
                ObjectStore::S3(S3Settings {
                    endpoint: s3.endpoint,
                    region: s3.region,
                    bucket: s3.bucket,
                    access_key_id: s3.access_key_id,
                    secret_access_key: secret,
                    virtual_host: s3.virtual_host,
                })
            }
        };
        let database = match overrides.database_url.or(from_file) {
            Some(url) => {
                if !is_postgres(url.expose()) {
                    wrong("database_url_file", "must hold a URL that begins with postgres://");
                }
                Database::Postgres { url }
            }
            None => Database::Sqlite { directory: home },
        };
        let settings = Settings {
            listen: overrides.listen.or(section.listen).unwrap_or(LISTEN),
            tls,
            plain_beyond_loopback: overrides.plain_beyond_loopback
                || section.plain_beyond_loopback.unwrap_or(false),
            public_url: public_url.map(|url| url.trim_end_matches('/').to_owned()),
            trusted_proxies,
            database,
            objects,
            archives,
            limits,
        };
        fragments.finish().map(|()| settings)
    }
}

fn is_base_url(text: &str) -> bool {
    url::Url::parse(text).is_ok_and(|url| {
        matches!(url.scheme(), "http" | "https")
            && url.has_host()
            && url.query().is_none()
            && url.fragment().is_none()
            && url.username().is_empty()
    })
}

fn is_postgres(url: &str) -> bool {
    url.starts_with("postgres://") || url.starts_with("postgresql://")
}

fn secret_of(path: &std::path::Path) -> std::io::Result<Secret> {
    use std::io::Read;
    let mut text = String::new();
    std::fs::File::open(path)?.take(URL_FILE_LIMIT).read_to_string(&mut text)?;
    Ok(Secret::new(text.trim()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, overrides: Overrides) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("warden.toml"), text).unwrap();
        Settings::read(Fragments::read(folder.path()), overrides)
            .map_err(|problems| problems.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn nothing_said_is_sqlite_on_this_host_alone() {
        let settings = read("", Overrides::default()).unwrap();
        assert_eq!(settings.listen, LISTEN);
        assert_eq!(settings.limits, Limits::default());
        assert!(settings.tls.is_none() && !settings.plain_beyond_loopback);
        let Database::Sqlite { directory } = settings.database else { panic!("not SQLite") };
        assert_eq!(directory, PathBuf::from(DATA_DIRECTORY));
    }

    #[test]
    fn the_command_line_wins_over_the_files() {
        let text =
            "[supervisor]\nlisten = \"10.0.0.1:1\"\npublic_url = \"https://a/\"\nrequests_at_once = 7\n";
        let overrides = Overrides { listen: Some("127.0.0.1:2".parse().unwrap()), ..Overrides::default() };
        let settings = read(text, overrides).unwrap();
        assert_eq!(settings.listen.port(), 2);
        assert_eq!(settings.public_url.as_deref(), Some("https://a"));
        assert_eq!(settings.limits.burst, 7);
    }

    #[test]
    fn every_problem_is_told_at_once() {
        let text = "[supervisor]\nlisten = \"here\"\ntls_key = \"k\"\npublic_url = \"warden\"\n\
                    trusted_proxies = [\"10.0.0.1/8\"]\nrequests_per_second = 0\nheartbeat_seconds = 90\n\
                    database_url_file = \"/nonexistent\"\n";
        let told = read(text, Overrides::default()).unwrap_err();
        let lines: Vec<&str> = told.lines().collect();
        assert_eq!(lines.len(), 8, "{told}");
        for (line, part) in lines.iter().zip([
            "7 things are wrong with the configuration",
            "warden.toml:2:10: ",
            "supervisor.tls_key needs tls_certificate beside it",
            "supervisor.public_url must be like https://warden.example.com",
            "supervisor.trusted_proxies has \"10.0.0.1/8\": expected an address or a network",
            "supervisor.requests_per_second must be from 1 to 100000",
            "supervisor.heartbeat_seconds must be from 5 to 60",
            "supervisor.database_url_file cannot be read: ",
        ]) {
            assert!(line.contains(part), "{line}");
        }
    }
}
