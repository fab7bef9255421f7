//! What Warden asks of a host. A check knows only [`Host`]: it cannot reach a file, a process or the network
//! in any other way.

pub mod block;
mod catalog;
mod cgroup;
mod disk_roles;
mod end_of_life;
mod endpoint;
mod expiries;
mod firewall;
mod hardware_errors;
pub mod iggy;
mod log_patterns;
mod net_links;
mod oom;
mod process_samples;
mod raid;
mod rlimits;
mod selection;
mod smart;
mod socket_owners;
mod sockets;
mod storage_errors;
mod units;

pub use catalog::CHECKS;
pub use expiries::{Expiry, expiries};
pub use selection::{DATA_DIRECTORY, NothingSelected, Selection};
use warden_host::*;
