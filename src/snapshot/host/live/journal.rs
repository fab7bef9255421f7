//! The journal, through journalctl's export format (systemd.io/JOURNAL_EXPORT_FORMATS), which it writes and we
//! read several times faster than its JSON.

use std::time::Instant;

use warden_checks::host::{Cause, LOG_LINES, Level, LogLine, LogText, Output};

use super::command::run_program;

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
        Of::Unit(name) if is_unit_name(name) => format!("--unit={name}"),
        Of::Unit(name) => return Err(Cause::Other(format!("`{name}` is not a unit name"))),
        Of::Kernel => "--dmesg".to_owned(),
    };
    let (lines, since) = (format!("--lines={}", LOG_LINES + 1), format!("--since=-{since_seconds}s"));
    let fields = format!("--output-fields={FIELDS}");
    let args = ["--no-pager", "--quiet", "--output=export", &fields, &lines, &since, &whose];
    let output = run_program(JOURNALCTL, &args, deadline).map_err(|cause| match cause {
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

fn understand(output: &Output) -> Result<LogText, Cause> {
    let complaint = output.stderr.trim();
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

/// Entries are separated by an empty line. A field is `NAME=value`; one whose value is not plain text is its
/// name alone, then a 64-bit length, the value and a newline. That length has been through a lossy UTF-8
/// conversion here, so such a value is read up to the next line that begins a field.
fn parse_export(text: &str) -> Vec<LogLine> {
    text.split("\n\n").filter_map(parse_entry).collect()
}

fn parse_entry(entry: &str) -> Option<LogLine> {
    let mut line = LogLine { at_us: None, level: None, origin: String::new(), text: String::new() };
    let (mut command, mut message) = (String::new(), None);
    let mut fields = entry.lines().peekable();
    while let Some(field) = fields.next() {
        match field.split_once('=') {
            Some(("__REALTIME_TIMESTAMP", value)) => line.at_us = value.parse().ok(),
            Some(("PRIORITY", value)) => line.level = value.parse().ok().map(Level::from_syslog),
            Some(("SYSLOG_IDENTIFIER", value)) => line.origin = value.to_owned(),
            Some(("_COMM", value)) => command = value.to_owned(),
            Some(("MESSAGE", value)) => message = Some(value.to_owned()),
            _ if field == "MESSAGE" => {
                let mut value = String::new();
                while let Some(part) = fields.next_if(|next| !begins_field(next)) {
                    value.push_str(part);
                    value.push(' ');
                }
                let start = value
                    .char_indices()
                    .find(|&(at, c)| at > 0 && c != '\0' && c != '\u{fffd}' && !c.is_control());
                message = Some(start.map_or("", |(at, _)| &value[at..]).trim_end().to_owned());
            }
            _ => {}
        }
    }
    line.text = message?;
    if line.origin.is_empty() {
        line.origin = command;
    }
    Some(line)
}

fn begins_field(line: &str) -> bool {
    let name = line.split_once('=').map_or("", |(name, _)| name);
    !name.is_empty()
        && name.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
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
        let lines = parse_export(text);
        assert_eq!(lines.len(), 2);
        assert_eq!((lines[0].at_us, lines[0].level), (Some(1_795_257_421_411_331), Some(Level::Error)));
        assert_eq!((lines[0].origin.as_str(), lines[0].text.as_str()), ("iggy-server", "no space = no luck"));
        assert_eq!((lines[1].origin.as_str(), lines[1].level), ("sh", None));
    }

    #[test]
    fn a_message_that_is_not_plain_text_is_still_read() {
        let text = "__REALTIME_TIMESTAMP=5\nMESSAGE\n\u{9}\0\0\0\0\0\0\0two\nlines\nPRIORITY=6\n";
        let lines = parse_export(text);
        assert_eq!((lines[0].text.as_str(), lines[0].level), ("two lines", Some(Level::Info)));
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
        let stderr = "No journal files were opened due to insufficient permissions.\n".to_owned();
        let output = Output { status: Some(1), stdout: String::new(), stderr, cut: false };
        assert_eq!(understand(&output), Err(Cause::Denied));
    }
}
