//! Diagnoses a host: asks, judges, masks, reports.

pub mod redact;
pub mod report;
