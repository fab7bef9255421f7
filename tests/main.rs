//! Warden from outside, a file a subject.

#![expect(
    clippy::unwrap_used,
    clippy::wildcard_enum_match_arm,
    reason = "a test that cannot go on says where, and speaks of the few cases it is about"
)]

mod anonymize;
mod archive;
mod canary;
mod cli;
mod clock_and_timers;
mod conformance;
mod ctl;
mod data_directory;
mod diff;
mod docs;
mod encryption;
mod fleet;
mod hangs;
mod held;
mod hosts;
mod inspect;
mod link;
mod missing_answers;
mod named_paths;
mod named_secrets;
mod objects;
mod packages;
mod packed;
mod protocol;
mod recorder;
mod redacted_verdicts;
mod report;
mod same_bytes;
mod scale;
mod snapshots;
mod storage;
mod supervisor;
mod support;
mod systemd;
mod up;
mod upload;
mod verify;
mod walls;
