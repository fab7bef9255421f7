//! The report: its frozen form, and the page made from it.

mod charts;
mod evidence;
mod finding;
mod html;
mod model;
pub(in crate::snapshot) mod visible;

pub(in crate::snapshot) use html::icon;
pub use html::page;
pub use model::*;
