//! The recording as lines.

use warden_host::quantity::time;
use warden_host::recorder::{
    BUSY, CPU, DISK, LOAD, MEMORY_AVAILABLE, NETWORK, OOM_KILLS, PRESSURE, READ, RECEIVED, RESIDENT, SENT,
    STEAL, SWAP_USED, UNIT, UNIT_CPU, WRITTEN, column,
};

use super::window::{Thin, Window};
use crate::{Series, Unit};

/// Lines in one chart that still can be told apart.
const LINES: usize = 6;

struct Line {
    key: String,
    values: Vec<Option<f64>>,
}

/// Every chart that has something to show. `total`: bytes of memory.
pub fn all(window: &Window, total: Option<u64>) -> Vec<Series> {
    let line = |key: &str, column: &str, how| Line { key: key.to_owned(), values: window.thin(column, how) };
    let kibibytes = |mut line: Line| {
        line.values.iter_mut().flatten().for_each(|value| *value *= 1024.0);
        line
    };
    let of = |kind: &str, name: &str, figure: &str, how| line(name, &column(kind, name, figure), how);
    let mut charts = Vec::new();
    let mut draw = |title: &str, unit, lines: Vec<Line>, top, limit| {
        charts.extend(chart(window, title, unit, lines, top, limit));
    };

    draw(
        "CPU, average",
        Unit::Percent,
        vec![line("busy", CPU, Thin::Average), line("stolen", STEAL, Thin::Average)],
        Some(100.0),
        None,
    );
    draw("Load of the last minute, highest", Unit::Count, vec![line("load", LOAD, Thin::Most)], None, None);
    let memory = kibibytes(line("available", MEMORY_AVAILABLE, Thin::Least));
    let limit = total.map(|total| total as f64 * super::MEMORY_PERCENT / 100.0);
    draw("Memory available, least", Unit::Bytes, vec![memory], total.map(|total| total as f64), limit);
    let swap = kibibytes(line("swap", SWAP_USED, Thin::Most));
    if is_ever(&swap) {
        draw("Swap in use, most", Unit::Bytes, vec![swap], None, None);
    }
    let kills = line("killed", OOM_KILLS, Thin::Most);
    if is_ever(&kills) {
        draw("Processes killed for memory", Unit::Count, vec![kills], None, None);
    }
    let pressure =
        |key: &str, resource: &str, kind: &str| line(key, &column(PRESSURE, resource, kind), Thin::Most);
    let some = vec![
        pressure("CPU", "cpu", "some"),
        pressure("memory", "memory", "some"),
        pressure("disks", "io", "some"),
    ];
    draw("Time in which some program waited, highest", Unit::Percent, some, None, None);
    let full = vec![pressure("memory", "memory", "full"), pressure("disks", "io", "full")];
    draw("Time in which all programs waited, highest", Unit::Percent, full, None, None);

    let disks = window.recording.named(DISK);
    let busy = disks.iter().map(|disk| of(DISK, disk, BUSY, Thin::Most)).collect();
    draw("Disks busy, highest", Unit::Percent, busy, Some(100.0), None);
    let both = |figures: [&str; 2], kind: &str, names: &[&str]| -> Vec<Line> {
        let of = |name: &&str, figure: &str| Line {
            key: format!("{name} {figure}"),
            ..of(kind, name, figure, Thin::Average)
        };
        names.iter().flat_map(|name| figures.map(|figure| of(name, figure))).collect()
    };
    draw("Disks, average", Unit::BytesPerSecond, both([READ, WRITTEN], DISK, &disks), None, None);
    let traffic = both([RECEIVED, SENT], NETWORK, &window.recording.named(NETWORK));
    draw("Network, average", Unit::BytesPerSecond, traffic, None, None);

    let units = window.recording.named(UNIT);
    let resident = units.iter().map(|unit| kibibytes(of(UNIT, unit, RESIDENT, Thin::Most))).collect();
    draw("Memory of the runtimes, most", Unit::Bytes, resident, None, None);
    let cpu = units.iter().map(|unit| of(UNIT, unit, UNIT_CPU, Thin::Average)).collect();
    draw("CPU of the runtimes in percent of one core, average", Unit::Percent, cpu, None, None);
    charts
}

fn chart(
    window: &Window,
    title: &str,
    unit: Unit,
    mut lines: Vec<Line>,
    top: Option<f64>,
    limit: Option<f64>,
) -> Option<Series> {
    lines.retain(|line| line.values.iter().any(Option::is_some));
    let count = lines.len();
    if count > LINES {
        lines.sort_by(|one, other| highest(other).total_cmp(&highest(one)));
        lines.truncate(LINES);
    }
    let points = lines.first()?.values.len();
    let title =
        if count > LINES { format!("{title}; the {LINES} highest of {count}") } else { title.to_owned() };
    let mut series = Series::line(title, unit, lines.iter().map(|line| line.key.clone()).collect());
    (series.top, series.limit) = (top, limit);
    for point in 0..points {
        let values: Vec<Option<f64>> =
            lines.iter().map(|line| line.values.get(point).copied().flatten()).collect();
        let is_gap = values.iter().all(Option::is_none);
        // What one line lacks while others have it was not there at that time.
        let values =
            (!is_gap).then(|| values.into_iter().map(|value| rounded(value.unwrap_or(0.0), unit)).collect());
        series.moment(label(window.moment(point)), values);
    }
    Some(series)
}

fn is_ever(line: &Line) -> bool {
    highest(line) > 0.0
}

fn highest(line: &Line) -> f64 {
    line.values.iter().flatten().copied().fold(0.0, f64::max)
}

/// To what a chart can show: the report keeps each digit.
fn rounded(value: f64, unit: Unit) -> f64 {
    match unit {
        Unit::Bytes | Unit::BytesPerSecond => value.round(),
        Unit::Count | Unit::Percent | Unit::Milliseconds | Unit::Seconds => (value * 100.0).round() / 100.0,
    }
}

/// `11-21 16:40`.
fn label(at: i64) -> String {
    let text = time(at);
    match (text.get(5..10), text.get(11..16)) {
        (Some(day), Some(minute)) => format!("{day} {minute}"),
        _ => text,
    }
}
