//! Packing many small files on a host whose cores are all taken: `warden snapshot --include-iggy` beside `zip -r` of the
//! same directory, in turn, while a thread for each core computes without end.
//!
//! cargo bench --bench busy                 # 65,536 files of 8 bytes
//! cargo bench --bench busy -- --files 3000

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod measure;

use std::path::Path;
use std::process::{Child, Command};

use measure::{Cost, measure, median};

const ROUNDS: usize = 3;
/// As the offsets of consumers lie on disk: so many in a folder.
const IN_A_FOLDER: u64 = 512;

fn main() {
    let Some(arguments) = measure::arguments() else { return };
    if arguments.first().is_some_and(|word| word == "--spin") {
        loop {
            std::hint::spin_loop();
        }
    }
    let at = arguments.iter().position(|word| word == "--files");
    let files: u64 = at.map_or(65_536, |at| arguments[at + 1].parse().expect("a number of files"));
    let folder = tempfile::tempdir().expect("a folder");
    let data = folder.path().join("data");
    plant(&data, files);
    let path = |name: &str| folder.path().join(name).to_string_lossy().into_owned();
    let own: Vec<String> = [
        env!("CARGO_BIN_EXE_warden"),
        "snapshot",
        "--only=disk-space",
        "--include-iggy",
        "--fail-on=never",
        "--iggy-data",
        &path("data"),
        "--output",
        &path("own.zip"),
    ]
    .map(str::to_owned)
    .into();
    let peer: Vec<String> = ["zip", "-q", "-r", &path("peer.zip"), &path("data")].map(str::to_owned).into();
    println!(
        "{files} files of 8 bytes, medians of {ROUNDS} alternating runs; seconds of wall and of CPU time"
    );
    let calm = rounds(&own, &peer, folder.path());
    let spinners = Spinners::start();
    let busy = rounds(&own, &peer, folder.path());
    drop(spinners);
    for (name, (own, peer)) in [("cores free", calm), ("cores taken", busy)] {
        println!(
            "{name:<12} warden {:>6.1} s ({:.2} s)   zip -r {:>6.1} s ({:.2} s)   ratio {:.1}",
            own.0,
            own.1,
            peer.0,
            peer.1,
            own.0 / peer.0
        );
    }
}

/// Wall and CPU time of each, in seconds.
fn rounds(own: &[String], peer: &[String], folder: &Path) -> ((f64, f64), (f64, f64)) {
    let mut runs: [Vec<Cost>; 2] = Default::default();
    for _ in 0..ROUNDS {
        for (command, runs) in [own, peer].into_iter().zip(&mut runs) {
            let cost = measure(command);
            if let Some(cost) = cost {
                println!(
                    "{:<12} {:>6.1} s, {:.1} MiB",
                    command[0].rsplit('/').next().unwrap_or_default(),
                    cost.wall,
                    cost.peak_mib
                );
            }
            runs.extend(cost);
            for name in ["own.zip", "peer.zip"] {
                let _ = std::fs::remove_file(folder.join(name));
            }
        }
    }
    let middle = |runs: &[Cost]| match runs {
        [] => (f64::NAN, f64::NAN),
        runs => (median(runs, |run| run.wall), median(runs, |run| run.cpu)),
    };
    (middle(&runs[0]), middle(&runs[1]))
}

fn plant(root: &Path, files: u64) {
    for number in 0..files {
        let (folder, name) = (number / IN_A_FOLDER, number % IN_A_FOLDER);
        let folder = root.join(format!("streams/0/topics/0/partitions/{folder}/offsets/consumers"));
        if name == 0 {
            std::fs::create_dir_all(&folder).expect("a folder");
        }
        std::fs::write(folder.join(name.to_string()), number.to_le_bytes()).expect("a file");
    }
}

/// A process for each core, each in a session of its own like a service.
struct Spinners(Vec<Child>);

impl Spinners {
    fn start() -> Spinners {
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        let own = std::env::current_exe().expect("our own path");
        let spin = || Command::new("setsid").arg(&own).arg("--spin").spawn().expect("setsid starts");
        Spinners((0..cores).map(|_| spin()).collect())
    }
}

impl Drop for Spinners {
    fn drop(&mut self) {
        for child in &mut self.0 {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
