//! Places for streams of events: so many in all, and so many of one key.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::http::StatusCode;

use super::problem::Problem;

/// Streams at once: each holds a connection for as long as its action runs.
const STREAMS: usize = 1024;
/// Of one key: a console follows a few actions, a script one.
pub const STREAMS_OF_A_KEY: usize = 32;
/// When to come back, in seconds: by then some action may have ended.
const COME_BACK: u64 = 10;

#[derive(Clone, Default)]
pub struct Streams(Arc<Mutex<Taken>>);

#[derive(Default)]
struct Taken {
    all: usize,
    of_key: HashMap<u64, usize>,
}

/// A place, given back when dropped.
pub struct Stream {
    streams: Streams,
    key: u64,
}

impl Streams {
    pub fn take(&self, key: u64) -> Result<Stream, Problem> {
        let mut taken = self.taken();
        if taken.all >= STREAMS {
            let problem = Problem::unavailable("too many streams of events");
            return Err(problem.coded("too_many_streams").retry_after(COME_BACK));
        }
        let of_key = taken.of_key.entry(key).or_default();
        if *of_key >= STREAMS_OF_A_KEY {
            let reason =
                format!("this key follows {STREAMS_OF_A_KEY} actions already; end one of these streams");
            return Err(Problem::new(StatusCode::TOO_MANY_REQUESTS, "too_many_streams", reason)
                .retry_after(COME_BACK));
        }
        *of_key += 1;
        taken.all += 1;
        Ok(Stream { streams: self.clone(), key })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut taken = self.streams.taken();
        taken.all -= 1;
        if let Some(of_key) = taken.of_key.get_mut(&self.key) {
            *of_key -= 1;
            if *of_key == 0 {
                taken.of_key.remove(&self.key);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_key_leaves_places_to_others_and_all_together_are_bounded() {
        let streams = Streams::default();
        let mut held = Vec::new();
        for key in 0..(STREAMS / STREAMS_OF_A_KEY) as u64 {
            held.extend((0..STREAMS_OF_A_KEY).map(|_| streams.take(key).unwrap()));
            if held.len() < STREAMS {
                assert_eq!(streams.take(key).err().unwrap().status, StatusCode::TOO_MANY_REQUESTS);
            }
        }
        assert_eq!(streams.take(1000).err().unwrap().status, StatusCode::SERVICE_UNAVAILABLE);
        held.pop();
        assert!(streams.take(1000).is_ok());
        drop(held);
        assert!(streams.taken().of_key.is_empty() && streams.taken().all == 0);
    }
}
