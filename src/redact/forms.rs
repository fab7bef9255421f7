//! Secrets that stand beside a name without a separator: directives, calls, and the last word of a line.

use super::allowlist::is_harmless;
use super::entropy::{is_identifier, is_random, is_secretish};
use super::key_names::{Certainty, Telling};
use super::key_value::{next_word, quoted_word};
use super::placeholders::is_token;
use super::sentence::is_chosen;
use super::span::Span;
use super::value::skip_blanks;

const PASSWORD: Telling = Telling { rule: "password", certainty: Certainty::Sure };

/// Names that mean something only where they stand.
pub(super) fn directive(line: &str, first: usize, last: usize) -> Option<Span> {
    let (before, name) = (&line[..first], &line[first..last]);
    match name.to_ascii_lowercase().as_str() {
        "identified by" => identified_by(line, last),
        "identified with" => {
            let by = line.get(last..)?.to_ascii_lowercase();
            let by = by.find(" by ").filter(|at| *at < 64)?;
            identified_by(line, last + by + 3)
        }
        "community" if before.ends_with("snmp-server ") => next_word(line, last, PASSWORD),
        "community" => {
            let rest = line[last..].strip_prefix(" string")?;
            let at = last + 7 + rest.len() - rest.trim_start_matches([':', '=', ' ']).len();
            quoted_word(line, at, PASSWORD)
        }
        // haproxy's `stats auth user:password`.
        "auth" if before.ends_with("stats ") => {
            let (start, word) = word_at(line, last)?;
            let (user, password) = word.split_once(':')?;
            masked(start + user.len() + 1, password, "password")
        }
        "auth" if name == "AUTH" => {
            let (start, word) = word_at(line, last)?;
            let rest = line[start + word.len()..].trim();
            (is_secretish(word) && rest.is_empty()).then(|| Span::new(start, start + word.len(), "password"))
        }
        "auth" | "db.auth" if line[last..].starts_with("(\"") => {
            let second = line[last + 2..].find("\", \"").filter(|at| *at < 128)?;
            quoted_word(line, last + 2 + second + 3, PASSWORD)
        }
        // FTP and POP3.
        "pass"
            if name == "PASS"
                && (before.is_empty()
                    || before.ends_with([':', '>'])
                    || before.ends_with([' ']) && before.trim_end().ends_with([':', '>'])) =>
        {
            next_word(line, last, PASSWORD).filter(|span| span.end == line.trim_end().len())
        }
        "password_pbkdf2" => {
            let (user, name) = word_at(line, last)?;
            let (start, word) = word_at(line, user + name.len())?;
            masked(start, word, "password-hash")
        }
        _ => None,
    }
}

fn identified_by(line: &str, last: usize) -> Option<Span> {
    let (start, word) = word_at(line, last)?;
    let again = matches!(word.to_ascii_lowercase().as_str(), "password" | "values" | "value");
    next_word(line, if again { start + word.len() } else { last }, PASSWORD)
}

pub(super) fn word_at(line: &str, at: usize) -> Option<(usize, &str)> {
    let start = skip_blanks(line.as_bytes(), at);
    let end = start + line.get(start..)?.find(char::is_whitespace).unwrap_or(line.len() - start);
    (end > start && start > at).then(|| (start, &line[start..end]))
}

pub(super) fn masked(start: usize, word: &str, rule: &'static str) -> Option<Span> {
    (!word.is_empty() && !is_token(word)).then(|| Span::new(start, start + word.len(), rule))
}

/// `define('DB_PASSWORD', 'x')`, `env("DB_PASSWORD", "x")`, `{default_pass, <<"x">>}`.
pub(super) fn call(line: &str, first: usize, last: usize, telling: Telling) -> Option<Span> {
    if telling.certainty == Certainty::Possible {
        return None;
    }
    let (before, after) = (&line[..first], &line[last..]);
    let quoted = after.starts_with(['"', '\'']);
    let opened = if quoted { before.strip_suffix(['"', '\''])? } else { before };
    if !opened.ends_with(['(', '{']) {
        return None;
    }
    let rest = after[usize::from(quoted)..].strip_prefix(',')?;
    let blanks = rest.len() - rest.trim_start().len();
    let rest = rest.trim_start();
    let erlang = if rest.starts_with("<<\"") { 2 } else { 0 };
    let at = last + usize::from(quoted) + 1 + blanks + erlang;
    let quote = line[at..].chars().next().filter(|quote| matches!(quote, '"' | '\''))?;
    // To the last quote of its kind before the call ends: a salt may hold any other sign.
    let end = at + 1 + line[at + 1..].find(quote)?;
    let value = &line[at + 1..end];
    let shown = is_token(value) || is_harmless(value, telling.certainty, true);
    (!shown).then(|| Span::new(at + 1, end, telling.rule))
}

/// The word that a line ends with, beside a name that can have no other reason to be there.
pub(super) fn last_word(line: &str, first: usize, last: usize, telling: Telling) -> Option<Span> {
    if telling.certainty == Certainty::Possible {
        return None;
    }
    let name = &line[first..last];
    let before = line[..first].trim_start();
    // The end of a path names a file.
    if before.ends_with('/') || name.starts_with('.') {
        return None;
    }
    let (mut start, mut word) = word_at(line, last)?;
    if word == "REG_SZ" {
        (start, word) = word_at(line, start + word.len())?;
    }
    let word = word.trim_end_matches([';', '"', '\'']);
    let alone = line[start..].trim_end().trim_end_matches([';', '"', '\'']) == word;
    let sure = telling.certainty == Certainty::Sure;
    let compound = name.contains(['_', '-', '.'])
        || name.bytes().any(|byte| byte.is_ascii_lowercase())
            && name[1..].bytes().any(|byte| byte.is_ascii_uppercase());
    let set =
        ["ENV ", "ARG ", "set ", "setx ", "setenv ", "export "].iter().any(|verb| before.ends_with(verb));
    let version = word.starts_with(|first: char| first.is_ascii_digit()) && word.contains(['.', ':']);
    let shown = is_token(word)
        || word.starts_with(['-', '(', '[', '{', '<', '"', '\'', '/', '$'])
        || word.contains("://")
        || is_harmless(word, telling.certainty, false)
        || is_identifier(word) && !set && !(alone && before.is_empty() && sure && word.len() >= 32)
        || version;
    let drawn = word.len() >= 32 && word.bytes().all(|byte| byte.is_ascii_hexdigit() || byte == b'-');
    let accepted = alone && before.is_empty() && sure && drawn
        || alone && before.is_empty() && (sure || compound) && (is_chosen(word) || word.contains(['-', '_']))
        || alone && set
        || alone && sure && is_chosen(word)
        || compound && is_secretish(word) && (sure || is_random(word) || alone)
        // `user=x password hunter22x next`, but not the name of a package.
        || sure && name != "passwd" && is_secretish(word) && is_chosen(word) && before.is_empty();
    (!shown && accepted).then(|| Span::new(start, start + word.len(), telling.rule))
}

/// `jdbc:oracle:thin:user/password@host`; `at` is behind `thin:` or `oci:`.
pub(super) fn oracle(line: &str, at: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let word =
        &line[at..at + line[at..].find(|c: char| c.is_whitespace() || c == '"').unwrap_or(line.len() - at)];
    let host = word.find('@')?;
    let user = word[..host].find('/')?;
    let password = word[user + 1..host].trim_matches('"');
    spans.extend(masked(at + user + 1, password, "url-userinfo"));
    Some(at + host)
}

/// `user%3Apassword%40host` behind a `%3A%2F%2F` that ends at `at`.
pub(super) fn encoded_address(line: &str, at: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let end = line[at..]
        .find(|c: char| c.is_whitespace() || b"\"'&<>".contains(&(c as u32 as u8)))
        .map_or(line.len(), |end| at + end);
    let word = line[at..end].to_ascii_lowercase();
    let authority = word.find("%2f").unwrap_or(word.len());
    let host = word[..authority].rfind("%40")?;
    let user = word[..host].find("%3a")?;
    let password = &line[at + user + 3..at + host];
    spans.extend(masked(at + user + 3, password, "url-userinfo"));
    Some(at + host)
}

/// Secrets behind marks that only one program writes; `at` is behind the mark.
pub(super) fn marked(line: &str, start: usize, at: usize, spans: &mut Vec<Span>) -> Option<usize> {
    let mark = line[start..at].trim();
    let bytes = line.as_bytes();
    if mark == "LOGIN" {
        // IMAP's `LOGIN user password` and SMTP's `AUTH LOGIN user password` end the line.
        let rest = line[at..].trim_end();
        let mut words = rest.split(' ');
        let (user, password) = (words.next()?, words.next()?);
        if words.next().is_some() || user.is_empty() || password.len() < 3 {
            return None;
        }
        let start = at + user.len() + 1;
        let inner = password.trim_matches('"');
        spans.extend(masked(start + usize::from(inner.len() < password.len()), inner, "password"));
        return Some(start + password.len());
    }
    if mark.starts_with("]:") {
        // Postfix: `[host]:587 user:password`.
        let (start, word) = word_at(line, at - 1)?;
        let (user, password) = word.split_once(':')?;
        let opened = line[..start].rsplit([' ', '"']).find(|word| !word.is_empty());
        let opened = opened.is_some_and(|word| word.starts_with('['));
        let whole = opened && line[start + word.len()..].trim_matches(['"', ' ', '\r', ']', '}']).is_empty();
        spans.extend(masked(start + user.len() + 1, password, "password").filter(|_| whole));
        return Some(start + word.len());
    }
    if mark.ends_with('"') {
        // `: PSK "x"` and `: EAP "x"` of IPsec.
        let end = line[at..].find('"').map_or(line.len(), |end| at + end);
        spans.extend(masked(at, &line[at..end], "password"));
        return Some(end);
    }
    // `createUser name SHA "x" AES "y"` of net-snmp; phrases are found in any case, and `login` is a word.
    if !mark.eq_ignore_ascii_case("createUser") {
        return None;
    }
    let mut from = at;
    for _ in 0..2 {
        let open = from + line[from..].find('"')? + 1;
        let close = open + line[open..].find('"')?;
        spans.extend(masked(open, &line[open..close], "password"));
        from = close + 1;
    }
    Some(from.min(bytes.len()))
}

/// What is written into a command that reads a password: `echo x | sudo -S`, `echo user:x | chpasswd`.
pub(super) fn piped(line: &str, pipe: usize, spans: &mut Vec<Span>) {
    let Some(echo) = line[..pipe].rfind("echo ").or_else(|| line[..pipe].rfind("printf ")) else { return };
    let start = echo + line[echo..pipe].find(' ').unwrap_or(0) + 1;
    let said = line[start..pipe].trim_end();
    let start = start + said.len() - said.trim_start_matches("-n ").trim_start_matches("-e ").len();
    let said = &line[start..start.max(line[..pipe].trim_end().len())];
    let quoted = said.len() >= 2 && said.starts_with(['"', '\'']) && said.ends_with(['"', '\'']);
    let (start, said) = if quoted { (start + 1, &said[1..said.len() - 1]) } else { (start, said) };
    let user =
        if line[pipe..].contains("chpasswd") { said.find(':').map_or(0, |colon| colon + 1) } else { 0 };
    let secret = &said[user..];
    if !is_harmless(secret, Certainty::Sure, quoted) {
        spans.extend(masked(start + user, secret, "password"));
    }
}

/// Fewest and most digits of a PIN or a one-time password.
const PIN_DIGITS: std::ops::RangeInclusive<usize> = 4..=12;

/// The number behind `PIN`, `pin is` or `otp:`.
pub(super) fn pin(line: &str, last: usize) -> Option<Span> {
    let rest = &line[last..line.floor_char_boundary(line.len().min(last + 64))];
    let plain = rest.trim_start_matches(['"', '\'', '`', ' ', ':', '=', '(']);
    let plain = ["code", "is", "was", "set to", "to"].iter().fold(plain, |plain, word| {
        plain.strip_prefix(*word).map_or(plain, |rest| rest.trim_start_matches([' ', ':', '"', '\'']))
    });
    let digits = plain.bytes().take_while(u8::is_ascii_digit).count();
    let ends = !plain[digits..]
        .starts_with(|next: char| next.is_alphanumeric() || matches!(next, '.' | '-' | '_' | ':'))
        || plain[digits..].starts_with(". ")
        || &plain[digits..] == ".";
    let start = last + rest.len() - plain.len();
    (PIN_DIGITS.contains(&digits) && ends && rest.len() > plain.len())
        .then(|| Span::new(start, start + digits, "pin"))
}
