//! What a check says: a verdict, one sentence, problems with their advice, and the evidence.

use serde::{Deserialize, Serialize};

use crate::Failure;

/// The verdict of a check that could tell. Ordered from best to worst.
///
/// That a check could *not* tell (unknown, timed out, panicked) is said by the runner, never by a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// The question does not arise on this host; the finding's summary says why.
    Skip,
    Pass,
    /// Worth knowing, nothing to do.
    Note,
    /// Will hurt, or already does a little.
    Warn,
    /// Hurts now.
    Fail,
}

/// What to do about a problem: a sentence and, where there is one, a command to copy.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Advice {
    pub text: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Advice {
    pub fn text(text: impl Into<String>) -> Advice {
        Advice { text: text.into(), command: None }
    }

    /// `command` is one line that can be pasted into a root shell as it is.
    pub fn run(text: impl Into<String>, command: impl Into<String>) -> Advice {
        Advice { text: text.into(), command: Some(command.into()) }
    }
}

/// `text` as one word of a shell, whatever is in it.
pub fn quoted(text: &str) -> String {
    format!("'{}'", text.replace('\'', r"'\''"))
}

/// `text` as one word of a shell, quoted only where a shell would change it.
pub fn quoted_if_needed(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"/._-:@=,+%".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) { text.to_owned() } else { quoted(text) }
}

/// One thing that is not as it should be.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Problem {
    /// `Note`, `Warn` or `Fail`.
    pub severity: Verdict,
    /// One sentence with the numbers in it.
    pub text: String,
    pub advice: Advice,
}

/// The answer of one check.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// One sentence with the numbers in it; for a skipped check, the reason.
    pub summary: String,
    pub skipped: bool,
    pub problems: Vec<Problem>,
    pub evidence: Vec<Evidence>,
}

impl Finding {
    /// A finding without problems: it passes until one is added.
    pub fn new(summary: impl Into<String>) -> Finding {
        Finding { summary: summary.into(), skipped: false, problems: Vec::new(), evidence: Vec::new() }
    }

    /// The question does not arise here, because of `reason`.
    pub fn skip(reason: impl Into<String>) -> Finding {
        Finding { skipped: true, ..Finding::new(reason) }
    }

    /// The worst of the problems; `Pass` without any, `Skip` when the check does not apply.
    pub fn verdict(&self) -> Verdict {
        let worst = self.problems.iter().map(|problem| problem.severity).max();
        match (worst, self.skipped) {
            (Some(worst), _) => worst,
            (None, true) => Verdict::Skip,
            (None, false) => Verdict::Pass,
        }
    }

    pub fn note(&mut self, text: impl Into<String>, advice: Advice) {
        self.problem(Verdict::Note, text, advice);
    }

    pub fn warn(&mut self, text: impl Into<String>, advice: Advice) {
        self.problem(Verdict::Warn, text, advice);
    }

    pub fn fail(&mut self, text: impl Into<String>, advice: Advice) {
        self.problem(Verdict::Fail, text, advice);
    }

    pub fn problem(&mut self, severity: Verdict, text: impl Into<String>, advice: Advice) {
        self.problems.push(Problem { severity, text: text.into(), advice });
    }

    /// Whether a problem says already that this could not be seen.
    pub fn tells(&self, failure: &Failure) -> bool {
        let cause = failure.cause.to_string();
        let texts = self.problems.iter().map(|problem| problem.text.as_str()).chain([self.summary.as_str()]);
        texts.into_iter().any(|text| text.contains(&cause)) && self.verdict() > Verdict::Pass
    }

    pub fn show(&mut self, evidence: Evidence) {
        self.evidence.push(evidence);
    }

    /// Without numbers that are none (a share of nothing, an overflow): JSON has no form for them, and one would
    /// make the whole report unreadable.
    #[must_use]
    pub fn finite(mut self) -> Finding {
        for evidence in &mut self.evidence {
            match evidence {
                Evidence::Fields(fields) => fields.rows.iter_mut().for_each(|(_, value)| value.make_finite()),
                Evidence::Table(table) => {
                    table.rows.iter_mut().flat_map(|row| &mut row.cells).for_each(Value::make_finite);
                }
                Evidence::Series(series) => {
                    series.points.iter_mut().flat_map(|point| &mut point.values).for_each(|value| {
                        *value = if value.is_finite() { *value } else { 0.0 };
                    });
                    series.top = series.top.filter(|top| top.is_finite());
                    series.limit = series.limit.filter(|limit| limit.is_finite());
                }
                Evidence::Text(_) | Evidence::Log(_) => {}
            }
        }
        self
    }
}

/// What a finding was judged by, in a form that a report can draw.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Evidence {
    Fields(Fields),
    Table(Table),
    Text(Text),
    Log(Log),
    Series(Series),
}

/// Names and values, a pair a row.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Fields {
    pub title: String,
    pub rows: Vec<(String, Value)>,
}

impl Fields {
    pub fn new(title: impl Into<String>) -> Fields {
        Fields { title: title.into(), rows: Vec::new() }
    }

    pub fn row(mut self, name: impl Into<String>, value: impl Into<Value>) -> Fields {
        self.rows.push((name.into(), value.into()));
        self
    }
}

/// Columns and rows; the report sorts by a column.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Table {
    pub title: String,
    pub columns: Vec<String>,
    pub rows: Vec<Row>,
    /// How many further rows were left out to keep the report small.
    #[serde(default)]
    pub left_out: u64,
}

/// One row of a table; `severity` marks the row that a problem is about.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    pub cells: Vec<Value>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Verdict>,
}

/// Rows of a table that the report carries at most; the rest is counted in `left_out`.
pub const TABLE_ROWS: usize = 500;

impl Table {
    pub fn new<const N: usize>(title: impl Into<String>, columns: [&str; N]) -> Table {
        Table {
            title: title.into(),
            columns: columns.iter().map(|&name| name.to_owned()).collect(),
            rows: Vec::new(),
            left_out: 0,
        }
    }

    pub fn row<const N: usize>(&mut self, cells: [Value; N]) {
        self.push(cells, None);
    }

    /// A row that a problem is about.
    pub fn marked_row<const N: usize>(&mut self, severity: Verdict, cells: [Value; N]) {
        self.push(cells, Some(severity));
    }

    fn push<const N: usize>(&mut self, cells: [Value; N], severity: Option<Verdict>) {
        debug_assert_eq!(N, self.columns.len(), "a cell for each column of {}", self.title);
        if self.rows.len() < TABLE_ROWS {
            self.rows.push(Row { cells: cells.into(), severity });
        } else {
            self.left_out += 1;
        }
    }
}

/// A passage as it was read.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Text {
    pub title: String,
    pub text: String,
}

/// Log lines, oldest first; when something was cut, the newest stayed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Log {
    pub title: String,
    pub lines: Vec<crate::LogLine>,
    /// Whether older lines exist that are not here.
    pub cut: bool,
}

/// Numbers to draw: one bar (or one point of a line) for each point, stacked when there are several keys.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Series {
    pub title: String,
    pub shape: Shape,
    pub unit: Unit,
    /// What the values of a point are, in their order: `["user", "system", "iowait"]`.
    pub keys: Vec<String>,
    pub points: Vec<Point>,
    /// The top of the scale, when it is known (100 for percent, the size of a filesystem in bytes).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub top: Option<f64>,
    /// Where it begins to hurt: drawn as a line across.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<f64>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    /// Horizontal bars, one a point, labelled.
    Bars,
    /// A line over the points in their order.
    Line,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Point {
    pub label: String,
    /// One value for each key of the series; none at all where a line is interrupted.
    pub values: Vec<f64>,
}

impl Series {
    pub fn bars<const N: usize>(title: impl Into<String>, unit: Unit, keys: [&str; N]) -> Series {
        Series {
            title: title.into(),
            shape: Shape::Bars,
            unit,
            keys: keys.iter().map(|&key| key.to_owned()).collect(),
            points: Vec::new(),
            top: None,
            limit: None,
        }
    }

    /// A line for each key.
    pub fn line(title: impl Into<String>, unit: Unit, keys: Vec<String>) -> Series {
        Series { shape: Shape::Line, keys, ..Series::bars(title, unit, []) }
    }

    /// The next point of a line; `None`: nothing is known of that moment.
    pub fn moment(&mut self, label: impl Into<String>, values: Option<Vec<f64>>) {
        let values = values.unwrap_or_default();
        debug_assert!(
            values.is_empty() || values.len() == self.keys.len(),
            "a value for each key of {}",
            self.title
        );
        self.points.push(Point { label: label.into(), values });
    }

    pub fn point<const N: usize>(&mut self, label: impl Into<String>, values: [f64; N]) {
        debug_assert_eq!(N, self.keys.len(), "a value for each key of {}", self.title);
        self.points.push(Point { label: label.into(), values: values.into() });
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Unit {
    Count,
    Percent,
    Bytes,
    BytesPerSecond,
    Milliseconds,
    Seconds,
}

/// A value that knows what it is, so that it reads well and sorts right.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "type", content = "value", rename_all = "snake_case")]
pub enum Value {
    Text(String),
    /// A path, command, identifier or other thing shown in a fixed-width face.
    Code(String),
    Count(i64),
    Number(f64),
    /// Bytes, shown in powers of 1024.
    Bytes(u64),
    /// 0 to 100.
    Percent(f64),
    Seconds(f64),
    /// Unix time in seconds, shown as RFC 3339 UTC.
    Time(i64),
    Flag(bool),
    /// Could not be told, or does not exist; shown as a dash.
    Nothing,
}

impl Value {
    fn make_finite(&mut self) {
        if let Value::Number(number) | Value::Percent(number) | Value::Seconds(number) = self
            && !number.is_finite()
        {
            *self = Value::Nothing;
        }
    }
}

impl std::fmt::Display for Value {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        use crate::quantity as q;
        match self {
            Value::Text(text) | Value::Code(text) => out.write_str(text),
            Value::Count(count) => write!(out, "{count}"),
            Value::Number(number) => write!(out, "{}", q::number(*number)),
            Value::Bytes(bytes) => out.write_str(&q::bytes(*bytes)),
            Value::Percent(percent) => write!(out, "{} %", q::number(*percent)),
            Value::Seconds(seconds) => out.write_str(&q::duration(*seconds)),
            Value::Time(seconds) => out.write_str(&q::time(*seconds)),
            Value::Flag(flag) => out.write_str(if *flag { "yes" } else { "no" }),
            Value::Nothing => out.write_str("–"),
        }
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Value {
        Value::Text(text.to_owned())
    }
}

impl From<String> for Value {
    fn from(text: String) -> Value {
        Value::Text(text)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Value {
        Value::Flag(flag)
    }
}

impl From<i64> for Value {
    fn from(count: i64) -> Value {
        Value::Count(count)
    }
}

impl From<u64> for Value {
    fn from(count: u64) -> Value {
        Value::Count(i64::try_from(count).unwrap_or(i64::MAX))
    }
}

impl From<usize> for Value {
    fn from(count: usize) -> Value {
        Value::from(count as u64)
    }
}

impl From<f64> for Value {
    fn from(number: f64) -> Value {
        Value::Number(number)
    }
}

impl<T: Into<Value>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Value {
        value.map_or(Value::Nothing, Into::into)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_number_that_is_none_becomes_a_dash() {
        let mut finding = Finding::new("");
        finding.show(Evidence::Fields(
            Fields::new("x").row("a", f64::NAN).row("b", Value::Percent(f64::INFINITY)).row("c", 1.5),
        ));
        let mut series = Series::bars("y", Unit::Percent, ["share"]);
        series.point("z", [f64::NAN]);
        finding.show(Evidence::Series(series));
        let finding = finding.finite();
        let json = serde_json::to_string(&finding).unwrap();
        assert_eq!(serde_json::from_str::<Finding>(&json).unwrap(), finding);
        let Evidence::Fields(fields) = &finding.evidence[0] else { panic!("{finding:?}") };
        assert_eq!(
            fields.rows.iter().map(|(_, value)| value.to_string()).collect::<Vec<_>>(),
            ["–", "–", "1.5"]
        );
    }
}
