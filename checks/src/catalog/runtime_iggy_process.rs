//! runtime-iggy-process: is the server's process itself well.

use warden_host::proc::{ProcessStat, TICKS, field, kibibytes};
use warden_host::quantity::{bytes, duration};
use warden_host::{Host, Kind, UnitProperties};

use crate::iggy::{self, Runtime, Service, held};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Series, Table, Unit as In, Value,
    quoted,
};

mod start;

pub const CHECK: Check = Check {
    id: "runtime-iggy-process",
    area: Area::Runtime,
    title: "Is the Iggy process itself well?",
    why: "The server is one process with one pinned thread, a shard, for each core; each shard owns its partitions \
          and its own io_uring. A missing shard, a stopped process or a second server on the same data directory \
          loses messages while the unit still looks active.",
    reads: &[
        Read::Group(iggy::READS),
        Read::Sample("/proc/[pid]/stat"),
        Read::Path("/proc/[pid]/status"),
        Read::Path("/proc/[pid]/task/*/stat"),
        Read::Path("/proc/[pid]/fdinfo/*"),
        Read::Path("/proc/[pid]/root/**"),
        Read::Path("/**"),
        Read::Path("/proc/self/mountinfo"),
        Read::Path("/etc/fstab"),
        Read::Path("/etc/passwd"),
        Read::Path("/etc/group"),
        Read::Path("/proc/[pid]/mountinfo"),
        Read::Space,
    ],
    thresholds: &[
        "fails when the data directory was deleted, replaced or renamed under the running server, before all else: the report then advises no stop and no restart",
        "fails when the filesystem of the data is not mounted or read-only, when the server's user cannot use the directory or read its TLS key, and when a server runs on an empty directory beside its data",
        "fails when the unit is enabled and no server runs",
        "fails when the process is stopped, a shard thread is missing, or two servers share a data directory",
        "warns when more than 1 MiB of it is swapped out, or an io_uring completion queue has overflowed",
        "notes a server that was started less than 10 minutes ago",
    ],
    advice: "Read what the server said before it: logs-iggy, and the journal of its unit.",
    deadline: DEADLINE,
    run,
};

/// Less is a page touched at the start and never again.
const SWAPPED_BYTES: u64 = 1 << 20;
const YOUNG_SECONDS: f64 = 600.0;
/// Servers that are looked at on one host; more is a test bed.
const PROCESSES: usize = 8;
/// Bars that still read well.
const BARS: usize = 64;

fn run(host: &Host) -> Result<Finding> {
    host.read_all("/proc/[pid]/stat")?;
    let pids: Vec<u32> = iggy::processes(host)
        .into_iter()
        .filter(|process| process.runtime == Runtime::Iggy)
        .map(|process| process.pid)
        .collect();
    if pids.is_empty() {
        return not_running(host);
    }
    let mut finding = Finding::new("");
    for loss in held::losses(host) {
        finding.problem(loss.severity(), loss.sentence(), loss.advice(host));
        loss.steps(host).into_iter().for_each(|steps| finding.show(Evidence::Text(steps)));
    }
    start::judge_running(host, &mut finding);
    judge_working_directories(host, &mut finding, &pids);
    let samples = host.sample("/proc/[pid]/stat")?;
    let is_readable =
        |text: &Option<String>| text.as_deref().is_some_and(|text| ProcessStat::parse(text).is_some());
    if !samples.files.iter().any(|file| is_readable(&file.second)) {
        return Err(Error::parse("/proc/[pid]/stat", "no process could be read"));
    }
    let up = host.clock()?.up_us as f64 / 1e6;
    let mut table = Table::new(
        "Server processes",
        [
            "process", "user", "state", "runs for", "threads", "shards", "resident", "peak", "swapped",
            "CPU", "files",
        ],
    );
    let mut chart = Series::bars("CPU time of each shard since its start", In::Seconds, ["user", "system"]);
    for &pid in pids.iter().take(PROCESSES) {
        let path = format!("/proc/{pid}/stat");
        let sample = samples.files.iter().find(|file| file.path == path);
        let parse = |text: &Option<String>| text.as_deref().and_then(ProcessStat::parse);
        let (first, last) = sample.map_or((None, None), |file| (parse(&file.first), parse(&file.second)));
        let Some(last) = last.or_else(|| host.read(&path).ok().and_then(|text| ProcessStat::parse(&text)))
        else {
            let advice = Advice::run("It may have just ended; look again.", format!("ls -l /proc/{pid}/exe"));
            finding.warn(format!("process {pid} went away while it was looked at"), advice);
            continue;
        };
        let age = (up - last.start_ticks as f64 / TICKS).max(0.0);
        let status = host.read(&format!("/proc/{pid}/status")).unwrap_or_default();
        let shards = shards(host, pid);
        let files = host.list(&format!("/proc/{pid}/fd"));
        judge_state(&mut finding, &last, age);
        judge_shards(host, &mut finding, pid, &shards);
        let swapped = kibibytes(&status, "VmSwap");
        if let Some(swapped) = swapped.filter(|&swapped| swapped > SWAPPED_BYTES) {
            let advice = Advice::run(
                "Give the machine more memory, or keep the kernel from swapping the broker.",
                "sysctl -w vm.swappiness=10",
            );
            finding.warn(format!("{} of process {pid} is swapped out", bytes(swapped)), advice);
        }
        match &files {
            Ok(_) => judge_rings(host, &mut finding, pid),
            Err(error) => {
                let advice = Advice::text("Run as root or give Warden CAP_SYS_PTRACE.");
                finding
                    .note(format!("open files and rings of process {pid} cannot be seen: {error}"), advice);
            }
        }
        let percent = first.map(|first| cpu_percent(&first, &last, samples.seconds()));
        table.row([
            pid.to_string().into(),
            field(&status, "Uid").and_then(|uids| uids.split_whitespace().next()).into(),
            last.state.to_string().into(),
            Value::Seconds(age),
            last.threads.into(),
            shards.len().into(),
            kibibytes(&status, "VmRSS").map_or(Value::Nothing, Value::Bytes),
            kibibytes(&status, "VmHWM").map_or(Value::Nothing, Value::Bytes),
            swapped.map_or(Value::Nothing, Value::Bytes),
            percent.map_or(Value::Nothing, Value::Percent),
            files.ok().map(|files| files.len()).into(),
        ]);
        for (number, stat) in shards.iter().take(BARS.saturating_sub(chart.points.len())) {
            let seconds = |ticks: u64| ticks as f64 / TICKS;
            chart.point(
                format!("{pid} shard-{number}"),
                [seconds(stat.user_ticks), seconds(stat.system_ticks)],
            );
        }
        if finding.summary.is_empty() {
            let resident = kibibytes(&status, "VmRSS").map_or("unknown".to_owned(), bytes);
            finding.summary = format!(
                "the server runs for {} with {} shards and {resident} resident",
                duration(age),
                shards.len()
            );
        }
    }
    judge_neighbours(host, &mut finding, &pids);
    note_strangers(host, &mut finding, &pids);
    if finding.summary.is_empty() {
        finding.summary = "the server went away while it was looked at".to_owned();
    }
    finding.show(Evidence::Table(table));
    if !chart.points.is_empty() {
        finding.show(Evidence::Series(chart));
    }
    Ok(finding)
}

fn not_running(host: &Host) -> Result<Finding> {
    let name = iggy::unit_of(host, Runtime::Iggy)?;
    let unit = host.unit(&name).ok().filter(UnitProperties::is_loaded);
    if let Some(unit) = unit {
        let enabled = unit.text("UnitFileState").unwrap_or("not enabled");
        let (active, result) =
            (unit.text("ActiveState").unwrap_or("unknown"), unit.text("Result").unwrap_or("unknown"));
        if !enabled.starts_with("enabled") {
            return Ok(Finding::skip(format!("no Iggy server runs here, and {name} is {enabled}")));
        }
        let mut finding = Finding::new("no Iggy server runs");
        start::judge_stopped(host, &mut finding, &unit);
        let advice = Advice::run(
            "See why it ended, mend that, and start it.",
            format!("journalctl -u {name} -n 100 --no-pager"),
        );
        let text =
            format!("{name} is enabled and no Iggy server runs (the unit is {active}, last result {result})");
        finding.fail(text, advice);
        return Ok(finding);
    }
    match iggy::data_directory(host) {
        None => Ok(Finding::skip("there is no Iggy server on this host")),
        Some(data) => {
            let mut finding = Finding::new("no Iggy server runs");
            let advice = Advice::text(
                "Start the server, or name its unit in Warden's configuration if it has another name.",
            );
            finding.note(
                format!("{} holds Iggy's data, and no server runs and there is no {name}", data.path),
                advice,
            );
            Ok(finding)
        }
    }
}

fn judge_state(finding: &mut Finding, stat: &ProcessStat, age: f64) {
    let pid = stat.pid;
    if matches!(stat.state, 'T' | 't') {
        let advice = Advice::run("Let it go on, unless somebody debugs it.", format!("kill -CONT {pid}"));
        finding
            .fail(format!("process {pid} is stopped by a signal or a debugger and answers nothing"), advice);
    }
    if age < YOUNG_SECONDS {
        let advice =
            Advice::text("If nobody started it, see units-runtimes and logs-iggy for why it ended before.");
        finding.note(format!("process {pid} was started only {} ago", duration(age)), advice);
    }
}

/// Number and times of every `shard-N` thread.
fn shards(host: &Host, pid: u32) -> Vec<(u64, ProcessStat)> {
    let tasks = host.read_all(&format!("/proc/{pid}/task/*/stat")).unwrap_or_default();
    let shard = |text: &str| {
        let stat = ProcessStat::parse(text)?;
        Some((stat.name.strip_prefix("shard-")?.parse().ok()?, stat))
    };
    let mut shards: Vec<(u64, ProcessStat)> = tasks.iter().filter_map(|task| shard(&task.text)).collect();
    shards.sort_by_key(|(number, _)| *number);
    shards.dedup_by_key(|(number, _)| *number);
    shards
}

/// A deleted working directory costs no data by itself, but the next start fails in it or looks elsewhere.
fn judge_working_directories(host: &Host, finding: &mut Finding, pids: &[u32]) {
    for &pid in pids.iter().take(PROCESSES) {
        let Ok(target) = host.link(&format!("/proc/{pid}/cwd")) else { continue };
        let Some(path) = target.strip_suffix(" (deleted)") else { continue };
        let advice = Advice::run(
            "Make it again before the next start; relative paths of the configuration (local_data, core/certs) begin there.",
            format!("mkdir -p {}", quoted(path)),
        );
        finding.warn(format!("the working directory {path} of process {pid} was deleted"), advice);
    }
}

fn judge_shards(host: &Host, finding: &mut Finding, pid: u32, shards: &[(u64, ProcessStat)]) {
    let Some(missing) = (0..).zip(shards).find(|(expected, (number, _))| expected != number) else { return };
    let restart =
        Service::of_process(host, pid).unwrap_or_else(|| Service::of(host, Runtime::Iggy)).restart();
    let advice = Advice::run("Restart the server; its partitions come back with it.", restart);
    finding.fail(
        format!("process {pid} has no thread shard-{}: the partitions of that shard are dead", missing.0),
        advice,
    );
}

/// Rings whose completions did not fit: the kernel keeps them aside, the shard sees them late (io_uring(7)).
fn judge_rings(host: &Host, finding: &mut Finding, pid: u32) {
    let rings = iggy::first_descriptors(host, pid)
        .into_iter()
        .filter(|(_, target)| target == "anon_inode:[io_uring]");
    let overflowed = rings.filter(|(number, _)| {
        let information = host.read(&format!("/proc/{pid}/fdinfo/{number}")).unwrap_or_default();
        let mut lines = information.lines().skip_while(|line| !line.starts_with("CqOverflowList:")).skip(1);
        lines.next().is_some_and(|line| line.starts_with(' '))
    });
    let count = overflowed.count();
    if count > 0 {
        let advice = Advice::text(
            "Its shard does not keep up: look at cpu-load and disk-latency, then at the load of its partitions.",
        );
        finding
            .warn(format!("{count} of the io_uring completion queues of process {pid} overflowed"), advice);
    }
}

/// A stranger's process counts as a server here, and nothing that it names is read anywhere.
fn note_strangers(host: &Host, finding: &mut Finding, pids: &[u32]) {
    for &pid in pids.iter().take(PROCESSES) {
        let process = iggy::Process { runtime: Runtime::Iggy, pid };
        if let Some(refused) = iggy::starter::refusal(host, &process) {
            let advice = Advice::run(
                "See who runs it; a server of your own runs as a unit, as root or as the user of the unit.",
                format!("ps -o user,pid,args -p {pid}"),
            );
            finding.note(format!("nothing is read of {refused}"), advice);
        }
    }
}

fn judge_neighbours(host: &Host, finding: &mut Finding, pids: &[u32]) {
    let mut homes: Vec<(String, u32)> = Vec::new();
    for &pid in pids.iter().take(PROCESSES) {
        let Some(path) = iggy::open_data_directory(host, pid) else { continue };
        // The same path in another container is another directory.
        let through = format!("/proc/{pid}/root{path}/streams");
        let directory = host.stat(&through).ok().filter(|stat| stat.kind == Kind::Directory);
        let home = directory.map_or(path.clone(), |stat| format!("{path} {}:{}", stat.device, stat.inode));
        match homes.iter().find(|(other, _)| *other == home) {
            Some((_, other)) => {
                let advice = Advice::run(
                    "Stop the one that should not run; then check the data (warden inspect).",
                    format!("ps -fp {other},{pid}"),
                );
                let text = format!(
                    "processes {other} and {pid} both write to {path}: Iggy has no lock, and each destroys the other's data"
                );
                finding.fail(text, advice);
            }
            None => homes.push((home, pid)),
        }
    }
}

fn cpu_percent(first: &ProcessStat, last: &ProcessStat, seconds: f64) -> f64 {
    let ticks = |stat: &ProcessStat| stat.user_ticks.saturating_add(stat.system_ticks);
    match seconds > 0.0 {
        true => ticks(last).saturating_sub(ticks(first)) as f64 / TICKS / seconds * 100.0,
        false => 0.0,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warden_host::{Cause, Data, Recorded, Request, Sample, Samples};

    use super::*;
    use crate::Verdict;
    use crate::iggy::tests::{directory, link, running, settings, stat_line};

    const STATUS: &str = "Uid:\t0\t0\t0\t0\nVmHWM:\t80000 kB\nVmRSS:\t72236 kB\nVmSwap:\t0 kB\n";

    fn sampled(recorded: Recorded, pids: &[u32], state: char) -> Recorded {
        let file = |pid: &u32| Sample {
            path: format!("/proc/{pid}/stat"),
            first: Some(stat_line(*pid, "iggy-server", state)),
            second: Some(stat_line(*pid, "iggy-server", state).replace(" 11 22 ", " 36 47 ")),
        };
        let samples = Samples { elapsed_us: 1_000_000, files: pids.iter().map(file).collect(), left_out: 0 };
        let request = Request::Sample { pattern: "/proc/[pid]/stat".to_owned() };
        recorded.with(request, Data::Samples(samples)).at(1_795_260_000, 10_000)
    }

    fn healthy() -> Recorded {
        let recorded = sampled(running(70), &[70], 'S')
            .file("/proc/70/status", STATUS)
            .file("/proc/70/task/71/stat", &stat_line(71, "shard-0", 'S'))
            .file("/proc/70/task/72/stat", &stat_line(72, "shard-1", 'S'))
            .file("/proc/70/fdinfo/4", "SqHead:\t950\nCqOverflowList:\nNAPI:\tdisabled\n");
        let recorded = link(recorded, "/proc/70/fd/4", "anon_inode:[io_uring]");
        link(recorded, "/proc/70/fd/5", "/d/logs/iggy-server.log")
    }

    fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    #[test]
    fn a_server_with_all_its_shards_passes() {
        let finding = of(healthy());
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "the server runs for 2 h 45 min with 2 shards and 70.5 MiB resident");
        let Evidence::Table(table) = &finding.evidence[0] else { panic!("a table comes first") };
        assert_eq!(table.rows[0].cells[9], Value::Percent(50.0));
        assert_eq!(table.rows[0].cells[10], Value::Count(2));
    }

    #[test]
    fn a_missing_shard_and_a_stopped_process_fail() {
        let torn =
            healthy().without(Request::File { path: "/proc/70/task/71/stat".to_owned() }, Cause::Absent);
        let finding = of(torn);
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(
            finding.problems[0].text,
            "process 70 has no thread shard-0: the partitions of that shard are dead"
        );
        assert_eq!(of(sampled(healthy(), &[70], 'T')).verdict(), Verdict::Fail);
    }

    #[test]
    fn swap_and_overflowed_rings_warn_and_a_young_server_is_noted() {
        let finding =
            of(healthy().file("/proc/70/status", &STATUS.replace("VmSwap:\t0 kB", "VmSwap:\t4096 kB")));
        assert_eq!(finding.problems[0].text, "4 MiB of process 70 is swapped out");
        let edge =
            of(healthy().file("/proc/70/status", &STATUS.replace("VmSwap:\t0 kB", "VmSwap:\t1024 kB")));
        assert_eq!(edge.verdict(), Verdict::Pass);
        let ring = "CqOverflowList:\n  user_data=1, res=0, flags=0\nNAPI:\tdisabled\n";
        assert_eq!(of(healthy().file("/proc/70/fdinfo/4", ring)).verdict(), Verdict::Warn);
        let young = of(healthy().at(1_795_260_000, 100));
        assert_eq!(young.problems[0].text, "process 70 was started only 54.3 s ago");
        assert_eq!(young.verdict(), Verdict::Note);
    }

    #[test]
    fn two_servers_on_one_data_directory_fail() {
        let second =
            sampled(healthy(), &[70, 80], 'S').file("/proc/80/stat", &stat_line(80, "iggy-server", 'S'));
        let finding = of(link(second, "/proc/80/fd/8", "/d/metadata/journal.wal"));
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert!(finding.problems[0].text.starts_with("processes 70 and 80 both write to /d"));
    }

    #[test]
    fn files_of_a_process_that_may_not_be_seen_are_said_to_be_unseen() {
        let denied = healthy().without(Request::List { path: "/proc/70/fd".to_owned() }, Cause::Denied);
        let finding = of(denied);
        assert_eq!(finding.verdict(), Verdict::Note);
        assert_eq!(
            finding.problems[0].text,
            "open files and rings of process 70 cannot be seen: list /proc/70/fd: permission denied"
        );
    }

    #[test]
    fn a_server_that_should_run_fails_and_one_that_need_not_is_skipped() {
        let stopped =
            |properties| of(Recorded::complete().settings(settings()).unit("iggy.service", properties));
        let failed = json!({ "LoadState": "loaded", "UnitFileState": "enabled", "ActiveState": "failed", "Result": "oom-kill" });
        let finding = stopped(failed);
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert!(finding.problems[0].text.ends_with("(the unit is failed, last result oom-kill)"));
        let disabled = stopped(json!({ "LoadState": "loaded", "UnitFileState": "disabled" }));
        assert_eq!(disabled.summary, "no Iggy server runs here, and iggy.service is disabled");
        let nothing = Recorded::complete().settings(settings());
        assert_eq!(of(nothing.clone()).verdict(), Verdict::Skip);
        assert_eq!(of(directory(nothing, "/var/lib/iggy/streams")).verdict(), Verdict::Note);
    }
}
