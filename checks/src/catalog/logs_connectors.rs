//! logs-connectors: what did the connectors runtime complain of.

use warden_host::Host;

use crate::iggy::{Runtime, Service, log};
use crate::log_patterns::{self, Command, Known, Writer};
use crate::{Area, Check, DEADLINE, Finding, Read, Result, Verdict};

pub const CHECK: Check = Check {
    id: "logs-connectors",
    area: Area::Logs,
    title: "What did the connectors complain of?",
    why: "A connector that cannot load or cannot reach its other side says so only in its log: the runtime stays up \
          and calls itself healthy. The runtime logs to its standard output, so only the journal keeps it.",
    reads: &[Read::Group(crate::iggy::READS), Read::Journal],
    thresholds: &[
        "fails for a panic, for a plugin that cannot be loaded, and while Iggy cannot be reached",
        "warns for any other error since the last start that went well, or in the window (24 h)",
        "notes a window that was not read whole",
    ],
    advice: "Mend the configuration or the other side of the connector, then restart the runtime.",
    deadline: DEADLINE,
    run,
};

/// Complaints as 0.5.0-edge.4 writes them.
const KNOWN: &[Known] = &[
    Known {
        mark: "Plugin library not found",
        severity: Verdict::Fail,
        meaning: "the plugin of a connector is missing, so the connector does not run",
        advice: "Install the plugin or correct `path` in the file of the connector; runtime-connectors names it.",
        command: Command::None,
        lasts: false,
    },
    Known {
        mark: "Failed to establish TCP connection to the server",
        severity: Verdict::Fail,
        meaning: UNREACHABLE,
        advice: UNREACHABLE_ADVICE,
        command: Command::ShowLog,
        lasts: false,
    },
    Known {
        mark: "Failed to connect to server: ",
        severity: Verdict::Fail,
        meaning: UNREACHABLE,
        advice: UNREACHABLE_ADVICE,
        command: Command::ShowLog,
        lasts: false,
    },
    Known {
        mark: "Failed to bind",
        severity: Verdict::Fail,
        meaning: "the port of its HTTP API could not be bound, so the runtime ended",
        advice: "See network-listeners for who holds it; give one of the two another port.",
        command: Command::Fixed("ss -ltnp"),
        lasts: false,
    },
    Known {
        mark: "Failed to load configuration",
        severity: Verdict::Fail,
        meaning: "the runtime could not read its configuration and ended",
        advice: "Correct the file that IGGY_CONNECTORS_CONFIG_PATH names.",
        command: Command::ShowLog,
        lasts: false,
    },
];

const UNREACHABLE: &str =
    "the runtime cannot reach Iggy: it runs no connector, and its API stays closed until it can";
const UNREACHABLE_ADVICE: &str = "See that Iggy runs (runtime-iggy-health) and that iggy.address in the configuration of the connectors is where it listens.";

fn run(host: &Host) -> Result<Finding> {
    let said = match log::said(host, Runtime::Connectors)? {
        None => return Ok(Finding::skip("there is no log of a connectors runtime on this host")),
        Some(said) => said,
    };
    if let Some(finding) = said.nothing_to_judge()? {
        return Ok(finding);
    }
    let writer = Writer {
        name: "the connectors runtime",
        service: Service::of(host, Runtime::Connectors),
        well_since: log::well_since(host, Runtime::Connectors, &said.log.lines),
    };
    log_patterns::judge(host, &writer, &said, KNOWN)
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Level, LogLine, LogText, Recorded, Request};

    use super::*;
    use crate::iggy::tests::settings;

    fn journal() -> Request {
        Request::Journal { unit: "iggy-connectors.service".to_owned() }
    }

    fn with_lines(lines: &[&str]) -> Finding {
        let line = |text: &&str| LogLine {
            at_us: Some(1_795_259_342_000_000),
            level: Some(Level::Info),
            origin: "iggy-connectors".to_owned(),
            text: (*text).to_owned(),
        };
        let log =
            LogText { lines: lines.iter().map(line).collect(), cut: false, source: "journal".to_owned() };
        run(&Recorded::complete().settings(settings()).at(1_795_260_000, 9000).log(journal(), log).host())
            .unwrap()
    }

    #[test]
    fn a_runtime_without_errors_passes() {
        let finding =
            with_lines(&["2026-11-21T11:09:02.9Z  INFO iggy_connectors: All sources and sinks spawned."]);
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "the connectors runtime wrote 0 errors and 0 warnings in 1 d");
    }

    #[test]
    fn a_missing_plugin_fails_another_error_warns_and_the_level_is_that_of_the_line() {
        let missing = "\u{1b}[2m2026-11-21T11:09:02.947263Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m iggy_connectors::sink: Sink: \
                       Postgres sink (postgres) - Plugin library not found at '/usr/lib/x.so'.";
        assert_eq!(with_lines(&[missing]).verdict(), Verdict::Fail);
        let other = "2026-11-21T11:09:02.9Z ERROR connector: connector_target=\"pg\" connection refused";
        let finding = with_lines(&[other, other]);
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert!(finding.problems[0].text.starts_with("seen 2 times, last at 2026-11-21T11:09:02Z: "));
    }

    #[test]
    fn a_runtime_that_cannot_reach_iggy_fails_with_its_own_error_whether_escapes_were_kept_or_not() {
        let bare = "[2m2026-11-21T11:09:02.947263Z\u{1b}[0m \u{1b}[31mERROR\u{1b}[0m \u{1b}[2miggy::tcp::tcp_client\u{1b}[0m\u{1b}[2m:\u{1b}[0m \
                    Failed to establish TCP connection to the server: Connection refused (os error 111)";
        for line in [bare.to_owned(), format!("\u{1b}{bare}"), bare.replace('\u{1b}', "#033")] {
            let finding = with_lines(&[line.as_str(); 40]);
            assert_eq!(finding.verdict(), Verdict::Fail, "{line}");
            assert_eq!(finding.summary, "the connectors runtime wrote 40 errors and 0 warnings in 1 d");
            let expected = "seen 40 times, last at 2026-11-21T11:09:02Z: the runtime cannot reach Iggy";
            assert!(finding.problems[0].text.starts_with(expected), "{}", finding.problems[0].text);
        }
    }

    #[test]
    fn no_journal_and_no_lines_are_skipped_and_a_denied_journal_is_unknown() {
        let empty = Recorded::complete().settings(settings());
        let of = |recorded: Recorded| run(&recorded.host());
        assert_eq!(of(empty.clone()).unwrap().verdict(), Verdict::Skip);
        let none = empty.clone().without(journal(), Cause::Unavailable("no journal".to_owned()));
        assert_eq!(of(none).unwrap().summary, "journal iggy-connectors.service: no journal");
        assert!(of(empty.without(journal(), Cause::Denied)).is_err());
    }
}
