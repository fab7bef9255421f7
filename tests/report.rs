//! The report page: what it says, that nothing in it runs, and that a browser can use it.

use std::path::PathBuf;

use warden::snapshot::report::page;

use crate::support::sample_report::sample_report;

/// The sample's page as a file.
fn sample_page() -> PathBuf {
    let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join("sample-report.html");
    std::fs::write(&path, page(&sample_report()).unwrap()).unwrap();
    path
}

#[test]
fn the_page_of_an_ordinary_host_is_under_two_megabytes() {
    let bytes = std::fs::metadata(sample_page()).unwrap().len();
    assert!(bytes < 2_000_000, "{bytes} bytes");
}
