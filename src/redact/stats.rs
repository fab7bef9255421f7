//! What was masked, in numbers: part of the bundle's manifest.

use std::collections::BTreeMap;

use serde::Serialize;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Receipt {
    /// Places masked, by rule.
    pub counts: BTreeMap<String, u64>,
    /// Places where a value that was seen elsewhere stood without its context.
    pub swept: u64,
    /// Different values that are searched for everywhere.
    pub values: u64,
    /// Values that were masked where they stood, but were too many to be searched for elsewhere.
    pub values_not_kept: u64,
}
