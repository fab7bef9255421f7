//! Everything that can be asked of a host.

use serde::{Deserialize, Serialize};

use super::Rights;

/// One question. Equal questions within a run are asked once and get one answer.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(tag = "ask", rename_all = "snake_case")]
pub enum Request {
    /// Content of a file, from its start, at most [`FILE_BYTES`], below /proc
    /// [`PROC_BYTES`].
    File { path: String },
    /// Contents of all files that match a pattern (see [`crate::Read`]), in one answer, at most
    /// [`FILES_BYTES`] and [`FILES_COUNT`] together.
    Files { pattern: String },
    /// The same twice, before and after the sampling pause.
    Sample { pattern: String },
    /// The newest lines of a log file, at most [`LOG_LINES`] and [`LOG_BYTES`].
    Tail { path: String },
    /// Names in a directory, at most [`LIST_ENTRIES`].
    List { path: String },
    /// Where a symbolic link points.
    Link { path: String },
    /// Metadata of the file itself (a symbolic link is not followed).
    Stat { path: String },
    /// statvfs(3) of the filesystem that holds `path`.
    Space { path: String },
    /// uname(2).
    Uname,
    /// The time and how long the machine is up.
    Clock,
    /// How this run was set up.
    Settings,
    /// A row of [`super::COMMANDS`], with one more argument where the row takes one.
    Command { name: String, argument: Option<String> },
    /// Every loaded unit of the service manager.
    UnitList,
    /// Properties of one unit, loaded if need be.
    Unit { name: String },
    /// Newest journal entries of a unit since the run's `since`, at most [`LOG_LINES`].
    Journal { unit: String },
    /// The kernel's log, at most [`LOG_LINES`] newest.
    KernelLog,
    /// HTTP GET without credentials, to loopback, an address of this host, or the Supervisor only.
    Http { url: String },
    /// HTTP GET of `/stats` or `/clients` of a local Iggy, with the access token that the run was given. Of the
    /// clients only their number is told.
    IggyApi { url: String },
    /// TLS handshake that accepts any certificate and tells what was offered.
    Tls { address: String, name: String },
    /// Lookup of a host name with the system's resolver.
    Resolve { name: String },
    /// TCP connect to `host:port`.
    Connect { address: String },
    /// SubjectPublicKeyInfo of the private key in a PEM file.
    PublicKey { path: String },
    /// One of the above that names a path, asked for somebody else. A recording keeps it as the request itself.
    OnBehalf { rights: Rights, request: Box<Request> },
}

/// 1 MiB: configuration files and what /sys holds are far smaller.
pub const FILE_BYTES: u64 = 1 << 20;
/// 8 MiB of a file below /proc: tens of thousands of mounts (mountinfo) and of sockets (net/tcp), a line each.
pub const PROC_BYTES: u64 = 8 << 20;
/// 8 MiB and 20,000 files for one pattern: `/proc/[pid]/stat` of 20,000 processes.
pub const FILES_BYTES: u64 = 8 << 20;
pub const FILES_COUNT: usize = 20_000;
/// 2,000 lines, the newest, of every log; and no more than 1 MiB of them.
pub const LOG_LINES: usize = 2_000;
pub const LOG_BYTES: u64 = 1 << 20;
pub const LIST_ENTRIES: usize = 50_000;
/// 8 MiB of a command's output: a ruleset of tens of thousands of rules.
pub const OUTPUT_BYTES: u64 = 8 << 20;
/// 1 MiB of an HTTP body.
pub const BODY_BYTES: u64 = 1 << 20;

impl Request {
    /// Kind and name, unique for a request: where a recording keeps the answer.
    pub fn key(&self) -> (&'static str, String) {
        match self {
            Request::File { path } => ("file", path.clone()),
            Request::Files { pattern } => ("files", pattern.clone()),
            Request::Sample { pattern } => ("sample", pattern.clone()),
            Request::Tail { path } => ("tail", path.clone()),
            Request::List { path } => ("list", path.clone()),
            Request::Link { path } => ("link", path.clone()),
            Request::Stat { path } => ("stat", path.clone()),
            Request::Space { path } => ("space", path.clone()),
            Request::Uname => ("fact", "uname".to_owned()),
            Request::Clock => ("fact", "clock".to_owned()),
            Request::Settings => ("fact", "settings".to_owned()),
            Request::Command { name, argument: None } => ("command", name.clone()),
            Request::Command { name, argument: Some(argument) } => ("command", format!("{name} {argument}")),
            Request::UnitList => ("fact", "units".to_owned()),
            Request::Unit { name } => ("unit", name.clone()),
            Request::Journal { unit } => ("journal", unit.clone()),
            Request::KernelLog => ("fact", "kernel-log".to_owned()),
            Request::Http { url } => ("http", url.clone()),
            Request::IggyApi { url } => ("iggy-api", url.clone()),
            Request::Tls { address, name } => ("tls", format!("{address} {name}")),
            Request::Resolve { name } => ("resolve", name.clone()),
            Request::Connect { address } => ("connect", address.clone()),
            Request::PublicKey { path } => ("public-key", path.clone()),
            Request::OnBehalf { request, .. } => request.key(),
        }
    }

    /// What is asked, without for whom.
    pub fn plain(&self) -> &Request {
        if let Request::OnBehalf { request, .. } = self { request.plain() } else { self }
    }

    /// The path, or pattern of paths, that it names.
    pub fn path(&self) -> Option<&str> {
        match self.plain() {
            Request::File { path }
            | Request::Files { pattern: path }
            | Request::Sample { pattern: path }
            | Request::Tail { path }
            | Request::List { path }
            | Request::Link { path }
            | Request::Stat { path }
            | Request::Space { path }
            | Request::PublicKey { path } => Some(path),
            Request::Uname
            | Request::Clock
            | Request::Settings
            | Request::Command { .. }
            | Request::UnitList
            | Request::Unit { .. }
            | Request::Journal { .. }
            | Request::KernelLog
            | Request::Http { .. }
            | Request::IggyApi { .. }
            | Request::Tls { .. }
            | Request::Resolve { .. }
            | Request::Connect { .. }
            | Request::OnBehalf { .. } => None,
        }
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.key() {
            ("file" | "files", path) => out.write_str(&path),
            ("fact", name) => out.write_str(&name),
            (kind, name) => write!(out, "{kind} {name}"),
        }
    }
}
