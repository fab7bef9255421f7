//! Which values should be the same on every node of a fleet, and why the others need not.

use serde::Serialize;

use super::variants::Alike;

/// What a value is about, in the order a person asks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Topic {
    /// The machine and its system.
    Host,
    /// Parameters and switches of the kernel.
    Kernel,
    Version,
    /// Of Iggy, its connectors and the Supervisor's address.
    Configuration,
    /// Units and their limits.
    Unit,
    /// Settings of the system around: mounts, name service, clock, firewall, journal.
    System,
    Certificate,
    /// Of a check that this version does not know.
    Other,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Treat {
    Compare(Alike),
    /// It may be another on every node.
    Leave,
    /// Words are compared; numbers, sizes, shares, durations and times run, and are left.
    ByKind,
}

/// One block of evidence: the fields or the table with this title.
#[derive(Debug)]
pub struct Block {
    pub check: &'static str,
    /// May end in `*`, which stands for any rest.
    pub title: &'static str,
    pub topic: Topic,
    /// Columns that tell the rows of a table apart; as many as it takes where it is 0.
    pub width: usize,
    pub named: &'static [(&'static str, Treat)],
    /// Everything that is not named.
    pub rest: Treat,
    /// Whether a row that some nodes have and others do not is a difference.
    pub rows: bool,
    /// Rows that are looked at.
    pub only: Only,
    /// Why what is left is left.
    pub why: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Only {
    All,
    /// Filesystems that somebody set up: not those of sessions, containers and packages, nor those in memory.
    Mounts,
    /// The same, of a table that tells sizes: those in memory follow from it.
    Disks,
    /// Interfaces that somebody set up: not those of containers and virtual machines.
    Interfaces,
}

const SAME: Treat = Treat::Compare(Alike::Same);
const NEAR: Treat = Treat::Compare(Alike::Near);
const MONTH: Treat = Treat::Compare(Alike::Month);
const OPTIONS: Treat = Treat::Compare(Alike::Options);
const LEAVE: Treat = Treat::Leave;
const BY_KIND: Treat = Treat::ByKind;

/// Parameters that the kernel computes from the size of the memory: machines of one size differ a little.
pub const COMPUTED: [&str; 7] = [
    "fs.file-max",
    "kernel.pid_max",
    "kernel.threads-max",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "vm.min_free_kbytes",
    "vm.watermark_scale_factor",
];

/// Facts of the host that are compared, and as what they are told; every host has the others for itself.
pub const FACTS: [(&str, &str, Alike); 5] = [
    ("os", "operating system", Alike::Same),
    ("kernel", "kernel", Alike::Same),
    ("machine", "architecture", Alike::Same),
    ("cores", "cores", Alike::Same),
    ("memory_bytes", "memory", Alike::Near),
];

type Named = &'static [(&'static str, Treat)];

const fn block(
    check: &'static str,
    title: &'static str,
    topic: Topic,
    named: Named,
    rest: Treat,
    why: &'static str,
) -> Block {
    Block { check, title, topic, width: 0, named, rest, rows: false, only: Only::All, why }
}

const fn left(check: &'static str, title: &'static str, why: &'static str) -> Block {
    block(check, title, Topic::Other, &[], LEAVE, why)
}

impl Block {
    const fn keyed(mut self, width: usize) -> Block {
        self.width = width;
        self
    }

    const fn with_rows(mut self) -> Block {
        self.rows = true;
        self
    }

    const fn only(mut self, only: Only) -> Block {
        self.only = only;
        self
    }
}

const RUNS: &str = "numbers that run";
const OWN: &str = "every host has its own";
const FACT: &str = "told as a fact of the host";
const VERDICT: &str = "told by the outcome of the check";
const ELSEWHERE: &str = "told elsewhere";
const HARDENING: &str = "told by units-hardening";

/// In the order of the catalogue. Evidence that stands in no row is compared by kind, and told where not every node
/// has another value.
#[rustfmt::skip]
pub static BLOCKS: &[Block] = &[
    left("system-identity", "System", FACT),
    block("system-identity", "Machine", Topic::Host, &[("cores", LEAVE)], BY_KIND, FACT),
    block("system-updates", "Kernel", Topic::Version, &[("installed", SAME), ("reboot asked for", SAME)], LEAVE, FACT),
    block("system-updates", "Waiting updates", Topic::Version, &[("installed", SAME), ("update", SAME)], LEAVE, "follows from the update").keyed(1).with_rows(),
    block("system-time", "Clock", Topic::System, &[("time server of chrony", LEAVE), ("leap status", LEAVE)], BY_KIND, "hosts choose different servers of one pool"),
    block("system-security-modules", "Modules", Topic::Kernel, &[], BY_KIND, RUNS),
    block("system-security-modules", "Runtimes", Topic::Unit, &[("no new privileges", LEAVE)], BY_KIND, HARDENING).keyed(1),
    left("cpu-load", "All cores together", RUNS),
    block("cpu-frequency", "Frequencies", Topic::Host, &[("highest MHz", SAME), ("cap MHz", SAME)], BY_KIND, RUNS).keyed(1),
    block("cpu-frequency", "All cores", Topic::Host, &[], BY_KIND, RUNS),
    block("cpu-vulnerabilities", "Flaws", Topic::System, &[], BY_KIND, "").keyed(1),
    block("cpu-vulnerabilities", "Kernel command line", Topic::Kernel, &[], BY_KIND, ""),
    left("memory-usage", "*", RUNS),
    left("memory-swap", "Swapping", "vm.swappiness is told as a parameter, the rest runs"),
    block("memory-swap", "Swap areas", Topic::Host, &[("size", NEAR)], BY_KIND, RUNS).keyed(1).with_rows(),
    block("memory-huge-pages", "Transparent huge pages", Topic::Kernel, &[], BY_KIND, RUNS),
    block("memory-huge-pages", "Reserved huge pages", Topic::Kernel, &[("size of a page", SAME), ("pages", SAME)], LEAVE, RUNS),
    block("memory-numa", "Nodes", Topic::Host, &[("memory", NEAR)], LEAVE, RUNS).keyed(1).with_rows(),
    left("memory-oom", "*", RUNS),
    block("disk-space", "Filesystems", Topic::Host, &[("size", NEAR)], LEAVE, "told by disk-mounts, or runs").keyed(1).only(Only::Disks),
    left("disk-inodes", "*", RUNS),
    block("disk-mounts", "Mounted", Topic::System, &[("source", LEAVE), ("options", OPTIONS), ("filesystem options", OPTIONS)], BY_KIND, "disks are named in the order they were found in").keyed(1).with_rows().only(Only::Mounts),
    block("disk-latency", "Disks", Topic::Host, &[("queue", SAME), ("holds", LEAVE)], BY_KIND, RUNS).keyed(1).with_rows(),
    left("disk-latency", "Time lost to I/O, last 10 s", RUNS),
    left("disk-health", "*", VERDICT),
    block("disk-write-cache", "Disks", Topic::Host, &[("holds", LEAVE)], BY_KIND, ELSEWHERE).keyed(1),
    block("network-interfaces", "Interfaces", Topic::Host, &[("speed Mb/s", SAME), ("MTU", SAME)], BY_KIND, RUNS).keyed(1).with_rows().only(Only::Interfaces),
    left("network-addresses", "*", OWN),
    left("network-dns", "Lookups", "names and addresses of the host, and times"),
    block("network-dns", "How names are looked up", Topic::System, &[], BY_KIND, ""),
    left("network-listeners", "*", "told by Iggy's configuration; other programs have ports of their own"),
    left("network-tcp", "*", RUNS),
    block("network-conntrack", "Tracked connections", Topic::Kernel, &[("limit", NEAR)], LEAVE, RUNS),
    block("network-firewall", "New connections to Iggy from other hosts", Topic::System, &[("address", LEAVE), ("decided by", LEAVE)], BY_KIND, "each host has its own addresses, and rules are numbered as they were added").keyed(4).with_rows(),
    block("network-firewall", "What happens to packets that no rule decides", Topic::System, &[], BY_KIND, ""),
    block("network-shaping", "Queueing disciplines", Topic::Kernel, &[], BY_KIND, RUNS).keyed(1).only(Only::Interfaces),
    left("supervisor-reachability", "Steps", "times and addresses of one attempt"),
    block("supervisor-reachability", "Supervisor", Topic::Configuration, &[("port", SAME)], BY_KIND, ""),
    left("process-top", "*", RUNS),
    left("process-states", "*", VERDICT),
    block("process-limits", "Limits", Topic::Unit, &[("soft limit", NEAR)], LEAVE, "the soft limit is the one in force").keyed(2),
    block("runtime-versions", "Installed programs", Topic::Version, &[], BY_KIND, ""),
    block("runtime-versions", "Packages", Topic::Version, &[], BY_KIND, "").keyed(1).with_rows(),
    left("runtime-versions", "Running programs", VERDICT),
    left("runtime-iggy-process", "*", "processes have ids, and numbers that run"),
    left("runtime-iggy-health", "Answers", VERDICT),
    left("runtime-iggy-health", "Held against", ELSEWHERE),
    block("runtime-iggy-health", "By Iggy's own count", Topic::Version, &[("version", SAME)], LEAVE, RUNS),
    block("runtime-iggy-config", "In force", Topic::Configuration, &[("found by", LEAVE)], BY_KIND, "names a process"),
    block("runtime-iggy-config", "Listeners", Topic::Configuration, &[("address", LEAVE)], BY_KIND, OWN).keyed(1).with_rows(),
    block("runtime-iggy-config", "Environment", Topic::Configuration, &[], BY_KIND, "").keyed(1).with_rows(),
    block("runtime-iggy-data", "Data directory", Topic::Version, &[("written by version", SAME)], LEAVE, "told by the configuration, or runs"),
    left("runtime-iggy-data", "*", "every node has its own data"),
    block("data-directory", "The directory", Topic::Version, &[("written by", SAME)], LEAVE, "every node has its own data"),
    left("data-directory", "*", "every node has its own data"),
    block("runtime-connectors", "Runtime", Topic::Version, &[("version", SAME)], LEAVE, RUNS),
    block("runtime-connectors", "Connectors", Topic::Configuration, &[], BY_KIND, RUNS).keyed(1).with_rows(),
    block("runtime-connectors", "Configured connectors", Topic::Configuration, &[], BY_KIND, "").keyed(1).with_rows(),
    block("units-runtimes", "*", Topic::Unit, &[("watchdog", SAME), ("sub", LEAVE), ("result", LEAVE), ("last exit", LEAVE), ("status text", LEAVE)], BY_KIND, "what once happened, and numbers that run"),
    left("units-failed", "*", VERDICT),
    block("units-timers", "Timers", Topic::System, &[("starts", SAME)], LEAVE, RUNS).keyed(1).with_rows(),
    block("units-hardening", "Directives of *", Topic::Unit, &[("value", SAME)], LEAVE, "follows from the value").keyed(1),
    block("units-hardening", "*", Topic::Unit, &[("user of the unit", LEAVE), ("user id of the process", LEAVE), ("no new privileges, process", LEAVE)], BY_KIND, "told by the directives; packages take the next free id"),
    block("kernel-parameters", "Parameters", Topic::Kernel, &[("value", SAME)], LEAVE, "the same on every host").keyed(1),
    block("kernel-io-uring", "io_uring", Topic::Kernel, &[("kernel.io_uring_disabled", SAME), ("seccomp filter", SAME)], LEAVE, "told as facts of the host and as limits"),
    left("kernel-log", "*", VERDICT),
    block("kernel-modules", "Taint", Topic::Kernel, &[], BY_KIND, ""),
    block("kernel-modules", "Modules", Topic::Kernel, &[("taints", SAME)], LEAVE, "loaded when they are first needed").keyed(1),
    left("kernel-limits", "*", "told as parameters, or runs"),
    block("cgroup-limits", "CPU", Topic::Unit, &[("CPU limit", SAME)], LEAVE, RUNS).keyed(1),
    block("cgroup-limits", "Memory", Topic::Unit, &[("high", SAME), ("limit", SAME)], LEAVE, RUNS).keyed(1),
    block("cgroup-limits", "Tasks and I/O", Topic::Unit, &[("tasks limit", NEAR), ("I/O limits", SAME)], LEAVE, RUNS).keyed(1),
    block("certificates-files", "*", Topic::Certificate, &[("valid until", MONTH), ("SHA-256", LEAVE)], BY_KIND, OWN).keyed(1),
    block("certificates-served", "Handshakes", Topic::Certificate, &[("protocol", SAME), ("cipher", SAME)], LEAVE, OWN).keyed(1),
    block("certificates-served", "*", Topic::Certificate, &[("valid until", MONTH), ("SHA-256", LEAVE)], BY_KIND, OWN).keyed(1),
    block("certificates-trust", "Store", Topic::Certificate, &[("authorities", SAME)], BY_KIND, RUNS),
    block("certificates-trust", "*", Topic::Certificate, &[("valid until", MONTH)], BY_KIND, "").keyed(1),
    left("logs-iggy", "*", VERDICT),
    left("logs-connectors", "*", VERDICT),
    left("logs-warden", "*", VERDICT),
    block("logs-journal", "Journal", Topic::System, &[("kept", LEAVE), ("disk usage", LEAVE)], BY_KIND, "follows from the storage, or runs"),
    left("logs-journal", "Journal files", OWN),
    block("logs-crashes", "Where cores go", Topic::System, &[("kernel.core_pattern", SAME)], LEAVE, "what this host has to look at"),
    left("logs-crashes", "*", VERDICT),
    left("warden-self", "*", RUNS),
    left("warden-recorder", "*", RUNS),
    block("warden-setup", "Files", Topic::Unit, &[("kind", SAME), ("mode", SAME)], LEAVE, "packages take the next free id").keyed(1),
    block("warden-setup", "Directives of *", Topic::Unit, &[("value", SAME)], LEAVE, "the same on every host").keyed(1),
];

/// The row for a block, if it is a known one.
pub fn of(check: &str, title: &str) -> Option<&'static Block> {
    let fits = |block: &&Block| {
        block.check == check
            && match block.title.strip_suffix('*') {
                Some(start) => title.starts_with(start),
                None => block.title == title,
            }
    };
    BLOCKS.iter().find(fits)
}
