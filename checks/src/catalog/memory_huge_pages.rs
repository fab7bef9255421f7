//! memory-huge-pages: transparent and reserved huge pages.

use crate::host::{Host, IfAny};
use crate::proc::{field, kibibytes};
use crate::quantity::{bytes, count};
use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Value};

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
    ],
    thresholds: &[
        "warns when transparent huge pages or their defragmentation are set to `always`",
        "warns when reserved huge pages that nobody uses take over 10 % of memory",
    ],
    advice: "Set transparent huge pages to madvise and reserve only the huge pages that a program asks for.",
    deadline: DEADLINE,
    run,
};

const WARN_UNUSED_PERCENT: f64 = 10.0;
const TRANSPARENT: &str = "/sys/kernel/mm/transparent_hugepage";

fn run(host: &Host) -> Result<Finding> {
    let meminfo = host.read("/proc/meminfo")?;
    let setting = |name: &str| host.value(&format!("{TRANSPARENT}/{name}")).if_any();
    let (enabled, defrag) = (setting("enabled")?, setting("defrag")?);
    let number = |name| field(&meminfo, name).and_then(|value| value.parse::<u64>().ok());
    let reserved = number("HugePages_Total").unwrap_or(0);
    if enabled.is_none() && number("HugePages_Total").is_none() {
        return Ok(Finding::skip("this kernel has no huge pages"));
    }
    let total =
        kibibytes(&meminfo, "MemTotal").ok_or_else(|| Error::parse("/proc/meminfo", "no MemTotal"))?;
    let size = kibibytes(&meminfo, "Hugepagesize").unwrap_or(0);
    let unused = number("HugePages_Free")
        .unwrap_or(0)
        .saturating_sub(number("HugePages_Rsvd").unwrap_or(0))
        .saturating_mul(size);

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
            "{} of memory ({percent:.0} %) is reserved for huge pages that nobody uses",
            bytes(unused)
        );
        finding.warn(
            text,
            Advice::run("Give it back unless a program is about to use it.", "sysctl -w vm.nr_hugepages=0"),
        );
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
    finding.show(Evidence::Fields(
        Fields::new("Reserved huge pages")
            .row("size of a page", size_of("Hugepagesize"))
            .row("pages", number("HugePages_Total"))
            .row("free", number("HugePages_Free"))
            .row("promised", number("HugePages_Rsvd"))
            .row("beyond the reservation", number("HugePages_Surp"))
            .row("unused memory", Value::Bytes(unused)),
    ));
    Ok(finding)
}

/// The word in brackets of `always [madvise] never`.
fn chosen(setting: &str) -> &str {
    let bracketed = setting.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    bracketed.map_or(setting, |(word, _)| word)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Verdict;
    use crate::host::Recorded;

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
