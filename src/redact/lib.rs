//! Masks secrets before anything is written.
//!
//! Three layers find them: what a document's keys say, what a text shows by its form or by the names beside it, and
//! long random words next to telling names. Each becomes a token, the same for the same value anywhere in a bundle.

mod allowlist;
mod anonymize;
mod below;
mod command_line;
mod custom_patterns;
mod encoded;
mod entropy;
mod environment;
mod forms;
mod headers;
mod inner;
mod json;
mod key_names;
mod key_value;
mod known_secrets;
mod languages;
mod notations;
mod own;
mod patterns;
mod pem;
mod placeholders;
mod programs;
mod provider_tokens;
mod scanner;
mod sentence;
mod span;
mod split_points;
mod stats;
mod stream;
mod structured;
mod table;
mod toml;
mod url;
mod value;
mod visible_text;
mod words;
mod yaml;

#[cfg(test)]
mod blind_tests;
#[cfg(test)]
mod company_tests;
#[cfg(test)]
mod corpus;
#[cfg(test)]
mod property_tests;
#[cfg(test)]
mod recall_tests;
#[cfg(test)]
mod robustness_tests;
#[cfg(test)]
mod test_rng;
#[cfg(test)]
mod tests;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::io::{self, Read};
use std::sync::{Mutex, MutexGuard, PoisonError};

pub use anonymize::{Anonymizer, Known};
pub use custom_patterns::AlsoMask;
use known_secrets::Vault;
use placeholders::{OPENING, Tokens};
use scanner::{Carry, Scanner};
use span::{Quoting, Span, keep_tokens, merge, replace};
pub use stats::Receipt;
pub use stream::Copied;

/// Times a text is read at most until nothing more is found: one more than ordinary texts need, and a bound for others.
const PASSES: usize = 5;

/// How much is searched at once for known values.
const WINDOW_BYTES: usize = 1 << 20;
/// A value is kept up to 2 KiB; JSON in JSON writes a byte as seven at most.
const OVERLAP_BYTES: usize = 16 << 10;

/// What kind of text is masked, and so what tells of secrets in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    Log,
    Plain,
    Toml,
    Json,
    Yaml,
    /// `NAME=value`, each ended by NUL or a line end: only values of names known to be harmless stay.
    Environ,
    /// Arguments ended by NUL, or a command line.
    Arguments,
    /// Properties of a systemd unit as JSON.
    UnitProperties,
}

impl Shape {
    /// By the name of the file the text is from.
    pub fn of_path(path: &str) -> Shape {
        let name = path.rsplit('/').next().unwrap_or(path);
        let lower = name.to_ascii_lowercase();
        let ends = |endings: &[&str]| endings.iter().any(|ending| lower.ends_with(ending));
        if path.starts_with("/proc/") && name == "environ"
            || lower == ".env"
            || lower.starts_with(".env.")
            || ends(&[".env"])
        {
            Shape::Environ
        } else if path.starts_with("/proc/") && name == "cmdline" {
            Shape::Arguments
        } else if ends(&[".toml"]) {
            Shape::Toml
        } else if ends(&[".json", ".ndjson", ".jsonl"]) {
            Shape::Json
        } else if ends(&[".yaml", ".yml"]) {
            Shape::Yaml
        } else if ends(&[".log"]) || lower.contains(".log.") || path.starts_with("/var/log/") {
            Shape::Log
        } else {
            Shape::Plain
        }
    }
}

/// Masks texts of one bundle; threads share it.
pub struct Redactor {
    tokens: Tokens,
    vault: Vault,
    also: AlsoMask,
    masked: Mutex<BTreeMap<&'static str, u64>>,
    swept: Mutex<u64>,
}

impl Redactor {
    /// `key` makes the tokens of this bundle differ from those of others: random, and thrown away afterwards.
    pub fn new(key: [u8; 32]) -> Redactor {
        Redactor {
            tokens: Tokens::new(key),
            vault: Vault::default(),
            also: AlsoMask::default(),
            masked: Mutex::default(),
            swept: Mutex::default(),
        }
    }

    /// Takes addresses and names out of what is masked, with tokens of this bundle.
    pub fn anonymizer(&self, known: &Known) -> Option<Anonymizer> {
        Anonymizer::new(self.tokens.clone(), known)
    }

    /// Masks what `also` finds too.
    pub fn also_masking(self, also: AlsoMask) -> Redactor {
        Redactor { also, ..self }
    }

    /// The text with every secret replaced that its shape, its form or its neighbours give away. What is already
    /// masked stays as it is. Lines stay lines, TOML stays TOML and JSON stays JSON.
    pub fn redact<'a>(&self, shape: Shape, text: &'a str) -> Cow<'a, str> {
        self.redact_on(shape, text, &mut Carry::default())
    }

    /// The same for a part of a text: `carry` says, before and after, what goes on from the lines above.
    fn redact_on<'a>(&self, shape: Shape, text: &'a str, carry: &mut Carry) -> Cow<'a, str> {
        let Some(scanner) = Scanner::shared() else {
            // Without its patterns nothing could be vouched for.
            let lines = text.bytes().filter(|byte| *byte == b'\n').count();
            return Cow::Owned(format!("{}{}", self.tokens.token("withheld", text), "\n".repeat(lines)));
        };
        let began = carry.clone();
        let spans = self.find(scanner, shape, text, carry);
        if spans.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut masked = replace(text, &spans, |span, value| self.mask(span, value)).into_owned();
        // A token ends what stood before it, and so may bare a secret that was part of a longer word.
        for _ in 1..PASSES {
            let logged = matches!(shape, Shape::Log | Shape::Plain);
            if logged
                && self.find(scanner, shape, &lines_with_tokens(&masked), &mut Carry::default()).is_empty()
            {
                break;
            }
            let spans = self.find(scanner, shape, &masked, &mut began.clone());
            if spans.is_empty() {
                break;
            }
            masked = replace(&masked, &spans, |span, value| self.mask(span, value)).into_owned();
        }
        Cow::Owned(masked)
    }

    /// The text without any value seen so far, wherever and however encoded it stands. Best called when all has been
    /// through [`Redactor::redact`]: the search is built anew after each new value.
    pub fn sweep<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let Some(search) = self.vault.search() else { return Cow::Borrowed(text) };
        let places = search.places(text.as_bytes());
        let spans: Vec<Span> =
            places.iter().map(|(span, value)| span.quoting(quoting(text, span, value))).collect();
        *lock(&self.swept) += spans.len() as u64;
        let mut values = places.iter();
        replace(text, &spans, |span, _| {
            values.next().map_or_else(String::new, |(_, value)| self.tokens.token(span.rule, value))
        })
    }

    /// How often a value seen so far still stands in `bytes`, in any encoded form.
    pub fn hits(&self, bytes: &[u8]) -> usize {
        self.vault.search().map_or(0, |search| search.places(bytes).len())
    }

    /// The same in all that `reader` gives, whatever its size.
    pub fn hits_in(&self, mut reader: impl Read) -> io::Result<usize> {
        let Some(search) = self.vault.search() else { return Ok(0) };
        let (mut window, mut hits) = (Vec::with_capacity(WINDOW_BYTES), 0);
        loop {
            let missing = WINDOW_BYTES - window.len();
            let read = reader.by_ref().take(missing as u64).read_to_end(&mut window)?;
            let places = search.places(&window);
            if read < missing {
                return Ok(hits + places.len());
            }
            // What begins in the overlap is counted with the next window.
            let next = WINDOW_BYTES - OVERLAP_BYTES;
            hits += places.iter().filter(|(span, _)| span.start < next).count();
            window.drain(..next);
        }
    }

    pub fn receipt(&self) -> Receipt {
        let (values, values_not_kept) = self.vault.counts();
        let counts = lock(&self.masked).iter().map(|(rule, count)| ((*rule).to_owned(), *count)).collect();
        Receipt { counts, swept: *lock(&self.swept), values, values_not_kept }
    }

    /// What is to be masked in a text, in order and without overlap; nothing of it is masked already.
    fn find(&self, scanner: &Scanner, shape: Shape, text: &str, carry: &mut Carry) -> Vec<Span> {
        let mut spans = Vec::new();
        match shape {
            Shape::Log | Shape::Plain => {}
            Shape::Toml => toml::toml(text, &mut spans),
            Shape::Json => json::json(text, false, &mut spans),
            Shape::UnitProperties => json::json(text, true, &mut spans),
            Shape::Yaml => yaml::yaml(text, &mut spans),
            Shape::Environ => environment::environment(text, &mut spans),
            Shape::Arguments => command_line::arguments(text, 0, text.len(), &mut spans),
        }
        let by_grammar = spans.len();
        scanner.text(text, carry, &mut spans);
        if matches!(shape, Shape::Toml | Shape::Json | Shape::UnitProperties) {
            within_grammar(&mut spans, by_grammar);
        }
        self.also.find(text, &mut spans);
        merge(&mut spans);
        keep_tokens(text, &mut spans);
        spans
    }

    fn mask(&self, span: &Span, value: &str) -> String {
        let plain = plain(value, span.rule);
        if span.known {
            self.vault.remember(&plain, span.rule);
        }
        *lock(&self.masked).entry(span.rule).or_default() += 1;
        self.tokens.token(span.rule, &plain)
    }
}

/// A number that is a value of JSON becomes a string; elsewhere quotes do no harm.
fn quoting(text: &str, span: &Span, value: &str) -> Quoting {
    let before = text[..span.start].trim_end_matches(' ');
    let after = text[span.end..].trim_start_matches([' ', '\r']);
    let number = value.bytes().all(|byte| byte.is_ascii_digit());
    if !(number
        && before.ends_with([':', '[', ','])
        && (after.is_empty() || after.starts_with([',', ']', '}', '\n'])))
    {
        return Quoting::None;
    }
    if before.ends_with("\\\":") { Quoting::Escaped } else { Quoting::Double }
}

/// Where a document's grammar says that a value ends, it ends, whatever its characters look like in running text.
fn within_grammar(spans: &mut [Span], by_grammar: usize) {
    let (grammar, text) = spans.split_at_mut(by_grammar);
    grammar.sort_by_key(|span| span.start);
    for span in text {
        let place = grammar.partition_point(|value| value.start <= span.start);
        if let Some(value) = place.checked_sub(1).map(|place| grammar[place])
            && span.start < value.end
        {
            span.end = span.end.min(value.end);
        }
    }
}

fn lines_with_tokens(text: &str) -> String {
    text.split_inclusive('\n').filter(|line| line.contains(OPENING)).collect()
}

/// Neither the key nor a value is ever shown.
impl fmt::Debug for Redactor {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Redactor").field("receipt", &self.receipt()).finish_non_exhaustive()
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The value itself, without colours and without the escapes of the text it stood in, so that equal secrets are equal.
fn plain<'a>(value: &'a str, rule: &str) -> Cow<'a, str> {
    let shown = visible_text::visible(value);
    let unescaped =
        shown.contains('\\').then(|| serde_json::from_str::<String>(&format!("\"{shown}\"")).ok()).flatten();
    let shown = unescaped.map_or(shown, Cow::Owned);
    let decoded = (rule == "url-userinfo" && shown.contains('%')).then(|| percent_decoded(&shown)).flatten();
    decoded.map_or(shown, Cow::Owned)
}

fn percent_decoded(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let digits =
            after.get(..2).and_then(|digits| std::str::from_utf8(digits).ok()).filter(|_| *first == b'%');
        match digits.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).ok()
}
