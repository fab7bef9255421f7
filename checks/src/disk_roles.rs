//! What a host uses each of its disks for: a counter of the disk with Iggy's data weighs more than one of a spare.

use std::collections::BTreeMap;

use warden_host::Host;
use warden_host::filesystems::distinct;
use warden_host::proc::Mount;

use crate::block::{Disk, data_mount};
use crate::iggy;

/// The most important use comes first.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Role {
    Data,
    System,
    Swap,
    /// Mounted there.
    Mounted(String),
}

/// What disks are used for, and what the data directory lies on.
pub struct Roles {
    pub mounts: Vec<Mount>,
    /// By the name of a disk at the bottom of a stack.
    roles: BTreeMap<String, Role>,
    /// Each device, with the disks below it.
    bottoms: BTreeMap<String, Vec<String>>,
    /// What a person knows a volume of the device mapper by: `dm-4 (vg-pool)` for `253:4`.
    labels: BTreeMap<String, String>,
    data: Option<Mount>,
    /// Names of everything that the data directory lies on: disks, stacks, the pool, the btrfs.
    below_data: Vec<String>,
}

impl Roles {
    pub fn of(host: &Host, disks: &[Disk]) -> Roles {
        let mounts =
            host.read("/proc/self/mountinfo").map(|text| Mount::parse_all(&text)).unwrap_or_default();
        let data = iggy::data_directory(host)
            .and_then(|directory| data_mount(host, &directory, &mounts).ok().flatten());
        let mut roles = Roles {
            roles: BTreeMap::new(),
            bottoms: bottoms(disks),
            labels: labels(disks),
            below_data: data.as_ref().map(|mount| below(host, disks, mount)).unwrap_or_default(),
            data,
            mounts: Vec::new(),
        };
        for name in roles.below_data.clone() {
            roles.add(&name, &Role::Data);
        }
        for mount in distinct(&mounts) {
            let Some(disk) = Disk::holding(disks, mount) else { continue };
            let is_system = mount.point == "/";
            let role = if is_system { Role::System } else { Role::Mounted(mount.point.clone()) };
            roles.add(&disk.name, &role);
        }
        for line in host.read("/proc/swaps").unwrap_or_default().lines() {
            let device = line.split_ascii_whitespace().next().and_then(|word| word.strip_prefix("/dev/"));
            if let Some(disk) = device.and_then(|name| Disk::named(disks, name)) {
                roles.add(&disk.name, &Role::Swap);
            }
        }
        roles.mounts = mounts;
        roles
    }

    fn add(&mut self, name: &str, role: &Role) {
        for bottom in self.bottoms.get(name).cloned().unwrap_or_default() {
            let known = self.roles.entry(bottom).or_insert_with(|| role.clone());
            if role < known {
                *known = role.clone();
            }
        }
    }

    /// The most important use of a device, be it a disk, a partition or a stack.
    fn role(&self, device: &str) -> Option<&Role> {
        if self.is_data_on(device) {
            return Some(&Role::Data);
        }
        self.bottoms.get(device)?.iter().filter_map(|disk| self.roles.get(disk)).min()
    }

    /// The device with what it is used for, as a part of a sentence.
    pub fn named(&self, name: &str) -> String {
        let device = self.labels.get(name).map_or(name, String::as_str);
        match self.role(name) {
            Some(Role::Data) => format!("{device}, which holds Iggy's data,"),
            Some(Role::System) => format!("{device}, which holds /,"),
            Some(Role::Swap) => format!("{device}, which holds swap space,"),
            Some(Role::Mounted(point)) => format!("{device}, which holds {point},"),
            None => device.to_owned(),
        }
    }

    /// Whether a fault of the device can harm Iggy: it holds the data, the system or swap space, or where the data
    /// lies is not known.
    pub fn matters(&self, device: &str) -> bool {
        let is_used = match self.role(device) {
            Some(Role::Data | Role::System | Role::Swap) => true,
            Some(Role::Mounted(_)) | None => false,
        };
        is_used || self.below_data.is_empty()
    }

    /// Whether the data directory lies on what a mount names so: a disk, `mapper/vg-data`, a pool, a btrfs UUID.
    pub fn is_data_on(&self, name: &str) -> bool {
        !name.is_empty()
            && (self.below_data.iter().any(|below| below == name)
                || self.data.as_ref().is_some_and(|mount| mount.source.strip_prefix("/dev/") == Some(name)))
    }
}

fn labels(disks: &[Disk]) -> BTreeMap<String, String> {
    let label = |disk: &Disk| Some(format!("{} ({})", disk.name, disk.mapped.as_deref()?));
    let names = |disk: &Disk| disk.names().into_iter().zip(std::iter::repeat(label(disk)));
    disks.iter().flat_map(names).filter_map(|(name, label)| Some((name, label?))).collect()
}

/// The disks at the bottom, for every name that a disk or a partition goes by.
fn bottoms(disks: &[Disk]) -> BTreeMap<String, Vec<String>> {
    let mut all = BTreeMap::new();
    for disk in disks {
        let below: Vec<String> = disk.bottoms(disks).into_iter().map(|disk| disk.name.clone()).collect();
        for name in disk.names() {
            all.insert(name, below.clone());
        }
        // The kernel's log names the controller `nvme0` of `nvme0n1`, too.
        if let Some((controller, _)) = disk.name.rsplit_once('n').filter(|(name, _)| name.starts_with("nvme"))
        {
            all.entry(controller.to_owned()).or_insert_with(Vec::new).extend(below);
        }
    }
    all
}

/// Everything that a mount lies on.
fn below(host: &Host, disks: &[Disk], mount: &Mount) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    if mount.filesystem == "zfs" {
        names.extend(mount.source.split('/').next().map(str::to_owned));
    }
    let mut devices: Vec<&Disk> = Disk::holding(disks, mount).into_iter().collect();
    if mount.filesystem == "btrfs" {
        let files = host.read_all(crate::raid::BTRFS_DEVICES).unwrap_or_default();
        let part = |path: &str, at: usize| path.split('/').nth(at).unwrap_or_default().to_owned();
        let source = mount.source.strip_prefix("/dev/").unwrap_or(&mount.source);
        let first = Disk::named(disks, source);
        let is_source =
            |name: &str| name == source || first.is_some_and(|disk| disk.names().contains(&name.to_owned()));
        if let Some(own) = files.iter().find(|file| is_source(&part(&file.path, 6))) {
            let uuid = part(&own.path, 4);
            let of_it = files.iter().filter(|file| part(&file.path, 4) == uuid);
            devices.extend(of_it.filter_map(|file| Disk::named(disks, &part(&file.path, 6))));
            names.push(uuid);
        }
    }
    for disk in devices {
        names.extend(disk.stack(disks));
    }
    names.sort();
    names.dedup();
    names
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn roles(mountinfo: &str) -> Roles {
        let host = Recorded::complete()
            .file("/proc/self/mountinfo", mountinfo)
            .file("/proc/swaps", "Filename Type Size Used Priority\n/dev/sdc2 partition 1 0 -2\n")
            .file("/sys/block/sda/dev", "8:0\n")
            .file("/sys/block/sdb/dev", "8:16\n")
            .file("/sys/block/sdb/sdb1/dev", "8:17\n")
            .file("/sys/block/sdc/dev", "8:32\n")
            .file("/sys/block/sdc/sdc2/dev", "8:34\n")
            .file("/sys/block/sdd/dev", "8:48\n")
            .file("/sys/block/dm-4/dev", "253:4\n")
            .file("/sys/block/dm-4/dm/name", "vg-pool-tpool\n")
            .file("/sys/block/md0/dev", "9:0\n")
            .file("/sys/block/md0/slaves/sda/dev", "8:0\n")
            .host();
        let disks = Disk::all(&host).unwrap();
        Roles::of(&host, &disks)
    }

    #[test]
    fn a_disk_is_named_with_what_it_is_used_for() {
        let roles = roles("1 0 9:0 / / rw - ext4 /dev/md0 rw\n2 1 8:17 / /backup rw - xfs /dev/sdb1 rw\n");
        let named = ["sda", "md0", "sdb", "sdb1", "sdc", "sdd", "253:4"].map(|name| roles.named(name));
        let expected = [
            "sda, which holds /,",
            "md0, which holds /,",
            "sdb, which holds /backup,",
            "sdb1, which holds /backup,",
            "sdc, which holds swap space,",
            "sdd",
            "dm-4 (vg-pool-tpool)",
        ];
        assert_eq!(named, expected);
    }
}
