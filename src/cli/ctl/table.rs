//! JSON objects as a table that fits the terminal, or as a list of their fields.

use jiff::Timestamp;
use serde_json::Value;
use warden_host::quantity;

use crate::cli::terminal::{Painter, Style, harmless};

/// A column is not cut below this: less tells nothing.
const NARROWEST: usize = 8;
/// Between two columns.
const GAP: &str = "  ";

/// How things are shown here and now.
#[derive(Debug, Clone, Copy)]
pub struct Look {
    pub paint: Painter,
    /// Columns of the terminal; none: as wide as it gets.
    pub width: Option<usize>,
    pub now: Timestamp,
}

/// One column, or one line of a list.
#[derive(Debug, Clone, Copy)]
pub struct Column {
    pub title: &'static str,
    /// Where the value stands in an item: a JSON pointer (RFC 6901).
    pub at: &'static str,
    pub kind: Kind,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// To the right, never cut.
    Id,
    /// Cut where there is no room.
    Text,
    /// Never cut, painted by what it says.
    Status,
    /// RFC 3339, shown as `2026-03-16 12:00:05` in UTC.
    Time,
    /// RFC 3339, shown as how long ago.
    Age,
    Bytes,
    /// 0 to 1, shown in percent.
    Share,
    /// States of runtimes, shown as `iggy active, connectors failed`.
    Runtimes,
}

pub const fn column(title: &'static str, at: &'static str, kind: Kind) -> Column {
    Column { title, at, kind }
}

/// A line of titles, and a line an item.
pub fn table(columns: &[Column], items: &[Value], look: Look) -> String {
    let rows: Vec<Vec<String>> = items
        .iter()
        .map(|item| {
            columns.iter().map(|column| cell(item.pointer(column.at), column.kind, look.now)).collect()
        })
        .collect();
    let widths = widths(columns, &rows, look.width);
    let titles = columns.iter().map(|column| column.title.to_uppercase()).collect();
    let mut text = line(columns, &titles, &widths, |_, text| look.paint.paint(Style::Bold, text));
    for row in &rows {
        text += &line(columns, row, &widths, |kind, text| match kind {
            Kind::Status => look.paint.paint(style(text.trim()), text),
            Kind::Id | Kind::Text | Kind::Time | Kind::Age | Kind::Bytes | Kind::Share | Kind::Runtimes => {
                text.to_owned()
            }
        });
    }
    text
}

/// A line a field: first `columns`, then whatever else there is, by its path.
pub fn fields(columns: &[Column], item: &Value, look: Look) -> String {
    let mut lines: Vec<(String, String)> = Vec::new();
    for column in columns {
        let value = cell(item.pointer(column.at), column.kind, look.now);
        if !value.is_empty() {
            lines.push((column.title.to_owned(), value));
        }
    }
    rest(item, "", &mut |pointer, value| {
        if columns.iter().all(|column| column.at != pointer) {
            let name = pointer.trim_start_matches('/').replace('/', ".");
            lines.push((harmless(&name), plain(value)));
        }
    });
    let width = lines.iter().map(|(name, _)| name.chars().count()).max().unwrap_or(0);
    let told = |(name, value): &(String, String)| {
        let padding = " ".repeat(width - name.chars().count());
        let value = if name == "status" { look.paint.paint(style(value), value) } else { value.clone() };
        format!("{}{padding}{GAP}{value}\n", look.paint.paint(Style::Bold, name))
    };
    lines.iter().map(told).collect()
}

/// Every value that is no object and is there.
fn rest(value: &Value, at: &str, tell: &mut impl FnMut(&str, &Value)) {
    match value {
        Value::Object(entries) => {
            for (name, value) in entries {
                rest(value, &format!("{at}/{name}"), tell);
            }
        }
        Value::Array(items)
            if items
                .iter()
                .any(|item| item.is_object() || item.as_str().is_some_and(|text| text.contains(' '))) =>
        {
            for (index, item) in items.iter().enumerate() {
                rest(item, &format!("{at}/{index}"), tell);
            }
        }
        Value::Null => {}
        Value::Array(_) | Value::String(_) | Value::Number(_) | Value::Bool(_) => tell(at, value),
    }
}

fn cell(value: Option<&Value>, kind: Kind, now: Timestamp) -> String {
    let Some(value) = value.filter(|value| !value.is_null()) else { return String::new() };
    let time = || value.as_str().and_then(|text| text.parse::<Timestamp>().ok());
    match kind {
        Kind::Id | Kind::Text | Kind::Status => plain(value),
        Kind::Time => time().map_or_else(|| plain(value), |at| at.strftime("%Y-%m-%d %H:%M:%S").to_string()),
        Kind::Age => time().map_or_else(|| plain(value), |at| ago(at, now)),
        Kind::Runtimes => {
            let state =
                |state: &Value| format!("{} {}", plain(&state["runtime"]), plain(&state["active_state"]));
            value.as_array().into_iter().flatten().map(state).collect::<Vec<_>>().join(", ")
        }
        Kind::Bytes => value.as_u64().map_or_else(|| plain(value), quantity::bytes),
        Kind::Share => value
            .as_f64()
            .map_or_else(|| plain(value), |share| format!("{} %", quantity::number(share * 100.0))),
    }
}

/// Whole seconds; the clock of the Supervisor may be a little ahead of ours.
pub fn ago(at: Timestamp, now: Timestamp) -> String {
    let seconds = now.as_second() - at.as_second();
    if seconds < 0 { "now".to_owned() } else { format!("{} ago", quantity::duration(seconds as f64)) }
}

fn plain(value: &Value) -> String {
    match value {
        Value::Null => String::new(),
        Value::String(text) => harmless(text),
        Value::Array(items) => items.iter().map(plain).collect::<Vec<_>>().join(", "),
        Value::Bool(true) => "yes".to_owned(),
        Value::Bool(false) => "no".to_owned(),
        Value::Number(_) | Value::Object(_) => harmless(&value.to_string()),
    }
}

fn widths(columns: &[Column], rows: &[Vec<String>], room: Option<usize>) -> Vec<usize> {
    let mut widths: Vec<usize> = columns
        .iter()
        .enumerate()
        .map(|(index, column)| {
            let cells = rows.iter().map(|row| row[index].chars().count());
            cells.max().unwrap_or(0).max(column.title.len())
        })
        .collect();
    let Some(room) = room else { return widths };
    let total = |widths: &[usize]| widths.iter().sum::<usize>() + GAP.len() * widths.len().saturating_sub(1);
    while total(&widths) > room {
        let widest = (0..columns.len())
            .filter(|&index| {
                matches!(columns[index].kind, Kind::Text | Kind::Runtimes) && widths[index] > NARROWEST
            })
            .max_by_key(|&index| widths[index]);
        let Some(widest) = widest else { break };
        widths[widest] -= 1;
    }
    widths
}

fn line(
    columns: &[Column],
    cells: &Vec<String>,
    widths: &[usize],
    paint: impl Fn(Kind, &str) -> String,
) -> String {
    let mut line = String::new();
    for (index, ((column, cell), &width)) in columns.iter().zip(cells).zip(widths).enumerate() {
        let cell = cut(cell, width);
        let padding = " ".repeat(width - cell.chars().count());
        let right = matches!(column.kind, Kind::Id | Kind::Bytes | Kind::Share);
        let last = index + 1 == columns.len();
        let padded = match (right, last) {
            (true, _) => format!("{padding}{cell}"),
            (false, true) => cell,
            (false, false) => cell + &padding,
        };
        line += &paint(column.kind, &padded);
        if !last {
            line += GAP;
        }
    }
    line.trim_end().to_owned() + "\n"
}

fn cut(text: &str, width: usize) -> String {
    if text.chars().count() <= width {
        return text.to_owned();
    }
    text.chars().take(width.saturating_sub(1)).chain(['…']).collect()
}

fn style(status: &str) -> Style {
    match status {
        "completed" | "active" | "online" | "yes" => Style::Green,
        "rejected" | "failed" | "unreachable" | "no" => Style::Red,
        "processing" | "pending" | "activating" | "deactivating" => Style::Yellow,
        _ => Style::Dim,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const COLUMNS: &[Column] = &[
        column("id", "/id", Kind::Id),
        column("name", "/name", Kind::Text),
        column("status", "/status", Kind::Status),
        column("created", "/created_at", Kind::Time),
        column("seen", "/seen_at", Kind::Age),
    ];

    fn look(width: Option<usize>) -> Look {
        Look { paint: Painter::plain(), width, now: "2026-03-16T12:01:00Z".parse().unwrap() }
    }

    fn items() -> Vec<Value> {
        vec![
            json!({"id": 610_809_900_976_570_889_u64, "name": "events-production-frankfurt", "status": "completed",
                   "created_at": "2026-03-16T12:00:05.123Z", "seen_at": "2026-03-16T12:00:48Z"}),
            json!({"id": 7, "name": "a\u{1b}[2Jb", "status": null, "created_at": "yesterday"}),
        ]
    }

    #[test]
    fn ids_stand_right_and_hostile_text_is_harmless() {
        assert_eq!(
            table(COLUMNS, &items(), look(None)),
            concat!(
                "                ID  NAME                         STATUS     CREATED              SEEN\n",
                "610809900976570889  events-production-frankfurt  completed  2026-03-16 12:00:05  12 s ago\n",
                "                 7  a\\u{1b}[2Jb                             yesterday\n",
            )
        );
    }

    #[test]
    fn only_texts_are_cut_where_the_terminal_is_narrow() {
        let shown = table(COLUMNS, &items(), look(Some(76)));
        assert_eq!(
            shown.lines().nth(1).unwrap(),
            "610809900976570889  events-produc…  completed  2026-03-16 12:00:05  12 s ago"
        );
        let narrow = table(COLUMNS, &items(), look(Some(20)));
        assert!(narrow.contains("610809900976570889  events-…  completed"), "{narrow}");
    }

    #[test]
    fn all_of_an_object_is_shown_the_known_first() {
        let item = json!({"zone": "a", "id": 7, "result": {"before": {"main_pid": 1}, "journal": ["one two", "three"]},
                          "reason": null, "keys": ["x", "y"], "status": "rejected"});
        let columns = &[column("id", "/id", Kind::Id), column("status", "/status", Kind::Status)];
        assert_eq!(
            fields(columns, &item, look(None)),
            concat!(
                "id                      7\n",
                "status                  rejected\n",
                "keys                    x, y\n",
                "result.before.main_pid  1\n",
                "result.journal.0        one two\n",
                "result.journal.1        three\n",
                "zone                    a\n",
            )
        );
    }
}
