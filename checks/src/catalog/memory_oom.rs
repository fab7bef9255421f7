//! memory-oom: did the kernel kill anything for want of memory.

use warden_host::proc::{Mount, counter};
use warden_host::quantity::count;
use warden_host::{Failure, Host, IfAny, LogText, Settings};

use crate::cgroup::{self, Place, Version};
use crate::iggy::{self, Runtime};
use crate::oom::{Kill, kills};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict,
    shape,
};

pub const CHECK: Check = Check {
    id: "memory-oom",
    area: Area::Memory,
    title: "Was anything killed for want of memory?",
    why: "A killed Iggy loses the messages that were not yet flushed, and says nothing in its own log: the next start \
          looks like any other. The kernel's log, the kernel's counter and the unit's control group remember it.",
    reads: &[
        Read::KernelLog,
        Read::Path("/proc/vmstat"),
        Read::Path("/proc/[pid]/cgroup"),
        Read::Path("/proc/self/mountinfo"),
        Read::Path("/sys/fs/cgroup/**"),
        Read::Units,
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "warns about any kill in the last 24 h",
        "fails when a runtime was killed, by the log, its control group or its unit's last result",
        "notes kills since boot of which the last 24 h say nothing",
    ],
    advice: "Give the machine or the unit more memory, or lower Iggy's memory_pool.size.",
    deadline: DEADLINE,
    run,
};

const WINDOW_SECONDS: i64 = 86_400;

fn run(host: &Host) -> Result<Finding> {
    let clock = host.clock()?;
    let settings = host.settings().if_any()?;
    let since_boot = host.read("/proc/vmstat").if_any()?.and_then(|text| counter(&text, "oom_kill"));
    let log = host.kernel_log();
    let kills = match &log {
        Ok(log) => kills(shape::newest(log, clock, WINDOW_SECONDS)),
        // The counter alone can say that nothing was killed, and that something was.
        Err(_) if since_boot.is_some() => Vec::new(),
        Err(error) => return Err(error.clone()),
    };
    let groups = groups(host, settings.as_ref())?;

    let mut finding = Finding::new("");
    judge_kills(&mut finding, &kills, settings.as_ref());
    let runtimes_named = finding.verdict() == Verdict::Fail;
    for (group, kills) in groups.iter().filter_map(|group| Some((group, group.kills?))) {
        if kills == 0 || runtimes_named {
            continue;
        }
        let text = format!("{} in the control group of {}", count(kills, "kill", "kills"), group.name);
        // A group that was found by a process has no name that systemctl knows.
        let advice = match group.name.contains(" (pid ") {
            true => Advice::text(CHECK.advice),
            false => Advice::run(
                CHECK.advice,
                format!("systemctl show -p MemoryMax,MemoryPeak,Result '{}'", group.name),
            ),
        };
        finding.fail(text, advice);
    }
    for (group, path) in groups.iter().filter_map(|group| Some((group, group.hidden.as_ref()?))) {
        let text = format!(
            "the kills in the control group of {} are unknown: no mount here shows {path}",
            group.name
        );
        finding.note(text, Advice::text("Run Warden on the host, outside of the container."));
    }
    judge_unit_results(host, settings.as_ref(), &mut finding);
    let older = since_boot.unwrap_or(0).saturating_sub(kills.len() as u64);
    match &log {
        // Since a boot of less than a day ago they are of the last day, whatever the log would say.
        Err(error) if older > 0 => finding.problem(
            if clock.up_us < WINDOW_SECONDS * 1_000_000 { Verdict::Warn } else { Verdict::Note },
            format!("{} since boot; which and when cannot be told: {error}", count(older, "kill", "kills")),
            Advice::text(
                "Run Warden as root, or let its user read the kernel's log (group systemd-journal or adm).",
            ),
        ),
        Ok(_) if older > 0 => finding.note(
            format!(
                "{} since boot of which the kernel's log of the last 24 h says nothing",
                count(older, "kill", "kills")
            ),
            Advice::run("Look further back.", "journalctl -k -o short-iso | grep -i 'killed process'"),
        ),
        _ => {}
    }

    let found = count(kills.len() as u64, "process was", "processes were");
    finding.summary = match (&log, since_boot) {
        (Ok(_), Some(since_boot)) => {
            format!("{found} killed for want of memory in 24 h, {since_boot} since boot")
        }
        (Ok(_), None) => format!("{found} killed for want of memory in 24 h"),
        (Err(_), _) => {
            format!("{} for want of memory since boot", count(since_boot.unwrap_or(0), "kill", "kills"))
        }
    };
    finding.show(Evidence::Fields(fields(&log, since_boot, &groups)));
    if !kills.is_empty() {
        finding.show(Evidence::Table(table(&kills, settings.as_ref())));
    }
    Ok(finding)
}

fn judge_kills(finding: &mut Finding, kills: &[Kill], settings: Option<&Settings>) {
    let advice = || {
        Advice::run(CHECK.advice, "journalctl -k -o short-iso --since=-24h | grep -iE 'oom|killed process'")
    };
    for kill in kills.iter().filter(|kill| kill.is_runtime(settings)) {
        let size = kill
            .resident
            .map_or_else(String::new, |bytes| format!(" at {}", warden_host::quantity::bytes(bytes)));
        let whose = if kill.of_cgroup_limit { "its control group's limit" } else { "the machine's memory" };
        let when = kill
            .at_us
            .map_or_else(String::new, |at| format!(" at {}", Value::Time(at.div_euclid(1_000_000))));
        finding
            .fail(format!("{} (pid {}) was killed{when}{size}, for {whose}", kill.name, kill.pid), advice());
    }
    let others: Vec<&str> =
        kills.iter().filter(|kill| !kill.is_runtime(settings)).map(|kill| kill.name.as_str()).collect();
    if !others.is_empty() {
        let mut names = others.clone();
        names.sort_unstable();
        names.dedup();
        names.truncate(8);
        let text = format!(
            "{} in 24 h, of {}",
            count(others.len() as u64, "other kill", "other kills"),
            names.join(", ")
        );
        finding.warn(text, advice());
    }
}

fn judge_unit_results(host: &Host, settings: Option<&Settings>, finding: &mut Finding) {
    for runtime in Runtime::ALL {
        let Some(name) = settings.map(|settings| runtime.unit(settings)) else { continue };
        if host.unit(name).is_ok_and(|unit| unit.text("Result") == Some("oom-kill")) {
            let advice = Advice::run(CHECK.advice, format!("systemctl status '{name}'"));
            finding.fail(format!("the last run of {name} ended in a kill for want of memory"), advice);
        }
    }
}

/// Kills that a control group of the runtimes counts, the oldest since the unit was started.
struct Group {
    name: String,
    kills: Option<u64>,
    /// The path of a group that no mount here shows.
    hidden: Option<String>,
}

fn groups(host: &Host, settings: Option<&Settings>) -> Result<Vec<Group>> {
    let text = host.read("/proc/self/mountinfo").if_any()?;
    let mounts = Mount::parse_all(text.as_deref().unwrap_or(USUAL_MOUNTS));
    let mut places: Vec<(String, Place)> = Vec::new();
    for runtime in Runtime::ALL {
        let Some(name) = settings.map(|settings| runtime.unit(settings)) else { continue };
        let unit = host.unit(name).ok();
        let Some(path) = unit.as_ref().and_then(|unit| unit.text("ControlGroup")) else { continue };
        for version in [Version::One, Version::Two] {
            places.push((name.to_owned(), cgroup::place(&mounts, version, "memory", path)));
        }
    }
    for process in iggy::processes(host) {
        let name = format!("{} (pid {})", process.runtime.program(), process.pid);
        if let Some(text) = host.read(&format!("/proc/{}/cgroup", process.pid)).if_any()? {
            places.push((name, cgroup::of_process(&mounts, &text, "memory")));
        }
    }
    let mut groups: Vec<Group> = Vec::new();
    let mut files: Vec<String> = Vec::new();
    for (name, place) in places {
        let group = match place {
            Place::Here(group) => group,
            Place::Hidden(path) => {
                groups.push(Group { name, kills: None, hidden: Some(path) });
                continue;
            }
            Place::Nowhere => continue,
        };
        let file = match group.version {
            Version::Two => group.file("memory.events"),
            Version::One => group.file("memory.oom_control"),
        };
        // The top of version 1 counts the whole machine and is nobody's, unless it has a limit: then it is a
        // container's own. That of version 2 is a container's own, and the machine's has no counter.
        let is_machine = group.version == Version::One && group.path == "/" && group.from_top;
        if files.contains(&file) || is_machine && !is_limited(host, &group)? {
            continue;
        }
        let kills = host.read(&file).if_any()?.and_then(|text| counter(&text, "oom_kill"));
        files.push(file);
        groups.extend(kills.map(|kills| Group { name, kills: Some(kills), hidden: None }));
    }
    Ok(groups)
}

/// Where they are without a word of the mounts.
const USUAL_MOUNTS: &str = "1 0 0:1 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n\
                            2 0 0:2 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n";

/// The largest number of whole pages is no limit; nothing real comes near.
const UNLIMITED: u64 = 1 << 60;

fn is_limited(host: &Host, group: &cgroup::Group) -> Result<bool> {
    let limit = host.value(&group.file("memory.limit_in_bytes")).if_any()?;
    Ok(limit.and_then(|limit| limit.parse::<u64>().ok()).is_some_and(|limit| limit < UNLIMITED))
}

fn fields(log: &Result<LogText, Error>, since_boot: Option<u64>, groups: &[Group]) -> Fields {
    let read = match log {
        Ok(log) if log.cut => format!("{}, older lines cut", log.source),
        Ok(log) => log.source.clone(),
        Err(Error::Host(Failure { cause, .. })) => cause.to_string(),
        Err(error) => error.to_string(),
    };
    let mut fields = Fields::new("Where kills are counted")
        .row("kernel's log", read)
        .row("kernel's counter since boot", since_boot);
    for group in groups {
        fields = fields.row(format!("control group of {}", group.name), group.kills);
    }
    fields
}

fn table(kills: &[Kill], settings: Option<&Settings>) -> Table {
    let mut table =
        Table::new("Killed in the last 24 h", ["when", "program", "pid", "resident", "control group", "for"]);
    for kill in kills {
        let cells = [
            kill.at_us.map_or(Value::Nothing, |at| Value::Time(at.div_euclid(1_000_000))),
            Value::Code(kill.name.clone()),
            i64::from(kill.pid).into(),
            kill.resident.map_or(Value::Nothing, Value::Bytes),
            kill.cgroup.clone().map_or(Value::Nothing, Value::Code),
            if kill.of_cgroup_limit { "the group's limit".into() } else { "the machine's memory".into() },
        ];
        table.marked_row(if kill.is_runtime(settings) { Verdict::Fail } else { Verdict::Warn }, cells);
    }
    table
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, LogLine, Recorded, Request};

    use super::*;

    const NOW: i64 = 1_800_000_000;

    fn host(oom_kills: u64, lines: &[(i64, &str)]) -> Recorded {
        let lines = lines.iter().map(|(ago, text)| LogLine {
            at_us: Some((NOW - ago) * 1_000_000),
            level: None,
            origin: String::new(),
            text: (*text).to_owned(),
        });
        let log = LogText { lines: lines.collect(), cut: false, source: "journal".to_owned() };
        Recorded::complete()
            .at(NOW, 900_000)
            .file("/proc/vmstat", &format!("oom_kill {oom_kills}\n"))
            .log(Request::KernelLog, log)
    }

    const SERVER: &str = "Memory cgroup out of memory: Killed process 4711 (iggy-server) total-vm:900kB, anon-rss:2048kB, file-rss:0kB, shmem-rss:0kB, UID:998";
    const OTHER: &str = "Out of memory: Killed process 12 (a) b) total-vm:900kB, anon-rss:1kB, file-rss:0kB";

    #[test]
    fn nothing_killed_passes() {
        let finding = run(&host(0, &[]).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "0 processes were killed for want of memory in 24 h, 0 since boot");
    }

    #[test]
    fn a_killed_program_warns_and_a_killed_runtime_fails() {
        let other = run(&host(1, &[(60, OTHER)]).host()).unwrap();
        assert_eq!(other.verdict(), Verdict::Warn);
        assert_eq!(other.problems[0].text, "1 other kill in 24 h, of a) b");
        let server = run(&host(1, &[(30, SERVER)]).host()).unwrap();
        assert_eq!(server.verdict(), Verdict::Fail);
        assert_eq!(
            server.problems[0].text,
            "iggy-server (pid 4711) was killed at 2027-01-15T07:59:30Z at 2 MiB, for its control group's limit"
        );
    }

    #[test]
    fn kills_older_than_a_day_are_noted() {
        let finding = run(&host(2, &[(86_401, SERVER)]).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(
            finding.problems[0].text,
            "2 kills since boot of which the kernel's log of the last 24 h says nothing"
        );
    }

    #[test]
    fn the_control_group_of_a_running_server_remembers() {
        let stat = "7 (iggy-server) S 1 7 7 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0";
        let host = host(1, &[])
            .file("/proc/7/stat", stat)
            .file("/proc/7/cgroup", "0::/system.slice/iggy.service\n")
            .file(
                "/sys/fs/cgroup/system.slice/iggy.service/memory.events",
                "low 0\nhigh 3\nmax 9\noom 1\noom_kill 1\noom_group_kill 0\n",
            );
        let finding = run(&host.host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(finding.problems[0].text, "1 kill in the control group of iggy-server (pid 7)");
    }

    #[test]
    fn a_container_remembers_in_its_own_group_which_it_sees_as_the_top() {
        let stat = "1 (iggy-server) S 0 1 1 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0";
        let host = host(1, &[])
            .file("/proc/1/stat", stat)
            .file("/proc/1/cgroup", "0::/\n")
            .file("/sys/fs/cgroup/memory.events", "oom 2\noom_kill 2\n");
        let finding = run(&host.host()).unwrap();
        assert_eq!(finding.problems[0].text, "2 kills in the control group of iggy-server (pid 1)");
    }

    #[test]
    fn a_container_of_the_first_hierarchy_remembers_at_the_root_of_its_mount() {
        let stat = "1 (iggy-server) S 0 1 1 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0";
        let with = |root: &str, path: &str, limit: &str| {
            let mount = format!("33 30 0:29 {root} /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n");
            let host = host(0, &[])
                .file("/proc/self/mountinfo", &mount)
                .file("/proc/1/stat", stat)
                .file("/proc/1/cgroup", &format!("8:memory:{path}\n"))
                .file("/sys/fs/cgroup/memory/memory.limit_in_bytes", limit)
                .file("/sys/fs/cgroup/memory/memory.oom_control", "under_oom 0\noom_kill 3\n");
            run(&host.host()).unwrap()
        };
        let killed = "3 kills in the control group of iggy-server (pid 1)";
        let unlimited = "9223372036854771712\n";
        assert_eq!(with("/docker/1", "/docker/1", unlimited).problems[0].text, killed);
        assert_eq!(with("/", "/", "2147483648\n").problems[0].text, killed);
        assert_eq!(with("/", "/", unlimited).verdict(), Verdict::Pass, "the kills of the whole machine");
        assert_eq!(
            with("/docker/1", "/docker/2", unlimited).problems[0].text,
            "the kills in the control group of iggy-server (pid 1) are unknown: no mount here shows /docker/2"
        );
    }

    #[test]
    fn without_the_log_the_counter_speaks_and_without_both_nothing_can_be_told() {
        let denied = |kills| host(kills, &[]).without(Request::KernelLog, Cause::Denied);
        let quiet = run(&denied(0).host()).unwrap();
        assert_eq!(
            (quiet.verdict(), quiet.summary.as_str()),
            (Verdict::Pass, "0 kills for want of memory since boot")
        );
        let some = run(&denied(3).host()).unwrap();
        assert_eq!(some.verdict(), Verdict::Note);
        assert_eq!(run(&denied(3).at(NOW, 3600).host()).unwrap().verdict(), Verdict::Warn);
        assert_eq!(
            some.problems[0].text,
            "3 kills since boot; which and when cannot be told: kernel-log: permission denied"
        );
        let blind = denied(0).without(Request::File { path: "/proc/vmstat".to_owned() }, Cause::Absent);
        assert!(run(&blind.host()).is_err());
    }
}
