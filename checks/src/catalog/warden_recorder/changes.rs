//! Each time a runtime was seen to be another than before, and why.

use std::fmt;

use warden_host::recorder::{ASKED, ENDED, Mark, RESTARTED, STOPPED, Standing};

use super::window::Window;

/// How long a stop or restart that the agent was asked for may show in the samples: twice systemd's default
/// TimeoutStopSec, and a start.
const ASKED_SECONDS: i64 = 300;

pub struct Change {
    /// Unix time.
    pub at: i64,
    pub unit: String,
    pub before: String,
    pub after: String,
    /// Whether the process that ran is gone.
    pub is_loss: bool,
    pub why: Why,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Why {
    /// Warden did it, on request.
    Asked(String),
    Booted,
    /// Nobody told it to; how it ended, if known.
    ByItself(Option<String>),
    /// Somebody on the host told systemd to.
    Stopped,
    Unknown,
}

impl Why {
    pub fn detail(&self) -> Option<&str> {
        match self {
            Why::Asked(detail) | Why::ByItself(Some(detail)) => Some(detail),
            Why::Booted | Why::ByItself(None) | Why::Stopped | Why::Unknown => None,
        }
    }
}

impl fmt::Display for Why {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Why::Asked(what) => write!(out, "Warden was asked to: {what}"),
            Why::Booted => out.write_str("the host booted"),
            Why::ByItself(Some(how)) => write!(out, "by itself: {how}"),
            Why::ByItself(None) => out.write_str("by itself"),
            Why::Stopped => out.write_str("somebody stopped it"),
            Why::Unknown => out.write_str("not known"),
        }
    }
}

/// All of them, oldest first.
pub fn of(window: &Window) -> Vec<Change> {
    let mut changes = Vec::new();
    for (unit, standings) in window.recording.units() {
        for pair in standings.windows(2) {
            let [before, after] = pair else { continue };
            if !window.samples().contains(&after.sample) {
                continue;
            }
            let is_loss = before.pid != 0 && after.pid != before.pid;
            changes.push(Change {
                at: window.time(after.sample),
                unit: unit.to_owned(),
                before: told(before),
                after: told(after),
                is_loss,
                why: why(window, unit, before, after, is_loss),
            });
        }
    }
    changes.sort_by_key(|change| change.at);
    changes
}

fn told(standing: &Standing) -> String {
    if standing.pid == 0 {
        standing.state.clone()
    } else {
        format!("{}, process {}", standing.state, standing.pid)
    }
}

fn why(window: &Window, unit: &str, before: &Standing, after: &Standing, is_loss: bool) -> Why {
    let marks = || window.recording.marks.iter().filter(|mark| mark.unit == unit);
    let since = |mark: &Mark| window.age(mark.sample) - window.age(after.sample);
    let asked = |mark: &&Mark| {
        mark.cause == ASKED && mark.sample <= after.sample && (0..=ASKED_SECONDS).contains(&since(mark))
    };
    if (before.sample + 1..=after.sample).any(|sample| window.recording.booted(sample)) {
        return Why::Booted;
    }
    if let Some(mark) = marks().rev().find(asked) {
        return Why::Asked(mark.detail.clone());
    }
    let lately = || marks().filter(|mark| (before.sample + 1..=after.sample).contains(&mark.sample));
    let of = |cause: &str| lately().rev().find(|mark| mark.cause == cause);
    if let Some(mark) = of(ENDED) {
        return Why::ByItself(Some(mark.detail.clone()).filter(|detail| !detail.is_empty()));
    }
    if of(RESTARTED).is_some() {
        return Why::ByItself(Some("systemd started it again".to_owned()));
    }
    match of(STOPPED) {
        Some(_) => Why::Stopped,
        None if is_loss && after.state == "failed" => Why::ByItself(None),
        None => Why::Unknown,
    }
}
