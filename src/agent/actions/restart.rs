//! Stops a unit if it runs, and starts it.

use warden_systemd::Verb;

use super::{UnitAction, Verdict, runs, runs_on, started_since, unchanged};

pub const RESTART: UnitAction = UnitAction {
    verb: Verb::Restart,
    name: "restart",
    jobs: &["restart", "start"],
    already: |_| false,
    wanted: runs,
    stops: true,
    starts: true,
    stayed: runs_on,
    // Of its stop nothing is left to see once it runs again: that is heard while the job lasts, or read in the journal.
    forced: |_| false,
    verify: |before, now| {
        if started_since(before, now) {
            Verdict::TookEffect
        } else if unchanged(before, now) {
            Verdict::NoEffect
        } else {
            // Its first half, the stop, may have been ours, and its second half failed before the start.
            Verdict::Unclear("it was stopped since, and not started")
        }
    },
};
