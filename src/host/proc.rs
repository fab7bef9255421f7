//! Parsers for the formats of /proc that more than one check reads. Source: proc(5).

use crate::Host;
use crate::check::{Error, Result};

/// A `cpu` line of /proc/stat, in clock ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CpuTimes {
    pub user: u64,
    pub nice: u64,
    pub system: u64,
    pub idle: u64,
    pub iowait: u64,
    pub irq: u64,
    pub softirq: u64,
    pub steal: u64,
}

impl CpuTimes {
    /// Every `cpu` line with its name; the sum of all (`cpu`) comes first.
    pub fn parse_all(stat: &str) -> Result<Vec<(String, CpuTimes)>> {
        let lines: Vec<_> = stat.lines().take_while(|line| line.starts_with("cpu")).collect();
        if lines.is_empty() {
            return Err(Error::parse("/proc/stat", "no cpu line"));
        }
        lines.into_iter().map(CpuTimes::parse).collect()
    }

    fn parse(line: &str) -> Result<(String, CpuTimes)> {
        let mut words = line.split_ascii_whitespace();
        let name = words.next().unwrap_or_default().to_owned();
        // Kernels before 2.6.11 have fewer columns; what is not there is zero.
        let mut next = || match words.next() {
            None => Ok(0),
            Some(word) => {
                word.parse().map_err(|_| Error::parse("/proc/stat", format!("`{word}` is not a number")))
            }
        };
        let times = CpuTimes {
            user: next()?,
            nice: next()?,
            system: next()?,
            idle: next()?,
            iowait: next()?,
            irq: next()?,
            softirq: next()?,
            steal: next()?,
        };
        Ok((name, times))
    }

    /// What went by since `earlier`; a counter that stepped back (a CPU went offline) counts as zero.
    pub fn since(&self, earlier: &CpuTimes) -> CpuTimes {
        CpuTimes {
            user: self.user.saturating_sub(earlier.user),
            nice: self.nice.saturating_sub(earlier.nice),
            system: self.system.saturating_sub(earlier.system),
            idle: self.idle.saturating_sub(earlier.idle),
            iowait: self.iowait.saturating_sub(earlier.iowait),
            irq: self.irq.saturating_sub(earlier.irq),
            softirq: self.softirq.saturating_sub(earlier.softirq),
            steal: self.steal.saturating_sub(earlier.steal),
        }
    }

    pub fn total(&self) -> u64 {
        self.user + self.nice + self.system + self.idle + self.iowait + self.irq + self.softirq + self.steal
    }

    /// The share of `part` in the whole, 0 to 100.
    pub fn percent(&self, part: impl Fn(&CpuTimes) -> u64) -> f64 {
        match self.total() {
            0 => 0.0,
            total => part(self) as f64 * 100.0 / total as f64,
        }
    }
}

/// A `Name: number kB` file (/proc/meminfo, /proc/PID/status), one value in bytes.
pub fn kibibytes(text: &str, name: &str) -> Option<u64> {
    let value = field(text, name)?.strip_suffix("kB")?.trim();
    Some(value.parse::<u64>().ok()?.saturating_mul(1024))
}

/// The value of a `Name: value` line.
pub fn field<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    text.lines().find_map(|line| Some(line.strip_prefix(name)?.strip_prefix(':')?.trim()))
}

/// The number of a `name number` line (/proc/vmstat, numastat, memory.events).
pub fn counter(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')?.trim().parse().ok())
}

/// How many CPUs a list such as `0-3,8` names (sysfs, cpuset). What does not parse counts as none.
pub fn cpu_count(list: &str) -> u64 {
    let count = |range: &str| {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last) = (first.trim().parse::<u32>().ok()?, last.trim().parse::<u32>().ok()?);
        Some(u64::from(last.checked_sub(first)?) + 1)
    };
    list.split(',').filter_map(count).sum()
}

/// `avg10`, in percent, of the `some` or `full` line of a pressure file (Documentation/accounting/psi.rst).
pub fn pressure(text: &str, kind: &str) -> Option<f64> {
    let line = text.lines().find(|line| line.split(' ').next() == Some(kind))?;
    line.split(' ').find_map(|word| word.strip_prefix("avg10="))?.parse().ok()
}

/// A line of /proc/self/mountinfo.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mount {
    /// `major:minor` of the device.
    pub device: String,
    /// What of the filesystem is mounted, `/` for all of it.
    pub root: String,
    pub point: String,
    /// Options of this mount: `rw,noatime`.
    pub options: String,
    pub filesystem: String,
    pub source: String,
    /// Options of the filesystem: `rw,errors=remount-ro`.
    pub super_options: String,
}

impl Mount {
    /// Every mount of this process, in mount order. Fails when a line of the table cannot be read: what is on which
    /// filesystem is known from all of it, or not at all.
    pub fn all(host: &Host) -> Result<Vec<Mount>> {
        const TABLE: &str = "/proc/self/mountinfo";
        let text = host.read(TABLE)?;
        let mounts = Mount::parse_all(&text);
        let lines = text.lines().filter(|line| !line.trim().is_empty()).count();
        match lines - mounts.len() {
            _ if mounts.is_empty() => Err(Error::parse(TABLE, "not one mount in it")),
            0 => Ok(mounts),
            torn => Err(Error::parse(TABLE, format!("{torn} of {lines} lines are no mounts"))),
        }
    }

    /// Every mount, in mount order; lines that do not parse are left out.
    pub fn parse_all(mountinfo: &str) -> Vec<Mount> {
        mountinfo.lines().filter_map(Mount::parse).collect()
    }

    fn parse(line: &str) -> Option<Mount> {
        let (mount, filesystem) = line.split_once(" - ")?;
        let mut mount = mount.split(' ').skip(2);
        let mut filesystem = filesystem.split(' ');
        Some(Mount {
            device: mount.next()?.to_owned(),
            root: unescape(mount.next()?),
            point: unescape(mount.next()?),
            options: mount.next()?.to_owned(),
            filesystem: filesystem.next()?.to_owned(),
            source: unescape(filesystem.next()?),
            super_options: filesystem.next().unwrap_or_default().to_owned(),
        })
    }

    /// The mount that holds `path`: the longest mount point above it, and of equals the newest.
    pub fn holding<'a>(mounts: &'a [Mount], path: &str) -> Option<&'a Mount> {
        let above = |point: &str| {
            point == "/"
                || path.strip_prefix(point).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        mounts.iter().filter(|mount| above(&mount.point)).max_by_key(|mount| mount.point.len())
    }

    /// Whether one of the options of the mount or of its filesystem is `name`.
    pub fn has_option(&self, name: &str) -> bool {
        [&self.options, &self.super_options]
            .into_iter()
            .flat_map(|options| options.split(','))
            .any(|option| option == name)
    }

    pub fn is_read_only(&self) -> bool {
        self.has_option("ro")
    }

    /// Whether only this view of the filesystem is read-only, and the filesystem itself is not: a bind mount, or how
    /// systemd shows it to a service that it confines.
    pub fn is_read_only_view(&self) -> bool {
        let has = |options: &str| options.split(',').any(|option| option == "ro");
        has(&self.options) && !has(&self.super_options)
    }
}

/// Undoes the `\040` of mountinfo, fstab and their kin.
pub fn unescape(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        let octal =
            tail.get(..3).filter(|_| *first == b'\\').and_then(|digits| std::str::from_utf8(digits).ok());
        match octal.and_then(|digits| u8::from_str_radix(digits, 8).ok()) {
            Some(byte) => {
                bytes.push(byte);
                rest = &tail[3..];
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// A line of /proc/PID/stat. Times are in clock ticks ([`TICKS`] a second).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ProcessStat {
    pub pid: u32,
    /// The thread name, at most 15 bytes, with anything in it (spaces, parentheses).
    pub name: String,
    /// `R`, `S`, `D`, `Z`, `T`, `I`...
    pub state: char,
    pub parent: u32,
    pub user_ticks: u64,
    pub system_ticks: u64,
    pub threads: u64,
    /// Since boot.
    pub start_ticks: u64,
    pub resident_pages: u64,
}

/// USER_HZ, 100 on every Linux port that Iggy runs on.
pub const TICKS: f64 = 100.0;

impl ProcessStat {
    pub fn parse(text: &str) -> Option<ProcessStat> {
        // The name may hold `)`: the last one ends it.
        let (before, after) = text.rsplit_once(')')?;
        let (pid, name) = before.split_once('(')?;
        let fields: Vec<&str> = after.split_ascii_whitespace().collect();
        let number = |index: usize| fields.get(index)?.parse().ok();
        Some(ProcessStat {
            pid: pid.trim().parse().ok()?,
            name: name.to_owned(),
            state: fields.first()?.chars().next()?,
            parent: u32::try_from(number(1)?).ok()?,
            user_ticks: number(11)?,
            system_ticks: number(12)?,
            threads: number(17)?,
            start_ticks: number(19)?,
            resident_pages: number(21)?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_point_with_a_space_and_an_optional_field_parses() {
        let mounts = Mount::parse_all(
            "28 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw,discard\n\
             40 28 8:1 / /mnt/my\\040disk rw,noatime - xfs /dev/sda1 ro,logbufs=8\ntorn li",
        );
        assert_eq!(mounts.len(), 2);
        assert_eq!((mounts[1].point.as_str(), mounts[1].filesystem.as_str()), ("/mnt/my disk", "xfs"));
        assert!(mounts[1].is_read_only() && !mounts[0].is_read_only());
        assert_eq!(Mount::holding(&mounts, "/mnt/my disk/iggy"), Some(&mounts[1]));
        assert_eq!(Mount::holding(&mounts, "/mnt/my disks"), Some(&mounts[0]));
    }

    #[test]
    fn a_process_may_name_itself_anything() {
        let fields = "S 1 7 7 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0";
        let stat = ProcessStat::parse(&format!("7 (a) S (b) {fields}")).unwrap();
        assert_eq!((stat.pid, stat.name.as_str(), stat.state, stat.parent), (7, "a) S (b", 'S', 1));
        assert_eq!((stat.user_ticks, stat.system_ticks, stat.threads), (11, 22, 3));
        assert_eq!((stat.start_ticks, stat.resident_pages), (4567, 250));
        assert_eq!(ProcessStat::parse("7 (torn"), None);
    }

    #[test]
    fn the_cpus_of_a_list_are_counted() {
        assert_eq!(["0", "0-3\n", "0-3,8,10-11", "", "3-1,x"].map(cpu_count), [1, 4, 7, 0, 0]);
    }

    #[test]
    fn meminfo_and_pressure_lines_are_found_by_their_whole_name() {
        let meminfo = "MemTotal:  100 kB\nMemAvailable:   40 kB\nHugePages_Total: 3\n";
        assert_eq!(kibibytes(meminfo, "MemAvailable"), Some(40 * 1024));
        assert_eq!((kibibytes(meminfo, "Mem"), field(meminfo, "HugePages_Total")), (None, Some("3")));
        let psi = "some avg10=1.50 avg60=0.30 avg300=0.00 total=9\nfull avg10=0.25 avg60=0.00 avg300=0.00 total=1\n";
        assert_eq!((pressure(psi, "some"), pressure(psi, "full")), (Some(1.5), Some(0.25)));
    }
}
