//! The host and its runtimes at one moment, with the counters as the kernel has them.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

use warden_host::arc::ARC_STATISTICS;
use warden_host::diskstats::Work;
use warden_host::proc::{CpuTimes, counter, kibibytes, pressure};

use crate::procfs;
use crate::runtime_stats::RuntimeReading;

/// The texts of the files in /proc that a sample is made of; empty where one could not be read.
#[derive(Debug, Default)]
pub struct Texts {
    pub loadavg: String,
    pub stat: String,
    pub meminfo: String,
    pub vmstat: String,
    /// Of `cpu`, `memory` and `io`; kernels without pressure accounting have none.
    pub pressure: [String; 3],
    pub diskstats: String,
    pub net_dev: String,
    /// Of the cache of ZFS, where there is one.
    pub arc: String,
}

/// Bytes of one file of /proc, as far as it is read: /proc/stat of a thousand processors has as many.
const FILE_LIMIT: usize = 256 << 10;
/// What a read asks for at once.
const BLOCK: usize = 4 << 10;

/// The files of /proc, kept open, and what they last said: a sample opens no file and takes no memory for texts.
#[derive(Debug, Default)]
pub struct Proc {
    files: [Option<File>; FILES.len()],
    texts: Texts,
}

/// In the order of [`Texts::all`].
const FILES: [&str; 10] = [
    "/proc/loadavg",
    "/proc/stat",
    "/proc/meminfo",
    "/proc/vmstat",
    "/proc/pressure/cpu",
    "/proc/pressure/memory",
    "/proc/pressure/io",
    "/proc/diskstats",
    "/proc/net/dev",
    ARC_STATISTICS,
];

impl Proc {
    /// Read anew. What cannot be read is empty, and is opened again the next time.
    pub fn texts(&mut self) -> &Texts {
        for ((path, file), text) in FILES.iter().zip(&mut self.files).zip(self.texts.all()) {
            let mut bytes = std::mem::take(text).into_bytes();
            if read(path, file, &mut bytes).is_err() {
                *file = None;
                bytes.clear();
            }
            *text = String::from_utf8(bytes).unwrap_or_default();
        }
        &self.texts
    }
}

/// From its beginning; the kernel writes such a file anew for whoever reads there.
fn read(path: &str, file: &mut Option<File>, bytes: &mut Vec<u8>) -> io::Result<()> {
    let file = match file {
        Some(file) => file,
        none => none.insert(File::open(path)?),
    };
    let mut end = 0;
    loop {
        bytes.resize(end + BLOCK, 0);
        let read = file.read_at(&mut bytes[end..], end as u64)?;
        end += read;
        if read == 0 || end >= FILE_LIMIT {
            bytes.truncate(end);
            return Ok(());
        }
    }
}

impl Texts {
    fn all(&mut self) -> [&mut String; FILES.len()] {
        let [cpu, memory, io] = &mut self.pressure;
        [
            &mut self.loadavg,
            &mut self.stat,
            &mut self.meminfo,
            &mut self.vmstat,
            cpu,
            memory,
            io,
            &mut self.diskstats,
            &mut self.net_dev,
            &mut self.arc,
        ]
    }
}

#[derive(Debug, Clone, Default)]
pub struct Reading {
    pub load: Option<f64>,
    pub cpu: Option<CpuTimes>,
    /// Kibibytes, with what the cache of ZFS gives back.
    pub memory_available: Option<u64>,
    pub swap_used: Option<u64>,
    /// Since boot.
    pub oom_kills: Option<u64>,
    /// `some` and `full` of each resource.
    pub pressure: [[Option<f64>; 2]; 3],
    /// Whole disks, partitions and all; sorted as the kernel does.
    pub disks: Vec<(String, Work)>,
    /// Bytes received and sent since boot, of every interface but loopback.
    pub interfaces: Vec<(String, [u64; 2])>,
    pub units: Vec<RuntimeReading>,
}

impl Reading {
    pub fn of(texts: &Texts, units: Vec<RuntimeReading>) -> Reading {
        let kibibytes = |name| kibibytes(&texts.meminfo, name).map(|bytes| bytes / 1024);
        let swap = kibibytes("SwapTotal").zip(kibibytes("SwapFree"));
        Reading {
            load: procfs::load(&texts.loadavg),
            // The first line is that of all cores.
            cpu: texts.stat.lines().next().and_then(|line| Some(CpuTimes::parse_all(line).ok()?.first()?.1)),
            memory_available: kibibytes("MemAvailable")
                .map(|available| available.saturating_add(procfs::cache_of_zfs(&texts.arc) / 1024)),
            swap_used: swap.map(|(total, free)| total.saturating_sub(free)),
            oom_kills: counter(&texts.vmstat, "oom_kill"),
            pressure: texts.pressure.each_ref().map(|text| ["some", "full"].map(|kind| pressure(text, kind))),
            disks: Work::parse_all(&texts.diskstats),
            interfaces: procfs::interfaces(&texts.net_dev),
            units,
        }
    }
}

#[cfg(test)]
pub mod testing {
    use super::*;

    /// A host that has done `work` of everything since boot.
    pub fn texts(work: u64) -> Texts {
        let psi = format!(
            "some avg10=1.50 avg60=0 avg300=0 total={work}\nfull avg10=0.00 avg60=0 avg300=0 total=0\n"
        );
        Texts {
            loadavg: "0.52 0.58 0.59 1/389 12345\n".to_owned(),
            stat: format!("cpu  {work} 0 0 {work} 0 0 0 0 0 0\ncpu0 1 2 3\nintr 1 2 3\n"),
            meminfo: "MemTotal: 8000 kB\nMemAvailable: 4000 kB\nSwapTotal: 100 kB\nSwapFree: 60 kB\n"
                .to_owned(),
            vmstat: format!("nr_free_pages 1\noom_kill {}\n", work / 1000),
            pressure: [psi.clone(), psi.clone(), psi],
            diskstats: format!(
                " 8 0 sda 1 0 {work} 1 1 0 {work} 1 0 {work} 0\n 8 1 sda1 1 0 1 1 1 0 1 1 0 1 0\n 7 0 loop0 1 0 1 1 1 0 1 1 0 1 0\n"
            ),
            net_dev: format!(
                "Inter-|\n face |bytes\n    lo: 9 0 0 0 0 0 0 0 9 0 0 0 0 0 0 0\n  eth0: {work} 0 0 0 0 0 0 0 {} 0 0 0 0 0 0 0\n",
                work / 2
            ),
            arc: String::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_is_read_from_its_texts() {
        let reading = Reading::of(&testing::texts(4000), Vec::new());
        assert_eq!(
            (reading.load, reading.memory_available, reading.swap_used),
            (Some(0.52), Some(4000), Some(40))
        );
        assert_eq!((reading.cpu.unwrap().total(), reading.oom_kills), (8000, Some(4)));
        assert_eq!(reading.pressure, [[Some(1.5), Some(0.0)]; 3]);
        assert_eq!(reading.disks.len(), 3);
        assert_eq!(reading.interfaces, [("eth0".to_owned(), [4000, 2000])]);
    }

    #[test]
    fn the_cache_of_zfs_counts_as_available_memory() {
        let arc = "size 4 4096000\nc_min 4 2048000\n".to_owned();
        let reading = Reading::of(&Texts { arc, ..testing::texts(4000) }, Vec::new());
        assert_eq!(reading.memory_available, Some(6000));
    }

    #[test]
    fn files_that_stay_open_tell_what_is_so_now() {
        let mut proc = Proc::default();
        let first = proc.texts().stat.clone();
        let ticks = |text: &str| CpuTimes::parse_all(text.lines().next().unwrap()).unwrap()[0].1.total();
        let whole = std::fs::read_to_string("/proc/meminfo").unwrap();
        assert_eq!(proc.texts().meminfo.lines().count(), whole.lines().count());
        let began = std::time::Instant::now();
        while ticks(&proc.texts().stat) == ticks(&first) {
            assert!(began.elapsed().as_secs() < 60, "the processors stand still");
        }
        assert!(proc.files[0].is_some() && proc.texts().loadavg.ends_with('\n'));
        proc.files[0] = Some(File::open("/proc/self/mem").unwrap());
        assert!(proc.texts().loadavg.is_empty(), "what cannot be read");
        assert!(!proc.texts().loadavg.is_empty(), "is opened anew");
    }

    #[test]
    fn what_cannot_be_read_is_absent() {
        let reading = Reading::of(&Texts::default(), Vec::new());
        assert!(reading.load.is_none() && reading.cpu.is_none() && reading.memory_available.is_none());
        assert!(reading.pressure.iter().flatten().all(Option::is_none));
        assert!(reading.disks.is_empty() && reading.interfaces.is_empty());
    }
}
