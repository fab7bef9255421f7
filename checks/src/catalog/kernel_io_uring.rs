//! kernel-io-uring: may Iggy set up its io_uring rings on this kernel.

use warden_host::proc::{self, cpu_count};
use warden_host::quantity::bytes;
use warden_host::{Host, IfAny};

use crate::iggy::{self, Runtime, Service};
use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Value, Verdict};

pub const CHECK: Check = Check {
    id: "kernel-io-uring",
    area: Area::Kernel,
    title: "Can Iggy use io_uring?",
    why: "Each shard of Iggy does all its work through an io_uring ring. Where the kernel is too old, io_uring is \
          switched off, or too little memory may be locked, the server exits with status 101 before it opens a log file.",
    reads: &[
        Read::Group(iggy::READS),
        Read::Units,
        Read::Path("/proc/sys/kernel/io_uring_*"),
        Read::Path("/proc/[pid]/limits"),
        Read::Path("/proc/[pid]/status"),
        Read::Path("/proc/[pid]/fd"),
        Read::Path("/proc/[pid]/fd/*"),
        Read::Path("/sys/devices/system/cpu/online"),
    ],
    thresholds: &[
        "fails where io_uring is disabled for Iggy's user or not built into the kernel, and warns when only the next start is refused",
        "warns on a kernel that is by its number older than 5.19 and shows nothing newer",
        "warns when less than 400 KiB for each core may be locked without CAP_IPC_LOCK, and fails below 400 KiB",
        "notes a seccomp filter on a running server without rings",
    ],
    advice: "Use a kernel of 5.19 or later, set kernel.io_uring_disabled to 0, and give the unit LimitMEMLOCK=infinity.",
    deadline: DEADLINE,
    run,
};

/// IORING_SETUP_COOP_TASKRUN and IORING_SETUP_TASKRUN_FLAG came with 5.19; Iggy asks for both.
const OLDEST_KERNEL: (u32, u32) = (5, 19);
/// kernel.io_uring_disabled came with 6.6: from there on its absence means a kernel built without io_uring.
const KERNEL_WITH_SWITCH: (u32, u32) = (6, 6);
/// About 400 KiB of locked memory for the ring of one shard at Iggy's default of 4096 entries.
const RING_BYTES: u64 = 400 * 1024;
const CAP_IPC_LOCK: u32 = 14;
const CAP_SYS_ADMIN: u32 = 21;

/// Who asks the kernel for rings: the running server, or the unit that would start it.
struct Asker {
    who: String,
    /// Bytes that may be locked; `None` is no limit.
    memlock: Option<u64>,
    may_lock_any: bool,
    is_admin: bool,
    groups: Vec<u32>,
    seccomp: Option<bool>,
    /// Rings that it holds open; `None` when it does not run or its descriptors may not be seen.
    rings: Option<usize>,
}

/// What an io_uring ring is called among the descriptors of a process.
const RING: &str = "anon_inode:[io_uring]";

fn run(host: &Host) -> Result<Finding> {
    let release = host.uname()?.release;
    let version = version(&release)
        .ok_or_else(|| Error::parse("uname", format!("`{release}` is not a kernel release")))?;
    let disabled = number_if_any(host, "/proc/sys/kernel/io_uring_disabled")?;
    let group = number_if_any(host, "/proc/sys/kernel/io_uring_group")?;
    let cores = cpu_count(&host.value("/sys/devices/system/cpu/online")?).max(1);
    let asker = asker(host)?;

    let mut finding = Finding::new("");
    let mut fields = Fields::new("io_uring")
        .row("kernel", Value::Code(release.clone()))
        .row("kernel.io_uring_disabled", disabled)
        .row("kernel.io_uring_group", group)
        .row("cores, one shard each", cores)
        .row("memory to lock for the rings, about", Value::Bytes(cores * RING_BYTES));
    let holds_rings = asker.as_ref().is_some_and(Asker::holds_rings);
    // Vendors carry io_uring back into kernels whose number stays: the switch of 6.6 shows how new it is.
    if version < OLDEST_KERNEL && disabled.is_none() && !holds_rings {
        let text = format!(
            "kernel {release} is by its number older than 5.19, the first with the io_uring flags that Iggy asks for"
        );
        finding.warn(
            text,
            Advice::text(
                "Start Iggy: it says so when the kernel refuses. Then install a kernel of 5.19 or later and reboot.",
            ),
        );
    }
    judge_switch(&mut finding, version, disabled, group, asker.as_ref());
    if let Some(asker) = &asker {
        judge_memlock(host, &mut finding, asker, cores);
        fields = fields
            .row("judged for", asker.who.as_str())
            .row("may lock", memlock_value(asker))
            .row("seccomp filter", asker.seccomp)
            .row("rings held open", asker.rings);
        if asker.seccomp == Some(true) && !holds_rings {
            let advice = Advice::text(
                "Nothing to do while it runs; a changed filter must keep allowing io_uring_setup, io_uring_enter and io_uring_register.",
            );
            finding.note(
                format!("{} runs under a seccomp filter, which could refuse io_uring calls", asker.who),
                advice,
            );
        }
    }
    let whose = asker.map_or_else(
        || "no Iggy server or unit was found to judge its limits".to_owned(),
        |asker| format!("judged for {}", asker.who),
    );
    let able = match finding.verdict() {
        _ if holds_rings => "uses",
        Verdict::Fail => "cannot use",
        Verdict::Warn => "may not be able to use",
        Verdict::Skip | Verdict::Pass | Verdict::Note => "can use",
    };
    finding.summary = format!("Iggy {able} io_uring on kernel {release} ({whose})");
    finding.show(Evidence::Fields(fields));
    Ok(finding)
}

fn judge_switch(
    finding: &mut Finding,
    version: (u32, u32),
    disabled: Option<i64>,
    group: Option<i64>,
    asker: Option<&Asker>,
) {
    const ENABLE: &str = "sysctl -w kernel.io_uring_disabled=0 && echo 'kernel.io_uring_disabled = 0' > /etc/sysctl.d/zz-warden-io-uring.conf";
    let enable = || Advice::run("Allow io_uring, or put Iggy's group into kernel.io_uring_group.", ENABLE);
    let holds_rings = asker.is_some_and(Asker::holds_rings);
    // A switch holds for new rings only: the running server keeps its own until it is restarted.
    let (severity, until) =
        if holds_rings { (Verdict::Warn, "; the next start will fail") } else { (Verdict::Fail, "") };
    match disabled {
        Some(0) => {}
        None if version < KERNEL_WITH_SWITCH || holds_rings => {}
        None => finding.fail(
            "this kernel has no kernel.io_uring_disabled, so it was built without io_uring",
            Advice::text("Install a kernel that is built with CONFIG_IO_URING; a container sees the kernel of its host."),
        ),
        Some(1) => {
            let in_group = |asker: &Asker| group.is_some_and(|group| asker.groups.iter().any(|&own| i64::from(own) == group));
            match asker {
                Some(asker) if asker.is_admin || in_group(asker) => {}
                Some(asker) => finding.problem(severity, format!("kernel.io_uring_disabled is 1 and {} is neither privileged nor in kernel.io_uring_group{until}", asker.who), enable()),
                None => finding.warn("kernel.io_uring_disabled is 1: only privileged processes and the group kernel.io_uring_group may use io_uring", enable()),
            }
        }
        Some(value) => finding.problem(severity, format!("kernel.io_uring_disabled is {value}: no process may set up io_uring{until}"), enable()),
    }
}

fn judge_memlock(host: &Host, finding: &mut Finding, asker: &Asker, cores: u64) {
    let (Some(limit), false) = (asker.memlock, asker.may_lock_any) else { return };
    // The rings that it holds fitted into the limit.
    if asker.rings.is_some_and(|rings| rings as u64 >= cores) {
        return;
    }
    let need = cores.saturating_mul(RING_BYTES);
    let advice = || Service::of(host, Runtime::Iggy).set(host, "LimitMEMLOCK=infinity");
    if limit < RING_BYTES {
        finding.fail(
            format!(
                "{} may lock {}, less than the {} that the ring of one shard takes",
                asker.who,
                bytes(limit),
                bytes(RING_BYTES)
            ),
            advice(),
        );
    } else if limit < need {
        finding.warn(
            format!(
                "{} may lock {}, less than the {} that the rings of {cores} shards take",
                asker.who,
                bytes(limit),
                bytes(need)
            ),
            advice(),
        );
    }
}

fn memlock_value(asker: &Asker) -> Value {
    match asker.memlock {
        _ if asker.may_lock_any => "any amount (CAP_IPC_LOCK)".into(),
        None => "unlimited".into(),
        Some(limit) => Value::Bytes(limit),
    }
}

fn asker(host: &Host) -> Result<Option<Asker>> {
    if let Some(process) = iggy::processes(host).into_iter().find(|process| process.runtime == Runtime::Iggy)
    {
        let path = |file| format!("/proc/{}/{file}", process.pid);
        let (limits, status) = (host.read(&path("limits")).if_any()?, host.read(&path("status")).if_any()?);
        if let (Some(limits), Some(status)) = (limits, status) {
            let asker = asker_of_process(process.pid, &limits, &status)?;
            return Ok(Some(Asker { rings: rings(host, process.pid), ..asker }));
        }
    }
    asker_of_unit(host)
}

impl Asker {
    fn holds_rings(&self) -> bool {
        self.rings.is_some_and(|rings| rings > 0)
    }
}

fn rings(host: &Host, pid: u32) -> Option<usize> {
    let descriptors = iggy::first_descriptors(host, pid);
    let rings = descriptors.iter().filter(|(_, target)| target == RING).count();
    (!descriptors.is_empty()).then_some(rings)
}

fn asker_of_process(pid: u32, limits: &str, status: &str) -> Result<Asker> {
    let what = || format!("/proc/{pid}/limits");
    let line = limits.lines().find_map(|line| line.strip_prefix("Max locked memory"));
    let soft = line
        .and_then(|line| line.split_ascii_whitespace().next())
        .ok_or_else(|| Error::parse(what(), "no locked memory"))?;
    let memlock = match soft {
        "unlimited" => None,
        number => {
            Some(number.parse().map_err(|_| Error::parse(what(), format!("`{number}` is not a number")))?)
        }
    };
    let effective =
        proc::field(status, "CapEff").and_then(|mask| u64::from_str_radix(mask, 16).ok()).unwrap_or(0);
    let groups = ["Gid", "Groups"].into_iter().filter_map(|name| proc::field(status, name));
    Ok(Asker {
        who: format!("the running server (pid {pid})"),
        memlock,
        may_lock_any: effective >> CAP_IPC_LOCK & 1 == 1,
        is_admin: effective >> CAP_SYS_ADMIN & 1 == 1,
        groups: groups.flat_map(str::split_ascii_whitespace).filter_map(|word| word.parse().ok()).collect(),
        seccomp: proc::field(status, "Seccomp").map(|mode| mode == "2"),
        rings: None,
    })
}

/// What the unit would give its process. A bus that does not answer leaves only the kernel to judge.
fn asker_of_unit(host: &Host) -> Result<Option<Asker>> {
    let Some(settings) = host.settings().if_any()? else { return Ok(None) };
    let Ok(unit) = host.unit(&settings.iggy_unit) else { return Ok(None) };
    if !unit.is_loaded() {
        return Ok(None);
    }
    let is_root = matches!(unit.text("User"), None | Some("root" | "0"));
    Ok(Some(Asker {
        who: settings.iggy_unit,
        memlock: unit.number("LimitMEMLOCKSoft").or_else(|| unit.number("LimitMEMLOCK")),
        may_lock_any: is_root,
        is_admin: is_root,
        groups: Vec::new(),
        seccomp: None,
        rings: None,
    }))
}

fn number_if_any(host: &Host, path: &str) -> Result<Option<i64>> {
    host.number(path).if_any()
}

/// `6.1` of `6.1.0-28-amd64`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut parts = release.split(|character: char| !character.is_ascii_digit());
    Some((parts.next()?.parse().ok()?, parts.next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warden_host::{Data, Recorded, Request, Uname};

    use super::*;
    use crate::units::testing::settings;

    const OPEN: &str = "Name:\tiggy-server\nGid:\t1000\t1000\t1000\t1000\nGroups:\t1000 44\nCapEff:\t0000000000000000\nSeccomp:\t0\n";

    fn kernel(release: &str) -> Recorded {
        let release = release.to_owned();
        let uname = Uname {
            release,
            system: String::new(),
            node: String::new(),
            version: String::new(),
            machine: String::new(),
        };
        Recorded::complete()
            .with(Request::Uname, Data::Uname(uname))
            .file("/sys/devices/system/cpu/online", "0-3\n")
    }

    fn with_unit(host: Recorded, user: &str, memlock: u64) -> Finding {
        let properties = json!({"LoadState": "loaded", "User": user, "LimitMEMLOCK": u64::MAX, "LimitMEMLOCKSoft": memlock});
        run(&host.settings(settings()).unit("iggy.service", properties).host()).unwrap()
    }

    fn open() -> Recorded {
        kernel("6.8.0-45-generic").file("/proc/sys/kernel/io_uring_disabled", "0\n")
    }

    #[test]
    fn a_current_kernel_passes_even_without_iggy() {
        let finding = run(&open().host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(
            finding.summary,
            "Iggy can use io_uring on kernel 6.8.0-45-generic (no Iggy server or unit was found to judge its limits)"
        );
    }

    /// A server that holds rings, under a seccomp filter.
    fn serving(host: Recorded) -> Recorded {
        let status = OPEN.replace("Seccomp:\t0", "Seccomp:\t2");
        let host = host
            .settings(settings())
            .file("/proc/70/stat", &iggy::tests::stat_line(70, "iggy-server", 'S'))
            .file("/proc/70/limits", "Max locked memory         8388608     8388608     bytes\n")
            .file("/proc/70/status", &status);
        iggy::tests::link(host, "/proc/70/fd/4", RING)
    }

    #[test]
    fn a_number_alone_warns_and_what_shows_a_newer_io_uring_counts_more() {
        assert_eq!(run(&kernel("5.19.0").host()).unwrap().verdict(), Verdict::Pass);
        let old = run(&kernel("5.15.0-91-generic").host()).unwrap();
        assert_eq!(old.verdict(), Verdict::Warn);
        assert_eq!(
            old.summary,
            "Iggy may not be able to use io_uring on kernel 5.15.0-91-generic (no Iggy server or unit was found to judge its limits)"
        );
        let carried_back = kernel("5.14.0-611.el9.x86_64").file("/proc/sys/kernel/io_uring_disabled", "0\n");
        assert_eq!(run(&carried_back.host()).unwrap().verdict(), Verdict::Pass);
        let serving = run(&serving(kernel("5.15.0-91-generic")).host()).unwrap();
        assert_eq!(
            (serving.verdict(), serving.summary.as_str()),
            (
                Verdict::Pass,
                "Iggy uses io_uring on kernel 5.15.0-91-generic (judged for the running server (pid 70))"
            )
        );
    }

    #[test]
    fn a_switch_that_was_turned_under_a_running_server_warns_of_its_next_start() {
        let turned = serving(kernel("6.8.0").file("/proc/sys/kernel/io_uring_disabled", "2"));
        let finding = run(&turned.host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "kernel.io_uring_disabled is 2: no process may set up io_uring; the next start will fail"
        );
    }

    #[test]
    fn a_new_kernel_without_the_switch_has_no_io_uring() {
        assert_eq!(run(&kernel("6.5.9").host()).unwrap().verdict(), Verdict::Pass);
        assert_eq!(run(&kernel("6.6.0").host()).unwrap().verdict(), Verdict::Fail);
    }

    #[test]
    fn a_disabled_io_uring_fails_and_a_restricted_one_warns_or_fails() {
        let disabled = |value| {
            kernel("6.8.0")
                .file("/proc/sys/kernel/io_uring_disabled", value)
                .file("/proc/sys/kernel/io_uring_group", "44")
        };
        let none = run(&disabled("2").host()).unwrap();
        assert_eq!(none.problems[0].text, "kernel.io_uring_disabled is 2: no process may set up io_uring");
        assert_eq!(run(&disabled("1").host()).unwrap().verdict(), Verdict::Warn);
        assert_eq!(with_unit(disabled("1"), "iggy", u64::MAX).verdict(), Verdict::Fail);
        assert_eq!(with_unit(disabled("1"), "root", u64::MAX).verdict(), Verdict::Pass);
    }

    #[test]
    fn a_process_in_the_group_may_use_a_restricted_io_uring() {
        let asker =
            asker_of_process(7, "Max locked memory         8388608     8388608     bytes\n", OPEN).unwrap();
        assert_eq!(
            (asker.memlock, asker.may_lock_any, asker.groups.contains(&44)),
            (Some(8_388_608), false, true)
        );
        let mut finding = Finding::new("");
        judge_switch(&mut finding, (6, 8), Some(1), Some(44), Some(&asker));
        assert_eq!(finding.verdict(), Verdict::Pass);
        judge_switch(&mut finding, (6, 8), Some(1), Some(45), Some(&asker));
        assert_eq!(finding.verdict(), Verdict::Fail);
    }

    #[test]
    fn locked_memory_is_judged_by_the_shards_of_the_cores() {
        let verdicts = [u64::MAX, 4 * RING_BYTES, 4 * RING_BYTES - 1, RING_BYTES, RING_BYTES - 1]
            .map(|limit| with_unit(open(), "iggy", limit).verdict());
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Pass, Verdict::Warn, Verdict::Warn, Verdict::Fail]);
        let small = with_unit(open(), "iggy", 65_536);
        assert_eq!(
            small.problems[0].text,
            "iggy.service may lock 64 KiB, less than the 400 KiB that the ring of one shard takes"
        );
        assert_eq!(with_unit(open(), "root", 65_536).verdict(), Verdict::Pass);
    }

    #[test]
    fn torn_limits_and_a_denied_switch_are_unknown() {
        assert!(asker_of_process(7, "Max open files 1 1 files\n", OPEN).is_err());
        assert!(run(&kernel("6.8.0").denied("/proc/sys/kernel/io_uring_disabled").host()).is_err());
        assert!(run(&kernel("odd").host()).is_err());
    }
}
