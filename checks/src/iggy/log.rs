//! What the runtimes log: their line format, and where the lines are.

use super::{Configuration, Runtime, configuration, data_directory, launches};
use crate::host::{Cause, Failure, Host, IfAny, Level, LogLine, LogText};
use crate::{Error, Finding, Result};

/// Lines of a log file, oldest first. A line of another form (a panic's second line, a banner) keeps the time
/// of the line before it.
pub fn parse(text: &str) -> Vec<LogLine> {
    let mut at_us = None;
    let mut lines = Vec::new();
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut line = parse_line(line);
        at_us = line.at_us.or(at_us);
        line.at_us = at_us;
        lines.push(line);
    }
    lines
}

/// A line of the form `2026-11-21T10:30:53.843359Z  INFO  ctrl-c server::bootstrap: text`, with or without
/// colours. The connectors runtime leaves the thread out, and can write the same as JSON.
pub fn parse_line(line: &str) -> LogLine {
    let line = without_escapes(line);
    parse_json(&line).or_else(|| parse_text(&line)).unwrap_or_else(|| LogLine {
        at_us: None,
        level: level_of_other(&line),
        origin: String::new(),
        text: line.trim_end().to_owned(),
    })
}

fn parse_text(line: &str) -> Option<LogLine> {
    let (time, rest) = line.trim_start().split_once(' ')?;
    let at: jiff::Timestamp = time.parse().ok()?;
    let (level, rest) = rest.trim_start().split_once(' ')?;
    let level = level_of(level)?;
    // Thread and target, or the target alone, end at the first `: `.
    let (origin, text) = match rest.split_once(": ") {
        Some((origin, text)) if origin.split_whitespace().count() <= 2 => (origin, text),
        _ => ("", rest),
    };
    let origin = origin.split_whitespace().collect::<Vec<_>>().join(" ");
    let text = text.trim().to_owned();
    Some(LogLine { at_us: Some(at.as_microsecond()), level: Some(level), origin, text })
}

fn parse_json(line: &str) -> Option<LogLine> {
    let fields: serde_json::Map<String, serde_json::Value> =
        line.starts_with('{').then(|| serde_json::from_str(line).ok())??;
    let text = |name: &str| fields.get(name).and_then(|value| value.as_str());
    let nested = || fields.get("fields")?.get("message")?.as_str();
    let at: jiff::Timestamp = text("timestamp")?.parse().ok()?;
    Some(LogLine {
        at_us: Some(at.as_microsecond()),
        level: level_of(text("level")?),
        origin: text("target").unwrap_or_default().to_owned(),
        text: text("message").or_else(nested).unwrap_or_default().to_owned(),
    })
}

fn level_of(name: &str) -> Option<Level> {
    match name {
        "TRACE" => Some(Level::Trace),
        "DEBUG" => Some(Level::Debug),
        "INFO" => Some(Level::Info),
        "WARN" => Some(Level::Warn),
        "ERROR" => Some(Level::Error),
        _ => None,
    }
}

/// What the runtimes write outside their log: panics, and the error that `main` ended with.
fn level_of_other(line: &str) -> Option<Level> {
    let is_panic = line.starts_with("thread '") && line.contains(" panicked at ");
    match line {
        _ if is_panic => Some(Level::Critical),
        _ if line.starts_with("Error: ") => Some(Level::Error),
        _ => None,
    }
}

/// Takes out the colours: `ESC [`, digits and semicolons, a letter (ECMA-48).
fn without_escapes(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = line;
    while let Some(at) = rest.find("\u{1b}[") {
        out.push_str(&rest[..at]);
        let sequence = &rest[at + 2..];
        let end = sequence.find(|character: char| !character.is_ascii_digit() && character != ';');
        let end = end.filter(|&end| sequence[end..].starts_with(|last: char| last.is_ascii_alphabetic()));
        rest = end.map_or(sequence, |end| &sequence[end + 1..]);
    }
    out.push_str(rest);
    out
}

/// The log file that the server writes, by its configuration.
pub fn log_file(host: &Host) -> Option<String> {
    let data = data_directory(host)?;
    let configuration = configuration(host, Runtime::Iggy);
    let configured = |configuration: Configuration| configuration.text("logging.path");
    let directory = configuration.and_then(configured).unwrap_or_else(|| "logs".to_owned());
    Some(format!("{}/{directory}/iggy-server.log", data.path))
}

/// All that a runtime said: its log file, and what its unit wrote into the journal beside it. `None` when
/// there is neither; sources that exist and could not be read are named with the reason.
pub fn said(host: &Host, runtime: Runtime) -> Result<Option<Said>> {
    let mut said = Said::default();
    let file = match runtime {
        Runtime::Iggy => log_file(host),
        Runtime::Connectors => None,
    };
    if let Some(path) = file {
        match host.tail(&path).if_any() {
            Ok(None) => {}
            Ok(Some(content)) => {
                said.log.cut = content.cut_from.is_some();
                said.sources.push(path);
                said.log.lines = parse(&content.text);
            }
            Err(error) => said.unread.push(error),
        }
    }
    let refused = launches(host, runtime).into_iter().find_map(|launch| launch.refused);
    said.unread.extend(refused.map(Error::from));
    let unit = runtime.unit(&host.settings()?).to_owned();
    said.read_journal(host, &unit);
    Ok(said.if_any())
}

/// All that a unit wrote into the journal, in the same way.
pub fn said_by_unit(host: &Host, unit: &str) -> Option<Said> {
    let mut said = Said::default();
    said.read_journal(host, unit);
    said.if_any()
}

/// What [`said`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Said {
    pub log: LogText,
    pub sources: Vec<String>,
    /// Why a source could not be read, for each such.
    pub unread: Vec<Error>,
}

impl Said {
    /// When no source could be read: a finding that says why there is no question, or the error.
    pub fn nothing_to_judge(&self) -> Result<Option<Finding>> {
        if !self.sources.is_empty() {
            return Ok(None);
        }
        let denied = self.unread.iter().find(|error| !is_unavailable(error));
        match (denied, self.unread.first()) {
            (Some(error), _) => Err(error.clone()),
            (None, reason) => Ok(reason.map(|reason| Finding::skip(reason.to_string()))),
        }
    }

    fn if_any(mut self) -> Option<Said> {
        self.log.source = self.sources.join(", ");
        (!self.sources.is_empty() || !self.unread.is_empty()).then_some(self)
    }

    fn read_journal(&mut self, host: &Host, unit: &str) {
        match host.journal(unit).if_any() {
            Ok(None) => {}
            Ok(Some(journal)) => self.add_journal(unit, &journal),
            // A machine without a journal has nothing beside the file.
            Err(error) if is_unavailable(&error) && !self.sources.is_empty() => {}
            Err(error) => self.unread.push(error),
        }
    }

    /// The journal repeats on stdout what the file holds, with other microseconds: of the journal only the
    /// rest counts then, which is panics and what the service manager says.
    fn add_journal(&mut self, unit: &str, journal: &LogText) {
        let has_file = !self.log.lines.is_empty();
        if journal.lines.is_empty() {
            return;
        }
        for entry in &journal.lines {
            let parsed = parse_line(&entry.text);
            match parsed.at_us {
                Some(_) if has_file => {}
                Some(_) => self.log.lines.push(parsed),
                None => {
                    let level = parsed.level.or(entry.level);
                    let (at_us, origin) = (entry.at_us, entry.origin.clone());
                    self.log.lines.push(LogLine { at_us, level, origin, text: parsed.text });
                }
            }
        }
        self.log.lines.sort_by_key(|line| line.at_us);
        self.log.cut |= journal.cut;
        self.sources.push(format!("journal of {unit}"));
    }
}

fn is_unavailable(error: &Error) -> bool {
    matches!(error, Error::Host(Failure { cause: Cause::Unavailable(_), .. }))
}

/// Whether the server began with this line.
pub fn is_start(line: &LogLine) -> bool {
    line.text.starts_with("Initializing system, data will be stored at")
}

/// Whether the server ended in order with this line, as 0.9 and as 0.8 say it.
pub fn is_clean_end(line: &LogLine) -> bool {
    line.text == "server shutdown complete" || line.text.starts_with("All shards have shut down.")
}

/// The lines since the server last started; all of them when no start is among them.
pub fn since_start(lines: &[LogLine]) -> &[LogLine] {
    let start = lines.iter().rposition(is_start);
    &lines[start.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::super::tests::{directory, link, running, settings};
    use super::*;
    use crate::host::{Content, Data, Recorded, Request};

    #[test]
    fn lines_of_the_file_of_a_terminal_and_of_the_connectors_parse_alike() {
        let line = parse_line(
            "2026-11-21T11:09:18.981031Z ERROR  shard-1 server::bootstrap: message pump died: op=12 shard=1",
        );
        assert_eq!(line.at_us, Some(1_795_259_358_981_031));
        assert_eq!((line.level, line.origin.as_str()), (Some(Level::Error), "shard-1 server::bootstrap"));
        assert_eq!(line.text, "message pump died: op=12 shard=1");

        let coloured = "\u{1b}[2m2026-11-21T11:09:19.9Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m shard-1 \
                        \u{1b}[2merr_trail\u{1b}[0m\u{1b}[2m:\u{1b}[0m Too many open files (os error 24)";
        let line = parse_line(coloured);
        assert_eq!((line.level, line.origin.as_str()), (Some(Level::Error), "shard-1 err_trail"));
        assert_eq!(line.text, "Too many open files (os error 24)");

        let line = parse_line("2026-11-21T11:09:02.947263Z ERROR iggy_connectors::sink: Sink: x - failed");
        assert_eq!((line.origin.as_str(), line.text.as_str()), ("iggy_connectors::sink", "Sink: x - failed"));

        let json =
            r#"{"timestamp":"2026-11-21T11:09:02Z","level":"WARN","fields":{"message":"slow"},"target":"a"}"#;
        let line = parse_line(json);
        assert_eq!((line.level, line.text.as_str()), (Some(Level::Warn), "slow"));
    }

    #[test]
    fn panics_and_odd_lines_are_kept_with_the_time_before_them() {
        let lines = parse(
            "2026-11-21T11:09:18Z  INFO main a: b\n\nthread 'shard-1' (7) panicked at core/x.rs:1:2:\n\
             Error: ShardJoinFailures\n\u{1b}[\u{1b}[3",
        );
        assert_eq!(
            lines.iter().map(|line| line.level).collect::<Vec<_>>(),
            [Some(Level::Info), Some(Level::Critical), Some(Level::Error), None]
        );
        assert!(lines.iter().all(|line| line.at_us == lines[0].at_us));
    }

    fn journal(lines: &[&str]) -> LogText {
        let line = |text: &&str| LogLine {
            at_us: Some(1_795_259_400_000_000),
            level: Some(Level::Info),
            origin: "iggy-server".to_owned(),
            text: (*text).to_owned(),
        };
        LogText { lines: lines.iter().map(line).collect(), cut: false, source: "journal".to_owned() }
    }

    const PRINTED: &str = "2026-11-21T11:09:18.000007Z  WARN main a: once";
    const PANIC: &str = "thread 'shard-1' (7) panicked at core/x.rs:1:2:";

    fn with_journal(recorded: Recorded) -> Recorded {
        recorded.log(Request::Journal { unit: "iggy.service".to_owned() }, journal(&[PRINTED, PANIC]))
    }

    #[test]
    fn what_stands_in_the_file_and_in_the_journal_counts_once() {
        let recorded = link(running(70), "/proc/70/fd/5", "/d/logs/iggy-server.log");
        let path = "/d/logs/iggy-server.log".to_owned();
        let content = Content { text: format!("{}\n", PRINTED.replace('7', "1")), cut_from: None };
        let recorded = directory(recorded, "/d/streams").with(Request::Tail { path }, Data::Text(content));
        let found = said(&with_journal(recorded).host(), Runtime::Iggy).unwrap().unwrap();
        let texts: Vec<&str> = found.log.lines.iter().map(|line| line.text.as_str()).collect();
        assert_eq!(texts, ["once", PANIC]);
        assert_eq!(found.sources, ["/d/logs/iggy-server.log", "journal of iggy.service"]);
    }

    #[test]
    fn without_a_file_the_journal_is_read_and_a_denied_one_is_named() {
        let alone = with_journal(Recorded::complete().settings(settings()));
        let found = said(&alone.host(), Runtime::Iggy).unwrap().unwrap();
        assert_eq!(
            found.log.lines.iter().map(|line| line.level).collect::<Vec<_>>(),
            [Some(Level::Warn), Some(Level::Critical)]
        );
        let request = Request::Journal { unit: "iggy-connectors.service".to_owned() };
        let denied = Recorded::complete().settings(settings()).without(request, Cause::Denied);
        let found = said(&denied.host(), Runtime::Connectors).unwrap().unwrap();
        assert_eq!(found.unread[0].to_string(), "journal iggy-connectors.service: permission denied");
    }

    #[test]
    fn only_what_follows_the_last_start_is_of_this_run() {
        let start = "2026-11-21T11:09:18Z  INFO main server::bootstrap: Initializing system, data will be stored at: /d";
        let lines = parse(&format!("{PRINTED}\n{start}\n{PRINTED}\n{start}\n{PANIC}\n"));
        assert_eq!(since_start(&lines).len(), 2);
        assert_eq!(since_start(&lines[..1]).len(), 1);
    }
}
