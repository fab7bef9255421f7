//! What a program complained of in its log: known complaints with their remedy, all others by shape.

use warden_host::quantity::{count, duration, time};
use warden_host::shape::{self, Group};
use warden_host::{Clock, Host, Level, LogLine};

use crate::iggy::Service;
use crate::iggy::log::Said;
use crate::{Advice, Evidence, Fields, Finding, Log, Result, Series, Unit, Verdict};

/// A complaint that is understood: lines with `mark` in them.
pub struct Known {
    pub mark: &'static str,
    pub severity: Verdict,
    /// What it means, as the end of `seen 3 times: `.
    pub meaning: &'static str,
    pub advice: &'static str,
    pub command: Command,
    /// Whether a start that went well does not mend it.
    pub lasts: bool,
}

/// What shows more of it, or mends it.
#[derive(Clone, Copy)]
pub enum Command {
    None,
    Fixed(&'static str),
    /// Restarts what the program runs in.
    Restart,
    /// Shows its newest lines.
    ShowLog,
    /// Sets a directive of its unit.
    Set(&'static str),
}

/// Unknown groups that become problems of their own; the table has them all.
const GROUPS: usize = 5;
/// Lines of proof that a report needs.
const LINES: usize = 60;
/// Characters of a line in a sentence; last words, a panic's message and an error's causes, are shown whole.
const SENTENCE: usize = 200;
const LAST_WORDS: usize = 2_000;
const HOUR: i64 = 3600;
/// Bars of the chart; a longer window has wider bars.
const BARS: i64 = 24;

/// Who wrote a log, and since when all is well with it.
pub struct Writer<'a> {
    pub name: &'a str,
    pub service: Service,
    /// The moment, in microseconds, of a start that went well: what is older is history.
    pub well_since: Option<i64>,
}

/// Judges the lines of the run's window.
pub fn judge(host: &Host, writer: &Writer<'_>, said: &Said, known: &[Known]) -> Result<Finding> {
    let (clock, window) = (host.clock()?, window(host)?);
    let all: Vec<LogLine> = shape::newest(&said.log, clock, window).cloned().collect();
    let is_history = |line: &&LogLine| {
        let old = writer.well_since.is_some_and(|since| line.at_us.is_some_and(|at| at < since));
        old && !mark_of(known, line).is_some_and(|known| known.lasts)
    };
    let (history, lines): (Vec<&LogLine>, Vec<&LogLine>) = all.iter().partition(is_history);
    let lines: Vec<LogLine> = lines.into_iter().cloned().collect();
    let (understood, others): (Vec<&LogLine>, Vec<&LogLine>) =
        lines.iter().partition(|line| mark_of(known, line).is_some());
    let who = writer.name;
    let errors = lines.iter().filter(|line| line.level >= Some(Level::Error)).count();
    let warnings = lines.iter().filter(|line| line.level == Some(Level::Warn)).count();

    let over = match writer.well_since.filter(|_| !history.is_empty()) {
        Some(since) => {
            format!("since its start {} ago", duration((clock.unix_us - since).max(0) as f64 / 1e6))
        }
        None => format!("in {}", duration(window as f64)),
    };
    let mut finding = Finding::new(format!(
        "{who} wrote {} and {} {over}",
        count(errors as u64, "error", "errors"),
        count(warnings as u64, "warning", "warnings"),
    ));
    for one in known {
        let is_it = |line: &&&LogLine| mark_of(known, line).is_some_and(|mark| std::ptr::eq(mark, one));
        let same: Vec<&LogLine> = understood.iter().filter(is_it).copied().collect();
        judge_known(host, &mut finding, writer, one, &same);
    }
    let groups = shape::group(others.into_iter().filter(|line| line.level >= Some(Level::Warn)));
    judge_groups(&mut finding, &groups);
    for reason in &said.unread {
        let advice =
            Advice::run("Let Warden's user read it, or run as root.", "usermod -a -G systemd-journal warden");
        finding.note(format!("part of the log could not be read: {reason}"), advice);
    }
    if let Some(from) = cut_within(said, clock, window) {
        let text =
            format!("only the newest {} lines were read, from {} on", said.log.lines.len(), time(from));
        finding
            .note(text, Advice::text("Older lines of this window are not judged; look at the log itself."));
    }

    let fields = Fields::new("Read")
        .row("from", said.sources.join(", "))
        .row("lines in the window", lines.len())
        .row("errors", errors)
        .row("warnings", warnings);
    finding.show(Evidence::Fields(fields));
    if errors + warnings > 0 {
        finding.show(Evidence::Series(chart(&lines, clock, window)));
    }
    let groups = shape::group(lines.iter().filter(|line| line.level >= Some(Level::Warn)));
    finding.show(Evidence::Table(shape::table("Complaints by shape", &groups, severity)));
    let mut proof: Vec<LogLine> =
        lines.iter().filter(|line| line.level >= Some(Level::Warn)).cloned().collect();
    let older = proof.len().saturating_sub(LINES);
    proof.drain(..older);
    finding.show(Evidence::Log(Log { title: "Newest complaints".to_owned(), lines: proof, cut: older > 0 }));
    let history = shape::group(history.into_iter().filter(|line| line.level >= Some(Level::Warn)));
    if !history.is_empty() {
        let title = "History: before the start since which all is well";
        finding.show(Evidence::Table(shape::table(title, &history, |_| None)));
    }
    Ok(finding)
}

/// The one complaint that a line counts for.
fn mark_of<'a>(known: &'a [Known], line: &LogLine) -> Option<&'a Known> {
    known.iter().find(|known| line.text.contains(known.mark))
}

/// How far back the run reads logs, in seconds.
pub fn window(host: &Host) -> Result<i64> {
    Ok(i64::try_from(host.settings()?.since_seconds).unwrap_or(i64::MAX))
}

fn severity(group: &Group) -> Option<Verdict> {
    match group.level {
        Some(Level::Critical) => Some(Verdict::Fail),
        Some(Level::Error) => Some(Verdict::Warn),
        _ => None,
    }
}

fn judge_known(host: &Host, finding: &mut Finding, writer: &Writer<'_>, known: &Known, same: &[&LogLine]) {
    let Some(newest) = same.iter().filter_map(|line| line.at_us).max().or(same.first().map(|_| 0)) else {
        return;
    };
    let when =
        if newest > 0 { format!(", last at {}", time(newest.div_euclid(1_000_000))) } else { String::new() };
    let text = format!("seen {}{when}: {}", count(same.len() as u64, "time", "times"), known.meaning);
    // The words of a panic are its own; the meaning is only what they are known for.
    let words = same.iter().rev().find(|line| line.level == Some(Level::Critical));
    let words = words.map(|line| line.text.chars().take(LAST_WORDS).collect::<String>());
    let severity = if words.is_some() { Verdict::Fail } else { known.severity };
    let text = words.map_or_else(|| text.clone(), |words| format!("{text}; it said: {words}"));
    let service = &writer.service;
    let advice = match known.command {
        Command::None => Advice::text(known.advice),
        Command::Fixed(command) => Advice::run(known.advice, command),
        Command::Restart => Advice::run(known.advice, service.restart()),
        Command::ShowLog => Advice::run(known.advice, service.show_log()),
        Command::Set(setting) => {
            let set = service.set(host, setting);
            Advice { text: format!("{} {}", known.advice, set.text), ..set }
        }
    };
    finding.problem(severity, text, advice);
}

fn judge_groups(finding: &mut Finding, groups: &[Group]) {
    let bad: Vec<(&Group, Verdict)> =
        groups.iter().filter_map(|group| Some((group, severity(group)?))).collect();
    for (group, severity) in bad.iter().take(GROUPS) {
        let last =
            group.last_us.map_or(String::new(), |at| format!(", last at {}", time(at.div_euclid(1_000_000))));
        let is_last = group.level == Some(Level::Critical) || group.newest.starts_with("Error: ");
        let line: String = group.newest.chars().take(if is_last { LAST_WORDS } else { SENTENCE }).collect();
        let text = format!("seen {}{last}: {line}", count(group.count, "time", "times"));
        finding.problem(
            *severity,
            text,
            Advice::text("Read the lines around it; if it is not clear, give this report to support."),
        );
    }
    if let Some((_, worst)) = bad.get(GROUPS) {
        let text = format!(
            "{} of other shapes are in the table",
            count((bad.len() - GROUPS) as u64, "error", "errors")
        );
        finding.problem(*worst, text, Advice::text("Begin with the most frequent ones."));
    }
}

/// The time of the oldest line, when older lines of the window are missing.
fn cut_within(said: &Said, clock: Clock, window: i64) -> Option<i64> {
    let oldest = said.log.lines.iter().find_map(|line| line.at_us)?.div_euclid(1_000_000);
    (said.log.cut && oldest > clock.seconds().saturating_sub(window)).then_some(oldest)
}

fn chart(lines: &[LogLine], clock: Clock, window: i64) -> Series {
    let width = (window / BARS).max(HOUR);
    let bars = (window / width).clamp(1, BARS);
    let end = clock.seconds();
    let title = format!("Complaints per {}", duration(width as f64));
    let mut chart = Series::bars(title, Unit::Count, ["errors", "warnings"]);
    for bar in (0..bars).rev() {
        let (from, to) = (end - (bar + 1) * width, end - bar * width);
        let within = |line: &&LogLine| {
            line.at_us.map(|at| at.div_euclid(1_000_000)).is_some_and(|at| from < at && at <= to)
        };
        let counted = |of: fn(Option<Level>) -> bool| {
            lines.iter().filter(within).filter(|line| of(line.level)).count() as f64
        };
        let values =
            [counted(|level| level >= Some(Level::Error)), counted(|level| level == Some(Level::Warn))];
        chart.point(time(from), values);
    }
    chart
}

#[cfg(test)]
mod tests {
    use warden_host::{LogText, Recorded};

    use super::*;
    use crate::iggy::tests::settings;

    const NOW: i64 = 1_795_260_000;
    const KNOWN: &[Known] = &[Known {
        mark: "full",
        severity: Verdict::Fail,
        meaning: "the disk is full",
        advice: "make room",
        command: Command::None,
        lasts: false,
    }];

    fn line(ago: i64, level: Level, text: &str) -> LogLine {
        LogLine {
            at_us: Some((NOW - ago) * 1_000_000),
            level: Some(level),
            origin: String::new(),
            text: text.to_owned(),
        }
    }

    fn judged(lines: Vec<LogLine>, cut: bool) -> Finding {
        let log = LogText { lines, cut, source: String::new() };
        let said = Said { log, sources: vec!["journal".to_owned()], unread: Vec::new() };
        let host = Recorded::complete().settings(settings()).at(NOW, 9000).host();
        judge(&host, &writer(None), &said, KNOWN).unwrap()
    }

    fn writer(well_since: Option<i64>) -> Writer<'static> {
        Writer { name: "it", service: Service::Unit("it.service".to_owned()), well_since }
    }

    #[test]
    fn what_was_complained_of_before_a_start_that_went_well_is_history() {
        let lines =
            vec![line(60, Level::Error, "disk full"), line(50, Level::Critical, "thread 'x' panicked")];
        let log = LogText { lines, cut: false, source: String::new() };
        let said = Said { log, sources: vec!["journal".to_owned()], unread: Vec::new() };
        let host = Recorded::complete().settings(settings()).at(NOW, 9000).host();
        let after = |ago: i64| judge(&host, &writer(Some((NOW - ago) * 1_000_000)), &said, KNOWN).unwrap();
        let mended = after(40);
        assert_eq!(mended.verdict(), Verdict::Pass, "{:?}", mended.problems);
        assert_eq!(mended.summary, "it wrote 0 errors and 0 warnings since its start 40 s ago");
        let Some(Evidence::Table(history)) = mended.evidence.last() else { panic!("{:?}", mended.evidence) };
        assert_eq!(
            (history.title.as_str(), history.rows.len()),
            ("History: before the start since which all is well", 2)
        );
        assert_eq!(after(55).problems.len(), 1, "what came after the start counts");
    }

    #[test]
    fn the_last_words_of_a_panic_are_shown_whole_and_a_line_counts_for_one_complaint() {
        let words = format!("thread 'main' panicked at a.rs:1:2: {} end", "why ".repeat(300));
        let finding = judged(vec![line(5, Level::Critical, &words)], false);
        assert!(finding.problems[0].text.ends_with(" why  end"), "{}", finding.problems[0].text);
    }

    #[test]
    fn warnings_alone_and_old_errors_pass() {
        let finding = judged(vec![line(90_000, Level::Error, "old"), line(10, Level::Warn, "w")], true);
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "it wrote 0 errors and 1 warning in 1 d");
    }

    #[test]
    fn errors_of_a_shape_warn_once_and_a_panic_fails() {
        let finding = judged(vec![line(60, Level::Error, "bad 1"), line(0, Level::Error, "bad 2")], false);
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems.len(), 1);
        assert_eq!(finding.problems[0].text, "seen 2 times, last at 2026-11-21T11:20:00Z: bad 2");
        assert_eq!(judged(vec![line(0, Level::Critical, "thread panicked")], false).verdict(), Verdict::Fail);
    }

    #[test]
    fn a_known_complaint_has_its_own_severity_whatever_its_level() {
        let finding = judged(vec![line(0, Level::Info, "disk full")], false);
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(finding.problems[0].text, "seen 1 time, last at 2026-11-21T11:20:00Z: the disk is full");
    }

    #[test]
    fn many_shapes_are_summed_up_and_a_cut_window_is_said() {
        let lines = ["a", "b", "c", "d", "e", "f", "g"].map(|text| line(5, Level::Error, text)).to_vec();
        let finding = judged(lines, true);
        let texts: Vec<&str> = finding.problems.iter().map(|problem| problem.text.as_str()).collect();
        assert_eq!(texts[5], "2 errors of other shapes are in the table");
        assert_eq!(texts[6], "only the newest 7 lines were read, from 2026-11-21T11:19:55Z on");
        let Evidence::Series(chart) = &finding.evidence[1] else { panic!("a chart comes second") };
        assert_eq!((chart.points.len(), chart.points[23].values.clone()), (24, vec![7.0, 0.0]));
    }
}
