//! Packing a data directory, in alternating runs against the tools at hand: throughput, ratio, CPU time, peak memory.
//!
//! cargo bench --bench archive              # 1 GiB, in the folder for temporary files
//! cargo bench --bench archive -- --gib 16 --only warden

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod measure;

use std::fs::File;
use std::io::{BufWriter, Read, Write};
use std::path::{Path, PathBuf};

use measure::{Cost, measure, median};
use warden::redact::Redactor;
use warden::snapshot::archive::{self, Mask, Plan, Signs, Taking};
use warden::user_view::Directory;

const ROUNDS: usize = 3;
/// Of each ten segments.
const INCOMPRESSIBLE: u64 = 6;
const MIB: u64 = 1 << 20;

fn main() {
    let Some(arguments) = measure::arguments() else { return };
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    match words.as_slice() {
        ["--warden", tree, out] => pack(Path::new(tree), Path::new(out)),
        ["--crc", tree] => read_all(Path::new(tree)),
        ["--plant", tree] => println!("{} bytes", plant(Path::new(tree), 1 << 30)),
        options => compare(options),
    }
}

fn compare(options: &[&str]) {
    let option = |name: &str| {
        options.iter().position(|option| *option == name).and_then(|at| options.get(at + 1)).copied()
    };
    let gib: u64 = option("--gib").map_or(1, |number| number.parse().expect("a number of GiB"));
    let folder = std::env::temp_dir().join(format!("warden-archive-{}", std::process::id()));
    let tree = folder.join("data");
    let bytes = plant(&tree, gib << 30);
    let out = folder.join("out.zip");
    let own = std::env::current_exe().expect("our own path").to_string_lossy().into_owned();
    let (tree, out) = (tree.to_string_lossy().into_owned(), out.to_string_lossy().into_owned());
    let python = "import sys, os, zipfile\n\
        z = zipfile.ZipFile(sys.argv[1], 'w', zipfile.ZIP_DEFLATED)\n\
        [z.write(os.path.join(d, f)) for d, _, fs in os.walk(sys.argv[2]) for f in fs]\n\
        z.close()";
    let tools: Vec<(&str, Vec<&str>)> = vec![
        ("warden", vec![&own, "--warden", &tree, &out]),
        ("7z -tzip -mx1 -mmt2", vec!["7z", "a", "-tzip", "-mx1", "-mmt2", "-bso0", &out, &tree]),
        ("zip -r -1", vec!["zip", "-q", "-r", "-1", &out, &tree]),
        ("zip -r -6", vec!["zip", "-q", "-r", "-6", &out, &tree]),
        ("bsdtar --format zip", vec!["bsdtar", "--format", "zip", "-cf", &out, &tree]),
        ("Python zipfile", vec!["python3", "-c", python, &out, &tree]),
        ("reading, with a CRC", vec![&own, "--crc", &tree]),
    ];
    let only = option("--only");
    let tools: Vec<_> =
        tools.into_iter().filter(|(name, _)| only.is_none_or(|only| name.contains(only))).collect();
    let mut runs: Vec<Vec<Run>> = tools.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((_, command), runs) in tools.iter().zip(&mut runs) {
            let command: Vec<String> = command.iter().map(|&word| word.to_owned()).collect();
            runs.extend(run(&command, &out));
        }
    }
    println!("{} MiB, medians of {ROUNDS} alternating runs", bytes / MIB);
    println!("{:<22} {:>8} {:>7} {:>8} {:>10}", "", "MB/s", "ratio", "CPU s", "peak MiB");
    for ((name, _), runs) in tools.iter().zip(&runs) {
        if runs.is_empty() {
            println!("{name:<22} is not here");
            continue;
        }
        let speed = bytes as f64 / 1e6 / median(runs, |run| run.cost.wall);
        let ratio = median(runs, |run| run.bytes) / bytes as f64;
        let (cpu, peak) = (median(runs, |run| run.cost.cpu), median(runs, |run| run.cost.peak_mib));
        println!("{name:<22} {speed:>8.0} {ratio:>7.4} {cpu:>8.2} {peak:>10.1}");
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes again");
}

struct Run {
    cost: Cost,
    bytes: f64,
}

fn run(command: &[String], out: &str) -> Option<Run> {
    let _ = std::fs::remove_file(out);
    let cost = measure(command)?;
    Some(Run { cost, bytes: std::fs::metadata(out).map_or(0, |metadata| metadata.len()) as f64 })
}

fn pack(tree: &Path, out: &Path) {
    let plan = Plan::new(
        Directory::open(tree).expect("the tree"),
        u64::MAX,
        0,
        Taking::default(),
        &Signs::default(),
    )
    .expect("a plan");
    let redactor = Redactor::new([7; 32]);
    let mask = Mask::new(&redactor);
    let learned = plan.learn(mask).expect("its texts are read");
    let out = BufWriter::new(File::create(out).expect("the archive"));
    let (_, mut out) =
        archive::write(learned, out, mask, &mut || None, &mut |_| ()).expect("the archive is written");
    out.flush().expect("the archive is written");
}

fn read_all(path: &Path) {
    let mut buffer = vec![0; 1 << 20];
    let mut crc = crc32fast::Hasher::new();
    for path in files(path) {
        let mut file = File::open(path).expect("a file");
        loop {
            match file.read(&mut buffer).expect("its content") {
                0 => break,
                length => crc.update(&buffer[..length]),
            }
        }
    }
    println!("{:08x}", crc.finalize());
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).expect("a folder").flatten().map(|entry| entry.path());
    entries.flat_map(|path| if path.is_dir() { files(&path) } else { vec![path] }).collect()
}

/// A data directory of segments of 16 to 64 MiB with their indexes: six of ten bytes are noise, four are lines such as
/// logs have. The same every time.
fn plant(root: &Path, bytes: u64) -> u64 {
    let mut random = Random(0x5eed);
    let (mut noise, mut text, mut number) = (0, 0, 0_u64);
    while noise + text < bytes {
        let is_noise = noise * 10 <= (noise + text) * INCOMPRESSIBLE;
        let size = (16 + random.below(49)) * MIB;
        let size = size.min(bytes - noise - text);
        let partition = root.join(format!("streams/0/topics/{}/partitions/{}", number % 3, number % 7));
        std::fs::create_dir_all(&partition).expect("a partition");
        let name = format!("{number:020}");
        let mut file =
            BufWriter::new(File::create(partition.join(format!("{name}.log"))).expect("a segment"));
        let mut left = size;
        while left > 0 {
            let line = if is_noise { random.bytes() } else { random.line().into_bytes() };
            let part = &line[..line.len().min(left as usize)];
            file.write_all(part).expect("room for the segment");
            left -= part.len() as u64;
        }
        file.flush().expect("room for the segment");
        let index: Vec<u8> = (0..size / 65_536)
            .flat_map(|entry| [entry * 40, 1_795_257_421_411_331 + entry * 977, entry * 65_536])
            .flat_map(u64::to_le_bytes)
            .collect();
        std::fs::write(partition.join(format!("{name}.index")), index).expect("an index");
        *(if is_noise { &mut noise } else { &mut text }) += size;
        number += 1;
    }
    files(root).iter().map(|path| std::fs::metadata(path).map_or(0, |metadata| metadata.len())).sum()
}

/// xorshift64*
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        self.0.wrapping_mul(0x2545_f491_4f6c_dd1d)
    }

    fn below(&mut self, limit: u64) -> u64 {
        (self.next() >> 32) % limit
    }

    fn bytes(&mut self) -> Vec<u8> {
        (0..512).flat_map(|_| self.next().to_le_bytes()).collect()
    }

    fn line(&mut self) -> String {
        const LEVELS: [&str; 4] = [" INFO", " INFO", " WARN", "DEBUG"];
        const TARGETS: [&str; 5] =
            ["server::shard", "server::http", "server::tcp", "server::segments", "server::metrics"];
        let (micros, thread) = (self.below(1_000_000), self.below(8));
        let level = LEVELS[self.below(4) as usize];
        let target = TARGETS[self.below(5) as usize];
        let (stream, topic, partition) = (self.below(20), self.below(50), self.below(32));
        let (a, b, id) = (self.below(1_000_000), self.below(4000), self.next());
        let what = match self.below(6) {
            0 => format!(
                "polled messages stream={stream} topic={topic} partition={partition} count={b} offset={a}"
            ),
            1 => format!(
                "appended batch of {b} messages, {a} bytes, to partition {partition} of topic {topic}"
            ),
            2 => format!("request {id:016x} POST /streams/{stream}/topics/{topic}/messages 201 in {b} us"),
            3 => format!("client {id:016x} joined consumer group {topic} from 10.0.{thread}.{partition}:{b}"),
            4 => format!("flushed segment {a:020}.log of stream {stream}, {b} KiB in {thread} ms"),
            _ => format!("cache_hits={a} cache_misses={b} evictions={topic} memory={id} B"),
        };
        let (hour, minute, second) = (self.below(24), self.below(60), self.below(60));
        format!(
            "2026-11-21T{hour:02}:{minute:02}:{second:02}.{micros:06}Z {level} shard-{thread} {target}: {what}\n"
        )
    }
}
