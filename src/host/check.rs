//! A check: a row of data and a function of the host.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::finding::{Advice, Finding};
use crate::{Cause, Failure, Host, Request};

/// What one check is. The id is kebab-case, begins with the area, and is the name of its file.
#[derive(Debug)]
pub struct Check {
    pub id: &'static str,
    pub area: Area,
    /// The question it answers, as an operator asks it.
    pub title: &'static str,
    /// Why the answer matters to a node that runs Iggy: two or three sentences.
    pub why: &'static str,
    /// Everything it may ask of the host. Held against what it really asked, by test.
    pub reads: &'static [Read],
    /// What makes it warn or fail, a sentence each with the number in it.
    pub thresholds: &'static [&'static str],
    /// What to do in general; each problem carries its own.
    pub advice: &'static str,
    pub deadline: Duration,
    pub run: fn(&Host) -> Result<Finding, Error>,
}

/// Missing answers that a finding names; the rest is counted.
const UNSEEN_NAMED: usize = 3;

impl Check {
    /// Runs the check. What it asked and could not see, or not whole, is noted in the finding, so that nothing
    /// passes for want of an answer; a check that found nothing to judge because of it could not tell.
    pub fn judge(&self, host: &Host) -> Result<Finding> {
        let mut finding = (self.run)(host)?;
        let unseen = host.unseen();
        // A host without systemd has no units and no journal: nothing of it stays unseen.
        let is_absent = |failure: &Failure| matches!(failure.cause, Cause::Unavailable(_));
        if finding.skipped {
            if let Some(hidden) = unseen.iter().find(|failure| !is_absent(failure)) {
                return Err(hidden.clone().into());
            }
            return Ok(finding);
        }
        let untold: Vec<&Failure> =
            unseen.iter().filter(|failure| !is_absent(failure) && !finding.tells(failure)).collect();
        if let Some(first) = untold.first() {
            let named =
                untold.iter().take(UNSEEN_NAMED).map(ToString::to_string).collect::<Vec<_>>().join("; ");
            let more = match untold.len().saturating_sub(UNSEEN_NAMED) {
                0 => String::new(),
                more => format!("; and {more} more"),
            };
            finding.note(format!("not seen, and so not judged: {named}{more}"), advice(&first.cause));
        }
        Ok(finding)
    }
}

fn advice(cause: &Cause) -> Advice {
    Advice::text(match cause {
        Cause::Denied => "Run as root or give Warden CAP_DAC_READ_SEARCH.",
        Cause::TimedOut => "Take another snapshot; if it does not answer again, find out what hangs.",
        Cause::Unrecorded => "The recording is older than this check: take a new snapshot.",
        Cause::Truncated(_) => "Look at the rest on the host itself: it is longer than a snapshot reads.",
        Cause::Masked => "Look at the value on the host itself: the snapshot masks it.",
        Cause::Absent | Cause::Unavailable(_) | Cause::Other(_) => {
            "Find out on the host itself why it does not answer."
        }
    })
}

/// How long a check may take unless its row says otherwise: longer than any healthy read, short enough that
/// one dead mount leaves room for the rest of the run.
pub const DEADLINE: Duration = Duration::from_secs(10);

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Area {
    System,
    Cpu,
    Memory,
    Disk,
    Network,
    Supervisor,
    Process,
    Runtime,
    Units,
    Kernel,
    Cgroup,
    Certificates,
    Logs,
    Warden,
}

impl Area {
    pub const ALL: [Area; 14] = [
        Area::System,
        Area::Cpu,
        Area::Memory,
        Area::Disk,
        Area::Network,
        Area::Supervisor,
        Area::Process,
        Area::Runtime,
        Area::Units,
        Area::Kernel,
        Area::Cgroup,
        Area::Certificates,
        Area::Logs,
        Area::Warden,
    ];

    pub const fn name(self) -> &'static str {
        match self {
            Area::System => "system",
            Area::Cpu => "cpu",
            Area::Memory => "memory",
            Area::Disk => "disk",
            Area::Network => "network",
            Area::Supervisor => "supervisor",
            Area::Process => "process",
            Area::Runtime => "runtime",
            Area::Units => "units",
            Area::Kernel => "kernel",
            Area::Cgroup => "cgroup",
            Area::Certificates => "certificates",
            Area::Logs => "logs",
            Area::Warden => "warden",
        }
    }
}

/// Something a check may ask. Paths may hold `*` (any run of characters within one component; alone, any one
/// component), begin with `/**/` (whatever directory the rest is in) and end in `**` (anything below).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Read {
    /// Contents, listing, link or metadata of these paths.
    Path(&'static str),
    /// The newest lines of these log files.
    Tail(&'static str),
    /// Contents of these paths, twice, around the one sampling pause.
    Sample(&'static str),
    /// Free space and inodes of mounted filesystems.
    Space,
    /// A row of the command table, by name.
    Command(&'static str),
    /// Properties of systemd units, over D-Bus.
    Units,
    /// Journal entries of units.
    Journal,
    KernelLog,
    /// HTTP GET to a local service or the Supervisor.
    Http,
    /// HTTP GET of a local Iggy's statistics, with the access token that the run was given.
    IggyApi,
    /// TLS handshake with a listener.
    Tls,
    /// Name lookup.
    Resolve,
    /// TCP connect.
    Connect,
    /// Public half of a private key; the key itself never leaves the reader.
    PublicKey,
    /// Several, of one purpose.
    Group(&'static [Read]),
}

impl Read {
    /// Returns what is declared together.
    pub fn grouped(&self) -> &'static [Read] {
        if let Read::Group(reads) = self { reads } else { &[] }
    }

    /// Whether `request` is covered by this declaration.
    pub fn covers(&self, request: &Request) -> bool {
        match (self, request.plain()) {
            (
                Read::Path(pattern),
                Request::File { path }
                | Request::List { path }
                | Request::Link { path }
                | Request::Stat { path },
            )
            | (Read::Tail(pattern), Request::Tail { path }) => matches(pattern, path),
            (Read::Path(pattern), Request::Files { pattern: asked })
            | (Read::Sample(pattern), Request::Sample { pattern: asked }) => {
                pattern == asked || matches(pattern, asked)
            }
            (Read::Command(name), Request::Command { name: asked, .. }) => name == asked,
            (Read::Space, Request::Space { .. })
            | (Read::Units, Request::Unit { .. } | Request::UnitList)
            | (Read::Journal, Request::Journal { .. })
            | (Read::KernelLog, Request::KernelLog)
            | (Read::Http, Request::Http { .. })
            | (Read::IggyApi, Request::IggyApi { .. })
            | (Read::Tls, Request::Tls { .. })
            | (Read::Resolve, Request::Resolve { .. })
            | (Read::Connect, Request::Connect { .. })
            | (Read::PublicKey, Request::PublicKey { .. }) => true,
            // Free facts about the process and the clock need no declaration.
            (_, Request::Clock | Request::Uname | Request::Settings) => true,
            (Read::Group(reads), request) => reads.iter().any(|read| read.covers(request)),
            _ => false,
        }
    }
}

/// Whether `path` matches `pattern` (see [`Read`]).
pub fn matches(pattern: &str, path: &str) -> bool {
    if let Some(rest) = pattern.strip_prefix("/**/") {
        return path.match_indices('/').any(|(at, _)| matches(rest, &path[at + 1..]));
    }
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) | (Some("**"), _) => return true,
            (Some(wanted), Some(given)) if component_matches(wanted, given) => {}
            _ => return false,
        }
    }
}

/// `[pid]` is a component of digits; `*` any run of characters.
pub fn component_matches(wanted: &str, given: &str) -> bool {
    if wanted == "[pid]" {
        return !given.is_empty() && given.bytes().all(|byte| byte.is_ascii_digit()) || given == "[pid]";
    }
    let Some((before, rest)) = wanted.split_once('*') else { return wanted == given };
    let Some(given) = given.strip_prefix(before) else { return false };
    if rest.is_empty() {
        return true;
    }
    given.char_indices().map(|(at, _)| &given[at..]).any(|tail| component_matches(rest, tail))
        || component_matches(rest, "")
}

/// Why a check could not tell; the runner reports it as Unknown with this as the cause.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error(transparent)]
    Host(#[from] Failure),
    /// What was read is not of the expected form.
    #[error("cannot understand {what}: {detail}")]
    Parse { what: String, detail: String },
}

impl Error {
    /// Whether the thing may well be there and right, and only could not be seen whole. What does not exist, or is
    /// not of the expected form, was seen.
    pub fn is_unseen(&self) -> bool {
        matches!(self, Error::Host(Failure { cause, .. }) if *cause != Cause::Absent)
    }

    /// The same of a probe (a connect, a handshake, a request): one that was refused or got no answer in time has its
    /// answer.
    pub fn was_not_tried(&self) -> bool {
        match self {
            Error::Host(Failure { cause, .. }) => match cause {
                Cause::Denied
                | Cause::Unavailable(_)
                | Cause::Unrecorded
                | Cause::Truncated(_)
                | Cause::Masked => true,
                Cause::Absent | Cause::TimedOut | Cause::Other(_) => false,
            },
            Error::Parse { .. } => false,
        }
    }

    pub fn parse(what: impl Into<String>, detail: impl Into<String>) -> Error {
        Error::Parse { what: what.into(), detail: detail.into() }
    }
}

pub type Result<T, E = Error> = std::result::Result<T, E>;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_matches_whole_components() {
        assert!(matches("/proc/[pid]/stat", "/proc/17/stat"));
        assert!(!matches("/proc/[pid]/stat", "/proc/self/stat"));
        assert!(matches("/sys/class/net/*/mtu", "/sys/class/net/eth0/mtu"));
        assert!(!matches("/sys/class/net/*/mtu", "/sys/class/net/eth0/x/mtu"));
        assert!(matches("/sys/block/**", "/sys/block/sda/queue/rotational"));
        assert!(matches("/var/log/*.log", "/var/log/.log") && matches("/var/log/*.log", "/var/log/a.log"));
        assert!(!matches("/var/log/*.log", "/var/log/a.log.1"));
        assert!(matches("/**/*.toml", "/a.toml") && matches("/**/a/*.toml", "/x/y/a/b.toml"));
        assert!(!matches("/**/a/*.toml", "/x/a/y/b.toml") && !matches("/**/*.toml", "/x.toml/y"));
    }
}
