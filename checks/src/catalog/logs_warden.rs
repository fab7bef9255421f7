//! logs-warden: what did the agent itself complain of.

use warden_host::Host;

use crate::iggy::{Service, log};
use crate::log_patterns::{self, Writer};
use crate::{Area, Check, DEADLINE, Finding, Read, Result};

pub const CHECK: Check = Check {
    id: "logs-warden",
    area: Area::Logs,
    title: "What did Warden's agent complain of?",
    why: "An agent that cannot reach its Supervisor or may not manage a unit says so in its own log long before \
          somebody misses it. What it says is also what explains a command that was never carried out.",
    reads: &[Read::Journal],
    thresholds: &[
        "fails for a panic",
        "warns for any error in the window (24 h)",
        "notes a window that was not read whole",
    ],
    advice: "Run `warden doctor` on this host.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let unit = host.settings()?.warden_unit;
    let said = match log::said_by_unit(host, &unit) {
        None => return Ok(Finding::skip(format!("{unit} has written nothing into the journal"))),
        Some(said) => said,
    };
    if let Some(finding) = said.nothing_to_judge()? {
        return Ok(finding);
    }
    let writer = Writer { name: "the agent", service: Service::Unit(unit), well_since: None };
    log_patterns::judge(host, &writer, &said, &[])
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Level, LogLine, LogText, Recorded, Request};

    use super::*;
    use crate::Verdict;
    use crate::iggy::tests::settings;

    fn journal() -> Request {
        Request::Journal { unit: "warden.service".to_owned() }
    }

    fn of(level: Level, text: &str) -> Finding {
        let line = LogLine {
            at_us: Some(1_795_259_342_000_000),
            level: Some(level),
            origin: String::new(),
            text: text.to_owned(),
        };
        let log = LogText { lines: vec![line], cut: false, source: "journal".to_owned() };
        run(&Recorded::complete().settings(settings()).at(1_795_260_000, 9000).log(journal(), log).host())
            .unwrap()
    }

    #[test]
    fn information_passes_an_error_warns_and_a_panic_fails() {
        let quiet = of(Level::Info, "link is up");
        assert_eq!(
            (quiet.verdict(), quiet.summary.as_str()),
            (Verdict::Pass, "the agent wrote 0 errors and 0 warnings in 1 d")
        );
        assert_eq!(of(Level::Error, "cannot reach the Supervisor").verdict(), Verdict::Warn);
        assert_eq!(of(Level::Info, "thread 'main' (1) panicked at src/x.rs:1:2:").verdict(), Verdict::Fail);
    }

    #[test]
    fn an_agent_that_never_ran_is_skipped_and_a_denied_journal_is_unknown() {
        let empty = Recorded::complete().settings(settings());
        assert_eq!(run(&empty.clone().host()).unwrap().verdict(), Verdict::Skip);
        assert!(run(&empty.without(journal(), Cause::Denied).host()).is_err());
    }
}
