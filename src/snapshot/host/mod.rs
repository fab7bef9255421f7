//! What a host answers: live, recorded as it goes, or replayed.

pub mod live;
