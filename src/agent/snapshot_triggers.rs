//! When this host takes a snapshot without being asked: what was seen, held against the policy, becomes a trigger.
//!
//! Something that goes on is a reason once, when it begins. All times are counted by the uptime, whatever the wall
//! clock does; only from boot to boot it must do.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use warden_checks::Expiry;
use warden_config::policy::Automatic;
use warden_host::quantity;
use warden_platform::boot_time::BootTime;
use warden_protocol::{self as protocol, Disk};

use super::runtime_stats::RuntimeReading;

const DAY: Duration = Duration::from_secs(24 * 3600);
const DAY_SECONDS: i64 = 24 * 3600;
/// Percent below its limit from which on a filesystem may be a reason again.
const RELIEF: u8 = 3;
/// What systemd calls the end of a unit of which the kernel killed a process for memory.
const OOM_KILL: &str = "oom-kill";

/// A snapshot is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trigger {
    pub reason: Reason,
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// With systemd's result; nothing when it is up again already.
    UnitFailed {
        unit: String,
        result: Option<String>,
    },
    OutOfMemory {
        unit: String,
    },
    FilesystemFull {
        mount: String,
        percent: u8,
    },
    CertificateExpires {
        path: String,
        not_after: i64,
    },
}

/// What was seen at one moment. What was not looked at is absent, and nothing is concluded of it.
#[derive(Debug, Clone, Copy)]
pub struct Seen<'a> {
    /// Milliseconds since 1970 UTC.
    pub at_ms: i64,
    pub up: BootTime,
    pub units: Option<&'a [RuntimeReading]>,
    /// Processes that the kernel killed for memory since boot.
    pub oom_kills: Option<u64>,
    pub filesystems: Option<&'a [Disk]>,
    pub certificates: Option<&'a [Expiry]>,
}

/// What has been a reason and what still would be.
#[derive(Debug, Default)]
pub struct Triggers {
    /// What goes on, by its key, with what tells it from the same thing another time.
    going_on: BTreeMap<String, i64>,
    /// When there was a trigger, by the uptime of this boot in ms, which is negative for an earlier one.
    fired: Vec<(String, i64)>,
    restarts: BTreeMap<String, u32>,
    oom_kills: Option<u64>,
}

/// What outlives the process: limits would be worth little if a restart of the agent lifted them.
#[derive(Debug, Default, Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    going_on: BTreeMap<String, i64>,
    fired: Vec<KeptFired>,
}

#[derive(Debug, Serialize, Deserialize)]
struct KeptFired {
    key: String,
    up_ms: i64,
    at_ms: i64,
}

/// Something that can be a reason.
struct Occurrence {
    key: String,
    mark: i64,
    goes_on: bool,
    reason: Reason,
}

impl Triggers {
    /// From what an earlier process kept; what cannot be read counts as nothing.
    pub fn recall(kept: &str, boot_id: &str, at_ms: i64, up: BootTime) -> Triggers {
        let kept: Kept = serde_json::from_str(kept).unwrap_or_default();
        let fired = kept.fired.into_iter().map(|fired| {
            let since = if kept.boot_id == boot_id {
                up.0.cast_signed().saturating_sub(fired.up_ms)
            } else {
                at_ms.saturating_sub(fired.at_ms)
            };
            (fired.key, up.0.cast_signed().saturating_sub(since.max(0)))
        });
        Triggers { fired: fired.collect(), going_on: kept.going_on, ..Triggers::default() }
    }

    pub fn keep(&self, boot_id: &str, at_ms: i64, up: BootTime) -> String {
        let fired = self.fired.iter().map(|(key, up_ms)| {
            let since = up.0.cast_signed().saturating_sub(*up_ms);
            KeptFired { key: key.clone(), up_ms: *up_ms, at_ms: at_ms.saturating_sub(since) }
        });
        let kept =
            Kept { boot_id: boot_id.to_owned(), going_on: self.going_on.clone(), fired: fired.collect() };
        serde_json::to_string(&kept).unwrap_or_default()
    }

    /// The triggers that follow from what is seen now, and whether anything is to be kept anew.
    pub fn look(&mut self, seen: &Seen, limits: &Automatic) -> (Vec<Trigger>, bool) {
        let occurrences = self.occurrences(seen, limits);
        let before = self.going_on.clone();
        self.going_on.retain(|key, _| {
            !is_looked_at(key, seen) || occurrences.iter().any(|occurrence| occurrence.key == *key)
        });
        let mut triggers = Vec::new();
        for Occurrence { key, mark, goes_on, reason } in occurrences {
            if self.going_on.get(&key) == Some(&mark) {
                continue;
            }
            if goes_on {
                self.going_on.insert(key.clone(), mark);
            }
            if self.is_due(&key, &reason, seen, limits) {
                self.fired.push((key, seen.up.0.cast_signed()));
                triggers.push(Trigger { reason, at_ms: seen.at_ms });
            }
        }
        let changed = !triggers.is_empty() || before != self.going_on;
        (triggers, changed)
    }

    fn occurrences(&mut self, seen: &Seen, limits: &Automatic) -> Vec<Occurrence> {
        let mut all = Vec::new();
        let killed = seen.oom_kills.zip(self.oom_kills).is_some_and(|(now, before)| now > before);
        self.oom_kills = seen.oom_kills.or(self.oom_kills);
        if let Some(units) = seen.units {
            self.restarts.retain(|unit, _| units.iter().any(|reading| reading.unit == *unit));
        }
        for reading in seen.units.unwrap_or_default() {
            let (unit, facts) = (reading.unit.clone(), &reading.facts);
            let before = facts.restarts.and_then(|now| self.restarts.insert(unit.clone(), now));
            let restarted = facts.restarts.zip(before).is_some_and(|(now, before)| now > before);
            let failed = facts.active_state == "failed";
            if !failed && !restarted {
                continue;
            }
            let is_oom = if failed { facts.result == OOM_KILL } else { killed };
            let result = failed.then(|| facts.result.clone());
            let reason =
                if is_oom { Reason::OutOfMemory { unit } } else { Reason::UnitFailed { unit, result } };
            let mark = if failed { facts.since_ms } else { facts.restarts.map(i64::from) };
            all.push(Occurrence { key: reason.key(), mark: mark.unwrap_or(0), goes_on: failed, reason });
        }
        for disk in seen.filesystems.unwrap_or_default() {
            let (percent, limit) = (used_percent(disk), limits.filesystem_percent);
            let reason = Reason::FilesystemFull { mount: disk.mount.clone(), percent };
            let key = reason.key();
            let goes_on = self.going_on.contains_key(&key);
            let bar = if goes_on { limit.saturating_sub(RELIEF) } else { limit };
            if limit > 0 && percent >= bar {
                all.push(Occurrence { key, mark: 0, goes_on: true, reason });
            }
        }
        for Expiry { path, not_after } in seen.certificates.unwrap_or_default() {
            let left = not_after.saturating_sub(seen.at_ms.div_euclid(1000));
            if left < i64::from(limits.certificate_days) * DAY_SECONDS {
                let reason = Reason::CertificateExpires { path: path.clone(), not_after: *not_after };
                all.push(Occurrence { key: reason.key(), mark: *not_after, goes_on: true, reason });
            }
        }
        all
    }

    fn is_due(&mut self, key: &str, reason: &Reason, seen: &Seen, limits: &Automatic) -> bool {
        let same = Duration::from_secs(u64::from(limits.same_reason_hours) * 3600);
        let now = seen.up.0.cast_signed();
        let within = |at: i64, span: Duration| {
            u128::from(now.saturating_sub(at).max(0).cast_unsigned()) < span.as_millis()
        };
        self.fired.retain(|(_, at)| within(*at, DAY.max(same)));
        let today = self.fired.iter().filter(|(_, at)| within(*at, DAY)).count();
        let is_wanted = limits.enabled
            && match reason {
                Reason::UnitFailed { .. } => limits.unit_failed,
                Reason::OutOfMemory { .. } => limits.out_of_memory,
                Reason::FilesystemFull { .. } => limits.filesystem_percent > 0,
                Reason::CertificateExpires { .. } => limits.certificate_days > 0,
            };
        is_wanted
            && u32::try_from(today).is_ok_and(|today| today < limits.most_per_day)
            && !self.fired.iter().any(|(other, at)| other == key && within(*at, same))
    }
}

/// Whether what is seen could hold the thing that a key is for: one that was not looked at may still go on.
fn is_looked_at(key: &str, seen: &Seen) -> bool {
    match key.split_once(' ').map(|(kind, _)| kind) {
        Some("unit-failed" | "out-of-memory") => seen.units.is_some(),
        Some("filesystem") => seen.filesystems.is_some(),
        Some("certificate") => seen.certificates.is_some(),
        _ => true,
    }
}

fn used_percent(disk: &Disk) -> u8 {
    let used = disk.total_bytes.saturating_sub(disk.available_bytes);
    let percent = u128::from(used) * 100 / u128::from(disk.total_bytes.max(1));
    u8::try_from(percent).unwrap_or(100)
}

impl Reason {
    /// As others are told.
    pub fn kind(&self) -> protocol::Trigger {
        match self {
            Reason::UnitFailed { .. } => protocol::Trigger::UnitFailed,
            Reason::OutOfMemory { .. } => protocol::Trigger::OutOfMemory,
            Reason::FilesystemFull { .. } => protocol::Trigger::FilesystemFull,
            Reason::CertificateExpires { .. } => protocol::Trigger::CertificateExpires,
        }
    }

    /// The same for the same reason.
    fn key(&self) -> String {
        match self {
            Reason::UnitFailed { unit, .. } => format!("unit-failed {unit}"),
            Reason::OutOfMemory { unit } => format!("out-of-memory {unit}"),
            Reason::FilesystemFull { mount, .. } => format!("filesystem {mount}"),
            Reason::CertificateExpires { path, .. } => format!("certificate {path}"),
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::UnitFailed { unit, result: Some(result) } => write!(out, "{unit} failed: {result}"),
            Reason::UnitFailed { unit, result: None } => {
                write!(out, "{unit} failed, and systemd started it again")
            }
            Reason::OutOfMemory { unit } => write!(out, "{unit} was killed for memory"),
            Reason::FilesystemFull { mount, percent } => write!(out, "{mount} is {percent} % full"),
            Reason::CertificateExpires { path, not_after } => {
                write!(out, "the certificate {path} expires at {}", quantity::time(*not_after))
            }
        }
    }
}

#[cfg(test)]
mod tests;
