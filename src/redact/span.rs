//! Places in a text that must be masked, and the text without them.

use std::borrow::Cow;

use super::placeholders::{OPENING, token_length};

/// What stood in the place, as far as the replacement depends on it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Quoting {
    /// The token takes the place as it is.
    None,
    /// A bare number or word in TOML, JSON or YAML: the token gets quotes, so that the text stays valid.
    Double,
    /// The same in JSON inside a JSON string.
    Escaped,
}

#[derive(Clone, Copy)]
pub(super) struct Span {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) rule: &'static str,
    pub(super) quoting: Quoting,
    /// Whether the value is a secret wherever else it stands, or only not to be shown here.
    pub(super) known: bool,
}

impl Span {
    pub(super) fn new(start: usize, end: usize, rule: &'static str) -> Span {
        Span { start, end, rule, quoting: Quoting::None, known: true }
    }

    pub(super) fn quoting(self, quoting: Quoting) -> Span {
        Span { quoting, ..self }
    }

    pub(super) fn known(self, known: bool) -> Span {
        Span { known, ..self }
    }

    pub(super) fn moved(self, by: usize) -> Span {
        Span { start: self.start + by, end: self.end + by, ..self }
    }
}

/// Sorts, and makes one of those that overlap: the one that starts first names the rule.
pub(super) fn merge(spans: &mut Vec<Span>) {
    spans.retain(|span| span.start < span.end);
    spans.sort_by(|a, b| a.start.cmp(&b.start).then(b.end.cmp(&a.end)));
    let mut merged: Vec<Span> = Vec::with_capacity(spans.len());
    for span in spans.drain(..) {
        match merged.last_mut() {
            Some(last) if span.start < last.end => {
                last.end = last.end.max(span.end);
                if last.start == span.start && last.quoting == Quoting::None {
                    last.quoting = span.quoting;
                }
                last.known |= span.known && span.start == last.start && span.end == last.end;
            }
            Some(_) | None => merged.push(span),
        }
    }
    *spans = merged;
}

/// Takes the tokens that are already in the text out of the spans: what is masked stays as it is.
pub(super) fn keep_tokens(text: &str, spans: &mut Vec<Span>) {
    if spans.is_empty() || !text.contains(OPENING) {
        return;
    }
    let mut tokens = text
        .match_indices(OPENING)
        .filter_map(|(at, _)| Some((at, at + token_length(&text.as_bytes()[at..])?)));
    let mut token = tokens.next();
    let mut kept = Vec::with_capacity(spans.len());
    for mut span in spans.drain(..) {
        while let Some((start, end)) = token {
            if end <= span.start {
                token = tokens.next();
                continue;
            }
            if start >= span.end {
                break;
            }
            kept.push(Span { end: start.max(span.start), ..span });
            span.start = end.min(span.end);
            if end > span.end {
                break;
            }
            token = tokens.next();
        }
        kept.push(span);
    }
    // Brackets and commas between tokens are no secrets.
    kept.retain(|span| {
        text.get(span.start..span.end).is_none_or(|rest| rest.chars().any(char::is_alphanumeric))
            && span.start < span.end
    });
    *spans = kept;
}

/// The text with each span replaced. Line ends inside a span stay, so that line numbers keep their meaning.
pub(super) fn replace<'a>(
    text: &'a str,
    spans: &[Span],
    mut token: impl FnMut(&Span, &str) -> String,
) -> Cow<'a, str> {
    if spans.is_empty() {
        return Cow::Borrowed(text);
    }
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    for span in spans {
        let (start, end) = (floor(text, span.start), ceiling(text, span.end));
        if start < at {
            continue;
        }
        let value = &text[start..end];
        let quote = match span.quoting {
            Quoting::None => "",
            Quoting::Double => "\"",
            Quoting::Escaped => "\\\"",
        };
        out.push_str(&text[at..start]);
        out.push_str(quote);
        out.push_str(&token(span, value));
        out.push_str(quote);
        out.extend(value.bytes().filter(|byte| *byte == b'\n').map(|_| '\n'));
        at = end;
    }
    out.push_str(&text[at..]);
    Cow::Owned(out)
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

fn ceiling(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at += 1;
    }
    at
}
