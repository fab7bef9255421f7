//! The kernel's log: /dev/kmsg (Documentation/ABI/testing/dev-kmsg), or the journal's copy where that is denied.

use std::fs::OpenOptions;
use std::io::{ErrorKind, Read};
use std::os::unix::fs::OpenOptionsExt;
use std::time::Instant;

use nix::fcntl::OFlag;
use warden_host::{Cause, Clock, LOG_LINES, Level, LogLine, LogText};

use super::{files, journal};

pub fn read(clock: &Clock, since_seconds: u64, deadline: Instant) -> Result<LogText, Cause> {
    let mut lines = match ring_buffer(clock) {
        Ok(lines) => lines,
        Err(cause) => {
            let log =
                journal::read(journal::Of::Kernel, since_seconds, deadline).map_err(|_| cause.clone())?;
            // Without the device (a container) the journal has no copy either: that is not silence.
            if log.lines.is_empty() && cause == Cause::Absent {
                return Err(cause);
            }
            return Ok(LogText { source: "journal, kernel messages".to_owned(), ..log });
        }
    };
    let oldest = clock.unix_us - i64::try_from(since_seconds).unwrap_or(i64::MAX / 2_000_000) * 1_000_000;
    lines.retain(|line| line.at_us.is_none_or(|at| at >= oldest));
    let cut = lines.len() > LOG_LINES;
    lines.drain(..lines.len().saturating_sub(LOG_LINES));
    Ok(LogText { lines, cut, source: "kernel ring buffer".to_owned() })
}

fn ring_buffer(clock: &Clock) -> Result<Vec<LogLine>, Cause> {
    let flags = (OFlag::O_NONBLOCK | OFlag::O_CLOEXEC).bits();
    let mut device =
        OpenOptions::new().read(true).custom_flags(flags).open("/dev/kmsg").map_err(files::cause_of)?;
    let booted = clock.unix_us - clock.up_us;
    // A read returns one record, and no record is longer than this.
    let (mut record, mut lines) = ([0_u8; 8192], Vec::new());
    loop {
        match device.read(&mut record) {
            Ok(0) => break,
            Ok(length) => lines.extend(parse(&String::from_utf8_lossy(&record[..length]), booted)),
            Err(error) if error.kind() == ErrorKind::WouldBlock => break,
            // The record was overwritten while we read, or we were interrupted: go on with the next.
            Err(error) if matches!(error.kind(), ErrorKind::BrokenPipe | ErrorKind::Interrupted) => {}
            Err(error) => return Err(files::cause_of(error)),
        }
    }
    Ok(lines)
}

/// `priority,sequence,microseconds,flags;text`, then lines of ` KEY=value`.
fn parse(record: &str, booted_us: i64) -> Option<LogLine> {
    let (head, rest) = record.split_once(';')?;
    let mut head = head.split(',');
    let priority: u32 = head.next()?.parse().ok()?;
    let at: i64 = head.nth(1)?.parse().ok()?;
    let text = rest.lines().next().unwrap_or_default();
    Some(LogLine {
        at_us: Some(booted_us + at),
        level: Some(Level::from_syslog((priority & 7) as u8)),
        origin: "kernel".to_owned(),
        text: unescape(text),
    })
}

/// Non-printing bytes come as `\x1b`.
fn unescape(text: &str) -> String {
    if !text.contains("\\x") {
        return text.to_owned();
    }
    let mut parts = text.split("\\x");
    let mut result = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        match part.get(..2).and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if byte.is_ascii() => {
                result.push(char::from(byte));
                result.push_str(&part[2..]);
            }
            _ => {
                result.push_str("\\x");
                result.push_str(part);
            }
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_record_is_read_with_its_time_and_level() {
        let record = "3,339,5140900,-;ext4: I/O error \\x5cdev\n SUBSYSTEM=block\n DEVICE=b254:0\n";
        let line = parse(record, 1_000_000_000).unwrap();
        assert_eq!((line.at_us, line.level), (Some(1_005_140_900), Some(Level::Error)));
        assert_eq!(line.text, "ext4: I/O error \\dev");
        assert_eq!(parse("torn", 0), None);
    }
}
