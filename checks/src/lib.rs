//! What Warden asks of a host. A check knows only [`Host`]: it cannot reach a file, a process or the network
//! in any other way.

pub mod arc;
pub mod block;
mod catalog;
mod certificate;
mod cgroup;
mod check;
mod complaints;
mod disk_roles;
pub mod diskstats;
mod end_of_life;
mod endpoint;
pub mod filesystems;
mod finding;
mod firewall;
mod hardware_errors;
pub mod host;
pub mod iggy;
mod limits;
mod links;
mod oom;
mod owners;
pub mod proc;
mod process;
pub mod quantity;
pub mod recorder;
mod redundancy;
pub mod shape;
mod smart;
mod sockets;
mod storage_errors;
mod systemd;

pub use catalog::CHECKS;
pub use certificate::{Certificate, Expiry, certificates_in, expiries, is_certificate_name, parse_pem};
pub use check::{Area, Check, DEADLINE, Error, Read, Result, component_matches, matches};
pub use finding::*;
pub use host::Host;
