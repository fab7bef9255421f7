//! Colours and widths, on a terminal that wants them; plain text everywhere else.

use std::io::{IsTerminal, Write};

use crate::snapshot::report::Outcome;

/// How a text is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Style {
    Bold,
    Dim,
    Red,
    Yellow,
    Green,
    Cyan,
    Magenta,
}

/// Paints when its stream is a terminal and `NO_COLOR` (no-color.org) is unset or empty.
#[derive(Clone, Copy, Debug)]
pub struct Painter {
    colour: bool,
}

impl Painter {
    pub fn stdout() -> Painter {
        Painter { colour: std::io::stdout().is_terminal() && colour_is_wanted() }
    }

    pub fn stderr() -> Painter {
        Painter { colour: std::io::stderr().is_terminal() && colour_is_wanted() }
    }

    /// Paints nothing, wherever it is shown.
    pub fn plain() -> Painter {
        Painter { colour: false }
    }

    pub fn paint(self, style: Style, text: &str) -> String {
        if !self.colour {
            return text.to_owned();
        }
        let code = match style {
            Style::Bold => "1",
            Style::Dim => "2",
            Style::Red => "1;31",
            Style::Yellow => "1;33",
            Style::Green => "32",
            Style::Cyan => "36",
            Style::Magenta => "35",
        };
        format!("\x1b[{code}m{text}\x1b[0m")
    }
}

fn colour_is_wanted() -> bool {
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    !dumb && std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty())
}

pub fn style_of(outcome: Outcome) -> Style {
    match outcome {
        Outcome::Fail => Style::Red,
        Outcome::Warn => Style::Yellow,
        Outcome::Unknown | Outcome::TimedOut | Outcome::Panicked => Style::Magenta,
        Outcome::Note => Style::Cyan,
        Outcome::Pass => Style::Green,
        Outcome::Skip => Style::Dim,
    }
}

/// Text from the host on a terminal: control characters, and what could turn the reading direction, are shown
/// as escapes, so that nothing in it can drive the terminal.
pub fn harmless(text: &str) -> String {
    let turns =
        |c: char| matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if c.is_control() || turns(c) {
            shown.extend(c.escape_unicode());
        } else {
            shown.push(c);
        }
    }
    shown
}

/// Tells an error with everything that led to it, once. Further lines are indented: none of them can pass for another.
pub fn error(error: &anyhow::Error) {
    let mark = Painter::stderr().paint(Style::Red, "error:");
    let text = format!("{error:#}");
    let lines: Vec<String> = text.trim_end().lines().map(harmless).collect();
    let _ = writeln!(std::io::stderr(), "{mark} {}", lines.join("\n  "));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hostile_text_cannot_drive_the_terminal() {
        assert_eq!(harmless("a\x1b]0;title\x07b\u{202e}c é"), "a\\u{1b}]0;title\\u{7}b\\u{202e}c é");
    }
}
