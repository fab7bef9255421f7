//! Made-up secrets as they stand in real texts, and texts that only look alike.

mod file;
mod lookalikes;
mod ordinary;
mod published;
mod secrets;

pub(super) use file::{Entry, entries, files};
pub(super) use lookalikes::LOOKALIKES;
pub(super) use ordinary::ORDINARY;
pub(super) use published::published;
pub(super) use secrets::secrets;
