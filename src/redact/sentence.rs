//! Secrets that a sentence tells of: `PASSWORD IS: x`, `password for user bob: x`, `API key is x`.

use super::allowlist::is_harmless;
use super::entropy::{is_identifier, is_random, is_secretish};
use super::key_names::{Certainty, Telling};
use super::placeholders::{is_token, token_length};
use super::span::Span;
use super::value::{Joint, value, word_end};

/// How far behind a telling name a high-entropy word still belongs to it.
const NEAR_WORDS: usize = 4;
/// How many words a sentence may have between the name and the colon before its value.
const SENTENCE_WORDS: usize = 14;
/// Shortest hexadecimal key: 128 bits.
const KEY_DIGITS: usize = 32;
/// After these words a sentence says something else than the secret.
const OTHERWISE: [&str; 26] = [
    "authentication",
    "failed",
    "failure",
    "error",
    "mismatch",
    "incorrect",
    "invalid",
    "wrong",
    "policy",
    "expired",
    "expires",
    "missing",
    "required",
    "denied",
    "from",
    "rejected",
    "cannot",
    "but",
    "because",
    "not",
    "length",
    "file",
    "hash",
    "type",
    "id",
    "link",
];
/// Between a name and its value in a sentence.
const VERBS: [&str; 36] = [
    "is",
    "was",
    "to",
    "ist",
    "lautet",
    "est",
    "es",
    "é",
    "è",
    "equals",
    "as",
    "becomes",
    "set",
    "-",
    "er",
    "är",
    "on",
    "jest",
    "je",
    "это",
    "este",
    "olarak",
    "adalah",
    "là",
    "คือ",
    "है",
    "هي",
    "היא",
    "是",
    "为",
    "為",
    "は",
    "은",
    "는",
    "–",
    "—",
];

/// What the words behind a name say its value is.
pub(super) enum Said {
    Value(Span),
    /// The line ends where the value should stand.
    Below,
    Nothing,
}

/// Reads the sentence that goes on at `last`, behind a name.
pub(super) fn sentence(line: &str, last: usize, telling: Telling) -> Said {
    let bytes = line.as_bytes();
    let (mut at, mut verb) = (last, false);
    for number in 0..SENTENCE_WORDS {
        at += bytes[at..].iter().take(64).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
        if at >= bytes.len() {
            return Said::Nothing;
        }
        if verb && let Some(span) = candidate(line, at, telling, number == 1) {
            return Said::Value(span);
        }
        let end = at + bytes[at..].iter().take(128).take_while(|byte| !byte.is_ascii_whitespace()).count();
        let Some(word) = line.get(at..end) else { return Said::Nothing };
        if word.starts_with("[secret:") {
            return Said::Nothing;
        }
        let bare = word.trim_end_matches([':', '=', '\u{ff1a}']);
        let lower = bare.trim_matches(['(', ')', '\'', '"', '`']).to_lowercase();
        if OTHERWISE.contains(&&*lower) || bare.contains('=') || bare.ends_with(['.', ';', ',', '!']) {
            return Said::Nothing;
        }
        at = end;
        if bare.len() < word.len() {
            if line[at..].trim().is_empty() {
                return Said::Below;
            }
            at += bytes[at..].iter().take(64).take_while(|byte| matches!(byte, b' ' | b'\t')).count();
            let direct = number == 0 && (bare.is_empty() || VERBS.contains(&&*lower));
            return candidate(line, at, telling, direct).map_or(Said::Nothing, Said::Value);
        }
        verb = VERBS.contains(&&*lower);
    }
    Said::Nothing
}

/// The word at `at`, if it may be the value. A `direct` one follows the name itself.
fn candidate(line: &str, at: usize, telling: Telling, direct: bool) -> Option<Span> {
    let found = value(line, at, Joint::Equals)?;
    let text = &line[found.start..found.end];
    let rest = line[found.end..].trim_matches(['"', '\'', '`', '.', ')', ' ', '\r', '\n']);
    // `PersonalAccessToken as core::fmt::Debug>::fmt`.
    let path = |byte: u8| byte.is_ascii_alphanumeric() || b":_<>".contains(&byte);
    let address = text.contains("://") || text.contains("::") && text.bytes().all(path);
    let shown = is_token(text)
        || token_length(text.as_bytes()).is_some()
        || is_harmless(text, telling.certainty, found.quoted)
        || address;
    let sure = telling.certainty == Certainty::Sure;
    let accepted = is_secretish(text)
        || is_key(telling, text)
        || (sure
            && (found.quoted
                || rest.is_empty() && (direct && text.len() > 3 && !is_identifier(text) || is_chosen(text))))
        || (!sure && direct && rest.is_empty() && is_chosen(text));
    (!shown && accepted).then(|| Span::new(found.start, found.end, telling.rule))
}

/// A word with digits or signs in it, as passwords have and words of a sentence have not.
pub(super) fn is_chosen(word: &str) -> bool {
    let signs = word.trim_end_matches([',', ';', '.', ':', ')', '?', '!']);
    let digit = signs.bytes().any(|byte| byte.is_ascii_digit());
    let sign = signs.bytes().any(|byte| b"!#$%^&*+=?~;<>|{}\\".contains(&byte));
    let other = is_identifier(word) && !word.bytes().all(|byte| byte.is_ascii_hexdigit());
    let hex = word.len() >= 16 && word.bytes().all(|byte| byte.is_ascii_hexdigit());
    signs.len() >= 4 && (digit || sign) && !other && (hex || !word.bytes().all(|byte| byte.is_ascii_digit()))
}

/// A key in hexadecimal behind the name of one.
fn is_key(telling: Telling, word: &str) -> bool {
    let digits = word.strip_prefix("0x").unwrap_or(word);
    let named = matches!(
        telling.rule,
        "secret-key" | "encryption-key" | "private-key" | "token" | "api-key" | "password"
    );
    named
        && (telling.certainty != Certainty::Possible || word.starts_with("0x"))
        && digits.len() >= KEY_DIGITS
        && digits.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// A high-entropy word soon after a telling name.
pub(super) fn nearby(line: &str, last: usize, telling: Telling) -> Option<Span> {
    // The names of signature algorithms look drawn.
    if telling.rule == "signature" {
        return None;
    }
    let bytes = line.as_bytes();
    let mut at = last;
    for number in 0..NEAR_WORDS {
        at += bytes[at..]
            .iter()
            .take(8)
            .take_while(|byte| byte.is_ascii_whitespace() || b"\"'(:=[,".contains(byte))
            .count();
        let end = word_end(bytes, at).min(at + 512);
        let word = line.get(at..end)?;
        if token_length(word.as_bytes()).is_some() {
            return None;
        }
        let word = word.trim_end_matches([')', ']', '}', ':', '>']);
        let follows_is = line[..at].ends_with(" is ") || line[..at].ends_with(" was ");
        let told = follows_is && telling.certainty == Certainty::Sure && is_secretish(word);
        let key = number <= 1 && is_key(telling, word);
        let version = word.starts_with(|first: char| first.is_ascii_digit()) && word.contains(['.', ':']);
        let next = number == 0 && telling.certainty == Certainty::Sure && is_secretish(word) && !version;
        if is_random(word) || told || key || next && line.as_bytes().get(last) == Some(&b' ') {
            return Some(Span::new(at, at + word.len(), telling.rule));
        }
        at = end.max(at + 1).min(bytes.len());
        if !line.is_char_boundary(at) || is_identifier(word) && !word.is_empty() {
            return None;
        }
    }
    None
}

/// So far before and behind a name its value is looked for.
const BEFORE_BYTES: usize = 512;
/// Words between a name and the verb before it: `x is the new root password`, `x as our password`.
const BETWEEN: [&str; 24] = [
    "the",
    "a",
    "an",
    "its",
    "our",
    "your",
    "my",
    "his",
    "her",
    "their",
    "new",
    "old",
    "current",
    "initial",
    "default",
    "temporary",
    "root",
    "admin",
    "user",
    "database",
    "db",
    "api",
    "secret",
    "now",
];

/// The value that a sentence tells before the name: `"x" as the password`, `x is now the root password`.
pub(super) fn before(line: &str, first: usize, telling: Telling) -> Option<Span> {
    let from = line.floor_char_boundary(first.saturating_sub(BEFORE_BYTES));
    let mut rest = line[from..first].trim_end();
    let mut words = 0;
    loop {
        let word = rest.rsplit(' ').next()?;
        let lower = word.to_ascii_lowercase();
        let front = rest[..rest.len() - word.len()].trim_end();
        if matches!(lower.as_str(), "as" | "is") {
            let value = front.rsplit(' ').next()?;
            let end = from + front.len();
            let text = value.trim_matches(['"', '\'', '`', '(', ')']);
            let start = end - value.len() + value.find(text).unwrap_or(0);
            let shown = is_token(text)
                || text.contains("[secret:")
                || text.contains("://")
                || is_harmless(text, telling.certainty, false);
            let secret = is_chosen(text) && is_secretish(text);
            return (!shown && secret && telling.certainty != Certainty::Possible)
                .then(|| Span::new(start, start + text.len(), telling.rule));
        }
        words += 1;
        if words > 4 || !BETWEEN.contains(&lower.as_str()) {
            return None;
        }
        rest = front;
    }
}

/// The value a few words behind the name in a language whose grammar is not known: `пароль на базу x`.
pub(super) fn soon(line: &str, last: usize, telling: Telling) -> Option<Span> {
    if telling.certainty != Certainty::Sure {
        return None;
    }
    let mut at = last;
    let rest = &line[last..line.floor_char_boundary(line.len().min(last + BEFORE_BYTES))];
    for word in rest.split(' ').take(NEAR_WORDS + 1) {
        let text = word.trim_matches(['"', '\'', '`', ',', ';', ':', '.', '(', ')']);
        if text.contains("[secret:") || text.contains("://") {
            return None;
        }
        // What stands between letters of another script is the value: `パスワードはxです`.
        let mut runs = text.split(|letter: char| !letter.is_ascii_graphic());
        if let Some(value) = runs.find(|run| is_secretish(run) && is_chosen(run)) {
            let start = at + word.find(value).unwrap_or(0);
            return Some(Span::new(start, start + value.len(), telling.rule));
        }
        at += word.len() + 1;
    }
    None
}
