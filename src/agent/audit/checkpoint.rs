//! Where the log ended when it was last put on disk, in a file beside it: a chain alone cannot show that its newest
//! lines were cut off. Not in the ledger, which a running agent has for itself.

use std::path::Path;
use std::{fs, io};

use warden_platform::atomic_file::{PRIVATE, replace};

use super::hash_chain::Head;

pub const FILE: &str = "audit.head";

/// What is told of one that somebody else wrote.
pub const UNREADABLE: &str = "where the log ended cannot be read: audit.head is not as an agent writes it";

/// Nothing when no agent has put a line on disk yet, or none that knew of this file.
pub fn read(folder: &Path) -> io::Result<Option<Head>> {
    match fs::read(folder.join(FILE)) {
        Ok(bytes) => serde_json::from_slice(&bytes)
            .map(Some)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// After the log is on disk, never before: then a crash leaves it behind the log, which is no fault.
pub fn write(folder: &Path, head: &Head) -> anyhow::Result<()> {
    replace(&folder.join(FILE), &serde_json::to_vec(head)?, PRIVATE)
}
