//! network-tcp: does TCP (and the UDP below QUIC) work without loss and without queues that overflow.

use std::collections::BTreeMap;

use warden_host::{Host, IfAny, Part};

use crate::sockets::{CLOSE_WAIT, STATES, Socket};
use crate::{
    Advice, Area, Check, DEADLINE, Evidence, Fields, Finding, Read, Result, Series, Unit, Value, Verdict,
    quantity,
};

pub const CHECK: Check = Check {
    id: "network-tcp",
    area: Area::Network,
    title: "Is TCP healthy?",
    why: "A lost segment costs its connection 200 ms and more, hundreds of times what Iggy takes for a request. A \
          listener whose queue overflows turns new clients away in silence, and connections that their owner does not \
          close keep descriptors for ever.",
    reads: &[
        Read::Sample("/proc/net/snmp"),
        Read::Sample("/proc/net/netstat"),
        Read::Path("/proc/net/sockstat"),
        Read::Path("/proc/net/tcp"),
        Read::Path("/proc/net/tcp6"),
        Read::Path("/proc/sys/net/ipv4/tcp_mem"),
    ],
    thresholds: &[
        "warns when over 1 % of the segments were sent again, fails over 5 % (in the pause if 500 or more were sent, else since boot if 10,000 or more)",
        "warns when a listener's queue overflows or UDP receive buffers do, notes that one did since boot",
        "warns at 100 connections in CLOSE_WAIT",
        "warns when TCP uses its memory up to the pressure mark, fails at the limit",
    ],
    advice: "Look for loss on the path (mtr), full queues (ss -ltn) and clients or servers that do not close.",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 1.0;
const FAIL_PERCENT: f64 = 5.0;
/// Fewer segments than these say little: one lost tail would decide.
const SEGMENTS_IN_PAUSE: u64 = 500;
const SEGMENTS_SINCE_BOOT: u64 = 10_000;
/// A handful is normal while clients leave; a hundred is a leak.
const CLOSE_WAITS: u64 = 100;

fn run(host: &Host) -> Result<Finding> {
    let (snmp, netstat) = (host.sample_file("/proc/net/snmp")?, host.sample_file("/proc/net/netstat")?);
    let seconds = snmp.2;
    let (snmp, netstat) = (Counted { texts: [snmp.0, snmp.1] }, Counted { texts: [netstat.0, netstat.1] });
    let mut finding = Finding::new("");
    let mut fields = Fields::new("Counters");

    let (sent, again) = (snmp.count("Tcp", "OutSegs"), snmp.count("Tcp", "RetransSegs"));
    let share = judge_retransmits(&mut finding, sent, again, seconds);
    fields = fields
        .row("segments sent, in the pause", sent.during)
        .row("segments sent, since boot", sent.since_boot);
    fields =
        fields.row("sent again, in the pause", again.during).row("sent again, since boot", again.since_boot);

    let overflows = [
        ("TcpExt", "ListenOverflows", "connections turned away by a full queue"),
        ("TcpExt", "TCPBacklogDrop", "segments dropped by a full socket"),
        ("TcpExt", "TCPAbortOnMemory", "connections cut for want of memory"),
    ];
    for (group, name, what) in overflows {
        let count = netstat.count(group, name);
        judge_overflow(
            &mut finding,
            what,
            count,
            seconds,
            "ss -ltn; sysctl net.core.somaxconn net.ipv4.tcp_mem",
        );
        fields = fields.row(format!("{what}, since boot"), count.since_boot);
    }
    let full = snmp.count("Udp", "RcvbufErrors");
    let what = "datagrams (QUIC) dropped by a full receive buffer";
    judge_overflow(&mut finding, what, full, seconds, "sysctl -w net.core.rmem_max=7500000");
    fields = fields.row(format!("{what}, since boot"), full.since_boot);

    if let Some(sockstat) = host.read("/proc/net/sockstat").if_any()? {
        let limits = host.value("/proc/sys/net/ipv4/tcp_mem").if_any()?;
        fields = judge_memory(&mut finding, fields, &sockstat, limits.as_deref().unwrap_or_default());
    }
    let connections = judge_states(&mut finding, host);

    finding.summary = match share {
        Some((percent, when)) => {
            format!("{} % of the segments were sent again {when}", quantity::number(percent))
        }
        None => format!("only {} segments were sent since boot, too few to judge loss", sent.since_boot),
    };
    finding.show(Evidence::Fields(fields));
    finding.evidence.extend(connections);
    Ok(finding)
}

fn judge_retransmits(
    finding: &mut Finding,
    sent: Count,
    again: Count,
    seconds: f64,
) -> Option<(f64, String)> {
    let (percent, when) = if sent.during >= SEGMENTS_IN_PAUSE {
        (again.during as f64 * 100.0 / sent.during as f64, format!("in {}", quantity::duration(seconds)))
    } else if sent.since_boot >= SEGMENTS_SINCE_BOOT {
        (again.since_boot as f64 * 100.0 / sent.since_boot as f64, "since boot".to_owned())
    } else {
        return None;
    };
    let severity = match percent {
        percent if percent > FAIL_PERCENT => Some(Verdict::Fail),
        percent if percent > WARN_PERCENT => Some(Verdict::Warn),
        _ => None,
    };
    if let Some(severity) = severity {
        let advice = Advice::run(
            "Find the peers with loss, then the hop that loses.",
            "ss -tin state established | grep -B1 retrans",
        );
        finding.problem(
            severity,
            format!("{} % of the segments sent {when} were sent again", quantity::number(percent)),
            advice,
        );
    }
    Some((percent, when))
}

fn judge_overflow(finding: &mut Finding, what: &str, count: Count, seconds: f64, command: &str) {
    let advice = || {
        Advice::run("Enlarge the queue or the buffer, and see why its owner is slow to empty it.", command)
    };
    if count.during > 0 {
        finding.warn(format!("{} {what} in {}", count.during, quantity::duration(seconds)), advice());
    } else if count.since_boot > 0 {
        finding.note(format!("{} {what} since boot", count.since_boot), advice());
    }
}

/// Memory of TCP against the marks of tcp_mem (low, pressure, high), all in pages (tcp(7)).
fn judge_memory(finding: &mut Finding, fields: Fields, sockstat: &str, limits: &str) -> Fields {
    let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:")).unwrap_or_default();
    let words: Vec<&str> = tcp.split_ascii_whitespace().collect();
    let value = |name| words.chunks_exact(2).find(|pair| pair[0] == name)?[1].parse::<u64>().ok();
    let limits: Vec<u64> = limits.split_ascii_whitespace().filter_map(|word| word.parse().ok()).collect();
    if let (Some(pages), &[_, pressure, high]) = (value("mem"), limits.as_slice()) {
        let advice = || {
            Advice::run(
                "Raise the marks, and see who leaves data unread.",
                "ss -tm | sort -k2 -n | tail; sysctl net.ipv4.tcp_mem",
            )
        };
        if pages >= high {
            finding.fail(
                format!("TCP uses {pages} pages, at its limit of {high}: it drops what arrives"),
                advice(),
            );
        } else if pages >= pressure {
            finding.warn(format!("TCP uses {pages} pages, over its pressure mark of {pressure}"), advice());
        }
    }
    fields
        .row("in TIME_WAIT", value("tw"))
        .row("without an owner", value("orphan"))
        .row("pages used", value("mem"))
        .row("pages allowed", limits.get(2).copied())
}

fn judge_states(finding: &mut Finding, host: &Host) -> Option<Evidence> {
    let Part { value: sockets, missing } = match Socket::tcp_part(host, "/proc") {
        Ok(sockets) => sockets,
        Err(error) => {
            finding
                .note(format!("connections were not counted: {error}"), Advice::text("Run Warden as root."));
            return None;
        }
    };
    let cut = missing.is_some();
    let mut states = [0u64; STATES.len()];
    let mut unclosed: BTreeMap<u16, u64> = BTreeMap::new();
    for socket in &sockets {
        if let Some(count) = states.get_mut(usize::from(socket.state).wrapping_sub(1)) {
            *count += 1;
        }
        if socket.state == CLOSE_WAIT {
            *unclosed.entry(socket.port).or_default() += 1;
        }
    }
    let waiting = states[usize::from(CLOSE_WAIT) - 1];
    if waiting >= CLOSE_WAITS {
        let (port, most) = unclosed.into_iter().max_by_key(|&(_, count)| count).unwrap_or_default();
        let least = if cut { "at least " } else { "" };
        let text =
            format!("{least}{waiting} connections are in CLOSE_WAIT, {most} of them on local port {port}");
        let advice =
            "The peer has closed and the owner here has not: find it, and restart it if it is stuck.";
        finding.warn(text, Advice::run(advice, "ss -tnp state close-wait"));
    }
    let title = if cut { "Connections by state (at least)" } else { "Connections by state" };
    let mut chart = Series::bars(title, Unit::Count, ["connections"]);
    for (name, count) in STATES.iter().zip(states).filter(|(_, count)| *count > 0) {
        chart.point(*name, [count as f64]);
    }
    (!chart.points.is_empty()).then_some(Evidence::Series(chart))
}

/// A file of counters before and after the pause.
struct Counted {
    texts: [String; 2],
}

#[derive(Clone, Copy)]
struct Count {
    during: u64,
    since_boot: u64,
}

impl From<Count> for Value {
    fn from(count: Count) -> Value {
        count.since_boot.into()
    }
}

impl Counted {
    /// A counter that this kernel does not have is zero, one that stepped back stands still.
    fn count(&self, group: &str, name: &str) -> Count {
        let [first, second] = &self.texts;
        let (first, second) = (counter(first, group, name), counter(second, group, name).unwrap_or(0));
        Count { during: second.saturating_sub(first.unwrap_or(second)), since_boot: second }
    }
}

/// A column of /proc/net/snmp or /proc/net/netstat: a line of names, then one of numbers, both begin with the group.
fn counter(text: &str, group: &str, name: &str) -> Option<u64> {
    let mut lines = text.lines().filter_map(|line| line.strip_prefix(group)?.strip_prefix(':'));
    let (names, numbers) = (lines.next()?, lines.next()?);
    let at = names.split_ascii_whitespace().position(|other| other == name)?;
    numbers.split_ascii_whitespace().nth(at)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn snmp(sent: u64, again: u64, full: u64) -> String {
        format!(
            "Ip: Forwarding\nIp: 2\nTcp: MaxConn OutSegs RetransSegs\nTcp: -1 {sent} {again}\nUdp: InDatagrams RcvbufErrors\nUdp: 1 {full}\n"
        )
    }

    fn netstat(overflows: u64) -> String {
        format!(
            "TcpExt: SyncookiesSent ListenOverflows\nTcpExt: 0 {overflows}\nIpExt: InNoRoutes\nIpExt: 0\n"
        )
    }

    /// After a second in which so much was sent, sent again, and turned away.
    fn second(sent: u64, again: u64, overflows: u64) -> Recorded {
        Recorded::complete()
            .sample("/proc/net/snmp", &snmp(100, 0, 0), &snmp(100 + sent, again, 0), 1.0)
            .sample("/proc/net/netstat", &netstat(0), &netstat(overflows), 1.0)
            .file("/proc/net/sockstat", "sockets: used 21\nTCP: inuse 1 orphan 0 tw 3 alloc 1 mem 174\n")
            .file("/proc/sys/net/ipv4/tcp_mem", "100\t200\t300\n")
            .file("/proc/net/tcp", "  sl  local_address\n")
    }

    fn examined(recorded: Recorded) -> (Verdict, Vec<String>) {
        let finding = run(&recorded.host()).unwrap();
        (finding.verdict(), finding.problems.into_iter().map(|problem| problem.text).collect())
    }

    #[test]
    fn traffic_without_loss_passes() {
        let finding = run(&second(1000, 10, 0).host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "1 % of the segments were sent again in 1 s")
        );
        let idle = run(&second(10, 5, 0).host()).unwrap();
        assert_eq!(idle.summary, "only 110 segments were sent since boot, too few to judge loss");
        assert_eq!(idle.verdict(), Verdict::Pass);
    }

    #[test]
    fn loss_warns_then_fails() {
        assert_eq!(
            examined(second(1000, 11, 0)),
            (Verdict::Warn, vec!["1.1 % of the segments sent in 1 s were sent again".to_owned()])
        );
        assert_eq!(examined(second(1000, 50, 0)).0, Verdict::Warn);
        assert_eq!(examined(second(1000, 51, 0)).0, Verdict::Fail);
        let idle =
            second(0, 0, 0).sample("/proc/net/snmp", &snmp(10_000, 200, 0), &snmp(10_000, 200, 0), 1.0);
        assert_eq!(
            examined(idle),
            (Verdict::Warn, vec!["2 % of the segments sent since boot were sent again".to_owned()])
        );
    }

    #[test]
    fn queues_that_overflow_warn_and_ones_that_did_are_noted() {
        assert_eq!(
            examined(second(1, 0, 3)),
            (Verdict::Warn, vec!["3 connections turned away by a full queue in 1 s".to_owned()])
        );
        let before = second(1, 0, 0).sample("/proc/net/netstat", &netstat(3), &netstat(3), 1.0);
        assert_eq!(
            examined(before),
            (Verdict::Note, vec!["3 connections turned away by a full queue since boot".to_owned()])
        );
        let datagrams = second(1, 0, 0).sample("/proc/net/snmp", &snmp(1, 0, 0), &snmp(1, 0, 2), 1.0);
        assert_eq!(examined(datagrams).0, Verdict::Warn);
    }

    #[test]
    fn memory_over_its_marks_warns_then_fails() {
        let with =
            |pages: u32| second(1, 0, 0).file("/proc/net/sockstat", &format!("TCP: inuse 1 mem {pages}\n"));
        assert_eq!(
            examined(with(200)),
            (Verdict::Warn, vec!["TCP uses 200 pages, over its pressure mark of 200".to_owned()])
        );
        assert_eq!(examined(with(300)).0, Verdict::Fail);
        assert_eq!(examined(with(199)).0, Verdict::Pass);
    }

    #[test]
    fn connections_that_nobody_closes_warn() {
        let line = "   0: 0100007F:1F9A 0100007F:0001 08 00000000:00000000 00:00000000 00000000   997        0 1465 1\n";
        assert_eq!(examined(second(1, 0, 0).file("/proc/net/tcp", &line.repeat(99))).0, Verdict::Pass);
        let many = examined(second(1, 0, 0).file("/proc/net/tcp", &line.repeat(100)));
        let text = "100 connections are in CLOSE_WAIT, 100 of them on local port 8090";
        assert_eq!(many, (Verdict::Warn, vec![text.to_owned()]));
    }

    #[test]
    fn connections_that_may_not_be_counted_are_said_and_no_counters_are_an_error() {
        let text = "connections were not counted: /proc/net/tcp: permission denied";
        assert_eq!(examined(second(1, 0, 0).denied("/proc/net/tcp")), (Verdict::Note, vec![text.to_owned()]));
        assert!(run(&Recorded::complete().host()).is_err());
    }
}
