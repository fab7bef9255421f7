//! Reads a name that tells of a secret and what stands beside it.

use super::entropy::{is_identifier, is_random, is_secretish};
use super::environment;
use super::harmless::is_harmless;
use super::names::{Certainty, Telling, telling};
use super::patterns::is_basic;
use super::span::{Quoting, Span};
use super::tokens::{is_token, token_length};
use super::value::{Joined, Joint, joined, skip_blanks, value, word_end};

/// Longest name that is read as one: longer runs of letters are data.
const NAME_BYTES: usize = 256;
/// Shortest hexadecimal signature or session identifier: PHP's.
const CODE_BYTES: usize = 26;
/// How far behind a telling name a high-entropy word still belongs to it.
const NEAR_WORDS: usize = 4;

/// Reads the name around `start..end`; says where to go on.
pub(super) fn read(line: &str, floor: usize, start: usize, end: usize, spans: &mut Vec<Span>) -> usize {
    let bytes = line.as_bytes();
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let mut first =
        start - bytes[floor..start].iter().rev().take(NAME_BYTES).take_while(|byte| part(byte)).count();
    // In a written string, the letter after a backslash is part of the line end.
    if first > 0 && bytes[first - 1] == b'\\' && matches!(bytes[first], b'n' | b'r' | b't') && first < start {
        first += 1;
    }
    let last = end + bytes[end..].iter().take_while(|byte| part(byte)).count();
    // `sig="` and `identified by` end with more than a name.
    let last = if bytes[end - 1].is_ascii_alphanumeric() || bytes[end - 1] == b'_' { last } else { end - 1 };
    let name = line[first..last].trim_end_matches(['.', '-']);
    if name.len() > NAME_BYTES {
        return last;
    }
    let last = first + name.len();
    let found = find(line, first, last);
    match found {
        Some(span) if span.end > span.start => {
            let next = span.end;
            spans.push(span);
            next
        }
        Some(span) => span.end.max(last),
        None => last,
    }
}

/// The secret a name at `first..last` tells of. An empty span says how far there is nothing more to see.
fn find(line: &str, first: usize, last: usize) -> Option<Span> {
    let bytes = line.as_bytes();
    let name = &line[first..last];
    let bare = name.trim_start_matches(['-', '.', '_']);
    let option = name.starts_with('-') && (first == 0 || !bytes[first - 1].is_ascii_alphanumeric());
    let lower = bare.to_ascii_lowercase();
    let joint = joined(line, last);
    if let Some(joint) = &joint
        && (lower.ends_with("authorization") || lower.ends_with("cookie"))
    {
        return header(line, &lower, joint);
    }
    let telling = match (telling(bare), &*lower) {
        (_, "identified by") => Some(Telling { rule: "password", certainty: Certainty::Sure }),
        (Some(_), "key") => spaced_key(line, first).or_else(|| telling(bare)),
        (found, _) => found,
    }?;
    if let Some(joint) = joint {
        return with_value(line, first, last, telling, &joint);
    }
    if option || lower == "identified by" || is_directive(line, first, &lower) {
        return next_word(line, last, telling);
    }
    if telling.certainty == Certainty::Sure
        && !line[..first].ends_with('/')
        && let [b' ' | b'(', b'"' | b'\'', ..] = bytes[last..]
    {
        // SQL: `PASSWORD 'x'`, `PASSWORD('x')`.
        return quoted_word(line, last + 1, telling);
    }
    nearby(line, last, telling)
}

/// `API key`, `secret key`: a key whose kind stands before it as a word of its own.
fn spaced_key(line: &str, first: usize) -> Option<Telling> {
    let before = line[..first].strip_suffix(' ')?;
    let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    if word.len() > 16 { None } else { telling(&format!("{word}_key")) }
}

fn with_value(line: &str, first: usize, last: usize, telling: Telling, joint: &Joined) -> Option<Span> {
    if let Some(length) = line.as_bytes().get(joint.at..).and_then(token_length) {
        return Some(Span::new(joint.at + length, joint.at + length, telling.rule));
    }
    let value = value(line, joint.at, joint.joint)?;
    let text = &line[value.start..value.end];
    if is_token(text) {
        return Some(Span::new(value.end, value.end, telling.rule));
    }
    let opens = !value.quoted && text.starts_with(['{', '[']) && !text.starts_with("[secret:");
    if opens || is_harmless(text, telling.certainty, value.quoted) && !is_code(&telling, joint, text) {
        return if telling.certainty == Certainty::Sure && !opens {
            nearby(line, last, telling)
        } else {
            None
        };
    }
    // `the secret key: x`: the phrase begins a word earlier.
    let kind = (&line[first..last] == "key" && telling.certainty != Certainty::Possible)
        .then(|| line[..first].trim_end().rfind(' '));
    let phrase = kind.map_or(first, |blank| blank.map_or(0, |at| at + 1));
    let prose = !value.quoted && joint.joint == Joint::Colon && in_prose(line, phrase);
    if prose && telling.certainty != Certainty::Sure && !is_secretish(text) {
        return None;
    }
    let quoting = match (value.quoted, joint.name_quote) {
        (true, _) => Quoting::None,
        (false, quote) => quote,
    };
    let quoting = if joint.joint == Joint::Equals { Quoting::None } else { quoting };
    let rule = if line[..first].ends_with("Generated root user ") { "iggy-password" } else { telling.rule };
    let known = telling.certainty != Certainty::Possible || is_secretish(text);
    Some(Span::new(value.start, value.end, rule).quoting(quoting).known(known))
}

/// Signatures of addresses and session identifiers are often hexadecimal, as hashes are.
fn is_code(telling: &Telling, joint: &Joined, text: &str) -> bool {
    let named = matches!(telling.rule, "signature" | "session") && joint.joint == Joint::Equals;
    named && text.len() >= CODE_BYTES && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Whether the name is a word of a sentence or the end of a Rust path, rather than a field.
fn in_prose(line: &str, first: usize) -> bool {
    let before = &line[..first];
    before.ends_with("::")
        || before.strip_suffix(' ').is_some_and(|before| before.ends_with(|c: char| c.is_ascii_lowercase()))
}

/// Directives whose value follows a blank: netrc(5), redis.conf, and `password is X`.
fn is_directive(line: &str, first: usize, lower: &str) -> bool {
    match lower {
        "requirepass" | "masterauth" | "bindpw" | "auth_pass" | "rocommunity" | "rwcommunity" => true,
        "password" => {
            let words: Vec<&str> = line[..first].split_whitespace().rev().take(2).collect();
            let alone = words.is_empty() && {
                let mut words = line[first..].split_whitespace().skip(1);
                words.next().is_some_and(is_secretish) && words.next().is_none()
            };
            alone || words.get(1) == Some(&"login")
        }
        _ => false,
    }
}

fn next_word(line: &str, last: usize, telling: Telling) -> Option<Span> {
    let bytes = line.as_bytes();
    let at = skip_blanks(bytes, last + usize::from(bytes.get(last) == Some(&0)));
    if at > last { quoted_word(line, at, telling) } else { None }
}

fn quoted_word(line: &str, at: usize, telling: Telling) -> Option<Span> {
    let value = value(line, at, Joint::Equals)?;
    let text = &line[value.start..value.end];
    let shown = text.starts_with('-') && !value.quoted
        || is_token(text)
        || is_harmless(text, telling.certainty, value.quoted);
    (!shown).then(|| Span::new(value.start, value.end, telling.rule))
}

/// A high-entropy word soon after a telling name.
fn nearby(line: &str, last: usize, telling: Telling) -> Option<Span> {
    // The names of signature algorithms look drawn.
    if telling.rule == "signature" {
        return None;
    }
    let bytes = line.as_bytes();
    let mut at = last;
    for _ in 0..NEAR_WORDS {
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
        if is_random(word) || (follows_is && telling.certainty == Certainty::Sure && is_secretish(word)) {
            return Some(Span::new(at, at + word.len(), telling.rule));
        }
        at = end.max(at + 1).min(bytes.len());
        if !line.is_char_boundary(at) || is_identifier(word) && !word.is_empty() {
            return None;
        }
    }
    None
}

/// `Authorization: Bearer X`, `Cookie: a=b; c=d`: the scheme stays.
fn header(line: &str, lower: &str, joint: &Joined) -> Option<Span> {
    let bytes = line.as_bytes();
    let found = value(line, joint.at, joint.joint)?;
    let line_end = line[found.start..].find(['\n', '\r']).map_or(line.len(), |end| found.start + end);
    let cookie = lower.ends_with("cookie");
    let whole = &line[found.start..if found.quoted { found.end } else { line_end }];
    if cookie {
        let telling = whole.contains('=') || is_secretish(whole);
        let end = found.start + whole.trim_end().len();
        let end = if found.quoted { end } else { quote_end(line, found.start, end) };
        return (telling && token_length(whole.as_bytes()).is_none())
            .then(|| Span::new(found.start, end, "cookie"));
    }
    let scheme = whole
        .bytes()
        .take(32)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(byte))
        .count();
    let scheme_name = whole[..scheme].to_ascii_lowercase();
    let schemes = [
        "bearer",
        "basic",
        "token",
        "negotiate",
        "apikey",
        "api-key",
        "digest",
        "aws4-hmac-sha256",
        "ntlm",
        "key",
        "sharedkey",
        "vault",
    ];
    let mut start = found.start;
    if schemes.contains(&&*scheme_name)
        && bytes.get(start + scheme).is_some_and(|byte| *byte == b' ' || *byte == b'=')
    {
        start = skip_blanks(bytes, start + scheme + usize::from(bytes[start + scheme] == b'='));
    }
    let one_word = !matches!(&*scheme_name, "digest" | "aws4-hmac-sha256" | "sharedkey");
    let end = match (found.quoted, one_word) {
        (true, _) => found.end,
        (false, true) => word_end(bytes, start),
        (false, false) => line_end,
    };
    let text = line.get(start..end)?.trim_end();
    let rule = match &*scheme_name {
        "bearer" => "bearer",
        "basic" => "basic-auth",
        _ => "authorization",
    };
    let masked =
        token_length(text.as_bytes()).is_some() || is_harmless(text, Certainty::Likely, found.quoted);
    let prose = start == found.start && !found.quoted && !is_secretish(text);
    (!masked && !prose).then(|| Span::new(start, start + text.len(), rule))
}

/// A header inside a quoted argument or a JSON string ends with that.
fn quote_end(line: &str, start: usize, end: usize) -> usize {
    line[start..end].find(['"', '\'']).map_or(end, |at| start + at)
}

/// What follows `Bearer ` or `Basic ` outside a header; says where to go on.
pub(super) fn scheme(line: &str, at: usize, rule: &'static str, spans: &mut Vec<Span>) -> usize {
    let end = word_end(line.as_bytes(), at);
    let Some(word) = line.get(at..end) else { return at };
    let secret = match rule {
        "basic-auth" => word.len() >= 4 && is_basic(word),
        _ => is_secretish(word) || (word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())),
    };
    if secret && !is_token(word) {
        spans.push(Span::new(at, end, rule));
        return end;
    }
    at
}

/// `IGGY_X value changed to: Y from environment variable`, as Iggy logs its settings.
pub(super) fn value_changed(line: &str, start: usize, at: usize, spans: &mut Vec<Span>) -> usize {
    let before = line[..start].trim_end();
    let name = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
    let rest = &line[at..];
    let value = rest.find(" from environment").map_or(rest, |end| &rest[..end]).trim_end();
    let known = telling(name).is_some();
    if let Some(rule) = environment::rule(name).filter(|_| name.starts_with("IGGY_") || known)
        && !is_token(value)
        && !is_harmless(value, Certainty::Sure, false)
    {
        spans.push(Span::new(at, at + value.len(), rule).known(known || is_secretish(value)));
        return at + value.len();
    }
    at
}
