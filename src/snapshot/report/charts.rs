//! Charts as inline SVG: lengths in percent and text in pixels, so that they fit any width and stay readable.

mod bars;
mod line;

use std::fmt::Write as _;

use warden_host::{Point, Series, Shape, Unit, quantity};

use super::model::Outcome;
use super::sanitize;

/// Points that are told one by one; more would be neither seen nor read.
const POINTS: usize = 64;

/// Colours that the style sheet has for the keys of a series; further keys begin again.
const COLOURS: usize = 8;

/// The series as one SVG element that says its values without a pointer.
pub fn chart(series: &Series) -> String {
    if series.points.is_empty() || series.keys.is_empty() {
        return r#"<svg class="chart" width="100%" height="20" role="img" aria-label="no points"><text class="muted" x="0" y="14">no points</text></svg>"#.to_owned();
    }
    match series.shape {
        Shape::Bars => bars::draw(series),
        Shape::Line => line::draw(series),
    }
}

/// How many checks came to each outcome, as the parts of one thin bar.
pub fn share(counts: &[(Outcome, u32)]) -> String {
    let total: u32 = counts.iter().map(|(_, count)| count).sum();
    let mut svg = String::from(r#"<svg class="share" width="100%" height="6" aria-hidden="true">"#);
    let mut x = 0.0;
    for (outcome, count) in counts {
        let width = f64::from(*count) * 100.0 / f64::from(total.max(1));
        let class = outcome.class();
        svg += &format!(r#"<rect class="{class}" x="{x:.2}%" width="{width:.2}%" height="6"/>"#);
        x += width;
    }
    svg + "</svg>"
}

/// From nothing to the top of the axis.
struct Scale {
    top: f64,
}

impl Scale {
    /// The top that the series names, or the next round number above everything drawn.
    fn of(series: &Series, highest: f64) -> Scale {
        let highest = highest.max(sound(series.limit.unwrap_or(0.0)));
        let named = series.top.map(sound).filter(|top| *top >= highest && *top > 0.0);
        Scale { top: named.unwrap_or_else(|| round_up(highest, series.unit)) }
    }

    fn percent(&self, value: f64) -> f64 {
        (sound(value) / self.top * 100.0).min(100.0)
    }
}

/// A number that can be drawn: what is negative, endless or no number at all draws as nothing.
fn sound(value: f64) -> f64 {
    if value.is_finite() { value.max(0.0) } else { 0.0 }
}

fn round_up(highest: f64, unit: Unit) -> f64 {
    if matches!(unit, Unit::Bytes | Unit::BytesPerSecond) {
        return highest.max(1024.0).log2().ceil().exp2();
    }
    if highest <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(highest.log10().floor());
    [1.0, 2.0, 4.0, 5.0, 8.0, 10.0]
        .map(|step| step * power)
        .into_iter()
        .find(|top| *top >= highest)
        .unwrap_or(highest)
}

fn value_text(value: f64, unit: Unit) -> String {
    if !value.is_finite() {
        return "–".to_owned();
    }
    match unit {
        Unit::Count => quantity::number(value),
        Unit::Percent => format!("{} %", quantity::number(value)),
        Unit::Bytes => quantity::bytes(sound(value) as u64),
        Unit::BytesPerSecond => format!("{}/s", quantity::bytes(sound(value) as u64)),
        Unit::Milliseconds => format!("{} ms", quantity::number(value)),
        Unit::Seconds => quantity::duration(value),
    }
}

/// The keys beside their colours; a single key needs none.
fn legend(svg: &mut String, series: &Series, y: f64) {
    if series.keys.len() < 2 {
        return;
    }
    let room = 100.0 / series.keys.len().clamp(3, 8) as f64;
    for (at, key) in series.keys.iter().enumerate().take(COLOURS) {
        let (x, class) = (room * at as f64, at % COLOURS);
        let _ = write!(
            svg,
            r#"<svg x="{x:.2}%" y="{y}" width="{room:.2}%" height="16"><rect class="k{class}" y="3" width="10" height="10" rx="2"/><text x="15" y="12">{}</text></svg>"#,
            escaped(key)
        );
    }
}

/// The whole chart as a sentence, for those who hear it.
fn spoken(series: &Series) -> String {
    let mut text = format!("{}: ", series.title);
    if matches!(series.shape, Shape::Line) && series.points.len() > POINTS {
        text += &extremes(series);
    } else {
        let told = series.points.iter().filter(|point| !point.values.is_empty()).take(POINTS);
        for (at, point) in told.enumerate() {
            let separator = if at == 0 { "" } else { "; " };
            let values: Vec<String> = match series.keys.len() {
                1 => point.values.iter().map(|value| value_text(*value, series.unit)).collect(),
                _ => named_values(series, &point.values).collect(),
            };
            let _ = write!(text, "{separator}{} {}", point.label, values.join(", "));
        }
    }
    if let Some(limit) = series.limit {
        let _ = write!(text, "; limit {}", value_text(limit, series.unit));
    }
    escaped(&text)
}

/// Of a long line: from when to when, and of each key the least and the most, and when.
fn extremes(series: &Series) -> String {
    let label = |point: Option<&Point>| point.map_or("", |point| point.label.as_str()).to_owned();
    let mut text = format!("{} to {}", label(series.points.first()), label(series.points.last()));
    for (key, name) in series.keys.iter().enumerate() {
        let values =
            || series.points.iter().filter_map(|point| Some((sound(*point.values.get(key)?), point)));
        let order = |one: &(f64, &Point), other: &(f64, &Point)| one.0.total_cmp(&other.0);
        let Some((least, most)) = values().min_by(order).zip(values().max_by(order)) else { continue };
        let told =
            |(value, point): (f64, &Point)| format!("{} at {}", value_text(value, series.unit), point.label);
        let _ = write!(text, "; {name} from {} to {}", told(least), told(most));
    }
    text
}

fn named_values<'a>(series: &'a Series, values: &'a [f64]) -> impl Iterator<Item = String> + 'a {
    series.keys.iter().zip(values).map(|(key, value)| format!("{key} {}", value_text(*value, series.unit)))
}

/// Text from the host inside an SVG element or attribute.
fn escaped(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for char in sanitize::line(text).chars() {
        match char {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            _ => escaped.push(char),
        }
    }
    escaped
}

/// The end of a label, where paths and device names differ, when all of it does not fit.
fn shortened(label: &str, room: usize) -> String {
    let label = sanitize::line(label);
    let length = label.chars().count();
    if length <= room {
        return label;
    }
    let kept: String = label.chars().skip(length - room + 1).collect();
    format!("…{kept}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn full() -> Series {
        let mut series = Series::bars("How full", Unit::Percent, ["used"]);
        (series.top, series.limit) = (Some(100.0), Some(85.0));
        series.point("/", [71.0]);
        series.point("/var/lib/iggy", [97.4]);
        series
    }

    #[test]
    fn a_bar_is_as_long_as_its_value_and_says_it() {
        let svg = chart(&full());
        assert!(svg.contains(r#"width="71%""#) && svg.contains(">71 %</text>"), "{svg}");
        assert!(svg.contains(r#"class="over" x="0%" width="97.4%""#), "{svg}");
        assert!(svg.contains(r#"aria-label="How full: / 71 %; /var/lib/iggy 97.4 %; limit 85 %""#), "{svg}");
        assert!(svg.contains(r#"x1="85%""#), "the limit is a line across: {svg}");
    }

    #[test]
    fn numbers_that_cannot_be_drawn_draw_as_nothing() {
        let mut series = full();
        for value in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, -3.0] {
            series.point("odd", [value]);
        }
        let svg = chart(&series);
        assert!(!svg.contains("NaN%") && !svg.contains("inf%") && !svg.contains("-3%"), "{svg}");
        series.shape = Shape::Line;
        let svg = chart(&series);
        assert!(!svg.contains("NaN") && !svg.contains("inf"), "{svg}");
    }

    #[test]
    fn a_label_cannot_become_markup() {
        let mut series = full();
        series.point("\"><script>alert(1)</script>", [1.0]);
        for shape in [Shape::Bars, Shape::Line] {
            series.shape = shape;
            assert!(!chart(&series).contains("<script"));
        }
    }

    #[test]
    fn the_top_is_a_round_number_where_none_is_named() {
        assert_eq!(round_up(37.0, Unit::Count), 40.0);
        assert_eq!(round_up(0.0, Unit::Count), 1.0);
        assert_eq!(round_up(1500.0, Unit::Bytes), 2048.0);
        assert_eq!(round_up(0.0, Unit::BytesPerSecond), 1024.0);
    }

    /// A day in steps of five minutes, with an hour missing.
    fn day() -> Series {
        let mut series = Series::line("CPU", Unit::Percent, vec!["busy".to_owned(), "stolen".to_owned()]);
        for at in 0..288 {
            let values = (!(100..112).contains(&at)).then(|| vec![f64::from(at % 50), 1.0]);
            series.moment(format!("m{at}"), values);
        }
        series
    }

    #[test]
    fn a_line_is_interrupted_where_nothing_is_known() {
        let svg = chart(&day());
        assert_eq!(svg.matches("<path class=\"l0\"").count(), 2, "{svg}");
        assert!(!svg.contains("<circle"), "hundreds of dots would hide the line");
        assert_eq!(
            svg.matches("<title>").count(),
            288_usize.div_ceil(5) - 2,
            "stretches that know something"
        );
        let mut lone = day();
        lone.points.truncate(3);
        lone.points[1].values.clear();
        lone.points.iter_mut().for_each(|point| point.values.truncate(2));
        let svg = chart(&lone);
        assert_eq!(svg.matches(" h0.3").count(), 4, "two lone points of two lines: {svg}");
    }

    #[test]
    fn a_long_line_is_told_by_its_extremes() {
        let svg = chart(&day());
        let told = r#"aria-label="CPU: m0 to m287; busy from 0 % at m0 to 49 % at m249; stolen from 1 % at m0 to 1 % at m287""#;
        assert!(svg.contains(told), "{svg}");
        assert!(svg.len() < 20_000, "{}", svg.len());
    }

    #[test]
    fn a_chart_without_points_says_so() {
        let mut series = full();
        series.points.clear();
        assert!(chart(&series).contains("no points"));
    }
}
