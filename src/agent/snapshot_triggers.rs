//! When this host takes a snapshot without being asked: what was seen, held against the policy, becomes a trigger.
//!
//! Something that goes on is a reason once, when it begins. All times are counted by the uptime, whatever the wall
//! clock does; only from boot to boot it must do.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use warden_checks::Expiry;
use warden_host::quantity;

use super::runtime_stats::RuntimeReading;
use warden_config::policy::Automatic;
use warden_platform::boot_time::BootTime;
use warden_protocol::{self as protocol, Disk};

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
mod tests {
    use proptest::prelude::*;

    use super::*;
    use warden_systemd::UnitFacts;

    const HOUR: u64 = 3_600_000;

    fn unit(state: &str, result: &str, since_ms: i64, restarts: Option<u32>) -> Vec<RuntimeReading> {
        let facts = UnitFacts {
            active_state: state.to_owned(),
            result: result.to_owned(),
            since_ms: Some(since_ms),
            restarts,
            ..UnitFacts::default()
        };
        vec![RuntimeReading { unit: "iggy.service".to_owned(), facts, process: None }]
    }

    fn up(restarts: u32) -> Vec<RuntimeReading> {
        unit("active", "", 1, Some(restarts))
    }

    fn nothing(at: u64) -> Seen<'static> {
        Seen {
            at_ms: at.cast_signed(),
            up: BootTime(at),
            units: None,
            oom_kills: None,
            filesystems: None,
            certificates: None,
        }
    }

    fn disk(used: u64) -> Vec<Disk> {
        vec![Disk { mount: "/data".to_owned(), total_bytes: 1000, available_bytes: 1000 - used }]
    }

    /// What each look leads to.
    fn told(looks: &[Seen]) -> Vec<String> {
        let (mut triggers, limits) = (Triggers::default(), Automatic::default());
        let look =
            |seen| triggers.look(seen, &limits).0.first().map_or(String::new(), |one| one.reason.to_string());
        looks.iter().map(look).collect()
    }

    #[test]
    fn a_unit_that_failed_is_a_reason_once_and_another_failure_a_day_later() {
        let (well, one, other) =
            (up(0), unit("failed", "exit-code", 10, None), unit("failed", "signal", 20, None));
        let seen = |at, units| Seen { units: Some(units), ..nothing(at * HOUR) };
        assert_eq!(
            told(&[
                seen(1, &well),
                seen(2, &one),
                seen(3, &one),
                seen(30, &one),
                seen(31, &other),
                seen(32, &well)
            ]),
            ["", "iggy.service failed: exit-code", "", "", "iggy.service failed: signal", ""]
        );
        assert_eq!(
            told(&[seen(2, &one), seen(20, &other), seen(30, &other)]),
            ["iggy.service failed: exit-code", "", ""]
        );
    }

    #[test]
    fn a_unit_that_was_killed_for_memory_is_told_as_such_also_when_it_is_up_again() {
        let killed = unit("failed", "oom-kill", 10, None);
        assert_eq!(
            told(&[Seen { units: Some(&killed), ..nothing(1) }]),
            ["iggy.service was killed for memory"]
        );
        let (before, after) = (up(0), up(1));
        let look = |at, units, kills| Seen { units: Some(units), oom_kills: Some(kills), ..nothing(at) };
        assert_eq!(
            told(&[look(1, &before, 5), look(2, &after, 6)]),
            ["", "iggy.service was killed for memory"]
        );
        assert_eq!(
            told(&[look(1, &before, 5), look(2, &after, 5)]),
            ["", "iggy.service failed, and systemd started it again"]
        );
        assert_eq!(told(&[look(1, &after, 5), look(2, &before, 9)]), ["", ""], "the count began anew");
    }

    #[test]
    fn a_filesystem_is_a_reason_again_only_after_it_had_room() {
        let look = |at: u64, disks| Seen { filesystems: Some(disks), ..nothing(at * HOUR) };
        let at = [940, 950, 960, 949, 930, 950, 910, 950].map(disk);
        let looks: Vec<Seen> = at.iter().enumerate().map(|(at, disks)| look(at as u64 * 30, disks)).collect();
        let full = "/data is 95 % full";
        assert_eq!(told(&looks), ["", full, "", "", "", "", "", full]);
    }

    #[test]
    fn a_certificate_is_a_reason_when_it_has_two_weeks_left() {
        let day = 24 * HOUR;
        let expiries = [Expiry { path: "/c.pem".to_owned(), not_after: 100 * DAY_SECONDS }];
        let look = |at| Seen { certificates: Some(&expiries), ..nothing(at) };
        assert_eq!(
            told(&[look(86 * day), look(86 * day + 1000), look(90 * day)]),
            ["", "the certificate /c.pem expires at 1970-04-11T00:00:00Z", ""]
        );
    }

    #[test]
    fn what_the_policy_does_not_want_is_no_reason_and_neither_when_it_does_later() {
        let off = Automatic { enabled: false, ..Automatic::default() };
        let (failed, mut triggers) = (unit("failed", "exit-code", 10, None), Triggers::default());
        let seen = Seen { units: Some(&failed), ..nothing(1) };
        assert_eq!(triggers.look(&seen, &off), (vec![], true));
        assert_eq!(triggers.look(&seen, &Automatic::default()), (vec![], false));
        let no_units = Automatic { unit_failed: false, ..Automatic::default() };
        assert!(Triggers::default().look(&seen, &no_units).0.is_empty());
        let never = Automatic { filesystem_percent: 0, certificate_days: 0, ..Automatic::default() };
        let expired = [Expiry { path: "/c.pem".to_owned(), not_after: 1 }];
        let (full, now) = (disk(1000), nothing(2000));
        let seen = Seen { filesystems: Some(&full), certificates: Some(&expired), ..now };
        let triggers = Triggers::default().look(&seen, &never).0;
        assert!(triggers.iter().all(|trigger| !matches!(trigger.reason, Reason::FilesystemFull { .. })));
    }

    #[test]
    fn a_new_start_remembers_and_an_unreadable_memory_is_none() {
        let (failed, limits) = (unit("failed", "exit-code", 10, None), Automatic::default());
        let seen = |at: u64| Seen { units: Some(&failed), ..nothing(at) };
        let mut triggers = Triggers::default();
        assert_eq!(triggers.look(&seen(HOUR), &limits).0.len(), 1);
        let kept = triggers.keep("boot", HOUR.cast_signed(), BootTime(HOUR));
        // The wall clock jumped by years, while the host was up.
        let mut same = Triggers::recall(&kept, "boot", i64::MAX, BootTime(2 * HOUR));
        assert!(same.look(&seen(2 * HOUR), &limits).0.is_empty());
        let again = unit("failed", "exit-code", 11, None);
        let later = |at: u64| Seen { units: Some(&again), ..nothing(at) };
        assert!(same.look(&later(24 * HOUR), &limits).0.is_empty(), "23 h after the first");
        let mut next = Triggers::recall(&kept, "other boot", 30 * HOUR.cast_signed(), BootTime(5));
        assert_eq!(next.look(&later(5), &limits).0.len(), 1, "29 h by the clock, and another failure");
        let mut back = Triggers::recall(&kept, "other boot", -9, BootTime(5));
        assert!(back.look(&later(5), &limits).0.is_empty(), "a clock that went back counts as no time");
        let mut odd = Triggers::recall("{", "boot", 0, BootTime(0));
        assert_eq!(odd.look(&seen(0), &limits).0.len(), 1);
    }

    proptest! {
        /// Whatever happens, however the wall clock jumps and however often the agent starts anew.
        #[test]
        fn no_more_than_the_limits(steps in prop::collection::vec((0u64..8 * HOUR, any::<i32>(), 0u32..4, 0u64..1001, any::<bool>()), 1..120)) {
            let limits = Automatic::default();
            let mut triggers = Triggers::default();
            let (mut now, mut fired) = (0u64, Vec::new());
            for (number, (passed, clock, state, used, restart)) in steps.into_iter().enumerate() {
                now += passed;
                let at_ms = i64::from(clock) * 1000;
                if restart {
                    let kept = triggers.keep("boot", at_ms, BootTime(now));
                    triggers = Triggers::recall(&kept, "boot", at_ms.wrapping_neg(), BootTime(now));
                }
                let units = match state {
                    0 => up(0),
                    1 => unit("failed", "oom-kill", number as i64, None),
                    2 => unit("failed", "exit-code", number as i64, None),
                    _ => up(number as u32),
                };
                let disks = disk(used);
                let seen = Seen {
                    at_ms,
                    up: BootTime(now),
                    units: Some(&units),
                    oom_kills: Some(used),
                    filesystems: Some(&disks),
                    certificates: None,
                };
                for trigger in triggers.look(&seen, &limits).0 {
                    fired.push((now, trigger.reason.key()));
                }
            }
            for (at, key) in &fired {
                let day = fired.iter().filter(|(other, _)| (*at..at + 24 * HOUR).contains(other));
                prop_assert!(day.clone().count() <= 3, "{fired:?}");
                prop_assert!(day.filter(|(_, other)| other == key).count() == 1, "{fired:?}");
            }
        }
    }
}
