//! `[agent]` of the configuration: what the daemon needs to know.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;
use warden_config::fragments::{Fragments, Problems};
use warden_config::log::LogLevel;
use warden_config::units::Units;
use warden_config::{self as config, policy};
/// Identity, ledger and audit log; the package makes it for the agent's own user.
pub use warden_host::STATE_DIRECTORY;
use warden_platform::endpoint::Endpoint;
pub use warden_platform::tls::ClientCertificate;

use super::link::Proxy;
use super::snapshots::Limits;
/// What the running agent tells others on this host.
pub const RUNTIME_DIRECTORY: &str = "/run/warden";
/// Iggy's HTTP API as the server listens by default.
pub const IGGY_API: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 3000);
/// How often a node may tell how it is, in seconds: more often costs more than it says, and a node that is silent
/// for 120 s counts as unreachable, so it must be told at least once in half of that.
pub const HEARTBEAT_SECONDS: std::ops::RangeInclusive<u32> = 5..=60;

/// The most seconds that a unit is watched after its job: a wait for longer than ten minutes is a check of another kind.
const SETTLE_MOST: u32 = 600;
/// The most seconds that an answer is waited for: terabytes are loaded by then.
const ANSWER_MOST: u32 = 3600;

/// Archives that may wait to be sent: a run that nobody fetched, an automatic one, and one asked for meanwhile.
pub const OUTBOX_ARCHIVES: u32 = 3;
/// MiB of them together: two with a data directory at its default budget.
pub const OUTBOX_MIB: u32 = 4096;

/// MiB of Iggy's data directory that a snapshot takes, before packing; as `warden snapshot` does by itself.
pub const IGGY_BUDGET_MIB: u32 = 2048;

#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// Absent: the one this host was enrolled at.
    pub supervisor: Option<Endpoint>,
    /// Certificates of authorities, in PEM: the Supervisor must be proven by one of them and no other. Absent: those
    /// given at enrolment, else the host's own.
    pub ca_file: Option<PathBuf>,
    /// Shown to the Supervisor, or to what stands before it.
    pub client: Option<ClientCertificate>,
    pub proxy: Proxy,
    /// Absent: as the Supervisor says.
    pub heartbeat: Option<Duration>,
    /// Where Iggy is asked whether it answers.
    pub iggy_api: IggyApi,
    /// How long a unit must stay as it was right after its job.
    pub settle: Duration,
    /// How long a runtime may take to answer after its start; nought: it is not asked.
    pub answer: Duration,
    pub units: Units,
    pub state_directory: PathBuf,
    pub runtime_directory: PathBuf,
    /// What this host allows.
    pub policy: PathBuf,
    /// How fast archives are sent; absent: as fast as it goes.
    pub upload_bytes_per_second: Option<u64>,
    /// How much may wait to be sent.
    pub outbox: Limits,
    /// Bytes of the data directory that a snapshot takes, before packing.
    pub iggy_budget: u64,
    /// Whether the flight recorder runs.
    pub recorder: bool,
    pub log: LogLevel,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Section {
    supervisor: Option<Endpoint>,
    ca_file: Option<PathBuf>,
    client_certificate: Option<PathBuf>,
    client_key: Option<PathBuf>,
    proxy: Option<Proxy>,
    heartbeat_seconds: Option<u32>,
    iggy_api: Option<IggyApi>,
    settle_seconds: Option<u32>,
    answer_seconds: Option<u32>,
    state_directory: Option<PathBuf>,
    runtime_directory: Option<PathBuf>,
    policy: Option<PathBuf>,
    upload_kib_per_second: Option<u32>,
    outbox_archives: Option<u32>,
    outbox_mib: Option<u32>,
    iggy_budget_mib: Option<u32>,
    recorder: Option<bool>,
    log: Option<LogLevel>,
}

/// Where Iggy's HTTP API is asked: `configured`, an address, or `none`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub enum IggyApi {
    /// Where Iggy's own configuration has it.
    #[default]
    Configured,
    At(SocketAddr),
    /// Nowhere.
    None,
}

impl IggyApi {
    /// What a heartbeat asks, which looks into no configuration.
    pub fn address(self) -> Option<SocketAddr> {
        match self {
            IggyApi::Configured => Some(IGGY_API),
            IggyApi::At(address) => Some(address),
            IggyApi::None => None,
        }
    }
}

impl Settings {
    /// Those of the files in `folder`.
    ///
    /// # Errors
    /// Everything that is wrong with the files.
    pub fn load(folder: &Path) -> Result<Settings, Problems> {
        let (settings, problems) = Settings::examine(folder);
        problems.map(|()| settings)
    }

    /// The same, with what is right beside what is wrong, so that the rest can be looked at, too.
    pub fn examine(folder: &Path) -> (Settings, Result<(), Problems>) {
        let mut fragments = Fragments::read(folder);
        let settings = Settings::of(&mut fragments);
        (settings, fragments.finish())
    }

    /// With all that the agent keeps below `dir`, wherever the files say: as `warden up --dir` has it.
    #[must_use]
    pub fn below(self, dir: &Path) -> Settings {
        Settings { state_directory: dir.join("agent"), runtime_directory: dir.join("run"), ..self }
    }

    fn of(fragments: &mut Fragments) -> Settings {
        let units: Units = fragments.section("units");
        let section: Section = fragments.section("agent");
        let mut wrong = |key: &str, what: &str| fragments.wrong("agent", key, what);
        for (key, path) in [
            ("ca_file", &section.ca_file),
            ("client_certificate", &section.client_certificate),
            ("client_key", &section.client_key),
            ("state_directory", &section.state_directory),
            ("runtime_directory", &section.runtime_directory),
            ("policy", &section.policy),
        ] {
            if path.as_ref().is_some_and(|path| !path.is_absolute()) {
                wrong(key, "must be an absolute path");
            }
        }
        let client = match (section.client_certificate, section.client_key) {
            (Some(certificate), Some(key)) => Some(ClientCertificate { certificate, key }),
            (Some(_), None) => {
                wrong("client_certificate", "needs client_key beside it");
                None
            }
            (None, Some(_)) => {
                wrong("client_key", "needs client_certificate beside it");
                None
            }
            (None, None) => None,
        };
        if section.heartbeat_seconds.is_some_and(|seconds| !HEARTBEAT_SECONDS.contains(&seconds)) {
            let (least, most) = (HEARTBEAT_SECONDS.start(), HEARTBEAT_SECONDS.end());
            wrong("heartbeat_seconds", &format!("must be from {least} to {most}"));
        }
        let mut number = |key: &str, value: Option<u32>, most: u32, default: u32| {
            if value.is_some_and(|value| !(1..=most).contains(&value)) {
                wrong(key, &format!("must be from 1 to {most}"));
            }
            value.unwrap_or(default)
        };
        let outbox = Limits {
            archives: number("outbox_archives", section.outbox_archives, 1000, OUTBOX_ARCHIVES) as usize,
            bytes: u64::from(number("outbox_mib", section.outbox_mib, 1 << 22, OUTBOX_MIB)) << 20,
        };
        let iggy_budget = number("iggy_budget_mib", section.iggy_budget_mib, 1 << 22, IGGY_BUDGET_MIB);
        let settle = number("settle_seconds", section.settle_seconds, SETTLE_MOST, config::SETTLE_SECONDS);
        let answer = match section.answer_seconds {
            Some(0) => 0,
            seconds => number("answer_seconds", seconds, ANSWER_MOST, config::ANSWER_SECONDS),
        };
        let rate = section.upload_kib_per_second;
        let rate = rate.map(|_| u64::from(number("upload_kib_per_second", rate, 1 << 30, 1)) << 10);
        Settings {
            supervisor: section.supervisor,
            ca_file: section.ca_file,
            client,
            proxy: section.proxy.unwrap_or_default(),
            heartbeat: section.heartbeat_seconds.map(|seconds| Duration::from_secs(seconds.into())),
            iggy_api: section.iggy_api.unwrap_or_default(),
            settle: Duration::from_secs(settle.into()),
            answer: Duration::from_secs(answer.into()),
            units,
            state_directory: section.state_directory.unwrap_or_else(|| STATE_DIRECTORY.into()),
            runtime_directory: section.runtime_directory.unwrap_or_else(|| RUNTIME_DIRECTORY.into()),
            policy: section.policy.unwrap_or_else(|| policy::PLACE.into()),
            upload_bytes_per_second: rate,
            outbox,
            iggy_budget: u64::from(iggy_budget) << 20,
            recorder: section.recorder.unwrap_or(true),
            log: section.log.unwrap_or_default(),
        }
    }
}

impl Default for Settings {
    fn default() -> Settings {
        Settings::of(&mut Fragments::default())
    }
}

impl TryFrom<String> for IggyApi {
    type Error = String;

    fn try_from(text: String) -> Result<IggyApi, String> {
        match text.as_str() {
            "configured" => Ok(IggyApi::Configured),
            "none" => Ok(IggyApi::None),
            address => match address.parse() {
                Ok(address) => Ok(IggyApi::At(address)),
                Err(_) => Err(format!("expected configured, an address like {IGGY_API}, or none")),
            },
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn load(text: &str) -> Result<Settings, String> {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("warden.toml"), text).unwrap();
        Settings::load(folder.path())
            .map_err(|problems| problems.to_string().replace(&format!("{}/", folder.path().display()), ""))
    }

    #[test]
    fn an_empty_configuration_is_the_default() {
        let settings = load("").unwrap();
        assert_eq!(settings, Settings::default());
        assert_eq!(settings.state_directory, Path::new("/var/lib/warden"));
        assert_eq!(settings.policy, Path::new("/etc/warden/policy.toml"));
        assert!(settings.recorder);
    }

    #[test]
    fn every_setting_is_read() {
        let settings = load(
            "[agent]\nsupervisor = \"https://sup.example.com\"\nca_file = \"/etc/warden/ca.pem\"\n\
             client_certificate = \"/c.pem\"\nclient_key = \"/k.pem\"\nproxy = \"none\"\nheartbeat_seconds = 10\n\
             iggy_api = \"none\"\nsettle_seconds = 30\nanswer_seconds = 0\nstate_directory = \"/s\"\nruntime_directory = \"/r\"\npolicy = \"/p\"\n\
             recorder = false\n\
             [units]\niggy = \"broker.service\"\n",
        )
        .unwrap();
        assert_eq!(settings.supervisor.unwrap().to_string(), "https://sup.example.com");
        assert_eq!(settings.ca_file.unwrap(), Path::new("/etc/warden/ca.pem"));
        let client = ClientCertificate { certificate: "/c.pem".into(), key: "/k.pem".into() };
        assert_eq!(settings.client, Some(client));
        assert_eq!(settings.proxy, Proxy::Never);
        assert_eq!(settings.heartbeat, Some(Duration::from_secs(10)));
        assert_eq!(settings.iggy_api, IggyApi::None);
        assert_eq!((settings.settle, settings.answer), (Duration::from_secs(30), Duration::ZERO));
        assert_eq!((settings.state_directory, settings.runtime_directory), ("/s".into(), "/r".into()));
        assert_eq!(settings.policy, Path::new("/p"));
        assert!(!settings.recorder);
        assert_eq!(settings.units.unit(&warden_protocol::Runtime::Iggy), "broker.service");
    }

    #[test]
    fn what_makes_no_sense_is_told_by_place() {
        let told = load(
            "[agent]\nsupervisor = \"http://10.0.0.1\"\nca_file = \"ca.pem\"\nclient_key = \"/k\"\n\
             heartbeat_seconds = 90\niggy_api = \"3000\"\nsettle_seconds = 0\nanswer_seconds = 86400\n",
        )
        .unwrap_err();
        assert_eq!(
            told.lines().collect::<Vec<_>>(),
            [
                "7 things are wrong with the configuration",
                "warden.toml:2:14: http:// is only for a Supervisor on this host; elsewhere the credential could \
                 be read: use https://",
                "warden.toml:3:1: agent.ca_file must be an absolute path",
                "warden.toml:4:1: agent.client_key needs client_certificate beside it",
                "warden.toml:5:1: agent.heartbeat_seconds must be from 5 to 60",
                "warden.toml:6:12: expected configured, an address like 127.0.0.1:3000, or none",
                "warden.toml:7:1: agent.settle_seconds must be from 1 to 600",
                "warden.toml:8:1: agent.answer_seconds must be from 1 to 3600",
            ]
        );
    }
}
