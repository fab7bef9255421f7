//! What counts as a reason for a snapshot, and how often.

use proptest::prelude::*;
use warden_systemd::UnitFacts;

use super::*;

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
    assert_eq!(told(&[Seen { units: Some(&killed), ..nothing(1) }]), ["iggy.service was killed for memory"]);
    let (before, after) = (up(0), up(1));
    let look = |at, units, kills| Seen { units: Some(units), oom_kills: Some(kills), ..nothing(at) };
    assert_eq!(told(&[look(1, &before, 5), look(2, &after, 6)]), ["", "iggy.service was killed for memory"]);
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
