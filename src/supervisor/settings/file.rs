//! `[supervisor]` of the configuration, under what the command line says.

use std::fmt::Display;
use std::io::Read;
use std::net::SocketAddr;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use url::Url;
use warden_config::fragments::{Fragments, Problems};
use warden_config::log::LogLevel;
use warden_platform::secret::Secret;

use super::{
    Archives, DATA_DIRECTORY, Database, LISTEN, Limits, Metrics, ObjectStore, Overrides, S3Settings,
    Settings, Tls,
};
use crate::network::Network;

const NAME: &str = "supervisor";
/// The address of a database, or a secret key, is a line. In bytes.
const SECRET_LIMIT: u64 = 4096;
/// Shortest token of `/metrics`: what is shorter can be guessed. `openssl rand -hex 32` makes 64 characters.
const TOKEN_LEAST: usize = 16;

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
    plain_beyond_loopback: bool,
    trusted_proxies: Vec<String>,
    metrics_token_file: Option<PathBuf>,
    metrics_networks: Option<Vec<String>>,
    requests_per_second: Option<u32>,
    requests_at_once: Option<u32>,
    activity_deadline_seconds: Option<u32>,
    snapshot_deadline_seconds: Option<u32>,
    deadline_grace_seconds: Option<u32>,
    heartbeat_seconds: Option<u32>,
    connections: Option<u32>,
    connections_per_address: Option<u32>,
    /// Without `s3`; by default `objects` in the data directory.
    objects_directory: Option<PathBuf>,
    s3: Option<S3Section>,
    largest_archive_mib: Option<u32>,
    whole_upload_mib: Option<u32>,
    log: Option<LogLevel>,
}

#[derive(Debug, Clone, Deserialize)]
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
    /// The `[supervisor]` of the files, under what the command line says.
    ///
    /// # Errors
    /// Everything that is wrong, at once.
    pub fn read(fragments: Fragments, overrides: Overrides) -> Result<Settings, Problems> {
        let (settings, problems) = Settings::examine(fragments, overrides);
        problems.map(|()| settings)
    }

    /// The same, with what is right beside what is wrong, so that the rest can be looked at, too.
    pub fn examine(mut fragments: Fragments, overrides: Overrides) -> (Settings, Result<(), Problems>) {
        let section: Section = fragments.section(NAME);
        let mut reader = Reader { fragments, section, overrides };
        let home = reader.home();
        // A certificate without its key is told once, as that.
        let half_said = reader.says_a_part_of_tls();
        let settings = Settings {
            listen: reader.overrides.listen.or(reader.section.listen).unwrap_or(LISTEN),
            tls: reader.tls(),
            plain_beyond_loopback: reader.overrides.plain_beyond_loopback
                || reader.section.plain_beyond_loopback,
            public_url: reader.public_url(),
            trusted_proxies: reader.trusted_proxies(),
            metrics: reader.metrics(),
            objects: reader.objects(&home),
            archives: reader.archives(),
            limits: reader.limits(),
            log: reader.section.log.take().unwrap_or_default(),
            database: reader.database(home),
        };
        if let Some(exposure) = settings.exposure().filter(|_| !half_said) {
            reader.wrong("listen", format!("is open to others: {exposure}"));
        }
        (settings, reader.fragments.finish())
    }
}

struct Reader {
    fragments: Fragments,
    section: Section,
    overrides: Overrides,
}

impl Reader {
    fn wrong(&mut self, key: &str, what: impl Display) {
        self.fragments.wrong(NAME, key, what);
    }

    fn home(&self) -> PathBuf {
        let said = self.overrides.data_directory.as_ref().or(self.section.data_directory.as_ref());
        said.cloned().unwrap_or_else(|| DATA_DIRECTORY.into())
    }

    fn says_a_part_of_tls(&self) -> bool {
        let certificate = self.overrides.tls_certificate.is_some() || self.section.tls_certificate.is_some();
        certificate != (self.overrides.tls_key.is_some() || self.section.tls_key.is_some())
    }

    fn tls(&mut self) -> Option<Tls> {
        let Overrides { tls_certificate, tls_key, .. } = &mut self.overrides;
        let certificate = tls_certificate.take().or(self.section.tls_certificate.take());
        let key = tls_key.take().or(self.section.tls_key.take());
        let client_ca = self.section.tls_client_ca.take();
        match (certificate, key) {
            (Some(certificate), Some(key)) => return Some(Tls { certificate, key, client_ca }),
            (None, None) if client_ca.is_some() => {
                self.wrong("tls_client_ca", "needs tls_certificate and tls_key beside it");
            }
            (None, None) => {}
            (Some(_), None) => self.wrong("tls_certificate", "needs tls_key beside it"),
            (None, Some(_)) => self.wrong("tls_key", "needs tls_certificate beside it"),
        }
        None
    }

    fn public_url(&mut self) -> Option<String> {
        let url = self.overrides.public_url.take().or(self.section.public_url.take())?;
        if !is_base_url(&url) {
            self.wrong("public_url", "must be like https://warden.example.com, without a query");
        }
        Some(url.trim_end_matches('/').to_owned())
    }

    fn trusted_proxies(&mut self) -> Vec<Network> {
        let texts = std::mem::take(&mut self.section.trusted_proxies);
        self.networks("trusted_proxies", texts)
    }

    fn networks(&mut self, key: &str, texts: Vec<String>) -> Vec<Network> {
        let mut networks = Vec::new();
        for text in texts {
            match text.parse() {
                Ok(network) => networks.push(network),
                Err(error) => self.wrong(key, format!("has {text:?}: {error}")),
            }
        }
        networks
    }

    fn metrics(&mut self) -> Metrics {
        let mut metrics = Metrics::default();
        if let Some(texts) = self.section.metrics_networks.take() {
            metrics.networks = self.networks("metrics_networks", texts);
        }
        let Some(path) = self.section.metrics_token_file.take() else { return metrics };
        match secret_in(&path) {
            Ok(token) => {
                let visible = token.expose().bytes().all(|byte| byte.is_ascii_graphic());
                if token.expose().len() < TOKEN_LEAST || !visible {
                    let what =
                        format!("must hold one line of at least {TOKEN_LEAST} characters, none a blank");
                    self.wrong("metrics_token_file", what);
                }
                metrics.token = Some(token);
            }
            Err(error) => self.wrong("metrics_token_file", format!("cannot be read: {error}")),
        }
        metrics
    }

    fn number(&mut self, key: &str, said: Option<u32>, range: RangeInclusive<u32>) -> Option<u32> {
        let number = said?;
        if !range.contains(&number) {
            self.wrong(key, format!("must be from {} to {}", range.start(), range.end()));
        }
        Some(number)
    }

    fn seconds(&mut self, key: &str, said: Option<u32>, range: RangeInclusive<u32>) -> Option<i64> {
        self.number(key, said, range).map(|seconds| i64::from(seconds) * 1000)
    }

    fn limits(&mut self) -> Limits {
        let Section { requests_at_once, requests_per_second, heartbeat_seconds, .. } = self.section;
        let Section { connections, connections_per_address, .. } = self.section;
        let Section { activity_deadline_seconds, snapshot_deadline_seconds, deadline_grace_seconds, .. } =
            self.section;
        let default = Limits::default();
        let day = 86_400;
        Limits {
            burst: self.number("requests_at_once", requests_at_once, 1..=100_000).unwrap_or(default.burst),
            per_second: self
                .number("requests_per_second", requests_per_second, 1..=100_000)
                .unwrap_or(default.per_second),
            activity_deadline_ms: self
                .seconds("activity_deadline_seconds", activity_deadline_seconds, 1..=day)
                .unwrap_or(default.activity_deadline_ms),
            snapshot_deadline_ms: self
                .seconds("snapshot_deadline_seconds", snapshot_deadline_seconds, 60..=day)
                .unwrap_or(default.snapshot_deadline_ms),
            deadline_grace_ms: self
                .seconds("deadline_grace_seconds", deadline_grace_seconds, 1..=day)
                .unwrap_or(default.deadline_grace_ms),
            // A node must be heard at least twice before it counts as silent.
            heartbeat_seconds: self
                .number("heartbeat_seconds", heartbeat_seconds, 5..=60)
                .unwrap_or(default.heartbeat_seconds),
            connections: self.number("connections", connections, 32..=100_000).unwrap_or(default.connections),
            connections_per_address: self
                .number("connections_per_address", connections_per_address, 8..=100_000)
                .unwrap_or(default.connections_per_address),
        }
    }

    fn archives(&mut self) -> Archives {
        let Section { largest_archive_mib, whole_upload_mib, .. } = self.section;
        let mebibytes = |mebibytes: u32| u64::from(mebibytes) << 20;
        let mut archives = Archives::default();
        if let Some(most) = self.number("largest_archive_mib", largest_archive_mib, 1..=1 << 22) {
            archives.largest = mebibytes(most);
        }
        // S3 takes at most 5 GiB by one PUT.
        if let Some(most) = self.number("whole_upload_mib", whole_upload_mib, 1..=5 << 10) {
            archives.whole = mebibytes(most);
        }
        archives
    }

    fn objects(&mut self, home: &Path) -> ObjectStore {
        let folder = self.section.objects_directory.take();
        let Some(s3) = self.section.s3.take() else {
            return ObjectStore::Folder(folder.unwrap_or_else(|| home.join("objects")));
        };
        if folder.is_some() {
            self.wrong("objects_directory", "and s3 are two places: say one");
        }
        let secret = secret_in(&s3.secret_access_key_file).unwrap_or_else(|error| {
            self.wrong("s3.secret_access_key_file", format!("cannot be read: {error}"));
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

    fn database(&mut self, home: PathBuf) -> Database {
        let from_file =
            self.section.database_url_file.take().filter(|_| self.overrides.database_url.is_none());
        let from_file = from_file.and_then(|path| match secret_in(&path) {
            Ok(url) => Some(url),
            Err(error) => {
                self.wrong("database_url_file", format!("cannot be read: {error}"));
                None
            }
        });
        let Some(url) = self.overrides.database_url.take().or(from_file) else {
            return Database::Sqlite { directory: home };
        };
        if !["postgres://", "postgresql://"].iter().any(|scheme| url.expose().starts_with(scheme)) {
            self.wrong("database_url_file", "must hold a URL that begins with postgres://");
        }
        Database::Postgres { url }
    }
}

fn is_base_url(text: &str) -> bool {
    Url::parse(text).is_ok_and(|url| {
        let bare = url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        matches!(url.scheme(), "http" | "https") && url.has_host() && bare
    })
}

fn secret_in(path: &Path) -> std::io::Result<Secret> {
    let mut text = String::new();
    std::fs::File::open(path)?.take(SECRET_LIMIT).read_to_string(&mut text)?;
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
