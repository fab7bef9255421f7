//! A whole snapshot of this host: wall time, CPU time and peak memory of the process, from a cold start to the
//! written archive. With `--against 'COMMAND'` the same is measured of another tool, in turn.
//!
//! cargo bench --bench snapshot -- --against 'sos report --batch --tmp-dir /tmp'

use std::os::unix::process::ExitStatusExt;
use std::process::{Command, Stdio};
use std::time::Instant;

const RUNS: usize = 5;

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
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

/// Runs a command under time(1)'s own accounting: the kernel's figures of the finished process and all it waited
/// for.
fn measure(command: &[impl AsRef<str>]) -> Cost {
    let began = Instant::now();
    let mut child = Command::new(command[0].as_ref())
        .args(command[1..].iter().map(AsRef::as_ref))
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("the command starts");
    let pid = child.id();
    let mut peak = 0_u64;
    // The peak of the largest process is in its own status until it ends.
    let status = loop {
        peak = peak.max(peak_kib(pid).unwrap_or(0));
        if let Some(status) = child.try_wait().expect("it can be waited for") {
            break status;
        }
        std::thread::sleep(std::time::Duration::from_millis(2));
    };
    assert!(status.signal().is_none(), "it ended by itself");
    let wall = began.elapsed().as_secs_f64();
    let cpu = children_cpu();
    Cost { wall, cpu, peak_mib: peak as f64 / 1024.0 }
}

fn peak_kib(pid: u32) -> Option<u64> {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    Some(warden_checks::proc::kibibytes(&status, "VmHWM")? / 1024)
}

/// CPU seconds of the children that ended since the last call.
fn children_cpu() -> f64 {
    use std::sync::atomic::{AtomicU64, Ordering};
    static BEFORE: AtomicU64 = AtomicU64::new(0);
    let usage =
        nix::sys::resource::getrusage(nix::sys::resource::UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() as u64 * 1_000_000 + time.tv_usec() as u64;
    let now = micros(usage.user_time()) + micros(usage.system_time());
    (now - BEFORE.swap(now, Ordering::Relaxed)) as f64 / 1e6
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
