//! disk-mounts: does the data directory lie on a filesystem that keeps it, mounted as it should be.

mod fstab;

use warden_host::filesystems::{Kind, distinct, is_broken};
use warden_host::proc::Mount;
use warden_host::{Host, IfAny};

use self::fstab::Fstab;
use crate::block::{
    DISKS, Disk, MAPPED, MOUNTS_OF_PROCESS, PARTITIONS, REMOVABLE, SIZES, SLAVES, data_mount,
};
use crate::iggy::{self, DataDirectory};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Table, Value, Verdict, quoted,
};

pub const CHECK: Check = Check {
    id: "disk-mounts",
    area: Area::Disk,
    title: "Is the data on the right filesystem?",
    why: "Iggy keeps messages in plain files that it reads and writes through io_uring. A filesystem in memory loses \
          them at the next boot, a container's overlay with the container, a network filesystem stalls a whole shard \
          when the network does, and one that went read-only stops every producer.",
    reads: &[
        Read::Path("/proc/self/mountinfo"),
        Read::Path(MOUNTS_OF_THE_HOST),
        Read::Path("/etc/fstab"),
        Read::Path(MOUNTS_OF_PROCESS),
        Read::Path(RECORDED_ERRORS),
        Read::Path(DISKS),
        Read::Path(PARTITIONS),
        Read::Path(SLAVES),
        Read::Path(MAPPED),
        Read::Path(SIZES),
        Read::Path(REMOVABLE),
        Read::Space,
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "fails when the data directory is in memory (tmpfs) or read-only",
        "fails when a filesystem went read-only or shut down after an error, or the data's ext4 has recorded errors",
        "warns when the data directory is on an overlay or a network filesystem",
        "notes a data filesystem without noatime, absent from fstab, or mounted with nofail",
    ],
    advice: "Give the data directory its own XFS or ext4 filesystem on a local disk, mounted with noatime.",
    deadline: DEADLINE,
    run,
};

/// What the first process sees. systemd shows a service that it confines (ProtectSystem=) everything read-only, and the
/// agent is such a service. Only root and CAP_SYS_PTRACE may read this.
const MOUNTS_OF_THE_HOST: &str = "/proc/1/mountinfo";

/// What a filesystem shows that has stopped after an error or was shut down: it takes no write, whatever `rw` or `ro`
/// stands beside it. Source: _ext4_show_options() of fs/ext4/super.c, Linux 6.14.
const STOPPED: [&str; 2] = ["emergency_ro", "shutdown"];

/// Errors that ext4 keeps in its superblock until it is checked (Documentation/ABI/testing/sysfs-fs-ext4).
const RECORDED_ERRORS: &str = "/sys/fs/ext4/*/errors_count";

fn run(host: &Host) -> Result<Finding> {
    examine(host, iggy::data_directory(host))
}

fn examine(host: &Host, data: Option<DataDirectory>) -> Result<Finding> {
    let mut mounts = Mount::all(host)?;
    let mut finding = Finding::new("");
    let unsure = lift_confinement(host, &mut mounts);
    let fstab = match host.read("/etc/fstab").if_any() {
        Ok(text) => Fstab::parse(&text.unwrap_or_default()),
        Err(error) => {
            finding.note(
                format!("what should be mounted is not known: {error}"),
                Advice::text("Run Warden as root."),
            );
            Fstab::default()
        }
    };

    let mount = data.as_ref().map(|data| data_mount(host, data, &mounts)).transpose()?.flatten();
    let holding = data.as_ref().zip(mount.as_ref());
    finding.summary = match (&data, holding) {
        (_, Some((data, mount))) => {
            judge_data(&mut finding, &data.path, mount, &fstab, unsure.is_some());
            judge_errors(host, &mut finding, data, mount);
            let Mount { filesystem, source, options, .. } = mount;
            format!("{} is on {filesystem} ({source}), mounted at {} with {options}", data.path, mount.point)
        }
        (Some(data), None) => {
            let advice = Advice::text("Run Warden in the mount namespace of the host.");
            finding.warn(format!("no mount holds the data directory {}", data.path), advice);
            "the filesystem of the data directory was not found".to_owned()
        }
        (None, None) => {
            if let Some(error) = iggy::hidden_data_directory(host) {
                let text = format!("where Iggy keeps its data could not be seen: {error}");
                finding.note(
                    text,
                    Advice::text("Run as root or give Warden CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH."),
                );
            }
            "no data directory of Iggy was found, so only the state of the mounts was judged".to_owned()
        }
    };

    let mut table =
        Table::new("Mounted", ["mounted on", "type", "source", "options", "filesystem options", "holds"]);
    for mount in distinct(&mounts) {
        let holds_data = holding.is_some_and(|(_, data)| data.device == mount.device);
        let cells = [
            Value::Code(mount.point.clone()),
            mount.filesystem.as_str().into(),
            Value::Code(mount.source.clone()),
            Value::Code(mount.options.clone()),
            Value::Code(mount.super_options.clone()),
            if holds_data { "Iggy's data".into() } else { Value::Nothing },
        ];
        let is_unsure = unsure.is_some() && mount.is_read_only_view();
        let what = match stopped(mount) {
            Some(option) => format!("has stopped after an error ({option})"),
            None if went_read_only(mount, &fstab) && !is_unsure => {
                "was mounted to be written and is now read-only".to_owned()
            }
            None => {
                table.row(cells);
                continue;
            }
        };
        table.marked_row(Verdict::Fail, cells);
        if !holds_data {
            let text = format!("{} ({}) {what}", mount.point, mount.filesystem);
            finding.fail(text, after_an_error(mount));
        }
    }
    if let Some(error) = unsure {
        let text =
            format!("what is read-only here may be so for Warden alone, which can be confined: {error}");
        finding.note(text, Advice::text("Run Warden as root or give it CAP_SYS_PTRACE."));
    }
    finding.show(Evidence::Table(table));
    Ok(finding)
}

/// Gives what is read-only in our view the options it has for the rest of the host. Why that could not be told, if so.
fn lift_confinement(host: &Host, mounts: &mut [Mount]) -> Option<Error> {
    let is_doubtful = |mount: &&mut Mount| mount.is_storage() && mount.is_read_only_view();
    let mut doubtful = mounts.iter_mut().filter(is_doubtful).peekable();
    doubtful.peek()?;
    let of_the_host = match host.read(MOUNTS_OF_THE_HOST) {
        Ok(text) => Mount::parse_all(&text),
        Err(error) => return Some(error),
    };
    for mount in doubtful {
        let is_same = |other: &&Mount| other.device == mount.device && other.point == mount.point;
        if let Some(other) = of_the_host.iter().rfind(is_same) {
            mount.options.clone_from(&other.options);
        }
    }
    None
}

fn judge_data(finding: &mut Finding, path: &str, mount: &Mount, fstab: &Fstab, unsure: bool) {
    let Mount { filesystem, point, .. } = mount;
    let kind = mount.kind();
    if kind == Kind::Memory {
        let text = format!("{path} is on {filesystem}: every message is lost at the next boot");
        finding.fail(text, Advice::text("Stop Iggy and move its data directory to a filesystem on a disk."));
    } else if kind == Kind::Layers {
        let text = format!(
            "{path} is on {filesystem}: messages go when the container does, and each write is slower"
        );
        finding.warn(text, Advice::text("Mount a volume or a directory of the host at the data directory."));
    } else if kind == Kind::Network {
        let text = format!("{path} is on {filesystem}, over the network: a stall there stalls whole shards");
        finding
            .warn(text, Advice::text("Move the data directory to a local disk or an attached block volume."));
    }
    if let Some(option) = stopped(mount) {
        let text = format!(
            "{path} is on {point}, which has stopped after an error ({option}): Iggy can store nothing"
        );
        finding.fail(text, after_an_error(mount));
    } else if mount.is_read_only() && !(unsure && mount.is_read_only_view()) {
        finding.fail(
            format!("{path} is on {point}, which is read-only: Iggy can store nothing"),
            after_an_error(mount),
        );
    }
    let on_disk = matches!(kind, Kind::Disk | Kind::Process);
    if on_disk && !mount.has_option("noatime") {
        let text =
            format!("{point} is mounted without noatime: reading a segment may also write its access time");
        let command = format!("mount -o remount,noatime {}", quoted(point));
        finding.note(text, Advice::run("Remount it so, and add noatime to its line in /etc/fstab.", command));
    }
    let Some(planned) = fstab.options(point) else {
        // The root filesystem is the boot loader's, and a host without fstab mounts by other means.
        if on_disk && point != "/" && !fstab.rows.is_empty() {
            let advice = Advice::text("If no mount unit mounts it either, add it to /etc/fstab by its UUID.");
            finding.note(
                format!("{point} holds Iggy's data and is not in /etc/fstab: after a boot it may be missing"),
                advice,
            );
        }
        return;
    };
    if planned.split(',').any(|option| option == "nofail") {
        let text = format!(
            "{point} is mounted with nofail: if the disk is missing at boot, Iggy starts on an empty directory"
        );
        let advice =
            Advice::text(format!("Add RequiresMountsFor={path} to the unit of Iggy, or remove nofail."));
        finding.note(text, advice);
    }
}

/// The option that says that the filesystem takes no write any more.
fn stopped(mount: &Mount) -> Option<&'static str> {
    STOPPED.into_iter().find(|option| mount.has_option(option))
}

/// Errors of the filesystem itself, which its options do not show: those that ext4 has recorded, and that it cannot be
/// asked for its size.
fn judge_errors(host: &Host, finding: &mut Finding, data: &DataDirectory, mount: &Mount) {
    if let Err(Error::Host(failure)) = host.space(&data.path)
        && is_broken(&failure.cause)
    {
        let cause = failure.cause;
        let text =
            format!("{} is on {}, which cannot be asked for its size: {cause}", data.path, mount.point);
        finding.fail(text, after_an_error(mount));
    }
    if mount.filesystem != "ext4" {
        return;
    }
    let source = mount.source.strip_prefix("/dev/").unwrap_or(&mount.source);
    let disks = Disk::all(host).unwrap_or_default();
    let disk = Disk::named(&disks, source).map(|disk| disk.name.as_str());
    // sysfs knows a volume of the device mapper as dm-0.
    let device = if source.starts_with("mapper/") { disk } else { Some(source) };
    for file in host.read_all(RECORDED_ERRORS).unwrap_or_default() {
        let is_data = device.is_some() && file.path.split('/').nth(4) == device;
        let errors: u64 = file.text.trim().parse().unwrap_or(0);
        if is_data && errors > 0 {
            let text = format!(
                "{} is on {}, whose ext4 has recorded {errors} errors since it was last checked",
                data.path, mount.point
            );
            finding.fail(text, after_an_error(mount));
        }
    }
}

/// A filesystem that stops after an error turns its superblock read-only and leaves the mount as it was; one
/// that was remounted by hand contradicts fstab.
fn went_read_only(mount: &Mount, fstab: &Fstab) -> bool {
    let has = |options: &str, name: &str| options.split(',').any(|option| option == name);
    let stopped = has(&mount.options, "rw") && mount.has_option("ro");
    let planned_to_write = fstab.options(&mount.point).is_some_and(|options| !has(options, "ro"));
    stopped || mount.is_read_only() && planned_to_write
}

fn after_an_error(mount: &Mount) -> Advice {
    Advice::run(
        "Find the error in the kernel log, check the filesystem while it is unmounted, then mount it again.",
        format!("dmesg --level=emerg,alert,crit,err | tail -n 50; findmnt {}", quoted(&mount.point)),
    )
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Recorded, Request};

    use super::*;

    const DATA: &str = "/var/lib/iggy";
    const FSTAB: &str =
        "# a comment\nUUID=1 / ext4 defaults 0 1\nUUID=2 /var/lib/iggy xfs noatime 0 2\ntorn\n";

    fn on(mount: &str, fstab: &str) -> Finding {
        let mounts =
            format!("20 1 254:0 / / rw,relatime - ext4 /dev/vda rw\n22 20 254:16 / {DATA} {mount}\n");
        let host =
            Recorded::complete().file("/proc/self/mountinfo", &mounts).file("/etc/fstab", fstab).host();
        examine(&host, Some(DataDirectory { path: DATA.to_owned(), found_by: "test".to_owned() })).unwrap()
    }

    fn problems(finding: &Finding) -> Vec<(Verdict, &str)> {
        finding.problems.iter().map(|problem| (problem.severity, problem.text.as_str())).collect()
    }

    #[test]
    fn a_local_disk_with_noatime_passes() {
        let finding = on("rw,noatime - xfs /dev/vdb rw", FSTAB);
        assert_eq!((finding.verdict(), problems(&finding)), (Verdict::Pass, vec![]));
        assert_eq!(
            finding.summary,
            "/var/lib/iggy is on xfs (/dev/vdb), mounted at /var/lib/iggy with rw,noatime"
        );
    }

    #[test]
    fn memory_fails_and_overlay_and_network_warn() {
        let verdict = |mount| on(mount, FSTAB).verdict();
        assert_eq!(verdict("rw - tmpfs tmpfs rw,size=1g"), Verdict::Fail);
        assert_eq!(verdict("rw,noatime - overlay overlay rw"), Verdict::Warn);
        let finding = on("rw,noatime - nfs4 server:/iggy rw", FSTAB);
        let text = "/var/lib/iggy is on nfs4, over the network: a stall there stalls whole shards";
        assert_eq!(problems(&finding), [(Verdict::Warn, text)]);
    }

    #[test]
    fn a_data_filesystem_that_stopped_after_an_error_fails_once() {
        let finding = on("rw,noatime - ext4 /dev/vdb ro,errors=remount-ro", FSTAB);
        let text = "/var/lib/iggy is on /var/lib/iggy, which is read-only: Iggy can store nothing";
        assert_eq!(problems(&finding), [(Verdict::Fail, text)]);
    }

    #[test]
    fn a_filesystem_that_says_it_stopped_fails_whatever_its_other_options() {
        for mount in [
            "rw,noatime - ext4 /dev/vdb rw,errors=remount-ro,emergency_ro",
            "ro,noatime - ext4 /dev/vdb ro,emergency_ro",
            "rw,noatime - ext4 /dev/vdb rw,shutdown",
            "rw,noatime - xfs /dev/vdb rw,attr2,shutdown",
        ] {
            for fstab in [FSTAB, "UUID=2 /var/lib/iggy xfs ro,noatime 0 2\n"] {
                let finding = on(mount, fstab);
                assert_eq!(
                    (finding.verdict(), finding.problems.len()),
                    (Verdict::Fail, 1),
                    "{mount} {fstab}"
                );
                assert!(finding.problems[0].text.contains("has stopped after an error ("), "{mount}");
            }
        }
    }

    #[test]
    fn recorded_errors_and_a_filesystem_that_answers_with_an_error_fail() {
        let with = |mount: &str, host: Recorded| {
            let mounts = format!("22 1 254:16 / {DATA} {mount}\n");
            let host = host.file("/proc/self/mountinfo", &mounts).file("/etc/fstab", FSTAB).host();
            examine(&host, Some(DataDirectory { path: DATA.to_owned(), found_by: "test".to_owned() }))
                .unwrap()
        };
        let counted = |device: &str, count: &str| {
            let host = Recorded::complete()
                .file("/sys/block/dm-0/dev", "254:0\n")
                .file("/sys/block/dm-0/dm/name", "vg-data\n")
                .file("/sys/fs/ext4/dm-0/errors_count", count)
                .file("/sys/fs/ext4/vdc/errors_count", "9\n");
            with(&format!("rw,noatime - ext4 /dev/{device} rw"), host).verdict()
        };
        assert_eq!(counted("mapper/vg-data", "2\n"), Verdict::Fail);
        assert_eq!(counted("mapper/vg-data", "0\n"), Verdict::Pass);
        assert_eq!(counted("vdb", "2\n"), Verdict::Pass);
        let dead = Recorded::complete().without(
            Request::Space { path: DATA.to_owned() },
            Cause::Other("Input/output error (os error 5)".to_owned()),
        );
        let finding = with("rw,noatime - xfs /dev/vdb rw", dead);
        let text = "/var/lib/iggy is on /var/lib/iggy, which cannot be asked for its size: Input/output error (os error 5)";
        assert_eq!(problems(&finding), [(Verdict::Fail, text)]);
    }

    #[test]
    fn what_systemd_shows_read_only_to_warden_alone_is_judged_as_the_host_sees_it() {
        let of = |root: &str, data: &str| {
            format!(
                "20 1 254:0 / / {root} - ext4 /dev/vda rw\n22 20 254:16 / {DATA} {data} - xfs /dev/vdb rw\n"
            )
        };
        let judged = |host: Recorded| {
            let host = host
                .file("/proc/self/mountinfo", &of("ro,nosuid,relatime", "ro,nosuid,noatime"))
                .file("/etc/fstab", FSTAB)
                .host();
            examine(&host, Some(DataDirectory { path: DATA.to_owned(), found_by: "test".to_owned() }))
                .unwrap()
        };
        let seen =
            |root: &str, data: &str| judged(Recorded::complete().file(MOUNTS_OF_THE_HOST, &of(root, data)));
        let finding = seen("rw,relatime", "rw,noatime");
        assert_eq!((finding.verdict(), problems(&finding)), (Verdict::Pass, vec![]));
        let text = "/var/lib/iggy is on xfs (/dev/vdb), mounted at /var/lib/iggy with rw,noatime";
        assert_eq!(finding.summary, text);
        let text = "/var/lib/iggy is on /var/lib/iggy, which is read-only: Iggy can store nothing";
        assert_eq!(problems(&seen("rw,relatime", "ro,noatime")), [(Verdict::Fail, text)]);

        let finding = judged(Recorded::complete().denied(MOUNTS_OF_THE_HOST));
        let text = "what is read-only here may be so for Warden alone, which can be confined: /proc/1/mountinfo: \
                    permission denied";
        assert_eq!(problems(&finding), [(Verdict::Note, text)]);
    }

    #[test]
    fn another_filesystem_that_turned_read_only_fails_and_one_meant_to_be_does_not() {
        let verdict = |fstab: &str| {
            let mounts = "20 1 254:0 / / rw - ext4 /dev/vda rw\n21 20 8:1 / /srv ro - xfs /dev/sda1 ro\n";
            let host =
                Recorded::complete().file("/proc/self/mountinfo", mounts).file("/etc/fstab", fstab).host();
            examine(&host, None).unwrap().verdict()
        };
        assert_eq!(verdict("/dev/sda1 /srv/ xfs ro 0 0\n"), Verdict::Pass);
        assert_eq!(verdict("/dev/sda1 /srv xfs defaults 0 0\n"), Verdict::Fail);
    }

    #[test]
    fn access_times_nofail_and_a_missing_line_are_noted() {
        let finding = on("rw,relatime - xfs /dev/vdb rw", "UUID=2 /var/lib/iggy xfs nofail 0 2\n");
        assert_eq!((finding.verdict(), finding.problems.len()), (Verdict::Note, 2));
        assert_eq!(
            finding.problems[0].advice.command.as_deref(),
            Some("mount -o remount,noatime '/var/lib/iggy'")
        );
        let finding = on("rw,noatime - xfs /dev/vdb rw", "UUID=1 / ext4 defaults 0 1\n");
        let text = "/var/lib/iggy holds Iggy's data and is not in /etc/fstab: after a boot it may be missing";
        assert_eq!(problems(&finding), [(Verdict::Note, text)]);
    }

    #[test]
    fn without_a_data_directory_it_says_what_was_judged_and_a_denied_fstab_is_told() {
        let mounts = "20 1 254:0 / / rw - ext4 /dev/vda rw\n";
        let host = Recorded::complete().file("/proc/self/mountinfo", mounts).denied("/etc/fstab").host();
        let finding = examine(&host, None).unwrap();
        assert_eq!(
            finding.summary,
            "no data directory of Iggy was found, so only the state of the mounts was judged"
        );
        let text = "what should be mounted is not known: /etc/fstab: permission denied";
        assert_eq!(problems(&finding), [(Verdict::Note, text)]);
    }

    #[test]
    fn data_that_may_not_be_seen_is_said_to_be_unseen() {
        let host = iggy::tests::running(70).denied("/proc/70/environ");
        let finding =
            run(&host.file("/proc/self/mountinfo", "1 0 0:1 / /proc rw - proc proc rw\n").host()).unwrap();
        let text = "where Iggy keeps its data could not be seen: /proc/70/environ: permission denied";
        assert_eq!(problems(&finding), [(Verdict::Note, text)]);
    }
}
