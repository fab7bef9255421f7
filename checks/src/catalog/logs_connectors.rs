//! logs-connectors: what did the connectors runtime complain of.

use crate::complaints::{self, Known};
use crate::host::Host;
use crate::iggy::Runtime;
use crate::iggy::log;
use crate::{Area, Check, DEADLINE, Finding, Read, Result, Verdict};

pub const CHECK: Check = Check {
    id: "logs-connectors",
    area: Area::Logs,
    title: "What did the connectors complain of?",
    why: "A connector that cannot load or cannot reach its other side says so only in its log: the runtime stays up \
          and calls itself healthy. The runtime logs to its standard output, so only the journal keeps it.",
    reads: &[Read::Iggy, Read::Journal],
    thresholds: &[
        "fails for a panic and for a plugin that cannot be loaded",
        "warns for any other error in the window (24 h)",
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
        command: None,
    },
    Known {
        mark: "Failed to load configuration",
        severity: Verdict::Fail,
        meaning: "the runtime could not read its configuration and ended",
        advice: "Correct the file that IGGY_CONNECTORS_CONFIG_PATH names.",
        command: Some("systemctl cat iggy-connectors"),
    },
];

fn run(host: &Host) -> Result<Finding> {
    let said = match log::said(host, Runtime::Connectors)? {
        None => return Ok(Finding::skip("there is no log of a connectors runtime on this host")),
        Some(said) => said,
    };
    if let Some(finding) = said.nothing_to_judge()? {
        return Ok(finding);
    }
    complaints::judge(host, "the connectors runtime", &said, KNOWN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Cause, Level, LogLine, LogText, Recorded, Request};
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
    fn no_journal_and_no_lines_are_skipped_and_a_denied_journal_is_unknown() {
        let empty = Recorded::complete().settings(settings());
        let of = |recorded: Recorded| run(&recorded.host());
        assert_eq!(of(empty.clone()).unwrap().verdict(), Verdict::Skip);
        let none = empty.clone().without(journal(), Cause::Unavailable("no journal".to_owned()));
        assert_eq!(of(none).unwrap().summary, "journal iggy-connectors.service: no journal");
        assert!(of(empty.without(journal(), Cause::Denied)).is_err());
    }
}
