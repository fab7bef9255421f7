//! Bars on stderr: how many checks are done and which are running, or how many bytes were read.

use std::time::Duration;

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::snapshot::run::Event;

pub struct Progress {
    bar: ProgressBar,
    running: Vec<&'static str>,
    in_bytes: bool,
}

impl Progress {
    /// Draws nothing when stderr is no terminal, or when `quiet`.
    pub fn new(quiet: bool) -> Progress {
        let target = if quiet { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
        let bar = ProgressBar::with_draw_target(None, target);
        let style = ProgressStyle::with_template("{bar:24} {pos}/{len} {elapsed} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.enable_steady_tick(Duration::from_millis(100));
        Progress { bar, running: Vec::new(), in_bytes: false }
    }

    pub fn expect(&self, checks: usize) {
        self.bar.set_length(checks as u64);
    }

    pub fn observe(&mut self, event: Event) {
        match event {
            Event::Began(check) => self.running.push(check.id),
            Event::Ended(check) => {
                self.running.retain(|&id| id != check.id);
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
