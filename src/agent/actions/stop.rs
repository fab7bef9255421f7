//! Stops a unit that runs.

use warden_systemd::Verb;

use super::{UnitAction, Verdict, is_down, started_since, was_killed};

pub const STOP: UnitAction = UnitAction {
    verb: Verb::Stop,
    name: "stop",
    jobs: &["stop"],
    already: is_down,
    wanted: is_down,
    stops: true,
    starts: false,
    stayed: |_, now| is_down(&now.state),
    forced: was_killed,
    verify: |before, now| {
        if is_down(&now.state) {
            Verdict::TookEffect
        } else if started_since(before, now) {
            Verdict::Unclear("it was started anew since")
        } else {
            Verdict::NoEffect
        }
    },
};
