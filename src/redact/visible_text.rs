//! A line as a person sees it: without colours, byte order marks and other characters that only hide.

use std::borrow::Cow;

/// Colour as it is written by programs that do not pass control characters on.
pub(super) const WRITTEN_ESCAPES: [&str; 5] = ["#033[", "\\u001b[", "\\x1b[", "\\033[", "^[["];
pub(super) const INVISIBLE: [char; 9] =
    ['\u{1b}', '\u{9b}', '\u{feff}', '\u{200b}', '\u{200c}', '\u{200d}', '\u{2060}', '\u{ad}', '\u{8}'];

/// Visible text, and where its pieces stand in the line.
#[derive(Default)]
pub(super) struct View {
    pub(super) text: String,
    /// Where a piece begins in the text and in the line.
    pieces: Vec<(usize, usize)>,
}

impl View {
    pub(super) fn of(line: &str) -> View {
        let mut view = View::default();
        view.read(line);
        view
    }

    /// The same buffers for another line.
    pub(super) fn read(&mut self, line: &str) {
        self.text.clear();
        self.pieces.clear();
        let bytes = line.as_bytes();
        let (mut at, mut shown) = (0, 0);
        while at < bytes.len() {
            if !MAY_HIDE[usize::from(bytes[at])] {
                at += 1;
                continue;
            }
            let hidden = line.get(at..).and_then(|rest| Some(hidden_length(rest, rest.chars().next()?)));
            match hidden {
                Some(hidden) if hidden > 0 => {
                    self.show(line, shown, at);
                    at += hidden;
                    shown = at;
                }
                Some(_) | None => at += 1,
            }
        }
        self.show(line, shown, bytes.len());
    }

    fn show(&mut self, line: &str, from: usize, to: usize) {
        if from < to {
            self.pieces.push((self.text.len(), from));
            self.text.push_str(&line[from..to]);
        }
    }

    /// The range of the line that shows as `start..end` of the view.
    pub(super) fn place(&self, start: usize, end: usize) -> (usize, usize) {
        let first = self.line_place(start);
        let last = end.checked_sub(1).map_or(first, |last| self.line_place(last) + 1);
        (first, last.max(first))
    }

    fn line_place(&self, at: usize) -> usize {
        let piece = self.pieces.partition_point(|(text, _)| *text <= at);
        piece
            .checked_sub(1)
            .and_then(|piece| self.pieces.get(piece))
            .map_or(0, |(text, line)| line + at - text)
    }
}

/// First bytes of what may not show.
const MAY_HIDE: [bool; 256] = {
    let mut table = [false; 256];
    let mut at = 0;
    let firsts = [0x1b, 0x08, b'#', b'\\', b'^', 0xc2, 0xe2, 0xef];
    while at < firsts.len() {
        table[firsts[at] as usize] = true;
        at += 1;
    }
    table
};

pub(super) fn visible(text: &str) -> Cow<'_, str> {
    let written = WRITTEN_ESCAPES.iter().any(|escape| text.contains(escape));
    if written || text.contains(INVISIBLE) { Cow::Owned(View::of(text).text) } else { Cow::Borrowed(text) }
}

/// Whether something in a part of a line may not show.
pub(super) fn hides(line: &str, from: usize, to: usize) -> bool {
    let bytes = &line.as_bytes()[from..to];
    let hint = bytes.iter().any(|byte| MAY_HIDE[usize::from(*byte)]);
    hint && line.get(from..to).is_some_and(|part| matches!(visible(part), Cow::Owned(_)))
}

/// Bytes at the start of `text` that do not show; 0 if its first character does.
fn hidden_length(text: &str, first: char) -> usize {
    match first {
        '\u{1b}' => 1 + sequence_length(&text[1..]),
        '\u{9b}' => 2 + parameters_length(&text[2..]),
        '#' | '\\' | '^' => {
            let escape = WRITTEN_ESCAPES.iter().find(|escape| text.starts_with(**escape));
            escape.map_or(0, |escape| {
                let parameters = parameters_length(&text[escape.len()..]);
                // Without its final letter it is ordinary text that happens to look alike.
                if parameters == 0 { 0 } else { escape.len() + parameters }
            })
        }
        _ if INVISIBLE.contains(&first) => first.len_utf8(),
        _ => 0,
    }
}

/// What follows an ESC: ECMA-48 control sequences, and OSC strings (hyperlinks) up to BEL or ST.
fn sequence_length(text: &str) -> usize {
    match text.bytes().next() {
        Some(b'[') => 1 + parameters_length(&text[1..]),
        Some(b']') => text
            .find(['\u{7}', '\u{1b}'])
            // An OSC string hides nothing longer than a link; an unfinished one hides nothing.
            .filter(|end| *end < 2048)
            .map_or(1, |end| if text[end..].starts_with("\u{1b}\\") { end + 2 } else { end + 1 }),
        Some(b'(' | b')') if text.as_bytes().get(1).is_some_and(u8::is_ascii_alphanumeric) => 2,
        Some(b'=' | b'>' | b'7' | b'8' | b'c' | b'M') => 1,
        Some(_) | None => 0,
    }
}

/// Parameter bytes and the final one, 0 if there is no final one.
fn parameters_length(text: &str) -> usize {
    let parameters =
        text.bytes().take(32).take_while(|byte| matches!(byte, b'0'..=b'9' | b';' | b':' | b'?')).count();
    match text.as_bytes().get(parameters) {
        Some(b'@'..=b'~') => parameters + 1,
        Some(_) | None => parameters,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_and_invisible_characters_do_not_show() {
        assert_eq!(visible("\u{1b}[3mpassword\u{1b}[0m\u{1b}[2m=\u{1b}[0mx"), "password=x");
        assert_eq!(visible("\u{feff}to\u{200b}ken#033[0m=a^[[1mb"), "token=ab");
        assert_eq!(visible("\u{1b}]8;;http://a\u{7}link\u{1b}]8;;\u{1b}\\"), "link");
        assert_eq!(visible("plain #033 \\x1b["), "plain #033 \\x1b[");
    }

    #[test]
    fn a_place_in_the_view_is_found_in_the_line() {
        let line = "\u{1b}[1mä\u{1b}[0mbc";
        let view = View::of(line);
        let (start, end) = view.place(0, view.text.len());
        assert_eq!(&line[start..end], "ä\u{1b}[0mbc");
    }
}
