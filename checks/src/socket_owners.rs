//! Which process holds a socket: only its descriptors tell.

use std::collections::BTreeSet;

use warden_host::proc::field;
use warden_host::{Host, IfAny};

use crate::Result;

/// What an owner may ask for.
pub const DESCRIPTORS: &str = "/proc/[pid]/fd";
pub const DESCRIPTOR: &str = "/proc/[pid]/fd/*";
pub const STATUS: &str = "/proc/[pid]/status";

/// Descriptors of one process that are looked at, lowest first: Iggy opens four for each partition, and each
/// one asked is a line in the recording.
const DESCRIPTORS_LOOKED_AT: usize = 4096;
/// The same for the search through every process that could hold a socket.
const DESCRIPTORS_SEARCHED: usize = 4096;

/// The sockets among a process's descriptors.
pub struct Held {
    pub inodes: BTreeSet<u64>,
    /// Every descriptor was looked at.
    pub complete: bool,
}

impl Held {
    pub fn by(host: &Host, pid: u32) -> Result<Held> {
        let mut budget = DESCRIPTORS_LOOKED_AT;
        held(host, pid, &mut budget, |_| false)
    }
}

/// The process of user `uid` that holds the socket `inode`, as `name (pid)`; `None` when its descriptors may
/// not be seen.
pub fn holder(host: &Host, inode: u64, uid: u32) -> Option<String> {
    let mut budget = DESCRIPTORS_SEARCHED;
    for file in host.read_all(STATUS).ok()? {
        let pid: u32 = file.path.split('/').nth(2)?.parse().ok()?;
        // A server that binds as root and then changes its user holds a socket that root made.
        let users = field(&file.text, "Uid").unwrap_or_default();
        let could_hold = uid == 0 || users.split_ascii_whitespace().any(|user| user.parse() == Ok(uid));
        if !could_hold || budget == 0 {
            continue;
        }
        let found = held(host, pid, &mut budget, |found| found == inode);
        if found.is_ok_and(|held| held.inodes.contains(&inode)) {
            return Some(format!("{} ({pid})", field(&file.text, "Name").unwrap_or("a process")));
        }
    }
    None
}

fn held(host: &Host, pid: u32, budget: &mut usize, enough: impl Fn(u64) -> bool) -> Result<Held> {
    let directory = format!("/proc/{pid}/fd");
    let mut numbers: Vec<u32> =
        host.list(&directory)?.iter().filter_map(|entry| entry.name.parse().ok()).collect();
    numbers.sort_unstable();
    let mut held =
        Held { inodes: BTreeSet::new(), complete: numbers.len() <= *budget && !numbers.is_empty() };
    for number in numbers.into_iter().take(*budget) {
        *budget -= 1;
        // A descriptor may close between the listing and the look.
        let target = match host.link(&format!("{directory}/{number}")).if_any() {
            Ok(Some(target)) if !target.is_empty() => target,
            Ok(None) => continue,
            Ok(Some(_)) | Err(_) => {
                held.complete = false;
                continue;
            }
        };
        let inode = target.strip_prefix("socket:[").and_then(|rest| rest.strip_suffix(']')?.parse().ok());
        if let Some(inode) = inode {
            held.inodes.insert(inode);
            if enough(inode) {
                break;
            }
        }
    }
    Ok(held)
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::iggy::tests::link;

    #[test]
    fn a_socket_leads_to_the_process_that_holds_it() {
        let recorded = Recorded::complete()
            .file("/proc/5/status", "Name:\tsshd\nUid:\t0\t0\t0\t0\n")
            .file("/proc/9/status", "Name:\tgrafana\nUid:\t7\t7\t7\t7\n");
        let recorded = link(link(recorded, "/proc/9/fd/3", "/dev/null"), "/proc/9/fd/12", "socket:[77]");
        let host = recorded.host();
        assert_eq!(holder(&host, 77, 7).as_deref(), Some("grafana (9)"));
        assert_eq!((holder(&host, 77, 8), holder(&host, 78, 7)), (None, None));
        assert_eq!(
            Held::by(&host, 9).map(|held| (held.inodes, held.complete)),
            Ok((BTreeSet::from([77]), true))
        );
        assert!(Held::by(&host, 10).is_err());
    }
}
