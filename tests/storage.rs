//! Storage of a recorded host on which one thing is different: what the checks say of it.

use serde_json::{Value, json};
use warden::snapshot::report::{CheckReport, Outcome};

use crate::support::changed_host::ChangedHost;

const BASE: &str = "healthy-debian";
const MOUNTS: &str = "27 1 254:1 / / rw,relatime shared:1 - ext4 /dev/vda1 rw,errors=remount-ro\n";
const DATA: &str = "61 27 254:17 / /var/lib/iggy rw,noatime shared:31 - xfs /dev/vdb1 rw,attr2\n";

fn texts(check: &CheckReport) -> Vec<&str> {
    check.problems.iter().map(|problem| problem.text.as_str()).collect()
}

fn kernel_log(lines: &[&str]) -> Value {
    let line = |(at, text): (i64, &&str)| json!({"at_us": 1_795_260_000_000_000_i64 + at, "level": "error", "origin": "kernel", "text": text});
    (0..).zip(lines).map(line).collect()
}

fn space(path: &str, size: u64, free: u64) -> Value {
    json!({"request": {"ask": "space", "path": path}, "answer": {"is": "space", "size": size, "free": free,
        "available": free, "inodes": 1_000_000, "inodes_free": 900_000, "read_only": false}})
}

fn logged(lines: &[&str]) -> [CheckReport; 2] {
    let host = ChangedHost::of(BASE)
        .edit("fact/kernel-log.json", |answer| answer["answer"]["lines"] = kernel_log(lines));
    ["kernel-log", "disk-health"].map(|id| host.judge(id))
}

#[test]
fn overlays_of_containers_are_the_filesystem_they_lie_on() {
    let overlay = |at: u32| {
        format!(
            "{at} 27 0:{at} / /var/lib/docker/overlay2/{at}/merged rw - overlay overlay \
             rw,lowerdir=/l,upperdir=/var/lib/docker/overlay2/{at}/diff,workdir=/w\n"
        )
    };
    let mounts = format!("{MOUNTS}{DATA}{}{}", overlay(100), overlay(101));
    let host = ChangedHost::of(BASE)
        .file("/proc/self/mountinfo", mounts)
        .answer("space/%2F.json", &space("/", 50 << 30, 4 << 30));
    assert_eq!(texts(&host.judge("disk-space")), ["/ is 92 % full: 4 GiB of 50 GiB available"]);
}

#[test]
fn a_fuse_mount_of_a_user_that_shuts_root_out_is_no_dead_disk() {
    let private = "71 27 0:51 / /run/user/1000/doc rw - fuse.portal portal rw,user_id=1000,group_id=1000\n";
    let denied = json!({"request": {"ask": "space", "path": "/run/user/1000/doc"},
        "failure": {"what": "space /run/user/1000/doc", "cause": {"cause": "denied"}}});
    let host = ChangedHost::of(BASE)
        .file("/proc/self/mountinfo", format!("{MOUNTS}{DATA}{private}"))
        .answer("space/run/user/1000/doc.json", &denied);
    for id in ["disk-space", "disk-inodes"] {
        assert_eq!((host.judge(id).outcome, texts(&host.judge(id))), (Outcome::Pass, vec![]), "{id}");
    }
}

#[test]
fn a_degraded_zfs_pool_below_the_data_fails_and_one_that_cannot_be_asked_is_said() {
    let mounts =
        format!("{MOUNTS}61 27 0:44 / /var/lib/iggy rw,noatime shared:31 - zfs tank/iggy rw,xattr\n");
    let host = ChangedHost::of(BASE).file("/proc/self/mountinfo", mounts);
    let unknown = host.judge("disk-health");
    assert_eq!(unknown.outcome, Outcome::Warn);
    assert!(texts(&unknown)[0].starts_with("whether the copies of the ZFS pool tank are whole is not known"));
    let degraded = host.file("/proc/spl/kstat/zfs/tank/state", "DEGRADED\n").judge("disk-health");
    let text = "ZFS pool tank, which holds Iggy's data, is degraded, a copy is missing: DEGRADED";
    assert_eq!((degraded.outcome, texts(&degraded)), (Outcome::Fail, vec![text]));
}

#[test]
fn both_readers_of_the_kernels_log_say_the_same_of_storage() {
    let floppy = [
        "print_req_error: I/O error, dev fd0, sector 0",
        "floppy: error 10 while reading block 0",
        "Buffer I/O error on dev fd0, logical block 0, async page read",
    ];
    assert_eq!(logged(&floppy).map(|check| check.outcome), [Outcome::Pass; 2]);
    let full = ["device-mapper: thin: 253:4: switching pool to out-of-data-space (error IO) mode"];
    assert_eq!(logged(&full).map(|check| check.outcome), [Outcome::Fail; 2]);
    let discard =
        ["critical target error, dev vdb, sector 9 op 0x3:(DISCARD) flags 0x800 phys_seg 1 prio class 0"];
    let checks = logged(&discard);
    assert_eq!(checks.each_ref().map(|check| check.outcome), [Outcome::Note; 2]);
    let text = format!(
        "the kernel logged a refused discard of vdb, which holds Iggy's data, the last: {}",
        discard[0]
    );
    assert_eq!(texts(&checks[1]), [text]);
}

#[test]
fn nothing_is_said_to_be_without_fault_that_was_not_looked_at() {
    let host = ChangedHost::of(BASE).without(".host/fact/kernel-log.json");
    let check = host.judge("disk-health");
    assert_eq!((check.outcome, check.summary.as_str()), (Outcome::Note, "nothing could be asked of 2 disks"));
}
