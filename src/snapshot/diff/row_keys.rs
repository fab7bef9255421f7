//! What a value is recognized by in another snapshot: its title, its row, its column.

use std::borrow::Cow;
use std::collections::BTreeMap;

use warden_host::{Evidence, Table, Value};

/// A number that differs by less than this share of itself is noise of a running host.
pub const SMALL: f64 = 0.05;

/// Kinds of tokens that stand for what was taken out of one bundle, besides those of secrets.
const KINDS: [&str; 6] = ["ip", "mac", "mail", "host", "user", "machine"];
/// Longest token: an opening, the name of a rule and eight digits.
const TOKEN_BYTES: usize = 48;

/// Evidence by kind and title; of several with one title, each is its own.
pub fn by_title(evidence: &[Evidence]) -> BTreeMap<(&'static str, &str, usize), &Evidence> {
    let (mut found, mut counts) = (BTreeMap::new(), BTreeMap::<_, usize>::new());
    for evidence in evidence {
        let (kind, title) = match evidence {
            Evidence::Fields(fields) => ("fields", &fields.title),
            Evidence::Table(table) => ("table", &table.title),
            Evidence::Text(text) => ("text", &text.title),
            // Logs are compared by their shapes; what is drawn stands in a table or fields too.
            Evidence::Log(_) | Evidence::Series(_) => continue,
        };
        let nth = counts.entry((kind, title.as_str())).or_default();
        found.insert((kind, title.as_str(), *nth), evidence);
        *nth += 1;
    }
    found
}

/// How many columns it takes to tell the rows of each apart: one, or up to three where the first repeats.
pub fn key_width(tables: &[&Table], said: impl Fn(&Value) -> String) -> usize {
    const WIDEST: usize = 3;
    let tells_apart = |table: &Table, width: usize| {
        let mut keys: Vec<String> = table.rows.iter().map(|row| joined(&row.cells, width, &said)).collect();
        let rows = keys.len();
        keys.sort_unstable();
        keys.dedup();
        keys.len() == rows
    };
    let columns = tables.iter().map(|table| table.columns.len()).min().unwrap_or(1);
    let fits = |width: &usize| tables.iter().all(|table| tells_apart(table, *width));
    (1..=WIDEST.min(columns)).find(fits).unwrap_or(1)
}

/// A key for each row, of its first `width` cells as `said` says them.
pub fn keys(table: &Table, width: usize, said: impl Fn(&Value) -> String) -> Vec<String> {
    numbered(table.rows.iter().map(|row| joined(&row.cells, width, &said)))
}

fn joined(cells: &[Value], width: usize, said: impl Fn(&Value) -> String) -> String {
    cells.iter().take(width).map(said).collect::<Vec<_>>().join(" ")
}

/// `a`, `b`, `a` becomes `a`, `b`, `a (2)`.
pub fn numbered(keys: impl Iterator<Item = String>) -> Vec<String> {
    let mut seen: BTreeMap<String, usize> = BTreeMap::new();
    let number = |key: String| {
        let nth = seen.entry(key.clone()).or_default();
        *nth += 1;
        if *nth == 1 { key } else { format!("{key} ({nth})") }
    };
    keys.map(number).collect()
}

pub fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Count(count) => Some(*count as f64),
        Value::Number(number) | Value::Percent(number) | Value::Seconds(number) => Some(*number),
        Value::Bytes(bytes) => Some(*bytes as f64),
        Value::Text(_) | Value::Code(_) | Value::Time(_) | Value::Flag(_) | Value::Nothing => None,
    }
}

/// The text with the tokens of masked secrets, addresses and names cut down to their kind: their digits belong to one
/// bundle alone.
pub fn without_keys(text: &str) -> Cow<'_, str> {
    let mut shown = String::new();
    let mut rest = text;
    let mut from = 0;
    while let Some(at) = rest.get(from..).and_then(|after| after.find('[')).map(|at| from + at) {
        let Some((kind, whole)) = token(&rest[at..]) else {
            from = at + 1;
            continue;
        };
        shown.push_str(&rest[..at + kind]);
        shown.push(']');
        rest = &rest[at + whole..];
        from = 0;
    }
    if shown.is_empty() {
        return Cow::Borrowed(text);
    }
    shown.push_str(rest);
    Cow::Owned(shown)
}

/// How long the token is that `text` begins with: up to its kind, and the whole of it.
fn token(text: &str) -> Option<(usize, usize)> {
    let end = text.bytes().take(TOKEN_BYTES).position(|byte| byte == b']')?;
    let (kind, digits) = text[1..end].rsplit_once(':')?;
    let is_rule = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-';
    let known = match kind.strip_prefix("secret:") {
        Some(rule) => !rule.is_empty() && rule.bytes().all(is_rule),
        None => KINDS.contains(&kind),
    };
    let keyed = digits.len() == 8 && digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
    (known && keyed).then_some((1 + kind.len(), end + 1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_keeps_its_kind_alone() {
        let cases = [
            ("a [secret:password:0123abcd] b [secret:x", "a [secret:password] b [secret:x"),
            ("[ip:0a1b2c3d]:8090 [host:00000000]", "[ip]:8090 [host]"),
            ("[[ip:0a1b2c3d]]", "[[ip]]"),
            ("[always] madvise [x:0a1b2c3d] [ip:0A1B2C3D] [secret:0a1b2c3d]", ""),
            ("plain", ""),
            ("[\u{e9}:0a1b2c3d] [ip:\u{e9}", ""),
        ];
        for (text, expected) in cases {
            assert_eq!(without_keys(text), if expected.is_empty() { text } else { expected });
        }
    }
}
