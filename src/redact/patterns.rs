//! Secrets that are recognized by their own form, wherever they stand.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};

/// No line of a password file is longer.
const WORD_BYTES: usize = 512;

/// The end of a JSON web token (signed or encrypted, whole or cut) that begins at `at`.
pub(super) fn jwt_end(bytes: &[u8], at: usize) -> Option<usize> {
    let word = |byte: &u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-');
    let written = at >= 2 && bytes[at - 2] == b'\\' && matches!(bytes[at - 1], b'n' | b't' | b'r');
    if at.checked_sub(1).is_some_and(|last| word(&bytes[last])) && !written {
        return None;
    }
    // A header is small; one that is longer than this is not read.
    let header = bytes[at..].iter().take(4096).take_while(|byte| word(byte)).count();
    let decoded = URL_SAFE_NO_PAD.decode(&bytes[at..at + header]).ok()?;
    let header_json: serde_json::Value = serde_json::from_slice(&decoded).ok()?;
    header_json.get("alg")?;
    let length = bytes[at..].iter().take_while(|byte| word(byte) || **byte == b'.').count();
    let token = &bytes[at..at + length];
    Some(at + token.len() - token.iter().rev().take_while(|byte| **byte == b'.').count())
}

/// The range of a password hash that begins at `at` (crypt(5), PHC string format, LDAP).
pub(super) fn hash_end(bytes: &[u8], at: usize, prefix: &str) -> Option<usize> {
    let length = bytes[at..]
        .iter()
        .take(1024)
        .take_while(|byte| {
            byte.is_ascii_alphanumeric()
                || b"$./+=,-_{}@".contains(byte)
                || **byte == b':' && prefix.starts_with("SCRAM")
        })
        .count();
    let body = &bytes[at + prefix.len()..at + length];
    let parts = body.iter().filter(|byte| **byte == b'$').count();
    let least = match prefix {
        "$argon2" | "$scrypt$" | "$pbkdf2" | "SCRAM-SHA-256$" | "SCRAM-SHA-512$" | "pbkdf2_sha256$" => 30,
        "{SSHA" | "{SHA" | "{CRYPT}" => 16,
        _ => 22,
    };
    (body.len() >= least && (parts > 0 || !matches!(prefix, "$1$" | "$5$" | "$6$" | "$apr1$" | "$sha1$")))
        .then_some(at + length)
}

pub(super) const HASHES: [&str; 22] = [
    "SCRAM-SHA-512$",
    "{SHA",
    "$argon2",
    "$apr1$",
    "$sha1$",
    "$P$",
    "$H$",
    "$2a$",
    "$2b$",
    "$2y$",
    "$1$",
    "$5$",
    "$6$",
    "$7$",
    "$y$",
    "$gy$",
    "$scrypt$",
    "$pbkdf2",
    "SCRAM-SHA-256$",
    "pbkdf2_sha256$",
    "{SSHA",
    "{CRYPT}",
];

/// Whether a word is `user:password` in base64, as HTTP basic authentication sends it.
pub(super) fn is_basic(word: &str) -> bool {
    let decoded = STANDARD.decode(word).or_else(|_| URL_SAFE_NO_PAD.decode(word.trim_end_matches('=')));
    decoded.is_ok_and(|bytes| bytes.contains(&b':') && bytes.iter().all(|byte| *byte >= 0x20))
}

/// The password hash of a line of shadow(5): nine fields, of which the third is a day.
pub(super) fn shadow_hash(line: &str, at: usize) -> Option<(usize, usize)> {
    let (start, word) = word_around(line, at);
    shadow_fields(word).map(|(first, last)| (start + first, start + last))
}

/// The word of a line around `at`, and where it begins.
fn word_around(line: &str, at: usize) -> (usize, &str) {
    let parts = |letter: char| letter.is_whitespace() || matches!(letter, '"' | '\'');
    let (line, from) = near(line, at);
    let at = at - from;
    let after = |at: usize| at + line[at..].chars().next().map_or(1, char::len_utf8);
    let start = line[..at].rfind(parts).map_or(0, after);
    let end = line[at..].find(parts).map_or(line.len(), |end| at + end);
    (from + start, &line[start..end])
}

/// The part of a line around `at` in which the word is looked for, and where it begins.
fn near(line: &str, at: usize) -> (&str, usize) {
    let from = line.floor_char_boundary(at.saturating_sub(WORD_BYTES));
    (&line[from..line.floor_char_boundary(line.len().min(at + WORD_BYTES))], from)
}

fn shadow_fields(line: &str) -> Option<(usize, usize)> {
    let fields: Vec<&str> = line.trim_end().split(':').take(10).collect();
    let [name, hash, day, ..] = fields.as_slice() else { return None };
    let real = hash.len() >= 8 && !hash.starts_with(['*', '[']) && hash.trim_start_matches('!').len() >= 8;
    let shadow = fields.len() == 9
        && !name.is_empty()
        && !name.contains(' ')
        && day.bytes().all(|byte| byte.is_ascii_digit());
    (shadow && real && !hash.contains(' ')).then_some((name.len() + 1, name.len() + 1 + hash.len()))
}

/// The password of a line of a PostgreSQL password file: `host:port:database:user:password`.
pub(super) fn password_file(line: &str, at: usize) -> Option<(usize, usize)> {
    let (start, word) = word_around(line, at);
    password_field(word).map(|(first, last)| (start + first, start + last))
}

fn password_field(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.splitn(5, ':');
    let (host, port) = (fields.next()?, fields.next()?);
    let (database, user, password) = (fields.next()?, fields.next()?, fields.next()?);
    let named =
        [host, database, user].iter().all(|field| !field.is_empty() && !field.contains([' ', '/', '\t']));
    let numbered = port == "*" || port.bytes().all(|byte| byte.is_ascii_digit());
    let secret = !password.is_empty() && !password.contains(' ') && !password.starts_with("[secret:");
    (named && numbered && secret).then_some((line.len() - password.len(), line.len()))
}
