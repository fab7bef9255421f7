//! Changed values: the fields and tables of a check, before and after, keyed by their first column.

use std::collections::BTreeMap;

use serde::Serialize;
use warden_host::{Evidence, Fields, Table, Text, Value};

use super::logs::is_shape_table;
use super::row_keys::{SMALL, by_title, key_width, keys, number, numbered, without_keys};

/// Of one check: a page of a report, and no program that was given a hostile one runs out of memory.
const VALUES: usize = 300;

#[derive(Debug, Default, Serialize)]
pub struct Values {
    /// Words first, then numbers by how much they changed.
    pub changes: Vec<ValueChange>,
    /// Numbers that moved by less than 5 % of themselves, which are not listed.
    pub small: usize,
    pub left_out: usize,
}

#[derive(Debug, PartialEq, Serialize)]
pub struct ValueChange {
    pub kind: Kind,
    /// Title of the fields or the table.
    pub of: String,
    /// The row.
    pub key: String,
    /// The column, of a table.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub column: Option<String>,
    /// As a person reads it; absent for what came.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub before: Option<String>,
    /// Absent for what went.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<String>,
    /// After over before, of numbers.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ratio: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// A state, a version, a path, a time.
    Word,
    Came,
    Went,
    Number,
}

impl Values {
    /// Whether nothing changed that is worth a line.
    pub fn is_empty(&self) -> bool {
        self.changes.is_empty()
    }
}

pub fn compare(before: &[Evidence], after: &[Evidence]) -> Values {
    let mut values = Values::default();
    let earlier = by_title(before);
    for (key, evidence) in by_title(after) {
        match (earlier.get(&key), evidence) {
            (Some(Evidence::Fields(before)), Evidence::Fields(after)) => fields(before, after, &mut values),
            (Some(Evidence::Table(before)), Evidence::Table(after)) if !is_shape_table(after) => {
                table(before, after, &mut values);
            }
            (Some(Evidence::Text(before)), Evidence::Text(after)) => lines(before, after, &mut values),
            _ => {}
        }
    }
    values.changes.sort_by(|a, b| {
        let size = |change: &ValueChange| change.ratio.map_or(0.0, |ratio| ratio.ln().abs());
        (a.kind.cmp(&b.kind)).then_with(|| size(b).total_cmp(&size(a)))
    });
    values.left_out = values.changes.len().saturating_sub(VALUES);
    values.changes.truncate(VALUES);
    values
}

fn fields(before: &Fields, after: &Fields, values: &mut Values) {
    let key = |fields: &'_ Fields| numbered(fields.rows.iter().map(|(name, _)| name.clone()));
    let (keys_before, keys_after) = (key(before), key(after));
    let earlier: BTreeMap<&String, &Value> =
        keys_before.iter().zip(before.rows.iter().map(|(_, value)| value)).collect();
    for (key, (_, value)) in keys_after.iter().zip(&after.rows) {
        let from = earlier.get(key).copied().unwrap_or(&Value::Nothing);
        values.add(&after.title, key, None, from, value);
    }
    for (key, (_, value)) in keys_before.iter().zip(&before.rows) {
        if !keys_after.contains(key) {
            values.add(&after.title, key, None, value, &Value::Nothing);
        }
    }
}

fn table(before: &Table, after: &Table, values: &mut Values) {
    let said = |cell: &Value| without_keys(&cell.to_string()).into_owned();
    let width = key_width(&[before, after], said);
    let (keys_before, keys_after) = (keys(before, width, said), keys(after, width, said));
    let earlier: BTreeMap<&str, &[Value]> =
        keys_before.iter().zip(&before.rows).map(|(key, row)| (key.as_str(), &row.cells[..])).collect();
    let column_before = |name: &str| before.columns.iter().position(|column| column == name);
    let is_new: BTreeMap<&str, ()> = keys_after.iter().map(|key| (key.as_str(), ())).collect();
    for (key, row) in keys_after.iter().zip(&after.rows) {
        let Some(cells) = earlier.get(key.as_str()) else {
            // Of a table that was cut, nobody knows whether the row is new.
            if before.left_out == 0 {
                values.row(Kind::Came, &after.title, key, &row.cells, width);
            }
            continue;
        };
        for (at, name) in after.columns.iter().enumerate().skip(width) {
            let Some(value) = row.cells.get(at) else { continue };
            let Some(from) = column_before(name).and_then(|at| cells.get(at)) else { continue };
            values.add(&after.title, key, Some(name), from, value);
        }
    }
    for (key, row) in keys_before.iter().zip(&before.rows) {
        if after.left_out == 0 && !is_new.contains_key(key.as_str()) {
            values.row(Kind::Went, &after.title, key, &row.cells, width);
        }
    }
}

/// Lines that only one of two passages has.
fn lines(before: &Text, after: &Text, values: &mut Values) {
    let set = |text: &'_ Text| -> BTreeMap<String, ()> {
        text.text.lines().map(|line| (without_keys(line.trim()).into_owned(), ())).collect()
    };
    let (earlier, now) = (set(before), set(after));
    for line in now.keys().filter(|line| !earlier.contains_key(*line)) {
        values.row(Kind::Came, &after.title, line, &[], 0);
    }
    for line in earlier.keys().filter(|line| !now.contains_key(*line)) {
        values.row(Kind::Went, &after.title, line, &[], 0);
    }
}

impl Values {
    fn add(&mut self, of: &str, key: &str, column: Option<&str>, before: &Value, after: &Value) {
        let shown = |value: &Value| {
            let text = without_keys(&value.to_string()).into_owned();
            (*value != Value::Nothing && !text.is_empty()).then_some(text)
        };
        let (before_shown, after_shown) = (shown(before), shown(after));
        // What reads the same has not changed for anybody.
        if before_shown == after_shown {
            return;
        }
        let ratio = match (number(before), number(after)) {
            (Some(before), Some(after)) if before != 0.0 && after / before > 0.0 => Some(after / before),
            _ => None,
        };
        if ratio.is_some_and(|ratio| (ratio - 1.0).abs() < SMALL) {
            self.small += 1;
            return;
        }
        let is_number = number(before).is_some() && number(after).is_some();
        let kind = if is_number { Kind::Number } else { Kind::Word };
        let (of, key, column) = (of.to_owned(), key.to_owned(), column.map(str::to_owned));
        self.changes.push(ValueChange {
            kind,
            of,
            key,
            column,
            before: before_shown,
            after: after_shown,
            ratio,
        });
    }

    fn row(&mut self, kind: Kind, of: &str, key: &str, cells: &[Value], width: usize) {
        let rest: Vec<String> =
            cells.iter().skip(width).map(|cell| without_keys(&cell.to_string()).into_owned()).collect();
        let rest = Some(rest.join(", "));
        let (before, after) = if kind == Kind::Came { (None, rest) } else { (rest, None) };
        let (of, key) = (of.to_owned(), key.to_owned());
        self.changes.push(ValueChange { kind, of, key, column: None, before, after, ratio: None });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn changes(before: Table, after: Table) -> Vec<(Kind, String, Option<String>, Option<String>)> {
        let values = compare(&[Evidence::Table(before)], &[Evidence::Table(after)]);
        values
            .changes
            .into_iter()
            .map(|change| (change.kind, change.key, change.before, change.after))
            .collect()
    }

    #[test]
    fn rows_are_found_by_their_first_column_wherever_they_stand() {
        let (mut before, mut after) =
            (Table::new("Units", ["unit", "state"]), Table::new("Units", ["unit", "state"]));
        before.row(["a".into(), "active".into()]);
        before.row(["b".into(), "active".into()]);
        before.row(["c".into(), "active".into()]);
        after.row(["c".into(), "failed".into()]);
        after.row(["a".into(), "active".into()]);
        after.row(["d".into(), "active".into()]);
        let some = |text: &str| Some(text.to_owned());
        assert_eq!(
            changes(before, after),
            [
                (Kind::Word, "c".to_owned(), some("active"), some("failed")),
                (Kind::Came, "d".to_owned(), None, some("active")),
                (Kind::Went, "b".to_owned(), some("active"), None),
            ]
        );
    }

    #[test]
    fn where_the_first_column_repeats_the_next_one_tells_rows_apart() {
        let table = |rows: &[(&str, i64, i64)]| {
            let mut table = Table::new("Ports", ["protocol", "port", "queue"]);
            for (protocol, port, queue) in rows {
                table.row([(*protocol).into(), Value::Count(*port), Value::Count(*queue)]);
            }
            table
        };
        let found =
            changes(table(&[("tcp", 1, 10), ("tcp", 2, 10)]), table(&[("tcp", 2, 20), ("tcp", 1, 10)]));
        assert_eq!(found, [(Kind::Number, "tcp 2".to_owned(), Some("10".to_owned()), Some("20".to_owned()))]);
    }

    #[test]
    fn small_moves_of_numbers_are_counted_and_large_ones_come_first() {
        let fields = |a: f64, b: u64, c: i64| {
            let fields = Fields::new("Values").row("a", a).row("b", Value::Bytes(b)).row("c", c);
            [Evidence::Fields(fields)]
        };
        let values = compare(&fields(100.0, 1 << 20, 0), &fields(104.0, 3 << 20, 4));
        assert_eq!(values.small, 1);
        let found: Vec<_> = values.changes.iter().map(|change| (change.key.as_str(), change.ratio)).collect();
        assert_eq!(found, [("b", Some(3.0)), ("c", None)]);
    }

    #[test]
    fn the_digits_of_a_masked_secret_are_no_change() {
        let fields = |key: &str| {
            [Evidence::Fields(Fields::new("x").row("password", format!("[secret:password:{key}]")))]
        };
        assert!(compare(&fields("00000000"), &fields("11111111")).is_empty());
    }
}
