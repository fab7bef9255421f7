//! The program as a person runs it, with a scrubbed environment, on the recorded hosts.

use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

pub fn warden(arguments: &[&str], folder: &Path) -> Output {
    Command::new(env!("CARGO_BIN_EXE_warden"))
        .args(arguments)
        .env_clear()
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .unwrap()
}

/// Exit code, and the JSON that was printed.
pub fn told(arguments: &[&str], folder: &Path) -> (i32, Value) {
    let output = warden(arguments, folder);
    let told = serde_json::from_slice(&output.stdout);
    (output.status.code().unwrap(), told.unwrap_or_else(|_| panic!("{output:?}")))
}

/// Where a recorded host lies.
pub fn host(name: &str) -> String {
    format!("{}/tests/hosts/{name}", env!("CARGO_MANIFEST_DIR"))
}
