//! What the runtimes log: their line format, and where the lines are.

mod lines;
mod merge;

use lines::add;
pub use lines::{parse, parse_line};
use merge::{REPEATED_US, SAME_EVENT_US, Unmatched};
use warden_host::{Cause, Failure, Host, IfAny, Level, LogLine, LogText};

use super::{Configuration, Runtime, Service, configuration, data_directory, launches};
use crate::{Error, Finding, Result};

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
    for unit in journals(host, runtime)? {
        said.read_journal(host, &unit);
    }
    Ok(said.if_any())
}

/// The units whose entries are of `runtime`: those in which its processes really run, and the configured one.
pub fn journals(host: &Host, runtime: Runtime) -> Result<Vec<String>> {
    let mut units: Vec<String> = Service::all(host, runtime).iter().filter_map(Service::journal).collect();
    units.push(super::unit_of(host, runtime)?);
    let mut seen = std::collections::BTreeSet::new();
    units.retain(|unit| seen.insert(unit.clone()));
    Ok(units)
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

    /// The journal repeats what stands in the file, with other microseconds. Each line of the one takes the place of
    /// one line of the other; what only one of them has counts too: the file is cut at its size, and the journal
    /// lacks what was logged before its own limit.
    fn add_journal(&mut self, unit: &str, journal: &LogText) {
        if journal.lines.is_empty() {
            return;
        }
        let mut known = Unmatched::of(&self.log.lines);
        let mut lines = Vec::new();
        let (mut others, mut open) = (Vec::new(), None);
        for entry in &journal.lines {
            let parsed = parse_line(&entry.text);
            if parsed.at_us.is_some() {
                lines.push(parsed);
                continue;
            }
            let level = parsed.level.or(entry.level);
            add(&mut others, &mut open, LogLine { level, text: parsed.text, ..entry.clone() });
        }
        lines.retain(|line| !known.take(line, REPEATED_US, true));
        lines.retain(|line| !known.take(line, SAME_EVENT_US, false));
        self.log.lines.extend(lines);
        self.log.lines.extend(others);
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

/// When the running server began, by its log: the moment of its last start, when it has come up and has not ended or
/// panicked since. What it complained of before is history.
pub fn well_since(host: &Host, runtime: Runtime, lines: &[LogLine]) -> Option<i64> {
    let runs = super::processes(host).iter().any(|process| process.runtime == runtime);
    let start = last_start(runtime, lines).filter(|_| runs)?;
    let since = &lines[start..];
    let is_up = runtime == Runtime::Connectors || since.iter().any(is_ready);
    let broken = |line: &LogLine| is_clean_end(line) || line.level == Some(Level::Critical);
    (is_up && !since.iter().any(broken)).then(|| lines[start].at_us).flatten()
}

/// Where the newest run of the runtime begins.
pub fn last_start(runtime: Runtime, lines: &[LogLine]) -> Option<usize> {
    let begins: fn(&LogLine) -> bool = match runtime {
        Runtime::Iggy => is_start,
        Runtime::Connectors => is_connectors_start,
    };
    lines.iter().rposition(begins)
}

/// Whether the server said with this line that it takes requests, as 0.9 and as 0.8 say it.
fn is_ready(line: &LogLine) -> bool {
    line.text.starts_with("server running; waiting on shard threads")
        || line.text.contains(" server has started on: ")
}

fn is_connectors_start(line: &LogLine) -> bool {
    line.text.starts_with("Starting Iggy Connectors Runtime")
        || line.origin == "iggy_connectors::log" && line.text.starts_with("Logging initialized")
}

/// The lines since the server last started; all of them when no start is among them.
pub fn since_start(lines: &[LogLine]) -> &[LogLine] {
    let start = lines.iter().rposition(is_start);
    &lines[start.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use warden_host::{Content, Data, Recorded, Request};

    use super::super::tests::{directory, link, running, settings};
    use super::*;

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
    fn what_only_the_journal_has_counts_beside_the_file_and_equal_lines_are_matched_one_by_one() {
        let recorded = link(running(70), "/proc/70/fd/5", "/d/logs/iggy-server.log");
        let path = "/d/logs/iggy-server.log".to_owned();
        let text = format!("{PRINTED}\n{}\n", PRINTED.replace("18.000007", "19.5"));
        let recorded = directory(recorded, "/d/streams")
            .with(Request::Tail { path }, Data::Text(Content { text, cut_from: None }));
        let coloured = "[2m2026-11-21T11:09:18.000100Z\u{1b}[0m \u{1b}[33m WARN\u{1b}[0m main \u{1b}[2ma\u{1b}[0m\u{1b}[2m:\u{1b}[0m once";
        let older = "2026-11-21T10:00:00Z ERROR main a: before the file begins";
        let other = "2026-11-21T11:09:18.000100Z  WARN main a: twice";
        let request = Request::Journal { unit: "iggy.service".to_owned() };
        let lines = [coloured, coloured, coloured, older, other];
        let found = said(&recorded.log(request, journal(&lines)).host(), Runtime::Iggy).unwrap().unwrap();
        let count = |text: &str| found.log.lines.iter().filter(|line| line.text == text).count();
        assert_eq!((count("once"), count("before the file begins"), count("twice")), (3, 1, 1));
    }

    #[test]
    fn a_panic_and_an_error_take_the_lines_that_follow_them() {
        let panic = "thread 'main' (7) panicked at core/server/src/main.rs:62:13:\nCannot create it:\n  io_uring was denied\n\
                     stack backtrace:\n   0: begin_panic\nnote: Some details\nError: cannot start\n\nCaused by:\n    0: no room";
        let texts = |lines: &[LogLine]| lines.iter().map(|line| line.text.clone()).collect::<Vec<_>>();
        let expected = [
            "thread 'main' (7) panicked at core/server/src/main.rs:62:13: Cannot create it: io_uring was denied",
            "stack backtrace:",
            "   0: begin_panic",
            "note: Some details",
            "Error: cannot start Caused by: 0: no room",
        ];
        assert_eq!(texts(&parse(panic)), expected);
        let lines: Vec<&str> = panic.lines().filter(|line| !line.is_empty()).collect();
        let request = Request::Journal { unit: "iggy.service".to_owned() };
        let host = Recorded::complete().settings(settings()).log(request, journal(&lines)).host();
        assert_eq!(texts(&said(&host, Runtime::Iggy).unwrap().unwrap().log.lines), expected);
    }

    #[test]
    fn a_server_is_well_since_its_last_start_when_it_came_up_and_runs() {
        let start = "2026-11-21T11:09:18Z  INFO main server::bootstrap: Initializing system, data will be stored at: /d";
        let ready = "2026-11-21T11:09:19Z  INFO main iggy_server: server running; waiting on shard threads";
        let end = "2026-11-21T11:09:20Z  INFO main iggy_server: server shutdown complete";
        let since = |host: Recorded, lines: &[&str]| {
            well_since(&host.host(), Runtime::Iggy, &parse(&lines.join("\n")))
        };
        let moment = Some(1_795_259_358_000_000);
        assert_eq!(since(running(70), &[PRINTED, start, ready]), moment);
        assert_eq!(since(running(70), &[start, PRINTED]), None, "it did not come up");
        assert_eq!(since(running(70), &[start, ready, PANIC]), None);
        assert_eq!(since(running(70), &[start, ready, end]), None);
        assert_eq!(
            since(Recorded::complete().settings(settings()), &[start, ready]),
            None,
            "it does not run"
        );
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
