//! What is told beside the result: notes and bars on stderr.

use std::io::{IsTerminal, Write};
use std::time::Duration;

use indicatif::{MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::terminal::harmless;

/// How often a spinner turns.
const TICK: Duration = Duration::from_millis(120);

/// Lines on stderr that do not tear the bars apart.
#[derive(Debug, Clone)]
pub struct Screen {
    bars: MultiProgress,
    on_terminal: bool,
}

impl Screen {
    pub fn stderr() -> Screen {
        let on_terminal = std::io::stderr().is_terminal();
        let target = if on_terminal { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
        Screen { bars: MultiProgress::with_draw_target(target), on_terminal }
    }

    /// Whether bars are seen; if not, what they would show is to be said in lines.
    pub fn draws(&self) -> bool {
        self.on_terminal
    }

    /// A line for a person; texts of others in it are made harmless here.
    pub fn say(&self, line: &str) {
        self.bars.suspend(|| {
            let _ = writeln!(std::io::stderr(), "{}", harmless(line));
        });
    }

    /// Does `print` with no bar in its way.
    pub fn without_bars<T>(&self, print: impl FnOnce() -> T) -> T {
        self.bars.suspend(print)
    }

    /// A bar that counts bytes of something; there may be several at a time.
    pub fn bar(&self, what: &str, bytes: u64) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new(bytes));
        let style = ProgressStyle::with_template(
            "{prefix}  {bar:24} {binary_bytes}/{binary_total_bytes} {binary_bytes_per_sec}",
        );
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        bar.set_prefix(harmless(what));
        bar
    }

    /// A line that turns until it is finished.
    pub fn spinner(&self, prefix: &str) -> ProgressBar {
        let bar = self.bars.add(ProgressBar::new_spinner());
        let style = ProgressStyle::with_template("{spinner} {prefix}  {elapsed:>4}  {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()));
        bar.set_prefix(harmless(prefix));
        if self.on_terminal {
            bar.enable_steady_tick(TICK);
        }
        bar
    }
}
