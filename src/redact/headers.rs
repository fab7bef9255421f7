//! Secrets in HTTP headers and authentication schemes.

use super::allowlist::is_harmless;
use super::entropy::is_secretish;
use super::key_names::Certainty;
use super::patterns::is_basic;
use super::placeholders::{is_token, token_length};
use super::span::Span;
use super::value::{Joined, skip_blanks, value, word_end};

/// Shortest hexadecimal credential.
const HEX_BYTES: usize = 16;

/// Longest word that says what is asked for, and is no credential: `"authorization": "rbac"`.
const WORD_BYTES: usize = 12;

/// Whether a part of a cookie may open something: `lang=de` and `Path=/` do not.
fn holds_session(pair: &str) -> bool {
    let Some((name, value)) = pair.trim().split_once('=') else { return false };
    let attribute =
        ["path", "domain", "max-age", "expires", "samesite", "lang", "language", "locale", "theme", "tz"]
            .contains(&name.to_ascii_lowercase().as_str());
    !attribute && !value.is_empty()
}

/// `Authorization: Bearer X`, `Cookie: a=b; c=d`: the scheme stays.
pub(super) fn header(line: &str, lower: &str, joint: &Joined) -> Option<Span> {
    let bytes = line.as_bytes();
    let found = value(line, joint.at, joint.joint)?;
    let line_end = line[found.start..].find(['\n', '\r']).map_or(line.len(), |end| found.start + end);
    let cookie = lower.ends_with("cookie");
    let whole = &line[found.start..if found.quoted { found.end } else { line_end }];
    if cookie {
        let telling = whole.split([';', ',']).any(holds_session) || is_secretish(whole);
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
        "oauth",
        "sharedaccesssignature",
        "googlelogin",
    ];
    let mut start = found.start;
    let divided = bytes.get(start + scheme).is_some_and(|byte| *byte == b' ' || *byte == b'=');
    let after =
        divided.then(|| skip_blanks(bytes, start + scheme + usize::from(bytes[start + scheme] == b'=')));
    // A scheme nobody has told of: one capitalised word before what could be a credential.
    let unknown = after.filter(|after| {
        let word = &line[*after..word_end(bytes, *after)];
        whole.starts_with(|first: char| first.is_ascii_uppercase()) && is_credential(word)
    });
    match after {
        Some(after) if schemes.contains(&&*scheme_name) || unknown.is_some() => start = after,
        Some(_) | None => {}
    }
    let many = ["digest", "aws4-hmac-sha256", "sharedkey", "oauth", "sharedaccesssignature"];
    let end = match (found.quoted, many.contains(&&*scheme_name)) {
        (true, _) => found.end,
        (false, false) => word_end(bytes, start),
        (false, true) => line_end,
    };
    let text = line.get(start..end)?.trim_end();
    let rule = match &*scheme_name {
        "bearer" => "bearer",
        "basic" => "basic-auth",
        _ => "authorization",
    };
    let masked =
        token_length(text.as_bytes()).is_some() || is_harmless(text, Certainty::Likely, found.quoted);
    let word = text.len() <= WORD_BYTES && text.bytes().all(|byte| byte.is_ascii_lowercase());
    let prose = start == found.start && (!found.quoted || word) && !is_credential(text);
    (!masked && !prose).then(|| Span::new(start, start + text.len(), rule))
}

fn is_uuid(word: &str) -> bool {
    word.len() == 36 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-')
}

fn is_credential(word: &str) -> bool {
    let hex = |byte: u8| byte.is_ascii_hexdigit() || byte == b'-';
    is_secretish(word) || word.len() >= HEX_BYTES && word.bytes().all(hex)
}

/// A header inside a quoted argument or a JSON string ends with that.
fn quote_end(line: &str, start: usize, end: usize) -> usize {
    line[start..end].find(['"', '\'']).map_or(end, |at| start + at)
}

/// What follows `Bearer ` or `Basic ` outside a header; says where to go on.
pub(super) fn scheme(line: &str, at: usize, rule: &'static str, spans: &mut Vec<Span>) -> usize {
    let end = word_end(line.as_bytes(), at);
    let Some(word) = line.get(at..end) else { return at };
    let field = word.trim_end_matches('=').contains('=');
    let secret = match rule {
        "basic-auth" => word.len() >= 4 && is_basic(word),
        _ if is_uuid(word) => line[..at].to_ascii_lowercase().ends_with("geniekey "),
        _ => {
            !field
                && (is_secretish(word)
                    || (word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit())))
        }
    };
    if secret && !is_token(word) {
        spans.push(Span::new(at, end, rule));
        return end;
    }
    at
}
