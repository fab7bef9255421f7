//! Where log lines go: to the journal when systemd runs us, to standard error otherwise.

use std::io::IsTerminal;
use std::path::Path;

use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::fragments;
use crate::said::Said;

/// What is logged, as tracing-subscriber's `EnvFilter` reads it: `debug`, or `info,warden::agent=debug`.
const VARIABLE: &str = "WARDEN_LOG";

/// Starts the log of a daemon. Once in a process.
pub fn start() {
    let filter = EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .with_env_var(VARIABLE)
        .from_env_lossy();
    let registry = tracing_subscriber::registry().with(filter).with(Said::new(jiff::Timestamp::now));
    let journal = if stderr_is_the_journal() { tracing_journald::layer().ok() } else { None };
    match journal {
        Some(journal) => registry.with(journal).init(),
        None => {
            let plain = tracing_subscriber::fmt::layer()
                .with_writer(std::io::stderr)
                .with_ansi(std::io::stderr().is_terminal())
                .with_target(false);
            registry.with(plain).init();
        }
    }
}

/// Names the files of a configuration folder that are not read.
pub fn tell_unread(folder: &Path) {
    for line in fragments::unread(folder) {
        tracing::warn!("{line}");
    }
}

/// As systemd.exec(5) says of `$JOURNAL_STREAM`: device and inode of what standard error is connected to.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}
