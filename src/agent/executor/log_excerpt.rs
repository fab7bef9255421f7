//! What a unit that failed said last, or the agent itself, masked.

use std::path::Path;
use std::time::{Duration, Instant};

use ring::rand::{SecureRandom, SystemRandom};
use warden_config::{self as config, policy};
use warden_platform::log_buffer;
use warden_redact::{Redactor, Shape};
use warden_snapshot::host::live::journal::{Of, read};

/// Lines told, the newest ones: enough for a panic message and what led to it,
const LINES: usize = 20;
/// and their bytes: the outcome they are part of must fit a message.
const BYTES: usize = 4 << 10;
/// A dying process's last words reach the journal some milliseconds after systemd tells of its end.
const LAG: Duration = Duration::from_millis(200);
/// What was logged just before the call may tell why it failed.
const BEFORE: Duration = Duration::from_secs(2);

/// The newest lines `unit` logged in the time `since`. None when there is no journal, or when `policy`, which may ask
/// for more to be masked, is not understood. Blocks for up to some seconds.
pub fn newest_lines(unit: &str, since: Duration, policy: &Path) -> Vec<String> {
    std::thread::sleep(LAG);
    let since = (since + BEFORE + LAG).as_secs() + 1;
    let Ok(log) = read(Of::Unit(unit), since, Instant::now() + config::COMMAND_LIMIT) else {
        return Vec::new();
    };
    let text: Vec<String> = log.lines.iter().map(|line| format!("{}: {}", line.origin, line.text)).collect();
    // Masked as a whole: a key may stand in several lines.
    masked(&text.join("\n"), policy).map_or_else(Vec::new, |text| cut(&text))
}

/// The newest lines of this agent's own log.
pub fn own_newest_lines(policy: &Path) -> Vec<String> {
    masked(&log_buffer::newest().join("\n"), policy).map_or_else(Vec::new, |text| cut(&text))
}

/// None when `policy` is not understood.
pub fn masked(text: &str, policy: &Path) -> Option<String> {
    let mut key = [0; 32];
    SystemRandom::new().fill(&mut key).ok()?;
    let redactor = Redactor::new(key).also_masking(policy::also_mask(&[policy]).ok()?);
    Some(redactor.redact(Shape::Log, text).into_owned())
}

/// The newest lines that fit.
fn cut(text: &str) -> Vec<String> {
    let mut bytes = 0;
    let mut lines: Vec<String> = Vec::new();
    for line in text.lines().rev().take(LINES) {
        bytes += line.len();
        if bytes > BYTES {
            if lines.is_empty() {
                lines.push(line[..line.floor_char_boundary(BYTES)].to_owned());
            }
            break;
        }
        lines.push(line.to_owned());
    }
    lines.reverse();
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_lines_stay() {
        let text: Vec<String> = (1..=50).map(|number| format!("line {number}")).collect();
        let lines = cut(&text.join("\n"));
        assert_eq!((lines.len(), lines[0].as_str(), lines[19].as_str()), (20, "line 31", "line 50"));
        let long = format!("{}\n{}\nlast", "a".repeat(3_000), "b".repeat(3_000));
        assert_eq!(cut(&long), ["b".repeat(3_000), "last".to_owned()]);
        assert_eq!(cut(&"é".repeat(4_000)), ["é".repeat(2_048)]);
    }
}
