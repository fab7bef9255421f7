//! Credentials in addresses: `scheme://user:password@host`, and `user:password@tcp(host)` of Go programs.

use super::allowlist::is_placeholder;
use super::entropy::is_secretish;
use super::placeholders::is_token;
use super::span::Span;

/// No address has a longer part before its host; what is longer is not an address.
const USERINFO_BYTES: usize = 4096;
/// A user name of more characters, alone before the `@`, is a token.
const USER_BYTES: usize = 16;

/// Masks the credentials of the address whose `://` stands at `at`; returns where the last of them ends, `None` if it
/// has none.
pub(super) fn userinfo(line: &str, at: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let bytes = line.as_bytes();
    if !at.checked_sub(1).is_some_and(|last| bytes[last].is_ascii_alphanumeric()) {
        return None;
    }
    let start = at + 3;
    let ends = |at: usize| {
        let byte = bytes[at];
        // A second address in the same word (a list of brokers, a redirect) is looked at on its own.
        let address = byte == b':' && bytes[at..].starts_with(b"://");
        address || byte.is_ascii_whitespace() || byte.is_ascii_control() || b"\"'`<>\\".contains(&byte)
    };
    let limit = bytes.len().min(start + USERINFO_BYTES);
    let word = &bytes[start..(start..limit).find(|at| ends(*at)).unwrap_or(limit)];
    let authority = word.iter().position(|byte| b"/?#".contains(byte)).unwrap_or(word.len());
    let host = match word[..authority].iter().rposition(|byte| *byte == b'@') {
        Some(host) => host,
        None => {
            // A password may hold a slash; then what follows the colon is no port.
            let colon = word[..authority].iter().position(|byte| *byte == b':')?;
            let port = &word[colon + 1..authority];
            if word[0] == b'[' || port.iter().all(|byte| byte.is_ascii_digit() || b",%$".contains(byte)) {
                return None;
            }
            word.iter().rposition(|byte| *byte == b'@')?
        }
    };
    credentials(line, start, start + host, spans)
}

/// The same for an address of a Go program; `at` is where `@tcp(` stands.
pub(super) fn go_address(line: &str, at: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let before = &line.as_bytes()[at.saturating_sub(256)..at];
    let word = before
        .iter()
        .rev()
        .take_while(|byte| !byte.is_ascii_whitespace() && !b"\"'`=".contains(byte))
        .count();
    credentials(line, at - word, at, spans)
}

fn credentials(line: &str, start: usize, end: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let both = line.get(start..end)?;
    let (user, password) = match both.split_once(':') {
        Some((user, password)) => (user, Some(password)),
        None => (both, None),
    };
    let telling = user.len() > USER_BYTES || (password.is_none_or(str::is_empty) && is_secretish(user));
    let mut masked = None;
    if telling && !holds_only_tokens(user) {
        spans.push(Span::new(start, start + user.len(), "url-userinfo"));
        masked = Some(start + user.len());
    }
    let Some(password) = password else { return masked };
    let shown = password.is_empty() || holds_only_tokens(password) || password.chars().all(|c| c == '*');
    if !(shown || is_placeholder(password)) {
        spans.push(Span::new(end - password.len(), end, "url-userinfo"));
        masked = Some(end);
    }
    masked
}

fn holds_only_tokens(text: &str) -> bool {
    is_token(text)
}
