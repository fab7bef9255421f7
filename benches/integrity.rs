//! The full integrity scan against `xxhsum -H3` over the same segments, in turn: throughput, CPU time and peak
//! memory of the processes. xxhsum hashes each file in one piece and knows nothing of messages: it is the limit.
//!
//! cargo bench --bench integrity            (needs Debian's package xxhash)

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

#[path = "../tests/support/segments.rs"]
#[expect(dead_code, clippy::unwrap_used, reason = "it is of the tests, which use the rest of it")]
mod segments;

mod measure;

use std::path::{Path, PathBuf};

use measure::{Cost, measure, median};

const RUNS: usize = 7;
/// Two partitions' worth of segments, as the server makes them with `segment.size = "128 MiB"`.
const SEGMENTS: u64 = 8;
const SEGMENT: usize = 128 << 20;
/// The server flushes about a megabyte at a time; producers commonly send a kilobyte a message.
const MESSAGES: usize = 1000;
const PAYLOAD: usize = 1000;

fn main() {
    if measure::arguments().is_none() {
        return;
    }
    let folder = std::env::temp_dir().join(format!("warden-integrity-{}", std::process::id()));
    let (logs, bytes) = build(&folder);
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let ours = ["inspect", "--scan", "full", "--json"].map(str::to_owned);
    let ours = [vec![env!("CARGO_BIN_EXE_warden").to_owned()], ours.to_vec(), vec![text(&folder)]].concat();
    let one_by_one =
        [vec!["xxhsum".to_owned(), "-H3".to_owned()], logs.iter().map(|log| text(log)).collect()].concat();
    let list = logs.iter().map(|log| text(log)).collect::<Vec<_>>().join(" ");
    let both_cores =
        ["sh", "-c", &format!("echo {list} | xargs -n 1 -P 2 xxhsum -H3")].map(str::to_owned).to_vec();

    let peers =
        [("warden, full scan", ours), ("xxhsum -H3", one_by_one), ("xxhsum -H3, two at once", both_cores)];
    let mut runs: Vec<Vec<Cost>> = vec![Vec::new(); peers.len()];
    // The first round warms the page cache and is not counted.
    for round in 0..=RUNS {
        for ((_, command), costs) in peers.iter().zip(&mut runs) {
            let cost = measure(command).expect("the command starts: is Debian's package xxhash installed?");
            if round > 0 {
                costs.push(cost);
            }
        }
    }
    for ((name, _), costs) in peers.iter().zip(&runs) {
        println!(
            "{name:<24} {:>6.2} GB/s   {:>6.2} GB per second of CPU   peak {:>5.1} MiB   (medians of {RUNS})",
            bytes as f64 / median(costs, |cost| cost.wall) / 1e9,
            bytes as f64 / median(costs, |cost| cost.cpu) / 1e9,
            median(costs, |cost| cost.peak_mib),
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes again");
}

/// A data directory of one partition; its logs, and how large they are together.
fn build(folder: &Path) -> (Vec<PathBuf>, u64) {
    let partition = folder.join("streams/0/topics/0/partitions/3");
    std::fs::create_dir_all(&partition).expect("a folder for the segments");
    std::fs::create_dir_all(folder.join("metadata")).expect("a folder for the metadata");
    std::fs::write(folder.join("metadata/journal.wal"), segments::journal(2)).expect("a journal");
    let noise: Vec<u8> =
        (0..PAYLOAD as u32 * 8).map(|number| (number.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    let (mut logs, mut bytes, mut offset) = (Vec::new(), 0, 0);
    for _ in 0..SEGMENTS {
        let name = partition.join(format!("{offset:020}"));
        let (mut log, mut index) = (Vec::with_capacity(SEGMENT + (2 << 20)), Vec::new());
        while log.len() < SEGMENT {
            let payloads: Vec<&[u8]> =
                (0..MESSAGES).map(|number| &noise[number % 7 * PAYLOAD..][..PAYLOAD]).collect();
            index.extend(segments::index_entry(offset, log.len() as u64));
            log.extend(segments::batch(3, offset, &payloads));
            offset += MESSAGES as u64;
        }
        std::fs::write(name.with_extension("log"), &log).expect("a log");
        std::fs::write(name.with_extension("index"), &index).expect("an index");
        bytes += log.len() as u64;
        logs.push(name.with_extension("log"));
    }
    (logs, bytes)
}
