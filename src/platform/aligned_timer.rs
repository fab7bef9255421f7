//! Wake-ups that come together: what is done every so often is done at common moments, and the processor sleeps
//! between them.
//!
//! The kernel keeps the time: a timer of the runtime wakes its thread twice on the way to a moment ten seconds off,
//! to see whether it is near.

use std::fs::File;
use std::io::{self, Read};
use std::os::fd::OwnedFd;
use std::time::Duration;

use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{self, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};
use nix::time::{ClockId, clock_gettime};
use tokio::io::unix::AsyncFd;
use tokio::time::{Instant, Interval, MissedTickBehavior, interval_at};

/// The moment all periods of this process are counted from. Each process has its own, so that nodes do not come in
/// step.
#[derive(Debug, Clone, Copy)]
pub struct Pulse {
    /// On CLOCK_MONOTONIC.
    start: Duration,
}

/// Ticks at common moments; those missed are not made up for.
#[derive(Debug)]
pub enum Ticks {
    Kernel(AsyncFd<File>),
    /// No timer can be had of the kernel: so many files are open.
    Runtime(Interval),
}

impl Pulse {
    pub fn start() -> Pulse {
        Pulse { start: now() }
    }

    /// Ticks at every multiple of `period`, from the next one on.
    pub fn every(&self, period: Duration) -> Ticks {
        let period = period.max(Duration::from_millis(1));
        let now = now();
        let next = self.next(period, now);
        if let Ok(timer) = timer(next, period) {
            return Ticks::Kernel(timer);
        }
        let mut interval = interval_at(Instant::now() + next.saturating_sub(now), period);
        interval.set_missed_tick_behavior(MissedTickBehavior::Skip);
        Ticks::Runtime(interval)
    }

    fn next(&self, period: Duration, now: Duration) -> Duration {
        let passed = now.saturating_sub(self.start).as_nanos() / period.as_nanos();
        let periods = u32::try_from(passed).unwrap_or(u32::MAX).saturating_add(1);
        self.start + period.saturating_mul(periods)
    }
}

impl Ticks {
    /// Waits for the next tick. Can be dropped at any time: none is lost.
    pub async fn tick(&mut self) {
        let timer = match self {
            Ticks::Kernel(timer) => timer,
            Ticks::Runtime(interval) => {
                interval.tick().await;
                return;
            }
        };
        loop {
            // It fails only when the runtime ends.
            let Ok(mut ready) = timer.readable().await else { return std::future::pending().await };
            // timerfd_create(2): how often it has expired.
            let mut expired = [0; 8];
            if ready.try_io(|timer| timer.get_ref().read(&mut expired)).is_ok() {
                return;
            }
        }
    }
}

/// At the very same moments for all that have the same period: they wake the process once.
fn timer(first: Duration, period: Duration) -> io::Result<AsyncFd<File>> {
    let flags = TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC;
    let timer = TimerFd::new(timerfd::ClockId::CLOCK_MONOTONIC, flags)?;
    let expiration = Expiration::IntervalDelayed(TimeSpec::from(first), TimeSpec::from(period));
    timer.set(expiration, TimerSetTimeFlags::TFD_TIMER_ABSTIME)?;
    #[expect(
        deprecated,
        reason = "what took its place is unsafe; a file of the standard library owns its descriptor"
    )]
    AsyncFd::new(File::from(OwnedFd::from(timer)))
}

fn now() -> Duration {
    // clock_gettime(2): it fails only for a clock the kernel does not have, and all have this one.
    clock_gettime(ClockId::CLOCK_MONOTONIC).map(Duration::from).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn periods_that_are_multiples_of_another_tick_with_it() {
        let start = Duration::from_secs(77);
        let pulse = Pulse { start };
        let next = |period: u64, passed: u64| {
            (pulse.next(Duration::from_secs(period), start + Duration::from_millis(passed)) - start).as_secs()
        };
        assert_eq!([next(10, 0), next(10, 3_700), next(10, 10_000), next(10, 29_999)], [10, 10, 20, 30]);
        assert_eq!([next(30, 3_700), next(30, 29_999), next(30, 30_000)], [30, 30, 60]);
    }

    #[tokio::test]
    async fn ticks_come_at_their_moments_and_a_missed_one_once() {
        let pulse = Pulse::start();
        let period = Duration::from_millis(20);
        let mut ticks = pulse.every(period);
        assert!(matches!(ticks, Ticks::Kernel(_)));
        for number in 1..4 {
            ticks.tick().await;
            assert!(now() >= pulse.start + period * number);
        }
        std::thread::sleep(period * 5);
        let before = now();
        ticks.tick().await;
        ticks.tick().await;
        assert!(now() > before, "the second is a moment to come");
        let passed = (before - pulse.start).as_nanos() / period.as_nanos();
        assert!(now() >= pulse.start + period * u32::try_from(passed + 1).unwrap());
    }
}
