//! Whether the pace of a disk is a fault.

use warden_host::diskstats::Pace;

use crate::Verdict;
use crate::block::Disk;

pub const WARN_AWAIT_MS: f64 = 20.0;
const FAIL_AWAIT_MS: f64 = 100.0;
/// Fewer requests than this say little: one that met a sleeping disk would decide the average.
const REQUESTS_TO_JUDGE: u64 = 10;
/// A disk that is only slow answers something within this time.
const STUCK_FAIL_SECONDS: f64 = 1.0;
pub const WARN_BUSY_PERCENT: f64 = 90.0;

/// What can be wrong with the pace of a disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slowness {
    Stuck,
    Slow,
    Busy,
}

pub fn slowness(pace: &Pace, seconds: f64) -> Vec<(Slowness, Verdict)> {
    if pace.stuck {
        let severity = if seconds >= STUCK_FAIL_SECONDS { Verdict::Fail } else { Verdict::Warn };
        return vec![(Slowness::Stuck, severity)];
    }
    let mut found = Vec::new();
    if pace.requests >= REQUESTS_TO_JUDGE && pace.await_ms > WARN_AWAIT_MS {
        let severity = if pace.await_ms > FAIL_AWAIT_MS { Verdict::Fail } else { Verdict::Warn };
        found.push((Slowness::Slow, severity));
    }
    if pace.busy > WARN_BUSY_PERCENT {
        found.push((Slowness::Busy, Verdict::Warn));
    }
    found
}

/// What is wrong with the disks below a stack: it need not be told of the stack again.
pub fn told_below(
    disks: &[Disk],
    measured: &[(String, Pace)],
    name: &str,
    seconds: f64,
) -> Vec<(Slowness, Verdict)> {
    let Some(stack) = disks.iter().find(|disk| disk.name == name && disk.is_stack()) else {
        return Vec::new();
    };
    let below = stack.bottoms(disks);
    let is_below = |other: &str| below.iter().any(|disk| disk.name == other);
    measured
        .iter()
        .filter(|(other, _)| is_below(other))
        .flat_map(|(_, pace)| slowness(pace, seconds))
        .collect()
}
