//! Masks values in JSON by the keys they stand under, without changing its layout.

use super::allowlist::is_harmless;
use super::key_names::{Certainty, telling};
use super::notations::PRIVATE_MEMBERS;
use super::placeholders::is_token;
use super::span::Span;
use super::structured::Place;
use super::{command_line, environment, inner};

/// Deeper containers are read as if they were this deep: the state stays small whatever comes.
const DEPTH: usize = 256;
/// Most arguments of a command in a list that are read together.
const WORDS: usize = 4096;

#[derive(Clone, Default)]
struct Container {
    object: bool,
    place: Place,
    /// Place of the value whose key was just read.
    value: Place,
    key: bool,
    /// A rule for the next string of a list: the one before was an option that takes a secret.
    option: Option<&'static str>,
    /// The strings of a list that is a command line.
    words: Vec<(usize, usize)>,
    /// Whether it is the object of a Kubernetes secret.
    secret: bool,
    /// `{"name": "DB_PASSWORD", "value": "..."}`: the rule by the name, and where the value is.
    pair_rule: Option<&'static str>,
    pair_value: Option<(usize, usize)>,
    pair_key: Pair,
    /// A JSON web key, and where its private members are.
    web_key: bool,
    members: Vec<(usize, usize)>,
    member: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq)]
enum Pair {
    #[default]
    Neither,
    Name,
    Value,
}

pub(super) fn json(text: &str, unit: bool, spans: &mut Vec<Span>) {
    let bytes = text.as_bytes();
    let mut open: Vec<Container> = vec![Container::default()];
    let secrets = kubernetes_secrets(bytes);
    let mut at = 0;
    while at < bytes.len() {
        let depth = open.len() - 1;
        match bytes[at] {
            byte @ (b'{' | b'[') => {
                let outer = &open[depth];
                let place = if outer.object { outer.value } else { outer.place };
                if open.len() < DEPTH {
                    open.push(Container {
                        object: byte == b'{',
                        place,
                        key: byte == b'{',
                        secret: secrets.binary_search(&at).is_ok(),
                        ..Container::default()
                    });
                }
                at += 1;
            }
            b'}' | b']' => {
                if open.len() > 1 {
                    let closed = open.pop().unwrap_or_default();
                    command_line::command(text, &closed.words, spans);
                    let members = closed.members.iter().filter(|_| closed.web_key);
                    spans.extend(members.map(|(start, end)| Span::new(*start, *end, "private-key")));
                    if let (Some(rule), Some((start, end))) = (closed.pair_rule, closed.pair_value)
                        && !is_token(&text[start..end])
                        && !is_harmless(&text[start..end], Certainty::Sure, true)
                    {
                        spans.push(Span::new(start, end, rule));
                    }
                }
                at += 1;
            }
            b':' => {
                open[depth].key = false;
                at += 1;
            }
            b',' => {
                open[depth].key = open[depth].object;
                at += 1;
            }
            b'"' => {
                let end = string_end(bytes, at + 1);
                string(text, at + 1, end, &mut open[depth], unit, spans);
                if open[depth].secret
                    && open[depth].key
                    && matches!(&text[at..end], "\"data" | "\"stringData")
                {
                    open[depth].value = Place::default().enter("stringData", false);
                }
                at = end + 1;
            }
            byte if byte.is_ascii_whitespace() => at += 1,
            _ => {
                let length =
                    bytes[at..].iter().take_while(|byte| !b",]}: \t\r\n\"".contains(byte)).count().max(1);
                let container = &open[depth];
                let place = if container.object { container.value } else { container.place };
                if !container.key {
                    spans.extend(place.scalar(text, at, at + length, false));
                }
                at += length;
            }
        }
    }
}

fn string(
    text: &str,
    start: usize,
    end: usize,
    container: &mut Container,
    unit: bool,
    spans: &mut Vec<Span>,
) {
    let Some(content) = text.get(start..end) else { return };
    if container.object && container.key {
        let key = unescaped(content);
        container.value = container.place.enter(&key, unit);
        container.web_key |= key == "kty";
        container.member = PRIVATE_MEMBERS.contains(&&*key);
        container.pair_key = match key.to_ascii_lowercase().as_str() {
            "name" | "key" => Pair::Name,
            "value" => Pair::Value,
            _ => Pair::Neither,
        };
        return;
    }
    let place = if container.object { container.value } else { container.place };
    spans.extend(place.scalar(text, start, end, true));
    inner::string(text, start, end, true, spans);
    if container.object {
        if container.member && !is_token(content) && container.members.len() < PRIVATE_MEMBERS.len() {
            container.members.push((start, end));
        }
        match container.pair_key {
            Pair::Name => {
                let telling =
                    telling(&unescaped(content)).filter(|telling| telling.certainty != Certainty::Possible);
                container.pair_rule = telling.map(|telling| telling.rule);
            }
            Pair::Value => container.pair_value = Some((start, end)),
            Pair::Neither => {}
        }
    } else if let Some(rule) = container.option.take() {
        if !content.starts_with("--") && !is_token(content) && !is_harmless(content, Certainty::Sure, true) {
            spans.push(Span::new(start, end, rule));
        }
    } else if let Some(telling) = command_line::option(content) {
        container.option = Some(telling.rule);
    } else if place.is_command() && matches!(content, "-p" | "-t") {
        container.option = Some(if content == "-t" { "token" } else { "password" });
    }
    if place.is_environment() {
        if container.object {
            content.split(' ').fold(start, |at, word| {
                environment::entry(text, at, at + word.len(), spans);
                at + word.len() + 1
            });
        } else {
            environment::entry(text, start, end, spans);
        }
    } else if place.is_command() {
        if !container.object && container.words.len() < WORDS {
            container.words.push((start, end));
        }
        if content.contains(' ') {
            command_line::arguments(text, start, end, spans);
        }
    }
}

/// Where the objects begin that say of themselves that they are secrets of Kubernetes; the word may stand behind the
/// data.
fn kubernetes_secrets(bytes: &[u8]) -> Vec<usize> {
    let mut found = Vec::new();
    if memchr::memmem::find(bytes, b"\"Secret\"").is_none() {
        return found;
    }
    let (mut open, mut at, mut kind) = (Vec::new(), 0, false);
    while at < bytes.len() {
        match bytes[at] {
            b'{' | b'[' => open.push(at),
            b'}' | b']' => {
                open.pop();
            }
            b'"' => {
                let end = string_end(bytes, at + 1);
                let content = &bytes[at + 1..end];
                if kind && content == b"Secret" {
                    found.extend(open.last());
                }
                kind = content == b"kind";
                at = end;
            }
            byte if byte == b':' || byte.is_ascii_whitespace() => {}
            _ => kind = false,
        }
        at += 1;
    }
    found.sort_unstable();
    found
}

/// A key as it reads: `p\u0061ssword` is `password`.
fn unescaped(content: &str) -> String {
    if !content.contains('\\') {
        return content.to_owned();
    }
    serde_json::from_str(&format!("\"{content}\"")).unwrap_or_else(|_| content.to_owned())
}

/// Where the string that begins at `at` ends: at its quote, or at a line end that no string can hold.
pub(super) fn string_end(bytes: &[u8], mut at: usize) -> usize {
    while at < bytes.len() && bytes[at] != b'"' && bytes[at] != b'\n' {
        at += if bytes[at] == b'\\' { 2 } else { 1 };
    }
    at.min(bytes.len())
}
