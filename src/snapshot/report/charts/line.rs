//! A line over the points in their order, one for each key.

use std::fmt::Write as _;

use warden_host::{Point, Series};

use super::{COLOURS, Scale, escaped, legend, named_values, shortened, sound, spoken, value_text};

/// Pixels of the drawing itself.
const HEIGHT: f64 = 132.0;

/// Percent of the width kept for the numbers of the axis on the left, and for the last value on the right.
const LEFT: f64 = 13.0;
const RIGHT: f64 = 18.0;

/// Points up to which each says its own value and label; beyond, the first, the highest and the last do.
const EACH: usize = 8;

/// Points up to which each has a dot that tells its values under the pointer; beyond, as many stretches of the line do.
const DOTS: usize = 64;

/// Points that a line is drawn through, the newest; more would share a pixel.
const POINTS: usize = 320;

/// Pixels between the numbers at the end of two lines.
const APART: f64 = 12.0;

pub fn draw(series: &Series) -> String {
    // The newest points are the last ones.
    let points = &series.points[series.points.len().saturating_sub(POINTS)..];
    let highest = points.iter().flat_map(|point| &point.values).copied().map(sound).fold(0.0, f64::max);
    let scale = Scale::of(series, highest);
    let head = if series.keys.len() > 1 { 30.0 } else { 16.0 };
    let foot = head + HEIGHT;
    let x = |at: usize| if points.len() < 2 { 50.0 } else { at as f64 * 100.0 / (points.len() - 1) as f64 };
    let y = |value: f64| head + HEIGHT * (1.0 - scale.percent(value) / 100.0);
    let width = 100.0 - LEFT - RIGHT;

    let mut svg = format!(
        r#"<svg class="chart" width="100%" height="{}" role="img" aria-label="{}">"#,
        foot + 22.0,
        spoken(series)
    );
    legend(&mut svg, series, 0.0);
    for quarter in 0..=4 {
        let at = head + HEIGHT * f64::from(quarter) / 4.0;
        let _ =
            write!(svg, r#"<line class="grid" x1="{LEFT}%" x2="{}%" y1="{at}" y2="{at}"/>"#, LEFT + width);
        if quarter % 2 == 0 {
            let value = value_text(scale.top * (1.0 - f64::from(quarter) / 4.0), series.unit);
            let _ = write!(
                svg,
                r#"<text class="tick" x="{LEFT}%" dx="-8" y="{}" text-anchor="end">{value}</text>"#,
                at + 4.0
            );
        }
    }
    if let Some(limit) = series.limit {
        let (at, value) = (y(limit), value_text(limit, series.unit));
        let _ = write!(
            svg,
            r#"<line class="limit" x1="{LEFT}%" x2="{}%" y1="{at:.1}" y2="{at:.1}"/><text class="tick limit-text" x="{LEFT}%" dx="4" y="{:.1}">limit {value}</text>"#,
            LEFT + width,
            at - 5.0
        );
    }

    let _ = write!(svg, r#"<svg class="plot" x="{LEFT}%" width="{width}%" height="{}">"#, foot + 22.0);
    for key in 0..series.keys.len() {
        let _ = write!(
            svg,
            r#"<svg class="plot" y="{head}" width="100%" height="{HEIGHT}" viewBox="0 0 100 100" preserveAspectRatio="none">"#
        );
        for stretch in stretches(points, key) {
            let corners: Vec<String> = stretch
                .into_iter()
                .map(|(at, value)| format!("{:.2},{:.2}", x(at), 100.0 - scale.percent(value)))
                .collect();
            let class = key % COLOURS;
            // Of a lone point there would be nothing to see.
            let stub = if corners.len() == 1 { " h0.3" } else { "" };
            let _ = write!(
                svg,
                r#"<path class="l{class}" d="M{}{stub}" vector-effect="non-scaling-stroke"/>"#,
                corners.join(" ")
            );
        }
        svg.push_str("</svg>");
    }
    if points.len() <= DOTS {
        dots(&mut svg, series, points, x, y);
    } else {
        zones(&mut svg, series, points, x, head);
    }
    numbers(&mut svg, series, x, y, foot);
    svg + "</svg></svg>"
}

/// The parts of a line between its interruptions: places and values.
fn stretches(points: &[Point], key: usize) -> Vec<Vec<(usize, f64)>> {
    let mut stretches = vec![Vec::new()];
    for (at, point) in points.iter().enumerate() {
        match (point.values.get(key), stretches.last_mut()) {
            (Some(value), Some(stretch)) => stretch.push((at, sound(*value))),
            (None, Some(stretch)) if !stretch.is_empty() => stretches.push(Vec::new()),
            _ => {}
        }
    }
    stretches.retain(|stretch| !stretch.is_empty());
    stretches
}

fn dots(
    svg: &mut String,
    series: &Series,
    points: &[Point],
    x: impl Fn(usize) -> f64,
    y: impl Fn(f64) -> f64,
) {
    for (at, point) in points.iter().enumerate().filter(|(_, point)| !point.values.is_empty()) {
        let values = named_values(series, &point.values).collect::<Vec<_>>().join(", ");
        let _ = write!(svg, "<g><title>{}: {}</title>", escaped(&point.label), escaped(&values));
        for (key, value) in point.values.iter().enumerate() {
            let _ = write!(
                svg,
                r#"<circle class="k{}" cx="{:.2}%" cy="{:.1}" r="{}"/>"#,
                key % COLOURS,
                x(at),
                y(*value),
                if points.len() > EACH { 2 } else { 3 }
            );
        }
        svg.push_str("</g>");
    }
}

/// Nothing to see, but under the pointer the highest values of a stretch.
fn zones(svg: &mut String, series: &Series, points: &[Point], x: impl Fn(usize) -> f64, head: f64) {
    let wide = points.len().div_ceil(DOTS);
    for (number, zone) in points.chunks(wide).enumerate() {
        let highest: Vec<f64> = (0..series.keys.len())
            .map(|key| {
                zone.iter().filter_map(|point| point.values.get(key)).copied().fold(f64::NAN, f64::max)
            })
            .collect();
        if highest.iter().all(|value| value.is_nan()) {
            continue;
        }
        let values = named_values(series, &highest).collect::<Vec<_>>().join(", ");
        let (from, to) = (x(number * wide), x((number * wide + zone.len()).min(points.len() - 1)));
        let _ = write!(
            svg,
            r#"<rect x="{from:.2}%" y="{head}" width="{:.2}%" height="{HEIGHT}" fill="none" pointer-events="all"><title>{}: {}</title></rect>"#,
            (to - from).max(0.0),
            escaped(&zone[0].label),
            escaped(&values)
        );
    }
}

/// The numbers beside the line and the labels below it.
fn numbers(svg: &mut String, series: &Series, x: impl Fn(usize) -> f64, y: impl Fn(f64) -> f64, foot: f64) {
    let points = &series.points[series.points.len().saturating_sub(POINTS)..];
    let last = points.len() - 1;
    let first_key = |at: usize| sound(points[at].values.first().copied().unwrap_or(0.0));
    let highest = (0..points.len()).max_by(|one, other| first_key(*one).total_cmp(&first_key(*other)));
    for (at, point) in points.iter().enumerate() {
        let named = points.len() <= EACH || at == 0 || at == last || at == last / 2;
        if named {
            let anchor = if at == 0 && last > 0 {
                "start"
            } else if at == last && last > 0 {
                "end"
            } else {
                "middle"
            };
            let label = escaped(&shortened(&point.label, 16));
            let _ = write!(
                svg,
                r#"<text class="tick" x="{:.2}%" y="{}" text-anchor="{anchor}">{label}</text>"#,
                x(at),
                foot + 16.0
            );
        }
        let shown = points.len() <= EACH || Some(at) == highest;
        if let [value] = point.values[..]
            && at != last
            && shown
        {
            let anchor = if at == 0 { "start" } else { "middle" };
            let (at_x, at_y, text) = (x(at), y(value), value_text(value, series.unit));
            let _ = write!(
                svg,
                r#"<text class="value" x="{at_x:.2}%" y="{:.1}" text-anchor="{anchor}">{text}</text>"#,
                at_y - 7.0
            );
        }
    }
    let mut ends: Vec<(f64, String)> =
        points[last].values.iter().map(|value| (y(*value), value_text(*value, series.unit))).collect();
    ends.sort_by(|one, other| other.0.total_cmp(&one.0));
    let mut below = f64::INFINITY;
    for (at_y, text) in ends {
        below = at_y.min(below - APART);
        let _ = write!(
            svg,
            r#"<text class="value" x="{:.2}%" dx="8" y="{:.1}">{text}</text>"#,
            x(last),
            below + 4.0
        );
    }
}
