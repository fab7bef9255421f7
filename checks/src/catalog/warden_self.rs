//! warden-self: is Warden itself well, and does it stay small.

use warden_host::proc::{ProcessStat, TICKS, field, kibibytes};
use warden_host::quantity::{bytes, count, duration, number};
use warden_host::{Cause, Error, Failure, Host, IfAny, Kind, LogLine, UnitProperties};

use crate::rlimits::limit;
use crate::units::{self, Found, time};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Log, Read, Result, Table, Value, Verdict,
};

pub const CHECK: Check = Check {
    id: "warden-self",
    area: Area::Warden,
    title: "Is Warden itself well?",
    why: "A tool that looks after a node must not be what ails it: memory that Warden holds is page cache that Iggy \
          has not. An agent that loses its Supervisor again and again misses commands and says nothing about it here.",
    reads: &[
        Read::Path("/proc/self/status"),
        Read::Path("/proc/self/stat"),
        Read::Path("/proc/self/limits"),
        Read::Path("/proc/self/fd"),
        Read::Path("/proc/[pid]/status"),
        Read::Path("/proc/[pid]/stat"),
        Read::Path("/proc/[pid]/limits"),
        Read::Path("/proc/[pid]/fd"),
        Read::Path("/var/lib/warden"),
        Read::Path("/var/lib/warden/**"),
        Read::Units,
        Read::Journal,
    ],
    thresholds: &[
        "warns when resident memory is over 90 % of the unit's MemoryMax, or over 128 MiB without one",
        "warns when over 70 % of the open files are used",
        "fails when the unit failed; warns when systemd restarted it in the last 24 h",
        "notes a reconnect to the Supervisor in the last 24 h, warns at more than 24",
        "warns when its state takes over 1 GiB",
    ],
    advice: "Read Warden's own log; a restart is harmless, what it was doing goes on afterwards.",
    deadline: DEADLINE,
    run,
};

const MEMORY_PERCENT: f64 = 90.0;
/// Twice what masking and packing are built to need.
const MEMORY_WITHOUT_LIMIT: u64 = 128 << 20;
const FILES_PERCENT: f64 = 70.0;
const DAY: i64 = 86_400;
/// One an hour: a link that is down now and then.
const RECONNECTS: usize = 24;
const STATE_BYTES: u64 = 1 << 30;
/// Files of the state directory whose size is asked for.
const LOOKED_INTO: usize = 300;

fn run(host: &Host) -> Result<Finding> {
    let settings = host.settings()?;
    let mut finding = Finding::new("");
    let unit = match units::find(host, &settings.warden_unit)? {
        Found::Loaded(unit) => Some(unit),
        Found::NotLoaded(_) | Found::NoManager(_) => None,
    };
    let unit = unit.as_deref();
    let agent = unit.and_then(|unit| unit.number("MainPID")).filter(|&pid| pid > 0);
    let is_agent = agent == Some(u64::from(settings.own_pid));
    let limit_of = |unit: &UnitProperties| unit.number("MemoryMax").min_some(unit.number("MemoryHigh"));

    let mut sentences = Vec::new();
    // The live process answers for itself under /proc/self, whoever may read what.
    let own_limit = if is_agent { unit.and_then(limit_of) } else { None };
    sentences.push(process(
        host,
        &mut finding,
        "self",
        if is_agent { "the agent" } else { "this run" },
        own_limit,
    )?);
    if let Some(pid) = agent.filter(|_| !is_agent) {
        sentences.push(process(host, &mut finding, &pid.to_string(), "the agent", unit.and_then(limit_of))?);
    }
    match unit {
        None => sentences.push(format!("{} is not installed", settings.warden_unit)),
        Some(unit) => {
            service(host, &mut finding, &settings.warden_unit, unit)?;
            reconnects(host, &mut finding, &settings.warden_unit)?;
        }
    }
    state(host, &mut finding, &settings.state_directory);
    finding.summary = sentences.join("; ");
    Ok(finding)
}

/// The lesser of two limits, where each may be absent.
trait MinSome {
    fn min_some(self, other: Self) -> Self;
}

impl MinSome for Option<u64> {
    fn min_some(self, other: Option<u64>) -> Option<u64> {
        self.into_iter().chain(other).min()
    }
}

fn process(
    host: &Host,
    finding: &mut Finding,
    pid: &str,
    who: &str,
    memory_max: Option<u64>,
) -> Result<String> {
    let status = host.read(&format!("/proc/{pid}/status"))?;
    let (resident, peak) = (kibibytes(&status, "VmRSS"), kibibytes(&status, "VmHWM"));
    let resident = resident.ok_or_else(|| Error::parse(format!("/proc/{pid}/status"), "no VmRSS"))?;
    let limits = host.read(&format!("/proc/{pid}/limits")).if_any()?.unwrap_or_default();
    let most_files = limit(&limits, "Max open files").and_then(|limit| limit.soft);
    let files = host.list(&format!("/proc/{pid}/fd")).ok().map(|entries| entries.len() as u64);
    let stat = host.read(&format!("/proc/{pid}/stat")).if_any()?.and_then(|text| ProcessStat::parse(&text));
    let up = host.clock()?.up_us as f64 / 1e6;
    let age = stat.as_ref().map(|stat| (up - stat.start_ticks as f64 / TICKS).max(0.0));
    let cpu = stat.as_ref().map(|stat| stat.user_ticks.saturating_add(stat.system_ticks) as f64 / TICKS);

    let allowed = memory_max.map_or(MEMORY_WITHOUT_LIMIT as f64, |max| max as f64 * MEMORY_PERCENT / 100.0);
    if resident as f64 > allowed {
        let of = memory_max.map_or_else(
            || format!("more than the {} it should do with", bytes(MEMORY_WITHOUT_LIMIT)),
            |max| format!("{} % of its {}", number(resident as f64 * 100.0 / max as f64), bytes(max)),
        );
        finding.warn(format!("{who} holds {} of memory, {of}", bytes(resident)), restart());
    }
    if let Some((files, most)) = files.zip(most_files).filter(|&(_, most)| most > 0) {
        let percent = files as f64 * 100.0 / most as f64;
        if percent > FILES_PERCENT {
            finding.warn(format!("{who} has {files} of {most} files open, {} %", number(percent)), restart());
        }
    }
    let id = field(&status, "Pid").map(str::to_owned);
    let fields = Fields::new(format!("Process: {who}"))
        .row("pid", id)
        .row("resident memory", Value::Bytes(resident))
        .row("most it ever was", peak.map(Value::Bytes))
        .row("memory limit", memory_max.map(Value::Bytes))
        .row("swapped out", kibibytes(&status, "VmSwap").map(Value::Bytes))
        .row("threads", field(&status, "Threads").and_then(|threads| threads.parse::<u64>().ok()))
        .row("open files", files)
        .row("open files, limit", most_files)
        .row("CPU time", cpu.map(Value::Seconds))
        .row("running for", age.map(Value::Seconds));
    finding.show(Evidence::Fields(fields));
    let running = age.map_or_else(String::new, |age| format!(" after {}", duration(age)));
    Ok(format!("{who} holds {} of memory{running}", bytes(resident)))
}

fn restart() -> Advice {
    Advice::run("Send its support a snapshot, then restart it.", "systemctl restart warden.service")
}

fn service(host: &Host, finding: &mut Finding, name: &str, unit: &UnitProperties) -> Result<()> {
    let now = host.clock()?.seconds();
    let active = unit.text("ActiveState").unwrap_or("unknown");
    let read = Advice::run("Read why.", format!("journalctl -u {name} -n 100 --no-pager"));
    if active == "failed" {
        finding.fail(format!("{name} failed: {}", unit.text("Result").unwrap_or("unknown")), read);
    } else if let Some(restarts) = unit.number("NRestarts").filter(|&restarts| restarts > 0)
        && time(unit, "ActiveEnterTimestamp").is_some_and(|at| at > now - DAY)
    {
        let times = count(restarts, "time", "times");
        finding.warn(format!("systemd restarted {name} {times}, the last time within 24 h"), read);
    }
    let seconds =
        |property: &str, scale: f64| unit.number(property).map(|value| Value::Seconds(value as f64 / scale));
    let fields = Fields::new(name)
        .row("active", active)
        .row("active since", time(unit, "ActiveEnterTimestamp").map(Value::Time))
        .row("says", unit.text("StatusText"))
        .row("restarts by systemd", unit.number("NRestarts"))
        .row("memory now", unit.number("MemoryCurrent").map(Value::Bytes))
        .row("memory peak", unit.number("MemoryPeak").map(Value::Bytes))
        .row("CPU time", seconds("CPUUsageNSec", 1e9))
        .row("CPU quota, a second", seconds("CPUQuotaPerSecUSec", 1e6))
        .row("watchdog", seconds("WatchdogUSec", 1e6))
        .row("last watchdog ping", time(unit, "WatchdogTimestamp").map(Value::Time));
    finding.show(Evidence::Fields(fields));
    Ok(())
}

/// The agent logs each new connection after a lost one.
fn reconnects(host: &Host, finding: &mut Finding, name: &str) -> Result<()> {
    let since = host.clock()?.unix_us - DAY * 1_000_000;
    let log = match host.journal(name) {
        Ok(log) => log,
        Err(Error::Host(Failure { cause: Cause::Absent | Cause::Unavailable(_), .. })) => return Ok(()),
        Err(error) => {
            let advice = "Run Warden as root, or add its user to the group systemd-journal.";
            finding
                .note(format!("how often it reconnected could not be told: {error}"), Advice::text(advice));
            return Ok(());
        }
    };
    let is_reconnect = |line: &LogLine| {
        line.at_us.is_some_and(|at| at >= since) && line.text.to_ascii_lowercase().contains("reconnect")
    };
    let lines: Vec<LogLine> = log.lines.into_iter().filter(is_reconnect).collect();
    let severity = match lines.len() {
        0 => return Ok(()),
        number if number > RECONNECTS => Verdict::Warn,
        _ => Verdict::Note,
    };
    let times = count(lines.len() as u64, "time", "times");
    let advice = Advice::run(
        "See whether the network or the Supervisor was at fault.",
        format!("journalctl -u {name} --since=-24h --no-pager | grep -i connect"),
    );
    finding.problem(
        severity,
        format!("the agent reconnected to its Supervisor {times} in the last 24 h"),
        advice,
    );
    finding.show(Evidence::Log(Log { title: "Reconnects".to_owned(), lines, cut: log.cut }));
    Ok(())
}

/// Ledger, queue and flight recorder, each a file or a directory of files.
fn state(host: &Host, finding: &mut Finding, place: &str) {
    let mut table = Table::new(format!("State in {place}"), ["file", "size", "on disk", "changed"]);
    let mut total = 0_u64;
    let mut directories = vec![place.to_owned()];
    let mut looked_into = 0;
    while let Some(directory) = directories.pop() {
        let entries = match host.list(&directory).if_any() {
            Ok(entries) => entries.unwrap_or_default(),
            Err(error) => {
                let advice = Advice::text("Run as root to see how large Warden's own state is.");
                finding.note(format!("Warden's state could not be measured: {error}"), advice);
                return;
            }
        };
        for entry in entries {
            let path = format!("{directory}/{}", entry.name);
            match entry.kind {
                // One level: what lies deeper are unpacked snapshots.
                Kind::Directory if directory == place => directories.push(path),
                Kind::File if looked_into < LOOKED_INTO => {
                    looked_into += 1;
                    let Ok(stat) = host.stat(&path) else { continue };
                    total = total.saturating_add(stat.allocated);
                    let (size, allocated) = (Value::Bytes(stat.size), Value::Bytes(stat.allocated));
                    table.row([Value::Code(path), size, allocated, Value::Time(stat.modified)]);
                }
                Kind::File | Kind::Directory | Kind::Link | Kind::Fifo | Kind::Socket | Kind::Device => {}
            }
        }
    }
    if total > STATE_BYTES {
        let text = format!("Warden's state takes {}, more than {}", bytes(total), bytes(STATE_BYTES));
        finding.warn(
            text,
            Advice::run(
                "See what is large; old snapshots can go.",
                format!("du -xah '{place}' | sort -h | tail -n 20"),
            ),
        );
    }
    if !table.rows.is_empty() {
        finding.show(Evidence::Table(table));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value as Json, json};
    use warden_host::{Data, LogText, Recorded, Request, STATE_DIRECTORY, Stat};

    use super::*;
    use crate::process_samples::testing::stat;
    use crate::units::testing::settings;

    const NOW: i64 = 1_795_000_000;

    fn by_hand(kib: u64) -> Recorded {
        Recorded::complete()
            .settings(settings())
            .at(NOW, 3605)
            .file(
                "/proc/self/status",
                &format!("Name: warden\nPid:\t99\nVmHWM: 9000 kB\nVmRSS: {kib} kB\nThreads:\t4\n"),
            )
            .file("/proc/self/stat", &stat(99, "warden", 'R', 1, 150))
            .file("/proc/self/limits", "Max open files            10              10               files\n")
    }

    fn installed(changes: Json) -> Recorded {
        let mut unit = json!({
            "LoadState": "loaded", "ActiveState": "active", "MainPID": 99, "MemoryMax": 100 << 20, "NRestarts": 0,
            "ActiveEnterTimestamp": (NOW - 60) * 1_000_000
        });
        for (name, value) in changes.as_object().unwrap() {
            unit[name] = value.clone();
        }
        by_hand(8192).unit("warden.service", unit)
    }

    fn judged(host: Recorded) -> Finding {
        run(&host.host()).unwrap()
    }

    fn reconnects(times: usize) -> Finding {
        let line = LogLine {
            at_us: Some(NOW * 1_000_000),
            level: None,
            origin: "warden".to_owned(),
            text: "Reconnected to the Supervisor".to_owned(),
        };
        let log = LogText { lines: vec![line; times], cut: false, source: "journal".to_owned() };
        judged(installed(json!({})).log(Request::Journal { unit: "warden.service".to_owned() }, log))
    }

    #[test]
    fn a_small_process_that_was_run_by_hand_passes() {
        let finding = judged(by_hand(8192));
        assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
        assert_eq!(
            finding.summary,
            "this run holds 8 MiB of memory after 1 h; warden.service is not installed"
        );
    }

    #[test]
    fn memory_is_held_against_the_unit_or_against_what_it_should_do_with() {
        let large = judged(by_hand(129 * 1024));
        assert_eq!(large.verdict(), Verdict::Warn);
        assert_eq!(
            large.problems[0].text,
            "this run holds 129 MiB of memory, more than the 128 MiB it should do with"
        );
        assert_eq!(judged(by_hand(128 * 1024)).verdict(), Verdict::Pass);
        let near = judged(installed(json!({"MemoryMax": 8 << 20})));
        assert_eq!(near.problems[0].text, "the agent holds 8 MiB of memory, 100 % of its 8 MiB");
        assert_eq!(judged(installed(json!({}))).verdict(), Verdict::Pass);
    }

    #[test]
    fn the_agent_is_looked_at_beside_a_run_by_hand() {
        let host = installed(json!({"MainPID": 50})).file("/proc/50/status", "VmRSS: 4096 kB\n");
        let finding = judged(host);
        assert_eq!(
            finding.summary,
            "this run holds 8 MiB of memory after 1 h; the agent holds 4 MiB of memory"
        );
    }

    #[test]
    fn most_files_open_warns() {
        let link = |host: Recorded, fd| {
            host.with(
                Request::Link { path: format!("/proc/self/fd/{fd}") },
                Data::Link { target: "/x".to_owned() },
            )
        };
        assert_eq!(judged((0..7).fold(by_hand(1), link)).verdict(), Verdict::Pass);
        let finding = judged((0..8).fold(by_hand(1), link));
        assert_eq!(finding.problems[0].text, "this run has 8 of 10 files open, 80 %");
        assert_eq!(finding.verdict(), Verdict::Warn);
    }

    #[test]
    fn a_failed_unit_fails_and_a_restarted_one_warns() {
        let failed = judged(installed(json!({"ActiveState": "failed", "Result": "watchdog", "MainPID": 0})));
        assert_eq!(failed.verdict(), Verdict::Fail);
        assert_eq!(failed.problems[0].text, "warden.service failed: watchdog");
        let restarted = judged(installed(json!({"NRestarts": 3})));
        assert_eq!(restarted.verdict(), Verdict::Warn);
        assert_eq!(
            restarted.problems[0].text,
            "systemd restarted warden.service 3 times, the last time within 24 h"
        );
    }

    #[test]
    fn reconnects_are_noted_and_more_than_one_an_hour_warns() {
        let verdicts = [0, 1, 24, 25].map(|times| reconnects(times).verdict());
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Note, Verdict::Note, Verdict::Warn]);
        assert_eq!(
            reconnects(25).problems[0].text,
            "the agent reconnected to its Supervisor 25 times in the last 24 h"
        );
    }

    #[test]
    fn a_large_state_warns_and_a_hidden_one_is_said() {
        let stat = Stat {
            kind: Kind::File,
            mode: 0o600,
            uid: 1,
            gid: 1,
            size: 2 << 30,
            allocated: 2 << 30,
            modified: NOW,
            device: 1,
            inode: 1,
        };
        let host = by_hand(1)
            .with(Request::Stat { path: format!("{STATE_DIRECTORY}/recorder/0001") }, Data::Stat(stat));
        assert_eq!(judged(host).problems[0].text, "Warden's state takes 2 GiB, more than 1 GiB");
        let hidden = by_hand(1).without(Request::List { path: STATE_DIRECTORY.to_owned() }, Cause::Denied);
        assert_eq!(judged(hidden).verdict(), Verdict::Note);
    }

    #[test]
    fn without_its_own_memory_nothing_is_claimed() {
        let error = run(&by_hand(1).file("/proc/self/status", "Name: warden\n").host()).unwrap_err();
        assert_eq!(error.to_string(), "cannot understand /proc/self/status: no VmRSS");
    }
}
