//! What a service tells systemd of itself (sd_notify(3)). Without systemd nobody listens, and that is fine.

use std::time::Duration;

use sd_notify::NotifyState;

/// Characters of a status: a line on a screen or two.
const STATUS_LIMIT: usize = 300;

/// It has started, and does this.
pub fn ready(status: &str) {
    send(&[NotifyState::Ready, NotifyState::Status(&one_line(status))]);
}

/// What it does, for `systemctl status`.
pub fn status(status: &str) {
    send(&[NotifyState::Status(&one_line(status))]);
}

pub fn stopping() {
    send(&[NotifyState::Stopping, NotifyState::Status("stopping")]);
}

/// It is not stuck.
pub fn alive() {
    send(&[NotifyState::Watchdog]);
}

/// How often [`alive`] must be told: twice as often as systemd demands (sd_watchdog_enabled(3)). None: never.
pub fn alive_every() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|limit| limit / 2)
}

/// What is told may repeat what a Supervisor said, and a second line would be a second message to systemd.
fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(STATUS_LIMIT).collect()
}

fn send(states: &[NotifyState<'_>]) {
    // systemd's socket full or gone is systemd's to mend; the daemon goes on.
    if let Err(error) = sd_notify::notify(states) {
        tracing::debug!(%error, "systemd was not notified");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_one_line_whatever_it_repeats() {
        assert_eq!(one_line("refused: no\nMAINPID=1"), "refused: no MAINPID=1");
        assert_eq!(one_line(&"x".repeat(9999)).len(), STATUS_LIMIT);
    }
}
