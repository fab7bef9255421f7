//! The outside, for tests that need some of it.

pub mod browser;
pub mod changed_host;
pub mod mount;
pub mod objects;
pub mod pki;
pub mod postgres;
pub mod program;
pub mod proxy;
pub mod s3;
pub mod sample_report;
pub mod sandbox;
pub mod segments;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

/// Far longer than anything waited for takes, so that only what never happens fails.
const PATIENCE: Duration = Duration::from_secs(60);

/// Asks until there is an answer.
pub fn until<T>(what: &str, ask: impl FnMut() -> Option<T>) -> T {
    until_within(PATIENCE, what, ask)
}

/// The same, of what takes long.
pub fn until_within<T>(patience: Duration, what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(began.elapsed() < patience, "waited {patience:?} in vain: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Bytes of a file that are in the page cache, by util-linux.
pub fn resident(path: &Path) -> u64 {
    let output = Command::new("fincore").args(["-n", "-b", "-o", "RES"]).arg(path).output().unwrap();
    String::from_utf8_lossy(&output.stdout).trim().parse().unwrap()
}
