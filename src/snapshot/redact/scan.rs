//! Finds secrets in running text: one pass looks for what could begin or name one, and only there is read closer.

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::patterns::{self, HASHES, PROVIDERS};
use super::span::Span;
use super::view::{INVISIBLE, View, WRITTEN_ESCAPES};
use super::{arguments, named, pem, tokens, url};

#[derive(Clone, Copy)]
enum Trigger {
    Name,
    Url,
    GoAddress,
    Jwt,
    Provider(usize),
    AzureSecret,
    TelegramBot,
    Hash(usize),
    Pem,
    Bearer,
    Basic,
    ShortOption,
    Shadow,
    ValueChanged,
    Token,
    Hidden,
}

pub(super) struct Scanner {
    finder: AhoCorasick,
    triggers: Vec<Trigger>,
}

/// Beginnings and parts of names that tell of a secret.
const NAMES: [&str; 24] = [
    "pass",
    "pwd",
    "secret",
    "token",
    "key",
    "cred",
    "auth",
    "cookie",
    "signature",
    "sig=",
    "sig\"",
    "jwt",
    "session",
    "sessid",
    "kennwort",
    "bindpw",
    "rootpw",
    "plugin_config_",
    "identified by",
    "sid=",
    "dbpw",
    "psw",
    "hmac",
    "creds",
];

impl Scanner {
    /// `None` if the automaton cannot be built, which its fixed patterns rule out.
    pub(super) fn new() -> Option<Scanner> {
        let mut rows: Vec<(String, Trigger)> =
            NAMES.iter().map(|name| ((*name).to_owned(), Trigger::Name)).collect();
        let mut row = |text: &str, trigger| rows.push((text.to_owned(), trigger));
        row("://", Trigger::Url);
        row("@tcp(", Trigger::GoAddress);
        row("@unix(", Trigger::GoAddress);
        for header in ["eyJ", "eyA", "ewo"] {
            row(header, Trigger::Jwt);
        }
        for (at, provider) in PROVIDERS.iter().enumerate() {
            row(provider.prefix, Trigger::Provider(at));
        }
        for (at, hash) in HASHES.iter().enumerate() {
            row(hash, Trigger::Hash(at));
        }
        for (text, trigger) in [
            ("8Q~", Trigger::AzureSecret),
            (":AA", Trigger::TelegramBot),
            ("-----BEGIN ", Trigger::Pem),
            ("-----END ", Trigger::Pem),
            ("bearer ", Trigger::Bearer),
            ("bearer%20", Trigger::Bearer),
            ("basic ", Trigger::Basic),
            (" -p", Trigger::ShortOption),
            (" -t ", Trigger::ShortOption),
            (" -u", Trigger::ShortOption),
            (" -a ", Trigger::ShortOption),
            (" -w ", Trigger::ShortOption),
            (":::", Trigger::Shadow),
            ("value changed to: ", Trigger::ValueChanged),
            (tokens::OPENING, Trigger::Token),
        ] {
            row(text, trigger);
        }
        for escape in WRITTEN_ESCAPES {
            row(escape, Trigger::Hidden);
        }
        for character in INVISIBLE {
            row(&character.to_string(), Trigger::Hidden);
        }
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::DFA))
            .build(rows.iter().map(|(text, _)| text.as_bytes()))
            .ok()?;
        Some(Scanner { finder, triggers: rows.into_iter().map(|(_, trigger)| trigger).collect() })
    }

    /// Secrets in a text of whole lines. `in_key` says that the text goes on inside a private key; the answer says
    /// the same for what follows.
    pub(super) fn text(&self, text: &str, in_key: bool, spans: &mut Vec<Span>) -> bool {
        let bytes = text.as_bytes();
        let (mut at, mut in_key) = (0, in_key);
        if in_key {
            (at, in_key) = pem::inside(text, 0, spans);
        }
        while let Some(found) = self.finder.find(Input::new(bytes).span(at..bytes.len())) {
            let start = bytes[at..found.start()]
                .iter()
                .rposition(|byte| *byte == b'\n')
                .map_or(at, |end| at + end + 1);
            let end = text[found.start()..].find('\n').map_or(bytes.len(), |end| found.start() + end);
            let key_lines = self.line(text, start, end, spans);
            at = (end + 1).min(bytes.len());
            if key_lines {
                (at, in_key) = pem::inside(text, at, spans);
            }
        }
        in_key
    }

    /// One line; whether a private key goes on below it.
    fn line(&self, text: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> bool {
        let line = &text[start..end];
        let hidden = WRITTEN_ESCAPES.iter().any(|escape| line.contains(escape)) || line.contains(INVISIBLE);
        let mut found = Vec::new();
        let key_lines;
        if hidden {
            let view = View::of(line);
            key_lines = self.visible(&view.text, &mut found);
            spans.extend(found.drain(..).map(|span| {
                let (first, last) = view.place(span.start, span.end);
                Span { start: start + first, end: start + last, ..span }
            }));
        } else {
            key_lines = self.visible(line, &mut found);
            spans.extend(found.drain(..).map(|span| span.moved(start)));
        }
        if line.contains("-----END ") {
            let place = line.find("-----END ").filter(|place| pem::private_label(&line[*place..]).is_some());
            if let Some(place) = place.filter(|place| !line[..*place].contains("-----BEGIN ")) {
                pem::before_end(text, start + place, 0, spans);
            }
        }
        key_lines
    }

    fn visible(&self, line: &str, spans: &mut Vec<Span>) -> bool {
        let bytes = line.as_bytes();
        let (mut at, mut key_lines) = (0, false);
        let mut programs = arguments::Programs::default();
        while let Some(found) = self.finder.find(Input::new(bytes).span(at..bytes.len())) {
            let start = found.start();
            let mask = |end: usize, rule, spans: &mut Vec<Span>| {
                spans.push(Span::new(start, end, rule));
                end
            };
            let next = match self.triggers[found.pattern().as_usize()] {
                Trigger::Name => Some(named::read(line, at, start, found.end(), spans)),
                Trigger::Url => {
                    url::userinfo(line, start, spans);
                    Some(spans.last().map_or(found.end(), |span| span.end.max(found.end())))
                }
                Trigger::GoAddress => {
                    url::go_address(line, start, spans);
                    None
                }
                Trigger::Jwt => patterns::jwt_end(bytes, start).map(|end| mask(end, "jwt", spans)),
                Trigger::Provider(row) => {
                    let range = patterns::provider_range(bytes, start, &PROVIDERS[row]);
                    range.map(|(first, last)| {
                        spans.push(Span::new(first, last, PROVIDERS[row].rule));
                        last
                    })
                }
                Trigger::AzureSecret => azure_secret(bytes, start, spans),
                Trigger::TelegramBot => telegram_bot(bytes, start, spans),
                Trigger::Hash(row) => {
                    patterns::hash_end(bytes, start, HASHES[row]).map(|end| mask(end, "password-hash", spans))
                }
                Trigger::Pem => match pem::private_label(&line[start..]) {
                    Some(label) if line[start..].starts_with("-----BEGIN") => {
                        let (next, below) = pem::after_begin(line, start + label, spans);
                        key_lines = below;
                        Some(next)
                    }
                    Some(label) => Some(start + label),
                    None => Some(found.end()),
                },
                Trigger::Bearer => Some(named::scheme(line, found.end(), "bearer", spans)),
                Trigger::Basic => Some(named::scheme(line, found.end(), "basic-auth", spans)),
                Trigger::ShortOption => {
                    arguments::short_option(line, start, &mut programs, spans);
                    Some(found.end() - 1)
                }
                Trigger::Shadow => {
                    spans.extend(
                        patterns::shadow_hash(line)
                            .map(|(first, last)| Span::new(first, last, "password-hash")),
                    );
                    None
                }
                Trigger::ValueChanged => Some(named::value_changed(line, start, found.end(), spans)),
                Trigger::Token => tokens::token_length(&bytes[start..]).map(|length| start + length),
                Trigger::Hidden => None,
            };
            at = next.unwrap_or(start + 1).max(start + 1).min(bytes.len());
        }
        key_lines
    }
}

/// A client secret of Entra: three characters, `8Q~`, and 34 more.
fn azure_secret(bytes: &[u8], at: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let start = at.checked_sub(3)?;
    let end = at + 3 + 31;
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || b"_~.-".contains(byte);
    bytes.get(start..end).filter(|secret| secret.iter().all(word))?;
    let end = end + bytes[end..].iter().take(6).take_while(|byte| word(byte)).count();
    spans.push(Span::new(start, end, "azure-secret"));
    Some(end)
}

/// `123456789:AA` and 33 more characters.
fn telegram_bot(bytes: &[u8], at: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let digits = bytes[..at].iter().rev().take(11).take_while(|byte| byte.is_ascii_digit()).count();
    let tail = bytes[at + 1..]
        .iter()
        .take(36)
        .take_while(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-'))
        .count();
    if !(8..=10).contains(&digits) || tail != 35 {
        return None;
    }
    spans.push(Span::new(at - digits, at + 1 + tail, "telegram-token"));
    Some(at + 1 + tail)
}
