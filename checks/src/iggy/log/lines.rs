//! Lines of a log as the runtimes write them: to the file, to a terminal, as JSON, and their last words.

use warden_host::{Level, LogLine};

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
pub(super) struct Open {
    at: usize,
    lines: usize,
}

/// Lines of a panic's message or of an error's causes, and characters of them: more is a list, not a sentence.
const CONTINUED_LINES: usize = 40;
const CONTINUED_BYTES: usize = 4_000;
/// A program writes its last words at once.
const CONTINUED_US: i64 = 1_000_000;

/// Adds a line of another form than the log's, or makes it part of the panic or the error that it follows.
pub(super) fn add(lines: &mut Vec<LogLine>, open: &mut Option<Open>, line: LogLine) {
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

#[cfg(test)]
mod tests {
    use super::*;

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
             Error: ShardJoinFailures\n2026-11-21T11:09:18Z  INFO main a: b\n\u{1b}[\u{1b}[3",
        );
        assert_eq!(
            lines.iter().map(|line| line.level).collect::<Vec<_>>(),
            [Some(Level::Info), Some(Level::Critical), Some(Level::Error), Some(Level::Info), None]
        );
        assert!(lines.iter().all(|line| line.at_us == lines[0].at_us));
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
}
