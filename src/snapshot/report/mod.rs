//! The report: its frozen form, and the page made from it.

mod charts;
mod data_directory;
mod data_evidence;
mod data_view;
mod evidence;
mod finding;
mod html;
mod model;
pub(crate) mod sanitize;

pub(crate) use charts::share;
pub use data_directory::{
    DataDirectory, ID as DATA_DIRECTORY, InspectionCost, THRESHOLDS as DATA_THRESHOLDS, TITLE as DATA_TITLE,
    WHY as DATA_WHY,
};
pub(crate) use html::icon;
pub use html::page;
pub use model::*;
