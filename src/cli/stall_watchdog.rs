//! Ends a snapshot whose data directory does not answer: a dead mount holds the thread that asks it, for ever and
//! beyond the reach of a signal, so the thread is left behind. On a host without a core to spare this program, last in
//! line, waits long for its turn: that is no silence of the data directory.

use std::path::Path;
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use super::terminal::harmless;
use crate::background_io;
use crate::config::DATA_PATIENCE;
use crate::snapshot::archive::Signs;

/// How often it is looked whether there was a sign.
const LOOK: Duration = Duration::from_millis(200);
/// As the first thread of a process has by default; others get less. In bytes.
const STACK: usize = 8 << 20;

/// Looks whether the data directory answers, from outside of the thread that waits for it.
#[derive(Default)]
pub struct Watch {
    signs: Signs,
    waiting: Mutex<Option<Waiting>>,
}

/// For what, and how long there was no sign of it while nothing here computed or waited for a core.
struct Waiting {
    what: String,
    signs: u64,
    silence: Duration,
    looked: Instant,
    at_work: Duration,
}

impl Watch {
    /// Does `work` in a thread of its own until it is done, or until what it reads has not answered for too long.
    pub fn over<T: Send + 'static>(
        work: impl FnOnce(&Watch) -> anyhow::Result<T> + Send + 'static,
    ) -> anyhow::Result<T> {
        let watch = Arc::new(Watch::default());
        let (sender, receiver) = channel();
        let shared = Arc::clone(&watch);
        let thread = std::thread::Builder::new().name("snapshot".to_owned()).stack_size(STACK);
        thread.spawn(move || sender.send(work(&shared))).context("cannot start a thread")?;
        loop {
            match receiver.recv_timeout(LOOK) {
                Ok(done) => return done,
                Err(RecvTimeoutError::Timeout) => {
                    if let Some(what) = watch.stalled(Instant::now(), background_io::at_work()) {
                        let seconds = DATA_PATIENCE.as_secs();
                        bail!(
                            "{what} does not answer: no sign of it for {seconds} s; look at its disk, or the server \
                             it is mounted from, or leave out --include-iggy"
                        );
                    }
                }
                Err(RecvTimeoutError::Disconnected) => bail!("a defect of Warden; it is told above"),
            }
        }
    }

    /// To be given while the data directory is read.
    pub fn signs(&self) -> &Signs {
        &self.signs
    }

    /// Reads the data directory at `path`.
    pub fn while_reading<T>(&self, path: &Path, read: impl FnOnce() -> T) -> T {
        let path = harmless(&path.display().to_string());
        self.while_asking(&format!("the data directory {path}"), read)
    }

    /// Asks for something that a dead mount could keep back.
    pub fn while_asking<T>(&self, what: &str, ask: impl FnOnce() -> T) -> T {
        *self.waiting() = Some(Waiting {
            what: what.to_owned(),
            signs: self.signs.given(),
            silence: Duration::ZERO,
            looked: Instant::now(),
            at_work: background_io::at_work(),
        });
        let asked = ask();
        *self.waiting() = None;
        asked
    }

    /// What has given no sign for too long. `at_work`: see [`background_io::at_work`].
    fn stalled(&self, now: Instant, at_work: Duration) -> Option<String> {
        let mut waiting = self.waiting();
        let waiting = waiting.as_mut()?;
        let signs = self.signs.given();
        let silent = now
            .saturating_duration_since(waiting.looked)
            .saturating_sub(at_work.saturating_sub(waiting.at_work));
        waiting.silence = if signs == waiting.signs { waiting.silence + silent } else { Duration::ZERO };
        (waiting.signs, waiting.looked, waiting.at_work) = (signs, now, at_work);
        (waiting.silence >= DATA_PATIENCE).then(|| waiting.what.clone())
    }

    fn waiting(&self) -> std::sync::MutexGuard<'_, Option<Waiting>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_waited_for_without_a_sign_stalls() {
        let (watch, work) = (Watch::default(), background_io::at_work());
        let now = Instant::now();
        let long_after = now + 2 * DATA_PATIENCE;
        assert_eq!(watch.stalled(long_after, work), None, "nothing is waited for");
        watch.while_reading(Path::new("/data"), || {
            assert_eq!(watch.stalled(now, work), None, "it has only begun");
            watch.signs().give();
            assert_eq!(watch.stalled(long_after, work), None, "there was a sign");
            assert_eq!(watch.stalled(long_after + DATA_PATIENCE / 2, work), None);
            let stalled = watch.stalled(long_after + DATA_PATIENCE, work);
            assert_eq!(stalled.as_deref(), Some("the data directory /data"));
        });
        assert_eq!(watch.stalled(long_after + 2 * DATA_PATIENCE, work), None, "it came");
    }

    #[test]
    fn who_works_or_waits_for_a_core_is_not_kept_waiting_by_the_data_directory() {
        let watch = Watch::default();
        watch.while_reading(Path::new("/data"), || {
            // Other threads of this process work as well.
            let (began, worked) = (Instant::now(), background_io::at_work() + Duration::from_secs(3600));
            assert_eq!(watch.stalled(began, worked), None);
            let after = |parts: u32| began + DATA_PATIENCE / 4 * parts;
            let three = worked + DATA_PATIENCE / 4 * 3;
            assert_eq!(watch.stalled(after(4), three), None, "a quarter was silence");
            assert_eq!(watch.stalled(after(6), three), None, "and two more");
            assert!(watch.stalled(after(7), three).is_some());
        });
    }

    #[test]
    fn what_is_done_in_time_is_told_as_it_is() {
        assert_eq!(Watch::over(|_| Ok(7)).unwrap(), 7);
        let error = Watch::over(|_| -> anyhow::Result<()> { bail!("no room") }).unwrap_err();
        assert_eq!(error.to_string(), "no room");
    }
}
