//! Copies of data on several disks or hosts, and whether they are whole.

mod asked;
mod btrfs;
mod controllers;
mod device_mapper;
mod drbd;
mod md;
mod zfs;

pub use asked::{BCACHE, Redundancy, ask};
pub use btrfs::{DEVICES as BTRFS_DEVICES, ERRORS as BTRFS_ERRORS, MISSING as BTRFS_MISSING, counted_errors};
pub use controllers::HOSTS as CONTROLLERS;
pub use device_mapper::UUIDS as MAPPED_UUIDS;
use warden_host::Verdict;
pub use zfs::STATES as POOL_STATES;

/// A set of copies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copies {
    /// `md0`, `DRBD r0/0`, `ZFS pool tank`.
    pub name: String,
    /// As the kernel or its tool shows it: `active raid1 [2/1]`, `UpToDate, peer Outdated`.
    pub state: String,
    pub fault: Option<Fault>,
    /// What a mount names it by: `md0`, `tank`, `mapper/vg-data`, a btrfs UUID; empty when nothing is mounted of it.
    pub mounted_as: String,
    /// The command that shows it whole.
    pub command: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// No copy, or one that cannot be used, is left here.
    Broken,
    /// A copy is missing.
    Degraded,
    /// Data was lost although copies are there.
    DataErrors,
    /// No write finds room.
    Full,
    /// A copy is being made whole again.
    Recovering,
    /// All copies are there; a disk that failed is listed beside them.
    FailedMember,
    /// All copies are there; devices returned errors that were mended.
    MendedErrors,
    /// One of several paths to the disk is lost.
    LostPath,
    /// Little room is left.
    Filling,
    /// A snapshot ran full and cannot be used.
    InvalidSnapshot,
    /// Copies may differ until the first write begins to compare them.
    Waiting,
}

impl Fault {
    pub fn severity(self) -> Verdict {
        match self {
            Fault::Broken | Fault::Degraded | Fault::DataErrors | Fault::Full => Verdict::Fail,
            Fault::Recovering
            | Fault::FailedMember
            | Fault::MendedErrors
            | Fault::LostPath
            | Fault::Filling
            | Fault::InvalidSnapshot => Verdict::Warn,
            Fault::Waiting => Verdict::Note,
        }
    }

    /// The sentence after the name.
    pub fn words(self) -> &'static str {
        match self {
            Fault::Broken => "has no good copy here",
            Fault::Degraded => "is degraded, a copy is missing",
            Fault::DataErrors => "has lost data",
            Fault::Full => "has no room left: writes fail or wait, while df shows room",
            Fault::Recovering => "is being made whole again",
            Fault::FailedMember => "is whole, but still lists a disk that has failed",
            Fault::MendedErrors => "is whole, but its disks returned errors",
            Fault::LostPath => "has lost a path to its disk",
            Fault::Filling => "is running out of room",
            Fault::InvalidSnapshot => "has run full and is no longer valid",
            Fault::Waiting => "will compare its copies at the first write",
        }
    }

    pub fn advice(self) -> &'static str {
        match self {
            Fault::Broken | Fault::Degraded => "Replace or reconnect the missing copy and let it rebuild.",
            Fault::DataErrors => "See which files are named, restore them from a copy, then scrub.",
            Fault::Full | Fault::Filling => {
                "Add space to the pool (lvextend) or remove snapshots; then check the filesystems on it."
            }
            Fault::Recovering => "Let it finish; see that it moves on.",
            Fault::FailedMember => {
                "Remove the failed disk from the array and replace it: a spare is missing."
            }
            Fault::MendedErrors => "See which disk returns errors, check its cable and health, then scrub.",
            Fault::LostPath => "Check the cable, the port and the switch of the path that failed.",
            Fault::InvalidSnapshot => "Remove the snapshot; make the next one larger.",
            Fault::Waiting => "Nothing to do: an array that was only read yet.",
        }
    }
}

#[cfg(test)]
fn faults(copies: &[Copies]) -> Vec<(&str, &str, Option<Fault>)> {
    copies.iter().map(|one| (one.name.as_str(), one.state.as_str(), one.fault)).collect()
}
