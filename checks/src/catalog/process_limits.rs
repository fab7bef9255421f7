//! process-limits: do the limits of the runtimes leave them room.

use crate::host::{Host, IfAny};
use crate::iggy::Runtime;
use crate::limits::limit;
use crate::proc::{ProcessStat, field};
use crate::process::{self, Runtimes};
use crate::quantity::{bytes, count, number};
use crate::systemd::{self, Found};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
};

pub const CHECK: Check = Check {
    id: "process-limits",
    area: Area::Process,
    title: "Do the runtimes have room within their limits?",
    why: "Iggy keeps four files open for each partition and more for sealed segments; at the limit it cannot roll a \
          segment or take a client. Each shard locks memory for its io_uring, and a server that may not lock enough \
          ends at once, with a line on stderr only.",
    reads: &[
        Read::Path("/proc/[pid]/limits"),
        Read::Path("/proc/[pid]/status"),
        Read::Path("/proc/[pid]/fd"),
        Read::Path("/proc/[pid]/task/[pid]/stat"),
        Read::Path("/proc/stat"),
        Read::Units,
        Read::Iggy,
    ],
    thresholds: &[
        "warns when 70 % of the open files or of the unit's tasks are used, fails at 90 %",
        "warns when locked memory is under 400 KiB for each shard and the process has no CAP_IPC_LOCK",
        "notes a limit of open files under 65,536",
    ],
    advice: "Raise the limits in a drop-in of the unit: LimitNOFILE=65536, LimitMEMLOCK=infinity, TasksMax=.",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 70.0;
const FAIL_PERCENT: f64 = 90.0;
/// What one shard's ring of 4,096 entries locks: an estimate, from the sizes of its entries.
const RING_BYTES: u64 = 400 << 10;
/// Iggy's own example of a drop-in.
const RECOMMENDED_FILES: u64 = 65_536;
/// capabilities(7): the limit of locked memory does not hold for a process that has it.
const CAP_IPC_LOCK: u32 = 14;

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let mut finding = Finding::new("");
    let mut table = Table::new("Limits", ["limit", "of", "in use", "soft limit", "hard limit", "used"]);
    let mut chart = Series::bars("Share of the limit in use", Unit::Percent, ["used"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    let mut summaries = Vec::new();
    for (runtime, unit) in systemd::runtime_units(host)? {
        let pids = runtimes.iter().filter(|&(_, &other)| other == runtime).map(|(&pid, _)| pid);
        let mut sheet =
            Sheet { finding: &mut finding, table: &mut table, chart: &mut chart, unit, outside: None };
        let mut runs = false;
        for pid in pids {
            // It may have ended since it was found.
            let Some(limits) = host.read(&format!("/proc/{pid}/limits")).if_any()? else { continue };
            summaries.push(sheet.process(host, &limits, pid, runtime)?);
            runs = true;
        }
        if !runs && let Found::Loaded(unit) = systemd::find(host, &sheet.unit)? {
            summaries.push(sheet.unit(host, &unit, runtime)?);
        }
    }
    if summaries.is_empty() {
        return Ok(Finding::skip("no runtime runs here and no unit of one is installed"));
    }
    finding.summary = summaries.join("; ");
    if !chart.points.is_empty() {
        finding.show(Evidence::Series(chart));
    }
    finding.show(Evidence::Table(table));
    Ok(finding)
}

struct Sheet<'a> {
    finding: &'a mut Finding,
    table: &'a mut Table,
    chart: &'a mut Series,
    unit: String,
    /// The process, when it runs outside the unit: there is nothing to drop in then.
    outside: Option<u32>,
}

impl Sheet<'_> {
    fn process(&mut self, host: &Host, limits: &str, pid: u32, runtime: Runtime) -> Result<String> {
        let who = format!("{} (pid {pid})", runtime.program());
        let status = host.read(&format!("/proc/{pid}/status"))?;
        let tasks = systemd::find(host, &self.unit)?.loaded();
        let tasks_of_unit = tasks.as_ref().and_then(|unit| unit.number("TasksCurrent"));
        let tasks_max = tasks.as_ref().and_then(|unit| unit.number("TasksMax"));
        let is_own_unit = tasks.as_ref().and_then(|unit| unit.number("MainPID")) == Some(u64::from(pid));
        self.outside = (!is_own_unit).then_some(pid);
        let files = limit(limits, "Max open files");
        let soft_files = files.and_then(|files| files.soft);
        let open = match host.list(&format!("/proc/{pid}/fd")) {
            Ok(entries) => Some(entries.len() as u64),
            Err(error) => {
                let advice = "Run Warden as root, or give it CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.";
                self.finding.note(
                    format!("the open files of {who} could not be counted: {error}"),
                    Advice::text(advice),
                );
                None
            }
        };
        self.measure(
            &who,
            "open files",
            open,
            soft_files,
            files.and_then(|files| files.hard),
            "LimitNOFILE=65536",
        );
        self.few_files(&who, soft_files);

        let threads: Option<u64> = field(&status, "Threads").and_then(|text| text.parse().ok());
        if is_own_unit {
            self.measure(
                &who,
                "tasks of the unit",
                tasks_of_unit.or(threads),
                tasks_max,
                tasks_max,
                "TasksMax=infinity",
            );
        }
        self.show_only(&who, "threads, against processes of the user", threads, limits, "Max processes");

        let memlock = limit(limits, "Max locked memory");
        if runtime == Runtime::Iggy {
            let shards = shards(host, pid)?;
            let exempt = has_capability(&status, CAP_IPC_LOCK);
            self.memlock(&who, memlock.and_then(|memlock| memlock.soft), shards, exempt);
        }
        self.show_only(
            &who,
            "locked memory, in bytes",
            crate::proc::kibibytes(&status, "VmLck"),
            limits,
            "Max locked memory",
        );
        self.show_only(&who, "core file, in bytes", None, limits, "Max core file size");
        let shown = open.map_or_else(|| "an unknown number".to_owned(), |open| open.to_string());
        let of = soft_files.map_or_else(|| "any number of".to_owned(), |soft| soft.to_string());
        Ok(format!("{who} has {shown} of {of} files open"))
    }

    /// What a stopped runtime would get: the likeliest reason that it does not start.
    fn unit(&mut self, host: &Host, unit: &crate::host::Unit, runtime: Runtime) -> Result<String> {
        let who = self.unit.clone();
        // `None` is infinity.
        let (files, memlock) = (unit.number("LimitNOFILESoft"), unit.number("LimitMEMLOCKSoft"));
        let row =
            |soft: Option<u64>, hard: &str| (soft_or_infinity(soft), soft_or_infinity(unit.number(hard)));
        let (soft, hard) = row(files, "LimitNOFILE");
        self.table.row([
            "open files".into(),
            Value::Code(who.clone()),
            Value::Nothing,
            soft,
            hard,
            Value::Nothing,
        ]);
        let (soft, hard) = row(memlock, "LimitMEMLOCK");
        self.table.row([
            "locked memory, in bytes".into(),
            Value::Code(who.clone()),
            Value::Nothing,
            soft,
            hard,
            Value::Nothing,
        ]);
        if unit.properties.contains_key("LimitNOFILESoft") {
            self.few_files(&who, files);
        }
        if runtime == Runtime::Iggy && unit.properties.contains_key("LimitMEMLOCKSoft") {
            let exempt = !unit.flag("DynamicUser").unwrap_or(false)
                && matches!(unit.text("User"), None | Some("root" | "0"));
            self.memlock(&who, memlock, shards_to_come(host)?, exempt);
        }
        Ok(format!("{who} is not running; judged by the limits of its unit"))
    }

    fn advice(&self, setting: &str) -> Advice {
        match self.outside {
            None => systemd::drop_in(&self.unit, setting),
            Some(pid) => {
                let text = "Raise it where the process is started, which is not its unit; --nofile=, --memlock= until then.";
                Advice::run(text, format!("prlimit --pid {pid}"))
            }
        }
    }

    fn measure(
        &mut self,
        who: &str,
        what: &str,
        used: Option<u64>,
        soft: Option<u64>,
        hard: Option<u64>,
        setting: &str,
    ) {
        let percent = used
            .zip(soft)
            .filter(|&(_, soft)| soft > 0)
            .map(|(used, soft)| used as f64 * 100.0 / soft as f64);
        let severity = match percent {
            Some(percent) if percent >= FAIL_PERCENT => Some(Verdict::Fail),
            Some(percent) if percent >= WARN_PERCENT => Some(Verdict::Warn),
            _ => None,
        };
        let cells = [
            what.into(),
            Value::Code(who.to_owned()),
            used.into(),
            soft_or_infinity(soft),
            soft_or_infinity(hard),
            percent.map(Value::Percent).into(),
        ];
        if let Some(percent) = percent {
            self.chart.point(format!("{who}: {what}"), [percent]);
        }
        let Some(((severity, percent), (used, soft))) = severity.zip(percent).zip(used.zip(soft)) else {
            return self.table.row(cells);
        };
        self.table.marked_row(severity, cells);
        let text = format!("{who} uses {used} of {soft} {what}, {} %", number(percent));
        self.finding.problem(severity, text, self.advice(setting));
    }

    fn show_only(&mut self, who: &str, what: &str, used: Option<u64>, limits: &str, name: &str) {
        let Some(limit) = limit(limits, name) else { return };
        let (soft, hard) = (soft_or_infinity(limit.soft), soft_or_infinity(limit.hard));
        self.table.row([what.into(), Value::Code(who.to_owned()), used.into(), soft, hard, Value::Nothing]);
    }

    fn few_files(&mut self, who: &str, soft: Option<u64>) {
        if let Some(soft) = soft.filter(|&soft| soft < RECOMMENDED_FILES) {
            let room = count(soft / 4, "partition", "partitions");
            let text = format!(
                "{who} may open {soft} files: fewer than {RECOMMENDED_FILES}, and room for at most {room}"
            );
            self.finding.note(text, self.advice("LimitNOFILE=65536"));
        }
    }

    fn memlock(&mut self, who: &str, soft: Option<u64>, shards: u64, exempt: bool) {
        let needed = shards.saturating_mul(RING_BYTES);
        if let Some(soft) = soft.filter(|&soft| soft < needed && !exempt) {
            let (may, shards) = (bytes(soft), count(shards, "shard", "shards"));
            let text =
                format!("{who} may lock {may} of memory; the rings of {shards} need about {}", bytes(needed));
            self.finding.warn(text, self.advice("LimitMEMLOCK=infinity"));
        }
    }
}

fn soft_or_infinity(limit: Option<u64>) -> Value {
    limit.map_or_else(|| "unlimited".into(), Value::from)
}

/// Threads named `shard-0`, `shard-1`...; as many as cores when they cannot be seen.
fn shards(host: &Host, pid: u32) -> Result<u64> {
    let threads = host.read_all(&format!("/proc/{pid}/task/[pid]/stat")).unwrap_or_default();
    let names = threads.iter().filter_map(|file| ProcessStat::parse(&file.text));
    match names.filter(|stat| stat.name.starts_with("shard-")).count() {
        0 => shards_to_come(host),
        shards => Ok(shards as u64),
    }
}

/// Iggy starts a shard for each core.
fn shards_to_come(host: &Host) -> Result<u64> {
    Ok(crate::proc::CpuTimes::parse_all(&host.read("/proc/stat")?)?.len().saturating_sub(1).max(1) as u64)
}

fn has_capability(status: &str, bit: u32) -> bool {
    field(status, "CapEff")
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask & 1 << bit != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Cause, Recorded, Request};
    use crate::process::testing::stat;
    use crate::systemd::testing::settings;

    const RUNTIME: [(u32, Runtime); 1] = [(9, Runtime::Iggy)];

    fn with(soft: u64, open: u32, memlock: &str) -> Recorded {
        let limits = format!(
            "Limit  Soft Limit  Hard Limit  Units\nMax open files  {soft}  524288  files\n\
             Max processes  4000  4000  processes\nMax locked memory  {memlock}  {memlock}  bytes\n"
        );
        let host = Recorded::complete()
            .settings(settings())
            .file("/proc/9/limits", &limits)
            .file("/proc/9/status", "Threads:\t40\nCapEff:\t0000000000000000\n")
            .file("/proc/9/task/9/stat", &stat(9, "iggy-server", 'S', 1, 0))
            .file("/proc/9/task/10/stat", &stat(10, "shard-0", 'S', 1, 0))
            .file("/proc/9/task/11/stat", &stat(11, "shard-1", 'S', 1, 0));
        (0..open).fold(host, |host, fd| {
            let target = "socket:[1]".to_owned();
            host.with(Request::Link { path: format!("/proc/9/fd/{fd}") }, crate::host::Data::Link { target })
        })
    }

    fn judged(host: Recorded) -> Finding {
        judge(&host.host(), &Runtimes::from(RUNTIME)).unwrap()
    }

    #[test]
    fn a_runtime_with_room_passes() {
        let finding = judged(with(65_536, 50, "unlimited"));
        assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
        assert_eq!(finding.summary, "iggy-server (pid 9) has 50 of 65536 files open");
    }

    #[test]
    fn open_files_warn_at_seventy_percent_and_fail_at_ninety() {
        let verdicts = [69, 70, 89, 90].map(|open| judged(with(100, open, "unlimited")).verdict());
        assert_eq!(verdicts, [Verdict::Note, Verdict::Warn, Verdict::Warn, Verdict::Fail]);
        let full = judged(with(100, 95, "unlimited"));
        assert_eq!(full.problems[0].text, "iggy-server (pid 9) uses 95 of 100 open files, 95 %");
        assert_eq!(
            full.problems[1].text,
            "iggy-server (pid 9) may open 100 files: fewer than 65536, and room for at most 25 partitions"
        );
    }

    #[test]
    fn locked_memory_is_held_against_the_shards_unless_the_process_is_exempt() {
        let short = with(65_536, 1, "65536");
        let finding = judged(short.clone());
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "iggy-server (pid 9) may lock 64 KiB of memory; the rings of 2 shards need about 800 KiB"
        );
        assert_eq!(finding.problems[0].advice.command.as_deref(), Some("prlimit --pid 9"), "it has no unit");
        let exempt = short.file("/proc/9/status", "Threads: 40\nCapEff:\t0000000000004000\n");
        assert_eq!(judged(exempt).verdict(), Verdict::Pass);
        assert_eq!(judged(with(65_536, 1, "819200")).verdict(), Verdict::Pass);
    }

    #[test]
    fn the_tasks_of_the_unit_are_held_against_its_maximum() {
        let unit =
            serde_json::json!({"LoadState": "loaded", "MainPID": 9, "TasksCurrent": 90, "TasksMax": 100});
        let finding = judged(with(65_536, 1, "unlimited").unit("iggy.service", unit));
        assert_eq!(finding.problems[0].text, "iggy-server (pid 9) uses 90 of 100 tasks of the unit, 90 %");
        assert_eq!(finding.verdict(), Verdict::Fail);
    }

    #[test]
    fn a_stopped_runtime_is_judged_by_its_unit() {
        let unit = serde_json::json!({
            "LoadState": "loaded", "User": "iggy", "LimitNOFILESoft": 65536, "LimitMEMLOCKSoft": 65536
        });
        let host = Recorded::complete()
            .settings(settings())
            .unit("iggy.service", unit)
            .file("/proc/stat", "cpu  1 2 3 4\ncpu0 1 2 3 4\n");
        let finding = judge(&host.host(), &Runtimes::new()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "iggy.service may lock 64 KiB of memory; the rings of 1 shard need about 400 KiB"
        );
    }

    #[test]
    fn files_that_may_not_be_counted_are_said_and_without_a_runtime_nothing_is_judged() {
        let list = Request::List { path: "/proc/9/fd".to_owned() };
        let finding = judged(with(65_536, 0, "unlimited").without(list, Cause::Denied));
        assert_eq!(finding.verdict(), Verdict::Note);
        let nothing = judge(&Recorded::complete().settings(settings()).host(), &Runtimes::new()).unwrap();
        assert_eq!(nothing, Finding::skip("no runtime runs here and no unit of one is installed"));
    }
}
