//! A whole snapshot of this host: wall time, CPU time and peak memory of the process, from a cold start to the
//! written archive. With `--against 'COMMAND'` the same is measured of another tool, in turn.
//!
//! cargo bench --bench snapshot -- --against 'sos report --batch --tmp-dir /tmp'

#![expect(clippy::print_stdout, reason = "a bench prints what it measured")]

mod measure;

use measure::{Cost, measure, median};

const RUNS: usize = 5;

fn main() {
    let Some(arguments) = measure::arguments() else { return };
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
        own_runs.extend(measure(&ours));
        peer_runs.extend(peer.as_deref().and_then(measure));
    }
    let own = middle(&own_runs);
    show("warden snapshot", &own);
    if let Some(peer) = &peer {
        let theirs = middle(&peer_runs);
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

fn middle(runs: &[Cost]) -> Cost {
    Cost {
        wall: median(runs, |run| run.wall),
        cpu: median(runs, |run| run.cpu),
        peak_mib: median(runs, |run| run.peak_mib),
    }
}

fn show(name: &str, cost: &Cost) {
    println!(
        "{name:<18} wall {:>6.3} s   cpu {:>6.3} s   peak {:>5.1} MiB   (medians of {RUNS})",
        cost.wall, cost.cpu, cost.peak_mib
    );
}
