//! Starts a unit that does not run.

use warden_systemd::Verb;

use super::{UnitAction, Verdict, runs, runs_on, started_since, unchanged};

pub const START: UnitAction = UnitAction {
    verb: Verb::Start,
    name: "start",
    jobs: &["start", "restart"],
    already: runs,
    wanted: runs,
    stops: false,
    starts: true,
    stayed: runs_on,
    forced: |_| false,
    verify: |before, now| {
        if started_since(before, now) {
            Verdict::TookEffect
        } else if unchanged(before, now) {
            Verdict::NoEffect
        } else {
            Verdict::Unclear("it changed without having been started")
        }
    },
};
