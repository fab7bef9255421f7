//! The journal, through journalctl's export format (systemd.io/JOURNAL_EXPORT_FORMATS), which it writes and we
//! read several times faster than its JSON.

use std::time::Instant;

use warden_host::{Cause, LOG_LINES, Level, LogLine, LogText};

use super::command::{RawOutput, run_for_bytes};

/// Whose entries.
#[derive(Clone, Copy, Debug)]
pub enum Of<'a> {
    Unit(&'a str),
    Kernel,
}

const JOURNALCTL: &[&str] = &["/usr/bin/journalctl", "/bin/journalctl"];
const FIELDS: &str = "MESSAGE,PRIORITY,SYSLOG_IDENTIFIER,_COMM,_PID";

pub fn read(of: Of<'_>, since_seconds: u64, deadline: Instant) -> Result<LogText, Cause> {
    let whose = match of {
        Of::Unit(name) => whose(name).ok_or_else(|| Cause::Other(format!("`{name}` is not a unit name")))?,
        Of::Kernel => vec!["--dmesg".to_owned()],
    };
    let (lines, since) = (format!("--lines={}", LOG_LINES + 1), format!("--since=-{since_seconds}s"));
    let fields = format!("--output-fields={FIELDS}");
    let mut args = vec!["--no-pager", "--quiet", "--output=export", &fields, &lines, &since];
    args.extend(whose.iter().map(String::as_str));
    let output = run_for_bytes(JOURNALCTL, &args, deadline).map_err(|cause| match cause {
        Cause::Absent => {
            Cause::Unavailable("no journal on this host (journalctl is not installed)".to_owned())
        }
        other @ (Cause::Denied
        | Cause::TimedOut
        | Cause::Unavailable(_)
        | Cause::Unrecorded
        | Cause::Truncated(_)
        | Cause::Masked
        | Cause::Other(_)) => other,
    })?;
    understand(&output)
}

fn understand(output: &RawOutput) -> Result<LogText, Cause> {
    let complaint = String::from_utf8_lossy(&output.stderr);
    let complaint = complaint.trim();
    if output.stdout.is_empty() && !complaint.is_empty() {
        return Err(match complaint {
            text if text.contains("insufficient permissions") => Cause::Denied,
            text if text.contains("No journal files") => {
                Cause::Unavailable("no journal files on this host".to_owned())
            }
            text => Cause::Other(text.lines().next().unwrap_or_default().to_owned()),
        });
    }
    let mut lines = parse_export(&output.stdout);
    let cut = lines.len() > LOG_LINES;
    lines.drain(..lines.len().saturating_sub(LOG_LINES));
    Ok(LogText { lines, cut: cut || output.cut, source: "journal".to_owned() })
}

/// Entries are separated by an empty line. A field is `NAME=value` on a line; one whose value is not plain text (a
/// coloured line is not, for its escape characters) is its name alone, then the length of the value as 64 bits,
/// little-endian, the value, and a newline.
fn parse_export(bytes: &[u8]) -> Vec<LogLine> {
    let mut lines = Vec::new();
    let mut entry = Fields::default();
    let mut rest = bytes;
    while !rest.is_empty() {
        let line = take_line(&mut rest);
        match line.iter().position(|&byte| byte == b'=') {
            _ if line.is_empty() => lines.extend(std::mem::take(&mut entry).line()),
            Some(at) => entry.set(&line[..at], &line[at + 1..]),
            None => entry.set(line, take_value(&mut rest)),
        }
    }
    lines.extend(entry.line());
    lines
}

fn take_line<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let end = rest.iter().position(|&byte| byte == b'\n').unwrap_or(rest.len());
    let line = &rest[..end];
    *rest = rest.get(end + 1..).unwrap_or_default();
    line
}

/// A value with its length before it; what is left, when the output was cut within it.
fn take_value<'a>(rest: &mut &'a [u8]) -> &'a [u8] {
    let Some((length, value)) = rest.split_first_chunk::<8>() else {
        *rest = &[];
        return &[];
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX).min(value.len());
    *rest = value.get(length + 1..).unwrap_or_default();
    &value[..length]
}

#[derive(Default)]
struct Fields {
    at_us: Option<i64>,
    level: Option<Level>,
    identifier: Option<String>,
    command: Option<String>,
    message: Option<String>,
}

impl Fields {
    fn set(&mut self, name: &[u8], value: &[u8]) {
        let text = || String::from_utf8_lossy(value).into_owned();
        match name {
            b"__REALTIME_TIMESTAMP" => self.at_us = text().parse().ok(),
            b"PRIORITY" => self.level = text().parse().ok().map(Level::from_syslog),
            b"SYSLOG_IDENTIFIER" => self.identifier = Some(text()),
            b"_COMM" => self.command = Some(text()),
            // A message of several lines is one line of the log.
            b"MESSAGE" => self.message = Some(text().replace('\n', " ").trim_end().to_owned()),
            _ => {}
        }
    }

    /// `None` for an entry without a message.
    fn line(self) -> Option<LogLine> {
        let origin = self.identifier.or(self.command).unwrap_or_default();
        Some(LogLine { at_us: self.at_us, level: self.level, origin, text: self.message? })
    }
}

/// What selects the entries of a unit: `iggy.service`, or `user@1000.service/iggy.service` for a unit of the service
/// manager of user 1000 (`--user-unit=` would look for those of the caller).
fn whose(name: &str) -> Option<Vec<String>> {
    match name.split_once('/') {
        None => is_unit_name(name).then(|| vec![format!("--unit={name}")]),
        Some((manager, unit)) => {
            let uid: u32 = manager.strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()?;
            is_unit_name(unit).then(|| vec![format!("_SYSTEMD_USER_UNIT={unit}"), format!("_UID={uid}")])
        }
    }
}

/// systemd.unit(5): so that a name can never be an option or a pattern.
fn is_unit_name(name: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b":_.@-\\".contains(&byte);
    !name.starts_with('-') && name.len() < 256 && name.bytes().all(allowed) && name.contains('.')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn entries_are_read_with_their_time_level_and_origin() {
        let text = "__CURSOR=s=1\n__REALTIME_TIMESTAMP=1795257421411331\nPRIORITY=3\nSYSLOG_IDENTIFIER=iggy-server\n\
                    _PID=7\nMESSAGE=no space = no luck\n\n__REALTIME_TIMESTAMP=1795257421411332\n_COMM=sh\nMESSAGE=b\n\n";
        let lines = parse_export(text.as_bytes());
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].at_us, lines[0].level), (Some(1_795_257_421_411_331), Some(Level::Error)));
        assert_eq!((lines[0].origin.as_str(), lines[0].text.as_str()), ("iggy-server", "no space = no luck"));
        assert_eq!((lines[1].origin.as_str(), lines[1].level), ("sh", None));
    }

    fn binary(message: &[u8]) -> Vec<u8> {
        let length = (message.len() as u64).to_le_bytes();
        [b"__REALTIME_TIMESTAMP=5\nMESSAGE\n".as_slice(), &length, message, b"\nPRIORITY=6\n\n"].concat()
    }

    #[test]
    fn a_message_that_is_not_plain_text_is_read_to_the_byte() {
        let coloured = "\u{1b}[2m2026-11-21T11:09:02Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m x: y";
        let lengths = [10, 61, 65, 200, 266, 16_705].map(|length| "x".repeat(length - 1) + "\u{1b}");
        for message in lengths.iter().map(String::as_str).chain([coloured, "\u{1b}[0m", ""]) {
            let two = [binary(message.as_bytes()), binary(b"next")].concat();
            let lines = parse_export(&two);
            let texts: Vec<&str> = lines.iter().map(|line| line.text.as_str()).collect();
            assert_eq!(texts, [message, "next"]);
            assert_eq!((lines[0].at_us, lines[0].level), (Some(5), Some(Level::Info)));
        }
        let lines = parse_export(&binary(b"two\nlines\n\nMESSAGE=three\n"));
        assert_eq!((lines.len(), lines[0].text.as_str()), (1, "two lines  MESSAGE=three"));
        let odd = parse_export(&binary(b"a \xff b"));
        assert_eq!(odd[0].text, "a \u{fffd} b");
    }

    #[test]
    fn an_export_that_was_cut_anywhere_gives_what_is_left_of_it() {
        let whole = [binary(b"\x1b[0mfirst"), binary(b"second")].concat();
        for end in 0..whole.len() {
            let lines = parse_export(&whole[..end]);
            assert!(
                lines.len() <= 2 && lines.first().is_none_or(|line| "\u{1b}[0mfirst".starts_with(&line.text))
            );
        }
    }

    #[test]
    fn the_unit_of_a_user_is_asked_for_by_user_and_name() {
        assert_eq!(whose("iggy.service"), Some(vec!["--unit=iggy.service".to_owned()]));
        assert_eq!(
            whose("user@1000.service/iggy.service"),
            Some(vec!["_SYSTEMD_USER_UNIT=iggy.service".to_owned(), "_UID=1000".to_owned()])
        );
        for name in
            ["user@x.service/a.service", "x/a.service", "user@1.service/--file=x", "user@1.service/a/b.c"]
        {
            assert_eq!(whose(name), None, "{name}");
        }
    }

    #[test]
    fn a_unit_name_cannot_become_an_option() {
        assert!(is_unit_name("iggy.service") && is_unit_name("connector@a\\x2db.service"));
        assert!(
            !is_unit_name("--file=/etc/shadow.x")
                && !is_unit_name("a b.service")
                && !is_unit_name("*.service")
        );
    }

    #[test]
    fn no_permission_is_not_an_empty_log() {
        let stderr = b"No journal files were opened due to insufficient permissions.\n".to_vec();
        let output = RawOutput { status: Some(1), stdout: Vec::new(), stderr, cut: false };
        assert_eq!(understand(&output), Err(Cause::Denied));
    }
}
