//! Secret values that were seen, and the search for them in any of their encoded forms.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use aho_corasick::{AhoCorasick, AhoCorasickKind, MatchKind};
use base64::Engine;
use base64::alphabet::{STANDARD, URL_SAFE};
use base64::engine::general_purpose::{GeneralPurpose, NO_PAD};

use super::own;
use super::placeholders::token_length;
use super::span::Span;

/// Shorter values stand in too many places by chance.
const LEAST_CHARACTERS: usize = 6;
/// Digits alone are a count or an identifier until there are this many.
const LEAST_DIGITS: usize = 8;
/// Values are kept up to this many bytes together: about 5,000 passwords, and a search that stays under 32 MiB.
const KEPT_BYTES: usize = 256 << 10;
/// Longer values are kept by their beginning, which is enough to find them.
const VALUE_BYTES: usize = 2048;
/// Longest token there is, to see whether a place lies inside one.
const TOKEN_BYTES: usize = 48;
/// Values that stand for "a secret goes here" or are ordinary words: replacing them would spoil the bundle.
const COMMON: [&str; 60] = [
    "password",
    "passwd",
    "secret",
    "secrets",
    "token",
    "tokens",
    "changeit",
    "changeme",
    "change-me",
    "default",
    "example",
    "admin",
    "administrator",
    "username",
    "server",
    "client",
    "localhost",
    "postgres",
    "postgresql",
    "database",
    "production",
    "staging",
    "development",
    "testing",
    "enabled",
    "disabled",
    "required",
    "optional",
    "unknown",
    "string",
    "number",
    "boolean",
    "object",
    "private",
    "public",
    "access",
    "apikey",
    "api-key",
    "api_key",
    "bearer",
    "basic",
    "digest",
    "redacted",
    "hidden",
    "masked",
    "system",
    "service",
    "network",
    "connector",
    "connectors",
    "stream",
    "streams",
    "message",
    "messages",
    "warden",
    "apache",
    "iggy.apache.org",
    "credentials",
    "authorization",
    "session",
];

#[derive(Default)]
pub(super) struct Vault {
    inner: Mutex<Inner>,
}

#[derive(Default)]
struct Inner {
    /// Each value with the rules that found it, in an order that does not depend on who came first.
    values: BTreeMap<String, BTreeSet<&'static str>>,
    bytes: usize,
    not_kept: u64,
    search: Option<Arc<Search>>,
}

/// All forms of all values, and for each form the value and rule it stands for.
pub(super) struct Search {
    finder: AhoCorasick,
    values: Vec<(Arc<str>, &'static str)>,
    forms: Vec<usize>,
}

impl Vault {
    pub(super) fn remember(&self, value: &str, rule: &'static str) {
        let value = value.trim();
        let digits = value.bytes().all(|byte| byte.is_ascii_digit());
        let common = COMMON.contains(&value.to_ascii_lowercase().as_str());
        if common
            || value.chars().count() < LEAST_CHARACTERS
            || (digits && value.len() < LEAST_DIGITS)
            || value.contains("[secret:")
        {
            return;
        }
        let mut cut = value.len().min(VALUE_BYTES);
        while !value.is_char_boundary(cut) {
            cut -= 1;
        }
        let value = &value[..cut];
        let mut inner = self.lock();
        if let Some(rules) = inner.values.get_mut(value) {
            if rules.insert(rule) {
                inner.search = None;
            }
            return;
        }
        if inner.bytes + value.len() > KEPT_BYTES {
            inner.not_kept += 1;
            return;
        }
        if own::is_own(value) {
            return;
        }
        inner.bytes += value.len();
        inner.values.insert(value.to_owned(), BTreeSet::from([rule]));
        inner.search = None;
    }

    /// How many values are kept, and how many were masked where they stood but not kept.
    pub(super) fn counts(&self) -> (u64, u64) {
        let inner = self.lock();
        (inner.values.len() as u64, inner.not_kept)
    }

    /// The search for everything seen until now; `None` when there is nothing to search.
    pub(super) fn search(&self) -> Option<Arc<Search>> {
        let mut inner = self.lock();
        if inner.search.is_none() && !inner.values.is_empty() {
            inner.search = Search::new(&inner.values).map(Arc::new);
        }
        inner.search.clone()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        // What a panicking thread left behind is complete: each change is one step.
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Search {
    fn new(seen: &BTreeMap<String, BTreeSet<&'static str>>) -> Option<Search> {
        let (mut patterns, mut forms, mut values) = (Vec::new(), Vec::new(), Vec::new());
        for (value, rules) in seen {
            let rule = rules.first()?;
            for form in encoded(value) {
                patterns.push(form);
                forms.push(values.len());
            }
            values.push((Arc::from(value.as_str()), *rule));
        }
        let finder = AhoCorasick::builder()
            .match_kind(MatchKind::LeftmostLongest)
            .kind(Some(AhoCorasickKind::ContiguousNFA))
            .build(&patterns)
            .ok()?;
        Some(Search { finder, values, forms })
    }

    /// Places of known values, with the value each stands for.
    pub(super) fn places(&self, bytes: &[u8]) -> Vec<(Span, Arc<str>)> {
        let mut places = Vec::new();
        for found in self.finder.find_iter(bytes) {
            let (value, rule) = &self.values[self.forms[found.pattern().as_usize()]];
            let (start, end) = (found.start(), found.end());
            let digit = |at: Option<usize>| at.and_then(|at| bytes.get(at)).is_some_and(u8::is_ascii_digit);
            let in_number = value.bytes().all(|byte| byte.is_ascii_digit())
                && (digit(start.checked_sub(1)) || digit(Some(end)));
            if !in_number && !in_token(bytes, start) && !into_token(bytes, start, end) {
                places.push((Span::new(start, end, rule), Arc::clone(value)));
            }
        }
        places
    }
}

/// Whether a place ends inside a token that begins in it.
fn into_token(bytes: &[u8], start: usize, end: usize) -> bool {
    let opening = bytes[start..end].iter().rposition(|byte| *byte == b'[').map(|opening| start + opening);
    opening
        .is_some_and(|opening| token_length(&bytes[opening..]).is_some_and(|length| opening + length > end))
}

fn in_token(bytes: &[u8], at: usize) -> bool {
    let from = at.saturating_sub(TOKEN_BYTES);
    let opening = bytes[from..at].iter().rposition(|byte| *byte == b'[').map(|opening| from + opening);
    opening.is_some_and(|opening| token_length(&bytes[opening..]).is_some_and(|length| opening + length > at))
}

/// The value as it stands in text, JSON, JSON in JSON, HTML, addresses, hexadecimal and base64.
fn encoded(value: &str) -> BTreeSet<Vec<u8>> {
    let mut forms = BTreeSet::from([value.as_bytes().to_vec()]);
    let json = |text: &str| {
        serde_json::to_string(text).map(|quoted| quoted[1..quoted.len() - 1].to_owned()).unwrap_or_default()
    };
    let once = json(value);
    let html = value.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;");
    let hex: String = value.bytes().map(|byte| format!("{byte:02x}")).collect();
    for form in [
        json(&once),
        once.replace('/', "\\/"),
        once,
        html.replace('"', "&quot;").replace('\'', "&#39;"),
        html.replace('"', "&#34;").replace('\'', "&#x27;"),
        percent(value, false),
        percent(value, true),
        hex.to_uppercase(),
        hex,
    ] {
        forms.insert(form.into_bytes());
    }
    for alphabet in [&STANDARD, &URL_SAFE] {
        let engine = GeneralPurpose::new(alphabet, NO_PAD);
        for before in 0..3 {
            // Only characters that do not depend on the neighbours.
            let padded = [&vec![0; before], value.as_bytes()].concat();
            let text = engine.encode(&padded);
            let first = (before * 8).div_ceil(6);
            let last = padded.len() * 8 / 6;
            forms.extend(
                text.as_bytes()
                    .get(first..last)
                    .filter(|form| form.len() >= LEAST_CHARACTERS)
                    .map(<[u8]>::to_vec),
            );
        }
    }
    forms.retain(|form| form.len() >= LEAST_CHARACTERS);
    forms
}

fn percent(value: &str, lower: bool) -> String {
    let mut out = String::new();
    for byte in value.bytes() {
        match byte {
            byte if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) => out.push(char::from(byte)),
            byte if lower => out.push_str(&format!("%{byte:02x}")),
            byte => out.push_str(&format!("%{byte:02X}")),
        }
    }
    out
}
