//! The Supervisor: takes requests over HTTP, keeps them, and has nodes carry them out.

pub mod id;
pub mod network;
pub mod objects;
pub mod settings;
pub mod store;
pub mod uploads;

/// Milliseconds since 1970 UTC, told by whoever starts the Supervisor.
pub type Clock = std::sync::Arc<dyn Fn() -> i64 + Send + Sync>;
