//! Why a unit is another than it was: what systemd and the agent itself know, for whoever reads the samples.

use warden_host::recorder as form;

use crate::executor::Begun;
use crate::runtime_stats::RuntimeReading;

#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    unit: String,
    cause: &'static str,
    detail: String,
}

impl Mark {
    /// What the agent has begun to do with a unit, because it was asked.
    pub fn asked(begun: &Begun) -> Mark {
        let detail = format!("{} {}", begun.action, begun.request);
        Mark { unit: begun.unit.clone(), cause: form::ASKED, detail }
    }

    pub fn line(&self, time: i64, up: u64) -> String {
        let plain = |text: &str| text.replace(|c: char| c.is_control(), " ");
        let (unit, detail) = (plain(&self.unit), plain(&self.detail));
        format!("{}\t{time}\t{up}\t{unit}\t{}\t{detail}\n", form::MARK, self.cause)
    }
}

/// What happened to the units between two looks.
pub fn between(before: &[RuntimeReading], now: &[RuntimeReading]) -> Vec<Mark> {
    let mut marks = Vec::new();
    for reading in now {
        let Some(before) = before.iter().find(|before| before.unit == reading.unit) else { continue };
        let (was, is) = (&before.facts, &reading.facts);
        let mut mark = |cause, detail| marks.push(Mark { unit: reading.unit.clone(), cause, detail });
        let is_over = |state: &str| matches!(state, "inactive" | "failed");
        let waits = is.active_state == "activating" && !matches!(is.result.as_str(), "" | "success");
        if is_over(&is.active_state) && !is_over(&was.active_state) {
            match is.by_itself {
                Some(false) => mark(form::STOPPED, is.result.clone()),
                // systemd forgets how a unit ended that is well and that nothing refers to: it may have been stopped.
                None if is.active_state == "inactive" => {}
                Some(true) | None => mark(form::ENDED, is.result.clone()),
            }
        } else if waits && was.active_state == "active" {
            mark(form::ENDED, is.result.clone());
        }
        if let Some((was, is)) = was.restarts.zip(is.restarts)
            && is > was
        {
            mark(form::RESTARTED, is.to_string());
        }
    }
    marks
}

#[cfg(test)]
mod tests {
    use warden_systemd::UnitFacts;

    use super::*;

    fn unit(
        state: &str,
        result: &str,
        by_itself: Option<bool>,
        restarts: Option<u32>,
    ) -> Vec<RuntimeReading> {
        let facts = UnitFacts {
            active_state: state.to_owned(),
            result: result.to_owned(),
            by_itself,
            restarts,
            ..UnitFacts::default()
        };
        vec![RuntimeReading { unit: "iggy.service".to_owned(), facts, process: None }]
    }

    fn told(before: &[RuntimeReading], now: &[RuntimeReading]) -> Vec<String> {
        between(before, now).iter().map(|mark| mark.line(7, 9)).collect()
    }

    #[test]
    fn an_end_is_told_with_who_ended_it_and_how() {
        let up = unit("active", "", None, Some(0));
        let over = |state, result, by_itself| told(&up, &unit(state, result, by_itself, None));
        let line = |cause, result| vec![format!("!\t7\t9\tiggy.service\t{cause}\t{result}\n")];
        assert_eq!(over("failed", "oom-kill", Some(true)), line("ended", "oom-kill"));
        assert_eq!(over("inactive", "success", Some(true)), line("ended", "success"));
        assert_eq!(over("inactive", "success", Some(false)), line("stopped", "success"));
        assert_eq!(over("failed", "timeout", Some(false)), line("stopped", "timeout"));
        assert_eq!(over("failed", "exit-code", None), line("ended", "exit-code"));
        assert_eq!(over("inactive", "", None), [""; 0], "nobody knows");
        assert_eq!(over("activating", "exit-code", None), line("ended", "exit-code"));
        assert_eq!(over("activating", "success", None), [""; 0]);
        let down = unit("failed", "oom-kill", Some(true), None);
        assert_eq!(told(&down, &down), [""; 0]);
    }

    #[test]
    fn a_restart_by_systemd_is_told_and_a_count_that_begins_anew_is_none() {
        let with = |restarts| unit("active", "", None, restarts);
        assert_eq!(told(&with(Some(2)), &with(Some(4))), ["!\t7\t9\tiggy.service\trestarted\t4\n"]);
        assert_eq!(told(&with(Some(2)), &with(Some(0))), [""; 0]);
        assert_eq!(told(&with(None), &with(Some(4))), [""; 0]);
        assert_eq!(told(&[], &with(Some(4))), [""; 0]);
    }

    #[test]
    fn what_the_agent_was_asked_is_told_in_one_line() {
        let begun = Begun { unit: "a\nb.service".to_owned(), action: "restart".to_owned(), request: 61 };
        assert_eq!(Mark::asked(&begun).line(7, 9), "!\t7\t9\ta b.service\tasked\trestart 61\n");
    }
}
