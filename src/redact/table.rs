//! Secrets in tables: the head of a column tells what is in the rows below it.

use super::allowlist::is_harmless;
use super::below::Form;
use super::key_names::{Certainty, Telling};
use super::placeholders::is_token;
use super::sentence::is_chosen;
use super::span::Span;

/// What divides the cells of a row: of SQL clients, and of files with separated values.
const DIVIDERS: [u8; 4] = *b"|\t,;";
/// Longest line that can be the head of a table, and longest name of a column.
const HEAD_BYTES: usize = 1024;
const NAME_BYTES: usize = 48;

/// The column that a name at `first..last` heads, if the line is the head of a table.
pub(super) fn column(line: &str, first: usize, last: usize) -> Option<Form> {
    if line.len() > HEAD_BYTES {
        return None;
    }
    let quotes: &[char] = &[' ', '"', '\''];
    let (before, after) =
        (line[..first].trim_end_matches(quotes), line[last..].trim_start_matches(quotes).trim_end());
    let divider = DIVIDERS.into_iter().find(|divider| {
        let sign = char::from(*divider);
        (before.is_empty() || before.ends_with(sign))
            && (after.is_empty() || after.starts_with(sign))
            && before.len() + after.len() > 0
    })?;
    let named = |cell: &[u8]| {
        cell.len() <= NAME_BYTES
            && cell.iter().all(|byte| byte.is_ascii_alphanumeric() || b"_-. \"'\r#".contains(byte))
    };
    let cells: Vec<&[u8]> = line.as_bytes().split(|byte| *byte == divider).collect();
    let at = line.as_bytes()[..first].iter().filter(|byte| **byte == divider).count();
    let named =
        cells.iter().all(|cell| named(cell)) && cells.iter().filter(|cell| !cell.is_empty()).count() >= 2;
    let (at, of) = (u8::try_from(at).ok()?, u8::try_from(cells.len()).ok()?);
    named.then_some(Form::Column { divider, at, of })
}

/// The cell of a row, in `line` from `start` on: `None` where no row of the table is. An inner `None` masks nothing.
pub(super) fn row(
    line: &str,
    start: usize,
    (divider, at, of): (u8, u8, u8),
    telling: Telling,
) -> Option<Option<Span>> {
    let ruled = !line.trim().is_empty() && line.bytes().all(|byte| b"-+=| :".contains(&byte));
    if ruled {
        return Some(None);
    }
    let sign = char::from(divider);
    (line.matches(sign).count() + 1 == usize::from(of)).then_some(())?;
    let cell = line.split(sign).nth(usize::from(at))?;
    let place = cell.as_ptr() as usize - line.as_ptr() as usize;
    Some(value(cell, start + place, telling))
}

/// A row of two cells that is a name and its value: `| password | hunter2x |`.
pub(super) fn cell(line: &str, first: usize, last: usize, telling: Telling) -> Option<Span> {
    let rest = line[last..].trim_start().strip_prefix("| ")?;
    let before = line[..first].trim_end();
    (before.is_empty() || before.ends_with('|')).then_some(())?;
    value(rest.split('|').next()?, line.len() - rest.len(), telling)
}

fn value(cell: &str, start: usize, telling: Telling) -> Option<Span> {
    let quotes: &[char] = &[' ', '"', '\'', '\r'];
    let text = cell.trim_matches(quotes);
    let first = start + cell.len() - cell.trim_start_matches(quotes).len();
    let certain = telling.certainty != Certainty::Possible;
    let shown = is_token(text) || text.starts_with("[secret:") || is_harmless(text, telling.certainty, true);
    (certain && !shown && is_chosen(text)).then(|| Span::new(first, first + text.len(), telling.rule))
}

#[cfg(test)]
mod tests {
    use crate::{Redactor, Shape};

    #[test]
    fn a_column_of_secrets_is_masked_and_its_neighbours_are_not() {
        for (table, secret, kept) in [
            (
                " name |  password  | mail\n------+------------+------\n bob  | hunter-22x | b@x\n(1 row)\n",
                "hunter-22x",
                "bob",
            ),
            ("user,password,id\nbob,hunter-22x,17a\neve,horse-4711,18a\nend\n", "horse-4711", "17a"),
            ("| password | hunter-22x |\n", "hunter-22x", "password"),
        ] {
            let masked = Redactor::new([1; 32]).redact(Shape::Log, table).into_owned();
            assert!(!masked.contains(secret) && masked.contains(kept), "{masked}");
        }
        for other in
            ["user, password and mail are required\nbob, a1b2c3 and x\n", "password, token\n1, 2, 3\n"]
        {
            assert_eq!(Redactor::new([1; 32]).redact(Shape::Log, other), other);
        }
    }
}
