//! process-limits: do the limits of the runtimes leave them room.

use warden_host::proc::{ProcessStat, field};
use warden_host::quantity::{bytes, count, number};
use warden_host::{Host, IfAny};

use crate::iggy::data_inventory::inventory;
use crate::iggy::{self, Runtime, Service};
use crate::process_samples::{self, Runtimes};
use crate::rlimits::limit;
use crate::units::{self, Found};
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
        Read::Path("/**/streams/**"),
        Read::Units,
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "fails when fewer files may be open than the segments on disk take at the next start (4 for each partition, 2 for each sealed segment): the server then ends with an error that looks like damage",
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
/// Files that the server holds open: writers and readers of the log and the index of the newest segment of each
/// partition, both files of each older one; its log, metadata, rings, listeners and clients besides (seen: 56 with 7
/// partitions and 13 segments).
const OF_PARTITION: u64 = 4;
const OF_SEALED: u64 = 2;
const OF_SERVER: u64 = 15;
/// capabilities(7): the limit of locked memory does not hold for a process that has it.
const CAP_IPC_LOCK: u32 = 14;

fn run(host: &Host) -> Result<Finding> {
    judge(host, &process_samples::runtimes(host))
}

fn judge(host: &Host, runtimes: &Runtimes) -> Result<Finding> {
    let mut finding = Finding::new("");
    let mut table = Table::new("Limits", ["limit", "of", "in use", "soft limit", "hard limit", "used"]);
    let mut chart = Series::bars("Share of the limit in use", Unit::Percent, ["used"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    let mut summaries = Vec::new();
    for (runtime, unit) in units::runtime_units(host)? {
        let pids = runtimes.iter().filter(|&(_, &other)| other == runtime).map(|(&pid, _)| pid);
        let service = Service::Unit(unit.clone());
        let mut sheet = Sheet { finding: &mut finding, table: &mut table, chart: &mut chart, unit, service };
        let mut runs = false;
        for pid in pids {
            // It may have ended since it was found.
            let Some(limits) = host.read(&format!("/proc/{pid}/limits")).if_any()? else { continue };
            summaries.push(sheet.process(host, &limits, pid, runtime)?);
            runs = true;
        }
        if !runs && let Found::Loaded(unit) = units::find(host, &sheet.unit)? {
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
    /// What the limits are set in.
    service: Service,
}

impl Sheet<'_> {
    fn process(&mut self, host: &Host, limits: &str, pid: u32, runtime: Runtime) -> Result<String> {
        let who = format!("{} (pid {pid})", runtime.program());
        let status = host.read(&format!("/proc/{pid}/status"))?;
        let configured = units::find(host, &self.unit)?.loaded();
        let main = configured.as_ref().and_then(|unit| unit.number("MainPID"));
        self.service = match Service::of_process(host, pid) {
            Some(service) => service,
            None if main == Some(u64::from(pid)) => Service::Unit(self.unit.clone()),
            None => Service::Nobody { pid },
        };
        let tasks = match &self.service {
            Service::Unit(unit) if *unit != self.unit => units::find(host, unit)?.loaded(),
            Service::Unit(_)
            | Service::UserUnit { .. }
            | Service::Container { .. }
            | Service::Nobody { .. } => configured,
        };
        let tasks_of_unit = tasks.as_ref().and_then(|unit| unit.number("TasksCurrent"));
        let tasks_max = tasks.as_ref().and_then(|unit| unit.number("TasksMax"));
        let is_own_unit = tasks.as_ref().and_then(|unit| unit.number("MainPID")) == Some(u64::from(pid));
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
        if runtime == Runtime::Iggy {
            let unit = tasks.as_ref().filter(|_| is_own_unit && soft_files.is_some());
            let next = unit.and_then(|unit| unit.number("LimitNOFILESoft")).or(soft_files);
            self.files_on_disk(host, &who, next);
        }
        self.measure(
            host,
            &who,
            "open files",
            open,
            soft_files,
            files.and_then(|files| files.hard),
            "LimitNOFILE=65536",
        );
        self.few_files(host, &who, soft_files);

        let threads: Option<u64> = field(&status, "Threads").and_then(|text| text.parse().ok());
        if is_own_unit {
            self.measure(
                host,
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
            self.memlock(host, &who, memlock.and_then(|memlock| memlock.soft), shards, exempt);
        }
        self.show_only(
            &who,
            "locked memory, in bytes",
            warden_host::proc::kibibytes(&status, "VmLck"),
            limits,
            "Max locked memory",
        );
        self.show_only(&who, "core file, in bytes", None, limits, "Max core file size");
        let shown = open.map_or_else(|| "an unknown number".to_owned(), |open| open.to_string());
        let of = soft_files.map_or_else(|| "any number of".to_owned(), |soft| soft.to_string());
        Ok(format!("{who} has {shown} of {of} files open"))
    }

    /// What a stopped runtime would get: the likeliest reason that it does not start.
    fn unit(&mut self, host: &Host, unit: &warden_host::UnitProperties, runtime: Runtime) -> Result<String> {
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
            if runtime == Runtime::Iggy {
                self.files_on_disk(host, &who, files);
            }
            self.few_files(host, &who, files);
        }
        if runtime == Runtime::Iggy && unit.properties.contains_key("LimitMEMLOCKSoft") {
            let exempt = !unit.flag("DynamicUser").unwrap_or(false)
                && matches!(unit.text("User"), None | Some("root" | "0"));
            self.memlock(host, &who, memlock, shards_to_come(host)?, exempt);
        }
        Ok(format!("{who} is not running; judged by the limits of its unit"))
    }

    fn advice(&self, host: &Host, setting: &str) -> Advice {
        self.service.set(host, setting)
    }

    /// The server opens every segment at its start, and takes a refusal for damage.
    fn files_on_disk(&mut self, host: &Host, who: &str, soft: Option<u64>) {
        let Some(soft) = soft else { return };
        let Some(data) = iggy::data_directory(host) else { return };
        let Ok(found) = inventory(host, &data.path) else { return };
        let partitions = found.partitions.len() as u64;
        let segments: u64 = found.partitions.iter().map(|partition| partition.segments.len() as u64).sum();
        let sealed = segments.saturating_sub(partitions);
        let needed = partitions.saturating_mul(OF_PARTITION) + sealed.saturating_mul(OF_SEALED) + OF_SERVER;
        if partitions == 0 || needed <= soft {
            return;
        }
        let text = format!(
            "{who} may open {soft} files, and what lies in {} takes about {}{needed} at the next start ({}, {}): the server then ends with `message/index divergence` or `Cannot read file`, which is no damage",
            data.path,
            if found.cut { "more than " } else { "" },
            count(partitions, "partition", "partitions"),
            count(segments, "segment", "segments"),
        );
        let enough = needed.saturating_mul(2).max(RECOMMENDED_FILES);
        let mut advice = self.advice(host, &format!("LimitNOFILE={enough}"));
        advice.text = format!("Change nothing in the data directory. {}", advice.text);
        self.finding.fail(text, advice);
    }

    #[expect(clippy::too_many_arguments, reason = "a row of the table, and what to do about it")]
    fn measure(
        &mut self,
        host: &Host,
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
        let advice = self.advice(host, setting);
        self.finding.problem(severity, text, advice);
    }

    fn show_only(&mut self, who: &str, what: &str, used: Option<u64>, limits: &str, name: &str) {
        let Some(limit) = limit(limits, name) else { return };
        let (soft, hard) = (soft_or_infinity(limit.soft), soft_or_infinity(limit.hard));
        self.table.row([what.into(), Value::Code(who.to_owned()), used.into(), soft, hard, Value::Nothing]);
    }

    fn few_files(&mut self, host: &Host, who: &str, soft: Option<u64>) {
        if let Some(soft) = soft.filter(|&soft| soft < RECOMMENDED_FILES) {
            let room = count(soft / 4, "partition", "partitions");
            let text = format!(
                "{who} may open {soft} files: fewer than {RECOMMENDED_FILES}, and room for at most {room}"
            );
            let advice = self.advice(host, "LimitNOFILE=65536");
            self.finding.note(text, advice);
        }
    }

    fn memlock(&mut self, host: &Host, who: &str, soft: Option<u64>, shards: u64, exempt: bool) {
        let needed = shards.saturating_mul(RING_BYTES);
        if let Some(soft) = soft.filter(|&soft| soft < needed && !exempt) {
            let (may, shards) = (bytes(soft), count(shards, "shard", "shards"));
            let text =
                format!("{who} may lock {may} of memory; the rings of {shards} need about {}", bytes(needed));
            let advice = self.advice(host, "LimitMEMLOCK=infinity");
            self.finding.warn(text, advice);
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
    Ok(warden_host::proc::CpuTimes::parse_all(&host.read("/proc/stat")?)?.len().saturating_sub(1).max(1)
        as u64)
}

fn has_capability(status: &str, bit: u32) -> bool {
    field(status, "CapEff")
        .and_then(|mask| u64::from_str_radix(mask, 16).ok())
        .is_some_and(|mask| mask & 1 << bit != 0)
}

#[cfg(test)]
mod tests;
