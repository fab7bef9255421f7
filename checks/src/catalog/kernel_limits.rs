//! kernel-limits: how full the kernel's system-wide tables are.

use warden_host::{Host, IfAny};

use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Series, Table, Unit, Value,
    Verdict,
};

pub const CHECK: Check = Check {
    id: "kernel-limits",
    area: Area::Kernel,
    title: "Is a system-wide table of the kernel nearly full?",
    why: "Open files, processes and threads are limited for the whole machine, beside the limits of each process. \
          When such a table is full, Iggy cannot open a segment or accept a client, whatever its own limits are.",
    reads: &[
        Read::Path("/proc/sys/fs/file-nr"),
        Read::Path("/proc/sys/fs/inode-nr"),
        Read::Path("/proc/sys/fs/aio-*"),
        Read::Path("/proc/sys/kernel/pid_max"),
        Read::Path("/proc/sys/kernel/threads-max"),
        Read::Path("/proc/sys/kernel/pty/*"),
        Read::Path("/proc/sys/kernel/random/entropy_avail"),
        Read::Path("/proc/loadavg"),
    ],
    thresholds: &[
        "warns when a table is 70 % full",
        "fails at 90 %",
        "warns when less than 128 bits of entropy are available",
    ],
    advice: "Find what holds so many, or raise the limit with sysctl.",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 70.0;
const FAIL_PERCENT: f64 = 90.0;
/// Since Linux 5.18 the pool always holds 256 bits once it is ready; under 128 a key generator may wait.
const LOW_ENTROPY_BITS: u64 = 128;

/// A table, how many are in it, and how many may be.
struct Usage {
    name: &'static str,
    used: u64,
    limit: u64,
    parameter: &'static str,
    find: &'static str,
}

fn run(host: &Host) -> Result<Finding> {
    let usages = usages(host)?;
    let entropy = number_if_any(host, "/proc/sys/kernel/random/entropy_avail")?;

    let mut finding = Finding::new("");
    let mut table = Table::new("Tables", ["table", "used", "limit", "full", "parameter"]);
    let mut chart = Series::bars("How full", Unit::Percent, ["used"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    let mut fullest = (0.0, "");
    for usage in &usages {
        let percent = if usage.limit == 0 { 100.0 } else { usage.used as f64 * 100.0 / usage.limit as f64 };
        let cells = [
            usage.name.into(),
            usage.used.into(),
            limit(usage.limit),
            Value::Percent(percent),
            Value::Code(usage.parameter.to_owned()),
        ];
        chart.point(usage.name, [percent]);
        match judge(percent) {
            None => table.row(cells),
            Some(severity) => {
                table.marked_row(severity, cells);
                let text =
                    format!("{} of {} {} are in use ({percent:.0} %)", usage.used, usage.limit, usage.name);
                let raise = format!(
                    "Find what holds so many, or raise {} (sysctl -w {}={}).",
                    usage.parameter,
                    usage.parameter,
                    usage.limit.saturating_mul(2)
                );
                finding.problem(severity, text, Advice::run(raise, usage.find));
            }
        }
        if percent >= fullest.0 {
            fullest = (percent, usage.name);
        }
    }
    if let Some(bits) = entropy.filter(|&bits| bits < LOW_ENTROPY_BITS) {
        let advice = Advice::text("Give the virtual machine a virtio-rng device, or install rng-tools.");
        finding.warn(
            format!(
                "{bits} bits of entropy are available, under {LOW_ENTROPY_BITS}: TLS handshakes may wait"
            ),
            advice,
        );
    }
    finding.summary =
        format!("the fullest table, {}, is {} % full", fullest.1, warden_host::quantity::number(fullest.0));
    table.row([
        "bits of entropy".into(),
        entropy.into(),
        Value::Nothing,
        Value::Nothing,
        Value::Code("kernel.random.entropy_avail".to_owned()),
    ]);
    let inodes = host.value("/proc/sys/fs/inode-nr").if_any()?;
    let inodes = inodes.and_then(|text| text.split_ascii_whitespace().next()?.parse::<u64>().ok());
    table.row([
        "inodes in memory".into(),
        inodes.into(),
        Value::Nothing,
        Value::Nothing,
        Value::Code("fs.inode-nr".to_owned()),
    ]);
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

fn usages(host: &Host) -> Result<Vec<Usage>> {
    let file_nr = host.value("/proc/sys/fs/file-nr")?;
    let [files, _, file_max] =
        numbers(&file_nr).ok_or_else(|| Error::parse("/proc/sys/fs/file-nr", format!("`{file_nr}`")))?;
    let loadavg = host.value("/proc/loadavg")?;
    let threads = threads(&loadavg).ok_or_else(|| Error::parse("/proc/loadavg", format!("`{loadavg}`")))?;
    const TOP_THREADS: &str = "ps -eo nlwp,pid,comm --sort=-nlwp | head -n 15";
    let mut usages = vec![Usage {
        name: "open files",
        used: files,
        limit: file_max,
        parameter: "fs.file-max",
        find: "for p in /proc/[0-9]*; do echo \"$(ls $p/fd 2>/dev/null | wc -l) $(cat $p/comm)\"; done | sort -n | tail -n 15",
    }];
    let mut add = |name, used: Option<u64>, path, parameter, find| -> Result<()> {
        if let (Some(used), Some(limit)) = (used, number_if_any(host, path)?) {
            usages.push(Usage { name, used, limit, parameter, find });
        }
        Ok(())
    };
    add("process ids", Some(threads), "/proc/sys/kernel/pid_max", "kernel.pid_max", TOP_THREADS)?;
    add("threads", Some(threads), "/proc/sys/kernel/threads-max", "kernel.threads-max", TOP_THREADS)?;
    let aio = number_if_any(host, "/proc/sys/fs/aio-nr")?;
    add(
        "asynchronous I/O requests",
        aio,
        "/proc/sys/fs/aio-max-nr",
        "fs.aio-max-nr",
        "grep -l aio /proc/[0-9]*/maps",
    )?;
    let terminals = number_if_any(host, "/proc/sys/kernel/pty/nr")?;
    add("pseudo-terminals", terminals, "/proc/sys/kernel/pty/max", "kernel.pty.max", "who")?;
    Ok(usages)
}

/// The number of a file that this kernel may not have.
fn number_if_any(host: &Host, path: &str) -> Result<Option<u64>> {
    let Some(text) = host.value(path).if_any()? else { return Ok(None) };
    text.parse().map(Some).map_err(|_| Error::parse(path, format!("`{text}` is not a number")))
}

/// `1 of 234` in the fourth word of /proc/loadavg: 234 threads exist, kernel threads included.
fn threads(loadavg: &str) -> Option<u64> {
    loadavg.split_ascii_whitespace().nth(3)?.split_once('/')?.1.parse().ok()
}

fn numbers<const N: usize>(text: &str) -> Option<[u64; N]> {
    let numbers: Vec<u64> =
        text.split_ascii_whitespace().map(|word| word.parse().ok()).collect::<Option<_>>()?;
    numbers.try_into().ok()
}

/// fs.file-max is 2^63-1 on current systems, which is no limit.
fn limit(limit: u64) -> Value {
    if limit >= i64::MAX as u64 { "none".into() } else { limit.into() }
}

fn judge(percent: f64) -> Option<Verdict> {
    match percent {
        percent if percent >= FAIL_PERCENT => Some(Verdict::Fail),
        percent if percent >= WARN_PERCENT => Some(Verdict::Warn),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn with_threads(threads: u64) -> Recorded {
        Recorded::complete()
            .file("/proc/sys/fs/file-nr", "1664\t0\t9223372036854775807\n")
            .file("/proc/loadavg", &format!("0.01 0.05 0.00 2/{threads} 4711\n"))
            .file("/proc/sys/kernel/pid_max", "1000\n")
            .file("/proc/sys/kernel/threads-max", "200000\n")
            .file("/proc/sys/fs/aio-nr", "0\n")
            .file("/proc/sys/fs/aio-max-nr", "65536\n")
            .file("/proc/sys/fs/inode-nr", "41000 2000\n")
            .file("/proc/sys/kernel/random/entropy_avail", "256\n")
    }

    #[test]
    fn room_in_every_table_passes() {
        let finding = run(&with_threads(300).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "the fullest table, process ids, is 30 % full");
    }

    #[test]
    fn seventy_percent_warns_and_ninety_fails() {
        let verdicts =
            [699, 700, 899, 900].map(|threads| run(&with_threads(threads).host()).unwrap().verdict());
        assert_eq!(verdicts, [Verdict::Pass, Verdict::Warn, Verdict::Warn, Verdict::Fail]);
        let finding = run(&with_threads(900).host()).unwrap();
        assert_eq!(finding.problems[0].text, "900 of 1000 process ids are in use (90 %)");
    }

    #[test]
    fn little_entropy_warns() {
        let finding =
            run(&with_threads(1).file("/proc/sys/kernel/random/entropy_avail", "60").host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(
            finding.problems[0].text,
            "60 bits of entropy are available, under 128: TLS handshakes may wait"
        );
    }

    #[test]
    fn a_limit_of_nothing_is_full() {
        let host = with_threads(1).file("/proc/sys/fs/file-nr", "10 0 0").host();
        assert_eq!(run(&host).unwrap().verdict(), Verdict::Fail);
    }

    #[test]
    fn torn_or_denied_numbers_are_unknown() {
        let torn = run(&with_threads(1).file("/proc/sys/fs/file-nr", "10 0").host());
        assert_eq!(torn.unwrap_err().to_string(), "cannot understand /proc/sys/fs/file-nr: `10 0`");
        assert!(run(&with_threads(1).denied("/proc/sys/kernel/pid_max").host()).is_err());
    }
}
