//! Masks files of any size, piece by piece, in memory that does not grow with them.

use std::borrow::Cow;
use std::io::{self, Read, Write};

use super::scanner::{Carry, Scanner};
use super::span::{Span, replace};
use super::{Redactor, Shape, pem};

/// Lines are masked together up to this size: enough that a key which spans lines is rarely cut.
const CHUNK_BYTES: usize = 256 << 10;
/// Of a line longer than a chunk, what was already written is read again: names and addresses are not longer.
const BEFORE_BYTES: usize = 8 << 10;
/// And what is not yet written is read ahead, so that a secret at the cut is seen whole.
const AHEAD_BYTES: usize = 16 << 10;
/// At the end of a chunk, lines of a key are held back up to this size: an RSA key of 16,384 bits has 13 KB.
const HELD_BYTES: usize = 64 << 10;
/// TOML, JSON, YAML and the like need the whole text to be understood; they are settings, and not larger.
const WHOLE_BYTES: usize = 8 << 20;

/// How much went through.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Copied {
    pub read: u64,
    pub written: u64,
}

impl Redactor {
    /// Masks what `reader` gives into `writer`. Logs and plain text may have any size; a text of another shape is
    /// refused when it is larger than 8 MiB, for it could not be masked as what it is.
    pub fn copy(&self, shape: Shape, mut reader: impl Read, mut writer: impl Write) -> io::Result<Copied> {
        let mut copy = Copy { redactor: self, shape, pending: Vec::new(), copied: Copied::default() };
        if matches!(shape, Shape::Log | Shape::Plain) {
            copy.pending.reserve(2 * CHUNK_BYTES);
            copy.lines(&mut reader, &mut writer)?;
        } else {
            copy.whole(&mut reader, &mut writer)?;
        }
        writer.flush()?;
        Ok(copy.copied)
    }
}

struct Copy<'r> {
    redactor: &'r Redactor,
    shape: Shape,
    /// Read, and not yet done with.
    pending: Vec<u8>,
    copied: Copied,
}

impl Copy<'_> {
    /// Reads until `bytes` are pending; whether the input is over.
    fn fill(&mut self, reader: &mut impl Read, bytes: usize) -> io::Result<bool> {
        let missing = bytes.saturating_sub(self.pending.len());
        let read = reader.by_ref().take(missing as u64).read_to_end(&mut self.pending)?;
        self.copied.read += read as u64;
        Ok(read < missing)
    }

    fn write(&mut self, writer: &mut impl Write, text: &str) -> io::Result<()> {
        self.copied.written += text.len() as u64;
        writer.write_all(text.as_bytes())
    }

    fn whole(&mut self, reader: &mut impl Read, writer: &mut impl Write) -> io::Result<()> {
        let over = self.fill(reader, WHOLE_BYTES + 1)?;
        if !over {
            let shape = self.shape;
            return Err(io::Error::other(format!(
                "withheld: more than {} MiB cannot be masked as {shape:?}",
                WHOLE_BYTES >> 20
            )));
        }
        let pending = std::mem::take(&mut self.pending);
        let text = text(&pending);
        self.write(writer, &self.redactor.redact(self.shape, &text))
    }

    fn lines(&mut self, reader: &mut impl Read, writer: &mut impl Write) -> io::Result<()> {
        let mut carry = Carry::default();
        loop {
            let over = self.fill(reader, CHUNK_BYTES)?;
            let end = if over { self.pending.len() } else { whole_lines(&self.pending) };
            if end == 0 && !over {
                self.long_line(reader, writer)?;
                continue;
            }
            let pending = std::mem::take(&mut self.pending);
            let text = text(&pending[..end]);
            let masked = self.redactor.redact_on(self.shape, &text, &mut carry);
            self.write(writer, &masked)?;
            drop(masked);
            drop(text);
            self.pending = pending;
            self.pending.drain(..end);
            if over {
                return Ok(());
            }
        }
    }

    /// A line that does not fit a chunk, up to and without its end.
    fn long_line(&mut self, reader: &mut impl Read, writer: &mut impl Write) -> io::Result<()> {
        // Bytes at the front that are written already, and whether the value they end with goes on.
        let (mut before, mut goes_on) = (0, false);
        loop {
            let over = self.fill(reader, before + CHUNK_BYTES)?;
            let line_end = memchr::memchr(b'\n', &self.pending[before..]).map(|end| before + end);
            let last = over || line_end.is_some();
            let window = line_end.unwrap_or(self.pending.len());
            let rest = self.pending.split_off(window);
            let (text, cut_off) = text_of(std::mem::take(&mut self.pending), last);
            let rest = [cut_off, rest].concat();
            let from = if goes_on { before + value_length(&text[before..]) } else { before };
            if goes_on && from == text.len() && !last {
                // All of it belongs to a value that is masked.
                before = text.len();
                self.keep(text, &rest, &mut before);
                continue;
            }
            let spans = match Scanner::shared() {
                Some(scanner) => self.redactor.find(scanner, self.shape, &text, &mut Carry::default()),
                None => Vec::new(),
            };
            let cut = if last { text.len() } else { cut(&text, from, &spans) };
            let within: Vec<Span> = spans
                .into_iter()
                .filter(|span| span.end > from && span.start < cut)
                .map(|span| Span {
                    start: span.start.max(from) - from,
                    end: span.end.min(cut) - from,
                    ..span
                })
                .collect();
            goes_on = !last && within.last().is_some_and(|span| span.end == cut - from) && cut == text.len();
            let redactor = self.redactor;
            let masked = replace(&text[from..cut], &within, |span, value| redactor.mask(span, value));
            // What was joined only by the cut is looked at once more.
            let masked = redactor.redact(self.shape, &masked).into_owned();
            self.write(writer, &masked)?;
            if last {
                self.pending = [&text.as_bytes()[cut..], &rest].concat();
                return Ok(());
            }
            before = cut;
            self.keep(text, &rest, &mut before);
        }
    }

    /// Keeps of `text` what is to be read again before `before`, and everything after it.
    fn keep(&mut self, text: String, rest: &[u8], before: &mut usize) {
        let first = boundary(&text, before.saturating_sub(BEFORE_BYTES));
        *before -= first;
        self.pending = text.into_bytes();
        self.pending.drain(..first);
        self.pending.extend_from_slice(rest);
    }
}

/// The bytes as text, and of bytes that go on, the character that is cut at their end.
fn text_of(mut bytes: Vec<u8>, last: bool) -> (String, Vec<u8>) {
    // No character has more than three bytes before its last one.
    let cut_off = (1..=3.min(bytes.len())).find(|back| {
        let tail = std::str::from_utf8(&bytes[bytes.len() - back..]);
        tail.is_err_and(|error| error.valid_up_to() == 0 && error.error_len().is_none())
    });
    let tail = cut_off.filter(|_| !last).map_or(Vec::new(), |back| bytes.split_off(bytes.len() - back));
    let text = String::from_utf8(bytes)
        .unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned());
    (text, tail)
}

/// Where to cut a text that goes on: not inside a secret, unless that fills all of it.
fn cut(text: &str, from: usize, spans: &[Span]) -> usize {
    let cut = boundary(text, text.len().saturating_sub(AHEAD_BYTES).max(from));
    match spans.iter().find(|span| span.start < cut && span.end > cut) {
        Some(span) if span.start > from => span.start,
        Some(span) if span.end < text.len() => span.end,
        Some(_) => text.len(),
        None => cut,
    }
}

fn boundary(text: &str, mut at: usize) -> usize {
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// How far a value goes on that is longer than a chunk.
fn value_length(text: &str) -> usize {
    text.find(|c: char| c.is_whitespace() || matches!(c, '"' | '\'' | '`' | '<')).unwrap_or(text.len())
}

/// Whole lines, without those at the end that may be a key whose end line is still to come.
fn whole_lines(bytes: &[u8]) -> usize {
    let Some(end) = memchr::memrchr(b'\n', bytes).map(|end| end + 1) else { return 0 };
    // Only the end is looked at; what is no text there is no key either.
    let from = end.saturating_sub(HELD_BYTES);
    let from = memchr::memchr(b'\n', &bytes[from..end]).map_or(end, |start| from + start + 1);
    std::str::from_utf8(&bytes[from..end]).map_or(end, |held| from + pem::without_open_end(held))
}

/// Valid UTF-8 is by far the usual case, and cheap to know.
fn text(bytes: &[u8]) -> Cow<'_, str> {
    std::str::from_utf8(bytes).map_or_else(|_| String::from_utf8_lossy(bytes), Cow::Borrowed)
}

#[cfg(test)]
mod tests {
    use super::super::test_rng::Draws;
    use super::*;

    /// A reader that gives what it likes.
    struct Bits<'t>(&'t [u8], Draws);

    impl Read for Bits<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
            let length = (1 + self.1.below(9000)).min(buffer.len()).min(self.0.len());
            buffer[..length].copy_from_slice(&self.0[..length]);
            self.0 = &self.0[length..];
            Ok(length)
        }
    }

    fn copied(shape: Shape, bytes: &[u8]) -> String {
        let redactor = Redactor::new([5; 32]);
        let mut out = Vec::new();
        let copied = redactor.copy(shape, Bits(bytes, Draws::new(7)), &mut out).unwrap();
        assert_eq!((copied.read, copied.written), (bytes.len() as u64, out.len() as u64));
        String::from_utf8(out).unwrap()
    }

    fn line(number: usize) -> String {
        format!(
            "2026-11-21T11:09:24.599286Z  INFO shard-{} server::http: request path=/stats status=200 n={number}\n",
            number % 8
        )
    }

    #[test]
    fn a_log_of_any_length_comes_out_as_it_does_in_one_piece() {
        let mut text = String::new();
        for number in 0..20_000 {
            text.push_str(&line(number));
            match number % 97 {
                3 => text.push_str(&format!("WARN Generated root user password: canary{number}x7\n")),
                5 => text.push_str("INFO dial postgres://app:canaryUrl9@db/x, ünï¢ode\r\n"),
                _ => {}
            }
        }
        let whole = Redactor::new([5; 32]).redact(Shape::Log, &text).into_owned();
        let copied = copied(Shape::Log, text.as_bytes());
        assert_eq!(copied, whole);
        assert!(!copied.contains("canary") && copied.len() > 7 * CHUNK_BYTES);
        assert_eq!(copied.lines().count(), text.lines().count());
    }

    #[test]
    fn a_key_across_the_cut_is_masked_also_without_its_first_line() {
        let body = "MIICANARY7nOtArEaLkEyBuTlOnGeNoUgHtOlOoKlIkEoNe0123456789abcdefg\n".repeat(20);
        for (begin, end) in [
            ("-----BEGIN PRIVATE KEY-----\n", "-----END PRIVATE KEY-----\n"),
            ("", "-----END PRIVATE KEY-----\n"),
            ("-----BEGIN PRIVATE KEY-----\n", ""),
        ] {
            for back in [1300, 700, 200, 20, 0] {
                let mut text = String::new();
                while text.len() < CHUNK_BYTES - back {
                    text.push_str(&line(text.len()));
                }
                text.push_str(&format!("{begin}{body}{end}"));
                text.push_str(&line(1).repeat(5000));
                assert!(!copied(Shape::Log, text.as_bytes()).contains("CANARY"), "{back} {begin}{end}");
            }
        }
    }

    #[test]
    fn a_secret_anywhere_in_a_line_without_end_is_masked() {
        let filler = "some words, numbers 12345 and ünï¢ode; ";
        let secrets = [
            "password=\"canary one two\"",
            "postgres://app:canaryPw@db/x",
            "{\"api_key\":\"canary-1234-5678\"}",
            "token=canary1234abcd",
        ];
        let mut text = String::new();
        let mut draws = Draws::new(11);
        let mut planted = 0;
        while text.len() < 10 * CHUNK_BYTES {
            for _ in 0..draws.below(40) {
                text.push_str(filler);
            }
            text.push_str(secrets[draws.below(secrets.len())]);
            text.push(' ');
            planted += 1;
        }
        for end in ["", "\n", "\nlast line\n"] {
            let out = copied(Shape::Log, format!("{text}{end}").as_bytes());
            assert!(
                !out.contains("canary"),
                "{:?}",
                out.find("canary").map(|at| &out[at.saturating_sub(80)..at + 40])
            );
            assert_eq!(out.matches("[secret:").count(), planted);
            assert_eq!(out.matches("ünï¢ode").count(), text.matches("ünï¢ode").count());
            assert!(out.ends_with(end));
        }
    }

    #[test]
    fn a_value_longer_than_any_piece_is_masked_to_its_end() {
        let value = "canary7".repeat(CHUNK_BYTES);
        let out = copied(Shape::Log, format!("INFO password=\"{value}\" user=bob\nnext\n").as_bytes());
        assert!(!out.contains("canary") && out.len() < 1000, "{}", out.len());
        assert!(out.ends_with("\" user=bob\nnext\n"), "{out}");
    }

    #[test]
    fn settings_are_masked_as_a_whole_and_refused_when_too_large() {
        assert_eq!(
            copied(Shape::Json, b"{\n \"password\":\n  \"canary\"\n}"),
            "{\n \"password\":\n  \"[secret:password:cb0ca548]\"\n}"
        );
        let large = vec![b' '; WHOLE_BYTES + 1];
        let error = Redactor::new([5; 32]).copy(Shape::Toml, &large[..], io::sink()).unwrap_err();
        assert_eq!(error.to_string(), "withheld: more than 8 MiB cannot be masked as Toml");
    }

    #[test]
    fn bytes_that_are_no_text_come_through_as_such() {
        let out = copied(Shape::Log, b"a\xff\xfeb password=canary1\nc\xc3\n");
        assert!(
            out.starts_with("a\u{fffd}\u{fffd}b password=[secret:") && out.ends_with("]\nc\u{fffd}\n"),
            "{out}"
        );
    }
}
