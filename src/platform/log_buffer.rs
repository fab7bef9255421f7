//! The newest lines of this process's own log, kept for whoever is told that something failed.

use std::collections::VecDeque;
use std::fmt::{Debug, Write};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::Layer;
use tracing_subscriber::layer::Context;

/// Lines kept, and bytes of each: 40 KiB at most.
const LINES: usize = 80;
const LINE_LIMIT: usize = 512;

/// A process has one log.
static SAID: Mutex<VecDeque<String>> = Mutex::new(VecDeque::new());

/// Keeps what is logged, as far as the filter before it lets it through.
pub struct Said {
    now: fn() -> Timestamp,
}

impl Said {
    pub fn new(now: fn() -> Timestamp) -> Said {
        Said { now }
    }
}

/// The lines, oldest first: time, level, message, fields. Not masked.
pub fn newest() -> Vec<String> {
    SAID.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
}

impl<S: Subscriber> Layer<S> for Said {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        let (mut message, mut fields) = (String::new(), String::new());
        event.record(&mut Line { message: &mut message, fields: &mut fields });
        let mut line = format!("{:.0} {} {message}{fields}", (self.now)(), event.metadata().level());
        line.retain(|c| !c.is_control());
        line.truncate(line.floor_char_boundary(LINE_LIMIT));
        let mut said = SAID.lock().unwrap_or_else(PoisonError::into_inner);
        if said.len() >= LINES {
            said.pop_front();
        }
        said.push_back(line);
    }
}

struct Line<'a> {
    message: &'a mut String,
    fields: &'a mut String,
}

impl Visit for Line<'_> {
    fn record_str(&mut self, field: &Field, value: &str) {
        self.record_debug(field, &format_args!("{value}"));
    }

    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        let _ = match field.name() {
            "message" => write!(self.message, "{value:?}"),
            name => write!(self.fields, " {name}={value:?}"),
        };
    }
}

#[cfg(test)]
mod tests {
    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    #[test]
    fn the_newest_lines_are_kept_each_in_bounds() {
        let said = Said::new(|| Timestamp::from_second(1_795_262_400).unwrap());
        let subscriber = tracing_subscriber::registry().with(said);
        tracing::subscriber::with_default(subscriber, || {
            (0..200).for_each(|number| tracing::info!(number, "said"));
            tracing::warn!(unit = "a.service", why = "two\nlines", "{}", "é".repeat(1000));
            tracing::error!(node = 7, text = "x", "the last");
        });
        let newest = newest();
        assert_eq!(newest.len(), LINES);
        assert_eq!(newest[LINES - 3], "2026-11-21T12:00:00Z INFO said number=199");
        assert_eq!(newest[LINES - 1], "2026-11-21T12:00:00Z ERROR the last node=7 text=x");
        assert!(newest[LINES - 2].len() <= LINE_LIMIT && newest[LINES - 2].ends_with('é'));
    }
}
