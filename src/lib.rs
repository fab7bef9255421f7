//! Warden: the agent on every host of an Apache Iggy deployment, and the Supervisor that commands it.

pub mod agent;
pub mod cli;
pub mod config;
pub mod gentle;
pub mod iggy;
mod kernel;
pub use warden_protocol as protocol;
pub mod said;
pub mod secret;
pub mod sha256;
pub mod snapshot;
pub mod supervisor;
pub mod systemd;
pub mod tasks;
pub mod tls;
pub mod user_view;
