//! The report: its frozen form, and the page made from it.

mod model;

pub use model::*;
