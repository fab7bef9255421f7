//! process-top: which processes use the machine that Iggy should have.

use warden_host::quantity::{bytes, count, duration, number};
use warden_host::{Host, IfAny};

use crate::process_samples::{self, Runtimes, STAT, Seen};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Series, Table, Unit, Value,
    Verdict, proc,
};

pub const CHECK: Check = Check {
    id: "process-top",
    area: Area::Process,
    title: "Who uses the machine?",
    why: "Iggy pins a shard to each core and lives on the page cache. A backup, an antivirus or a build that takes \
          a core or a quarter of the memory shows up as latency of every topic whose shard shares that core.",
    reads: &[
        Read::Sample(STAT),
        Read::Path("/proc/stat"),
        Read::Path("/proc/meminfo"),
        Read::Path("/proc/[pid]/status"),
        Read::Path("/proc/[pid]/io"),
        Read::Group(crate::iggy::READS),
    ],
    thresholds: &[
        "notes a process outside the runtimes that takes over 50 % of one core",
        "warns when it takes over 50 % of all cores, or over 25 % of the memory",
    ],
    advice: "Move batch work off the node, or confine it: give its unit CPUWeight=, CPUQuota= and MemoryMax=.",
    deadline: DEADLINE,
    run,
};

const CORE_PERCENT: f64 = 50.0;
const MACHINE_PERCENT: f64 = 50.0;
const MEMORY_PERCENT: f64 = 25.0;
/// Processes shown for each of CPU and memory: enough to see a pattern, and each costs two reads.
const SHOWN: usize = 10;

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process_samples::runtimes(host))
}

struct User<'a> {
    seen: &'a Seen,
    core_percent: f64,
    resident: Option<u64>,
    is_runtime: bool,
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let own = host.settings().map(|settings| settings.own_pid).ok();
    let sampled = process_samples::sampled(host)?;
    let cores = proc::CpuTimes::parse_all(&host.read("/proc/stat")?)?.len().saturating_sub(1).max(1) as f64;
    let memory = proc::kibibytes(&host.read("/proc/meminfo")?, "MemTotal")
        .filter(|&total| total > 0)
        .ok_or_else(|| Error::parse("/proc/meminfo", "no MemTotal"))?;

    let users = top(host, &sampled, runtimes, own)?;
    let mut finding = Finding::new("");
    let columns =
        ["process", "pid", "CPU of a core", "resident", "memory", "threads", "read", "written", "user id"];
    let mut table = Table::new("Largest users, by CPU", columns);
    let mut chart = Series::bars("CPU, in percent of one core", Unit::Percent, ["cpu"]);
    for user in &users {
        let stat = &user.seen.now;
        let memory_percent = user.resident.map(|resident| resident as f64 * 100.0 / memory as f64);
        let severity = if user.is_runtime {
            None
        } else {
            problem(&mut finding, user, user.core_percent / cores, memory_percent)
        };
        if chart.points.len() < SHOWN {
            chart.point(format!("{} ({})", stat.name, stat.pid), [user.core_percent]);
        }
        let io = host.read(&format!("/proc/{}/io", stat.pid)).unwrap_or_default();
        let transferred =
            |name| proc::field(&io, name).and_then(|value| value.parse().ok()).map(Value::Bytes);
        let status = host.read(&format!("/proc/{}/status", stat.pid)).unwrap_or_default();
        let cells = [
            Value::Code(stat.name.clone()),
            u64::from(stat.pid).into(),
            Value::Percent(user.core_percent),
            user.resident.map(Value::Bytes).into(),
            memory_percent.map(Value::Percent).into(),
            stat.threads.into(),
            transferred("read_bytes").into(),
            transferred("write_bytes").into(),
            proc::field(&status, "Uid").and_then(|ids| ids.split_whitespace().next()).into(),
        ];
        match severity {
            Some(severity) => table.marked_row(severity, cells),
            None => table.row(cells),
        }
    }
    let others =
        users.iter().filter(|user| !user.is_runtime).max_by(|a, b| a.core_percent.total_cmp(&b.core_percent));
    let busiest = others.map_or_else(String::new, |user| {
        let name = &user.seen.now.name;
        format!("; the busiest besides the runtimes, {name}, takes {} % of a core", number(user.core_percent))
    });
    let (all, over) = (sampled.processes.len() as u64, duration(sampled.seconds));
    finding.summary = format!("{} seen over {over}{busiest}", count(all, "process", "processes"));
    sampled.note_if_hidden(&mut finding);
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

/// The largest users of CPU and of memory and every runtime, busiest first. This process and the
/// programs that it runs are left out: they work hardest while it looks.
fn top<'a>(
    host: &Host,
    sampled: &'a process_samples::Sampled,
    runtimes: &Runtimes,
    own: Option<u32>,
) -> Result<Vec<User<'a>>> {
    let cpu = |seen: &Seen| seen.cpu_percent(sampled.seconds);
    let mut by_cpu: Vec<&Seen> = sampled
        .processes
        .iter()
        .filter(|seen| own.is_none_or(|own| seen.now.pid != own && (seen.now.parent != own || own == 1)))
        .collect();
    let mut by_memory = by_cpu.clone();
    by_cpu.sort_by(|a, b| cpu(b).total_cmp(&cpu(a)).then(a.now.pid.cmp(&b.now.pid)));
    by_memory.sort_by_key(|seen| (std::cmp::Reverse(seen.now.resident_pages), seen.now.pid));
    let large: Vec<u32> = by_memory.iter().take(SHOWN).map(|seen| seen.now.pid).collect();
    let mut users = Vec::new();
    for (rank, seen) in by_cpu.into_iter().enumerate() {
        let is_runtime = runtimes.contains_key(&seen.now.pid);
        if rank >= SHOWN && !is_runtime && !large.contains(&seen.now.pid) {
            continue;
        }
        // Pages differ in size between kernels; status says bytes. Kernel threads have no such line.
        let status = host.read(&format!("/proc/{}/status", seen.now.pid)).if_any()?;
        let resident = status.and_then(|status| proc::kibibytes(&status, "VmRSS"));
        users.push(User { seen, core_percent: cpu(seen), resident, is_runtime });
    }
    Ok(users)
}

fn problem(finding: &mut Finding, user: &User, machine: f64, memory: Option<f64>) -> Option<Verdict> {
    let (name, pid) = (&user.seen.now.name, user.seen.now.pid);
    let mut worst = None;
    if machine > MACHINE_PERCENT || user.core_percent > CORE_PERCENT {
        let severity = if machine > MACHINE_PERCENT { Verdict::Warn } else { Verdict::Note };
        let text = format!(
            "{name} (pid {pid}) takes {} % of one core, {} % of the machine",
            number(user.core_percent),
            number(machine)
        );
        finding.problem(severity, text, advice(user));
        worst = Some(severity);
    }
    if let Some(percent) = memory.filter(|&percent| percent > MEMORY_PERCENT) {
        let resident = bytes(user.resident.unwrap_or_default());
        let text = format!("{name} (pid {pid}) holds {resident}, {} % of the memory", number(percent));
        finding.warn(text, advice(user));
        worst = Some(Verdict::Warn);
    }
    worst
}

fn advice(user: &User) -> Advice {
    let pid = user.seen.now.pid;
    if user.seen.is_kernel_thread() {
        let text =
            "This is a thread of the kernel: see what it works on (reclaim, interrupts, a filesystem).";
        return Advice::run(text, format!("cat /proc/{pid}/stack"));
    }
    let text =
        "See which unit it belongs to; move it off the node, or give that unit CPUQuota= and MemoryMax=.";
    Advice::run(text, format!("systemctl status {pid}"))
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::iggy::Runtime;
    use crate::process_samples::testing::{stat, with_processes};

    /// Two cores, 100 MiB; the given process took `ticks` in one second and holds `mib`.
    fn with(ticks: u64, mib: u64) -> Recorded {
        let pair =
            |pid, name: &str, ticks| (Some(stat(pid, name, 'S', 1, 0)), Some(stat(pid, name, 'S', 1, ticks)));
        let processes = [pair(1, "systemd", 0), pair(7, "updatedb", ticks), pair(9, "iggy-server", 190)];
        with_processes(Recorded::complete(), &processes)
            .file("/proc/stat", "cpu  1 2 3 4\ncpu0 1 2 3 4\ncpu1 1 2 3 4\n")
            .file("/proc/meminfo", "MemTotal: 102400 kB\n")
            .file(
                "/proc/7/status",
                &format!("Name: updatedb\nUid:\t33\t33\t33\t33\nVmRSS:\t{} kB\n", mib * 1024),
            )
            .file("/proc/7/io", "rchar: 1\nread_bytes: 4096\nwrite_bytes: 0\n")
            .file("/proc/9/status", "VmRSS: 90000 kB\n")
    }

    fn judged(host: Recorded) -> Finding {
        judge(&host.host(), &Runtimes::from([(9, Runtime::Iggy)])).unwrap()
    }

    #[test]
    fn a_machine_that_belongs_to_iggy_passes() {
        let finding = judged(with(50, 25));
        assert_eq!(finding.verdict(), Verdict::Pass);
        let expected =
            "3 processes seen over 1 s; the busiest besides the runtimes, updatedb, takes 50 % of a core";
        assert_eq!(finding.summary, expected);
        let Evidence::Table(table) = &finding.evidence[1] else { panic!("a table") };
        assert_eq!(table.rows[0].cells[0], Value::Code("iggy-server".to_owned()));
        let cells: Vec<String> = table.rows[1].cells.iter().map(ToString::to_string).collect();
        assert_eq!(cells, ["updatedb", "7", "50 %", "25 MiB", "25 %", "1", "4 KiB", "0 B", "33"]);
    }

    #[test]
    fn over_half_a_core_is_noted_and_over_half_the_machine_warns() {
        let half = judged(with(100, 1));
        assert_eq!(half.verdict(), Verdict::Note);
        let most = judged(with(101, 1));
        assert_eq!(most.verdict(), Verdict::Warn);
        assert_eq!(most.problems[0].text, "updatedb (pid 7) takes 101 % of one core, 50.5 % of the machine");
        assert_eq!(most.problems[0].advice.command.as_deref(), Some("systemctl status 7"));
    }

    #[test]
    fn over_a_quarter_of_the_memory_warns() {
        let finding = judged(with(0, 26));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "updatedb (pid 7) holds 26 MiB, 26 % of the memory");
    }

    #[test]
    fn a_process_that_may_not_be_looked_into_still_shows_its_cpu() {
        let finding = judged(with(10, 1).denied("/proc/7/io"));
        assert_eq!(finding.verdict(), Verdict::Pass);
    }

    #[test]
    fn without_the_memory_size_nothing_is_claimed() {
        let host = with(0, 0).file("/proc/meminfo", "MemFree: 1 kB\n").host();
        let error = judge(&host, &Runtimes::new()).unwrap_err();
        assert_eq!(error.to_string(), "cannot understand /proc/meminfo: no MemTotal");
    }

    #[test]
    fn programs_that_this_process_runs_are_left_out() {
        let pair = |pid, name: &str, parent| {
            (Some(stat(pid, name, 'S', parent, 0)), Some(stat(pid, name, 'S', parent, 90)))
        };
        let processes = [pair(1, "systemd", 0), pair(40, "warden", 1), pair(41, "apt-get", 40)];
        let host = with_processes(with(0, 1), &processes);
        let run_by = |own_pid| warden_host::Settings { own_pid, ..crate::iggy::tests::settings() };
        let summary = |own_pid| judged(host.clone().settings(run_by(own_pid))).summary;
        assert!(summary(40).ends_with("besides the runtimes, systemd, takes 90 % of a core"));
        // In a container Warden may be process 1, and everybody its child.
        assert!(summary(1).contains("besides the runtimes"));
    }
}
