//! Horizontal bars, one a point, stacked by key.

use std::fmt::Write as _;

use warden_host::{Point, Series};

use super::{COLOURS, POINTS, Scale, escaped, legend, named_values, shortened, sound, spoken, value_text};

/// Pixels from one bar to the next: roomy for a few bars, dense for the cores of a large machine.
const ROOMY: f64 = 26.0;
const DENSE: f64 = 18.0;
const DENSE_FROM: usize = 17;

/// Pixels that a character of a label takes at most, in a chart of [`NARROW`] pixels.
const CHARACTER: f64 = 6.7;
const NARROW: f64 = 350.0;

/// Where labels, bars and values stand, in percent of the width.
struct Columns {
    bars: f64,
    values: f64,
    label_room: usize,
}

impl Columns {
    fn bar_room(&self) -> f64 {
        100.0 - self.bars - self.values
    }
}

pub fn draw(series: &Series) -> String {
    let points = &series.points[..series.points.len().min(POINTS)];
    let total = |point: &Point| point.values.iter().copied().map(sound).sum::<f64>();
    let scale = Scale::of(series, points.iter().map(total).fold(0.0, f64::max));
    let step = if points.len() < DENSE_FROM { ROOMY } else { DENSE };
    let columns = columns(series, points);
    let legend_height = if series.keys.len() > 1 { 24.0 } else { 0.0 };
    let head = legend_height + if series.limit.is_some() { 16.0 } else { 0.0 };
    let foot = head + step * points.len() as f64;
    let left_out = series.points.len() - points.len();
    let height = foot + 20.0 + if left_out > 0 { 18.0 } else { 0.0 };

    let mut svg = format!(
        r#"<svg class="chart" width="100%" height="{height}" role="img" aria-label="{}">"#,
        spoken(series)
    );
    legend(&mut svg, series, 2.0);
    grid(&mut svg, series, &scale, &columns, head, foot);
    for (at, point) in points.iter().enumerate() {
        bar(&mut svg, series, &scale, &columns, point, head + step * at as f64, step);
    }
    limit(&mut svg, series, &scale, &columns, head, foot);
    if left_out > 0 {
        let _ =
            write!(svg, r#"<text class="muted" y="{}">{left_out} more in report.json</text>"#, height - 5.0);
    }
    svg + "</svg>"
}

fn columns(series: &Series, points: &[Point]) -> Columns {
    let longest = |texts: &mut dyn Iterator<Item = usize>| texts.max().unwrap_or(0) as f64;
    let labels = longest(&mut points.iter().map(|point| point.label.chars().count()));
    let values = longest(&mut points.iter().map(|point| total_text(series, point).chars().count()));
    let percent = |characters: f64, least: f64, most: f64| {
        ((characters * CHARACTER + 12.0) / NARROW * 100.0).clamp(least, most)
    };
    let bars = percent(labels, 5.0, 38.0);
    Columns {
        bars,
        values: percent(values, 8.0, 22.0),
        label_room: ((bars / 100.0 * NARROW - 10.0) / CHARACTER * 1.05) as usize,
    }
}

fn total_text(series: &Series, point: &Point) -> String {
    match point.values[..] {
        [value] => value_text(value, series.unit),
        _ => value_text(point.values.iter().copied().map(sound).sum(), series.unit),
    }
}

/// The room of the bars is an image of its own, so that a bar's length in percent is its value.
fn open_plot(columns: &Columns, y: f64, height: f64) -> String {
    let width = columns.bar_room();
    format!(r#"<svg class="plot" x="{:.2}%" y="{y}" width="{width:.2}%" height="{height}">"#, columns.bars)
}

fn grid(svg: &mut String, series: &Series, scale: &Scale, columns: &Columns, head: f64, foot: f64) {
    svg.push_str(&open_plot(columns, 0.0, foot + 20.0));
    for quarter in 0..=4 {
        let x = f64::from(quarter) * 25.0;
        let _ = write!(svg, r#"<line class="grid" x1="{x}%" x2="{x}%" y1="{head}" y2="{foot}"/>"#);
        if quarter % 2 == 0 {
            let anchor = ["start", "middle", "end"][quarter as usize / 2];
            let text = value_text(scale.top * x / 100.0, series.unit);
            let _ = write!(
                svg,
                r#"<text class="tick" x="{x}%" y="{}" text-anchor="{anchor}">{text}</text>"#,
                foot + 14.0
            );
        }
    }
    svg.push_str("</svg>");
}

fn bar(
    svg: &mut String,
    series: &Series,
    scale: &Scale,
    columns: &Columns,
    point: &Point,
    y: f64,
    step: f64,
) {
    let thick = step * 0.62;
    let (top, base) = ((step - thick) / 2.0, step / 2.0 + 4.0);
    let values = named_values(series, &point.values).collect::<Vec<_>>().join(", ");
    let over =
        series.limit.is_some_and(|limit| point.values.iter().copied().map(sound).sum::<f64>() >= limit);
    let _ = write!(
        svg,
        r#"<g><title>{}: {}</title><text x="{:.2}%" dx="-10" y="{}" text-anchor="end">{}</text>"#,
        escaped(&point.label),
        escaped(&values),
        columns.bars,
        y + base,
        escaped(&shortened(&point.label, columns.label_room))
    );
    svg.push_str(&open_plot(columns, y, step));
    let _ = write!(svg, r#"<rect class="track" width="100%" y="{top:.1}" height="{thick:.1}" rx="2"/>"#);
    let mut x = 0.0;
    for (at, value) in point.values.iter().enumerate() {
        let width = scale.percent(*value).min(100.0 - x);
        let class = match (over, series.keys.len()) {
            (true, 1) => "over".to_owned(),
            _ => format!("k{}", at % COLOURS),
        };
        let _ = write!(
            svg,
            r#"<rect class="{class}" x="{}%" width="{}%" y="{top:.1}" height="{thick:.1}" rx="2"/>"#,
            trimmed(x),
            trimmed(width)
        );
        let own = value_text(*value, series.unit);
        let room = width / 100.0 * columns.bar_room() / 100.0 * NARROW;
        if series.keys.len() > 1 && step == ROOMY && room >= own.chars().count() as f64 * CHARACTER {
            let _ = write!(
                svg,
                r#"<text class="in" x="{:.2}%" y="{base}" text-anchor="middle">{own}</text>"#,
                x + width / 2.0
            );
        }
        x += width;
    }
    let class = if over { "value high" } else { "value" };
    let _ = write!(
        svg,
        r#"</svg><text class="{class}" x="100%" y="{}" text-anchor="end">{}</text></g>"#,
        y + base,
        total_text(series, point)
    );
}

/// Its number stands above the bars, where no number of the axis is in the way.
fn limit(svg: &mut String, series: &Series, scale: &Scale, columns: &Columns, head: f64, foot: f64) {
    let Some(limit) = series.limit else { return };
    let x = trimmed(scale.percent(limit));
    svg.push_str(&open_plot(columns, 0.0, foot));
    let _ = write!(
        svg,
        r#"<line class="limit" x1="{x}%" x2="{x}%" y1="{}" y2="{foot}"/><text class="tick limit-text" x="{x}%" y="{}" text-anchor="middle">limit {}</text></svg>"#,
        head - 3.0,
        head - 5.0,
        value_text(limit, series.unit)
    );
}

/// At most two decimals, none that say nothing.
fn trimmed(value: f64) -> String {
    format!("{value:.2}").trim_end_matches('0').trim_end_matches('.').to_owned()
}
