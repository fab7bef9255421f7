//! The report: its frozen form, and the page made from it.

mod charts;
mod evidence;
mod finding;
mod html;
mod model;
mod visible;

pub use html::page;
pub use model::*;
