//! logs-crashes: did a runtime, or anything else, dump core.

use serde::Deserialize;
use warden_host::proc::{ProcessStat, TICKS};
use warden_host::quantity::count;
use warden_host::{Cause, Error, Failure, Host, IfAny, Kind};

use crate::iggy::{Runtime, log};
use crate::process_samples::{self, Runtimes};
use crate::rlimits::limit;
use crate::{Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "logs-crashes",
    area: Area::Logs,
    title: "Did anything dump core?",
    why: "A server that is killed by a signal writes nothing to its own log: the core is the only witness, and systemd \
          has restarted the server before anybody looked. A core also holds all that was in memory, messages and \
          passwords included, so it should not lie about.",
    reads: &[
        Read::Command("coredumpctl"),
        Read::Path("/proc/sys/kernel/core_pattern"),
        Read::Path("/var/lib/systemd/coredump"),
        Read::Path("/var/lib/systemd/coredump/*"),
        Read::Path("/var/lib/apport/coredump"),
        Read::Path("/var/lib/apport/coredump/*"),
        Read::Path("/var/crash"),
        Read::Path("/var/crash/*"),
        Read::Path("/proc/[pid]/cwd"),
        Read::Path("/proc/[pid]/cwd/*"),
        Read::Path("/proc/[pid]/limits"),
        Read::Journal,
        Read::Group(crate::iggy::READS),
    ],
    thresholds: &[
        "fails when a runtime dumped core in the last 7 days; notes it when that was once and before the start of one that runs",
        "notes cores of other programs in the last 7 days, and a runtime whose crash would leave no core",
    ],
    advice: "Keep the core and the binary it belongs to, and report the stack: `coredumpctl info`.",
    deadline: DEADLINE,
    run,
};

const WEEK: i64 = 7 * 86_400;
/// Where cores are left: by systemd-coredump, by apport, by kdump and many a hand-made pattern.
const DIRECTORIES: [&str; 3] = ["/var/lib/systemd/coredump", "/var/lib/apport/coredump", "/var/crash"];
/// Files in a directory whose age is looked up; a crash loop leaves thousands.
const LOOKED_INTO: usize = 200;
/// A core is stamped when the process dies, the journal's line when it is written out.
const SAME_CRASH_SECONDS: u64 = 120;

struct Crash {
    program: String,
    at: i64,
    detail: String,
    /// The file that holds the core, when one was found.
    core: Option<String>,
    size: Option<u64>,
    is_runtime: bool,
}

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process_samples::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let now = host.clock()?.seconds();
    let mut finding = Finding::new("");
    let listed = of_coredumpctl(host)?;
    let mut looked_at = Vec::new();
    let mut crashes = Vec::new();
    if let Some(listed) = listed {
        crashes.extend(listed);
        looked_at.push("coredumpctl".to_owned());
    }
    // To a user without rights it says there are none, so then the files are looked for too.
    let by_coredumpctl = !crashes.is_empty();
    let directories =
        DIRECTORIES.iter().skip(usize::from(by_coredumpctl)).map(|&path| (path.to_owned(), false));
    let own = runtimes.keys().map(|pid| (format!("/proc/{pid}/cwd"), true));
    for (directory, is_of_runtime) in directories.chain(own) {
        match host.list(&directory).if_any() {
            Ok(None) => {}
            Ok(Some(entries)) => {
                let names =
                    entries.into_iter().filter(|entry| entry.kind == Kind::File).map(|entry| entry.name);
                let cores = names.filter(|name| is_core(name)).take(LOOKED_INTO);
                crashes.extend(cores.filter_map(|name| of_file(host, &directory, &name, is_of_runtime)));
                looked_at.push(directory);
            }
            Err(error) => {
                let advice = Advice::text("Run Warden as root, or give it CAP_DAC_READ_SEARCH.");
                finding.note(format!("cores in {directory} could not be looked for: {error}"), advice);
            }
        }
    }
    for crash in of_journal(host, &mut finding)? {
        // The same crash, seen with its core.
        if !crashes
            .iter()
            .any(|other: &Crash| other.is_runtime && other.at.abs_diff(crash.at) < SAME_CRASH_SECONDS)
        {
            crashes.push(crash);
        }
    }
    crashes.retain(|crash| crash.at > now - WEEK);
    crashes.sort_by_key(|crash| std::cmp::Reverse(crash.at));

    let (runtime, other): (Vec<&Crash>, Vec<&Crash>) = crashes.iter().partition(|crash| crash.is_runtime);
    let since = running_since(host, runtimes, now);
    for crash in &runtime {
        // One crash before a start that lasts is history; several are a runtime that does not stay up.
        let is_over = runtime.len() == 1 && since.is_some_and(|since| crash.at < since);
        let severity = if is_over { Verdict::Note } else { Verdict::Fail };
        let when = warden_host::quantity::time(crash.at);
        let command = match &crash.core {
            Some(path) if !by_coredumpctl => format!("ls -l '{path}'"),
            _ => format!("coredumpctl info '{}'", crash.program),
        };
        let text = format!("{} crashed at {when}: {}", crash.program, crash.detail);
        let text = if is_over { format!("{text}; it runs again since") } else { text };
        finding.problem(severity, text, Advice::run(CHECK.advice, command));
    }
    if let Some(newest) = other.first() {
        let times = count(other.len() as u64, "core was", "cores were");
        let when = warden_host::quantity::time(newest.at);
        let text = format!(
            "{times} dumped by other programs in the last 7 days, the newest by {} at {when}",
            newest.program
        );
        finding.note(text, Advice::run("See what crashes.", "coredumpctl list --since=-7d --no-pager"));
    }
    let pattern = host.value("/proc/sys/kernel/core_pattern").if_any()?;
    let pattern_text = pattern.as_deref().unwrap_or_default();
    let kept_here =
        looked_at.iter().any(|place| place == "coredumpctl" || DIRECTORIES.contains(&place.as_str()));
    if let Some(program) = pattern_text.strip_prefix('|').filter(|_| !kept_here) {
        let program = program.split(' ').next().unwrap_or_default();
        let text =
            format!("cores are given to {program}, which keeps none here (in a container: on its host)");
        finding.note(text, Advice::text("Look for cores on the host of this container."));
    }
    without_core(host, &mut finding, runtimes, pattern_text)?;

    finding.summary = match (runtime.len(), other.len()) {
        (0, 0) => "nothing dumped core in the last 7 days".to_owned(),
        (runtime, other) => {
            let times = count(runtime as u64, "crash", "crashes");
            format!("{times} of the runtimes and {other} of other programs in the last 7 days")
        }
    };
    let fields = Fields::new("Where cores go")
        .row("kernel.core_pattern", pattern.map(Value::Code))
        .row("looked at", looked_at.join(", "));
    finding.show(Evidence::Fields(fields));
    if !crashes.is_empty() {
        finding.show(Evidence::Table(table(crashes)));
    }
    Ok(finding)
}

/// Unix seconds of the start of the youngest runtime; `None` when none runs.
fn running_since(host: &Host, runtimes: &Runtimes, now: i64) -> Option<i64> {
    let up = host.clock().ok()?.up_us as f64 / 1e6;
    let started = |pid: &u32| {
        let stat = ProcessStat::parse(&host.read(&format!("/proc/{pid}/stat")).ok()?)?;
        Some(now - (up - stat.start_ticks as f64 / TICKS) as i64)
    };
    runtimes.keys().filter_map(started).max()
}

fn table(crashes: Vec<Crash>) -> Table {
    let mut table = Table::new("Crashes, newest first", ["program", "at", "what", "core", "size"]);
    for crash in crashes {
        let cells = [
            Value::Code(crash.program),
            Value::Time(crash.at),
            crash.detail.into(),
            crash.core.map(Value::Code).into(),
            crash.size.map(Value::Bytes).into(),
        ];
        if crash.is_runtime { table.marked_row(Verdict::Fail, cells) } else { table.row(cells) }
    }
    table
}

/// A row of `coredumpctl list --json=short`.
#[derive(Deserialize)]
struct Row {
    /// Microseconds of Unix time.
    time: i64,
    pid: u64,
    sig: u64,
    corefile: Option<String>,
    exe: Option<String>,
    size: Option<u64>,
}

/// Absent without coredumpctl, or with one that has no JSON (before systemd 248).
fn of_coredumpctl(host: &Host) -> Result<Option<Vec<Crash>>> {
    let Some(output) = host.run("coredumpctl").if_any()? else { return Ok(None) };
    if output.stderr.contains("No coredumps found") {
        return Ok(Some(Vec::new()));
    }
    if !output.stdout.trim_start().starts_with('[') {
        return Ok(None);
    }
    let rows: Vec<Row> = serde_json::from_str(&output.stdout)
        .map_err(|error| Error::parse("coredumpctl", error.to_string()))?;
    let crash = |row: Row| {
        let exe = row.exe.unwrap_or_else(|| "an unknown program".to_owned());
        let program = exe.rsplit('/').next().unwrap_or(&exe).to_owned();
        let core = row.corefile.unwrap_or_else(|| "none".to_owned());
        Crash {
            is_runtime: is_runtime(&program),
            program,
            at: row.time.div_euclid(1_000_000),
            detail: format!("pid {} on signal {}, core {core}", row.pid, row.sig),
            core: None,
            size: row.size,
        }
    };
    Ok(Some(rows.into_iter().map(crash).collect()))
}

/// A crash in a thread is told under the name of the thread: a shard is one.
fn is_runtime(program: &str) -> bool {
    ["iggy-server", "iggy-connector", "shard-"].iter().any(|name| program.starts_with(name))
}

/// `core`, `core.1234`, `core.iggy-server...`, and apport's `_usr_bin_x.0.crash`.
fn is_core(name: &str) -> bool {
    name == "core" || name.starts_with("core.") || name.starts_with("core-") || name.ends_with(".crash")
}

fn of_file(host: &Host, directory: &str, name: &str, is_of_runtime: bool) -> Option<Crash> {
    let path = format!("{directory}/{name}");
    let stat = host.stat(&path).ok()?;
    let program = program_of(name);
    Some(Crash {
        is_runtime: is_of_runtime || is_runtime(&program),
        program,
        at: stat.modified,
        detail: "left a core".to_owned(),
        core: Some(path),
        size: Some(stat.size),
    })
}

/// systemd-coredump names a core `core.PROGRAM.UID.BOOT.PID.TIME[.zst]`; apport by the path of the program, with
/// `_` for `/`.
fn program_of(name: &str) -> String {
    if let Some(path) = name.strip_suffix(".crash") {
        let path = path.rsplit_once('.').map_or(path, |(path, _)| path);
        return path.rsplit('_').next().unwrap_or(path).to_owned();
    }
    let name = name
        .strip_suffix(".zst")
        .or_else(|| name.strip_suffix(".lz4"))
        .or_else(|| name.strip_suffix(".xz"))
        .unwrap_or(name);
    let rest = name.strip_prefix("core.").unwrap_or(name);
    let parts: Vec<&str> = rest.rsplitn(5, '.').collect();
    match parts.as_slice() {
        [time, pid, boot, uid, program]
            if boot.len() == 32 && [time, pid, uid].iter().all(|part| part.parse::<u64>().is_ok()) =>
        {
            (*program).to_owned()
        }
        _ => name.to_owned(),
    }
}

/// systemd says so itself when a unit's main process dumped core, whether the core was kept or not.
fn of_journal(host: &Host, finding: &mut Finding) -> Result<Vec<Crash>> {
    let mut crashes = Vec::new();
    let mut units = Vec::new();
    for runtime in Runtime::ALL {
        units.extend(log::journals(host, runtime)?.into_iter().map(|unit| (runtime, unit)));
    }
    for (runtime, unit) in units {
        let log = match host.journal(&unit) {
            Ok(log) => log,
            Err(Error::Host(Failure { cause: Cause::Absent | Cause::Unavailable(_), .. })) => continue,
            Err(error) => {
                let advice = "Run Warden as root, or add its user to the group systemd-journal.";
                finding.note(
                    format!("crashes without a core could not be looked for: {error}"),
                    Advice::text(advice),
                );
                break;
            }
        };
        for line in log.lines.into_iter().filter(|line| line.text.contains("code=dumped")) {
            let Some(at) = line.at_us else { continue };
            crashes.push(Crash {
                program: runtime.program().to_owned(),
                at: at.div_euclid(1_000_000),
                detail: line.text,
                core: None,
                size: None,
                is_runtime: true,
            });
        }
    }
    Ok(crashes)
}

/// core(5): a pipe gets the core whatever the limit; a file is written only up to it.
fn without_core(host: &Host, finding: &mut Finding, runtimes: &Runtimes, pattern: &str) -> Result<()> {
    if pattern.starts_with('|') {
        return Ok(());
    }
    if let Some((directory, _)) =
        pattern.rsplit_once('/').filter(|(directory, _)| !DIRECTORIES.contains(directory))
    {
        let directory = if directory.is_empty() { "/" } else { directory };
        let text = format!("cores are written to {directory}, where Warden does not look");
        finding.note(text, Advice::run("Look there yourself.", format!("ls -lt '{directory}'")));
    }
    for (pid, runtime) in runtimes {
        let limits = host.read(&format!("/proc/{pid}/limits")).if_any()?.unwrap_or_default();
        if limit(&limits, "Max core file size").and_then(|limit| limit.soft) == Some(0) {
            let text = format!(
                "a crash of {} (pid {pid}) would leave no core: its core limit is 0",
                runtime.program()
            );
            finding.note(
                text,
                Advice::run(
                    "Install systemd-coredump; it keeps cores in one place, within a size.",
                    "apt-get install systemd-coredump",
                ),
            );
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests;
