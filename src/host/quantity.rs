//! How numbers are written for a person, the same everywhere.

/// `17`, `3.4`, `0.02`: as many digits as matter, never more than two decimals.
pub fn number(value: f64) -> String {
    let text = match value.abs() {
        size if size >= 100.0 => format!("{value:.0}"),
        size if size >= 10.0 => format!("{value:.1}"),
        _ => format!("{value:.2}"),
    };
    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.').to_owned() } else { text }
}

/// `512 B`, `1.5 KiB`, `23.5 GiB`.
pub fn bytes(bytes: u64) -> String {
    const NAMES: [&str; 7] = ["B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB"];
    let mut value = bytes as f64;
    let mut name = 0;
    while value >= 1023.95 && name < NAMES.len() - 1 {
        value /= 1024.0;
        name += 1;
    }
    if name == 0 { format!("{bytes} B") } else { format!("{} {}", number(value), NAMES[name]) }
}

/// `850 µs`, `12.5 ms`, `3.2 s`, `4 min 10 s`, `3 h 20 min`, `12 d 4 h`.
pub fn duration(seconds: f64) -> String {
    if seconds < 0.0 {
        return format!("-{}", duration(-seconds));
    }
    let whole = seconds as u64;
    match whole {
        0 if seconds == 0.0 => "0 s".to_owned(),
        0 if seconds < 0.001 => format!("{} µs", number(seconds * 1e6)),
        0 => format!("{} ms", number(seconds * 1e3)),
        1..60 => format!("{} s", number(seconds)),
        60..3600 => two(whole / 60, "min", whole % 60, "s"),
        3600..86_400 => two(whole / 3600, "h", whole % 3600 / 60, "min"),
        _ => two(whole / 86_400, "d", whole % 86_400 / 3600, "h"),
    }
}

fn two(large: u64, large_name: &str, small: u64, small_name: &str) -> String {
    if small == 0 {
        format!("{large} {large_name}")
    } else {
        format!("{large} {large_name} {small} {small_name}")
    }
}

/// Unix seconds as RFC 3339 in UTC: `2026-11-21T12:00:00Z`; the number itself where no calendar reaches.
pub fn time(seconds: i64) -> String {
    jiff::Timestamp::from_second(seconds).map_or_else(|_| seconds.to_string(), |at| at.to_string())
}

/// `1 core`, `2 cores`: the count with its noun.
pub fn count(count: u64, one: &str, many: &str) -> String {
    format!("{count} {}", if count == 1 { one } else { many })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_the_digits_that_matter() {
        let shown = [0.0, 0.021, 3.4, 17.0, 99.96, 100.4, 12345.6].map(number);
        assert_eq!(shown, ["0", "0.02", "3.4", "17", "100", "100", "12346"]);
    }

    #[test]
    fn bytes_change_their_unit_at_1024() {
        let shown = [0, 512, 1024, 1536, 1_048_575, 25_276_502_016].map(bytes);
        assert_eq!(shown, ["0 B", "512 B", "1 KiB", "1.5 KiB", "1 MiB", "23.5 GiB"]);
    }

    #[test]
    fn durations_name_at_most_two_units() {
        let shown = [0.0, 0.00085, 0.0125, 3.2, 250.0, 12_000.0, 1_051_200.0].map(duration);
        assert_eq!(shown, ["0 s", "850 µs", "12.5 ms", "3.2 s", "4 min 10 s", "3 h 20 min", "12 d 4 h"]);
    }
}
