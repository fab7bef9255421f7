//! Everything a host can answer, and why it did not.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

pub type Answer = Result<Data, Failure>;

/// Why there is no answer. `what` is the question as a person reads it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[error("{what}: {cause}")]
pub struct Failure {
    pub what: String,
    pub cause: Cause,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error, Serialize, Deserialize)]
#[serde(tag = "cause", content = "detail", rename_all = "snake_case")]
pub enum Cause {
    /// There is no such file, unit, program or listener.
    #[error("does not exist")]
    Absent,
    /// This user may not see it.
    #[error("permission denied")]
    Denied,
    #[error("no answer in time")]
    TimedOut,
    /// The service that would answer is not there (no systemd, no D-Bus, no journal).
    #[error("{0}")]
    Unavailable(String),
    /// A recording that never asked this.
    #[error("not in this recording")]
    Unrecorded,
    /// There is more than was read; the text says how much was.
    #[error("{0}")]
    Truncated(String),
    /// The redactor put a placeholder in the place of a value.
    #[error("a value in it is masked")]
    Masked,
    #[error("{0}")]
    Other(String),
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "snake_case")]
pub enum Data {
    Text(Content),
    Files {
        files: Vec<FileText>,
        /// Left out by a limit.
        #[serde(default)]
        left_out: u64,
        /// There, but not read, or not to their end. Files that vanished while they were read do not count.
        #[serde(default, skip_serializing_if = "Unread::is_none")]
        unread: Unread,
    },
    Samples(Samples),
    Entries {
        entries: Vec<Entry>,
        #[serde(default)]
        left_out: u64,
    },
    Link {
        target: String,
    },
    Stat(Stat),
    Space(Space),
    Uname(Uname),
    Clock(Clock),
    Settings(Settings),
    Output(Output),
    Units {
        units: Vec<UnitRow>,
    },
    Unit(UnitProperties),
    Log(LogText),
    Http(HttpAnswer),
    Tls(TlsAnswer),
    Addresses {
        addresses: Vec<String>,
        millis: f64,
    },
    Connected {
        millis: f64,
    },
    PublicKey {
        algorithm: String,
        spki_sha256: String,
    },
}

/// What the cause says of a file that was asked for its private key and holds none that rustls reads.
pub const NO_PRIVATE_KEY: &str = "holds no private key in PEM form";

/// Text that was read; bytes that are not UTF-8 are shown as U+FFFD.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    pub text: String,
    /// Bytes there were, when that is more than was read.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_from: Option<u64>,
}

/// Members of a pattern whose content is missing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Unread {
    pub count: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first: Option<Failure>,
}

impl Unread {
    pub fn is_none(&self) -> bool {
        self.count == 0
    }

    pub fn add(&mut self, failure: Failure) {
        self.count += 1;
        self.first.get_or_insert(failure);
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileText {
    pub path: String,
    pub text: String,
}

/// Files that matched, as they were before and after the pause.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Samples {
    /// Time between the two reads, in microseconds of the monotonic clock.
    pub elapsed_us: u64,
    pub files: Vec<Sample>,
    /// Left out by a limit, or not read to their end.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub left_out: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
fn is_zero(count: &u64) -> bool {
    *count == 0
}

/// `first` is absent for a file that came between the reads, `second` for one that went.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sample {
    pub path: String,
    pub first: Option<String>,
    pub second: Option<String>,
}

impl Samples {
    pub fn seconds(&self) -> f64 {
        self.elapsed_us as f64 / 1e6
    }
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    pub name: String,
    pub kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    File,
    Directory,
    Link,
    Fifo,
    Socket,
    Device,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Stat {
    pub kind: Kind,
    /// Permission bits, setuid, setgid and sticky included: `0o4755`.
    pub mode: u32,
    pub uid: u32,
    pub gid: u32,
    pub size: u64,
    /// Bytes on disk (512-byte blocks times 512): less than `size` for a sparse file.
    pub allocated: u64,
    /// Unix time in seconds.
    pub modified: i64,
    pub device: u64,
    pub inode: u64,
}

/// statvfs(3), in bytes and counts.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Space {
    pub size: u64,
    pub free: u64,
    /// What an unprivileged user can still write.
    pub available: u64,
    /// 0 on filesystems that have no inode table (btrfs).
    pub inodes: u64,
    pub inodes_free: u64,
    pub read_only: bool,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Uname {
    pub system: String,
    pub node: String,
    pub release: String,
    pub version: String,
    pub machine: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// Unix time in microseconds.
    pub unix_us: i64,
    /// CLOCK_BOOTTIME in microseconds.
    pub up_us: i64,
    /// Absent where the kernel does not say, and in older recordings.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kernel: Option<KernelClock>,
}

/// What the kernel holds of its clock: adjtimex(2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct KernelClock {
    /// Whether a time service has said so lately.
    pub synchronised: bool,
    /// Microseconds that it may be off by at most, and by what is thought.
    pub max_error_us: i64,
    pub estimated_error_us: i64,
}

impl Clock {
    pub fn seconds(&self) -> i64 {
        self.unix_us.div_euclid(1_000_000)
    }
}

/// Where the packaged agent keeps its state, its flight recorder below it.
pub const STATE_DIRECTORY: &str = "/var/lib/warden";

/// How a run was set up: part of the recording, so that a replay judges by the same.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Settings {
    pub iggy_unit: String,
    pub connectors_unit: String,
    pub warden_unit: String,
    /// Where the agent of this host keeps its state.
    #[serde(default = "state_directory")]
    pub state_directory: String,
    /// `https://...` of the Supervisor, when this host has one.
    #[serde(default)]
    pub supervisor_url: Option<String>,
    /// What alone proves the Supervisor to the agent; absent: the authorities that this host trusts.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub supervisor_authorities: Option<Authorities>,
    /// How far back logs are read, in seconds.
    pub since_seconds: u64,
    /// The process that asks, to leave it out of what it reports.
    pub own_pid: u32,
    pub effective_uid: u32,
    /// Permitted and effective capabilities, by name, of the process that asks.
    #[serde(default)]
    pub capabilities: Vec<String>,
}

/// Certificates of authorities that were named for one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Authorities {
    /// `/etc/warden/supervisor-ca.pem (agent.ca_file)`, `the enrolment`.
    pub named_by: String,
    /// In PEM, or why they could not be read.
    pub pem: Result<String, String>,
}

/// Recordings did not always tell.
fn state_directory() -> String {
    STATE_DIRECTORY.to_owned()
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Output {
    /// Exit status; `None` when a signal ended it.
    pub status: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    /// Output went on after the limit.
    #[serde(default)]
    pub cut: bool,
}

/// A row of the service manager's ListUnits.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnitRow {
    pub name: String,
    pub description: String,
    pub load: String,
    pub active: String,
    pub sub: String,
}

/// D-Bus properties of a unit, of both its general and its service (timer, mount) interface.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct UnitProperties {
    pub properties: BTreeMap<String, serde_json::Value>,
}

impl UnitProperties {
    /// A string property; empty counts as unset.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.properties.get(name)?.as_str().filter(|text| !text.is_empty())
    }

    /// A numeric property; `u64::MAX`, systemd's "not set" or "infinity", comes back as `None`.
    pub fn number(&self, name: &str) -> Option<u64> {
        self.properties.get(name)?.as_u64().filter(|&number| number != u64::MAX)
    }

    pub fn flag(&self, name: &str) -> Option<bool> {
        self.properties.get(name)?.as_bool()
    }

    /// A list of strings.
    pub fn list(&self, name: &str) -> Vec<&str> {
        let items = self.properties.get(name).and_then(|value| value.as_array());
        items.into_iter().flatten().filter_map(|item| item.as_str()).collect()
    }

    /// Whether a unit file was found.
    pub fn is_loaded(&self) -> bool {
        self.text("LoadState") == Some("loaded")
    }
}

/// Log lines, oldest first.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogText {
    pub lines: Vec<LogLine>,
    /// Older lines exist that are not here.
    #[serde(default)]
    pub cut: bool,
    /// Where they came from: `journal`, `kernel ring buffer`, a path.
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLine {
    /// Unix time in microseconds, when the line has one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_us: Option<i64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub level: Option<Level>,
    /// Process, thread or subsystem that wrote it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin: String,
    pub text: String,
}

/// Severity of a log line; syslog's eight and tracing's five fold into these.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    Trace,
    Debug,
    Info,
    Warn,
    Error,
    /// syslog emerg, alert and crit.
    Critical,
}

impl Level {
    /// From syslog(3): 0 is emerg, 7 is debug.
    pub fn from_syslog(priority: u8) -> Level {
        match priority {
            0..=2 => Level::Critical,
            3 => Level::Error,
            4 => Level::Warn,
            5 | 6 => Level::Info,
            _ => Level::Debug,
        }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Level::Trace => "trace",
            Level::Debug => "debug",
            Level::Info => "info",
            Level::Warn => "warn",
            Level::Error => "error",
            Level::Critical => "critical",
        }
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct HttpAnswer {
    pub status: u16,
    pub body: String,
    pub millis: f64,
    /// The server's clock by its `Date` header, in Unix seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub date: Option<i64>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TlsAnswer {
    /// `TLSv1.3`.
    pub protocol: String,
    pub cipher: String,
    /// PEM of every certificate the server sent, its own first.
    pub chain: Vec<String>,
    pub millis: f64,
}
