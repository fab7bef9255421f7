//! Reads a name that tells of a secret and what stands beside it.

use super::allowlist::is_harmless;
use super::below::{Form, Label};
use super::entropy::{is_random, is_secretish};
use super::headers::header;
use super::key_names::{Certainty, Spaced, Telling, spaced, telling};
use super::placeholders::{is_token, token_length};
use super::sentence::{self, Said, nearby, sentence};
use super::span::{Quoting, Span};
use super::value::{Joined, Joint, joined, skip_blanks, value};
use super::{environment, forms, table};

/// Longest name that is read as one: longer runs of letters are data.
const NAME_BYTES: usize = 256;
/// Shortest signature: what is shorter is the name of an algorithm.
const SIGNATURE_BYTES: usize = 16;
/// Shortest hexadecimal signature or session identifier: PHP's.
const CODE_BYTES: usize = 26;
/// Shortest value that says by its form that the bare `key` before it is a secret one: 256 bits in base64.
const KEY_BYTES: usize = 43;

/// What was found where a name stands.
#[derive(Default)]
pub(super) struct Found {
    pub(super) span: Option<Span>,
    /// There is nothing more to see up to here.
    until: usize,
    /// The line ends where the value should stand.
    pub(super) below: Option<Label>,
}

impl Found {
    fn of(span: Option<Span>) -> Found {
        Found { span, ..Found::default() }
    }

    fn until(until: usize) -> Found {
        Found { until, ..Found::default() }
    }

    fn below(telling: Telling, form: Form) -> Found {
        let certain = telling.certainty != Certainty::Possible;
        Found { below: certain.then_some(Label { telling, form }), ..Found::default() }
    }
}

/// Reads the name around `start..end`; says where to go on, and what is to be looked for below the line.
pub(super) fn read(
    line: &str,
    floor: usize,
    start: usize,
    end: usize,
    spans: &mut Vec<Span>,
) -> (usize, Option<Label>) {
    let bytes = line.as_bytes();
    let part = |byte: &u8| byte.is_ascii_alphanumeric() || b"_-.".contains(byte);
    let mut first =
        start - bytes[floor..start].iter().rev().take(NAME_BYTES).take_while(|byte| part(byte)).count();
    // In a written string, the letter after a backslash is part of the line end.
    if first > 0 && bytes[first - 1] == b'\\' && matches!(bytes[first], b'n' | b'r' | b't') && first < start {
        first += 1;
    }
    let last = end + bytes[end..].iter().take_while(|byte| part(byte)).count();
    // `sig="` and `pw ` end with more than a name.
    let last = if bytes[end - 1].is_ascii_alphanumeric() || bytes[end - 1] == b'_' { last } else { end - 1 };
    let name = line[first..last].trim_end_matches(['.', '-']);
    if name.len() > NAME_BYTES {
        return (last, None);
    }
    let last = first + name.len();
    take(find(line, first, last), last, spans)
}

/// The same for a word of another language that stands at `start..end`.
pub(super) fn word(
    line: &str,
    start: usize,
    end: usize,
    telling: Telling,
    spans: &mut Vec<Span>,
) -> (usize, Option<Label>) {
    let joins = |letter: char| letter.is_alphanumeric() && letter.is_ascii() == line[start..end].is_ascii();
    let inside = line[..start].ends_with(joins) && line[start..end].is_ascii();
    let goes_on = line[end..].starts_with(joins) && line[start..end].is_ascii();
    if inside || goes_on {
        return (end, None);
    }
    let found = match joined(line, end) {
        Some(joint) => with_value(line, start, end, telling, &joint),
        None => {
            let found = told(line, end, telling);
            let nothing = found.span.is_none() && found.below.is_none();
            if nothing { Found::of(sentence::soon(line, end, telling)) } else { found }
        }
    };
    take(found, end, spans)
}

fn take(found: Found, last: usize, spans: &mut Vec<Span>) -> (usize, Option<Label>) {
    let next = match found.span {
        Some(span) if span.end > span.start => {
            spans.push(span);
            // What stood before the name was read already.
            span.end.max(found.until)
        }
        Some(_) | None => found.until.max(last),
    };
    (next, found.below)
}

/// The secret a name at `first..last` tells of.
fn find(line: &str, first: usize, last: usize) -> Found {
    let bytes = line.as_bytes();
    let name = &line[first..last];
    let bare = name.trim_start_matches(['-', '.', '_']);
    let option = line[..first].ends_with(" -")
        || name.starts_with('-') && (first == 0 || !bytes[first - 1].is_ascii_alphanumeric());
    let lower = bare.to_ascii_lowercase();
    let joint = joined(line, last);
    if let Some(joint) = &joint
        && (lower.ends_with("authorization") || lower.ends_with("cookie"))
    {
        return Found::of(header(line, &lower, joint));
    }
    if let Some(found) = forms::directive(line, first, last) {
        return Found::of(Some(found));
    }
    let telling = match telling(bare) {
        Some(_) if matches!(&*lower, "key" | "token") => {
            match word_before(line, first).map(|word| spaced(&word, &lower)) {
                Some(Spaced::Open) => return Found::until(last),
                Some(Spaced::Secret(telling)) => Some(telling),
                Some(Spaced::Unknown) | None => telling(bare),
            }
        }
        found => found,
    };
    let Some(telling) = telling else { return Found::default() };
    if telling.rule == "pin" {
        return Found::of(forms::pin(line, last));
    }
    if let Some(joint) = joint {
        return with_value(line, first, last, telling, &joint);
    }
    // `["--token", "x"]`: the next string of a list.
    let listed =
        ["\", \"", "\",\"", "', '", "','"].iter().find(|between| line[last..].starts_with(**between));
    if let Some(between) = listed.filter(|between| option && !line[last + between.len()..].starts_with('-')) {
        return Found::of(quoted_word(line, last + between.len() - 1, telling));
    }
    if option || is_directive(line, first, &lower) {
        if line[last..].trim() == "\\" {
            return Found::below(telling, Form::Word);
        }
        return Found::of(next_word(line, last, telling));
    }
    if let Some(span) = forms::call(line, first, last, telling) {
        return Found::of(Some(span));
    }
    let compound = bare.contains(['_', '-', '.']) || telling.certainty == Certainty::Sure;
    let quoted = compound || lower == "pass" || name == "SECRET";
    if quoted
        && !line[..first].ends_with('/')
        && let [b' ' | b'(', b'"' | b'\'', ..] = bytes[last..]
    {
        // SQL: `PASSWORD 'x'`, `PASSWORD('x')`; settings: `X-Shared-Secret "x"`.
        let found = quoted_word(line, last + 1, telling);
        // `UsernamePassword("bob", "x")`: what the name says first stands first.
        let second = found.filter(|_| lower.starts_with("user")).and_then(|user| {
            let quote = line[user.end + 1..].strip_prefix(", ")?.starts_with(['"', '\'']);
            quote.then(|| quoted_word(line, user.end + 3, telling)).flatten()
        });
        return Found::of(second.or(found));
    }
    let spoken = forms::last_word(line, first, last, telling)
        .or_else(|| table::cell(line, first, last, telling))
        .or_else(|| sentence::before(line, first, telling));
    if spoken.is_some() {
        return Found { span: spoken, until: last, ..Found::default() };
    }
    if let Some(form) = table::column(line, first, last) {
        return Found::below(telling, form);
    }
    told(line, last, telling)
}

/// What the sentence behind a name says.
fn told(line: &str, last: usize, telling: Telling) -> Found {
    if telling.certainty != Certainty::Possible {
        match sentence(line, last, telling) {
            Said::Value(span) => return Found::of(Some(span)),
            Said::Below => return Found::below(telling, Form::Word),
            Said::Nothing => {}
        }
        // `variable "db_password" {` of Terraform.
        if line[last..].trim_end() == "\" {" {
            return Found::below(telling, Form::Default);
        }
    }
    Found::of(nearby(line, last, telling))
}

/// The word before a name, in lower case, if only a blank stands between: `API key`, `message key`.
fn word_before(line: &str, first: usize) -> Option<String> {
    let before = line[..first].strip_suffix(' ')?;
    // `AES-256 key`: the size of a key says nothing of it.
    let before = before.trim_end_matches(|last: char| last.is_ascii_digit());
    let before = before.strip_suffix('-').unwrap_or(before);
    let word = before.rsplit(|c: char| !c.is_ascii_alphanumeric()).next().unwrap_or_default();
    (!word.is_empty() && word.len() <= 16).then(|| word.to_ascii_lowercase())
}

fn with_value(line: &str, first: usize, last: usize, telling: Telling, joint: &Joined) -> Found {
    // A closing tag has no value, and the name of a resource of AWS is none.
    if line[..first].ends_with("</") || within_arn(line, first) {
        return Found::until(last);
    }
    if let Some(length) = line.as_bytes().get(joint.at..).and_then(token_length) {
        let end = joint.at + length;
        return if line[end..].trim_end() == "\\" {
            Found { until: end, ..Found::below(telling, Form::Continued) }
        } else {
            Found::until(end)
        };
    }
    let rest = line[joint.at..].trim_end();
    match rest {
        "" if joint.joint == Joint::Element => return Found::below(telling, Form::Element),
        "" if joint.tagged => return Found::below(telling, Form::Tagged),
        "" => return Found::below(telling, Form::Word),
        "\\" => return Found::below(telling, Form::Continued),
        "|" | ">" | "|-" | ">-" | "|+" | ">+" | "!vault |" => return Found::below(telling, Form::Block),
        _ => {}
    }
    let Some(value) = value(line, joint.at, joint.joint) else { return Found::default() };
    let text = &line[value.start..value.end];
    if is_token(text) {
        return Found::until(value.end);
    }
    let element = joint.joint == Joint::Element;
    // `Password={x};` of ODBC.
    let braced = joint.joint == Joint::Equals && line[value.start..].starts_with('{');
    let inner = line[value.start..].split(['{', '}']).nth(1).filter(|_| braced).unwrap_or_default();
    if telling.certainty == Certainty::Sure
        && !inner.contains([' ', '"', '\'', ':', ','])
        && sentence::is_chosen(inner)
    {
        return Found::of(Some(Span::new(value.start + 1, value.start + 1 + inner.len(), telling.rule)));
    }
    let opens = !value.quoted && !element && text.starts_with(['{', '[']) && !text.starts_with("[secret:");
    let program = matches!(&line[first..last], "passwd" | "chpasswd") && joint.joint == Joint::Colon;
    let strange = program && !value.quoted && rest.contains(' ');
    // `jwt: alg=HS256 kid=1`: fields of their own.
    let field = telling.certainty == Certainty::Possible && !value.quoted && is_field(text);
    let plain = is_bare_key(line, first, last, telling) && !is_drawn_key(text);
    if opens
        || strange
        || plain
        || field
        || is_harmless(text, telling.certainty, value.quoted) && !is_code(&telling, joint, text)
    {
        let sure = telling.certainty == Certainty::Sure && !opens && !strange;
        return if sure { Found::of(nearby(line, last, telling)) } else { Found::default() };
    }
    if telling.rule == "signature" && text.len() < SIGNATURE_BYTES {
        return Found::default();
    }
    // `the secret key: x`: the phrase begins a word earlier.
    let kind = (&line[first..last] == "key" && telling.certainty != Certainty::Possible)
        .then(|| line[..first].trim_end().rfind(' '));
    let phrase = kind.map_or(first, |blank| blank.map_or(0, |at| at + 1));
    // `-passin pass:x` of openssl has no blank behind the colon.
    let argument = &line[first..last] == "pass" && value.start == last + 1;
    let prose = !value.quoted && joint.joint == Joint::Colon && !argument && in_prose(line, phrase);
    if prose && telling.certainty != Certainty::Sure && !is_secretish(text) {
        return Found::default();
    }
    let quoting = match (value.quoted, joint.name_quote) {
        (true, _) => Quoting::None,
        (false, quote) => quote,
    };
    let quoting = if joint.joint == Joint::Equals { Quoting::None } else { quoting };
    let rule = if line[..first].ends_with("Generated root user ") { "iggy-password" } else { telling.rule };
    let known = telling.certainty != Certainty::Possible || is_secretish(text);
    let end = if value.quoted { value.end } else { assignment_end(line, first, value.end) };
    let found = Found::of(Some(Span::new(value.start, end, rule).quoting(quoting).known(known)));
    let goes_on = !value.quoted && text.ends_with('\\') && line[value.end..].trim().is_empty();
    if goes_on && text.len() > 1 {
        let span = Span::new(value.start, value.end - 1, rule).known(known);
        return Found { span: Some(span), ..Found::below(telling, Form::Continued) };
    }
    found
}

/// `"NAME=a value with blanks"` of a unit or a shell: the value goes up to the quote that stands before the name.
fn assignment_end(line: &str, first: usize, end: usize) -> usize {
    let variable = line[first..].bytes().take_while(|byte| *byte != b'=');
    let named = variable.clone().count() > 1
        && variable.clone().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_');
    let quote = line[..first].bytes().next_back().filter(|quote| matches!(quote, b'"' | b'\''));
    let Some(quote) = quote.filter(|_| named) else { return end };
    let rest = line.as_bytes()[end..].iter().take(NAME_BYTES);
    let close = rest.take_while(|byte| **byte != quote).count();
    let close = if line.as_bytes().get(end + close) == Some(&quote) { end + close } else { end };
    if line[end..close].contains('=') { end } else { close }
}

/// Whether the word that goes on at `at` is the name of a resource: `arn:aws:secretsmanager:eu-west-1:1:secret:x`.
fn within_arn(line: &str, at: usize) -> bool {
    let before = &line.as_bytes()[at.saturating_sub(NAME_BYTES)..at];
    let word =
        before.iter().rev().take_while(|byte| byte.is_ascii_alphanumeric() || b":-_/.*".contains(byte));
    line[..at][at - word.count()..].starts_with("arn:")
}

fn is_field(text: &str) -> bool {
    let name = text.bytes().take_while(|byte| byte.is_ascii_lowercase() || *byte == b'_').count();
    name > 0 && text.as_bytes().get(name) == Some(&b'=') && text.len() > name + 2
}

/// A `key` alone names entries of maps, messages and caches more often than secrets.
fn is_bare_key(line: &str, first: usize, last: usize, telling: Telling) -> bool {
    telling.certainty == Certainty::Possible && line[first..last].eq_ignore_ascii_case("key")
}

fn is_drawn_key(text: &str) -> bool {
    is_random(text) || text.len() >= KEY_BYTES && is_secretish(text)
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
        "password" => line[..first].split_whitespace().rev().nth(1) == Some("login"),
        _ => false,
    }
}

pub(super) fn next_word(line: &str, last: usize, telling: Telling) -> Option<Span> {
    let bytes = line.as_bytes();
    let at = skip_blanks(bytes, last + usize::from(bytes.get(last) == Some(&0)));
    if at > last { quoted_word(line, at, telling) } else { None }
}

pub(super) fn quoted_word(line: &str, at: usize, telling: Telling) -> Option<Span> {
    let value = value(line, at, Joint::Equals)?;
    let text = &line[value.start..value.end];
    let shown = (text.starts_with('-') || text == "\\") && !value.quoted
        || is_token(text)
        || is_harmless(text, telling.certainty, value.quoted);
    (!shown).then(|| Span::new(value.start, value.end, telling.rule))
}

/// `IGGY_X value changed to: Y from environment variable`, as Iggy logs its settings.
pub(super) fn value_changed(line: &str, start: usize, at: usize, spans: &mut Vec<Span>) -> usize {
    let before = line[..start].trim_end();
    let name = before.rsplit(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).next().unwrap_or_default();
    let rest = &line[at..];
    let value = rest.find(" from environment").map_or(rest, |end| &rest[..end]).trim_end();
    let known = telling(name).is_some();
    if let Some(rule) = environment::rule(name).filter(|_| name.starts_with("IGGY_") || known)
        && !environment::shown(name, value)
        && !is_token(value)
        && !is_harmless(value, Certainty::Sure, false)
    {
        spans.push(Span::new(at, at + value.len(), rule).known(known || is_secretish(value)));
        return at + value.len();
    }
    at
}
