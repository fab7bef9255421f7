//! The block devices of a host, and which of them a filesystem lies on. Source: Documentation/ABI/stable/sysfs-block.

use warden_host::proc::Mount;
use warden_host::{FileText, Host};

use crate::Result;
use crate::iggy::DataDirectory;

/// A whole disk: a device, or a stack of them (LVM, RAID).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Disk {
    /// As in /proc/diskstats: `sda`, `nvme0n1`, `dm-0`, `cciss/c0d0`.
    pub name: String,
    /// What the device mapper calls it: `vg-data`.
    pub mapped: Option<String>,
    /// `major:minor` of the disk and of its partitions.
    numbers: Vec<String>,
    /// Names of its partitions.
    partitions: Vec<String>,
    /// Names of the disks and partitions that a stack is made of.
    slaves: Vec<String>,
}

/// Numbers of whole disks.
pub const DISKS: &str = "/sys/block/*/dev";
/// Numbers of partitions.
pub const PARTITIONS: &str = "/sys/block/*/*/dev";
/// What a stack is made of.
pub const SLAVES: &str = "/sys/block/*/slaves/*/dev";
/// Names that the device mapper gives.
pub const MAPPED: &str = "/sys/block/*/dm/name";
/// Sectors of a disk: none in a drive without a medium.
pub const SIZES: &str = "/sys/block/*/size";
/// Whether a disk is a drive whose medium can be taken out.
pub const REMOVABLE: &str = "/sys/block/*/removable";

/// Loop devices show another disk's work again; RAM disks, floppies and optical drives store no data.
const NEVER: [&str; 5] = ["loop", "ram", "zram", "fd", "sr"];
/// Disks whose size is none when they do not answer, which is a fault and not an empty drive.
const FIXED: [&str; 5] = ["sd", "hd", "nvme", "vd", "xvd"];
/// Stacks on stacks that are followed down: RAID, encryption, LVM, cache and thin pool make six.
const DEPTH: usize = 8;

impl Disk {
    /// Every disk that can store data, sorted by name; asks for [`DISKS`], [`PARTITIONS`], [`SLAVES`], [`MAPPED`],
    /// [`SIZES`] and [`REMOVABLE`].
    pub fn all(host: &Host) -> Result<Vec<Disk>> {
        let empty = empty_drives(host);
        let mapped = host.read_all(MAPPED).unwrap_or_default();
        let mut disks: Vec<Disk> = Vec::new();
        for file in host.read_all(DISKS)? {
            let is_one = |name: &String| stores_data(name) && !empty.contains(name);
            let Some(name) = name_in(&file.path).filter(is_one) else { continue };
            let numbers = vec![file.text.trim().to_owned()];
            let mut disk = Disk { name, mapped: None, numbers, partitions: Vec::new(), slaves: Vec::new() };
            disk.mapped = disk.value(&mapped).map(str::to_owned);
            disks.push(disk);
        }
        let part = |path: &str, at: usize| path.split('/').nth(at).map(|name| name.replace('!', "/"));
        for file in host.read_all(PARTITIONS)? {
            let Some(disk) = disks.iter_mut().find(|disk| name_in(&file.path).as_ref() == Some(&disk.name))
            else {
                continue;
            };
            disk.numbers.push(file.text.trim().to_owned());
            disk.partitions.extend(part(&file.path, 4));
        }
        for file in host.read_all(SLAVES).unwrap_or_default() {
            if let Some(disk) = disks.iter_mut().find(|disk| name_in(&file.path).as_ref() == Some(&disk.name))
            {
                disk.slaves.extend(part(&file.path, 5));
            }
        }
        disks.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(disks)
    }

    /// The disk that `mount` lies on. Btrfs hides the number behind one of its own: then the name decides.
    pub fn holding<'a>(disks: &'a [Disk], mount: &Mount) -> Option<&'a Disk> {
        let by_number = disks.iter().find(|disk| disk.numbers.contains(&mount.device));
        by_number.or_else(|| Disk::named(disks, mount.source.strip_prefix("/dev/")?))
    }

    /// The disk of this name, or that has a partition of it: `sda1`, `dm-0`, `mapper/vg-data`, `253:4`.
    pub fn named<'a>(disks: &'a [Disk], name: &str) -> Option<&'a Disk> {
        let is_named = |disk: &&Disk| {
            disk.name == name
                || disk.partitions.iter().any(|part| part == name)
                || disk.numbers.iter().any(|number| number == name)
                || name.strip_prefix("mapper/").is_some_and(|name| disk.mapped.as_deref() == Some(name))
        };
        disks.iter().find(is_named)
    }

    /// Whether it is made of other disks, whose work it shows again.
    pub fn is_stack(&self) -> bool {
        !self.slaves.is_empty()
    }

    /// Every name that it or a part of it goes by.
    pub fn names(&self) -> Vec<String> {
        let mapped = self.mapped.iter().map(|name| format!("mapper/{name}"));
        let own = [self.name.clone()].into_iter().chain(self.numbers.iter().cloned());
        own.chain(self.partitions.iter().cloned()).chain(mapped).collect()
    }

    /// Names of itself and of every disk below it, and those that the device mapper gives.
    pub fn stack(&self, disks: &[Disk]) -> Vec<String> {
        let mut found: Vec<&Disk> = vec![self];
        for _ in 0..DEPTH {
            let below: Vec<&Disk> = found
                .iter()
                .flat_map(|disk| &disk.slaves)
                .filter_map(|name| Disk::named(disks, name))
                .collect();
            found.extend(below);
            found.sort_by(|one, other| one.name.cmp(&other.name));
            found.dedup();
        }
        let names = |disk: &Disk| {
            let mapped = disk.mapped.iter().map(|name| format!("mapper/{name}"));
            [disk.name.clone()].into_iter().chain(mapped).collect::<Vec<_>>()
        };
        found.into_iter().flat_map(names).collect()
    }

    /// The disks at the bottom of a stack; a disk that is none is its own.
    pub fn bottoms<'a>(&'a self, disks: &'a [Disk]) -> Vec<&'a Disk> {
        let mut found: Vec<&Disk> = Vec::new();
        let mut layer = vec![self];
        for _ in 0..DEPTH {
            let mut below = Vec::new();
            for disk in layer {
                let slaves: Vec<&Disk> =
                    disk.slaves.iter().filter_map(|name| Disk::named(disks, name)).collect();
                if slaves.is_empty() && !found.contains(&disk) {
                    found.push(disk);
                }
                below.extend(slaves);
            }
            layer = below;
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        found
    }

    /// The value that `files`, read by a pattern below /sys/block, hold for this disk.
    pub fn value<'a>(&self, files: &'a [FileText]) -> Option<&'a str> {
        let file = files.iter().find(|file| name_in(&file.path).as_ref() == Some(&self.name))?;
        Some(file.text.trim())
    }

    /// Whether a hypervisor made it: by a name that only they give out (virtio-blk, Xen), or by its model, read from
    /// [`MODELS`].
    pub fn is_virtual(&self, models: &[FileText]) -> bool {
        let model = self.value(models).unwrap_or_default();
        self.name.starts_with("vd")
            || self.name.starts_with("xvd")
            || VIRTUAL_MODELS.iter().any(|part| model.contains(part))
    }
}

/// Models of disks, as they name themselves.
pub const MODELS: &str = "/sys/block/*/device/model";

/// Parts of the names that hypervisors and clouds give to the disks they make.
const VIRTUAL_MODELS: [&str; 8] = [
    "QEMU",
    "VBOX",
    "VMware",
    "Virtual",
    "PersistentDisk",
    "Amazon Elastic Block Store",
    "nvme_card-pd",
    "MSFT NVMe Accelerator",
];

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

/// Drives that have no medium in them, and network block devices that are not connected.
fn empty_drives(host: &Host) -> Vec<String> {
    let removable = host.read_all(REMOVABLE).unwrap_or_default();
    let is_removable = |name: &str| {
        removable.iter().any(|file| name_in(&file.path).as_deref() == Some(name) && file.text.trim() == "1")
    };
    let is_empty = |file: &FileText| {
        let name = name_in(&file.path).filter(|_| file.text.trim() == "0")?;
        let is_fixed = FIXED.iter().any(|kind| name.starts_with(kind)) && !is_removable(&name);
        (!is_fixed).then_some(name)
    };
    host.read_all(SIZES).unwrap_or_default().iter().filter_map(is_empty).collect()
}

/// Drives about which the kernel may complain without a fault: there is no medium in them.
pub struct EmptyDrives {
    names: Vec<String>,
    /// The ATA ports that optical drives are plugged into: `ata2`.
    ports: Vec<String>,
}

/// Where an optical drive is plugged in.
pub const OPTICAL: &str = "/sys/block/sr*";
/// Optical drives that are asked for their port: more are not built into a host.
const OPTICAL_DRIVES: u32 = 4;

impl EmptyDrives {
    /// Asks for [`SIZES`], [`REMOVABLE`] and [`OPTICAL`].
    pub fn of(host: &Host) -> EmptyDrives {
        let links = (0..OPTICAL_DRIVES).map_while(|at| host.link(&format!("/sys/block/sr{at}")).ok());
        let port = |link: String| {
            let is_port = |part: &&str| crate::storage_errors::is_numbered(part, "ata");
            link.split('/').find(is_port).map(str::to_owned)
        };
        EmptyDrives { names: empty_drives(host), ports: links.filter_map(port).collect() }
    }

    /// Whether `device`, as the kernel's log names it (`fd0`, `sdc`, `ata2.00`), is one.
    pub fn has(&self, device: &str) -> bool {
        let is_drive = ["fd", "sr"].iter().any(|kind| crate::storage_errors::is_numbered(device, kind));
        let port = device.split('.').next().unwrap_or_default();
        is_drive || self.names.iter().any(|name| name == device) || self.ports.iter().any(|one| one == port)
    }
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Recorded, Request};

    use super::*;

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
    fn a_stack_leads_to_the_disks_at_its_bottom() {
        let host = Recorded::complete()
            .file("/sys/block/sda/dev", "8:0\n")
            .file("/sys/block/sda/sda1/dev", "8:1\n")
            .file("/sys/block/sdb/dev", "8:16\n")
            .file("/sys/block/md0/dev", "9:0\n")
            .file("/sys/block/md0/slaves/sda1/dev", "8:1\n")
            .file("/sys/block/md0/slaves/sdb/dev", "8:16\n")
            .file("/sys/block/dm-0/dev", "254:0\n")
            .file("/sys/block/dm-0/dm/name", "vg-data\n")
            .file("/sys/block/dm-0/slaves/md0/dev", "9:0\n")
            .host();
        let disks = Disk::all(&host).unwrap();
        let mount = &Mount::parse_all("1 0 0:40 / / rw - btrfs /dev/mapper/vg-data rw\n")[0];
        let disk = Disk::holding(&disks, mount).unwrap();
        assert_eq!((disk.name.as_str(), disk.is_stack()), ("dm-0", true));
        let names: Vec<&str> = disk.bottoms(&disks).into_iter().map(|disk| disk.name.as_str()).collect();
        assert_eq!(names, ["sda", "sdb"]);
    }

    #[test]
    fn a_card_reader_without_a_card_is_no_disk_and_a_disk_that_lost_its_size_is() {
        let host = Recorded::complete()
            .file("/sys/block/sda/dev", "8:0\n")
            .file("/sys/block/sda/size", "0\n")
            .file("/sys/block/sda/removable", "0\n")
            .file("/sys/block/sdb/dev", "8:16\n")
            .file("/sys/block/sdb/size", "0\n")
            .file("/sys/block/sdb/removable", "1\n")
            .file("/sys/block/nbd0/dev", "43:0\n")
            .file("/sys/block/nbd0/size", "0\n")
            .with(
                Request::Link { path: "/sys/block/sr0".to_owned() },
                Data::Link { target: "../devices/pci0000:00/0000:00:1f.2/ata2/host1/block/sr0".to_owned() },
            )
            .host();
        let names: Vec<String> = Disk::all(&host).unwrap().into_iter().map(|disk| disk.name).collect();
        assert_eq!(names, ["sda"]);
        let empty = EmptyDrives::of(&host);
        assert_eq!(
            ["sdb", "fd0", "sr1", "ata2.00", "sda", "ata1.00", "fdisk"].map(|name| empty.has(name)),
            [true, true, true, true, false, false, false]
        );
    }
}
