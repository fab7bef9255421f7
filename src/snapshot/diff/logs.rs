//! New log lines: shapes that the earlier snapshot did not have.

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;
use warden_host::shape::{group, shape};
use warden_host::{Evidence, Level, Table, Value};

use super::row_keys::without_keys;

/// Of one check: more than anybody reads.
const LINES: usize = 100;

/// Columns of the tables that [`warden_host::shape::table`] makes.
const SHAPE_COLUMNS: [&str; 5] = ["level", "count", "first seen", "last seen", "newest line"];

#[derive(Debug, Default, Serialize)]
pub struct NewLines {
    /// The most severe first, then the most frequent.
    pub lines: Vec<NewLine>,
    pub left_out: usize,
    /// Shapes of the earlier snapshot that are not there any more.
    pub gone: usize,
}

/// Lines that say the same thing, of which there was none before.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct NewLine {
    pub level: Option<Level>,
    pub count: u64,
    /// As it was written.
    pub newest: String,
}

impl NewLines {
    /// Whether no line came. That old ones are gone is no news by itself.
    pub fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

pub fn compare(before: &[Evidence], after: &[Evidence]) -> NewLines {
    let known: BTreeSet<String> = shapes(before).into_keys().collect();
    let now = shapes(after);
    let gone = known.iter().filter(|shape| !now.contains_key(*shape)).count();
    let mut lines: Vec<NewLine> =
        now.into_iter().filter(|(shape, _)| !known.contains(shape)).map(|(_, line)| line).collect();
    lines.sort_by(|a, b| (b.level, b.count, &a.newest).cmp(&(a.level, a.count, &b.newest)));
    let left_out = lines.len().saturating_sub(LINES);
    lines.truncate(LINES);
    NewLines { lines, left_out, gone }
}

pub fn is_shape_table(table: &Table) -> bool {
    table.columns == SHAPE_COLUMNS
}

/// Every shape of the logs and of the tables made of logs. A line that stands in both is counted where it is most.
fn shapes(evidence: &[Evidence]) -> BTreeMap<String, NewLine> {
    let mut shapes: BTreeMap<String, NewLine> = BTreeMap::new();
    let mut add = |text: &str, level, count| {
        let line = NewLine { level, count, newest: text.to_owned() };
        let known = shapes.entry(shape(&without_keys(text))).or_insert_with(|| NewLine { count: 0, ..line });
        known.count = known.count.max(count);
        known.level = known.level.max(level);
    };
    for evidence in evidence {
        match evidence {
            Evidence::Log(log) => {
                for group in group(&log.lines) {
                    add(&group.newest, group.level, group.count);
                }
            }
            Evidence::Table(table) if is_shape_table(table) => {
                for row in &table.rows {
                    let [level, count, _, _, Value::Code(newest) | Value::Text(newest)] = &row.cells[..]
                    else {
                        continue;
                    };
                    let count =
                        if let Value::Count(count) = count { u64::try_from(*count).unwrap_or(0) } else { 0 };
                    add(newest, level_named(level), count);
                }
            }
            Evidence::Table(_) | Evidence::Fields(_) | Evidence::Text(_) | Evidence::Series(_) => {}
        }
    }
    shapes
}

fn level_named(value: &Value) -> Option<Level> {
    let name = value.to_string();
    let levels = [Level::Trace, Level::Debug, Level::Info, Level::Warn, Level::Error, Level::Critical];
    levels.into_iter().find(|level| level.name() == name)
}
