//! Diagnoses a host: asks, judges, masks, reports.

pub mod host;
pub mod redact;
pub mod report;
