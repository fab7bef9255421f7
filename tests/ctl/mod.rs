//! `warden ctl` as a person and a script run it.

mod administration;
mod archives;
mod calls;
mod completion;
mod names_and_questions;
mod profiles;
mod real;
mod scripted;
mod waiting;

use std::path::Path;
use std::process::{Command, Output};

/// The command with a scrubbed environment, at home in `home`.
pub fn ctl(home: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
    command.arg("ctl").args(arguments).env_clear().env("HOME", home).current_dir(home);
    command.stdin(std::process::Stdio::null());
    command
}

pub fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

/// Exit code, stdout, stderr.
pub fn told(output: &Output) -> (Option<i32>, &str, &str) {
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}
