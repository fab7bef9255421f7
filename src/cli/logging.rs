//! Where log lines go: to the journal when systemd runs us, to standard error otherwise.

use std::io::IsTerminal;
use std::path::Path;
use std::sync::OnceLock;

use tracing_subscriber::Registry;
use tracing_subscriber::filter::{EnvFilter, LevelFilter};
use tracing_subscriber::layer::SubscriberExt;
use tracing_subscriber::reload::{Handle, Layer};
use tracing_subscriber::util::SubscriberInitExt;

use crate::config::fragments;
use crate::config::log::{LogLevel, by_crate};
use crate::log_buffer::Said;

/// What is logged, as tracing-subscriber's `EnvFilter` reads it; goes before the configuration.
const VARIABLE: &str = "WARDEN_LOG";

/// A process has one log.
static FILTER: OnceLock<Handle<EnvFilter, Registry>> = OnceLock::new();

/// Starts the log of a daemon. Once in a process.
pub fn start(level: &LogLevel) {
    let (filter, handle) = Layer::new(filter(level));
    let _ = FILTER.set(handle);
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

/// Logs from now on what `level` says, and tells whether it may: the environment of the process goes before it.
pub fn change(level: &LogLevel) -> bool {
    if std::env::var_os(VARIABLE).is_some_and(|text| !text.is_empty()) {
        return false;
    }
    FILTER.get().is_some_and(|handle| handle.reload(filter(level)).is_ok())
}

fn filter(level: &LogLevel) -> EnvFilter {
    let said = std::env::var(VARIABLE).ok().filter(|text| !text.is_empty());
    EnvFilter::builder()
        .with_default_directive(LevelFilter::INFO.into())
        .parse_lossy(by_crate(&said.unwrap_or_else(|| level.to_string())))
}

/// As systemd.exec(5) says of `$JOURNAL_STREAM`: device and inode of what standard error is connected to.
fn stderr_is_the_journal() -> bool {
    let Ok(stream) = std::env::var("JOURNAL_STREAM") else { return false };
    let Ok(stderr) = rustix::fs::fstat(std::io::stderr()) else { return false };
    stream == format!("{}:{}", stderr.st_dev, stderr.st_ino)
}
