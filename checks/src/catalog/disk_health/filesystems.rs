//! Errors that filesystems have counted.

use warden_host::Host;

use crate::disk_roles::Roles;
use crate::raid::{BTRFS_ERRORS, counted_errors};
use crate::{Advice, Finding, Result, quantity};

/// Judges what ext4 and btrfs count of the errors they met.
pub fn judge_filesystems(host: &Host, finding: &mut Finding, roles: &Roles) -> Result<()> {
    let times = host.read_all("/sys/fs/ext4/*/last_error_time").unwrap_or_default();
    for file in host.read_all("/sys/fs/ext4/*/errors_count")? {
        let (device, errors) = (file.path.split('/').nth(4).unwrap_or_default(), file.text.trim());
        if errors.parse().is_ok_and(|errors: u64| errors > 0) {
            let is_same = |time: &&warden_host::FileText| time.path.split('/').nth(4) == Some(device);
            let last = times.iter().find(is_same).and_then(|time| time.text.trim().parse::<i64>().ok());
            let when = last.filter(|&at| at > 0).map(|at| format!(", the last at {}", quantity::time(at)));
            let text = format!(
                "ext4 on {} has recorded {errors} errors since it was last checked{}",
                roles.named(device),
                when.unwrap_or_default()
            );
            let advice = "Stop what writes to it, unmount it, check it and mount it again.";
            finding.warn(text, Advice::run(advice, format!("e2fsck -f /dev/{device}")));
        }
    }
    let errors = counted_errors(&host.read_all(BTRFS_ERRORS).unwrap_or_default());
    for (filesystem, count) in errors.into_iter().filter(|(_, count)| *count > 0) {
        let whose = if roles.is_data_on(&filesystem) { ", which holds Iggy's data," } else { "" };
        let text = format!(
            "the btrfs {filesystem}{whose} has counted {count} errors of its devices since the count was last reset"
        );
        finding.warn(
            text,
            Advice::run(
                "See which device, then scrub; reset the count (`-z`) when it is mended.",
                format!("btrfs device stats /dev/disk/by-uuid/{filesystem}"),
            ),
        );
    }
    Ok(())
}
