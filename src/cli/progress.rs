//! Bars on stderr: how many checks are done and which are running, or how many bytes were read.

use std::io::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use serde::Serialize;

use crate::snapshot::check_runner::Event;

/// How progress is told on standard error.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Manner {
    /// A bar, on a terminal
    Bar,
    /// A line of JSON a second: checks_done, checks_total, bytes_packed
    Json,
    None,
}

pub struct Progress {
    bar: ProgressBar,
    running: Vec<&'static str>,
    in_bytes: bool,
    told: Option<Arc<Told>>,
}

/// What the thread that writes lines must know beside the bar.
#[derive(Default)]
struct Told {
    checks: AtomicU64,
    checks_done: AtomicU64,
    packing: AtomicBool,
    over: AtomicBool,
}

/// A line of `--progress json`.
#[derive(PartialEq, Serialize)]
struct Line {
    checks_done: u64,
    checks_total: u64,
    bytes_packed: u64,
}

impl Progress {
    /// Draws nothing when stderr is no terminal, or when `quiet`.
    pub fn new(quiet: bool) -> Progress {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress { bar, running: Vec::new(), in_bytes: false, told: None }
    }

    /// As `manner` says.
    pub fn told(manner: Manner, quiet: bool) -> Progress {
        let mut progress = Progress::new(quiet || manner != Manner::Bar);
        if manner == Manner::Json {
            let told = Arc::new(Told::default());
            let (bar, shared) = (progress.bar.clone(), told.clone());
            std::thread::spawn(move || tell(&bar, &shared));
            progress.told = Some(told);
        }
        progress
    }

    pub fn expect(&self, checks: usize) {
        if let Some(told) = &self.told {
            told.checks.store(checks as u64, Ordering::Relaxed);
        }
        self.bar.set_length(checks as u64);
    }

    pub fn observe(&mut self, event: Event) {
        match event {
            Event::Began(check) => self.running.push(check.id),
            Event::Ended(check) => {
                self.running.retain(|&id| id != check.id);
                if let Some(told) = &self.told {
                    told.checks_done.fetch_add(1, Ordering::Relaxed);
                }
                self.bar.inc(1);
            }
            Event::Inspecting(progress) => {
                if !self.in_bytes {
                    self.in_bytes = true;
                    self.count_bytes(progress.total, "looking into the data directory");
                }
                return self.bar.set_position(progress.done);
            }
        }
        self.bar.set_message(self.running.join(", "));
    }

    pub fn say(&self, what: &'static str) {
        self.bar.set_message(what);
    }

    /// From here on it counts bytes of the data directory; the answer is what to tell.
    pub fn packing(&self, bytes: u64) -> ProgressBar {
        self.count_bytes(bytes, "packing the data directory");
        if let Some(told) = &self.told {
            told.packing.store(true, Ordering::Relaxed);
        }
        self.bar.clone()
    }

    fn count_bytes(&self, bytes: u64, what: &'static str) {
        let style = ProgressStyle::with_template(
            "{bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec} {wide_msg}",
        );
        self.bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        self.bar.set_position(0);
        self.bar.set_length(bytes);
        self.bar.set_message(what);
    }

    pub fn finish(&self) {
        self.bar.finish_and_clear();
        if let Some(told) = &self.told {
            told.over.store(true, Ordering::Relaxed);
        }
    }
}

/// Writes a line when something has changed, at most once a second.
fn tell(bar: &ProgressBar, told: &Told) {
    const EVERY: Duration = Duration::from_secs(1);
    let mut last = None;
    while !told.over.load(Ordering::Relaxed) {
        let packed = if told.packing.load(Ordering::Relaxed) { bar.position() } else { 0 };
        let line = Line {
            checks_done: told.checks_done.load(Ordering::Relaxed),
            checks_total: told.checks.load(Ordering::Relaxed),
            bytes_packed: packed,
        };
        if last.as_ref() != Some(&line)
            && let Ok(text) = serde_json::to_string(&line)
        {
            // Whoever does not listen any more misses nothing.
            let _ = writeln!(std::io::stderr(), "{text}");
        }
        last = Some(line);
        std::thread::sleep(EVERY);
    }
}

/// A count of bytes that grows; draws nothing when stderr is no terminal, or when `quiet`.
pub fn of_bytes(quiet: bool) -> ProgressBar {
    let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    let bar = ProgressBar::with_draw_target(None, target);
    let style = ProgressStyle::with_template("{binary_bytes} read {elapsed} {binary_bytes_per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar
}
