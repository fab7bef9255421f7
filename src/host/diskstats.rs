//! What the disks did, from /proc/diskstats. Source: Documentation/admin-guide/iostats.rst.

/// A sector of /proc/diskstats, whatever the disk's own (Documentation/admin-guide/iostats.rst).
const SECTOR_BYTES: f64 = 512.0;

/// A request that waits through a shorter pause is only slow.
const STUCK_SECONDS: f64 = 0.2;

/// A line of /proc/diskstats: counters since boot (Documentation/admin-guide/iostats.rst).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Work {
    pub reads: u64,
    pub read_sectors: u64,
    pub read_ms: u64,
    pub writes: u64,
    pub written_sectors: u64,
    pub write_ms: u64,
    pub in_flight: u64,
    pub busy_ms: u64,
    pub discards: u64,
    pub flushes: u64,
    pub flush_ms: u64,
}

/// What a disk did during the pause, a second.
pub struct Pace {
    pub reads: f64,
    pub writes: f64,
    pub read_bytes: f64,
    pub written_bytes: f64,
    /// Reads and writes that completed during the pause, and their average wait.
    pub requests: u64,
    pub await_ms: f64,
    pub flushes: u64,
    pub flush_ms: f64,
    pub busy: f64,
    pub in_flight: u64,
    pub stuck: bool,
}

impl Work {
    /// Every device with its name; torn lines are left out.
    pub fn parse_all(text: &str) -> Vec<(String, Work)> {
        text.lines().filter_map(Work::parse).collect()
    }

    fn parse(line: &str) -> Option<(String, Work)> {
        let mut words = line.split_ascii_whitespace().skip(2);
        let name = words.next()?.to_owned();
        let numbers: Vec<u64> = words.map_while(|word| word.parse().ok()).collect();
        let [
            reads,
            _,
            read_sectors,
            read_ms,
            writes,
            _,
            written_sectors,
            write_ms,
            in_flight,
            busy_ms,
            _,
            rest @ ..,
        ] = &numbers[..]
        else {
            return None;
        };
        // Discards come with Linux 4.18, flushes with 5.5.
        let (flushes, flush_ms) = (rest.get(4).copied(), rest.get(5).copied());
        let work = Work {
            reads: *reads,
            read_sectors: *read_sectors,
            read_ms: *read_ms,
            writes: *writes,
            written_sectors: *written_sectors,
            write_ms: *write_ms,
            in_flight: *in_flight,
            busy_ms: *busy_ms,
            discards: rest.first().copied().unwrap_or(0),
            flushes: flushes.unwrap_or(0),
            flush_ms: flush_ms.unwrap_or(0),
        };
        Some((name, work))
    }

    /// A counter that stepped back (the device was removed and came again) counts as zero.
    pub fn since(&self, before: &Work, seconds: f64) -> Pace {
        let seconds = seconds.max(0.001);
        let delta = |counter: fn(&Work) -> u64| counter(self).saturating_sub(counter(before));
        let each = |counter: fn(&Work) -> u64| delta(counter) as f64 / seconds;
        let average = |total: u64, count: u64| if count == 0 { 0.0 } else { total as f64 / count as f64 };
        let requests = delta(|work| work.reads).saturating_add(delta(|work| work.writes));
        let waited = delta(|work| work.read_ms).saturating_add(delta(|work| work.write_ms));
        let (flushes, discards) = (delta(|work| work.flushes), delta(|work| work.discards));
        Pace {
            reads: each(|work| work.reads),
            writes: each(|work| work.writes),
            read_bytes: each(|work| work.read_sectors) * SECTOR_BYTES,
            written_bytes: each(|work| work.written_sectors) * SECTOR_BYTES,
            requests,
            await_ms: average(waited, requests),
            flushes,
            flush_ms: average(delta(|work| work.flush_ms), flushes),
            busy: (each(|work| work.busy_ms) / 10.0).min(100.0),
            in_flight: self.in_flight,
            stuck: requests == 0
                && flushes == 0
                && discards == 0
                && before.in_flight > 0
                && self.in_flight > 0
                && seconds >= STUCK_SECONDS,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_that_step_back_or_overflow_are_not_believed() {
        let work = |text: &str| Work::parse(text).unwrap().1;
        let max = u64::MAX;
        let before = work(&format!("8 0 sda {max} 0 {max} {max} {max} 0 {max} {max} 0 {max} 0"));
        let after = work("8 0 sda 1 0 1 1 1 0 1 1 0 1 0");
        assert_eq!((after.since(&before, 1.0).requests, after.since(&before, 1.0).busy), (0, 0.0));
        assert_eq!((before.since(&after, 1.0).requests, before.since(&after, 0.0).busy), (max, 100.0));
    }
}
