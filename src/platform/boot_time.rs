//! Time since the host booted: no step of the wall clock touches it, and it goes on while the host sleeps.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Timers of the runtime stand still while the host sleeps, so a long one is looked after this often.
const LOOK_AGAIN: Duration = Duration::from_secs(10);

/// A moment on `CLOCK_BOOTTIME`, in milliseconds; means something only within one boot.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct BootTime(pub u64);

impl BootTime {
    pub fn now() -> BootTime {
        // clock_gettime(2): it fails only for a clock the kernel does not have, and this one is older than systemd.
        let now = clock_gettime(ClockId::CLOCK_BOOTTIME).map(Duration::from).unwrap_or_default();
        BootTime(millis(now))
    }

    pub fn after(self, span: Duration) -> BootTime {
        BootTime(self.0.saturating_add(millis(span)))
    }

    /// Nought when `earlier` is not.
    pub fn since(self, earlier: BootTime) -> Duration {
        Duration::from_millis(self.0.saturating_sub(earlier.0))
    }
}

pub async fn sleep_until(moment: BootTime) {
    loop {
        let left = moment.since(BootTime::now());
        if left.is_zero() {
            return;
        }
        tokio::time::sleep(left.min(LOOK_AGAIN)).await;
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
