//! LVM's thin pools, mirrors and RAID volumes, and multipath, from `dmsetup status`, which asks the kernel alone.
//! Source: Documentation/admin-guide/device-mapper of Linux.

use super::{Copies, Fault};

/// Who made a mapped device: `LVM-…-tpool`, `mpath-…`.
pub const UUIDS: &str = "/sys/block/*/dm/uuid";

/// Percent of a pool's data or metadata from which it should grow.
const FILLING_PERCENT: u64 = 85;

/// Whether a mapped device is part of something that has copies, paths or a pool, and not a plain volume.
pub fn is_redundant(name: &str, uuid: &str) -> bool {
    let parts = ["_rimage_", "_rmeta_", "_mimage_", "_tdata", "_tmeta", "_cdata", "_cmeta"];
    uuid.starts_with("mpath-")
        || uuid.starts_with("DMRAID-")
        || uuid.ends_with("-tpool")
        || name.ends_with("-tpool")
        || parts.iter().any(|part| name.contains(part))
}

/// Every device of `dmsetup status` that can be at fault.
pub fn devices(text: &str) -> Vec<Copies> {
    text.lines().filter_map(device).collect()
}

fn device(line: &str) -> Option<Copies> {
    let (name, rest) = line.split_once(": ")?;
    let mut words = rest.split_ascii_whitespace().skip(2);
    let target = words.next()?;
    let words: Vec<&str> = words.collect();
    let fault = match target {
        "thin-pool" => thin_pool(&words),
        "raid" => raid(&words),
        "mirror" => mirror(&words),
        "multipath" => multipath(&words),
        "snapshot" => {
            let is_lost = |word: &&str| ["Invalid", "Overflow", "Merge"].contains(word);
            words.first().filter(|word| is_lost(word)).map(|_| Fault::InvalidSnapshot)
        }
        "cache" | "writecache" => words.contains(&"Fail").then_some(Fault::Broken),
        _ => return None,
    };
    let shown: Vec<&str> = words.iter().copied().take(SHOWN).collect();
    Some(Copies {
        name: format!("{target} {name}"),
        state: shown.join(" "),
        fault,
        mounted_as: format!("mapper/{name}"),
        command: format!("dmsetup status {}; lvs -a -o +devices,lv_health_status", crate::quoted(name)),
    })
}

/// Words of a status that a sentence carries.
const SHOWN: usize = 12;

/// `<transaction> <used>/<all metadata> <used>/<all data> <root> rw|ro|out_of_data_space … needs_check`, or `Fail`.
fn thin_pool(words: &[&str]) -> Option<Fault> {
    if ["Fail", "Error"].contains(words.first()?) {
        return Some(Fault::Broken);
    }
    let percent = |word: Option<&&str>| {
        let (used, all) = word?.split_once('/')?;
        let (used, all) = (used.parse::<u64>().ok()?, all.parse::<u64>().ok().filter(|&all| all > 0)?);
        Some(used.saturating_mul(100) / all)
    };
    let (metadata, data) = (percent(words.get(1)), percent(words.get(2)));
    match words {
        _ if words.contains(&"out_of_data_space") => Some(Fault::Full),
        _ if words.contains(&"ro") || words.contains(&"needs_check") => Some(Fault::Broken),
        _ if data == Some(100) || metadata == Some(100) => Some(Fault::Full),
        _ if data.max(metadata) >= Some(FILLING_PERCENT) => Some(Fault::Filling),
        _ => None,
    }
}

/// `<level> <devices> <health> <synced>/<all> <action> …`: `A` is in sync, `a` is not, `D` has failed, `-` is missing.
fn raid(words: &[&str]) -> Option<Fault> {
    let [level, _, health, synced, ..] = words else { return None };
    let lost = health.matches(['D', '-']).count();
    let is_synced = synced.split_once('/').is_none_or(|(done, all)| done == all);
    let is_striped = level.starts_with("raid0");
    if lost == health.len() || lost > 0 && is_striped {
        return Some(Fault::Broken);
    }
    if lost > 0 {
        return Some(Fault::Degraded);
    }
    (health.contains('a') || !is_synced).then_some(Fault::Recovering)
}

/// `<devices> <device>… <synced>/<all> 1 <health> …`: any letter but `A` is a leg that failed.
fn mirror(words: &[&str]) -> Option<Fault> {
    let legs: usize = words.first()?.parse().ok()?;
    let (synced, health) = (words.get(legs + 1)?, words.get(legs + 3)?);
    if health.bytes().any(|letter| letter != b'A') {
        return Some(Fault::Degraded);
    }
    synced.split_once('/').filter(|(done, all)| done != all).map(|_| Fault::Recovering)
}

/// Every path is its number and `A` (active) or `F` (failed).
fn multipath(words: &[&str]) -> Option<Fault> {
    let is_number = |word: &str| {
        word.split_once(':')
            .is_some_and(|(major, minor)| major.parse::<u32>().is_ok() && minor.parse::<u32>().is_ok())
    };
    let states: Vec<&str> = words.windows(2).filter(|pair| is_number(pair[0])).map(|pair| pair[1]).collect();
    let active = states.iter().filter(|state| **state == "A").count();
    match states.len() {
        0 => None,
        _ if active == 0 => Some(Fault::Broken),
        paths => (active < paths).then_some(Fault::LostPath),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_target_tells_whole_from_faulty() {
        let fault = |line: &str| devices(line).first().map(|one| one.fault);
        let pool = |rest: &str| fault(&format!("vg-pool-tpool: 0 209715200 thin-pool {rest}"));
        assert_eq!(pool("1 406/4096 800/1600 - rw discard_passdown queue_if_no_space - 1024"), Some(None));
        assert_eq!(
            pool("1 406/4096 1500/1600 - rw discard_passdown queue_if_no_space - 1024"),
            Some(Some(Fault::Filling))
        );
        assert_eq!(
            pool("1 406/4096 1600/1600 - out_of_data_space discard_passdown error_if_no_space - 1024"),
            Some(Some(Fault::Full))
        );
        assert_eq!(
            pool("1 4096/4096 9/1600 - ro discard_passdown queue_if_no_space needs_check 1024"),
            Some(Some(Fault::Broken))
        );
        assert_eq!(pool("Fail"), Some(Some(Fault::Broken)));
        let raid = |rest: &str| fault(&format!("vg-data: 0 1024 raid {rest}"));
        assert_eq!(raid("raid1 2 AA 1024/1024 idle 0 0 -"), Some(None));
        assert_eq!(raid("raid1 2 DA 1024/1024 idle 0 0 -"), Some(Some(Fault::Degraded)));
        assert_eq!(raid("raid5_ls 3 AAa 512/1024 recover 0 0 -"), Some(Some(Fault::Recovering)));
        assert_eq!(raid("raid0 2 AD 1024/1024 idle 0 0 -"), Some(Some(Fault::Broken)));
        let mirror = |rest: &str| fault(&format!("vg-m: 0 1024 mirror {rest}"));
        assert_eq!(mirror("2 253:3 253:4 1024/1024 1 AA 3 disk 253:2 A"), Some(None));
        assert_eq!(mirror("2 253:3 253:4 1024/1024 1 AD 3 disk 253:2 A"), Some(Some(Fault::Degraded)));
        let paths = |one: &str, two: &str| {
            fault(&format!(
                "mpatha: 0 1 multipath 2 0 0 0 2 1 A 0 1 2 8:16 {one} 0 0 1 E 0 1 2 8:32 {two} 1 0 1"
            ))
        };
        assert_eq!(paths("A", "A"), Some(None));
        assert_eq!(paths("A", "F"), Some(Some(Fault::LostPath)));
        assert_eq!(paths("F", "F"), Some(Some(Fault::Broken)));
        assert_eq!(fault("vg-snap: 0 8388608 snapshot Invalid"), Some(Some(Fault::InvalidSnapshot)));
        assert_eq!(fault("vg-root: 0 8388608 linear"), None);
        assert_eq!(fault("No devices found"), None);
    }

    #[test]
    fn plain_volumes_and_encryption_need_no_question() {
        assert!(is_redundant("vg-pool-tpool", "LVM-x-tpool") && is_redundant("mpatha", "mpath-3600"));
        assert!(is_redundant("vg-data_rimage_0", "LVM-x"));
        assert!(!is_redundant("vg-root", "LVM-x") && !is_redundant("luks-1", "CRYPT-LUKS2-x"));
    }
}
