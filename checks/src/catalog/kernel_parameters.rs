//! kernel-parameters: are the sysctls right for a broker.

use std::collections::BTreeMap;

use warden_host::{Host, IfAny, PLACEHOLDER};

use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Table, Value, Verdict,
    component_matches,
};

pub const CHECK: Check = Check {
    id: "kernel-parameters",
    area: Area::Kernel,
    title: "Are the kernel's parameters right for a broker?",
    why: "A broker holds many files and connections, writes without pause, and lives on the page cache. A parameter \
          that was lowered, or left at an old default, shows as refused clients, write stalls or swapping under load only.",
    reads: &[
        Read::Path("/proc/sys/fs/*"),
        Read::Path("/proc/sys/vm/*_*"),
        Read::Path("/proc/sys/vm/swappiness"),
        Read::Path("/proc/sys/kernel/*"),
        Read::Path("/proc/sys/net/core/*"),
        Read::Path("/proc/sys/net/ipv4/*"),
        Read::Path("/proc/swaps"),
    ],
    thresholds: &[
        "warns about each parameter outside the range that the table names, where that breaks or stalls a broker",
        "notes those where it only costs speed",
    ],
    advice: "Set what is named with sysctl -w, and keep it in a file below /etc/sysctl.d.",
    deadline: DEADLINE,
    run,
};

/// Not `/proc/sys/vm/*`: of the files without an underscore only this one is of use.
const PATTERNS: [&str; 6] = [
    "/proc/sys/fs/*",
    "/proc/sys/vm/*_*",
    "/proc/sys/vm/swappiness",
    "/proc/sys/kernel/*",
    "/proc/sys/net/core/*",
    "/proc/sys/net/ipv4/*",
];

/// What a value should be. A parameter of several numbers is judged by the last.
enum Range {
    AtLeast(i64),
    AtMost(i64),
    Between(i64, i64),
    /// The two numbers should be that far apart.
    Span(i64),
    /// Shown, because an expert asks for it.
    Shown,
}

struct Parameter {
    name: &'static str,
    /// The default of current kernels; empty where it depends on the machine.
    default: &'static str,
    range: Range,
    severity: Verdict,
    why: &'static str,
}

const fn warn(name: &'static str, default: &'static str, range: Range, why: &'static str) -> Parameter {
    Parameter { name, default, range, severity: Verdict::Warn, why }
}

const fn note(name: &'static str, default: &'static str, range: Range, why: &'static str) -> Parameter {
    Parameter { name, default, range, severity: Verdict::Note, why }
}

const fn shown(name: &'static str, default: &'static str, why: &'static str) -> Parameter {
    Parameter { name, default, range: Range::Shown, severity: Verdict::Note, why }
}

/// Sources: Documentation/admin-guide/sysctl of the kernel, and the Linux tuning page of Iggy.
#[rustfmt::skip]
const PARAMETERS: &[Parameter] = &[
    warn("fs.file-max", "9223372036854775807", Range::AtLeast(262_144), "open files of the whole machine; Iggy holds four for each partition"),
    warn("fs.nr_open", "1048576", Range::AtLeast(65_536), "no LimitNOFILE= can go above it"),
    note("fs.aio-max-nr", "65536", Range::AtLeast(65_536), "asynchronous I/O of other databases on this host"),
    warn("vm.max_map_count", "65530", Range::AtLeast(65_530), "memory maps of one process; an allocator that runs out aborts it"),
    note("vm.swappiness", "60", Range::AtMost(10), "a broker that is swapped out stalls every shard; the page cache can be read again"),
    warn("vm.overcommit_memory", "0", Range::AtMost(1), "with 2 the kernel refuses the memory that Iggy's pool and allocator reserve ahead"),
    shown("vm.overcommit_ratio", "50", "counts only when vm.overcommit_memory is 2"),
    warn("vm.dirty_ratio", "20", Range::AtMost(40), "above this share of memory every writer waits for the disk"),
    note("vm.dirty_background_ratio", "10", Range::AtMost(10), "write-back begins here; later means longer stalls when it does"),
    shown("vm.dirty_bytes", "0", "used instead of vm.dirty_ratio when set"),
    shown("vm.dirty_background_bytes", "0", "used instead of vm.dirty_background_ratio when set"),
    note("vm.dirty_expire_centisecs", "3000", Range::AtMost(3_000), "how long written data may stay in memory only"),
    warn("vm.dirty_writeback_centisecs", "500", Range::Between(1, 1_500), "how often the flusher wakes; 0 switches it off"),
    warn("vm.zone_reclaim_mode", "0", Range::AtMost(0), "drops page cache of a NUMA node while another has room"),
    note("vm.vfs_cache_pressure", "100", Range::AtMost(200), "higher drops the inodes of segments early"),
    shown("vm.min_free_kbytes", "", "memory kept for bursts, such as network receive"),
    shown("vm.watermark_scale_factor", "10", "how early reclaim begins"),
    note("vm.panic_on_oom", "0", Range::AtMost(0), "the machine stops instead of one process"),
    warn("net.core.somaxconn", "4096", Range::AtLeast(4_096), "Iggy asks for a backlog of 4096; a lower value cuts it silently"),
    note("net.core.netdev_max_backlog", "1000", Range::AtLeast(1_000), "packets that wait for a busy core"),
    warn("net.core.rmem_max", "212992", Range::AtLeast(212_992), "largest receive buffer a socket may ask for; QUIC lives on it"),
    warn("net.core.wmem_max", "212992", Range::AtLeast(212_992), "largest send buffer a socket may ask for"),
    shown("net.core.rmem_default", "212992", "receive buffer of UDP sockets that ask for none"),
    shown("net.core.wmem_default", "212992", "send buffer of UDP sockets that ask for none"),
    shown("net.core.default_qdisc", "", "how packets queue on each interface"),
    note("net.ipv4.tcp_rmem", "4096 131072 6291456", Range::AtLeast(4_194_304), "largest receive window of a connection: bandwidth times delay"),
    note("net.ipv4.tcp_wmem", "4096 16384 4194304", Range::AtLeast(4_194_304), "largest send window of a connection"),
    shown("net.ipv4.tcp_mem", "", "pages of all TCP buffers together"),
    note("net.ipv4.tcp_max_syn_backlog", "", Range::AtLeast(512), "half-open connections of a listener"),
    note("net.ipv4.tcp_syncookies", "1", Range::AtLeast(1), "without cookies a full backlog drops clients"),
    note("net.ipv4.tcp_abort_on_overflow", "0", Range::AtMost(0), "resets clients in a short burst instead of letting them retry"),
    warn("net.ipv4.tcp_window_scaling", "1", Range::AtLeast(1), "without it no connection has more than 64 KiB in flight"),
    warn("net.ipv4.tcp_sack", "1", Range::AtLeast(1), "without it one lost packet costs a round trip each"),
    note("net.ipv4.tcp_timestamps", "1", Range::AtLeast(1), "needed to measure round trips and to reuse ports"),
    shown("net.ipv4.tcp_slow_start_after_idle", "1", "0 keeps the window of clients that pause"),
    shown("net.ipv4.tcp_congestion_control", "cubic", "how a connection finds its speed"),
    shown("net.ipv4.tcp_keepalive_time", "7200", "seconds before a silent client is probed"),
    shown("net.ipv4.tcp_fin_timeout", "60", "seconds a closed connection lingers"),
    shown("net.ipv4.tcp_tw_reuse", "2", "reuse of waiting ports for new connections out"),
    note("net.ipv4.ip_local_port_range", "32768 60999", Range::Span(16_384), "ports for connections out, such as those of the connectors"),
    warn("kernel.pid_max", "4194304", Range::AtLeast(32_768), "each thread takes a process id"),
    warn("kernel.threads-max", "", Range::AtLeast(16_384), "threads of the whole machine"),
    shown("kernel.numa_balancing", "", "moves pages between nodes; pinned shards gain nothing from it"),
    shown("kernel.sched_autogroup_enabled", "1", "groups the CPU time of sessions"),
    note("kernel.hung_task_timeout_secs", "120", Range::AtLeast(1), "0 keeps the kernel silent about stuck tasks"),
    shown("kernel.panic", "0", "seconds until a reboot after a panic; 0 waits for a person"),
    shown("kernel.panic_on_oops", "0", "whether the machine stops after a fault in the kernel"),
    note("kernel.randomize_va_space", "2", Range::AtLeast(2), "address randomisation, a defence that costs nothing"),
];

fn matches(pattern: &str, path: &str) -> bool {
    let (mut wanted, mut given) = (pattern.split('/'), path.split('/'));
    loop {
        match (wanted.next(), given.next()) {
            (None, None) => return true,
            (Some(wanted), Some(given)) if component_matches(wanted, given) => {}
            _ => return false,
        }
    }
}

fn run(host: &Host) -> Result<Finding> {
    let mut values = BTreeMap::new();
    for pattern in PATTERNS {
        // Some parameters are root's alone: they matter only where they are among those that are judged.
        let part = host.quietly(|host| host.read_all_part(pattern))?;
        for file in part.value {
            let name = file.path.trim_start_matches("/proc/sys/").replace('/', ".");
            let value = file.text.split_ascii_whitespace().collect::<Vec<_>>().join(" ");
            values.insert(name, value);
        }
        let is_judged = |name: &str| PARAMETERS.iter().any(|parameter| parameter.name == name);
        // Files that were cut away could be any; of those that may not be read, the first is named.
        let missing = part.missing.unwrap_or_default();
        let path = |name: &str| format!("/proc/sys/{}", name.replace('.', "/"));
        let is_hidden = |name: &str| {
            let could_be = missing.starts_with("only ") && matches(pattern, &path(name));
            !values.contains_key(name) && (could_be || missing.contains(&path(name)))
        };
        if PARAMETERS.iter().any(|parameter| is_hidden(parameter.name)) {
            host.read_all_part(pattern)?;
        }
        for (name, _) in values.iter().filter(|(name, value)| is_judged(name) && value.contains(PLACEHOLDER))
        {
            host.note_masked(&format!("/proc/sys/{}", name.replace('.', "/")));
        }
    }
    // Only the heading: nothing can be swapped out, whatever the wish.
    let has_no_swap = host.read("/proc/swaps").if_any()?.is_some_and(|swaps| swaps.lines().count() == 1);
    let mut finding = Finding::new("");
    let mut table = Table::new("Parameters", ["parameter", "value", "usual default", "wanted", "why"]);
    let (mut read, mut missing) = (0, Vec::new());
    for parameter in PARAMETERS {
        let Some(value) = values.get(parameter.name) else {
            missing.push(parameter.name);
            continue;
        };
        read += 1;
        let cells = [
            Value::Code(parameter.name.to_owned()),
            Value::Code(value.clone()),
            if parameter.default.is_empty() {
                Value::Nothing
            } else {
                Value::Code(parameter.default.to_owned())
            },
            parameter.range.words().into(),
            parameter.why.into(),
        ];
        if parameter.range.holds(value)? || parameter.name == "vm.swappiness" && has_no_swap {
            table.row(cells);
        } else {
            table.marked_row(parameter.severity, cells);
            let text = format!(
                "{} is {value}, wanted is {}: {}",
                parameter.name,
                parameter.range.words(),
                parameter.why
            );
            finding.problem(parameter.severity, text, advice(parameter, value));
        }
    }
    if read == 0 {
        return Err(Error::parse("/proc/sys", "none of the parameters could be read"));
    }
    for name in &missing {
        table.row([
            Value::Code((*name).to_owned()),
            Value::Nothing,
            Value::Nothing,
            Value::Nothing,
            "not readable on this kernel or in this container".into(),
        ]);
    }
    let outside = finding.problems.len();
    let are = if outside == 1 { "is" } else { "are" };
    finding.summary = format!("{outside} of {read} parameters {are} outside the wanted range");
    finding.show(Evidence::Table(table));
    Ok(finding)
}

impl Range {
    /// A value of no number is as wrong as one out of range only where a number is wanted.
    fn holds(&self, value: &str) -> Result<bool> {
        let number = |word: Option<&str>| {
            // fs.file-max goes up to 2^64-1 on some kernels.
            let number = word.and_then(|word| word.parse::<i128>().ok());
            number.ok_or_else(|| Error::parse("a kernel parameter", format!("`{value}` is not a number")))
        };
        let last = || number(value.split(' ').next_back());
        Ok(match *self {
            Range::AtLeast(least) => last()? >= i128::from(least),
            Range::AtMost(most) => last()? <= i128::from(most),
            Range::Between(least, most) => (i128::from(least)..=i128::from(most)).contains(&last()?),
            Range::Span(span) => last()? - number(value.split(' ').next())? >= i128::from(span),
            Range::Shown => true,
        })
    }

    fn words(&self) -> String {
        match self {
            Range::AtLeast(least) => format!("at least {least}"),
            Range::AtMost(0) => "0".to_owned(),
            Range::AtMost(most) => format!("at most {most}"),
            Range::Between(least, most) => format!("{least} to {most}"),
            Range::Span(span) => format!("at least {span} apart"),
            Range::Shown => "any".to_owned(),
        }
    }

    /// A value within the range that differs least from `value`.
    fn nearest(&self, value: &str) -> String {
        let mut words: Vec<String> = value.split(' ').map(str::to_owned).collect();
        let last = words.pop().unwrap_or_default();
        words.push(match self {
            Range::AtLeast(least) => least.to_string(),
            Range::AtMost(most) => most.to_string(),
            Range::Between(least, most) => {
                last.parse().unwrap_or(*most).clamp(*least, *most).max(*most / 3).to_string()
            }
            Range::Span(_) => return "32768 60999".to_owned(),
            Range::Shown => last,
        });
        words.join(" ")
    }
}

fn advice(parameter: &Parameter, value: &str) -> Advice {
    let (name, wanted) = (parameter.name, parameter.range.nearest(value));
    let command = format!(
        "sysctl -w {name}='{wanted}' && echo '{name} = {wanted}' >> /etc/sysctl.d/zz-warden-iggy.conf"
    );
    Advice::run("Set it now and for the next boot.", command)
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn good() -> Recorded {
        PARAMETERS.iter().fold(Recorded::complete(), |host, parameter| {
            let value = match parameter.name {
                "vm.swappiness" => "10",
                "net.ipv4.tcp_max_syn_backlog" | "kernel.threads-max" => "100000",
                _ => parameter.default,
            };
            host.file(&path(parameter.name), &format!("{}\n", value.replace(' ', "\t")))
        })
    }

    fn path(name: &str) -> String {
        format!("/proc/sys/{}", name.replace('.', "/"))
    }

    fn with(name: &str, value: &str) -> Finding {
        run(&good().file(&path(name), value).host()).unwrap()
    }

    #[test]
    fn the_defaults_of_a_current_kernel_pass_but_for_swappiness() {
        let finding = run(&good().host()).unwrap();
        assert_eq!((finding.verdict(), finding.problems.len()), (Verdict::Pass, 0));
        assert_eq!(
            finding.summary,
            format!("0 of {} parameters are outside the wanted range", PARAMETERS.len())
        );
        let swappy = with("vm.swappiness", "60\n");
        assert_eq!(swappy.verdict(), Verdict::Note);
        assert!(swappy.problems[0].text.starts_with("vm.swappiness is 60, wanted is at most 10: "));
        let without_swap = good()
            .file(&path("vm.swappiness"), "60")
            .file("/proc/swaps", "Filename Type Size Used Priority\n");
        assert_eq!(run(&without_swap.host()).unwrap().verdict(), Verdict::Pass);
    }

    #[test]
    fn the_boundary_is_within_the_range() {
        assert_eq!(with("net.core.somaxconn", "4096").verdict(), Verdict::Pass);
        let low = with("net.core.somaxconn", "128\n");
        assert_eq!(low.verdict(), Verdict::Warn);
        let command = low.problems[0].advice.command.as_deref();
        assert_eq!(
            command,
            Some(
                "sysctl -w net.core.somaxconn='4096' && echo 'net.core.somaxconn = 4096' >> /etc/sysctl.d/zz-warden-iggy.conf"
            )
        );
    }

    #[test]
    fn values_of_several_numbers_are_judged_by_the_last_or_by_their_distance() {
        let small = with("net.ipv4.tcp_rmem", "4096\t87380\t1048576\n");
        assert!(
            small.problems[0]
                .advice
                .command
                .as_deref()
                .unwrap()
                .starts_with("sysctl -w net.ipv4.tcp_rmem='4096 87380 4194304'")
        );
        assert_eq!(with("net.ipv4.ip_local_port_range", "50000\t60000").verdict(), Verdict::Note);
    }

    #[test]
    fn a_flusher_switched_off_warns() {
        let off = with("vm.dirty_writeback_centisecs", "0");
        assert_eq!(off.verdict(), Verdict::Warn);
        assert!(
            off.problems[0]
                .advice
                .command
                .as_deref()
                .unwrap()
                .starts_with("sysctl -w vm.dirty_writeback_centisecs='500'")
        );
    }

    #[test]
    fn the_largest_number_a_kernel_prints_is_no_problem() {
        assert_eq!(with("fs.file-max", "18446744073709551615").verdict(), Verdict::Pass);
    }

    #[test]
    fn a_container_without_net_core_is_judged_by_the_rest() {
        let finding = run(&Recorded::complete().file("/proc/sys/vm/swappiness", "1").host()).unwrap();
        assert_eq!(finding.summary, "0 of 1 parameters are outside the wanted range");
    }

    #[test]
    fn nothing_readable_and_no_number_are_unknown() {
        assert!(run(&Recorded::complete().host()).is_err());
        let error = run(&good().file("/proc/sys/vm/swappiness", "high").host()).unwrap_err();
        assert_eq!(error.to_string(), "cannot understand a kernel parameter: `high` is not a number");
    }
}
