//! Private keys in PEM, whole or cut at either end, over lines or in one line with written line ends.

use super::placeholders::{is_token, token_length};
use super::span::Span;

const RULE: &str = "private-key";
/// A line of a key that has its own prefix (a log's time and host) is recognized by a word of at least this size.
const WORD_BYTES: usize = 24;
/// RSA of 16,384 bits takes 200 lines; what is further from the end line belongs to something else.
const LINES: usize = 400;

/// The length of a `-----BEGIN ... PRIVATE KEY-----` (or END) line that `text` starts with; `None` for certificates.
pub(super) fn private_label(text: &str) -> Option<usize> {
    let label = text.strip_prefix("-----BEGIN ").or_else(|| text.strip_prefix("-----END "))?;
    let opening = text.len() - label.len();
    let end = label.as_bytes().iter().take(64).position(|byte| *byte == b'-')?;
    let private = label[..end].contains("PRIVATE KEY") || label[..end].contains("Static key");
    (private && label[end..].starts_with("-----")).then_some(opening + end + 5)
}

/// Masks what follows a BEGIN line that ends at `at`; says where to go on, and whether the key goes on below.
pub(super) fn after_begin(text: &str, at: usize, spans: &mut Vec<Span>) -> (usize, bool) {
    let line_end = text[at..].find('\n').map_or(text.len(), |end| at + end);
    let rest = &text[at..line_end];
    let content = rest.trim_matches(['\r', ' ', '\t']);
    if content.is_empty() {
        return (line_end, true);
    }
    if content.starts_with(['"', '\'', '<', ',']) {
        return (at, false);
    }
    // Written line ends: everything up to the END line, or to the end of the string, is the key.
    let end = rest.find("-----END").or_else(|| rest.find(['"', '\'', '<'])).unwrap_or(rest.len());
    let bytes = rest.as_bytes();
    let mut start = 0;
    while start < end {
        let break_length = written_break(&bytes[start..end]);
        if break_length == 0 {
            break;
        }
        start += break_length;
    }
    let mut last = end;
    while last > start
        && b"\\nr \t\r".contains(&bytes[last - 1])
        && (bytes[last - 1] == b'\\'
            || !bytes[last - 1].is_ascii_alphabetic()
            || last >= 2 && bytes[last - 2] == b'\\')
    {
        last -= 1;
    }
    // A sentence that only names the line goes on with words.
    let key = rest[start..]
        .bytes()
        .take(16)
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=\\".contains(byte))
        .count();
    if start < last && (key == 16 || rest[end..].starts_with("-----END")) && !is_token(&rest[start..last]) {
        spans.push(Span::new(at + start, at + last, RULE));
    }
    (at + end, false)
}

/// Length of a line end that is written out, or of blanks.
fn written_break(bytes: &[u8]) -> usize {
    let backslashes = bytes.iter().take_while(|byte| **byte == b'\\').count();
    match bytes.get(backslashes) {
        Some(b'n' | b'r') if backslashes > 0 => backslashes + 1,
        Some(b' ' | b'\t' | b'\r') if backslashes == 0 => 1,
        Some(_) | None => 0,
    }
}

/// Masks the lines of a key from `at` (the start of a line) on; says where the key ends, or that the text ended first.
pub(super) fn inside(text: &str, mut at: usize, spans: &mut Vec<Span>) -> (usize, bool) {
    let mut column = None;
    while at < text.len() {
        let end = text[at..].find('\n').map_or(text.len(), |end| at + end);
        let line = text[at..end].trim_end_matches(['\r', ' ']);
        if line.contains("-----") {
            return (at, false);
        }
        match content(line, column) {
            Content::Key(start) => {
                column = Some(start);
                spans.push(Span::new(at + start, at + line.len(), RULE));
            }
            Content::Masked | Content::Header => {}
            Content::Other => return (at, false),
        }
        at = (end + 1).min(text.len());
        if end == text.len() {
            break;
        }
    }
    (at, true)
}

/// Masks the lines above an END line that starts at `at` without a BEGIN: the key was cut at its start.
pub(super) fn before_end(text: &str, at: usize, floor: usize, spans: &mut Vec<Span>) {
    let line_start = text[..at].rfind('\n').map_or(0, |end| end + 1);
    let before = &text.as_bytes()[line_start.max(floor)..at];
    let written = before
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_alphanumeric() || b"+/=\\".contains(byte))
        .count();
    if written >= WORD_BYTES && before.ends_with(b"n") {
        spans.push(Span::new(at - written, at, RULE));
        return;
    }
    let mut end = line_start;
    let column = at - line_start;
    for step in 0..LINES {
        if end == 0 || end <= floor {
            return;
        }
        let start = text[..end - 1].rfind('\n').map_or(0, |start| start + 1);
        let line = text[start..end - 1].trim_end_matches(['\r', ' ']);
        match content(line, Some(column)) {
            // Only the last line of a key is short.
            Content::Key(place) if step == 0 || line.len() - place >= WORD_BYTES => {
                spans.push(Span::new(start + place, start + line.len(), RULE));
            }
            Content::Masked => {}
            Content::Key(_) | Content::Header | Content::Other => return,
        }
        end = start;
    }
}

/// Length of a text of whole lines without the lines at its end that may belong to a key whose end is still to come.
pub(super) fn without_open_end(text: &str) -> usize {
    let mut end = text.len();
    for _ in 0..LINES {
        let start = text[..end.saturating_sub(1)].rfind('\n').map_or(0, |start| start + 1);
        let line = text[start..end].trim_end_matches(['\n', '\r', ' ']);
        let key = matches!(content(line, None), Content::Key(place) if line.len() - place >= WORD_BYTES);
        if !key {
            return end;
        }
        end = start;
        if end == 0 {
            break;
        }
    }
    // More lines than a key has.
    text.len()
}

enum Content {
    /// A part of the key begins at this column.
    Key(usize),
    Masked,
    /// Blank, or `Proc-Type: 4,ENCRYPTED` and the like.
    Header,
    Other,
}

fn content(line: &str, column: Option<usize>) -> Content {
    if line.trim().is_empty() {
        return Content::Header;
    }
    let start = line.rfind([' ', '\t', '>', '|']).map_or(0, |blank| blank + 1);
    let word = &line[start..];
    if word.contains("[secret:private-key:")
        && line.find("[secret:").and_then(|at| token_length(&line.as_bytes()[at..])).is_some()
    {
        return Content::Masked;
    }
    if ["Proc-Type:", "DEK-Info:", "Comment:", "Version:"].iter().any(|header| line.contains(header)) {
        return Content::Header;
    }
    let base64 =
        !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=".contains(&byte));
    let alone = line[..start].bytes().all(|byte| byte.is_ascii_whitespace());
    if base64 && (alone || word.len() >= WORD_BYTES || column == Some(start)) {
        Content::Key(start)
    } else {
        Content::Other
    }
}

#[cfg(test)]
mod tests {
    use crate::{Redactor, Shape};

    const LINES: [&str; 3] = [
        "MIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj",
        "MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu",
        "NMoSfm76oqFvAp8Gy0iz5sxj",
    ];

    fn key(label: &str, line_end: &str) -> String {
        format!(
            "-----BEGIN {label}-----{line_end}{}{line_end}-----END {label}-----{line_end}",
            LINES.join(line_end)
        )
    }

    fn masked(shape: Shape, text: &str) -> String {
        let redactor = Redactor::new([3; 32]);
        let masked = redactor.redact(shape, text).into_owned();
        assert_eq!(masked.matches('\n').count(), text.matches('\n').count(), "{masked}");
        assert_eq!(redactor.redact(shape, &masked), masked);
        for line in LINES {
            assert!(!masked.contains(line) && !masked.contains(&line[..20]), "{masked}");
        }
        masked
    }

    #[test]
    fn a_private_key_of_any_kind_is_masked_line_by_line() {
        for label in [
            "PRIVATE KEY",
            "RSA PRIVATE KEY",
            "ENCRYPTED PRIVATE KEY",
            "OPENSSH PRIVATE KEY",
            "PGP PRIVATE KEY BLOCK",
        ] {
            for line_end in ["\n", "\r\n"] {
                let text = masked(Shape::Plain, &format!("before\n{}after\n", key(label, line_end)));
                assert!(
                    text.starts_with("before\n-----BEGIN ") && text.ends_with("-----\nafter\n")
                        || line_end == "\r\n",
                    "{text}"
                );
            }
        }
    }

    #[test]
    fn a_key_cut_at_either_end_is_masked() {
        let whole = key("PRIVATE KEY", "\n");
        let without_end = &whole[..whole.find("-----END").unwrap()];
        assert!(
            masked(Shape::Log, &format!("{without_end}2026 INFO and on\n"))
                .ends_with("]\n2026 INFO and on\n")
        );
        masked(Shape::Log, without_end.trim_end());
        let without_begin = &whole[28..];
        assert!(
            masked(Shape::Log, &format!("INFO x\n{without_begin}INFO y\n"))
                .starts_with("INFO x\n[secret:private-key:")
        );
        masked(Shape::Log, without_begin);
    }

    #[test]
    fn a_key_in_one_line_is_masked_to_the_end_of_its_string() {
        for line_end in ["\\n", "\\r\\n", "\\\\n", " "] {
            let text = format!("{{\"a\":\"{}\",\"b\":1}}", key("PRIVATE KEY", line_end));
            let masked = masked(Shape::Json, &text);
            assert!(
                masked.contains("-----BEGIN PRIVATE KEY-----") && masked.ends_with(",\"b\":1}"),
                "{masked}"
            );
            let cut = masked_cut(&text);
            assert!(cut.contains("[secret:private-key:"), "{cut}");
        }
    }

    fn masked_cut(text: &str) -> String {
        masked(Shape::Log, &text[..text.find("-----END").unwrap()])
    }

    #[test]
    fn the_lines_of_a_key_may_have_a_prefix() {
        let text: String = key("EC PRIVATE KEY", "\n")
            .lines()
            .map(|line| format!("Nov 21 11:00:01 host app[7]: {line}\n"))
            .collect();
        assert!(masked(Shape::Log, &text).contains("app[7]: [secret:private-key:"));
        let indented: String =
            key("RSA PRIVATE KEY", "\n").lines().map(|line| format!("    {line}\n")).collect();
        masked(Shape::Yaml, &format!("tls:\n  key: |\n{indented}other: 1\n"));
    }

    #[test]
    fn a_toml_string_of_lines_and_a_variable_hold_keys_too() {
        masked(Shape::Toml, &format!("a = \"\"\"\n{}\"\"\"\nb = 1\n", key("PRIVATE KEY", "\n")));
        masked(Shape::Environ, &format!("TLS={}\0PATH=/bin\0", key("PRIVATE KEY", "\n")));
        masked(Shape::Log, &format!("TLS=\"{}\"", key("PRIVATE KEY", "\n").trim_end()));
    }
}
