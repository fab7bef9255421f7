//! A snapshot that a node took without being asked, because its own policy says when: it offers it to the Supervisor.
//!
//! `SnapshotOffered` -> `Request` with the offer in it, from then on as any other, or `OfferRefused`. A node offers
//! nothing to a Supervisor whose welcome does not say that it takes offers.

use serde::{Deserialize, Serialize};

/// The snapshot lies on the node. Told again until the node is asked for it, or told that it is not wanted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SnapshotOffered {
    /// The node's own number for it.
    pub offer: u64,
    pub trigger: Trigger,
    /// In a sentence: `iggy.service failed: oom-kill`.
    pub reason: String,
    /// Milliseconds since 1970 UTC by the node's clock, for showing only.
    pub taken_at_ms: i64,
}

/// What a node takes a snapshot of by itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Trigger {
    /// A runtime's unit failed, or systemd had to start it again.
    UnitFailed,
    /// A runtime was killed for memory.
    OutOfMemory,
    /// A local filesystem is fuller than the policy of the host says.
    FilesystemFull,
    /// A certificate of one of Iggy's listeners runs out soon.
    CertificateExpires,
    #[serde(other)]
    Other,
}

/// Why an offer is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OfferRefusal {
    /// A run of the deployment is under way. Offer it again.
    InProgress,
    /// The plan keeps no more, or this node has offered too many. Offer it again.
    LimitReached,
    /// It is here already. Final.
    NotWanted,
    #[serde(other)]
    Other,
}
