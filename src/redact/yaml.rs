//! Masks values in YAML by the keys they stand under, line by line.

use super::allowlist::is_placeholder;
use super::key_names::{self, Certainty, telling};
use super::placeholders::is_token;
use super::span::{Quoting, Span};
use super::structured::Place;
use super::{environment, inner};

/// Deeper nesting is read as if it were this deep.
const DEPTH: usize = 128;

#[derive(Default)]
struct Reader {
    /// Indentation and place of the keys that are open.
    open: Vec<(usize, Place)>,
    /// Lines that are indented deeper than this belong to a value that is masked.
    block: Option<(usize, Place)>,
    /// A rule for `value:` at this indentation: `name:` beside it names a secret.
    pair: Option<(usize, &'static str)>,
}

pub(super) fn yaml(text: &str, spans: &mut Vec<Span>) {
    let mut reader = Reader::default();
    let mut start = if text.starts_with('\u{feff}') { 3 } else { 0 };
    let mut secret = is_secret(&text[start..]);
    for line in text[start..].split_inclusive('\n') {
        if line.trim_end() == "---" {
            secret = is_secret(&text[start + line.len()..]);
        }
        reader.line(text, start, start + line.trim_end().len(), secret, spans);
        start += line.len();
    }
}

/// Whether the document that begins here is a secret of Kubernetes; its kind may stand below its data.
fn is_secret(text: &str) -> bool {
    text.lines().map(str::trim_end).take_while(|line| *line != "---").any(|line| line == "kind: Secret")
}

impl Reader {
    fn line(&mut self, text: &str, start: usize, end: usize, secret: bool, spans: &mut Vec<Span>) {
        let line = &text[start..end];
        let mut indent = line.len() - line.trim_start_matches(' ').len();
        let trimmed = line[indent..].trim();
        if trimmed.is_empty() {
            return;
        }
        if let Some((outer, place)) = self.block {
            if indent > outer {
                if !trimmed.contains("-----") {
                    spans.extend(place.scalar(text, start + indent, end, true));
                }
                return;
            }
            self.block = None;
        }
        if trimmed.starts_with('#') {
            return;
        }
        if trimmed == "---" {
            *self = Reader::default();
            return;
        }
        let mut rest = &line[indent..];
        let mut item = false;
        while let Some(after) = rest.strip_prefix("- ") {
            let blanks = after.len() - after.trim_start().len();
            indent += 2 + blanks;
            rest = after.trim_start();
            item = true;
            self.pair = None;
        }
        let bound = if item { indent - 1 } else { indent };
        while self.open.last().is_some_and(|(outer, _)| *outer >= bound) {
            self.open.pop();
        }
        let parent = self.open.last().map_or(Place::default(), |(_, place)| *place);
        let Some(colon) = key_end(rest) else {
            self.item(text, start + indent, end, parent, spans);
            return;
        };
        let key = rest[..colon].trim().trim_matches(['"', '\'']);
        let mut place = parent.enter(key, false);
        if secret && matches!(key, "data" | "stringData") && parent.rule.is_none() {
            place = Place::default().enter("stringData", false);
        }
        let value = &rest[colon + 1..];
        let blanks = value.len() - value.trim_start().len();
        let first = start + indent + colon + 1 + blanks;
        let content = comment_free(&text[first.min(end)..end]);
        if matches!(key, "name" | "key") {
            let name = content.trim_matches(['"', '\'']);
            let telling = telling(name).filter(|telling| telling.certainty != Certainty::Possible);
            self.pair = telling.map(|telling| (indent, telling.rule));
        } else if key == "path" {
            // Files that cloud-init writes: what is in it is told by its name.
            self.pair =
                key_names::of_file(content.trim_matches(['"', '\''])).map(|telling| (indent, telling.rule));
        } else if matches!(key, "value" | "content") && place.rule.is_none() {
            let rule = self.pair.filter(|(column, _)| *column == indent).map(|(_, rule)| rule);
            place.rule = rule;
        }
        if content.is_empty() {
            if self.open.len() < DEPTH {
                self.open.push((indent, place));
            }
            return;
        }
        let block = content.starts_with(['|', '>']);
        if place.rule.is_some() {
            self.block = Some((indent, place));
        }
        if !block {
            scalar(text, first, first + content.len(), place, spans);
        }
    }

    /// A list item that is no mapping.
    fn item(&self, text: &str, start: usize, end: usize, place: Place, spans: &mut Vec<Span>) {
        if place.is_environment() {
            environment::entry(text, start, end, spans);
        } else {
            scalar(text, start, start + comment_free(&text[start..end]).len(), place, spans);
        }
    }
}

fn scalar(text: &str, start: usize, end: usize, place: Place, spans: &mut Vec<Span>) {
    let Some(content) = text.get(start..end) else { return };
    let quote = content.chars().next().filter(|first| matches!(first, '"' | '\''));
    if let Some(quote) = quote {
        let close = content[1..].rfind(quote).map_or(content.len(), |close| close + 1);
        spans.extend(place.scalar(text, start + 1, start + close, true));
        inner::string(text, start + 1, start + close, quote == '"', spans);
    } else if content.starts_with(['[', '{']) && !is_token(content) {
        if let Some(rule) = place.rule.filter(|_| !matches!(content, "{}" | "[]") && !is_placeholder(content))
        {
            spans.push(Span::new(start, end, rule).quoting(Quoting::Double).known(false));
        }
    } else {
        spans.extend(place.scalar(text, start, end, false));
    }
}

/// The colon that ends a key: followed by a blank or nothing, not inside quotes.
fn key_end(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut quote = None;
    for (at, byte) in bytes.iter().enumerate() {
        match (quote, byte) {
            (None, b':') if matches!(bytes.get(at + 1), None | Some(b' ' | b'\t' | b'\r')) => {
                return Some(at);
            }
            (None, b'"' | b'\'') if at == 0 => quote = Some(*byte),
            (Some(open), byte) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

fn comment_free(value: &str) -> &str {
    let quoted = value.starts_with(['"', '\'']);
    let end = if quoted { None } else { value.find(" #") };
    value[..end.unwrap_or(value.len())].trim_end()
}
