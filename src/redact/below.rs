//! Values that stand on the lines below their name.

use super::allowlist::is_harmless;
use super::entropy::is_secretish;
use super::key_names::{Certainty, Telling};
use super::placeholders::is_token;
use super::span::Span;
use super::table;
use super::value::VALUE_TAGS;

/// Longest block of lines that is a value: a key of 4096 bits in a YAML document has 52.
const BLOCK_LINES: usize = 200;
/// Blank lines between a sentence and its value, and lines between a Terraform variable and its default.
const LINES: usize = 4;
/// Of the line of the name as much is kept, to compare the time and host in front of both.
const LABEL_BYTES: usize = 256;
/// Shortest word that is taken for a value without a quote.
const WORD_BYTES: usize = 4;

/// How the value below a name is written.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Form {
    /// A word or a string on the next line.
    Word,
    /// All lines that are indented deeper than the name.
    Block,
    /// Up to the next tag.
    Element,
    /// In a tag of its own: `<value>x</value>`.
    Tagged,
    /// The line goes on behind a backslash.
    Continued,
    /// `default = "x"`.
    Default,
    /// A cell of each row of a table with `of` columns.
    Column { divider: u8, at: u8, of: u8 },
}

#[derive(Clone, Copy)]
pub(super) struct Label {
    pub(super) telling: Telling,
    pub(super) form: Form,
}

/// A value that is looked for from the line below its name on.
#[derive(Clone)]
pub(super) struct Below {
    label: Label,
    /// The beginning of the line of the name.
    line: String,
    lines: usize,
}

impl Below {
    pub(super) fn new(label: Label, line: &str) -> Below {
        let mut end = line.len().min(LABEL_BYTES);
        while !line.is_char_boundary(end) {
            end -= 1;
        }
        Below { label, line: line[..end].to_owned(), lines: 0 }
    }

    /// Masks what of the value stands in the line at `start..end`; whether it may go on below.
    pub(super) fn read(&mut self, text: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> bool {
        let line = text[start..end].trim_end();
        let from = prefix(&self.line, line);
        let content = line[from..].trim_start();
        let at = start + line.len() - content.len();
        let deeper = indent(line) > indent(&self.line);
        self.lines += 1;
        let rule = self.label.telling.rule;
        match self.label.form {
            Form::Word if content.is_empty() => self.lines < LINES,
            Form::Word => {
                spans.extend(self.word(content, at, deeper));
                false
            }
            Form::Block => {
                let inside =
                    content.is_empty() || line.len() - content.len() > indent(&self.line) + from && deeper;
                if inside && !content.is_empty() && !is_token(content) && !content.starts_with("-----") {
                    spans.push(Span::new(at, at + content.len(), rule));
                }
                inside && self.lines < BLOCK_LINES
            }
            Form::Element => {
                let tag = content.find('<');
                let value = content[..tag.unwrap_or(content.len())].trim_end();
                if !value.is_empty()
                    && !is_token(value)
                    && !is_harmless(value, self.label.telling.certainty, true)
                {
                    spans.push(Span::new(at, at + value.len(), rule));
                }
                tag.is_none() && self.lines < LINES
            }
            Form::Column { divider, at, of } => {
                let cell = table::row(line, start, (divider, at, of), self.label.telling);
                spans.extend(cell.flatten());
                cell.is_some() && self.lines < BLOCK_LINES
            }
            Form::Tagged => {
                let tag = VALUE_TAGS.iter().find(|tag| content.starts_with(**tag)).map_or(0, |tag| tag.len());
                let value = &content[tag..];
                let value = &value[..value.find('<').unwrap_or(value.len())];
                if tag > 0 && !is_token(value) && !is_harmless(value, self.label.telling.certainty, true) {
                    spans.push(Span::new(at + tag, at + tag + value.len(), rule));
                }
                content.is_empty() && self.lines < LINES
            }
            Form::Continued => {
                let value = content.trim_end_matches('\\').trim_end();
                if !value.is_empty()
                    && !is_token(value)
                    && !is_harmless(value, self.label.telling.certainty, true)
                {
                    spans.push(Span::new(at, at + value.len(), rule));
                }
                content.ends_with('\\') && self.lines < BLOCK_LINES
            }
            Form::Default => {
                let value = content
                    .strip_prefix("default")
                    .map(str::trim_start)
                    .and_then(|rest| rest.strip_prefix('='));
                let Some(value) = value.map(str::trim) else { return self.lines < LINES && content != "}" };
                let inner = value.trim_matches('"');
                if inner.len() + 2 == value.len()
                    && !is_token(inner)
                    && !is_harmless(inner, Certainty::Sure, true)
                {
                    let first = at + content.len() - value.len() + 1;
                    spans.push(Span::new(first, first + inner.len(), rule));
                }
                false
            }
        }
    }

    /// A string, or a single word that can be a value.
    fn word(&self, content: &str, at: usize, deeper: bool) -> Option<Span> {
        let Telling { rule, certainty } = self.label.telling;
        let content = content.trim_end_matches('\\').trim_end().trim_end_matches([',', ';']);
        let quoted = content.len() > 2
            && ['"', '\''].iter().any(|quote| {
                content.starts_with(*quote) && content[1..].find(*quote) == Some(content.len() - 2)
            });
        let (value, first) = if quoted { (&content[1..content.len() - 1], at + 1) } else { (content, at) };
        let span = Span::new(first, first + value.len(), rule);
        if is_token(value) || value.starts_with("[secret:") || is_harmless(value, certainty, quoted) {
            return None;
        }
        if quoted {
            return Some(span);
        }
        let named = value.split_once('=').is_some_and(|(_, rest)| !rest.is_empty() && rest != "=");
        let word = value.len() >= WORD_BYTES
            && !value.contains(char::is_whitespace)
            && !value.ends_with([':', '>', '{', '['])
            && !value.starts_with(['-', '<', '{', '[', '(', '#', '/', '}', ']'])
            && !value.contains("://")
            && !named;
        let letters = value.bytes().all(|byte| byte.is_ascii_alphabetic());
        let hex = value.len() >= 16 && value.bytes().all(|byte| byte.is_ascii_hexdigit());
        let accepted = match certainty {
            Certainty::Sure => deeper || !letters,
            Certainty::Likely => deeper && !letters || hex || is_secretish(value),
            Certainty::Possible => false,
        };
        (word && accepted).then_some(span)
    }
}

fn indent(line: &str) -> usize {
    line.len() - line.trim_start_matches([' ', '\t']).len()
}

/// Where the text of a line begins behind the time, host and program that the line of the name begins with as well.
fn prefix(label: &str, line: &str) -> usize {
    let alike = |(a, b): &(u8, u8)| a == b || a.is_ascii_digit() && b.is_ascii_digit();
    let same = label.bytes().zip(line.bytes()).take_while(alike).count();
    let end = line.as_bytes()[..same].iter().rposition(|byte| *byte == b' ').map_or(0, |blank| blank + 1);
    let timed = line.as_bytes()[..end].iter().filter(|byte| byte.is_ascii_digit()).count() >= 4;
    if timed && line.is_char_boundary(end) { end } else { 0 }
}
