//! The outside, for tests that need some of it.

pub mod browser;
pub mod mount;
pub mod sample_report;
pub mod segments;
