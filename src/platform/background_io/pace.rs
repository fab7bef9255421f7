//! The floor below last place: who stands behind everybody else still gets on, at a rate that has a name.
//!
//! A group of threads with niceness 19 has 1.4 % of a core that one other thread wants, and each time it lets go of the
//! core it waits some milliseconds for the next turn. Where that leaves less than the floor, it moves up a little, and
//! back when there is room again.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use crate::syscalls;

/// Files, or pages of their bytes, that are to be done in a second at least: 65,536 files of a partition's offsets in
/// half a minute, 2 GiB in four.
pub const FLOOR: u64 = 2_000;
/// Bytes that count as one: 8 MiB a second for what is large.
pub const UNIT_BYTES: u64 = 4096;
/// There is room again when so many times the floor is done.
const PLENTY: u64 = 4;
/// Looks in a row that must see it.
const CALM_LOOKS: u32 = 4;
/// How often it is looked.
const LOOK: Duration = Duration::from_millis(500);
/// Of the time between two looks, what must have been spent in waiting for a core or the disk, all threads together: who
/// is slow for another reason would gain nothing.
const WAITED_SHARE: u32 = 4;

/// A place in the line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Level {
    /// Of 19, which comes last (sched(7)).
    pub nice: i32,
    /// How long a thread computes before it looks whether somebody else waits for its core.
    pub turn: Duration,
    /// Whether the disk is only used when nobody else wants it.
    pub is_idle_at_disk: bool,
}

/// From last place on. Against one other thread on each core they have 1.4, 3.4, 10 and 25 % of it (sched(7): each step
/// is a factor of 1.25).
pub const LEVELS: [Level; 4] = [
    // Shorter than Iggy needs to answer.
    Level { nice: 19, turn: Duration::from_micros(50), is_idle_at_disk: true },
    Level { nice: 15, turn: Duration::from_micros(250), is_idle_at_disk: false },
    Level { nice: 10, turn: Duration::from_millis(1), is_idle_at_disk: false },
    // As long as the kernel itself leaves a thread on a core when another one wants it.
    Level { nice: 5, turn: Duration::from_millis(3), is_idle_at_disk: false },
];

/// What was seen at one look.
#[derive(Clone, Copy, Debug)]
pub struct Seen {
    pub at: Instant,
    /// Files and pages done since the start.
    pub done: u64,
    /// Time that threads have waited for a core or the disk since the start.
    pub waited: Duration,
}

/// Decides on the place in the line from what was done.
#[derive(Debug, Default)]
pub struct Pace {
    last: Option<Seen>,
    level: usize,
    calm: u32,
}

impl Pace {
    /// Returns the number of the level that is due, of [`LEVELS`].
    pub fn look(&mut self, seen: Seen) -> usize {
        let Some(last) = self.last.replace(seen) else { return self.level };
        let passed = seen.at.saturating_duration_since(last.at);
        let done = seen.done.saturating_sub(last.done) as f64;
        let rate = done / passed.as_secs_f64().max(f64::MIN_POSITIVE);
        let has_waited = seen.waited.saturating_sub(last.waited) >= passed / WAITED_SHARE;
        if rate >= (PLENTY * FLOOR) as f64 {
            self.calm += 1;
        } else {
            self.calm = 0;
        }
        if rate < FLOOR as f64 && has_waited {
            self.level = (self.level + 1).min(LEVELS.len() - 1);
        } else if self.calm >= CALM_LOOKS {
            (self.level, self.calm) = (self.level.saturating_sub(1), 0);
        }
        self.level
    }
}

static DONE: AtomicU64 = AtomicU64::new(0);
static AT_DISK_US: AtomicU64 = AtomicU64::new(0);
static LEVEL: AtomicUsize = AtomicUsize::new(0);

/// Counts a file, or `bytes` of one.
pub fn done(bytes: u64) {
    DONE.fetch_add((bytes / UNIT_BYTES).max(1), Ordering::Relaxed);
}

/// Counts time in which a thread waited for a disk.
pub fn at_disk(waited: Duration) {
    AT_DISK_US.fetch_add(waited.as_micros() as u64, Ordering::Relaxed);
}

/// The level of this process now.
pub fn level() -> Level {
    LEVELS[LEVEL.load(Ordering::Relaxed).min(LEVELS.len() - 1)]
}

/// Looks for the rest of this process. `session` tells whether its session is its own, and stands for all its threads.
pub fn keep(session: bool) {
    let mut pace = Pace::default();
    loop {
        std::thread::sleep(LOOK);
        let waited = super::waited() + Duration::from_micros(AT_DISK_US.load(Ordering::Relaxed));
        let seen = Seen { at: Instant::now(), done: DONE.load(Ordering::Relaxed), waited };
        let number = pace.look(seen);
        let before = LEVEL.swap(number, Ordering::Relaxed);
        // Threads that began since then stand at the end again.
        if number != before || number > 0 {
            apply(LEVELS[number.min(LEVELS.len() - 1)], session && number != before);
        }
    }
}

/// A kernel or sandbox that does not let us leaves us where we are.
fn apply(level: Level, session: bool) {
    if session {
        super::set_session_niceness(level.nice);
    }
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return };
    let numbers = threads.flatten().filter_map(|thread| thread.file_name().to_str()?.parse::<i32>().ok());
    for number in numbers {
        let thread = rustix::process::Pid::from_raw(number);
        let _ = rustix::process::setpriority_process(thread, level.nice);
        syscalls::disk_class(number, level.is_idle_at_disk);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A process that is looked at every half second, by a clock of its own.
    struct Looked {
        pace: Pace,
        seen: Seen,
    }

    impl Looked {
        fn new() -> Looked {
            let seen = Seen { at: Instant::now(), done: 0, waited: Duration::ZERO };
            let mut pace = Pace::default();
            assert_eq!(pace.look(seen), 0);
            Looked { pace, seen }
        }

        fn after(&mut self, done: u64, waited: Duration) -> usize {
            self.seen.at += LOOK;
            self.seen.done += done;
            self.seen.waited += waited;
            self.pace.look(self.seen)
        }
    }

    const STARVED: u64 = FLOOR / 2 - 1;
    const PLENTY_IN_A_LOOK: u64 = PLENTY * FLOOR / 2;

    #[test]
    fn who_starves_moves_up_step_by_step_and_no_further_than_the_last() {
        let mut looked = Looked::new();
        let levels: Vec<usize> = (0..5).map(|_| looked.after(STARVED, LOOK)).collect();
        assert_eq!(levels, [1, 2, 3, 3, 3]);
    }

    #[test]
    fn who_keeps_the_floor_stays_last() {
        let mut looked = Looked::new();
        assert!((0..20).all(|_| looked.after(FLOOR / 2, LOOK) == 0));
    }

    #[test]
    fn who_is_slow_without_waiting_stays_last() {
        let mut looked = Looked::new();
        assert!((0..20).all(|_| looked.after(0, LOOK / WAITED_SHARE - Duration::from_millis(1)) == 0));
        assert_eq!(looked.after(0, LOOK / WAITED_SHARE), 1, "and moves up when it waits");
    }

    #[test]
    fn with_plenty_for_a_while_it_goes_back_to_the_end() {
        let mut looked = Looked::new();
        for _ in 0..2 {
            looked.after(STARVED, LOOK);
        }
        let levels: Vec<usize> = (0..9).map(|_| looked.after(PLENTY_IN_A_LOOK, LOOK)).collect();
        assert_eq!(levels, [2, 2, 2, 1, 1, 1, 1, 0, 0]);
    }

    #[test]
    fn plenty_that_does_not_last_moves_nothing() {
        let mut looked = Looked::new();
        looked.after(STARVED, LOOK);
        let levels: Vec<usize> = (0..12)
            .map(|look| looked.after(if look % 4 == 3 { FLOOR / 2 } else { PLENTY_IN_A_LOOK }, LOOK))
            .collect();
        assert_eq!(levels, [1; 12]);
    }
}
