//! Texts of the data directory in pieces that can be masked one by one: whole lines, and private keys undivided.

use std::io::{self, Read};

use crate::snapshot::redact::{Redactor, Shape};

/// Of a log at a time: large enough for the mask to be fast, small enough for several in memory.
pub const PIECE_BYTES: usize = 256 << 10;
/// A line is cut there; longer ones are no log lines, and memory is bounded.
const LINE_BYTES: usize = 1 << 20;
/// A private key that begins this near to the end of a piece goes into the next one: 400 lines and their times.
const KEY_BYTES: usize = 64 << 10;
/// A document is masked as a whole, up to this size.
pub const DOCUMENT_BYTES: u64 = 1 << 20;
/// Where a file is looked at to see whether it is text.
const LOOKED_AT: usize = 4096;

/// The text as it may leave the host.
pub fn mask(redactor: &Redactor, shape: Shape, text: &[u8]) -> Vec<u8> {
    let text = String::from_utf8_lossy(text);
    let masked = redactor.redact(shape, &text);
    redactor.sweep(&masked).into_owned().into_bytes()
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

/// Reads pieces of `source`.
pub struct Pieces<R> {
    source: R,
    kept: Vec<u8>,
    ended: bool,
}

impl<R: Read> Pieces<R> {
    pub fn new(source: R) -> Pieces<R> {
        Pieces { source, kept: Vec::new(), ended: false }
    }

    /// The next piece, `None` at the end.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let mut wanted = PIECE_BYTES;
        loop {
            self.fill(wanted)?;
            if self.kept.is_empty() {
                return Ok(None);
            }
            if self.ended {
                return Ok(Some(std::mem::take(&mut self.kept)));
            }
            if let Some(cut) = cut(&self.kept) {
                let rest = self.kept.split_off(cut);
                return Ok(Some(std::mem::replace(&mut self.kept, rest)));
            }
            if self.kept.len() >= LINE_BYTES {
                return Ok(Some(std::mem::take(&mut self.kept)));
            }
            wanted = LINE_BYTES;
        }
    }

    fn fill(&mut self, wanted: usize) -> io::Result<()> {
        let missing = wanted.saturating_sub(self.kept.len()) as u64;
        let read = self.source.by_ref().take(missing).read_to_end(&mut self.kept)? as u64;
        self.ended |= read < missing;
        Ok(())
    }
}

/// Where to cut: behind the last line end, and before a private key that has begun and not ended.
fn cut(text: &[u8]) -> Option<usize> {
    let end = text.iter().rposition(|byte| *byte == b'\n')? + 1;
    let near = end.saturating_sub(KEY_BYTES);
    let find = |what: &[u8]| text[near..end].windows(what.len()).rposition(|window| window == what);
    let Some(begin) = find(b"-----BEGIN ") else { return Some(end) };
    if find(b"-----END ").is_some_and(|end| end > begin) {
        return Some(end);
    }
    let line = text[..near + begin].iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    (line > 0).then_some(line)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pieces(text: &[u8]) -> Vec<Vec<u8>> {
        let mut pieces = Pieces::new(text);
        std::iter::from_fn(|| pieces.next().unwrap()).collect()
    }

    #[test]
    fn pieces_end_with_a_line_and_are_the_text_together() {
        let text: Vec<u8> = (0..100_000).flat_map(|number| format!("line {number}\n").into_bytes()).collect();
        let pieces = pieces(&text);
        assert!(pieces.len() > 3 && pieces.iter().all(|piece| piece.ends_with(b"\n")));
        assert!(pieces.concat() == text);
    }

    #[test]
    fn a_private_key_is_never_divided() {
        let key = format!("-----BEGIN PRIVATE KEY-----\n{}-----END PRIVATE KEY-----\n", "MIIC\n".repeat(500));
        for before in (PIECE_BYTES - key.len() - 20..PIECE_BYTES + 20).step_by(97) {
            let text = format!("{}\n{key}{}", "x".repeat(before), "after\n".repeat(60_000));
            let pieces = pieces(text.as_bytes());
            assert_eq!(
                pieces.iter().filter(|piece| piece.windows(5).any(|four| four == b"MIIC\n")).count(),
                1
            );
            assert!(pieces.concat() == text.as_bytes());
        }
    }

    #[test]
    fn an_endless_line_is_cut_and_memory_stays_bounded() {
        let text = vec![b'x'; 5 * LINE_BYTES];
        assert!(pieces(&text).iter().all(|piece| piece.len() <= LINE_BYTES));
    }

    #[test]
    fn text_is_told_from_bytes() {
        assert!(
            is_text(b"") && is_text("täglich\n".as_bytes()) && is_text(&"ä".repeat(5000).as_bytes()[..4095])
        );
        assert!(!is_text(b"a\0b") && !is_text(&[0x80; 50]) && !is_text(b"\x7fELF\x02"));
    }
}
