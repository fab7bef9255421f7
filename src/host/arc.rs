//! The cache of ZFS (ARC): memory that the kernel counts as used and can have back.

/// The statistics of OpenZFS on Linux.
pub const ARC_STATISTICS: &str = "/proc/spl/kstat/zfs/arcstats";

/// In bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ArcSize {
    pub size: u64,
    /// What it keeps when others need memory (`zfs_arc_min`).
    pub least: u64,
}

impl ArcSize {
    /// Lines of name, type and data; `None` without a size.
    pub fn parse(statistics: &str) -> Option<ArcSize> {
        let of = |name: &str| {
            statistics.lines().find_map(|line| {
                let mut words = line.split_ascii_whitespace();
                (words.next() == Some(name)).then(|| words.nth(1)?.parse::<u64>().ok()).flatten()
            })
        };
        let size = of("size")?;
        Some(ArcSize { size, least: of("c_min").unwrap_or(size) })
    }

    /// What others can have of it.
    pub fn gives_way(self) -> u64 {
        self.size.saturating_sub(self.least)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cache_gives_way_down_to_its_least_size() {
        let text = "13 1 0x01 123 33456 7358410 1048311\nname type data\nhits 4 9\nsize 4 900\nc 4 900\nc_min 4 300\n";
        assert_eq!(ArcSize::parse(text).map(ArcSize::gives_way), Some(600));
        assert_eq!(ArcSize::parse("size 4 200\nc_min 4 300\n").map(ArcSize::gives_way), Some(0));
        assert_eq!(
            ArcSize::parse("size 4 200\n").map(ArcSize::gives_way),
            Some(0),
            "what it keeps is not known"
        );
        assert_eq!(ArcSize::parse("torn"), None);
    }
}
