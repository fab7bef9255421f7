//! Runs a row of the command table: absolute program, cleared environment, own process group, deadline,
//! bounded output.

use std::io::Read;
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use warden_config as config;
use warden_host::{Cause, OUTPUT_BYTES, Output, find_command};

use super::files::{cause_of, lossy, read_up_to};

pub fn run(name: &str, argument: Option<&str>, deadline: Instant) -> Result<Output, Cause> {
    let row =
        find_command(name).ok_or_else(|| Cause::Other(format!("`{name}` is not in the command table")))?;
    if row.takes_argument != argument.is_some() || argument.is_some_and(|argument| argument.starts_with('-'))
    {
        return Err(Cause::Other(format!("`{name}` was asked with a wrong argument")));
    }
    let args: Vec<&str> = row.args.iter().copied().chain(argument).collect();
    run_program(row.programs, &args, deadline)
}

/// Runs the first of `programs` that exists; `Absent` when none does.
pub fn run_program(programs: &[&str], args: &[&str], deadline: Instant) -> Result<Output, Cause> {
    let RawOutput { status, stdout, stderr, cut } = run_for_bytes(programs, args, deadline)?;
    Ok(Output { status, stdout: lossy(stdout), stderr: lossy(stderr), cut })
}

/// What a program wrote, byte for byte.
pub struct RawOutput {
    pub status: Option<i32>,
    pub stdout: Vec<u8>,
    pub stderr: Vec<u8>,
    /// Whether it wrote more than [`OUTPUT_BYTES`].
    pub cut: bool,
}

/// [`run_program`] for a program whose output is not plain text.
pub fn run_for_bytes(programs: &[&str], args: &[&str], deadline: Instant) -> Result<RawOutput, Cause> {
    let program = programs.iter().find(|program| Path::new(program).exists()).ok_or(Cause::Absent)?;
    let mut child = Command::new(program)
        .args(args)
        .env_clear()
        .env("LC_ALL", "C")
        .current_dir("/")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()
        .map_err(cause_of)?;
    let end = deadline.min(Instant::now() + config::COMMAND_LIMIT);
    let outcome = collect(&mut child, end);
    // Whatever it left running in its group goes too; a process that ignores SIGTERM does not ignore this.
    let group = Pid::from_raw(child.id() as i32);
    let _ = killpg(group, Signal::SIGKILL);
    match outcome {
        Some((stdout, stderr, cut)) => {
            let status = child.wait().map_err(cause_of)?;
            // Killed for writing too much is no failure of the program.
            let status = if cut && status.signal().is_some() { Some(0) } else { status.code() };
            Ok(RawOutput { status, stdout, stderr, cut })
        }
        None => {
            // Not waited for here: a process stuck in the kernel would hold this thread too.
            std::thread::spawn(move || child.wait());
            Err(Cause::TimedOut)
        }
    }
}

type Streams = (Vec<u8>, Vec<u8>, bool);

/// Both outputs, or `None` when they did not end in time. A grandchild that keeps the pipe open counts as
/// still running.
fn collect(child: &mut Child, end: Instant) -> Option<Streams> {
    let stdout = drain(child.stdout.take()?);
    let stderr = drain(child.stderr.take()?);
    let (stdout, cut) = stdout.recv_timeout(left(end)).ok()?;
    // Once the output is cut nothing more is awaited: the child may write for ever.
    let patience = if cut { Duration::ZERO } else { left(end) };
    let (stderr, cut_too) = match stderr.recv_timeout(patience) {
        Ok(stderr) => stderr,
        Err(_) if cut => (Vec::new(), false),
        Err(_) => return None,
    };
    Some((stdout, stderr, cut || cut_too))
}

fn drain(stream: impl Read + Send + 'static) -> mpsc::Receiver<(Vec<u8>, bool)> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let _ = sender.send(read_up_to(stream, OUTPUT_BYTES).unwrap_or_default());
    });
    receiver
}

fn left(end: Instant) -> Duration {
    end.saturating_duration_since(Instant::now())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shell(script: &str, millis: u64) -> Result<Output, Cause> {
        run_program(
            &["/nowhere/sh", "/bin/sh"],
            &["-c", script],
            Instant::now() + Duration::from_millis(millis),
        )
    }

    #[test]
    fn the_environment_is_cleared_and_the_status_is_told() {
        let output = shell("env; echo oops >&2; exit 3", 5000).unwrap();
        assert!(output.stdout.contains("LC_ALL=C\n") && !output.stdout.contains("HOME="));
        assert_eq!((output.status, output.stderr.as_str(), output.cut), (Some(3), "oops\n", false));
    }

    #[test]
    fn a_command_that_ignores_sigterm_is_killed_with_its_children() {
        let marker = format!("warden-test-{}", std::process::id());
        let script = format!("trap '' TERM; sh -c 'sleep 600; :' {marker} & sleep 600");
        assert_eq!(shell(&script, 300), Err(Cause::TimedOut));
        std::thread::sleep(Duration::from_millis(100));
        let survivors = std::fs::read_dir("/proc").unwrap().flatten().filter(|entry| {
            std::fs::read(entry.path().join("cmdline"))
                .is_ok_and(|line| String::from_utf8_lossy(&line).contains(&marker))
        });
        assert_eq!(survivors.count(), 0);
    }

    #[test]
    fn endless_output_is_cut_at_the_limit() {
        let output = shell("exec yes", 5000).unwrap();
        assert_eq!((output.stdout.len() as u64, output.cut, output.status), (OUTPUT_BYTES, true, Some(0)));
    }

    #[test]
    fn a_program_that_is_not_installed_is_absent() {
        assert_eq!(run_program(&["/nowhere/x"], &[], Instant::now()), Err(Cause::Absent));
        assert!(run("smartctl", Some("--scan"), Instant::now()).is_err_and(|cause| cause != Cause::Absent));
    }
}
