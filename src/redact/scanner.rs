//! Finds secrets in running text: one pass looks for what could begin or name one, and only there is read closer.

use std::ops::Range;
use std::sync::LazyLock;

use aho_corasick::{AhoCorasick, AhoCorasickKind, Input, MatchKind};

use super::below::{Below, Label};
use super::key_names::Telling;
use super::patterns::{self, HASHES};
use super::provider_tokens::{self, INFIXES, PROVIDERS};
use super::span::Span;
use super::visible_text::{INVISIBLE, View, WRITTEN_ESCAPES};
use super::{
    command_line, encoded, forms, headers, inner, key_value, languages, notations, pem, placeholders, url,
    value, visible_text,
};

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
    Word(Telling),
    Oracle,
    EncodedAddress,
    Marked,
    Piped,
    Encoded,
    Hexadecimal,
    Command(usize),
    Notation(usize),
}

/// What goes on from one line, or one part of a text, to the next.
#[derive(Clone, Default)]
pub(super) struct Carry {
    /// The text goes on inside a private key.
    pub(super) in_key: bool,
    below: Option<Below>,
}

/// What a line says of those below it.
#[derive(Default)]
struct Telltale {
    key_lines: bool,
    label: Option<Label>,
}

pub(super) struct Scanner {
    finder: AhoCorasick,
    triggers: Vec<Trigger>,
}

/// `NUL user NUL password` in base64, for one letter each.
const PLAIN_LOGIN_BYTES: usize = 6;
/// Beginnings and parts of names that tell of a secret.
const NAMES: [&str; 40] = [
    "pw:",
    "pw=",
    "pw ",
    "pw\"",
    "identified with",
    "authtok",
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
    "salt",
    "pin:",
    "pin=",
    "pin ",
    "pin\"",
    "pin'",
    "otp",
];

impl Scanner {
    /// The one scanner of this process: building it takes longer than masking a megabyte. `None` if it cannot be
    /// built, which its fixed patterns rule out.
    pub(super) fn shared() -> Option<&'static Scanner> {
        static SCANNER: LazyLock<Option<Scanner>> = LazyLock::new(Scanner::new);
        SCANNER.as_ref()
    }

    fn new() -> Option<Scanner> {
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
        for (word, certainty) in languages::WORDS {
            for spelling in languages::spellings(word) {
                row(&spelling, Trigger::Word(languages::told(certainty)));
            }
        }
        for form in encoded::beginnings() {
            row(&form, Trigger::Encoded);
        }
        for (at, words) in command_line::POSITIONAL.iter().enumerate() {
            row(words.words, Trigger::Command(at));
        }
        for (at, (phrase, _)) in notations::NOTATIONS.iter().enumerate() {
            row(phrase, Trigger::Notation(at));
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
            (placeholders::OPENING, Trigger::Token),
            ("jdbc:oracle:thin:", Trigger::Oracle),
            ("jdbc:oracle:oci:", Trigger::Oracle),
            ("%3A%2F%2F", Trigger::EncodedAddress),
            (" LOGIN ", Trigger::Marked),
            ("]:587 ", Trigger::Marked),
            ("]:465 ", Trigger::Marked),
            ("]:25 ", Trigger::Marked),
            (" : PSK \"", Trigger::Marked),
            (": PSK \"", Trigger::Marked),
            (": EAP \"", Trigger::Marked),
            ("createUser ", Trigger::Marked),
            ("SecureString \"", Trigger::Marked),
            ("| sudo -S", Trigger::Piped),
            ("|sudo -S", Trigger::Piped),
            ("| chpasswd", Trigger::Piped),
            ("| passwd --stdin", Trigger::Piped),
            ("--password-stdin", Trigger::Piped),
            ("70617373776f7264", Trigger::Hexadecimal),
            ("geniekey ", Trigger::Bearer),
            (" -c ", Trigger::ShortOption),
            (" -k ", Trigger::ShortOption),
            (" -n ", Trigger::ShortOption),
            (" -x ", Trigger::ShortOption),
            (" /p:", Trigger::ShortOption),
            ("\"-p", Trigger::ShortOption),
            (" --user ", Trigger::ShortOption),
            (" --proxy-user ", Trigger::ShortOption),
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

    /// Secrets in a text of whole lines; `carry` says, before and after, what goes on from the lines above.
    pub(super) fn text(&self, text: &str, carry: &mut Carry, spans: &mut Vec<Span>) {
        let bytes = text.as_bytes();
        // Lines up to `key` belong to a private key; what stands beside it in them is read all the same.
        let (mut at, mut key) = (0, 0);
        if carry.in_key {
            (key, carry.in_key) = pem::inside(text, 0, spans);
        }
        let mut view = View::default();
        loop {
            let found = if carry.below.is_some() { Some(at) } else { self.first(bytes, at) };
            let Some(found) = found.filter(|_| at < bytes.len()) else { break };
            let start = memchr::memrchr(b'\n', &bytes[at..found]).map_or(at, |end| at + end + 1);
            let end = memchr::memchr(b'\n', &bytes[found..]).map_or(bytes.len(), |end| found + end);
            if let Some(mut below) = carry.below.take() {
                carry.below = below.read(text, start, end, spans).then_some(below);
                let telling = self.first(&bytes[..end], start);
                let Some(found) = telling else {
                    at = (end + 1).min(bytes.len());
                    continue;
                };
                self.told_by(text, start..end, found, &mut view, &mut key, carry, spans);
            } else {
                self.told_by(text, start..end, found, &mut view, &mut key, carry, spans);
            }
            at = (end + 1).min(bytes.len());
        }
    }

    fn first(&self, bytes: &[u8], at: usize) -> Option<usize> {
        Some(self.finder.find(Input::new(bytes).span(at..bytes.len()))?.start())
    }

    /// Reads a line in which `found` is the first place that tells something, and notes what goes on below it.
    #[expect(clippy::too_many_arguments, reason = "the state of one reading, which has no other owner")]
    fn told_by(
        &self,
        text: &str,
        place: Range<usize>,
        found: usize,
        view: &mut View,
        key: &mut usize,
        carry: &mut Carry,
        spans: &mut Vec<Span>,
    ) {
        let told = self.line(text, place.clone(), found - place.start, view, spans);
        let next = (place.end + 1).min(text.len());
        if told.key_lines && place.start >= *key {
            (*key, carry.in_key) = pem::inside(text, next, spans);
        }
        if let Some(label) = told.label {
            carry.below = Some(Below::new(label, &text[place]));
        }
    }

    /// One line, in which nothing is telling before `from`.
    fn line(
        &self,
        text: &str,
        place: Range<usize>,
        from: usize,
        view: &mut View,
        spans: &mut Vec<Span>,
    ) -> Telltale {
        let line = &text[place.clone()];
        let before = spans.len();
        let told = match self.visible(line, from, true, spans) {
            Some(mut told) => {
                spans[before..].iter_mut().for_each(|span| *span = span.moved(place.start));
                self.inside(text, &place, &mut told, spans);
                told
            }
            None => {
                spans.truncate(before);
                view.read(line);
                let mut told = self.visible(&view.text, 0, false, spans).unwrap_or_default();
                self.inside(&view.text, &(0..view.text.len()), &mut told, spans);
                for span in &mut spans[before..] {
                    let (first, last) = view.place(span.start, span.end);
                    *span = Span { start: place.start + first, end: place.start + last, ..*span };
                }
                told
            }
        };
        if let Some(end) = line.find("-----END ")
            && pem::private_label(&line[end..]).is_some()
            && !line[..end].contains("-----BEGIN ")
        {
            pem::before_end(text, place.start + end, 0, spans);
        }
        told
    }

    /// What the commands of a line hold, and the strings of a line that is a JSON object.
    fn inside(&self, text: &str, place: &Range<usize>, told: &mut Telltale, spans: &mut Vec<Span>) {
        let line = &text[place.clone()];
        for (start, part) in inner::parts(line) {
            let before = spans.len();
            let inside = self.visible(part, 0, false, spans).unwrap_or_default();
            spans[before..].iter_mut().for_each(|span| *span = span.moved(place.start + start));
            told.label = told.label.or(inside.label.filter(|_| start + part.len() == line.len()));
        }
        for (start, end) in inner::strings(line) {
            inner::string(text, place.start + start, place.start + end, true, spans);
        }
    }

    /// Secrets of a line as it shows, from `from` on; whether a private key goes on below it. `None` if characters
    /// that do not show stand in it and `watch` asks for that.
    fn visible(&self, line: &str, from: usize, watch: bool, spans: &mut Vec<Span>) -> Option<Telltale> {
        let bytes = line.as_bytes();
        // A name may begin before the part of it that tells, but not before what was read already.
        let (mut at, mut floor, mut told) = (from, 0, Telltale::default());
        let mut programs = command_line::Programs::default();
        let mut encoded = 0;
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
                Trigger::Name => {
                    let (next, label) = key_value::read(line, floor, start, found.end(), spans);
                    told.label = label.or(told.label);
                    Some(next)
                }
                Trigger::Word(telling) => {
                    let (next, label) = key_value::word(line, start, found.end(), telling, spans);
                    told.label = label.or(told.label);
                    Some(next)
                }
                Trigger::Url => Some(url::userinfo(line, start, spans).unwrap_or(found.end())),
                Trigger::GoAddress => {
                    url::go_address(line, start, spans);
                    None
                }
                Trigger::Jwt => patterns::jwt_end(bytes, start).map(|end| mask(end, "jwt", spans)),
                Trigger::Provider(row) => {
                    let provider = &PROVIDERS[row];
                    let range = provider_tokens::provider_range(bytes, start, provider);
                    if provider.rule == "aws-access-key"
                        && let Some((_, end)) = range
                        && let Some((first, last)) = notations::aws_secret(bytes, end)
                    {
                        spans.push(Span::new(first, last, "secret-key"));
                    }
                    whole(range, provider.rule, spans).or_else(|| {
                        // What begins like a provider's token may be a name.
                        let name = NAMES.iter().find(|name| provider.prefix.starts_with(**name))?;
                        let (next, label) = key_value::read(line, floor, start, start + name.len(), spans);
                        told.label = label.or(told.label);
                        Some(next)
                    })
                }
                Trigger::Infix(row) => {
                    let range = provider_tokens::infix_range(bytes, floor, start, &INFIXES[row]);
                    whole(range, INFIXES[row].rule, spans)
                }
                Trigger::TelegramBot => telegram_bot(bytes, start, spans),
                Trigger::Hash(row) => {
                    patterns::hash_end(bytes, start, HASHES[row]).map(|end| mask(end, "password-hash", spans))
                }
                Trigger::Pem => match pem::private_label(&line[start..]) {
                    Some(label) if line[start..].starts_with("-----BEGIN") => {
                        let (next, below) = pem::after_begin(line, start + label, spans);
                        told.key_lines = below;
                        Some(next)
                    }
                    Some(label) => Some(start + label),
                    None => Some(found.end()),
                },
                Trigger::Bearer => Some(headers::scheme(line, found.end(), "bearer", spans)),
                Trigger::Basic => Some(headers::scheme(line, found.end(), "basic-auth", spans)),
                Trigger::ShortOption => {
                    command_line::short_option(line, start, &mut programs, spans);
                    Some(found.end() - 1)
                }
                Trigger::Shadow => whole(patterns::shadow_hash(line, start), "password-hash", spans),
                Trigger::ValueChanged => Some(key_value::value_changed(line, start, found.end(), spans)),
                Trigger::PasswordFile => whole(patterns::password_file(line, start), "password", spans),
                Trigger::AccessList => {
                    let end = value::word_end(bytes, found.end());
                    let before = &line[line.floor_char_boundary(start.saturating_sub(256))..start];
                    let user = before.rsplit(' ').nth(1).is_some_and(|word| word.ends_with("user"));
                    whole(Some((found.end(), end)).filter(|_| user && end > found.end()), "password", spans)
                }
                Trigger::PlainLogin => {
                    let end = value::word_end(bytes, found.end());
                    let long = end >= found.end() + PLAIN_LOGIN_BYTES;
                    whole(Some((found.end(), end)).filter(|_| long), "password", spans)
                }
                Trigger::KeyBelow => {
                    told.key_lines = true;
                    None
                }
                Trigger::Token => placeholders::token_length(&bytes[start..]).map(|length| start + length),
                Trigger::Hidden if watch => return None,
                Trigger::Hidden => None,
                Trigger::Oracle => forms::oracle(line, found.end(), spans),
                Trigger::EncodedAddress => forms::encoded_address(line, found.end(), spans),
                Trigger::Marked => forms::marked(line, start, found.end(), spans),
                Trigger::Piped => {
                    if let Some(pipe) = line[..found.end()].rfind('|') {
                        forms::piped(line, pipe, spans);
                    }
                    Some(found.end())
                }
                // A run is read once, however many words it may hold.
                Trigger::Encoded if start < encoded => None,
                Trigger::Encoded => {
                    let (range, end) = encoded::base64(bytes, floor, start);
                    encoded = end;
                    whole(range, "encoded", spans)
                }
                Trigger::Hexadecimal => whole(encoded::hexadecimal(bytes, floor, start), "encoded", spans),
                Trigger::Command(row) => {
                    command_line::positional(line, start, &command_line::POSITIONAL[row], spans);
                    None
                }
                Trigger::Notation(row) => {
                    notations::NOTATIONS[row].1(line, start, found.end(), spans);
                    None
                }
            };
            at = next.unwrap_or(start + 1).max(start + 1).min(bytes.len());
            // What was read over may hide something as well.
            if watch && at > found.end() && visible_text::hides(line, found.end(), at) {
                return None;
            }
            if next.is_some() {
                floor = at;
            }
        }
        Some(told)
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
