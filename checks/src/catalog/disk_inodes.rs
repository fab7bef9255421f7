//! disk-inodes: are there inodes left on every filesystem that stores data.

use warden_host::Host;
use warden_host::filesystems::{Filesystem, measure_host};
use warden_host::proc::Mount;

use crate::block::{MOUNTS_OF_PROCESS, data_mount};
use crate::iggy::{self, DataDirectory};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
    quoted,
};

pub const CHECK: Check = Check {
    id: "disk-inodes",
    area: Area::Disk,
    title: "Are there inodes left?",
    why: "Every segment is two files and every consumer offset one more. A filesystem without inodes refuses new \
          files with \"no space left\" although df shows room, and a shard that cannot open its next segment dies.",
    reads: &[
        Read::Path("/proc/self/mountinfo"),
        Read::Space,
        Read::Path(MOUNTS_OF_PROCESS),
        Read::Group(iggy::READS),
    ],
    thresholds: &["warns when 85 % of a filesystem's inodes are used", "fails at 95 %"],
    advice: "Remove what made the many small files; the number of inodes of ext4 is fixed when it is made.",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 85.0;
const FAIL_PERCENT: f64 = 95.0;
/// Filesystems whose number of inodes follows from the free space, which disk-space judges (zfs-statvfs counts one for
/// each free block).
const AS_NEEDED: [&str; 3] = ["zfs", "btrfs", "bcachefs"];
/// Bars that a chart carries, the fullest first: more cannot be read.
const CHART_POINTS: usize = 64;

fn run(host: &Host) -> Result<Finding> {
    examine(host, iggy::data_directory(host))
}

fn examine(host: &Host, data: Option<DataDirectory>) -> Result<Finding> {
    let mounts = Mount::all(host)?;
    let data_mount = data.as_ref().and_then(|data| data_mount(host, data, &mounts).ok().flatten());
    let (filesystems, unmeasured) =
        measure_host(host, &mounts, data.as_ref().map(|data| data.path.as_str()).zip(data_mount.as_ref()));
    let mut finding = Finding::new("");
    let mut table = Table::new("Filesystems", ["mounted on", "type", "inodes", "free", "used", "holds"]);
    let mut measured: Vec<(f64, &str, u64)> = Vec::new();

    for one in unmeasured {
        let severity = if one.is_fault() { Verdict::Warn } else { Verdict::Note };
        let advice =
            Advice::text("Run Warden as a user who may enter the mount point, or unmount a dead mount.");
        let text = format!("the inodes of {} could not be counted: {}", one.mount.point, one.error);
        finding.problem(severity, text, advice);
    }
    for Filesystem { mount, space, holds_data } in filesystems {
        let holds = if holds_data { "Iggy's data".into() } else { Value::Nothing };
        let (point, kind) = (Value::Code(mount.point.clone()), Value::from(mount.filesystem.as_str()));
        if space.inodes == 0 || AS_NEEDED.contains(&mount.filesystem.as_str()) {
            table.row([point, kind, "made as needed".into(), Value::Nothing, Value::Nothing, holds]);
            continue;
        }
        let free = space.inodes_free.min(space.inodes);
        let used = (space.inodes - free) as f64 * 100.0 / space.inodes as f64;
        let cells = [point, kind, space.inodes.into(), free.into(), Value::Percent(used), holds];
        match judge(used) {
            None => table.row(cells),
            Some(severity) => {
                table.marked_row(severity, cells);
                let whose = if holds_data { ", which holds Iggy's data," } else { "" };
                let text = format!(
                    "{}{whose} has used {used:.0} % of its inodes: {free} of {} are left",
                    mount.point, space.inodes
                );
                finding.problem(severity, text, advice(&mount.point));
            }
        }
        measured.push((used, &mount.point, free));
    }

    measured.sort_by(|one, other| other.0.total_cmp(&one.0));
    let Some((used, point, free)) = measured.first() else {
        if finding.problems.is_empty() {
            return Ok(Finding::skip("no filesystem here has a fixed number of inodes"));
        }
        finding.summary = "no filesystem's inodes could be counted".to_owned();
        return Ok(finding);
    };
    finding.summary = format!("{point} has used the most inodes, {used:.0} % ({free} left)");
    let mut chart = Series::bars("Inodes used", Unit::Percent, ["used"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    for (used, point, _) in measured.iter().take(CHART_POINTS) {
        chart.point(*point, [*used]);
    }
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

fn judge(used: f64) -> Option<Verdict> {
    match used {
        used if used >= FAIL_PERCENT => Some(Verdict::Fail),
        used if used >= WARN_PERCENT => Some(Verdict::Warn),
        _ => None,
    }
}

fn advice(point: &str) -> Advice {
    Advice::run(
        "See which directories hold the most files, remove what is not needed, or move to a filesystem with more inodes (XFS, btrfs).",
        format!("du -x --inodes --max-depth=3 {} | sort -n | tail -n 20", quoted(point)),
    )
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Data, Recorded, Request, Space};

    use super::*;

    const MOUNTS: &str = "20 1 254:0 / / rw - ext4 /dev/vda rw\n\
                          21 20 0:20 / /proc rw - proc proc rw\n\
                          22 20 254:16 / /var/lib/iggy rw - ext4 /dev/vdb rw\n";

    fn inodes(inodes: u64, inodes_free: u64) -> Data {
        let size = 1 << 40;
        Data::Space(Space { size, free: size, available: size, inodes, inodes_free, read_only: false })
    }

    fn with(root: Data, data: Data) -> Recorded {
        Recorded::complete()
            .file("/proc/self/mountinfo", MOUNTS)
            .with(Request::Space { path: "/".to_owned() }, root)
            .with(Request::Space { path: "/var/lib/iggy".to_owned() }, data)
    }

    fn examined(host: Recorded) -> Finding {
        let data = DataDirectory { path: "/var/lib/iggy/data".to_owned(), found_by: "test".to_owned() };
        examine(&host.host(), Some(data)).unwrap()
    }

    #[test]
    fn plenty_of_inodes_pass() {
        let finding = examined(with(inodes(1000, 900), inodes(1000, 151)));
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "/var/lib/iggy has used the most inodes, 85 % (151 left)");
    }

    #[test]
    fn the_thresholds_are_85_and_95_percent() {
        let verdict = |free| examined(with(inodes(1000, 900), inodes(1000, free))).verdict();
        assert_eq!(
            [151, 150, 51, 50, 0].map(verdict),
            [Verdict::Pass, Verdict::Warn, Verdict::Warn, Verdict::Fail, Verdict::Fail]
        );
        let full = examined(with(inodes(1000, 900), inodes(1000, 0)));
        let text = "/var/lib/iggy, which holds Iggy's data, has used 100 % of its inodes: 0 of 1000 are left";
        assert_eq!(full.problems[0].text, text);
    }

    #[test]
    fn filesystems_without_an_inode_table_are_skipped() {
        let finding = examined(with(inodes(0, 0), inodes(0, 0)));
        assert_eq!(finding.verdict(), Verdict::Skip);
        assert_eq!(finding.summary, "no filesystem here has a fixed number of inodes");
    }

    #[test]
    fn more_free_inodes_than_there_are_count_as_all_free() {
        assert_eq!(examined(with(inodes(10, u64::MAX), inodes(10, 10))).verdict(), Verdict::Pass);
    }

    #[test]
    fn a_mount_that_may_not_be_entered_is_named() {
        let dead = Request::Space { path: "/var/lib/iggy".to_owned() };
        let finding = examined(with(inodes(1000, 900), inodes(0, 0)).without(dead, Cause::Denied));
        assert_eq!(finding.verdict(), Verdict::Note);
        let text = "the inodes of /var/lib/iggy could not be counted: space /var/lib/iggy: permission denied";
        assert_eq!(finding.problems[0].text, text);
    }

    #[test]
    fn without_a_mount_table_it_cannot_tell() {
        assert!(examine(&Recorded::complete().denied("/proc/self/mountinfo").host(), None).is_err());
    }
}
