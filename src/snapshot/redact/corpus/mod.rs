//! Made-up secrets as they stand in real texts, and texts that only look alike.

mod lookalikes;
mod secrets;

pub(super) use lookalikes::LOOKALIKES;
pub(super) use secrets::secrets;
