//! Ids that sort by the time they were drawn.

use std::sync::atomic::{AtomicU64, Ordering};

/// 2022-01-01T00:00:00Z in milliseconds since 1970: the nought of the ids.
const EPOCH_MS: i64 = 1_640_995_200_000;
const NUMBER_BITS: u32 = 10;
const COUNTER_BITS: u32 = 12;
/// How many starts of Supervisors have a number of their own before the first is given again.
pub const NUMBERS: u64 = 1 << NUMBER_BITS;
const COUNTER_MASK: u64 = (1 << COUNTER_BITS) - 1;

/// Draws ids: 41 bits of milliseconds, 10 of the start that draws, 12 of a counter. They fit a signed 64-bit column
/// until 2091.
///
/// Each start of a Supervisor takes the next number, so neither two replicas nor a clock that was set back between
/// two starts draw an id twice.
#[derive(Debug)]
pub struct Ids {
    number: u64,
    /// Milliseconds and counter of the last id.
    last: AtomicU64,
}

impl Ids {
    /// `start`: how many Supervisors were started on this store before.
    pub fn new(start: u64) -> Ids {
        Ids { number: start % NUMBERS, last: AtomicU64::new(0) }
    }

    /// The number of the start that draws them.
    pub fn number(&self) -> u64 {
        self.number
    }

    /// The number of the start that drew an id.
    pub fn drawn_by(id: u64) -> u64 {
        id >> COUNTER_BITS & (NUMBERS - 1)
    }

    /// The next id, larger than any before, whatever the clock does. A full counter borrows from the next
    /// millisecond.
    pub fn next(&self, now_ms: i64) -> u64 {
        let floor = now_ms.saturating_sub(EPOCH_MS).max(0).cast_unsigned() << COUNTER_BITS;
        let following = |last: u64| floor.max(last + 1);
        let last = self.last.update(Ordering::Relaxed, Ordering::Relaxed, following);
        let drawn = following(last);
        let milliseconds = drawn >> COUNTER_BITS;
        (milliseconds << (NUMBER_BITS + COUNTER_BITS))
            | (self.number << COUNTER_BITS)
            | (drawn & COUNTER_MASK)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    const NOW: i64 = 1_780_000_000_000;

    #[test]
    fn ids_rise_whatever_the_clock_does_and_fit_the_column() {
        let ids = Ids::new(1023);
        let clock = [NOW, NOW, NOW - 3_600_000, 0, i64::MIN, NOW + 1, NOW + 1];
        let drawn: Vec<u64> = clock.into_iter().map(|now| ids.next(now)).collect();
        assert!(drawn.is_sorted_by(|a, b| a < b), "{drawn:?}");
        assert!(drawn.iter().all(|id| i64::try_from(*id).is_ok()));
        assert!(drawn.iter().all(|id| Ids::drawn_by(*id) == ids.number()));
        assert_eq!(drawn[0] >> 22, (NOW - EPOCH_MS).cast_unsigned());
    }

    #[test]
    fn a_millisecond_with_more_ids_than_the_counter_holds_draws_each_once() {
        let (one, other) = (Ids::new(4), Ids::new(5));
        let drawn: BTreeSet<u64> = (0..10_000).flat_map(|_| [one.next(NOW), other.next(NOW)]).collect();
        assert_eq!(drawn.len(), 20_000);
    }

    #[test]
    fn threads_draw_each_id_once() {
        let ids = Ids::new(0);
        let drawn = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4)
                .map(|_| scope.spawn(|| (0..5_000).map(|_| ids.next(NOW)).collect::<Vec<_>>()))
                .collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect::<BTreeSet<_>>()
        });
        assert_eq!(drawn.len(), 20_000);
    }
}
