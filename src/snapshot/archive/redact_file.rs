//! Texts of the data directory as they may leave the host.

use std::io::{self, Write};

use warden_redact::{Anonymizer, Redactor, Shape};

use super::file_kind::{Content, shape};
use super::file_list::{Entry, Tree};
use super::{Taking, portable_names};

/// Of a log at a time: large enough to be packed well, small enough for several in memory.
const PIECE_BYTES: usize = 256 << 10;
/// A line is cut there; longer ones are no log lines, and memory is bounded.
const LINE_BYTES: usize = 1 << 20;
/// Before the end of what is at hand, a line is cut at a word if one ends in so many bytes: longer ones are no
/// addresses and no names.
const WORD_BYTES: usize = 64 << 10;
/// A document is masked as a whole, up to this size.
pub const DOCUMENT_BYTES: u64 = 1 << 20;
/// Where a file is looked at to see whether it is text.
pub const LOOKED_AT: usize = 4096;

/// What masks the texts of one bundle.
#[derive(Clone, Copy)]
pub struct Mask<'m> {
    pub redactor: &'m Redactor,
    /// Takes out addresses and names as well, where that was asked for.
    pub anonymizer: Option<&'m Anonymizer>,
}

impl<'m> Mask<'m> {
    pub fn new(redactor: &'m Redactor) -> Mask<'m> {
        Mask { redactor, anonymizer: None }
    }

    pub(super) fn document(&self, shape: Shape, text: &[u8]) -> Vec<u8> {
        let text = String::from_utf8_lossy(text);
        self.finish(&self.redactor.redact(shape, &text)).into_bytes()
    }

    /// What the redactor has made of a text, without what is a secret or a name elsewhere.
    pub(super) fn finish(&self, text: &str) -> String {
        let swept = self.redactor.sweep(text);
        match self.anonymizer {
            None => swept.into_owned(),
            Some(anonymizer) => anonymizer.text(&swept).into_owned(),
        }
    }

    /// A path without the secrets that may stand in it, and as a name that Windows takes; `None` when it may stay.
    pub(super) fn path(&self, path: &str) -> Option<String> {
        if !portable_names::is_telling(path) {
            return None;
        }
        let masked = self.finish(&self.redactor.redact(Shape::Plain, path));
        (masked != path).then(|| masked.replace(':', "-"))
    }
}

/// How an entry is masked, and whether that can be done line by line; `None` for what is taken as it is.
pub fn masking(tree: &Tree, entry: &Entry, taking: Taking) -> Option<(Shape, bool)> {
    let is_text = matches!(entry.content, Content::Configuration | Content::Log | Content::Other);
    let is_masked = is_text && !entry.is_empty_folder && !taking.credentials;
    is_masked.then(|| shape(entry.content, &tree.label(entry)))
}

/// Whether it is text at all; a character may be cut at the end.
pub fn is_text(beginning: &[u8]) -> bool {
    let beginning = &beginning[..beginning.len().min(LOOKED_AT)];
    let valid = match std::str::from_utf8(beginning) {
        Ok(_) => true,
        Err(error) if error.error_len().is_none() => true,
        // Old logs are not always UTF-8; what is mostly something else is no log.
        Err(_) => beginning.iter().filter(|byte| !byte.is_ascii()).count() * 10 < beginning.len(),
    };
    let is_plain = |byte: &u8| *byte >= 0x20 || matches!(byte, b'\t' | b'\n' | b'\r' | 0x1b | 0x08 | 0x0c);
    valid && beginning.iter().all(is_plain)
}

/// Takes a text that the redactor has masked, and gives it on in pieces that can be finished one by one: whole lines,
/// and of endless ones parts that divide neither a known value nor an address.
pub struct Pieces<'m, G> {
    redactor: &'m Redactor,
    pending: Vec<u8>,
    give: G,
}

impl<'m, G: FnMut(Vec<u8>) -> io::Result<()>> Pieces<'m, G> {
    pub fn new(redactor: &'m Redactor, give: G) -> Pieces<'m, G> {
        Pieces { redactor, pending: Vec::new(), give }
    }

    pub fn finish(mut self) -> io::Result<()> {
        if self.pending.is_empty() { Ok(()) } else { (self.give)(self.pending) }
    }

    fn cut(&self) -> Option<usize> {
        if let Some(end) = memchr::memrchr(b'\n', &self.pending) {
            return Some(end + 1);
        }
        if self.pending.len() < LINE_BYTES {
            return None;
        }
        // Of what stands at the end nobody knows yet how it goes on.
        let to = self.pending.len() - Redactor::LONGEST_FORM;
        let from = to - WORD_BYTES;
        let is_end =
            |byte: &u8| !byte.is_ascii_alphanumeric() && !b":._%+-@/\\".contains(byte) && byte.is_ascii();
        let word = self.pending[from..to].iter().rposition(is_end).map(|at| from + at);
        Some(self.redactor.between_values(&self.pending, word.unwrap_or(to)))
    }
}

impl<G: FnMut(Vec<u8>) -> io::Result<()>> Write for Pieces<'_, G> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.pending.extend_from_slice(bytes);
        while self.pending.len() >= PIECE_BYTES
            && let Some(cut) = self.cut()
        {
            let rest = self.pending.split_off(cut);
            (self.give)(std::mem::replace(&mut self.pending, rest))?;
        }
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(redactor: &Redactor, text: &[u8]) -> Vec<Vec<u8>> {
        let mut given = Vec::new();
        let mut pieces = Pieces::new(redactor, |piece| {
            given.push(piece);
            Ok(())
        });
        for part in text.chunks(70_001) {
            pieces.write_all(part).unwrap();
        }
        pieces.finish().unwrap();
        given
    }

    #[test]
    fn pieces_end_with_a_line_and_are_the_text_together() {
        let text: Vec<u8> = (0..100_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let pieces = pieces(&Redactor::new([1; 32]), &text);
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.ends_with(b"\n")));
        assert!(pieces.concat() == text);
    }

    #[test]
    fn an_endless_line_is_cut_and_no_known_value_with_it() {
        let redactor = Redactor::new([1; 32]);
        redactor.redact(Shape::Log, "password=\"canary one two 4711\"");
        let text = "the canary one two 4711 it is; ".repeat(4 * LINE_BYTES / 31);
        let pieces = pieces(&redactor, text.as_bytes());
        assert!(pieces.len() > 2 && pieces.iter().all(|piece| piece.len() <= LINE_BYTES + 70_001));
        assert!(pieces.concat() == text.as_bytes());
        let mask = Mask::new(&redactor);
        for piece in pieces {
            let finished = mask.finish(std::str::from_utf8(&piece).unwrap());
            let at = finished.find("canary").or_else(|| finished.find("4711"));
            let around = |at: usize| &finished[at.saturating_sub(60)..finished.len().min(at + 60)];
            assert_eq!(at.map(around), None);
        }
    }

    #[test]
    fn text_is_told_from_bytes() {
        assert!(
            is_text(b"") && is_text("täglich\n".as_bytes()) && is_text(&"ä".repeat(5000).as_bytes()[..4095])
        );
        assert!(!is_text(b"a\0b") && !is_text(&[0x80; 50]) && !is_text(b"\x7fELF\x02"));
    }
}
