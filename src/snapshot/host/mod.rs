//! What a host answers: live, recorded as it goes, or replayed.

pub mod live;
mod recording;
pub mod recording_format;
mod recording_reader;
mod redact_answers;

pub use recording::Recording;
pub use recording_reader::open;
