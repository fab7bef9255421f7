//! SIGHUP, which `systemctl reload` sends: the configuration is read anew, what can change while it runs does, and what
//! cannot is named.

use std::path::{Path, PathBuf};

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::logging;
use crate::config::fragments::{Fragments, Values};
use crate::config::log::LogLevel;

/// Sections of the files that a daemon reads, and the keys of them that a reload takes up.
#[derive(Debug, Clone, Copy)]
pub struct Sections {
    pub names: &'static [&'static str],
    pub taken_up: &'static [&'static str],
    pub restart: &'static str,
}

pub const OF_SUPERVISOR: Sections = Sections {
    names: &["supervisor"],
    taken_up: &["supervisor.log"],
    restart: "systemctl restart warden-supervisor",
};
pub const OF_AGENT: Sections =
    Sections { names: &["agent", "units"], taken_up: &["agent.log"], restart: "systemctl restart warden" };

/// Waits for SIGHUP from now on: one that nobody waits for would end the process.
pub struct Reload {
    hangup: Signal,
    folder: PathBuf,
    sections: Sections,
    known: Values,
}

impl Reload {
    pub fn new(folder: &Path, sections: Sections) -> anyhow::Result<Reload> {
        let known = Fragments::read(folder).values(sections.names);
        Ok(Reload { hangup: signal(SignalKind::hangup())?, folder: folder.to_owned(), sections, known })
    }

    /// `level` reads the files and tells what is to be logged, or everything that is wrong with them.
    pub async fn run(mut self, level: impl Fn() -> anyhow::Result<LogLevel>, stop: CancellationToken) {
        loop {
            tokio::select! {
                _ = self.hangup.recv() => {}
                () = stop.cancelled() => return,
            }
            match level() {
                Ok(level) => self.take_up(&level),
                Err(error) => {
                    tracing::error!("the configuration is not taken, and stays as it was: {error:#}");
                }
            }
        }
    }

    fn take_up(&self, level: &LogLevel) {
        let changed = self.known.differences(&Fragments::read(&self.folder).values(self.sections.names));
        let taken_up = self.sections.taken_up;
        let waiting: Vec<&str> =
            changed.iter().map(String::as_str).filter(|key| !taken_up.contains(key)).collect();
        // Told before the level may hide it.
        tracing::info!("the configuration was read anew");
        if logging::change(level) {
            tracing::info!("what is logged: {level}");
        } else {
            tracing::info!("WARDEN_LOG says what is logged, and goes before the configuration");
        }
        if !waiting.is_empty() {
            let restart = self.sections.restart;
            tracing::warn!(
                "changed, and taken up at the next start alone ({restart}): {}",
                waiting.join(", ")
            );
        }
    }
}
