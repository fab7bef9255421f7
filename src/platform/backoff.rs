//! When to dial again: a pure function of what came before.

use std::time::Duration;

/// The most that is waited after the first failure; doubled with each further one.
const FIRST: Duration = Duration::from_secs(1);
/// The most that is waited after many: a Supervisor that comes back has its nodes within a minute.
pub const LONGEST: Duration = Duration::from_secs(60);
/// The most that a Supervisor's `retry-after` is taken for: a slip of it must not silence a node for days.
pub const LONGEST_ASKED: Duration = Duration::from_secs(600);

/// Why the last connection ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// It could not be made, or broke: the so-and-so-many-eth time in a row, from nought.
    Failure { attempt: u32 },
    /// The Supervisor said when to come back, in seconds; the count as above.
    Asked { seconds: u64, attempt: u32 },
    /// The Supervisor does not want this node: asking often would not change that.
    Refused,
}

/// How long to wait. `random` is from 0 to 1, drawn anew each time: a thousand nodes that lost the Supervisor at one
/// moment must not come back at one moment ("full jitter").
pub fn delay(after: After, random: f64) -> Duration {
    let random = random.clamp(0.0, 1.0);
    match after {
        After::Failure { attempt } => ceiling(attempt).mul_f64(random),
        After::Asked { seconds, attempt } => {
            Duration::from_secs(seconds).min(LONGEST_ASKED) + ceiling(attempt).mul_f64(random)
        }
        After::Refused => LONGEST.mul_f64(0.75 + random / 4.0),
    }
}

/// Returns how long to wait with what broke that is worth going on with, such as an upload: equal jitter, half of the step
/// for sure, the other half by chance; the step doubles with each failure in a row. `random` is from 0 to 1. What the
/// other side asked for, `after`, is the least.
pub fn equal_jitter(failures: u32, random: f64, after: Option<Duration>) -> Duration {
    let step = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(6)).min(LONGEST);
    let pause = step / 2 + (step / 2).mul_f64(random.clamp(0.0, 1.0));
    pause.max(after.unwrap_or_default())
}

fn ceiling(attempt: u32) -> Duration {
    FIRST.saturating_mul(2_u32.saturating_pow(attempt)).min(LONGEST)
}

/// The seconds of a `retry-after` header. A date is not taken: clocks may differ.
pub fn retry_after(value: &str) -> Option<u64> {
    let value = value.trim();
    // More digits than a number holds are many seconds, not none.
    let digits = !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit());
    digits.then(|| value.parse().unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ceilings() -> Vec<u64> {
        (0..9).map(|attempt| delay(After::Failure { attempt }, 1.0).as_secs()).collect()
    }

    #[test]
    fn the_ceiling_doubles_from_one_second_to_sixty_and_stays_there() {
        assert_eq!(ceilings(), [1, 2, 4, 8, 16, 32, 60, 60, 60]);
        assert_eq!(delay(After::Failure { attempt: u32::MAX }, 1.0), LONGEST);
    }

    #[test]
    fn every_moment_below_the_ceiling_is_as_likely_as_any_other() {
        let at = |random| delay(After::Failure { attempt: 4 }, random);
        assert_eq!([at(0.0), at(0.25), at(0.5)], [0, 4, 8].map(Duration::from_secs));
        assert_eq!((at(-1.0), at(7.0)), (at(0.0), at(1.0)));
    }

    #[test]
    fn what_the_supervisor_asks_for_is_kept_and_spread_but_not_believed_without_end() {
        let asked = |seconds, random| delay(After::Asked { seconds, attempt: 0 }, random);
        assert_eq!(asked(30, 0.0), Duration::from_secs(30));
        assert_eq!(asked(30, 1.0), Duration::from_secs(31));
        assert_eq!(asked(u64::MAX, 0.0), LONGEST_ASKED);
    }

    #[test]
    fn a_refused_node_asks_about_once_a_minute() {
        let delays = [0.0, 1.0].map(|random| delay(After::Refused, random));
        assert_eq!(delays, [Duration::from_secs(45), LONGEST]);
    }

    #[test]
    fn only_seconds_are_read_from_retry_after() {
        assert_eq!(retry_after(" 120 "), Some(120));
        assert_eq!(retry_after("99999999999999999999999"), Some(u64::MAX));
        for other in ["", "-1", "+5", "1.5", "Wed, 21 Oct 2026 07:28:00 GMT"] {
            assert_eq!(retry_after(other), None, "{other}");
        }
    }

    #[test]
    fn pauses_double_up_to_a_minute_and_half_of_each_is_chance() {
        let seconds = |failures, random| equal_jitter(failures, random, None).as_secs_f64();
        assert_eq!([1, 2, 3, 7, 100].map(|failures| seconds(failures, 1.0)), [1.0, 2.0, 4.0, 60.0, 60.0]);
        assert_eq!([1, 2, 3, 7, 100].map(|failures| seconds(failures, 0.0)), [0.5, 1.0, 2.0, 30.0, 30.0]);
    }

    #[test]
    fn a_store_that_names_a_time_is_not_asked_before() {
        assert_eq!(equal_jitter(1, 0.0, Some(Duration::from_secs(90))), Duration::from_secs(90));
        assert_eq!(equal_jitter(7, 0.0, Some(Duration::from_secs(5))), Duration::from_secs(30));
    }
}
