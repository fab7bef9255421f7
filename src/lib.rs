//! Warden: the agent on every host of an Apache Iggy deployment, and the Supervisor that commands it.

pub use warden_agent as agent;
pub mod cli;
pub use warden_config as config;
pub use warden_iggy as iggy;
pub use warden_platform::{
    aligned_timer, atomic_file, background_io, backoff, boot_time, doctor, endpoint, log_buffer, memory_trim,
    secret, sha256, syscalls, task_set, tls, user_view,
};
pub use warden_protocol as protocol;
pub use warden_redact as redact;
pub use warden_snapshot as snapshot;
pub use warden_supervisor as supervisor;
pub use warden_systemd as systemd;
