//! When a broken upload goes on.

use std::time::Duration;

const FIRST: Duration = Duration::from_secs(1);
const LONGEST: Duration = Duration::from_secs(60);

/// Equal jitter: half of the step for sure, the other half by chance; the step doubles with each failure in a row.
/// `random` is from 0 to 1. What the store asked for is the least.
pub(super) fn delay(failures: u32, random: f64, after: Option<Duration>) -> Duration {
    let step = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST);
    let pause = step / 2 + (step / 2).mul_f64(random.clamp(0.0, 1.0));
    pause.max(after.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_a_minute_and_half_of_each_is_chance() {
        let seconds = |failures, random| delay(failures, random, None).as_secs_f64();
        assert_eq!([1, 2, 3, 7, 100].map(|failures| seconds(failures, 1.0)), [1.0, 2.0, 4.0, 60.0, 60.0]);
        assert_eq!([1, 2, 3, 7, 100].map(|failures| seconds(failures, 0.0)), [0.5, 1.0, 2.0, 30.0, 30.0]);
    }

    #[test]
    fn a_store_that_names_a_time_is_not_asked_before() {
        assert_eq!(delay(1, 0.0, Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(delay(7, 0.0, Some(Duration::from_secs(5))), Duration::from_secs(30));
    }
}
