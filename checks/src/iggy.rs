//! Where Iggy is on this host: its processes, its data directory, its configuration.

use crate::Read;
use crate::host::Host;

/// What looking for Iggy may ask of the host; [`Read::Iggy`] stands for all of it.
pub const READS: &[Read] = &[Read::Units];

/// One of the two runtimes that Warden looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Iggy,
    Connectors,
}

/// A running process of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub runtime: Runtime,
    pub pid: u32,
}

/// Every process of the runtimes, however it was started (unit, container, by hand).
pub fn processes(_host: &Host) -> Vec<Process> {
    Vec::new()
}

/// A data directory and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDirectory {
    pub path: String,
    pub found_by: String,
}

pub fn data_directory(_host: &Host) -> Option<DataDirectory> {
    None
}
