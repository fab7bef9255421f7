//! Masks values in TOML by the table and key they stand under.

use super::span::Span;
use super::structured::Place;

struct Reader<'t, 's> {
    text: &'t str,
    bytes: &'t [u8],
    spans: &'s mut Vec<Span>,
}

pub(super) fn toml(text: &str, spans: &mut Vec<Span>) {
    let mut reader = Reader { text, bytes: text.as_bytes(), spans };
    let mut table = Place::default();
    let mut at = if text.starts_with('\u{feff}') { 3 } else { 0 };
    while at < text.len() {
        let end = reader.line_end(at);
        let line = text[at..end].trim();
        if line.starts_with('[') {
            let name = line.trim_matches(['[', ']', ' ']).split(']').next().unwrap_or_default();
            table = reader.path(Place::default(), name);
            at = end + 1;
        } else if let Some(equals) = reader.equals(at, end) {
            let place = reader.path(table, text[at..equals].trim());
            let after = reader.value(equals + 1, place);
            at = reader.line_end(after.max(equals + 1)) + 1;
        } else {
            at = end + 1;
        }
    }
}

impl Reader<'_, '_> {
    fn line_end(&self, at: usize) -> usize {
        let at = at.min(self.bytes.len());
        self.bytes[at..].iter().position(|byte| *byte == b'\n').map_or(self.bytes.len(), |end| at + end)
    }

    /// The `=` after a key, which may be quoted.
    fn equals(&self, at: usize, end: usize) -> Option<usize> {
        let mut quote = None;
        for place in at..end {
            match (quote, self.bytes[place]) {
                (None, b'#') => return None,
                (None, b'=') => return Some(place),
                (None, byte @ (b'"' | b'\'')) => quote = Some(byte),
                (Some(open), byte) if open == byte => quote = None,
                _ => {}
            }
        }
        None
    }

    fn path(&self, from: Place, name: &str) -> Place {
        name.split('.').fold(from, |place, key| place.enter(key.trim().trim_matches(['"', '\'']), false))
    }

    /// Reads one value, over lines if need be; says where it ends.
    fn value(&mut self, mut at: usize, place: Place) -> usize {
        // Places of the open brackets; inside an inline table the place changes with each key.
        let mut open: Vec<(u8, Place)> = Vec::new();
        let mut current = place;
        while at < self.bytes.len() {
            match self.bytes[at] {
                b'\n' if open.is_empty() => return at,
                b' ' | b'\t' | b'\r' | b'\n' => at += 1,
                b',' => {
                    current = open.last().map_or(place, |(_, place)| *place);
                    at += 1;
                }
                b'#' => at = self.line_end(at),
                byte @ (b'[' | b'{') => {
                    open.push((byte, current));
                    at += 1;
                }
                b']' | b'}' => {
                    at += 1;
                    open.pop();
                    if open.is_empty() {
                        return at;
                    }
                }
                _ => {
                    let in_table = open.last().is_some_and(|(byte, _)| *byte == b'{');
                    let (start, end, next) = self.scalar(at, in_table);
                    let after = next
                        + self.bytes[next..].iter().take_while(|byte| matches!(byte, b' ' | b'\t')).count();
                    if in_table && self.bytes.get(after) == Some(&b'=') {
                        let from = open.last().map_or(place, |(_, place)| *place);
                        current = self.path(from, &self.text[start..end]);
                        at = after + 1;
                        continue;
                    }
                    let quoted = matches!(self.bytes[at], b'"' | b'\'');
                    if current.is_environment() && quoted {
                        super::environment::entry(self.text, start, end, self.spans);
                    }
                    self.spans.extend(current.scalar(self.text, start, end, quoted));
                    if quoted {
                        super::inner::string(self.text, start, end, self.bytes[at] == b'"', self.spans);
                    }
                    at = next.max(at + 1);
                    if open.is_empty() {
                        return at;
                    }
                }
            }
        }
        at
    }

    /// Content of the scalar (or key) at `at`, and where to go on after it.
    fn scalar(&self, at: usize, in_table: bool) -> (usize, usize, usize) {
        for quote in ["\"\"\"", "'''"] {
            if self.bytes[at..].starts_with(quote.as_bytes()) {
                let start = at + 3;
                let end = self.text[start..].find(quote).map_or(self.bytes.len(), |end| start + end);
                return (start, end, (end + 3).min(self.bytes.len()));
            }
        }
        let quote = self.bytes[at];
        if matches!(quote, b'"' | b'\'') {
            let (start, mut end) = (at + 1, at + 1);
            while end < self.bytes.len() && self.bytes[end] != quote && self.bytes[end] != b'\n' {
                end += if quote == b'"' && self.bytes[end] == b'\\' { 2 } else { 1 };
            }
            let end = end.min(self.bytes.len());
            let closed = self.bytes.get(end) == Some(&quote);
            return (start, end, end + usize::from(closed));
        }
        let bare = |byte: &u8| !(b",]}#\r\n".contains(byte) || in_table && *byte == b'=');
        let length = self.bytes[at..].iter().take_while(|byte| bare(byte)).count();
        let end = at + self.text.get(at..at + length).map_or(length, |word| word.trim_end().len());
        (at, end, at + length)
    }
}
