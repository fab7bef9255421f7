//! Finds secrets in running text: one pass looks for what could begin or name one, and only there is read closer.

use std::ops::Range;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::patterns::{self, HASHES};
use super::providers::{self, INFIXES, PROVIDERS};
use super::span::Span;
use super::view::{INVISIBLE, View, WRITTEN_ESCAPES};
use super::{arguments, named, pem, tokens, url, value};

#[derive(Clone, Copy)]
enum Trigger {
    Name,
    Url,
    GoAddress,
    Jwt,
    Provider(usize),
    Infix(usize),
    TelegramBot,
    Hash(usize),
    Pem,
    Bearer,
    Basic,
    ShortOption,
    Shadow,
    ValueChanged,
    PasswordFile,
    AccessList,
    PlainLogin,
    KeyBelow,
    Token,
    Hidden,
}

pub(super) struct Scanner {
    finder: AhoCorasick,
    triggers: Vec<Trigger>,
}

/// `NUL user NUL password` in base64, for one letter each.
const PLAIN_LOGIN_BYTES: usize = 6;
/// Beginnings and parts of names that tell of a secret.
const NAMES: [&str; 27] = [
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
    "psk",
    "community",
    "sonar.login",
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
        for (at, infix) in INFIXES.iter().enumerate() {
            row(infix.part, Trigger::Infix(at));
        }
        for (at, hash) in HASHES.iter().enumerate() {
            row(hash, Trigger::Hash(at));
        }
        for (text, trigger) in [
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
            (":5432:", Trigger::PasswordFile),
            (":*:*:", Trigger::PasswordFile),
            (" on >", Trigger::AccessList),
            ("auth plain ", Trigger::PlainLogin),
            ("$ANSIBLE_VAULT;", Trigger::KeyBelow),
            ("Private-Lines: ", Trigger::KeyBelow),
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
        let mut view = View::default();
        while let Some(found) = self.finder.find(Input::new(bytes).span(at..bytes.len())) {
            let start = memchr::memrchr(b'\n', &bytes[at..found.start()]).map_or(at, |end| at + end + 1);
            let end =
                memchr::memchr(b'\n', &bytes[found.start()..]).map_or(bytes.len(), |end| found.start() + end);
            let key_lines = self.line(text, start..end, found.start() - start, &mut view, spans);
            at = (end + 1).min(bytes.len());
            if key_lines {
                (at, in_key) = pem::inside(text, at, spans);
            }
        }
        in_key
    }

    /// One line, in which nothing is telling before `from`; whether a private key goes on below it.
    fn line(
        &self,
        text: &str,
        place: Range<usize>,
        from: usize,
        view: &mut View,
        spans: &mut Vec<Span>,
    ) -> bool {
        let line = &text[place.clone()];
        let before = spans.len();
        let key_lines = match self.visible(line, from, true, spans) {
            Some(key_lines) => {
                spans[before..].iter_mut().for_each(|span| *span = span.moved(place.start));
                key_lines
            }
            None => {
                spans.truncate(before);
                view.read(line);
                let key_lines = self.visible(&view.text, 0, false, spans).unwrap_or(false);
                for span in &mut spans[before..] {
                    let (first, last) = view.place(span.start, span.end);
                    *span = Span { start: place.start + first, end: place.start + last, ..*span };
                }
                key_lines
            }
        };
        if let Some(end) = line.find("-----END ")
            && pem::private_label(&line[end..]).is_some()
            && !line[..end].contains("-----BEGIN ")
        {
            pem::before_end(text, place.start + end, 0, spans);
        }
        key_lines
    }

    /// Secrets of a line as it shows, from `from` on; whether a private key goes on below it. `None` if characters
    /// that do not show stand in it and `watch` asks for that.
    fn visible(&self, line: &str, from: usize, watch: bool, spans: &mut Vec<Span>) -> Option<bool> {
        let bytes = line.as_bytes();
        // A name may begin before the part of it that tells, but not before what was read already.
        let (mut at, mut floor, mut key_lines) = (from, 0, false);
        let mut programs = arguments::Programs::default();
        while let Some(found) = self.finder.find(Input::new(bytes).span(at..bytes.len())) {
            let start = found.start();
            let mask = |end: usize, rule, spans: &mut Vec<Span>| {
                spans.push(Span::new(start, end, rule));
                end
            };
            let whole = |range: Option<(usize, usize)>, rule, spans: &mut Vec<Span>| {
                range.map(|(first, last)| {
                    spans.push(Span::new(first, last, rule));
                    last
                })
            };
            let next = match self.triggers[found.pattern().as_usize()] {
                Trigger::Name => Some(named::read(line, floor, start, found.end(), spans)),
                Trigger::Url => Some(url::userinfo(line, start, spans).unwrap_or(found.end())),
                Trigger::GoAddress => {
                    url::go_address(line, start, spans);
                    None
                }
                Trigger::Jwt => patterns::jwt_end(bytes, start).map(|end| mask(end, "jwt", spans)),
                Trigger::Provider(row) => {
                    let provider = &PROVIDERS[row];
                    let range = providers::provider_range(bytes, start, provider);
                    whole(range, provider.rule, spans).or_else(|| {
                        // What begins like a provider's token may be a name.
                        let name = NAMES.iter().find(|name| provider.prefix.starts_with(**name))?;
                        Some(named::read(line, floor, start, start + name.len(), spans))
                    })
                }
                Trigger::Infix(row) => {
                    let range = providers::infix_range(bytes, floor, start, &INFIXES[row]);
                    whole(range, INFIXES[row].rule, spans)
                }
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
                Trigger::Shadow => whole(patterns::shadow_hash(line), "password-hash", spans),
                Trigger::ValueChanged => Some(named::value_changed(line, start, found.end(), spans)),
                Trigger::PasswordFile => whole(patterns::password_file(line), "password", spans),
                Trigger::AccessList => {
                    let end = value::word_end(bytes, found.end());
                    let user = line[..start].trim_start().starts_with("user ");
                    whole(Some((found.end(), end)).filter(|_| user && end > found.end()), "password", spans)
                }
                Trigger::PlainLogin => {
                    let end = value::word_end(bytes, found.end());
                    let long = end >= found.end() + PLAIN_LOGIN_BYTES;
                    whole(Some((found.end(), end)).filter(|_| long), "password", spans)
                }
                Trigger::KeyBelow => {
                    key_lines = true;
                    None
                }
                Trigger::Token => tokens::token_length(&bytes[start..]).map(|length| start + length),
                Trigger::Hidden if watch => return None,
                Trigger::Hidden => None,
            };
            at = next.unwrap_or(start + 1).max(start + 1).min(bytes.len());
            if next.is_some() {
                floor = at;
            }
        }
        Some(key_lines)
    }
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
