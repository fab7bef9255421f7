//! disk-space: is there room on every filesystem that stores data.

use warden_host::filesystems::{Filesystem, measure_host};
use warden_host::proc::Mount;
use warden_host::quantity::bytes;
use warden_host::{Host, Space};

use crate::block::{MOUNTS_OF_PROCESS, data_mount};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
    iggy, quoted,
};

pub const CHECK: Check = Check {
    id: "disk-space",
    area: Area::Disk,
    title: "Is there room on the disks?",
    why: "When the filesystem of the data directory is full, an Iggy shard dies at its next write while the server \
          stays up and /ping still answers pong. Producers hang until the node is restarted with room.",
    reads: &[
        Read::Path("/proc/self/mountinfo"),
        Read::Space,
        Read::Path(MOUNTS_OF_PROCESS),
        Read::Group(iggy::READS),
    ],
    thresholds: &["warns when a filesystem is 85 % full", "fails at 95 %"],
    advice: "Free space or grow the filesystem; shorten the retention of large topics.",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 85.0;
const FAIL_PERCENT: f64 = 95.0;

fn run(host: &Host) -> Result<Finding> {
    let mounts = Mount::all(host)?;
    let data = iggy::data_directory(host);
    let data_mount = data.as_ref().and_then(|data| data_mount(host, data, &mounts).ok().flatten());
    let mut finding = Finding::new("");
    let mut table = Table::new("Filesystems", ["mounted on", "type", "size", "available", "used", "holds"]);
    let mut chart = Series::bars("How full", Unit::Percent, ["used"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    let mut fullest: Option<(f64, String, u64)> = None;
    let (measured, unmeasured) =
        measure_host(host, &mounts, data.as_ref().map(|data| data.path.as_str()).zip(data_mount.as_ref()));

    for Filesystem { mount, space, holds_data } in measured {
        let Some(used) = used_percent(&space) else { continue };
        let severity = judge(used);
        let cells = [
            Value::Code(mount.point.clone()),
            mount.filesystem.as_str().into(),
            Value::Bytes(space.size),
            Value::Bytes(space.available),
            Value::Percent(used),
            if holds_data { "Iggy's data".into() } else { Value::Nothing },
        ];
        chart.point(&mount.point, [used]);
        match severity {
            None => table.row(cells),
            Some(severity) => {
                table.marked_row(severity, cells);
                finding.problem(
                    severity,
                    sentence(&mount.point, used, &space, holds_data),
                    advice(&mount.point, holds_data),
                );
            }
        }
        if fullest.as_ref().is_none_or(|(most, ..)| used > *most) {
            fullest = Some((used, mount.point.clone(), space.available));
        }
    }

    for one in unmeasured {
        let severity = if one.is_fault() { Verdict::Warn } else { Verdict::Note };
        let advice =
            Advice::text("Run Warden as a user who may enter the mount point, or unmount a dead mount.");
        finding.problem(
            severity,
            format!("{} could not be measured: {}", one.mount.point, one.error),
            advice,
        );
    }
    let Some((used, point, available)) = fullest else {
        if finding.problems.is_empty() {
            return Ok(Finding::skip("no filesystem here stores data"));
        }
        finding.summary = "no filesystem could be measured".to_owned();
        return Ok(finding);
    };
    finding.summary =
        format!("the fullest filesystem, {point}, is {used:.0} % used ({} available)", bytes(available));
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

/// As df(1) counts: blocks reserved for root are neither used nor available.
fn used_percent(space: &Space) -> Option<f64> {
    let used = space.size.saturating_sub(space.free);
    let whole = used.saturating_add(space.available);
    (whole > 0).then(|| used as f64 * 100.0 / whole as f64)
}

fn judge(used: f64) -> Option<Verdict> {
    match used {
        used if used >= FAIL_PERCENT => Some(Verdict::Fail),
        used if used >= WARN_PERCENT => Some(Verdict::Warn),
        _ => None,
    }
}

fn sentence(point: &str, used: f64, space: &Space, holds_data: bool) -> String {
    let whose = if holds_data { ", which holds Iggy's data," } else { "" };
    format!(
        "{point}{whose} is {used:.0} % full: {} of {} available",
        bytes(space.available),
        bytes(space.size)
    )
}

fn advice(point: &str, holds_data: bool) -> Advice {
    let command = format!("du -xh --max-depth=2 {} | sort -h | tail -n 20", quoted(point));
    if holds_data {
        return Advice::run(
            "Shorten the retention of large topics, purge what is no longer read, or grow the filesystem.",
            command,
        );
    }
    Advice::run("See what takes the room, then remove it or grow the filesystem.", command)
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Recorded, Request};

    use super::*;

    const MOUNTS: &str = "20 1 254:0 / / rw - ext4 /dev/vda rw\n\
                          21 20 0:20 / /proc rw - proc proc rw\n\
                          22 20 254:16 / /var/lib/iggy rw - xfs /dev/vdb rw\n\
                          23 20 254:16 / /srv/again rw - xfs /dev/vdb rw\n";

    fn with_available(gib: u64) -> Recorded {
        let gibibyte = 1 << 30;
        Recorded::complete()
            .file("/proc/self/mountinfo", MOUNTS)
            .space("/", 100 * gibibyte, 70 * gibibyte)
            .space("/var/lib/iggy", 100 * gibibyte, gib * gibibyte)
    }

    #[test]
    fn room_everywhere_passes_and_a_bind_mount_is_not_counted_twice() {
        let finding = run(&with_available(60).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "the fullest filesystem, /var/lib/iggy, is 40 % used (60 GiB available)");
        assert!(matches!(&finding.evidence[1], Evidence::Table(table) if table.rows.len() == 2));
    }

    #[test]
    fn a_filling_disk_warns_and_a_full_one_fails() {
        assert_eq!(run(&with_available(15).host()).unwrap().verdict(), Verdict::Warn);
        let full = run(&with_available(2).host()).unwrap();
        assert_eq!(full.verdict(), Verdict::Fail);
        assert_eq!(full.problems[0].text, "/var/lib/iggy is 98 % full: 2 GiB of 100 GiB available");
    }

    #[test]
    fn a_mount_that_does_not_answer_is_named_and_the_others_are_still_judged() {
        let dead = Request::Space { path: "/var/lib/iggy".to_owned() };
        let finding = run(&with_available(50).without(dead, Cause::TimedOut).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "/var/lib/iggy could not be measured: space /var/lib/iggy: no answer in time"
        );
    }
}
