//! When a call is tried again, and when that is enough.

use std::time::Duration;

use crate::error::Failure;

/// All waiting of one call together: whoever stands before the terminal has not yet walked away.
const ALL_WAITING: Duration = Duration::from_secs(120);
/// The first pause where the other side names none; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_millis(500);
/// Calls without an answer, or answered without a `retry-after`, that are made in all.
const BLIND_TRIES: u32 = 5;
/// Connections tried in all: a Supervisor that restarts is back in a moment, a wrong address never is.
const CONNECTS: u32 = 3;
/// `retry-after: 0` is not to become a storm.
const SHORTEST_PAUSE: Duration = Duration::from_millis(100);

#[derive(Debug, Default)]
pub struct Patience {
    blind: u32,
    connects: u32,
    waited: Duration,
}

impl Patience {
    /// How long to wait before the call is made again; none when it is not to be.
    pub fn pause(&mut self, failure: &Failure) -> Option<Duration> {
        let pause = match failure {
            Failure::Refused(refusal) if refusal.is_for_now() => match refusal.retry_after {
                Some(asked) => asked.max(SHORTEST_PAUSE),
                None => self.blind_pause()?,
            },
            Failure::Lost { .. } => self.blind_pause()?,
            Failure::Unreachable { .. } => {
                self.connects += 1;
                (self.connects < CONNECTS).then_some(FIRST_PAUSE)?
            }
            Failure::Refused(_) | Failure::Foreign { .. } => return None,
        };
        self.waited += pause;
        (self.waited <= ALL_WAITING).then_some(pause)
    }

    fn blind_pause(&mut self) -> Option<Duration> {
        self.blind += 1;
        (self.blind < BLIND_TRIES).then(|| FIRST_PAUSE * 2_u32.pow(self.blind - 1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::{Problem, Refusal};

    fn refused(status: u16, retry_after: Option<u64>) -> Failure {
        let retry_after = retry_after.map(Duration::from_secs);
        let problem = Problem::default();
        Failure::Refused(Box::new(Refusal { status, problem, retry_after, request: None }))
    }

    fn pauses(failure: &Failure) -> Vec<u128> {
        let mut patience = Patience::default();
        std::iter::from_fn(|| patience.pause(failure)).map(|pause| pause.as_millis()).collect()
    }

    #[test]
    fn a_named_pause_is_kept_up_to_two_minutes_in_all() {
        assert_eq!(pauses(&refused(429, Some(50))), [50_000, 50_000]);
        assert_eq!(pauses(&refused(503, Some(121))), [0; 0]);
        assert_eq!(pauses(&refused(429, Some(0))).len(), 1200);
    }

    #[test]
    fn without_a_name_pauses_double_and_end() {
        let lost = Failure::Lost { server: String::new(), cause: String::new() };
        assert_eq!(pauses(&lost), [500, 1000, 2000, 4000]);
        assert_eq!(pauses(&refused(502, None)), [500, 1000, 2000, 4000]);
        let unreachable = Failure::Unreachable { server: String::new(), cause: String::new() };
        assert_eq!(pauses(&unreachable), [500, 500]);
    }

    #[test]
    fn what_stays_refused_is_not_tried_again() {
        for status in [400, 401, 403, 404, 409, 413] {
            assert_eq!(pauses(&refused(status, Some(1))), [0; 0], "{status}");
        }
    }
}
