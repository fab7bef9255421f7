//! A whole snapshot of this host: wall time, CPU time and peak memory of the process, from a cold start to the
//! written archive. With `--against 'COMMAND'` the same is measured of another tool, in turn.
//!
//! cargo bench --bench snapshot -- --against 'sos report --batch --tmp-dir /tmp'

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

const RUNS: usize = 5;
/// Before a command: measure it, print the three numbers, and end.
const ONE: &str = "--one";

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    if let Some((ONE, command)) = arguments.split_first().map(|(first, rest)| (first.as_str(), rest)) {
        measure_here(command);
        return;
    }
    let folder = std::env::temp_dir().join(format!("warden-bench-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a folder for the archives");
    let bundle = folder.join("bundle.zip");
    let ours = vec![
        env!("CARGO_BIN_EXE_warden").to_owned(),
        "snapshot".to_owned(),
        "--fail-on=never".to_owned(),
        "--output".to_owned(),
        bundle.to_string_lossy().into_owned(),
    ];
    let peer: Option<Vec<String>> = arguments.iter().position(|argument| argument == "--against").map(|at| {
        arguments.get(at + 1).expect("--against takes a command").split(' ').map(str::to_owned).collect()
    });

    measure(&ours);
    let (mut own_runs, mut peer_runs) = (Vec::new(), Vec::new());
    for _ in 0..RUNS {
        own_runs.push(measure(&ours));
        peer_runs.extend(peer.as_deref().map(measure));
    }
    let own = median(&own_runs);
    show("warden snapshot", &own);
    if let Some(peer) = &peer {
        let theirs = median(&peer_runs);
        show(&peer[0], &theirs);
        println!(
            "{:<18} wall {:>8.3}   cpu {:>8.3}   peak {:>7.3}",
            "ratio",
            own.wall / theirs.wall,
            own.cpu / theirs.cpu,
            own.peak_mib / theirs.peak_mib
        );
    }
    std::fs::remove_dir_all(&folder).expect("the folder goes again");
}

#[derive(Clone, Copy)]
struct Cost {
    wall: f64,
    cpu: f64,
    peak_mib: f64,
}

/// Runs a command in a process of its own that does nothing else, so that the kernel's accounting of finished
/// children is that of this one command and all it waited for.
fn measure(command: &[String]) -> Cost {
    let output = Command::new(std::env::current_exe().expect("our own path"))
        .arg(ONE)
        .args(command)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .expect("the command starts");
    let printed = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<f64> = printed.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    Cost { wall: numbers[0], cpu: numbers[1], peak_mib: numbers[2] }
}

fn measure_here(command: &[String]) {
    let began = Instant::now();
    let status = Command::new(&command[0])
        .args(&command[1..])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .expect("the command starts");
    assert!(status.signal().is_none(), "it ended by itself");
    let wall = began.elapsed().as_secs_f64();
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    println!("{wall} {cpu} {}", usage.max_rss() as f64 / 1024.0);
}

fn median(runs: &[Cost]) -> Cost {
    let middle = |value: fn(&Cost) -> f64| {
        let mut values: Vec<f64> = runs.iter().map(value).collect();
        values.sort_by(f64::total_cmp);
        values[values.len() / 2]
    };
    Cost { wall: middle(|run| run.wall), cpu: middle(|run| run.cpu), peak_mib: middle(|run| run.peak_mib) }
}

fn show(name: &str, cost: &Cost) {
    println!(
        "{name:<18} wall {:>6.3} s   cpu {:>6.3} s   peak {:>5.1} MiB   (medians of {RUNS})",
        cost.wall, cost.cpu, cost.peak_mib
    );
}
