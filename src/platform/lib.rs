//! What every part needs of an operating system: system calls, files, TLS, secrets, clocks and timers.

pub mod aligned_timer;
pub mod atomic_file;
pub mod background_io;
pub mod backoff;
pub mod boot_time;
pub mod doctor;
pub mod endpoint;
pub mod log_buffer;
pub mod memory_trim;
pub mod secret;
pub mod sha256;
pub mod syscalls;
pub mod task_set;
pub mod tls;
pub mod user_view;
