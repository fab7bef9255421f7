//! Ctrl-C while `--wait` follows something: the nodes go on, and the person is told how to stop them.

use super::context::Session;

/// Exit status of a process that SIGINT ended, as a shell reports it.
const EXIT_STATUS: u8 = 130;

/// Runs `work` and returns what it gives; `None` when Ctrl-C came first, which drops `work`.
///
/// # Errors
/// Those of `work`, or the signal cannot be listened for.
pub async fn unless_interrupted<T>(
    work: impl Future<Output = anyhow::Result<T>>,
) -> anyhow::Result<Option<T>> {
    tokio::select! {
        done = work => done.map(Some),
        caught = tokio::signal::ctrl_c() => caught.map(|()| None).map_err(Into::into),
    }
}

/// Says that `what` goes on without this command and how to cancel it. Returns the exit status.
pub fn report(session: &Session, what: &str, follow: &str, action: Option<&str>) -> u8 {
    let cancel =
        action.map_or_else(String::new, |id| format!("; to cancel it: warden ctl actions cancel {id}"));
    let screen = &session.screen;
    screen.say(&format!("interrupted; {what} goes on. To follow it: {follow}{cancel}"));
    EXIT_STATUS
}
