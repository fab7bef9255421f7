//! memory-huge-pages: transparent and reserved huge pages.

use warden_host::proc::{field, kibibytes};
use warden_host::quantity::{bytes, count};
use warden_host::{Host, IfAny};

use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Table, Value};

pub const CHECK: Check = Check {
    id: "memory-huge-pages",
    area: Area::Memory,
    title: "Do huge pages get in the way?",
    why: "With transparent huge pages set to `always`, the kernel stops a shard to compact memory and a small buffer can \
          cost 2 MiB, so memory grows without a leak. Huge pages that were reserved and are not used are lost to the page cache.",
    reads: &[
        Read::Path("/proc/meminfo"),
        Read::Path("/sys/kernel/mm/transparent_hugepage/*"),
        Read::Path("/sys/kernel/mm/transparent_hugepage/khugepaged/defrag"),
        Read::Path("/sys/kernel/mm/hugepages/*/*"),
        Read::Path("/sys/devices/system/node/*/hugepages/*/*"),
        Read::Path("/sys/devices/system/node/*/meminfo"),
    ],
    thresholds: &[
        "warns when transparent huge pages or their defragmentation are set to `always`",
        "warns when reserved huge pages of any size that nobody uses take over 10 % of memory, or over 25 % of a NUMA node",
        "notes huge pages of which nobody says whether they are used",
    ],
    advice: "Set transparent huge pages to madvise and reserve only the huge pages that a program asks for.",
    deadline: DEADLINE,
    run,
};

const WARN_UNUSED_PERCENT: f64 = 10.0;
/// Of the memory of one node: what is missing there is taken from another node, only slower.
const WARN_UNUSED_OF_NODE_PERCENT: f64 = 25.0;
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage";
/// One file for each number, below a directory for each size of a page.
const POOLS: &str = "/sys/kernel/mm/hugepages/*/*";
const POOLS_OF_NODES: &str = "/sys/devices/system/node/*/hugepages/*/*";
const NODES: &str = "/sys/devices/system/node/*/meminfo";

/// Reserved pages of one size, of the machine or of one node (Documentation/admin-guide/mm/hugetlbpage.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Pool {
    /// `node1`; absent for the whole machine.
    node: Option<String>,
    page_bytes: u64,
    pages: u64,
    free: u64,
    /// Promised to a program that has not touched them yet.
    promised: u64,
    beyond_reservation: u64,
}

impl Pool {
    fn unused(&self) -> u64 {
        self.free.saturating_sub(self.promised).saturating_mul(self.page_bytes)
    }

    /// By files such as `.../hugepages-2048kB/nr_hugepages`; a node does not say what is promised.
    fn read(host: &Host, pattern: &str) -> Result<Vec<Pool>> {
        let mut pools: Vec<Pool> = Vec::new();
        for file in host.read_all(pattern)? {
            let mut parts = file.path.rsplit('/');
            let (Some(name), Some(size)) = (parts.next(), parts.next()) else { continue };
            let size =
                size.strip_prefix("hugepages-").and_then(|size| size.strip_suffix("kB")?.parse::<u64>().ok());
            let (Some(size), Ok(number)) = (size, file.text.trim().parse::<u64>()) else { continue };
            let node =
                file.path.strip_prefix("/sys/devices/system/node/").and_then(|rest| rest.split('/').next());
            let (node, page_bytes) = (node.map(str::to_owned), size.saturating_mul(1024));
            let is_same = |pool: &Pool| pool.node == node && pool.page_bytes == page_bytes;
            let at = pools.iter().position(is_same).unwrap_or_else(|| {
                pools.push(Pool { node: node.clone(), page_bytes, ..Pool::default() });
                pools.len() - 1
            });
            match name {
                "nr_hugepages" => pools[at].pages = number,
                "free_hugepages" => pools[at].free = number,
                "resv_hugepages" => pools[at].promised = number,
                "surplus_hugepages" => pools[at].beyond_reservation = number,
                _ => {}
            }
        }
        pools.sort_by(|a, b| (&a.node, a.page_bytes).cmp(&(&b.node, b.page_bytes)));
        Ok(pools)
    }
}

fn run(host: &Host) -> Result<Finding> {
    let meminfo = host.read("/proc/meminfo")?;
    let setting = |name: &str| host.value(&format!("{TRANSPARENT}/{name}")).if_any();
    let (enabled, defrag) = (setting("enabled")?, setting("defrag")?);
    let number = |name| field(&meminfo, name).and_then(|value| value.parse::<u64>().ok());
    if enabled.is_none() && number("HugePages_Total").is_none() {
        return Ok(Finding::skip("this kernel has no huge pages"));
    }
    let total =
        kibibytes(&meminfo, "MemTotal").ok_or_else(|| Error::parse("/proc/meminfo", "no MemTotal"))?;
    // /proc/meminfo counts pages of the default size only; sysfs has every size, and older recordings do not hold it.
    let of_default_size = Pool {
        node: None,
        page_bytes: kibibytes(&meminfo, "Hugepagesize").unwrap_or(0),
        pages: number("HugePages_Total").unwrap_or(0),
        free: number("HugePages_Free").unwrap_or(0),
        promised: number("HugePages_Rsvd").unwrap_or(0),
        beyond_reservation: number("HugePages_Surp").unwrap_or(0),
    };
    let mut pools = Pool::read(host, POOLS).unwrap_or_default();
    if pools.iter().all(|pool| pool.page_bytes != of_default_size.page_bytes) {
        pools.insert(0, of_default_size);
    }
    let reserved = pools.iter().map(|pool| pool.pages).fold(0, u64::saturating_add);
    let unused = pools.iter().map(Pool::unused).fold(0, u64::saturating_add);
    let known =
        pools.iter().map(|pool| pool.pages.saturating_mul(pool.page_bytes)).fold(0, u64::saturating_add);

    let mode = enabled.as_deref().map_or("absent", chosen);
    let mut finding = Finding::new(format!(
        "transparent huge pages: {mode}; reserved: {}",
        count(reserved, "page", "pages")
    ));
    if mode == "always" {
        let command = "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled";
        finding.warn("transparent huge pages are set to always", Advice::run("Let only programs that ask have them, and add transparent_hugepage=madvise to the kernel's command line.", command));
    }
    if mode != "never" && defrag.as_deref().map(chosen) == Some("always") {
        let command = "echo madvise > /sys/kernel/mm/transparent_hugepage/defrag";
        finding.warn(
            "the kernel compacts memory while a program waits for a huge page (defrag is always)",
            Advice::run("Compact in the background instead.", command),
        );
    }
    let percent = unused as f64 * 100.0 / total.max(1) as f64;
    if percent > WARN_UNUSED_PERCENT {
        let text = format!(
            "{} of memory ({percent:.0} %) is reserved for huge pages that nobody uses{}",
            bytes(unused),
            sizes(&pools)
        );
        finding.warn(text, give_back());
    }
    // All sizes together, since Linux 4.15.
    let other = kibibytes(&meminfo, "Hugetlb").unwrap_or(0).saturating_sub(known);
    let other_percent = other as f64 * 100.0 / total.max(1) as f64;
    if other_percent > WARN_UNUSED_PERCENT {
        let text = format!(
            "{} of memory ({other_percent:.0} %) is reserved for huge pages of other sizes; whether they are used is not known",
            bytes(other)
        );
        finding.note(
            text,
            Advice::run("Look at the pools of each size.", "grep . /sys/kernel/mm/hugepages/*/*"),
        );
    }
    let nodes = Pool::read(host, POOLS_OF_NODES).unwrap_or_default();
    if unused as f64 <= total as f64 * WARN_UNUSED_PERCENT / 100.0 {
        judge_nodes(host, &mut finding, &nodes);
    }

    let code = |value: Option<String>| value.map_or(Value::Nothing, Value::Code);
    let size_of = |name| kibibytes(&meminfo, name).map_or(Value::Nothing, Value::Bytes);
    finding.show(Evidence::Fields(
        Fields::new("Transparent huge pages")
            .row("enabled", code(enabled))
            .row("defrag", code(defrag))
            .row("shared memory", code(setting("shmem_enabled")?))
            .row("background defragmentation", code(setting("khugepaged/defrag")?))
            .row("in use by programs", size_of("AnonHugePages"))
            .row("in use by shared memory", size_of("ShmemHugePages"))
            .row("in use by files", size_of("FileHugePages")),
    ));
    let mut table = Table::new(
        "Reserved huge pages",
        ["size of a page", "node", "pages", "free", "promised", "beyond the reservation", "unused memory"],
    );
    for pool in pools.iter().chain(&nodes) {
        table.row([
            Value::Bytes(pool.page_bytes),
            pool.node.clone().map_or(Value::Nothing, Value::Code),
            pool.pages.into(),
            pool.free.into(),
            pool.promised.into(),
            pool.beyond_reservation.into(),
            Value::Bytes(pool.unused()),
        ]);
    }
    finding.show(Evidence::Table(table));
    Ok(finding)
}

fn give_back() -> Advice {
    let command = "for pool in /sys/kernel/mm/hugepages/*/nr_hugepages; do echo 0 > $pool; done";
    Advice::run(
        "Give it back unless a program is about to use it, and take hugepages= off the kernel's command line.",
        command,
    )
}

/// The sizes whose pages are unused, when they are not of one size.
fn sizes(pools: &[Pool]) -> String {
    let unused: Vec<&Pool> = pools.iter().filter(|pool| pool.unused() > 0).collect();
    let named =
        |pool: &&Pool| format!("{} of {}", pool.free.saturating_sub(pool.promised), bytes(pool.page_bytes));
    match unused.as_slice() {
        [one] if one.page_bytes == USUAL_BYTES => String::new(),
        _ => format!(" ({})", unused.iter().map(named).collect::<Vec<_>>().join(", ")),
    }
}

/// The size that needs no mention: 2 MiB, the default of x86-64 and arm64.
const USUAL_BYTES: u64 = 2 << 20;

/// A pool on one node takes from what runs on its cores, however much the whole machine has.
fn judge_nodes(host: &Host, finding: &mut Finding, pools: &[Pool]) {
    for file in host.read_all(NODES).unwrap_or_default() {
        // Node 0 MemTotal:       32768000 kB
        let fields: Option<(&str, u64)> = file.text.lines().find_map(|line| {
            let (node, rest) = line.strip_prefix("Node ")?.split_once(' ')?;
            let total = rest.trim_start().strip_prefix("MemTotal:")?.trim().strip_suffix("kB")?.trim();
            Some((node, total.parse::<u64>().ok()?.saturating_mul(1024)))
        });
        let Some((node, total)) = fields else { continue };
        let name = format!("node{node}");
        let of_node = pools.iter().filter(|pool| pool.node.as_deref() == Some(&name));
        let unused = of_node.map(Pool::unused).fold(0, u64::saturating_add);
        let percent = unused as f64 * 100.0 / total.max(1) as f64;
        if percent > WARN_UNUSED_OF_NODE_PERCENT {
            let text = format!(
                "{} of the memory of NUMA node {node} ({percent:.0} %) is reserved for huge pages that nobody uses",
                bytes(unused)
            );
            finding.warn(text, give_back());
        }
    }
}

/// The word in brackets of `always [madvise] never`.
fn chosen(setting: &str) -> &str {
    let bracketed = setting.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    bracketed.map_or(setting, |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::Verdict;

    fn host(enabled: &str, defrag: &str, free_pages: u64) -> Recorded {
        let meminfo = format!(
            "MemTotal: 1024000 kB\nHugePages_Total: 100\nHugePages_Free: {free_pages}\nHugePages_Rsvd: 0\nHugepagesize: 2048 kB\n"
        );
        Recorded::complete()
            .file("/proc/meminfo", &meminfo)
            .file("/sys/kernel/mm/transparent_hugepage/enabled", enabled)
            .file("/sys/kernel/mm/transparent_hugepage/defrag", defrag)
    }

    const MADVISE: &str = "always defer defer+madvise [madvise] never\n";

    #[test]
    fn huge_pages_for_those_who_ask_pass() {
        let finding = run(&host("always [madvise] never\n", MADVISE, 0).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(finding.summary, "transparent huge pages: madvise; reserved: 100 pages");
    }

    #[test]
    fn always_warns() {
        let finding = run(&host("[always] madvise never\n", MADVISE, 0).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert_eq!(finding.problems[0].text, "transparent huge pages are set to always");
    }

    #[test]
    fn compaction_in_the_way_warns_unless_huge_pages_are_off() {
        let always = "[always] defer defer+madvise madvise never\n";
        assert_eq!(run(&host("always [madvise] never", always, 0).host()).unwrap().problems.len(), 1);
        assert_eq!(run(&host("always madvise [never]", always, 0).host()).unwrap().verdict(), Verdict::Pass);
    }

    #[test]
    fn unused_reservations_warn_above_ten_percent() {
        let at = |free| run(&host("always [madvise] never", MADVISE, free).host()).unwrap();
        assert_eq!(at(50).verdict(), Verdict::Pass);
        assert_eq!(
            at(51).problems[0].text,
            "102 MiB of memory (10 %) is reserved for huge pages that nobody uses"
        );
    }

    fn pool(host: Recorded, directory: &str, pages: u64, free: u64, promised: u64) -> Recorded {
        let file = |name: &str| format!("{directory}/{name}");
        host.file(&file("nr_hugepages"), &format!("{pages}\n"))
            .file(&file("free_hugepages"), &format!("{free}\n"))
            .file(&file("resv_hugepages"), &format!("{promised}\n"))
    }

    #[test]
    fn pages_of_every_size_count_and_those_that_are_promised_do_not() {
        let giant = |free, promised| {
            let meminfo = "MemTotal: 16384000 kB\nHugePages_Total: 0\nHugePages_Free: 0\nHugePages_Rsvd: 0\nHugepagesize: 2048 kB\nHugetlb: 8388608 kB\n";
            let host = host("always [madvise] never", MADVISE, 0).file("/proc/meminfo", meminfo);
            let host = pool(host, "/sys/kernel/mm/hugepages/hugepages-2048kB", 0, 0, 0);
            run(&pool(host, "/sys/kernel/mm/hugepages/hugepages-1048576kB", 8, free, promised).host())
                .unwrap()
        };
        let unused = giant(8, 0);
        assert_eq!(unused.verdict(), Verdict::Warn);
        assert_eq!(
            unused.problems[0].text,
            "8 GiB of memory (51 %) is reserved for huge pages that nobody uses (8 of 1 GiB)"
        );
        assert_eq!((giant(0, 0).verdict(), giant(8, 8).verdict()), (Verdict::Pass, Verdict::Pass));
    }

    #[test]
    fn sizes_that_the_recording_does_not_hold_are_noted() {
        let meminfo =
            "MemTotal: 16384000 kB\nHugePages_Total: 0\nHugepagesize: 2048 kB\nHugetlb: 8388608 kB\n";
        let finding =
            run(&host("always [madvise] never", MADVISE, 0).file("/proc/meminfo", meminfo).host()).unwrap();
        assert_eq!(finding.verdict(), Verdict::Note);
    }

    #[test]
    fn a_pool_that_fills_one_node_warns() {
        let at = |free| {
            let host = host("always [madvise] never", MADVISE, 0).file(
                "/sys/devices/system/node/node1/meminfo",
                "Node 1 MemTotal:  409600 kB\nNode 1 MemFree: 1 kB\n",
            );
            let host = pool(host, "/sys/devices/system/node/node1/hugepages/hugepages-2048kB", 60, free, 0);
            run(&host.host()).unwrap()
        };
        assert_eq!(at(50).verdict(), Verdict::Pass);
        assert_eq!(
            at(51).problems[0].text,
            "102 MiB of the memory of NUMA node 1 (26 %) is reserved for huge pages that nobody uses"
        );
    }

    #[test]
    fn a_kernel_without_huge_pages_skips() {
        let finding = run(&Recorded::complete().file("/proc/meminfo", "MemTotal: 1 kB\n").host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Skip, "this kernel has no huge pages")
        );
    }

    #[test]
    fn denied_settings_are_unknown() {
        assert!(run(&host("", "", 0).denied("/sys/kernel/mm/transparent_hugepage/enabled").host()).is_err());
        assert!(run(&Recorded::complete().host()).is_err());
    }
}
