//! Names of secrets with their values in base64 or hexadecimal: `echo cGFzc3dvcmQ9... | base64 -d`.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};

use super::key_names::{Certainty, telling};

/// Words that texts with secrets hold, in the cases they are written in.
const WORDS: [&str; 15] = [
    "password", "Password", "PASSWORD", "passwd", "PASSWD", "secret", "SECRET", "token\":", "TOKEN=",
    "token=", "api_key", "API_KEY", "apikey", "pwd=", "pass\":",
];
/// Shortest part of base64 that is looked for.
const LEAST: usize = 6;
/// Longest text that is decoded: what is larger is a document, and is masked as a whole when it begins like one.
const BYTES: usize = 16 << 10;
/// Names are not longer.
const NAME_BYTES: usize = 64;

/// How the words begin or stand in base64, for each of the three places they may have in it.
pub(super) fn beginnings() -> Vec<String> {
    let mut forms = Vec::new();
    for word in WORDS {
        for before in 0..3 {
            // Only characters that do not depend on the neighbours.
            let padded = [&vec![0; before], word.as_bytes()].concat();
            let text = STANDARD_NO_PAD.encode(&padded);
            let form = text.get((before * 8).div_ceil(6)..padded.len() * 8 / 6).unwrap_or_default();
            if form.len() >= LEAST {
                forms.push(form.to_owned());
            }
        }
    }
    forms.sort();
    forms.dedup_by(|a, b| a.eq_ignore_ascii_case(b));
    forms
}

/// The run of base64 around `at`, if it holds a name with its value; and where the run ends.
pub(super) fn base64(bytes: &[u8], floor: usize, at: usize) -> (Option<(usize, usize)>, usize) {
    let sign = |byte: &u8| byte.is_ascii_alphanumeric() || b"+/-_".contains(byte);
    let start = at - bytes[floor..at].iter().rev().take(BYTES).take_while(|byte| sign(byte)).count();
    let end = at + bytes[at..].iter().take(BYTES).take_while(|byte| sign(byte)).count();
    let run = &bytes[start..end];
    // A path or a name may stand before it.
    let whole = run.len() - run.len() % 4 + if run.len() % 4 == 1 { 0 } else { run.len() % 4 };
    let decoded = STANDARD_NO_PAD
        .decode(&run[..whole])
        .or_else(|_| URL_SAFE_NO_PAD.decode(&run[..whole]))
        .or_else(|_| {
            // Bits that are left over at the end of a text that was cut.
            STANDARD_NO_PAD.decode(&run[..run.len() - run.len() % 4])
        });
    let padding = bytes[end..].iter().take(2).take_while(|byte| **byte == b'=').count();
    let holds = decoded.is_ok_and(|decoded| holds_secret(&decoded));
    (holds.then_some((start, end + padding)), end)
}

/// The same for hexadecimal digits.
pub(super) fn hexadecimal(bytes: &[u8], floor: usize, at: usize) -> Option<(usize, usize)> {
    let start =
        at - bytes[floor..at].iter().rev().take(BYTES).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let end = at + bytes[at..].iter().take(BYTES).take_while(|byte| byte.is_ascii_hexdigit()).count();
    let digit = |byte: u8| char::from(byte).to_digit(16).map(|digit| digit as u8);
    let decoded: Option<Vec<u8>> =
        bytes[start..end].chunks_exact(2).map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect();
    holds_secret(&decoded?).then_some((start, end))
}

/// Whether a text has a telling name with a value behind it.
fn holds_secret(bytes: &[u8]) -> bool {
    let text = String::from_utf8_lossy(bytes);
    let joint = |at: usize| text[at..].find(['=', ':']).map(|joint| at + joint);
    let mut next = joint(0);
    while let Some(at) = next {
        let before = text[..at].trim_end_matches([' ', '"', '\'']);
        let name = before
            .chars()
            .rev()
            .take(NAME_BYTES)
            .take_while(|c| c.is_ascii_alphanumeric() || "_-.".contains(*c));
        let name = &before[before.len() - name.count()..];
        let value = text[at + 1..].trim_start_matches([' ', '"', '\'']);
        let told = telling(name).is_some_and(|telling| telling.certainty != Certainty::Possible);
        if told && value.chars().take(3).filter(|c| !c.is_whitespace() && !c.is_control()).count() == 3 {
            return true;
        }
        next = joint(at + 1);
    }
    false
}
