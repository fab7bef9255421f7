//! The block devices of a host, and which of them a filesystem lies on. Source: Documentation/ABI/stable/sysfs-block.

use crate::Result;
use crate::host::{FileText, Host};
use crate::iggy::DataDirectory;
use crate::proc::Mount;

/// A whole disk: a device, or a stack of them (LVM, RAID).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// As in /proc/diskstats: `sda`, `nvme0n1`, `dm-0`, `cciss/c0d0`.
    pub name: String,
    /// `major:minor` of the disk and of its partitions.
    numbers: Vec<String>,
    /// Names of its partitions.
    partitions: Vec<String>,
}

/// Numbers of whole disks.
pub const DISKS: &str = "/sys/block/*/dev";
/// Numbers of partitions.
pub const PARTITIONS: &str = "/sys/block/*/*/dev";

/// Loop devices show another disk's work again; RAM disks, floppies and optical drives store no data.
const NEVER: [&str; 5] = ["loop", "ram", "zram", "fd", "sr"];

impl Disk {
    /// Every disk that can store data, sorted by name; asks for [`DISKS`] and [`PARTITIONS`].
    pub fn all(host: &Host) -> Result<Vec<Disk>> {
        let mut disks: Vec<Disk> = Vec::new();
        for file in host.read_all(DISKS)? {
            let Some(name) = name_in(&file.path).filter(|name| stores_data(name)) else { continue };
            disks.push(Disk { name, numbers: vec![file.text.trim().to_owned()], partitions: Vec::new() });
        }
        for file in host.read_all(PARTITIONS)? {
            let Some(disk) = disks.iter_mut().find(|disk| name_in(&file.path).as_ref() == Some(&disk.name))
            else {
                continue;
            };
            disk.numbers.push(file.text.trim().to_owned());
            disk.partitions.extend(file.path.split('/').nth(4).map(|name| name.replace('!', "/")));
        }
        disks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(disks)
    }

    /// The disk that `mount` lies on. Btrfs hides the number behind one of its own: then the name decides.
    pub fn holding<'a>(disks: &'a [Disk], mount: &Mount) -> Option<&'a Disk> {
        let by_number = disks.iter().find(|disk| disk.numbers.contains(&mount.device));
        by_number.or_else(|| {
            let name = mount.source.strip_prefix("/dev/")?;
            disks.iter().find(|disk| disk.name == name || disk.partitions.iter().any(|part| part == name))
        })
    }

    /// The value that `files`, read by a pattern below /sys/block, hold for this disk.
    pub fn value<'a>(&self, files: &'a [FileText]) -> Option<&'a str> {
        let file = files.iter().find(|file| name_in(&file.path).as_ref() == Some(&self.name))?;
        Some(file.text.trim())
    }

    /// Whether the name is one that only hypervisors give out (virtio-blk, Xen).
    pub fn is_virtual(&self) -> bool {
        self.name.starts_with("vd") || self.name.starts_with("xvd")
    }
}

/// Mounts as a process in a container sees them.
pub const MOUNTS_OF_PROCESS: &str = "/proc/[pid]/mountinfo";

/// The mount that holds the data directory. One that was found inside a container lies on a mount of the
/// container's, which only the mounts of its process tell.
pub fn data_mount(host: &Host, data: &DataDirectory, mounts: &[Mount]) -> Result<Option<Mount>> {
    let inside = data.path.strip_prefix("/proc/").and_then(|rest| rest.split_once("/root/"));
    let Some((process, path)) = inside else { return Ok(Mount::holding(mounts, &data.path).cloned()) };
    let mounts = Mount::parse_all(&host.read(&format!("/proc/{process}/mountinfo"))?);
    Ok(Mount::holding(&mounts, &format!("/{path}")).cloned())
}

/// Whether a device of this name can store data.
pub fn stores_data(name: &str) -> bool {
    !NEVER.iter().any(|kind| {
        name.strip_prefix(kind)
            .is_some_and(|rest| !rest.is_empty() && rest.bytes().all(|byte| byte.is_ascii_digit()))
    })
}

/// `sda` of `/sys/block/sda/dev`; sysfs writes `!` for the `/` that a few names hold.
fn name_in(path: &str) -> Option<String> {
    Some(path.strip_prefix("/sys/block/")?.split('/').next()?.replace('!', "/"))
}

/// The device that a line of the kernel log blames.
pub fn device_in_error(text: &str) -> Option<String> {
    let after = |begin: &str| {
        let rest = &text[text.find(begin)? + begin.len()..];
        let name = rest.split([',', ' ', ')', ':']).next()?;
        (!name.is_empty() && stores_data(name)).then(|| name.to_owned())
    };
    let has = |words: &[&str]| words.iter().any(|word| text.contains(word));
    if has(&["I/O error, dev ", "medium error, dev ", "target error, dev ", "timeout error, dev "]) {
        return after("error, dev ");
    }
    if has(&["Buffer I/O error on dev"]) {
        return after("on device ").or_else(|| after("on dev "));
    }
    if has(&["EXT4-fs error (device ", "BTRFS error (device ", "BTRFS critical (device "]) {
        return after("(device ");
    }
    if text.starts_with("XFS (") && has(&["orruption", "I/O error", "hutting down"]) {
        return after("XFS (");
    }
    if text.starts_with("nvme nvme") && has(&["timeout", "controller is down", "Removing after"]) {
        return after("nvme ");
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Recorded;

    #[test]
    fn a_partition_and_a_btrfs_lead_to_their_disk_and_a_loop_device_is_none() {
        let host = Recorded::complete()
            .file("/sys/block/nvme0n1/dev", "259:0\n")
            .file("/sys/block/nvme0n1/nvme0n1p2/dev", "259:2\n")
            .file("/sys/block/loop0/dev", "7:0\n")
            .file("/sys/block/cciss!c0d0/dev", "104:0\n")
            .host();
        let disks = Disk::all(&host).unwrap();
        assert_eq!(
            disks.iter().map(|disk| disk.name.as_str()).collect::<Vec<_>>(),
            ["cciss/c0d0", "nvme0n1"]
        );
        let mounts = Mount::parse_all(
            "1 0 259:2 / / rw - ext4 /dev/root rw\n\
             2 1 0:40 / /data rw - btrfs /dev/nvme0n1p2 rw\n\
             3 1 0:41 / /tmp rw - tmpfs tmpfs rw\n",
        );
        let held: Vec<_> =
            mounts.iter().map(|mount| Disk::holding(&disks, mount).map(|disk| &*disk.name)).collect();
        assert_eq!(held, [Some("nvme0n1"), Some("nvme0n1"), None]);
    }

    #[test]
    fn data_in_a_container_lies_on_a_mount_of_the_container() {
        let host = Recorded::complete()
            .file(
                "/proc/70/mountinfo",
                "1 0 0:50 / / rw - overlay overlay rw\n2 1 8:1 / /data rw - xfs /dev/sda1 rw\n",
            )
            .host();
        let mounts =
            Mount::parse_all("1 0 8:2 / / rw - ext4 /dev/sda2 rw\n2 1 0:20 / /proc rw - proc proc rw\n");
        let device = |path: &str| {
            let data = DataDirectory { path: path.to_owned(), found_by: "test".to_owned() };
            data_mount(&host, &data, &mounts).map(|mount| mount.map(|mount| mount.device))
        };
        assert_eq!(device("/proc/70/root/data/iggy"), Ok(Some("8:1".to_owned())));
        assert_eq!(device("/proc/70/root/app/local_data"), Ok(Some("0:50".to_owned())));
        assert_eq!(device("/var/lib/iggy"), Ok(Some("8:2".to_owned())));
        assert!(device("/proc/71/root/app").is_err());
    }

    #[test]
    fn filesystem_and_controller_lines_name_their_device() {
        let device = |text| device_in_error(text).unwrap_or_default();
        assert_eq!(device("EXT4-fs error (device dm-0): ext4_lookup:1"), "dm-0");
        assert_eq!(device("XFS (sdb1): Corruption detected. Unmount and run xfs_repair"), "sdb1");
        assert_eq!(device("XFS (sdb1): Mounting V5 Filesystem"), "");
        assert_eq!(device("nvme nvme0: I/O 12 QID 3 timeout, aborting"), "nvme0");
        assert_eq!(device("I/O error, dev "), "");
    }
}
