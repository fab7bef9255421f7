//! btrfs over several devices, from sysfs. Source: Documentation of btrfs(5), `/sys/fs/btrfs`.

use std::collections::BTreeMap;

use warden_host::FileText;
use warden_host::proc::Mount;

use super::{Copies, Fault};

/// Whether a device is gone (Linux 5.6 and later).
pub const MISSING: &str = "/sys/fs/btrfs/*/devinfo/*/missing";
/// Errors that each device was counted, until somebody resets the count.
pub const ERRORS: &str = "/sys/fs/btrfs/*/devinfo/*/error_stats";
/// The devices of a filesystem.
pub const DEVICES: &str = "/sys/fs/btrfs/*/devices/*/dev";

fn part(path: &str, at: usize) -> String {
    path.split('/').nth(at).unwrap_or_default().to_owned()
}

/// The filesystems that have lost a device. `devices` are the files of [`DEVICES`].
pub fn filesystems(missing: &[FileText], devices: &[FileText], mounts: &[Mount]) -> Vec<Copies> {
    let mut lost: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for file in missing {
        let ids = lost.entry(part(&file.path, 4)).or_default();
        if file.text.trim() == "1" {
            ids.push(part(&file.path, 6));
        }
    }
    // Older kernels show a missing device by the option alone that let the filesystem be mounted without it.
    for mount in mounts.iter().filter(|mount| mount.filesystem == "btrfs" && mount.has_option("degraded")) {
        let name = mount.source.strip_prefix("/dev/").unwrap_or(&mount.source);
        let is_of = |file: &&FileText| part(&file.path, 6) == name;
        let uuid =
            devices.iter().find(is_of).map_or_else(|| mount.source.clone(), |file| part(&file.path, 4));
        if missing.iter().all(|file| part(&file.path, 4) != uuid) {
            lost.entry(uuid).or_default().push("any".to_owned());
        }
    }
    let several = |uuid: &str| devices.iter().filter(|file| part(&file.path, 4) == uuid).count() > 1;
    let copies = |(uuid, ids): (String, Vec<String>)| {
        let is_shown = !ids.is_empty() || several(&uuid);
        let state = match &ids[..] {
            [] => "no device is missing".to_owned(),
            [one] if one == "any" => "mounted with the option degraded".to_owned(),
            ids => format!("missing device {}", ids.join(", ")),
        };
        is_shown.then(|| Copies {
            name: format!("btrfs {uuid}"),
            state,
            fault: (!ids.is_empty()).then_some(Fault::Degraded),
            command: format!("btrfs filesystem show {uuid}"),
            mounted_as: uuid,
        })
    };
    lost.into_iter().filter_map(copies).collect()
}

/// Errors counted of the devices of each filesystem, by UUID: `write_errs 2`.
pub fn counted_errors(stats: &[FileText]) -> BTreeMap<String, u64> {
    let mut errors: BTreeMap<String, u64> = BTreeMap::new();
    for file in stats {
        let counts =
            file.text.lines().filter_map(|line| line.split_ascii_whitespace().nth(1)?.parse::<u64>().ok());
        let sum = errors.entry(part(&file.path, 4)).or_default();
        *sum = counts.fold(*sum, u64::saturating_add);
    }
    errors
}

#[cfg(test)]
mod tests {
    use super::super::faults;
    use super::*;

    fn file(path: &str, text: &str) -> FileText {
        FileText { path: path.to_owned(), text: text.to_owned() }
    }

    #[test]
    fn a_missing_device_and_a_degraded_mount_are_faults() {
        let devices = [
            file("/sys/fs/btrfs/u1/devices/sda1/dev", "8:1\n"),
            file("/sys/fs/btrfs/u1/devices/sdb1/dev", "8:17\n"),
        ];
        let missing = |text| {
            [
                file("/sys/fs/btrfs/u1/devinfo/1/missing", "0\n"),
                file("/sys/fs/btrfs/u1/devinfo/2/missing", text),
            ]
        };
        let whole = filesystems(&missing("0\n"), &devices, &[]);
        assert_eq!(faults(&whole), [("btrfs u1", "no device is missing", None)]);
        let lost = filesystems(&missing("1\n"), &devices, &[]);
        assert_eq!(faults(&lost), [("btrfs u1", "missing device 2", Some(Fault::Degraded))]);
        let mounts = Mount::parse_all("1 0 0:40 / /data rw - btrfs /dev/sda1 rw,degraded,space_cache\n");
        let old = filesystems(&[], &devices, &mounts);
        assert_eq!(faults(&old), [("btrfs u1", "mounted with the option degraded", Some(Fault::Degraded))]);
        assert_eq!(filesystems(&missing("0\n")[..1], &devices[..1], &[]), []);
    }
}
