//! Text from the host as it may be shown: nothing invisible, nothing that turns a line around, nothing endless.

use std::iter::Peekable;
use std::str::Chars;

/// Characters of one cell, sentence or log line that the page shows: forty lines of a screen, more is not read.
pub const LINE: usize = 4_000;

/// Characters of one passage that the page shows: a long configuration file.
const PASSAGE: usize = 60_000;

/// `text` for a cell, a sentence or a log line.
pub fn line(text: &str) -> String {
    shown(text, LINE)
}

/// `text` for a passage that is shown as it was read.
pub fn passage(text: &str) -> String {
    shown(text, PASSAGE)
}

fn shown(text: &str, limit: usize) -> String {
    let mut shown = String::with_capacity(text.len().min(limit));
    let mut chars = text.chars().peekable();
    let mut count = 0;
    while count < limit {
        let Some(char) = chars.next() else { return shown };
        count += 1;
        match char {
            '\x1b' if chars.next_if_eq(&'[').is_some() => skip_control_sequence(&mut chars),
            '\r' if chars.peek() == Some(&'\n') => {}
            '\n' | '\t' => shown.push(char),
            '\0'..='\x1f' => shown.extend(char::from_u32('\u{2400}' as u32 + char as u32)),
            '\x7f' => shown.push('\u{2421}'),
            _ if is_deceptive(char) => shown.extend(char.escape_unicode()),
            _ => shown.push(char),
        }
    }
    let rest = chars.count();
    if rest > 0 {
        shown.push_str(&format!(" … {rest} more characters"));
    }
    shown
}

/// Colours and cursor moves of a terminal (ECMA-48, 5.4): parameters, then one final character.
fn skip_control_sequence(chars: &mut Peekable<Chars>) {
    while chars.next_if(|char| matches!(char, ' '..='?')).is_some() {}
    chars.next_if(|char| matches!(char, '@'..='~'));
}

/// Characters that have no shape of their own and change how others are seen: C1 controls, zero-width and
/// bidirectional marks (Unicode 16, 23.2), line separators, tags.
fn is_deceptive(char: char) -> bool {
    matches!(char,
        '\u{80}'..='\u{9f}' | '\u{ad}' | '\u{61c}' | '\u{180e}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2060}'..='\u{206f}' | '\u{feff}' | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn colours_of_a_terminal_are_dropped_and_other_controls_are_shown() {
        assert_eq!(
            line("\x1b[1;31mred\x1b[0m \x1b]0;title\x07 \0 a\rb\r\nc\td"),
            "red ␛]0;title␇ ␀ a␍b\nc\td"
        );
        assert_eq!(line("\x1b["), "");
    }

    #[test]
    fn marks_that_turn_a_line_around_are_written_out() {
        assert_eq!(line("user\u{202e}txt.exe\u{2066}\u{200b}"), "user\\u{202e}txt.exe\\u{2066}\\u{200b}");
    }

    #[test]
    fn an_endless_line_says_how_much_more_there_is() {
        let shown = line(&"x".repeat(1_000_000));
        assert_eq!(shown.chars().count(), LINE + " … 996000 more characters".chars().count());
        assert!(shown.ends_with("x … 996000 more characters"));
        assert_eq!(line(&"é".repeat(LINE)), "é".repeat(LINE));
    }
}
