//! Texts inside a text: the commands of a line, and strings of a document, which are read without their escapes.

use super::json;
use super::scanner::{Carry, Scanner};
use super::span::{Quoting, Span};

/// The time, host and program of a line of a log end so soon, with `]: `.
const HEAD_BYTES: usize = 128;
/// Most parts and strings of one line that are read on their own.
const PARTS: usize = 64;
/// Shorter strings hold no name and value.
const STRING_BYTES: usize = 8;

/// The parts of a line that could be lines of their own, divided by `; `, ` | `, ` && ` and ` || `, each behind the
/// head that a log gives it, with the places where they begin; none if the line is undivided and without a head.
pub(super) fn parts(line: &str) -> Vec<(usize, &str)> {
    let bytes = line.as_bytes();
    let mut found = Vec::new();
    let mut start = 0;
    let mut add = |start: usize, end: usize| {
        let part = &bytes[start..end];
        let head = part[..part.len().min(HEAD_BYTES)].windows(3).position(|sign| sign == b"]: ");
        let start = start + head.map_or(0, |head| head + 3);
        if (start, end) != (0, line.len()) {
            found.push((start, &line[start..end]));
        }
        found.len()
    };
    for at in memchr::memchr3_iter(b';', b'|', b'&', bytes) {
        let before = at.checked_sub(1).map(|before| bytes[before]);
        let blank = |at: usize| bytes.get(at) == Some(&b' ');
        let (from, to) = match bytes[at] {
            b';' if blank(at + 1) => (at, at + 2),
            b'|' if before == Some(b' ') && blank(at + 1) => (at - 1, at + 2),
            sign @ (b'|' | b'&')
                if before == Some(b' ') && bytes.get(at + 1) == Some(&sign) && blank(at + 2) =>
            {
                (at - 1, at + 3)
            }
            _ => continue,
        };
        if from < start {
            continue;
        }
        let parts = add(start, from);
        start = to;
        if parts == PARTS {
            break;
        }
    }
    add(start, line.len());
    found
}

/// The values among the strings of a line that is a JSON object.
pub(super) fn strings(line: &str) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    if !line.trim_start().starts_with('{') {
        return found;
    }
    let bytes = line.as_bytes();
    let mut at = 0;
    while let Some(open) = memchr::memchr(b'"', &bytes[at..]).filter(|_| found.len() < PARTS) {
        let start = at + open + 1;
        let end = json::string_end(bytes, start);
        let key = bytes[(end + 1).min(bytes.len())..].iter().find(|byte| **byte != b' ') == Some(&b':');
        if !key {
            found.push((start, end));
        }
        at = (end + 1).min(bytes.len());
    }
    found
}

/// Secrets in the string at `start..end`, which is a text of its own; `escaped` says whether a backslash is an escape.
pub(super) fn string(text: &str, start: usize, end: usize, escaped: bool, spans: &mut Vec<Span>) {
    let Some(scanner) = Scanner::shared() else { return };
    let Some(content) = text.get(start..end).filter(|content| content.len() >= STRING_BYTES) else { return };
    let mut found = Vec::new();
    if !escaped || !content.contains('\\') {
        scanner.text(content, &mut Carry::default(), &mut found);
        spans.extend(found.iter().map(|span| requoted(span.moved(start))));
        return;
    }
    let (decoded, pieces) = decoded(content);
    scanner.text(&decoded, &mut Carry::default(), &mut found);
    let raw = |at: usize| {
        let piece = pieces.partition_point(|(text, _)| *text <= at);
        piece.checked_sub(1).map_or(0, |piece| pieces[piece].1 + at - pieces[piece].0)
    };
    spans.extend(found.into_iter().map(|span| {
        let last = if span.end >= decoded.len() { content.len() } else { raw(span.end) };
        requoted(Span { start: start + raw(span.start), end: start + last, ..span })
    }));
}

/// Quotes inside a string are escaped.
fn requoted(span: Span) -> Span {
    span.quoting(match span.quoting {
        Quoting::Double => Quoting::Escaped,
        Quoting::None | Quoting::Escaped => Quoting::None,
    })
}

/// A string without its escapes, and where its pieces begin in it and in what was written.
fn decoded(content: &str) -> (String, Vec<(usize, usize)>) {
    let (mut out, mut pieces) = (String::with_capacity(content.len()), vec![(0, 0)]);
    let mut rest = content;
    while let Some(at) = rest.find('\\') {
        out.push_str(&rest[..at]);
        let escape = &rest[at..];
        let letter = escape.chars().nth(1);
        let (sign, length) = match letter {
            Some('n') => ('\n', 2),
            Some('t') => ('\t', 2),
            Some('r') => ('\r', 2),
            Some('u') => {
                let code = escape.get(2..6).and_then(|digits| u32::from_str_radix(digits, 16).ok());
                code.map_or(('\\', 1), |code| (char::from_u32(code).unwrap_or('\u{fffd}'), 6))
            }
            Some(other) => (other, 1 + other.len_utf8()),
            None => ('\\', 1),
        };
        pieces.push((out.len(), content.len() - rest.len() + at));
        out.push(sign);
        rest = &rest[at + length..];
        pieces.push((out.len(), content.len() - rest.len()));
    }
    out.push_str(rest);
    (out, pieces)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Redactor, Shape};

    #[test]
    fn a_string_of_a_document_is_read_without_its_escapes() {
        let (text, pieces) = decoded(r#"a\tb\"ü\u00e9c"#);
        assert_eq!(text, "a\tb\"üéc");
        assert_eq!(pieces.last(), Some(&(8, 14)));
        let masked = |shape, text: &str| Redactor::new([1; 32]).redact(shape, text).into_owned();
        for (shape, text) in [
            (Shape::Json, r#"{"a":["password\ttab-pw-1"],"b":"PASSWORD IS: sent-pw-1"}"#),
            (Shape::Toml, "a = [\"password\\ttab-pw-1\"]\nb = 'PASSWORD IS: sent-pw-1'\n"),
            (Shape::Yaml, "a:\n  - \"password\\ttab-pw-1\"\nb: 'PASSWORD IS: sent-pw-1'\n"),
            (Shape::Log, r#"{"a":"password\ttab-pw-1","b":"PASSWORD IS: sent-pw-1","n":1}"#),
        ] {
            let masked = masked(shape, text);
            assert!(!masked.contains("tab-pw-1") && !masked.contains("sent-pw-1"), "{masked}");
        }
    }

    #[test]
    fn each_command_of_a_line_is_read() {
        let text = "cd /srv; smtp_password hunter22x && true | radius_secret horse-4711";
        let masked = Redactor::new([1; 32]).redact(Shape::Log, text).into_owned();
        assert!(!masked.contains("hunter22x") && !masked.contains("horse-4711"), "{masked}");
        assert_eq!(parts("a b"), []);
        assert_eq!(parts("a; b | c"), [(0, "a"), (3, "b"), (7, "c")]);
        assert_eq!(parts("h a[1]: b"), [(8, "b")]);
        assert_eq!(parts("a ; h b[1]: c"), [(0, "a "), (12, "c")]);
    }
}
