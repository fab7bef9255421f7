//! How a node tells that it lives, and how it is.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Runtime;

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Heartbeat {
    /// The node's clock, milliseconds since 1970 UTC.
    pub at_ms: i64,
    pub host: Host,
    pub agent: Agent,
    pub runtimes: Vec<RuntimeState>,
}

/// The host, at one moment. A figure that could not be read is absent, never nought.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Host {
    pub uptime_seconds: Option<u64>,
    pub load_1m: Option<f64>,
    /// Share of all cores since the last heartbeat, 0 to 1.
    pub cpu: Option<f64>,
    pub memory_total_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    /// Bytes since boot over all interfaces but loopback.
    pub network_received_bytes: Option<u64>,
    pub network_sent_bytes: Option<u64>,
    /// Local filesystems, the fullest first; at most 16.
    pub disks: Vec<Disk>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Disk {
    pub mount: String,
    pub total_bytes: u64,
    pub available_bytes: u64,
}

/// The agent's own cost.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Agent {
    pub resident_bytes: u64,
    pub cpu_ms: u64,
}

/// One runtime as systemd and its own API tell.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct RuntimeState {
    #[schema(value_type = String, example = "iggy")]
    pub runtime: Runtime,
    pub unit: String,
    /// `loaded`, `not-found`, `masked`, ...; `unknown` when systemd could not be asked.
    pub load_state: String,
    /// In systemd's words, and beyond them: `not-found` of a unit that is not there, `unknown` when systemd could not be
    /// asked, and `activating` with the sub state `auto-restart` of one that systemd itself started again less than a
    /// minute ago, which in a crash loop is up for moments only.
    pub active_state: String,
    pub sub_state: String,
    pub main_pid: u32,
    /// When it came into this state, milliseconds since 1970 UTC.
    pub since_ms: Option<i64>,
    pub restarts: Option<u32>,
    pub memory_bytes: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub tasks: Option<u64>,
    /// Whether its own API answers. Absent: not asked, or it has none.
    pub answers: Option<bool>,
}
