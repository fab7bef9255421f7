//! Wake-ups that come together: what is done every so often is done at common moments, and the processor sleeps
//! between them.

use std::time::Duration;

use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// The moment all periods of this process are counted from. Each process has its own, so that nodes do not come in
/// step.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    start: Instant,
}

impl Pulse {
    pub fn new(start: Instant) -> Pulse {
        Pulse { start }
    }

    /// Ticks at every multiple of `period`, from the next one on; those missed are not made up for.
    pub fn every(&self, period: Duration) -> Interval {
        let period = period.max(Duration::from_millis(1));
        let mut interval = interval_at(self.next(period, Instant::now()), period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        interval
    }

    fn next(&self, period: Duration, now: Instant) -> Instant {
        let passed = now.saturating_duration_since(self.start).as_nanos() / period.as_nanos();
        let periods = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
        self.start + period.saturating_mul(periods)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_that_are_multiples_of_another_tick_with_it() {
        let start = Instant::now();
        let pulse = Pulse::new(start);
        let next = |period: u64, passed: u64| {
            let now = start + Duration::from_millis(passed);
            (pulse.next(Duration::from_secs(period), now) - start).as_secs()
        };
        assert_eq!([next(10, 0), next(10, 3_700), next(10, 10_000), next(10, 29_999)], [10, 10, 20, 30]);
        assert_eq!([next(30, 3_700), next(30, 29_999), next(30, 30_000)], [30, 30, 60]);
    }
}
