//! The host's figures as proc(5) tells them. Every parser takes the text of one file.

use warden_host::arc::ArcSize;

/// /proc/meminfo, in bytes.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Memory {
    pub total: Option<u64>,
    pub available: Option<u64>,
}

/// Ticks of all cores together, from the first line of /proc/stat.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CpuTicks {
    busy: u64,
    all: u64,
}

/// Bytes over all interfaces but loopback.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Traffic {
    pub received: u64,
    pub sent: u64,
}

pub fn memory(meminfo: &str) -> Memory {
    let field = |name: &str| {
        let line = meminfo.lines().find_map(|line| line.strip_prefix(name))?;
        let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
        kilobytes.checked_mul(1024)
    };
    Memory { total: field("MemTotal:"), available: field("MemAvailable:") }
}

/// What the cache of ZFS gives back when others need memory, in bytes; zero without one.
pub fn cache_of_zfs(statistics: &str) -> u64 {
    ArcSize::parse(statistics).map_or(0, ArcSize::gives_way)
}

pub fn cpu_ticks(stat: &str) -> Option<CpuTicks> {
    let line = stat.lines().next()?.strip_prefix("cpu ")?;
    // user nice system idle iowait irq softirq steal; guest times are within user and nice.
    let ticks: Vec<u64> = line.split_whitespace().take(8).map_while(|word| word.parse().ok()).collect();
    let idle = ticks.get(3)? + ticks.get(4).copied().unwrap_or(0);
    let all: u64 = ticks.iter().sum();
    Some(CpuTicks { busy: all.saturating_sub(idle), all })
}

impl CpuTicks {
    /// The share of all cores that was busy since `before`, 0 to 1; none when no tick has passed.
    pub fn share_since(self, before: CpuTicks) -> Option<f64> {
        let all = self.all.checked_sub(before.all).filter(|all| *all > 0)?;
        let busy = self.busy.saturating_sub(before.busy).min(all);
        #[expect(clippy::cast_precision_loss, reason = "ticks between two heartbeats are few")]
        Some(busy as f64 / all as f64)
    }
}

/// The average over one minute, from /proc/loadavg.
pub fn load(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

/// Whole seconds, from /proc/uptime.
pub fn uptime(uptime: &str) -> Option<u64> {
    uptime.split(['.', ' ']).next()?.parse().ok()
}

/// From /proc/net/dev.
pub fn traffic(net_dev: &str) -> Option<Traffic> {
    let mut total = Traffic::default();
    for (_, [received, sent]) in interfaces(net_dev) {
        total.received = total.received.wrapping_add(received);
        total.sent = total.sent.wrapping_add(sent);
    }
    net_dev.contains(':').then_some(total)
}

/// Bytes received and sent by every interface but loopback, from /proc/net/dev.
pub fn interfaces(net_dev: &str) -> Vec<(String, [u64; 2])> {
    let of = |line: &str| {
        let (name, counters) = line.split_once(':')?;
        let counters: Vec<u64> = counters.split_whitespace().map_while(|word| word.parse().ok()).collect();
        let name = name.trim();
        (name != "lo").then_some((name.to_owned(), [*counters.first()?, *counters.get(8)?]))
    };
    net_dev.lines().filter_map(of).collect()
}

/// The proportional share of memory, from /proc/self/smaps_rollup, in bytes.
pub fn proportional(smaps_rollup: &str) -> Option<u64> {
    let line = smaps_rollup.lines().find_map(|line| line.strip_prefix("Pss:"))?;
    let kilobytes: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    kilobytes.checked_mul(1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_load_and_uptime_are_read() {
        let meminfo = "MemTotal:       24556396 kB\nMemFree:  1 kB\nMemAvailable:   23000000 kB\n";
        assert_eq!(memory(meminfo), Memory { total: Some(25_145_749_504), available: Some(23_552_000_000) });
        assert_eq!(memory("MemTotal: lots\n"), Memory::default());
        assert_eq!(load("0.52 0.58 0.59 1/389 12345\n"), Some(0.52));
        assert_eq!(uptime("350735.47 234388.90\n"), Some(350_735));
        assert_eq!((load(""), uptime("")), (None, None));
        assert_eq!(proportional("55e-7f [rollup]\nRss:  9000 kB\nPss:  8000 kB\n"), Some(8_192_000));
    }

    #[test]
    fn the_busy_share_is_of_what_passed_between_two_looks() {
        let before = cpu_ticks("cpu  100 0 50 800 50 0 0 0 0 0\ncpu0 1 2 3\n").unwrap();
        let after = cpu_ticks("cpu  130 0 60 850 60 0 0 0 0 0\n").unwrap();
        assert_eq!(after.share_since(before), Some(0.4));
        assert_eq!(before.share_since(before), None);
        assert_eq!(before.share_since(after), None, "a counter that went backwards says nothing");
        assert_eq!(cpu_ticks("intr 1 2\n"), None);
    }

    #[test]
    fn traffic_is_that_of_all_interfaces_but_loopback() {
        let net_dev = "Inter-|   Receive\n face |bytes\n    lo: 500 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n  \
                       eth0: 1000 2 0 0 0 0 0 0 70 3 0 0 0 0 0 0\n  eth1:5 2 0 0 0 0 0 0 7 3 0 0 0 0 0 0\n";
        assert_eq!(traffic(net_dev), Some(Traffic { received: 1005, sent: 77 }));
    }
}
