//! Asks a host for all its copies, and says which could not be asked.

use warden_host::proc::Mount;
use warden_host::{Host, IfAny};

use super::controllers::FAMILIES;
use super::{Copies, Fault, btrfs, controllers, device_mapper, drbd, md, zfs};
use crate::Advice;
use crate::block::MAPPED;

/// All copies of a host.
#[derive(Debug, Default)]
pub struct Redundancy {
    pub sets: Vec<Copies>,
    pub unknown: Vec<UnknownCopies>,
}

/// Copies whose state is not known.
#[derive(Debug)]
pub struct UnknownCopies {
    /// `the ZFS pool tank`.
    pub what: String,
    pub why: String,
    pub advice: Advice,
    /// What a mount names it by, as in [`Copies::mounted_as`].
    pub mounted_as: String,
}

/// Asks for the copies of every kind that the host has. `mounts` tell which pools and filesystems are in use.
pub fn ask(host: &Host, mounts: &[Mount]) -> Redundancy {
    let mut all = Redundancy::default();
    match host.read("/proc/mdstat").if_any() {
        Ok(mdstat) => all.sets.extend(md::arrays(&mdstat.unwrap_or_default())),
        Err(error) => {
            all.unknown("Linux RAID", "", error, Advice::run("Run Warden as root.", "cat /proc/mdstat"))
        }
    }
    all.ask_drbd(host);
    all.ask_zfs(host, mounts);
    all.ask_device_mapper(host);
    let [missing, devices] =
        [btrfs::MISSING, btrfs::DEVICES].map(|files| host.read_all(files).unwrap_or_default());
    all.sets.extend(btrfs::filesystems(&missing, &devices, mounts));
    all.ask_bcache(host);
    all.ask_controllers(host);
    all
}

/// The state of a bcache device: `clean`, `dirty`, `no cache`, `inconsistent`.
pub const BCACHE: &str = "/sys/block/*/bcache/state";

impl Redundancy {
    fn unknown(&mut self, what: &str, mounted_as: &str, why: impl ToString, advice: Advice) {
        self.unknown.push(UnknownCopies {
            what: what.to_owned(),
            why: why.to_string(),
            advice,
            mounted_as: mounted_as.to_owned(),
        });
    }

    fn ask_drbd(&mut self, host: &Host) {
        let advice = || Advice::run("Run Warden as root.", "drbdsetup status");
        let text = match host.read("/proc/drbd").if_any() {
            Ok(Some(text)) => text,
            Ok(None) => return,
            Err(error) => return self.unknown("DRBD", "", error, advice()),
        };
        self.sets.extend(drbd::drbd_devices(&text));
        // DRBD 9 tells its resources only to its tool.
        if text.starts_with("version: 9") {
            match host.run("drbdsetup-status").map(|output| drbd::drbd_resources(&output.stdout)) {
                Ok(Some(resources)) => self.sets.extend(resources),
                Ok(None) => self.unknown("DRBD", "", "drbdsetup printed no JSON", advice()),
                Err(error) => self.unknown("DRBD", "", error, advice()),
            }
        }
    }

    fn ask_zfs(&mut self, host: &Host, mounts: &[Mount]) {
        let mut pools: Vec<Copies> = Vec::new();
        for file in host.read_all(zfs::STATES).unwrap_or_default() {
            pools.extend(zfs::of_state(&file.path, &file.text));
        }
        let mut mounted: Vec<&str> = mounts
            .iter()
            .filter(|mount| mount.filesystem == "zfs")
            .filter_map(|mount| mount.source.split('/').next())
            .collect();
        mounted.sort_unstable();
        mounted.dedup();
        if pools.is_empty() && mounted.is_empty() {
            return;
        }
        let asked = host.run("zpool-status");
        let told = asked.as_ref().map(|output| zfs::of_status(&output.stdout)).unwrap_or_default();
        for pool in told {
            match pools.iter_mut().find(|other| other.mounted_as == pool.mounted_as) {
                // The kernel's word is the newer one, and `zpool` does not say that a pool is suspended.
                Some(other) if other.fault == Some(Fault::Broken) => {}
                Some(other) => *other = pool,
                None => pools.push(pool),
            }
        }
        for name in mounted.iter().filter(|name| pools.iter().all(|pool| pool.mounted_as != **name)) {
            let why =
                asked.as_ref().err().map_or_else(|| "zpool does not list it".to_owned(), ToString::to_string);
            let advice = Advice::run("Run Warden as root, with zpool installed.", "zpool status -v");
            self.unknown(&format!("the ZFS pool {name}"), name, why, advice);
        }
        self.sets.extend(pools);
    }

    fn ask_device_mapper(&mut self, host: &Host) {
        let [names, uuids] =
            [MAPPED, device_mapper::UUIDS].map(|files| host.read_all(files).unwrap_or_default());
        let uuid = |path: &str| {
            let device = path.split('/').nth(3);
            uuids
                .iter()
                .find(|file| file.path.split('/').nth(3) == device)
                .map_or("", |file| file.text.trim())
        };
        let is_redundant =
            |file: &&warden_host::FileText| device_mapper::is_redundant(file.text.trim(), uuid(&file.path));
        let Some(first) = names.iter().find(is_redundant) else { return };
        let advice = Advice::run("Run Warden as root, with dmsetup installed.", "dmsetup status");
        let what = format!("{} and other pools, mirrors and paths of the device mapper", first.text.trim());
        match host.run("dmsetup-status") {
            Ok(output) if output.status == Some(0) => {
                self.sets.extend(device_mapper::devices(&output.stdout))
            }
            Ok(output) => {
                let said = output.stderr.lines().next().unwrap_or("dmsetup failed").to_owned();
                self.unknown(&what, "", said, advice);
            }
            Err(error) => self.unknown(&what, "", error, advice),
        }
    }

    fn ask_bcache(&mut self, host: &Host) {
        for file in host.read_all(BCACHE).unwrap_or_default() {
            let (name, state) = (file.path.split('/').nth(3).unwrap_or_default(), file.text.trim());
            self.sets.push(Copies {
                name: format!("bcache {name}"),
                state: state.to_owned(),
                fault: (state == "inconsistent").then_some(Fault::Broken),
                mounted_as: name.to_owned(),
                command: format!("cat /sys/block/{name}/bcache/state"),
            });
        }
    }

    fn ask_controllers(&mut self, host: &Host) {
        let mut drivers: Vec<String> = host
            .read_all(controllers::HOSTS)
            .unwrap_or_default()
            .into_iter()
            .map(|file| file.text.trim().to_owned())
            .collect();
        drivers.sort();
        drivers.dedup();
        for family in &FAMILIES {
            let Some(driver) = drivers.iter().find(|driver| family.has(driver)) else { continue };
            let mut why = "Warden knows no tool that can ask it".to_owned();
            let answer = family.commands.iter().find_map(|(name, read)| match host.run(name) {
                Ok(output) if output.status == Some(0) => Some(read(&output.stdout)),
                Ok(output) => {
                    why =
                        output.stderr.lines().chain(output.stdout.lines()).next().unwrap_or(name).to_owned();
                    None
                }
                Err(error) => {
                    why = error.to_string();
                    None
                }
            });
            match answer {
                Some(sets) => self.sets.extend(sets),
                None => {
                    let advice = Advice::text(format!("Ask it with {}, as root.", family.tools));
                    self.unknown(&format!("the RAID controller of the driver {driver}"), "", why, advice);
                }
            }
        }
    }
}
