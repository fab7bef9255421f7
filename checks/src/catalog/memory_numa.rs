//! memory-numa: is memory taken from the node whose core asked for it.

use std::collections::BTreeMap;

use warden_host::Host;
use warden_host::proc::{counter, kibibytes};
use warden_host::quantity::number;

use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Series, Table, Unit, Value,
    Verdict,
};

pub const CHECK: Check = Check {
    id: "memory-numa",
    area: Area::Memory,
    title: "Is memory local to the cores that use it?",
    why: "Iggy pins a shard to a core and wants its memory on the same NUMA node. Memory of another node is reached over \
          the link between the sockets, at up to twice the latency and with less bandwidth.",
    reads: &[
        Read::Path("/sys/devices/system/node/*/numastat"),
        Read::Path("/sys/devices/system/node/*/meminfo"),
    ],
    thresholds: &["warns when over 20 % of a node's allocations since boot had to go to another node"],
    advice: "Keep Iggy's cpu_allocation at numa:auto, or bind the unit to one node with NUMAPolicy=bind and NUMAMask=.",
    deadline: DEADLINE,
    run,
};

const WARN_PERCENT: f64 = 20.0;

/// Pages since boot. Source: Documentation/admin-guide/numastat.rst.
struct Node {
    /// Wanted here and taken here.
    hit: u64,
    /// Wanted here, taken elsewhere because this node was full.
    foreign: u64,
    /// Taken here by a program that ran on this node, and by one that ran elsewhere.
    local: u64,
    other: u64,
}

fn run(host: &Host) -> Result<Finding> {
    let stats = host.read_all("/sys/devices/system/node/*/numastat")?;
    let nodes: BTreeMap<u32, Node> = stats
        .iter()
        .filter_map(|file| {
            node_number(&file.path)
                .map(|number| Node::parse(&file.path, &file.text).map(|node| (number, node)))
        })
        .collect::<Result<_>>()?;
    if nodes.is_empty() {
        return Ok(Finding::skip("this kernel knows no NUMA nodes"));
    }
    if nodes.len() == 1 {
        return Ok(Finding::skip("this machine has one NUMA node, so all memory is local"));
    }
    let meminfo: BTreeMap<u32, String> = host
        .read_all("/sys/devices/system/node/*/meminfo")?
        .into_iter()
        .filter_map(|file| Some((node_number(&file.path)?, file.text)))
        .collect();

    let mut finding = Finding::new("");
    let mut table = Table::new(
        "Nodes",
        ["node", "memory", "free", "went to another node", "used from another node", "pages wanted here"],
    );
    let mut chart =
        Series::bars("Allocations since boot that went to another node", Unit::Percent, ["foreign"]);
    (chart.top, chart.limit) = (Some(100.0), Some(WARN_PERCENT));
    let mut worst = (-1.0, 0);
    for (&id, node) in &nodes {
        let foreign = percent(node.foreign, node.hit);
        let of = |name: &str| {
            let text = meminfo.get(&id)?.replace(&format!("Node {id} "), "");
            kibibytes(&text, name)
        };
        let size = |name| of(name).map_or(Value::Nothing, Value::Bytes);
        let wanted = node.hit.saturating_add(node.foreign);
        let cells = [
            u64::from(id).into(),
            size("MemTotal"),
            size("MemFree"),
            Value::Percent(foreign),
            Value::Percent(percent(node.other, node.local)),
            wanted.into(),
        ];
        chart.point(format!("node {id}"), [foreign]);
        if foreign > WARN_PERCENT {
            table.marked_row(Verdict::Warn, cells);
            let text = format!(
                "{} % of the {wanted} pages wanted on node {id} came from another node",
                number(foreign)
            );
            finding.warn(text, Advice::run(CHECK.advice, "grep . /sys/devices/system/node/node*/numastat"));
        } else {
            table.row(cells);
        }
        if foreign > worst.0 {
            worst = (foreign, id);
        }
    }
    finding.summary = format!(
        "of {} nodes, node {} had to place the most memory elsewhere: {} %",
        nodes.len(),
        worst.1,
        number(worst.0)
    );
    finding.show(Evidence::Series(chart));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

fn node_number(path: &str) -> Option<u32> {
    path.split('/').nth_back(1)?.strip_prefix("node")?.parse().ok()
}

impl Node {
    fn parse(path: &str, text: &str) -> Result<Node> {
        let counter =
            |name: &str| counter(text, name).ok_or_else(|| Error::parse(path, format!("no {name}")));
        Ok(Node {
            hit: counter("numa_hit")?,
            foreign: counter("numa_foreign")?,
            local: counter("local_node")?,
            other: counter("other_node")?,
        })
    }
}

/// `part` of `part + rest`, 0 to 100.
fn percent(part: u64, rest: u64) -> f64 {
    match part.saturating_add(rest) {
        0 => 0.0,
        whole => part as f64 * 100.0 / whole as f64,
    }
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    fn node(host: Recorded, id: u32, hit: u64, foreign: u64) -> Recorded {
        let stat = format!(
            "numa_hit {hit}\nnuma_miss 0\nnuma_foreign {foreign}\ninterleave_hit 0\nlocal_node 90\nother_node 10\n"
        );
        let directory = format!("/sys/devices/system/node/node{id}");
        host.file(&format!("{directory}/numastat"), &stat).file(
            &format!("{directory}/meminfo"),
            &format!("Node {id} MemTotal: 1024 kB\nNode {id} MemFree: 512 kB\n"),
        )
    }

    fn two(hit: u64, foreign: u64) -> Finding {
        run(&node(node(Recorded::complete(), 0, 100, 0), 1, hit, foreign).host()).unwrap()
    }

    #[test]
    fn one_node_or_none_skips() {
        assert_eq!(run(&Recorded::complete().host()).unwrap().summary, "this kernel knows no NUMA nodes");
        let one = run(&node(Recorded::complete(), 0, 1, 0).host()).unwrap();
        assert_eq!(
            (one.verdict(), one.summary.as_str()),
            (Verdict::Skip, "this machine has one NUMA node, so all memory is local")
        );
    }

    #[test]
    fn local_memory_passes() {
        let finding = two(100, 0);
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "of 2 nodes, node 0 had to place the most memory elsewhere: 0 %");
        let Evidence::Table(table) = &finding.evidence[1] else { panic!("no table") };
        assert_eq!(table.rows[1].cells[1..3], [Value::Bytes(1 << 20), Value::Bytes(1 << 19)]);
    }

    #[test]
    fn over_twenty_percent_from_elsewhere_warns() {
        assert_eq!(two(80, 20).verdict(), Verdict::Pass);
        let finding = two(79, 21);
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "21 % of the 100 pages wanted on node 1 came from another node");
    }

    #[test]
    fn a_torn_file_is_unknown_and_huge_counters_do_not_overflow() {
        let torn =
            node(Recorded::complete(), 0, 1, 0).file("/sys/devices/system/node/node1/numastat", "numa_hit");
        assert!(run(&torn.host()).is_err());
        assert_eq!(two(u64::MAX, u64::MAX).verdict(), Verdict::Warn);
    }
}
