//! What a command costs: wall time, CPU time and peak memory of it and all it waited for, of several in turn.

use std::process::{Command, Stdio};
use std::time::Instant;

use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeVal;

/// Before a command: measure it, print the three numbers, and end.
const ONE: &str = "--one";

#[derive(Clone, Copy, Debug)]
pub struct Cost {
    /// Seconds.
    pub wall: f64,
    pub cpu: f64,
    pub peak_mib: f64,
}

/// What the bench was called with. `None` when this process was started by [`measure`] and has done its work.
pub fn arguments() -> Option<Vec<String>> {
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| argument != "--bench").collect();
    match arguments.split_first() {
        Some((first, command)) if first == ONE => {
            measure_here(command);
            None
        }
        _ => Some(arguments),
    }
}

/// Runs a command in a process of its own that does nothing else, so that the kernel's accounting of finished
/// children is that of this one command. `None` if there is no such program.
pub fn measure(command: &[String]) -> Option<Cost> {
    let output = Command::new(std::env::current_exe().expect("our own path"))
        .arg(ONE)
        .args(command)
        .stdin(Stdio::null())
        .stderr(Stdio::inherit())
        .output()
        .expect("the measuring process starts");
    assert!(output.status.success(), "{command:?} could not be measured");
    let printed = String::from_utf8(output.stdout).expect("numbers");
    let numbers: Vec<f64> = printed.split_whitespace().map(|word| word.parse().expect("a number")).collect();
    let [wall, cpu, peak_mib] = numbers[..] else { return None };
    Some(Cost { wall, cpu, peak_mib })
}

fn measure_here(command: &[String]) {
    let began = Instant::now();
    let started =
        Command::new(&command[0]).args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).status();
    let Ok(status) = started else { return };
    let wall = began.elapsed().as_secs_f64();
    assert!(status.success(), "{command:?}: {status}");
    let usage = getrusage(UsageWho::RUSAGE_CHILDREN).expect("getrusage");
    let seconds = |time: TimeVal| time.tv_sec() as f64 + time.tv_usec() as f64 / 1e6;
    let cpu = seconds(usage.user_time()) + seconds(usage.system_time());
    println!("{wall} {cpu} {}", usage.max_rss() as f64 / 1024.0);
}

/// The one in the middle of what `value` says of the runs.
pub fn median<T>(runs: &[T], value: impl Fn(&T) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(value).collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}
