//! What the runtimes log: their line format, and where the lines are.

use std::collections::BTreeMap;

use super::{Configuration, Runtime, Service, configuration, data_directory, launches};
use crate::host::{Cause, Failure, Host, IfAny, Level, LogLine, LogText};
use crate::{Error, Finding, Result};

/// Lines of a log file, oldest first. A line of another form (a banner, a list) keeps the time of the line before
/// it; what follows a panic or an `Error:` is part of it.
pub fn parse(text: &str) -> Vec<LogLine> {
    let mut at_us = None;
    let mut lines: Vec<LogLine> = Vec::new();
    let mut open = None;
    for line in text.lines().filter(|line| !line.trim().is_empty()) {
        let mut line = parse_line(line);
        if line.at_us.is_some() {
            open = None;
        }
        at_us = line.at_us.or(at_us);
        line.at_us = at_us;
        add(&mut lines, &mut open, line);
    }
    lines
}

/// A panic or an `Error:` whose further lines are still to come.
#[derive(Clone, Copy)]
struct Open {
    at: usize,
    lines: usize,
}

/// Lines of a panic's message or of an error's causes, and characters of them: more is a list, not a sentence.
const CONTINUED_LINES: usize = 40;
const CONTINUED_BYTES: usize = 4_000;
/// A program writes its last words at once.
const CONTINUED_US: i64 = 1_000_000;

/// Adds a line of another form than the log's, or makes it part of the panic or the error that it follows.
fn add(lines: &mut Vec<LogLine>, open: &mut Option<Open>, line: LogLine) {
    if begins_last_words(&line) {
        lines.push(line);
        *open = Some(Open { at: lines.len() - 1, lines: 0 });
        return;
    }
    let ends = ["stack backtrace:", "note: "].iter().any(|start| line.text.starts_with(start));
    let place = open.filter(|open| !ends && open.lines < CONTINUED_LINES);
    let part_of = place.and_then(|open| {
        let first = lines.get_mut(open.at)?;
        let close = match (first.at_us, line.at_us) {
            (Some(first), Some(at)) => at.abs_diff(first) <= CONTINUED_US.unsigned_abs(),
            _ => true,
        };
        (close && first.origin == line.origin && first.text.len() + line.text.len() < CONTINUED_BYTES)
            .then_some(first)
    });
    match part_of {
        Some(first) => {
            first.text.push(' ');
            first.text.push_str(line.text.trim());
            *open = open.map(|open| Open { lines: open.lines + 1, ..open });
        }
        None => {
            if ends
                || open
                    .is_some_and(|open| lines.get(open.at).is_some_and(|first| first.origin == line.origin))
            {
                *open = None;
            }
            lines.push(line);
        }
    }
}

fn begins_last_words(line: &LogLine) -> bool {
    is_panic(&line.text) || line.text.starts_with("Error: ")
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
    match line {
        _ if is_panic(line) => Some(Level::Critical),
        _ if line.starts_with("Error: ") => Some(Level::Error),
        _ => None,
    }
}

fn is_panic(line: &str) -> bool {
    line.starts_with("thread '") && line.contains(" panicked at ")
}

/// How a colour begins: as it is, and as syslog daemons, JSON and terminals write it out.
const ESCAPES: [&str; 6] = ["\u{1b}[", "\u{9b}", "#033[", "\\u001b[", "\\x1b[", "^[["];

/// Takes out the colours: `ESC [`, digits and semicolons, a letter (ECMA-48). Recordings made before the first
/// character of such a line was kept begin with `[2m` alone.
fn without_escapes(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    let mut rest = match line.strip_prefix('[') {
        Some(sequence) => {
            after_sequence(sequence).filter(|_| sequence.starts_with(|c: char| c.is_ascii_digit()))
        }
        None => None,
    }
    .unwrap_or(line);
    while let Some((at, escape)) = next_escape(rest) {
        out.push_str(&rest[..at]);
        let sequence = &rest[at + escape.len()..];
        rest = after_sequence(sequence).unwrap_or(sequence);
    }
    out.push_str(rest);
    out
}

fn next_escape(text: &str) -> Option<(usize, &'static str)> {
    ESCAPES.iter().filter_map(|&escape| Some((text.find(escape)?, escape))).min()
}

fn after_sequence(sequence: &str) -> Option<&str> {
    let end = sequence.find(|character: char| !character.is_ascii_digit() && character != ';')?;
    sequence[end..].starts_with(|last: char| last.is_ascii_alphabetic()).then(|| &sequence[end + 1..])
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
    for unit in journals(host, runtime)? {
        said.read_journal(host, &unit);
    }
    Ok(said.if_any())
}

/// The units whose entries are of `runtime`: those in which its processes really run, and the configured one.
pub fn journals(host: &Host, runtime: Runtime) -> Result<Vec<String>> {
    let mut units: Vec<String> = Service::all(host, runtime).iter().filter_map(Service::journal).collect();
    units.push(runtime.unit(&host.settings()?).to_owned());
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

/// The two sinks of a line stamp it one after the other; a full disk can hold one of them up.
const REPEATED_US: i64 = 2_000_000;
/// A line that masking changed in one place and not in the other is known by its moment.
const SAME_EVENT_US: i64 = 2_000;

/// Lines that have found no counterpart yet: their times, by level and text or by level and origin.
struct Unmatched<'a> {
    lines: &'a [LogLine],
    by_text: BTreeMap<(Option<Level>, &'a str), Vec<usize>>,
    by_origin: BTreeMap<(Option<Level>, &'a str), Vec<usize>>,
    taken: Vec<bool>,
}

impl<'a> Unmatched<'a> {
    fn of(lines: &'a [LogLine]) -> Unmatched<'a> {
        let (mut by_text, mut by_origin) =
            (BTreeMap::<_, Vec<usize>>::new(), BTreeMap::<_, Vec<usize>>::new());
        for (at, line) in lines.iter().enumerate().filter(|(_, line)| line.at_us.is_some()) {
            by_text.entry((line.level, line.text.as_str())).or_default().push(at);
            by_origin.entry((line.level, line.origin.as_str())).or_default().push(at);
        }
        Unmatched { lines, by_text, by_origin, taken: vec![false; lines.len()] }
    }

    /// Takes the nearest line that says the same within `reach`, if there is one.
    fn take(&mut self, line: &LogLine, reach: i64, by_text: bool) -> bool {
        let Some(at_us) = line.at_us else { return false };
        let candidates = match by_text {
            true => self.by_text.get(&(line.level, line.text.as_str())),
            false => self.by_origin.get(&(line.level, line.origin.as_str())),
        };
        let Some(candidates) = candidates else { return false };
        let time = |at: usize| self.lines[at].at_us.unwrap_or(i64::MIN);
        // Oldest first, like the lines themselves.
        let from = candidates.partition_point(|&at| time(at) < at_us.saturating_sub(reach));
        let near =
            candidates[from..].iter().copied().take_while(|&at| time(at) <= at_us.saturating_add(reach));
        let nearest = near.filter(|&at| !self.taken[at]).min_by_key(|&at| time(at).abs_diff(at_us));
        if let Some(at) = nearest {
            self.taken[at] = true;
        }
        nearest.is_some()
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
    fn a_coloured_line_is_read_with_its_first_escape_and_without_it() {
        let rest = "[2m2026-11-21T11:09:19.9Z{e}[0m {e}[31mERROR{e}[0m shard-1 {e}[2ma{e}[0m{e}[2m:{e}[0m no";
        for escape in ["\u{1b}", "#033", "\\x1b", "\\u001b", "^["] {
            let rest = rest.replace("{e}", escape);
            for line in [format!("{escape}{rest}"), rest] {
                let line = parse_line(&line);
                assert_eq!((line.level, line.text.as_str()), (Some(Level::Error), "no"), "{escape}");
            }
        }
        for plain in ["[1] a list", "[main] text", "[", "[2", "[12:30] x"] {
            assert_eq!(parse_line(plain).text, plain);
        }
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
