//! How a host becomes a node: one POST to [`ENROL_PATH`](super::ENROL_PATH), body and answer as
//! [`encode`](super::encode) writes them.

use std::fmt;

use serde::{Deserialize, Serialize};

use super::About;

/// What a new node asks with. The credential itself stays on the host that drew it; asking again with the same token
/// and the same credential gives the same node, so an answer that was lost costs nothing.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrol {
    /// The one-time token an administrator made.
    pub token: String,
    /// SHA-256 of the credential the node will show, 64 lower-case hex digits.
    pub credential_hash: String,
    pub host: About,
}

/// The node that was made for the token.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Enrolled {
    pub node: u64,
    pub deployment: u64,
}

impl fmt::Debug for Enrol {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("Enrol").field("host", &self.host).finish_non_exhaustive()
    }
}
