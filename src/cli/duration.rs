//! Durations as people write them: `45s`, `90m`, `24h`, `7d`, `2w`.

use std::time::Duration;

/// Reads a duration from `least` to `most`, in seconds; `example` says how one is written.
///
/// # Errors
/// It is no duration, or out of that range.
pub fn parse(text: &str, least: u64, most: u64, example: &str) -> Result<Duration, String> {
    let hint = || format!("`{text}` is not a duration; write it as {example}");
    let (number, unit) = text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()));
    let seconds = match unit.trim() {
        "s" => 1,
        "m" | "min" => 60,
        "h" => HOUR,
        "d" => DAY,
        "w" => 7 * DAY,
        _ => return Err(hint()),
    };
    let number: u64 = number.parse().map_err(|_| hint())?;
    let total = number.saturating_mul(seconds);
    if !(least..=most).contains(&total) {
        return Err(format!("`{text}` is out of range: from {} to {}", short(least), short(most)));
    }
    Ok(Duration::from_secs(total))
}

pub const MINUTE: u64 = 60;
const HOUR: u64 = 3600;
pub const DAY: u64 = 24 * HOUR;

fn short(seconds: u64) -> String {
    for (unit, word) in [(DAY, "d"), (HOUR, "h"), (MINUTE, "m")] {
        if seconds >= unit && seconds.is_multiple_of(unit) {
            return format!("{}{word}", seconds / unit);
        }
    }
    format!("{seconds}s")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_duration_has_a_unit_and_a_range() {
        let read = |text: &str| parse(text, MINUTE, 30 * DAY, "90m, 24h or 7d").map(|read| read.as_secs());
        assert_eq!((read("60s"), read("90m"), read("24h")), (Ok(60), Ok(5_400), Ok(86_400)));
        assert_eq!((read("7d"), read("2w")), (Ok(604_800), Ok(1_209_600)));
        for wrong in ["", "7", "d", "-1d", "1.5h", "7 years"] {
            let told = read(wrong).unwrap_err();
            assert_eq!(told, format!("`{wrong}` is not a duration; write it as 90m, 24h or 7d"));
        }
        for far in ["59s", "31d", "99999999999999999999d"] {
            assert!(read(far).is_err(), "{far}");
        }
        assert_eq!(read("31d").unwrap_err(), "`31d` is out of range: from 1m to 30d");
    }
}
