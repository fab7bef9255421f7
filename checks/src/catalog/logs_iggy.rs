//! logs-iggy: what did the server complain of.

use warden_host::Host;
use warden_host::quantity::count;

use crate::iggy::log::{self, is_clean_end, is_start};
use crate::iggy::{Runtime, Service};
use crate::log_patterns::{self, Command, Known, Writer};
use crate::{Advice, Area, Check, DEADLINE, Finding, Read, Result, Verdict};

pub const CHECK: Check = Check {
    id: "logs-iggy",
    area: Area::Logs,
    title: "What did Iggy complain of?",
    why: "Iggy says in its log what no answer of its API tells: a shard that died, a disk that was full, a start that \
          followed no clean end. Panics go to stderr, which only the journal keeps.",
    reads: &[Read::Group(crate::iggy::READS), Read::Journal, Read::Tail("/**/iggy-server.log")],
    thresholds: &[
        "fails for a panic and for complaints that mean loss: a dead shard, a full disk, damaged files, a refused ring",
        "warns for any other error in the window (24 h), and for starts that followed no clean end",
        "takes what is older than the last start of a server that came up and runs for history: shown, not judged",
        "notes rejected calls, and a window that was not read whole",
    ],
    advice: "Start with the most severe line, and with the oldest of those that came at once.",
    deadline: DEADLINE,
    run,
};

const fn known(
    mark: &'static str,
    severity: Verdict,
    meaning: &'static str,
    advice: &'static str,
    command: Command,
) -> Known {
    Known { mark, severity, meaning, advice, command, lasts: false }
}

const BIND: &str = "a port that it is configured with could not be bound, so the server ended";
const BIND_ADVICE: &str =
    "See network-listeners for who holds it; stop that one, or give one of the two another port.";
const WHO_LISTENS: Command = Command::Fixed("ss -ltnup");
/// The limit of open files is told as damage by a server that reaches it at its start.
const LIMIT_FIRST: &str = "First see process-limits: too few open files at the start are told with the same words, and then nothing is damaged.";

/// Complaints as 0.8.0 and 0.9.0-edge.5 write them. A line counts for the first that it has the words of.
const KNOWN: &[Known] = &[
    known(
        "Too many open files",
        Verdict::Fail,
        "the limit of open files was reached; each segment takes up to four, and what it says of damage or of files that cannot be read beside this is none",
        "Change nothing in the data directory.",
        Command::Set("LimitNOFILE=65536"),
    ),
    known(
        "No space left on device",
        Verdict::Fail,
        "a write failed because the disk was full; the shard that met it is dead until the next start",
        "Make room, then restart the server.",
        Command::Fixed("df -h"),
    ),
    known("Cannot bind to socket", Verdict::Fail, BIND, BIND_ADVICE, WHO_LISTENS),
    known("failed to bind", Verdict::Fail, BIND, BIND_ADVICE, WHO_LISTENS),
    known("Failed to bind", Verdict::Fail, BIND, BIND_ADVICE, WHO_LISTENS),
    known("Address already in use", Verdict::Fail, BIND, BIND_ADVICE, WHO_LISTENS),
    known("CannotBindToSocket", Verdict::Fail, BIND, BIND_ADVICE, WHO_LISTENS),
    known(
        "CannotCreateStateDirectory",
        Verdict::Fail,
        "the server could not make its directories, so it did not start: the data directory is not writable for its user, or its filesystem is not mounted",
        "See runtime-iggy-process, which names the directory and what is wrong with it.",
        Command::ShowLog,
    ),
    known(
        "io_uring was denied locked memory",
        Verdict::Fail,
        "the kernel refused memory for a ring, so the server cannot start",
        "Lift the limit of locked memory.",
        Command::Set("LimitMEMLOCK=infinity"),
    ),
    known(
        "the kernel rejected io_uring setup flags",
        Verdict::Fail,
        "the kernel is too old for Iggy's io_uring flags",
        "Run Linux 5.19 or newer.",
        Command::Fixed("uname -r"),
    ),
    known(
        "message/index divergence",
        Verdict::Fail,
        "a segment does not fit its index, or could not be opened, so the server does not start",
        LIMIT_FIRST,
        Command::None,
    ),
    known(
        "Cannot read file",
        Verdict::Fail,
        "a file of the data directory could not be opened or read",
        LIMIT_FIRST,
        Command::None,
    ),
    known(
        "SuperblockUnreadable",
        Verdict::Fail,
        "a superblock is damaged, so the server does not start",
        "Copy the data directory aside, then let `warden inspect` look into it; change nothing before.",
        Command::None,
    ),
    known(
        "replica is divergent from cluster commit",
        Verdict::Fail,
        "a shard could not write what it had accepted and died",
        "See the error before it, mend that, then restart the server.",
        Command::Restart,
    ),
    known(
        "truncating torn WAL tail",
        Verdict::Warn,
        "the server ended while it wrote its journal, and cut off its last, incomplete entry: a change of a stream, topic or user that was being made then may be undone",
        "See why it ended: memory-oom, logs-crashes, units-runtimes; compare the streams with what they should be.",
        Command::None,
    ),
    Known {
        mark: "Generated root user password",
        severity: Verdict::Warn,
        meaning: "the server made up a root password and wrote it into its log",
        advice: "Set IGGY_ROOT_USERNAME and IGGY_ROOT_PASSWORD before the first start; change the password now.",
        command: Command::None,
        lasts: true,
    },
    known(
        "There was an error: Unauthorized",
        Verdict::Note,
        "a call was rejected because its user lacks the right",
        "Give the user the right, or stop the caller.",
        Command::None,
    ),
    known(
        "There was an error: Access token is missing",
        Verdict::Note,
        "a call came without credentials: a probe or a scanner",
        "Let probes ask /ping, the only address that needs none.",
        Command::None,
    ),
    known(
        "There was an error: Invalid credentials",
        Verdict::Note,
        "a login failed",
        "If many follow each other, somebody guesses passwords: see which address calls.",
        Command::None,
    ),
];

fn run(host: &Host) -> Result<Finding> {
    let said = match log::said(host, Runtime::Iggy)? {
        None => return Ok(Finding::skip("there is no log of Iggy on this host")),
        Some(said) => said,
    };
    if let Some(finding) = said.nothing_to_judge()? {
        return Ok(finding);
    }
    let well_since = log::well_since(host, Runtime::Iggy, &said.log.lines);
    let service = Service::of(host, Runtime::Iggy);
    let show_log = service.show_log();
    let writer = Writer { name: "Iggy", service, well_since };
    let mut finding = log_patterns::judge(host, &writer, &said, KNOWN)?;
    let from = host.clock()?.unix_us.saturating_sub(log_patterns::window(host)?.saturating_mul(1_000_000));
    let lines: Vec<_> =
        said.log.lines.iter().filter(|line| line.at_us.is_some_and(|at| at >= from)).collect();
    let starts: Vec<usize> = (0..lines.len()).filter(|&at| is_start(lines[at])).collect();
    let unclean = starts
        .windows(2)
        .filter(|pair| !lines[pair[0]..pair[1]].iter().any(|line| is_clean_end(line)))
        .count();
    if unclean > 0 {
        let text = format!(
            "{} of {} followed no clean end: the server crashed, was killed, or could not finish its start",
            unclean,
            count(starts.len() as u64, "start", "starts")
        );
        // One that is over is history; several are a server that does not stay up, however well it looks now.
        let severity = if well_since.is_some() && unclean == 1 { Verdict::Note } else { Verdict::Warn };
        let advice =
            Advice::run("See memory-oom, logs-crashes and units-runtimes for what ended it.", show_log);
        finding.problem(severity, text, advice);
    }
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Content, Data, LogText, Recorded, Request};

    use super::*;
    use crate::iggy::tests::{directory, link, running, settings};

    const START: &str = "2026-11-21T11:09:09Z  INFO main server_common::bootstrap: Initializing system, data will be stored at: /d\n";
    const END: &str = "2026-11-21T11:09:20Z  INFO    main iggy_server: server shutdown complete\n";
    const FULL: &str = "2026-11-21T11:09:13Z ERROR shard-1 iggy.partitions.storage: failed to write frozen messages err=No space left on device (os error 28)\n";
    const ODD: &str = "2026-11-21T11:09:13Z ERROR shard-1 a::b: something new\n";
    const REJECTED: &str =
        "2026-11-21T11:09:13Z ERROR shard-0 server::http::error: There was an error: Unauthorized\n";
    const JOURNAL: &str = "iggy.service";

    fn with_log(text: &str) -> Recorded {
        let content = Content { text: text.to_owned(), cut_from: None };
        let recorded = link(running(70), "/proc/70/fd/5", "/d/logs/iggy-server.log");
        directory(recorded, "/d/streams")
            .with(Request::Tail { path: "/d/logs/iggy-server.log".to_owned() }, Data::Text(content))
            .log(Request::Journal { unit: JOURNAL.to_owned() }, LogText::default())
            .at(1_795_260_000, 9000)
    }

    fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    #[test]
    fn a_quiet_log_with_clean_ends_passes() {
        let finding = of(with_log(&format!("{START}{END}{START}")));
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "Iggy wrote 0 errors and 0 warnings in 1 d");
    }

    #[test]
    fn a_full_disk_fails_an_odd_error_warns_and_a_rejected_call_is_noted() {
        let full = of(with_log(FULL));
        assert_eq!(full.verdict(), Verdict::Fail);
        assert!(
            full.problems[0].text.starts_with("seen 1 time, last at 2026-11-21T11:09:13Z: a write failed")
        );
        assert_eq!(of(with_log(ODD)).verdict(), Verdict::Warn);
        assert_eq!(of(with_log(REJECTED)).verdict(), Verdict::Note);
    }

    #[test]
    fn a_start_without_a_clean_end_before_it_warns() {
        let finding = of(with_log(&format!("{START}{START}{END}")));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert!(finding.problems[0].text.starts_with("1 of 2 starts followed no clean end"));
    }

    #[test]
    fn a_log_that_may_not_be_read_is_unknown_and_no_log_is_skipped() {
        let tail = Request::Tail { path: "/d/logs/iggy-server.log".to_owned() };
        let denied = with_log("").without(tail, Cause::Denied);
        assert!(run(&denied.clone().host()).is_err());
        let lines = log::parse(START);
        let journal = LogText { lines, cut: false, source: "journal".to_owned() };
        let finding = of(denied.log(Request::Journal { unit: JOURNAL.to_owned() }, journal));
        assert_eq!(
            finding.problems[0].text,
            "part of the log could not be read: tail /d/logs/iggy-server.log: permission denied"
        );
        assert_eq!(finding.verdict(), Verdict::Note);
        let nothing = Recorded::complete().settings(settings());
        assert_eq!(of(nothing.clone()).verdict(), Verdict::Skip);
        let no_journal = nothing.without(
            Request::Journal { unit: JOURNAL.to_owned() },
            Cause::Unavailable("no systemd".to_owned()),
        );
        assert_eq!(of(no_journal).verdict(), Verdict::Skip);
    }
}
