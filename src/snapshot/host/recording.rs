//! A host that remembers: every question is asked once, its answer masked, kept, and given to all who ask.

use std::collections::BTreeMap;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use warden_config as config;
use warden_host::{Answer, Cause, Failure, Request, Source};
use warden_redact::Redactor;

use super::redact_answers::mask;
use crate::check_runner::ASK_PREFIX;

/// Answers from `inner`, through the redactor. A check therefore never sees a secret, and what it says of the
/// masked evidence is what a replay says again.
pub struct Recording {
    shared: Arc<Shared>,
    /// Whether `inner` is a recording itself, which answers at once and never hangs.
    replays: bool,
}

struct Shared {
    inner: Arc<dyn Source>,
    redactor: Arc<Redactor>,
    /// `None` while a question is being asked.
    answers: Mutex<BTreeMap<Request, Option<Arc<Answer>>>>,
    answered: Condvar,
}

impl Recording {
    pub fn new(inner: Arc<dyn Source>, redactor: Arc<Redactor>) -> Recording {
        let (answers, answered) = (Mutex::default(), Condvar::new());
        Recording { shared: Arc::new(Shared { inner, redactor, answers, answered }), replays: false }
    }

    /// Of an `inner` that is a recording. Nothing is given up for taking long: how busy the machine is that judges
    /// must not show in what it says of another one.
    pub fn replay(inner: Arc<dyn Source>, redactor: Arc<Redactor>) -> Recording {
        Recording { replays: true, ..Recording::new(inner, redactor) }
    }

    /// Everything that was asked, with its answer, in the order of requests. A question that is still being
    /// asked is told as timed out.
    pub fn answers(&self) -> Vec<(Request, Arc<Answer>)> {
        let answers = self.shared.lock();
        let told = |(request, answer): (&Request, &Option<Arc<Answer>>)| {
            (request.clone(), answer.clone().unwrap_or_else(|| timed_out(request)))
        };
        answers.iter().map(told).collect()
    }

    /// Asks without waiting for ever: a thread of its own does the asking, and when the kernel does not give it
    /// back (a dead mount, a disk that hangs) it is left behind with its question.
    fn ask(&self, request: &Request, deadline: Instant) -> Arc<Answer> {
        let limit = deadline.min(Instant::now() + patience(request));
        let (shared, asked) = (Arc::clone(&self.shared), request.clone());
        let work = move || {
            let answer = shared.inner.answer(&asked, limit);
            let masked = Arc::new(mask(&shared.redactor, &asked, &answer));
            let mut answers = shared.lock();
            if let Some(slot @ None) = answers.get_mut(&asked) {
                *slot = Some(masked);
            }
            drop(answers);
            shared.answered.notify_all();
        };
        let name = format!("{ASK_PREFIX}{request}").chars().filter(|&c| c != '\0').take(15).collect();
        if let Err(error) = std::thread::Builder::new().name(name).spawn(work) {
            let cause = Cause::Other(format!("cannot start a thread: {error}"));
            return self.settle(request, Arc::new(Err(Failure { what: request.to_string(), cause })));
        }
        // The reader keeps `limit` itself; a little more lets it say what it has.
        const GRACE: Duration = Duration::from_millis(200);
        match self.wait(request, limit + GRACE) {
            Some(answer) => answer,
            None => self.settle(request, timed_out(request)),
        }
    }

    fn wait(&self, request: &Request, until: Instant) -> Option<Arc<Answer>> {
        let mut answers = self.shared.lock();
        loop {
            if let Some(Some(answer)) = answers.get(request) {
                return Some(Arc::clone(answer));
            }
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return None;
            }
            let waited = self.shared.answered.wait_timeout(answers, left);
            answers = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// The first answer stays.
    fn settle(&self, request: &Request, answer: Arc<Answer>) -> Arc<Answer> {
        let mut answers = self.shared.lock();
        let slot = answers.entry(request.clone()).or_default();
        let settled = Arc::clone(slot.get_or_insert(answer));
        drop(answers);
        self.shared.answered.notify_all();
        settled
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<Request, Option<Arc<Answer>>>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Source for Recording {
    fn answer(&self, request: &Request, deadline: Instant) -> Arc<Answer> {
        let mut answers = self.shared.lock();
        match answers.get(request) {
            Some(Some(answer)) => return Arc::clone(answer),
            Some(None) => {
                drop(answers);
                return self.wait(request, deadline).unwrap_or_else(|| timed_out(request));
            }
            None => answers.insert(request.clone(), None),
        };
        drop(answers);
        if self.replays {
            let answer = self.shared.inner.answer(request, deadline);
            return self.settle(request, Arc::new(mask(&self.shared.redactor, request, &answer)));
        }
        self.ask(request, deadline)
    }
}

fn timed_out(request: &Request) -> Arc<Answer> {
    Arc::new(Answer::Err(Failure { what: request.to_string(), cause: Cause::TimedOut }))
}

fn patience(request: &Request) -> Duration {
    match request {
        Request::OnBehalf { request, .. } => patience(request),
        Request::File { .. }
        | Request::Files { .. }
        | Request::Tail { .. }
        | Request::List { .. }
        | Request::Link { .. }
        | Request::Stat { .. }
        | Request::Space { .. }
        | Request::PublicKey { .. }
        | Request::Uname
        | Request::Clock
        | Request::Settings => config::FILE_PATIENCE,
        Request::Sample { .. } => config::SAMPLE_PAUSE + config::FILE_PATIENCE,
        Request::Command { .. } | Request::Journal { .. } | Request::KernelLog => config::COMMAND_LIMIT,
        Request::UnitList | Request::Unit { .. } => config::DBUS_LIMIT,
        Request::IggyApi { .. } => config::IGGY_API_LIMIT,
        Request::Http { .. } | Request::Tls { .. } | Request::Resolve { .. } | Request::Connect { .. } => {
            config::NETWORK_LIMIT
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use warden_host::Data;

    use super::*;

    /// The outside: a host whose one mount is dead.
    struct Stuck(AtomicU32);

    impl Source for Stuck {
        fn answer(&self, request: &Request, _deadline: Instant) -> Arc<Answer> {
            self.0.fetch_add(1, Ordering::SeqCst);
            if matches!(request, Request::Space { .. }) {
                std::thread::sleep(Duration::from_secs(600));
            }
            Arc::new(Ok(Data::Link { target: "there".to_owned() }))
        }
    }

    fn recording() -> (Arc<Stuck>, Recording) {
        let stuck = Arc::new(Stuck(AtomicU32::new(0)));
        (stuck.clone(), Recording::new(stuck, Arc::new(Redactor::new([7; 32]))))
    }

    #[test]
    fn a_question_is_asked_once_however_many_ask_it() {
        let (host, recording) = recording();
        let request = Request::Link { path: "/here".to_owned() };
        let deadline = Instant::now() + Duration::from_secs(5);
        std::thread::scope(|scope| {
            for _ in 0..8 {
                scope.spawn(|| assert!(recording.answer(&request, deadline).is_ok()));
            }
        });
        assert_eq!(host.0.load(Ordering::SeqCst), 1);
    }

    #[test]
    fn a_question_that_hangs_is_left_behind_and_told_as_timed_out_to_all() {
        let (_, recording) = recording();
        let request = Request::Space { path: "/mnt/dead".to_owned() };
        let deadline = Instant::now() + Duration::from_millis(50);
        let answer = recording.answer(&request, deadline);
        assert_eq!(answer.as_ref().as_ref().unwrap_err().cause, Cause::TimedOut);
        assert!(matches!(&recording.answers()[..], [(_, answer)] if answer.is_err()));
        assert!(recording.answer(&Request::Uname, Instant::now() + Duration::from_secs(5)).is_ok());
    }
}
