//! disk-write-cache: is what fsync says on the disk really on the disk.

use warden_host::Host;
use warden_host::filesystems::distinct;
use warden_host::proc::Mount;

use crate::block::{
    DISKS, Disk, MAPPED, MODELS, MOUNTS_OF_PROCESS, PARTITIONS, REMOVABLE, SIZES, SLAVES, data_mount,
};
use crate::iggy::{self, DataDirectory};
use crate::{Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Table, Value, Verdict, quoted};

pub const CHECK: Check = Check {
    id: "disk-write-cache",
    area: Area::Disk,
    title: "Does a synced write survive a power cut?",
    why: "Iggy keeps the tail of each partition in memory and syncs what it flushes only when told to. When it does, \
          the promise is as good as the disk's: a volatile cache that is not flushed, or barriers that are switched \
          off, lose messages that were acknowledged.",
    reads: &[
        Read::Path(DISKS),
        Read::Path(PARTITIONS),
        Read::Path(SLAVES),
        Read::Path(MAPPED),
        Read::Path(SIZES),
        Read::Path(REMOVABLE),
        Read::Path(MODELS),
        Read::Path("/sys/block/*/queue/write_cache"),
        Read::Path("/sys/block/*/queue/fua"),
        Read::Path("/sys/block/*/device/scsi_disk/*/cache_type"),
        Read::Path("/proc/self/mountinfo"),
        Read::Path(MOUNTS_OF_PROCESS),
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "warns when barriers are off on the data filesystem, or the kernel does not flush a data disk that caches writes",
        "notes a disk that it does not flush and that holds no data of Iggy",
        "notes a data disk (any disk, when the data directory is not known) with a volatile write cache",
    ],
    advice: "Keep barriers on; use disks with power-loss protection where a power cut may not cost messages.",
    deadline: DEADLINE,
    run,
};

/// Mount options that leave the disk's cache unflushed (ext4(5), xfs before 4.19, btrfs(5)).
const NO_BARRIERS: [&str; 3] = ["nobarrier", "barrier=0", "barrier=none"];

fn run(host: &Host) -> Result<Finding> {
    examine(host, iggy::data_directory(host))
}

fn examine(host: &Host, data: Option<DataDirectory>) -> Result<Finding> {
    let disks = Disk::all(host)?;
    let caches = host.read_all("/sys/block/*/queue/write_cache")?;
    let forced = host.read_all("/sys/block/*/queue/fua")?;
    let own = host.read_all("/sys/block/*/device/scsi_disk/*/cache_type")?;
    let mounts = Mount::all(host)?;
    let data_mount = data.and_then(|data| data_mount(host, &data, &mounts).ok().flatten());
    let data_disk = data_mount.as_ref().and_then(|mount| Disk::holding(&disks, mount));
    // The caches are those of the disks below a stack.
    let data_bottoms: Vec<&Disk> = data_disk.map(|disk| disk.bottoms(&disks)).unwrap_or_default();
    let models = host.read_all(MODELS).unwrap_or_default();

    let mut finding = Finding::new("");
    let mut table =
        Table::new("Disks", ["disk", "kernel treats it as", "disk says", "forced unit access", "holds"]);
    let (mut known, mut volatile) = (0, Vec::new());
    for disk in disks.iter().filter(|disk| !disk.is_stack()) {
        let Some(cache) = disk.value(&caches) else { continue };
        known += 1;
        let says = disk.value(&own);
        let holds_data = data_bottoms.contains(&disk);
        let unflushed = cache == "write through" && says.is_some_and(|says| says.starts_with("write back"));
        let volatile_data = cache == "write back" && (holds_data || data_disk.is_none());
        let cells = [
            Value::Code(disk.name.clone()),
            cache.into(),
            says.into(),
            disk.value(&forced).map(|fua| fua == "1").into(),
            if holds_data { "Iggy's data".into() } else { Value::Nothing },
        ];
        if unflushed {
            let severity = if holds_data || data_disk.is_none() { Verdict::Warn } else { Verdict::Note };
            table.marked_row(severity, cells);
            let whose = if holds_data { ", which holds Iggy's data," } else { "" };
            let text = format!(
                "{}{whose} caches writes (write back) and the kernel never flushes it (write through)",
                disk.name
            );
            let command =
                format!("echo 'write back' > /sys/block/{}/queue/write_cache", disk.name.replace('/', "!"));
            let advice = "Let the kernel flush it, unless its cache has a battery.";
            finding.problem(severity, text, Advice::run(advice, command));
        } else if volatile_data {
            table.marked_row(Verdict::Note, cells);
            volatile.push(disk);
        } else {
            table.row(cells);
        }
    }
    if known == 0 {
        return Ok(Finding::skip("no disk here tells how it caches writes"));
    }

    if !volatile.is_empty() {
        let names: Vec<&str> = volatile.iter().map(|disk| disk.name.as_str()).collect();
        let advice = if volatile.iter().all(|disk| disk.is_virtual(&models)) {
            "Nothing to do if the hypervisor honours flushes; ask whoever runs it whether it caches writes (cache=unsafe)."
        } else {
            "Flushes make this safe but slow; disks with power-loss protection report write through."
        };
        let text = format!(
            "{} caches writes in volatile memory: what is not flushed is lost in a power cut",
            names.join(", ")
        );
        finding.note(text, Advice::text(advice));
    }
    for mount in distinct(&mounts) {
        let Some(option) = NO_BARRIERS.iter().find(|option| mount.has_option(option)) else { continue };
        let (severity, whose) = match &data_mount {
            Some(data) if data.device == mount.device => (Verdict::Warn, ", which holds Iggy's data,"),
            Some(_) => (Verdict::Note, ""),
            None => (Verdict::Warn, ""),
        };
        let text = format!("{}{whose} is mounted with {option}: a sync does not reach the disk", mount.point);
        let advice = "Remove the option from /etc/fstab and remount, unless the cache has a battery.";
        finding.problem(
            severity,
            text,
            Advice::run(advice, format!("mount -o remount,barrier=1 {}", quoted(&mount.point))),
        );
    }
    let which = match &data_bottoms[..] {
        [] => "the disk of Iggy's data is not known".to_owned(),
        bottoms => {
            let each = bottoms.iter().map(|disk| {
                format!("{} ({})", disk.name, disk.value(&caches).unwrap_or("it does not say how it caches"))
            });
            format!("Iggy's data is on {}", each.collect::<Vec<_>>().join(", "))
        }
    };
    let is_back = |disk: &&Disk| !disk.is_stack() && disk.value(&caches) == Some("write back");
    let back = disks.iter().filter(is_back).count();
    finding.summary = format!("{which}; {back} of {known} disks cache writes");
    finding.show(Evidence::Table(table));
    Ok(finding)
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn with(cache: &str, options: &str) -> Recorded {
        let mounts = format!("22 20 8:1 / /var/lib/iggy rw - ext4 /dev/sda1 {options}\n");
        Recorded::complete()
            .file("/proc/self/mountinfo", &mounts)
            .file("/sys/block/sda/dev", "8:0\n")
            .file("/sys/block/sda/sda1/dev", "8:1\n")
            .file("/sys/block/sda/queue/write_cache", cache)
            .file("/sys/block/sda/queue/fua", "1\n")
            .file("/sys/block/loop0/dev", "7:0\n")
            .file("/sys/block/loop0/queue/write_cache", "write back\n")
    }

    fn examined(host: Recorded) -> Finding {
        let data = DataDirectory { path: "/var/lib/iggy".to_owned(), found_by: "test".to_owned() };
        examine(&host.host(), Some(data)).unwrap()
    }

    #[test]
    fn a_disk_without_a_volatile_cache_passes() {
        let finding = examined(with("write through\n", "rw"));
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "Iggy's data is on sda (write through); 0 of 1 disks cache writes");
    }

    #[test]
    fn a_volatile_cache_under_the_data_is_noted() {
        let finding = examined(with("write back\n", "rw"));
        assert_eq!(finding.verdict(), Verdict::Note);
        let text = "sda caches writes in volatile memory: what is not flushed is lost in a power cut";
        assert_eq!(finding.problems[0].text, text);
    }

    #[test]
    fn a_cache_that_is_never_flushed_warns() {
        let path = "/sys/block/sda/device/scsi_disk/0:0:0:0/cache_type";
        let finding = examined(with("write through\n", "rw").file(path, "write back\n"));
        assert_eq!(finding.verdict(), Verdict::Warn);
        let text = "sda, which holds Iggy's data, caches writes (write back) and the kernel never flushes it (write through)";
        assert_eq!(finding.problems[0].text, text);
    }

    #[test]
    fn the_cache_of_a_volume_is_that_of_the_disk_below_and_counts_once() {
        let host = Recorded::complete()
            .file("/proc/self/mountinfo", "22 20 253:0 / /var/lib/iggy rw - ext4 /dev/mapper/vg-data rw\n")
            .file("/sys/block/sda/dev", "8:0\n")
            .file("/sys/block/sda/queue/write_cache", "write back\n")
            .file("/sys/block/dm-0/dev", "253:0\n")
            .file("/sys/block/dm-0/queue/write_cache", "write back\n")
            .file("/sys/block/dm-0/slaves/sda/dev", "8:0\n");
        let finding = examined(host);
        assert_eq!(finding.summary, "Iggy's data is on sda (write back); 1 of 1 disks cache writes");
        let text = "sda caches writes in volatile memory: what is not flushed is lost in a power cut";
        assert_eq!(finding.problems[0].text, text);
    }

    #[test]
    fn barriers_that_are_off_warn() {
        let finding = examined(with("write through\n", "rw,nobarrier"));
        assert_eq!(finding.verdict(), Verdict::Warn);
        let text = "/var/lib/iggy, which holds Iggy's data, is mounted with nobarrier: a sync does not reach the disk";
        assert_eq!(finding.problems[0].text, text);
    }

    #[test]
    fn a_host_without_disks_is_skipped() {
        let host = Recorded::complete().file("/proc/self/mountinfo", "1 0 0:1 / /proc rw - proc proc rw\n");
        assert_eq!(examined(host).verdict(), Verdict::Skip);
    }

    #[test]
    fn a_denied_mount_table_is_an_error() {
        assert!(examine(&with("write back\n", "rw").denied("/proc/self/mountinfo").host(), None).is_err());
    }
}
