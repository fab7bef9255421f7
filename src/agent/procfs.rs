//! The host's figures as proc(5) tells them. Every parser takes the text of one file.

use warden_host::arc::ArcSize;

/// What the cache of ZFS gives back when others need memory, in bytes; zero without one.
pub fn cache_of_zfs(statistics: &str) -> u64 {
    ArcSize::parse(statistics).map_or(0, ArcSize::gives_way)
}

/// The average over one minute, from /proc/loadavg.
pub fn load(loadavg: &str) -> Option<f64> {
    loadavg.split_whitespace().next()?.parse().ok()
}

/// Bytes received and sent over all interfaces but loopback, from /proc/net/dev: one file, where sysinfo reads a dozen for
/// each interface.
pub fn traffic(net_dev: &str) -> Option<[u64; 2]> {
    let sum = |[received, sent]: [u64; 2], (_, [more_received, more_sent]): (String, [u64; 2])| {
        [received.wrapping_add(more_received), sent.wrapping_add(more_sent)]
    };
    net_dev.contains(':').then(|| interfaces(net_dev).into_iter().fold([0, 0], sum))
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
    fn the_load_and_the_share_of_memory_are_read() {
        assert_eq!((load("0.52 0.58 0.59 1/389 12345\n"), load("")), (Some(0.52), None));
        assert_eq!(proportional("55e-7f [rollup]\nRss:  9000 kB\nPss:  8000 kB\n"), Some(8_192_000));
    }

    #[test]
    fn traffic_is_that_of_all_interfaces_but_loopback() {
        let net_dev = "Inter-|   Receive\n face |bytes\n    lo: 500 1 0 0 0 0 0 0 500 1 0 0 0 0 0 0\n  \
                       eth0: 1000 2 0 0 0 0 0 0 70 3 0 0 0 0 0 0\n  eth1:5 2 0 0 0 0 0 0 7 3 0 0 0 0 0 0\n";
        assert_eq!(interfaces(net_dev), [("eth0".to_owned(), [1000, 70]), ("eth1".to_owned(), [5, 7])]);
        assert_eq!((traffic(net_dev), traffic("")), (Some([1005, 77]), None));
    }
}
