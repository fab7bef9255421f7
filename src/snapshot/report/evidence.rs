//! Evidence as the page shows it.

use warden_host::{Evidence, Fields, Level, Log, LogLine, Table, Text, Value};

use super::finding::LogLines;
use super::model::Outcome;
use super::{charts, sanitize};

/// Newest lines of a log that are seen at once; the earlier ones unfold.
const NEWEST: usize = 80;

/// Lines that a browser lays out together, once they scroll into view.
const CHUNK: usize = 100;

/// A table no larger than this stands beside another block.
const SMALL_TABLE: (usize, usize) = (4, 8);

/// Characters of a cell that is not broken into lines: most paths and all times.
const SHORT: usize = 36;

pub struct EvidenceView {
    pub title: String,
    /// Whether it has the row for itself.
    pub wide: bool,
    pub body: Body,
}

pub enum Body {
    Fields(Vec<(String, CellView)>),
    Table(TableView),
    Text(String),
    Log(LogView),
    /// An SVG element.
    Chart(String),
}

pub struct TableView {
    pub columns: Vec<ColumnView>,
    pub rows: Vec<(Option<Outcome>, Vec<CellView>)>,
    pub left_out: u64,
}

pub struct ColumnView {
    pub name: String,
    pub numeric: bool,
}

pub struct CellView {
    pub text: String,
    pub kind: CellKind,
    /// What to sort by, where the shown text sorts wrongly.
    pub sort: Option<String>,
    /// 0 to 100, drawn beside the number.
    pub meter: Option<f64>,
    /// Whether it may break into lines; what is short stays on one.
    pub long: bool,
    /// Whether its column holds numbers and nothing else.
    pub in_numbers: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
pub enum CellKind {
    Text,
    Code,
    Number,
    Nothing,
}

pub struct LogView {
    /// Unlike that of any other log on the page.
    pub name: String,
    pub earlier: Vec<Vec<LineView>>,
    pub earlier_count: usize,
    pub newest: Vec<LineView>,
    pub count: usize,
    pub warnings: usize,
    pub errors: usize,
    /// Lines of the report that the page does not show.
    pub left_out: usize,
    pub cut: bool,
}

pub struct LineView {
    pub class: &'static str,
    pub at: String,
    pub level: &'static str,
    pub origin: String,
    pub text: String,
}

impl EvidenceView {
    pub fn new(evidence: &Evidence, lines: &mut LogLines) -> EvidenceView {
        let (title, wide, body) = match evidence {
            Evidence::Fields(fields) => (&fields.title, false, fields_body(fields)),
            Evidence::Table(table) => (&table.title, !is_small(table), table_body(table)),
            Evidence::Text(Text { title, text }) => (title, true, Body::Text(sanitize::passage(text))),
            Evidence::Log(log) => (&log.title, true, log_body(log, lines)),
            Evidence::Series(series) => (&series.title, false, Body::Chart(charts::chart(series))),
        };
        EvidenceView { title: sanitize::line(title), wide, body }
    }
}

/// Two blocks share a row; one that is left alone has it whole.
pub fn pair_up(evidence: &mut [EvidenceView]) {
    let mut waiting: Option<usize> = None;
    for at in 0..evidence.len() {
        match (evidence[at].wide, waiting.take()) {
            (false, None) => waiting = Some(at),
            (false, Some(_)) | (true, None) => {}
            (true, Some(alone)) => evidence[alone].wide = true,
        }
    }
    if let Some(alone) = waiting {
        evidence[alone].wide = true;
    }
}

fn is_small(table: &Table) -> bool {
    table.columns.len() <= SMALL_TABLE.0 && table.rows.len() <= SMALL_TABLE.1
}

fn fields_body(fields: &Fields) -> Body {
    Body::Fields(fields.rows.iter().map(|(name, value)| (sanitize::line(name), cell(value))).collect())
}

fn table_body(table: &Table) -> Body {
    let mut rows: Vec<(Option<Outcome>, Vec<CellView>)> = table
        .rows
        .iter()
        .map(|row| (row.severity.map(Outcome::from), row.cells.iter().map(cell).collect()))
        .collect();
    let mut columns = Vec::new();
    for (at, name) in table.columns.iter().enumerate() {
        let numeric = holds_numbers(&rows, at);
        columns.push(ColumnView { name: sanitize::line(name), numeric });
        for cell in rows.iter_mut().filter_map(|(_, cells)| cells.get_mut(at)) {
            cell.in_numbers = numeric;
        }
    }
    Body::Table(TableView { columns, rows, left_out: table.left_out })
}

fn holds_numbers(rows: &[(Option<Outcome>, Vec<CellView>)], column: usize) -> bool {
    let kinds = || rows.iter().filter_map(|(_, cells)| cells.get(column)).map(|cell| cell.kind);
    kinds().any(|kind| kind == CellKind::Number)
        && kinds().all(|kind| matches!(kind, CellKind::Number | CellKind::Nothing))
}

fn cell(value: &Value) -> CellView {
    let number = |sort: String| (CellKind::Number, Some(sort), None);
    let (kind, sort, meter) = match value {
        Value::Text(text) | Value::Code(text) if text.is_empty() => return cell(&Value::Nothing),
        Value::Text(_) | Value::Flag(_) => (CellKind::Text, None, None),
        Value::Code(_) => (CellKind::Code, None, None),
        Value::Count(count) => number(count.to_string()),
        Value::Number(number_) | Value::Seconds(number_) => number(number_.to_string()),
        Value::Bytes(bytes) => number(bytes.to_string()),
        Value::Percent(percent) => (
            CellKind::Number,
            Some(percent.to_string()),
            percent.is_finite().then(|| percent.clamp(0.0, 100.0)),
        ),
        Value::Time(seconds) => (CellKind::Text, Some(seconds.to_string()), None),
        Value::Nothing => (CellKind::Nothing, None, None),
    };
    let text = sanitize::line(&value.to_string());
    let long = text.contains('\n') || text.chars().count() > SHORT;
    CellView { text, kind, sort, meter, long, in_numbers: false }
}

fn log_body(log: &Log, lines: &mut LogLines) -> Body {
    let left_out = log.lines.len().saturating_sub(lines.each);
    let mut shown: Vec<LineView> = log.lines[left_out..].iter().map(line_view).collect();
    let of = |classes: &[&str]| shown.iter().filter(|line| classes.contains(&line.class)).count();
    let (warnings, errors, count) = (of(&["w", "e", "c"]), of(&["e", "c"]), shown.len());
    let newest = shown.split_off(count.saturating_sub(NEWEST));
    let earlier_count = shown.len();
    let mut earlier = Vec::new();
    while !shown.is_empty() {
        let rest = shown.split_off(shown.len().min(CHUNK));
        earlier.push(std::mem::replace(&mut shown, rest));
    }
    lines.drawn += 1;
    let name = format!("log-{}", lines.drawn);
    Body::Log(LogView {
        name,
        earlier,
        earlier_count,
        newest,
        count,
        warnings,
        errors,
        left_out,
        cut: log.cut,
    })
}

fn line_view(line: &LogLine) -> LineView {
    let (class, level) = match line.level {
        None => ("", ""),
        Some(Level::Trace) => ("t", "trace"),
        Some(Level::Debug) => ("d", "debug"),
        Some(Level::Info) => ("i", "info"),
        Some(Level::Warn) => ("w", "warn"),
        Some(Level::Error) => ("e", "error"),
        Some(Level::Critical) => ("c", "crit"),
    };
    let at = line.at_us.and_then(|at| jiff::Timestamp::from_microsecond(at).ok());
    LineView {
        class,
        at: at.map_or_else(String::new, |at| at.strftime("%m-%d %H:%M:%S.%3f").to_string()),
        level,
        origin: sanitize::line(&line.origin),
        text: sanitize::line(&line.text),
    }
}
