//! What a host answers: live, recorded as it goes, or replayed.

pub mod folder;
pub mod live;
mod mask;
mod open;
mod recording;

pub use open::open;
pub use recording::Recording;
