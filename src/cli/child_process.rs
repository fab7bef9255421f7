//! Keeps the prompt safe: the work is done by a child process, because a thread that the kernel does not give
//! back (a dead mount, a disk that hangs) holds its process even after exit(2).

use std::ffi::CStr;
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::Context;
use nix::sys::prctl;
use nix::sys::signal::Signal;

use crate::background_io;

/// What this program is called in a list of processes, also where it was started by a link of the kernel's.
const NAME: &CStr = c"warden";

/// The hidden argument by which a child knows itself.
pub const CHILD: &str = "--in-child";

/// Does this command line again in a child, and returns its exit code as soon as the child has told it. The
/// child's standard input is the line between the two.
pub fn run_in_child() -> anyhow::Result<u8> {
    let (mut ours, theirs) = UnixStream::pair().context("cannot make a socket pair")?;
    let _ = prctl::set_name(NAME);
    let mut child = Command::new("/proc/self/exe")
        .arg0("warden")
        .args(std::env::args_os().skip(1))
        .arg(CHILD)
        .stdin(Stdio::from(OwnedFd::from(theirs)))
        .spawn()
        .context("cannot start the process that does the work")?;
    let mut code = [0];
    match ours.read_exact(&mut code) {
        Ok(()) => {
            reap(&mut child);
            Ok(code[0])
        }
        // It ended without a word: killed, or a defect that it told on standard error.
        Err(_) => Ok(code_of(child.wait()?)),
    }
}

/// An ordinary child is gone at once. One that the kernel holds is left behind.
fn reap(child: &mut Child) {
    const PATIENCE: Duration = Duration::from_millis(200);
    let began = Instant::now();
    while began.elapsed() < PATIENCE && matches!(child.try_wait(), Ok(None)) {
        std::thread::sleep(Duration::from_millis(1));
    }
}

fn code_of(status: ExitStatus) -> u8 {
    use std::os::unix::process::ExitStatusExt;
    let by_signal = status.signal().map(|signal| 128 + signal);
    let code = status.code().or(by_signal).and_then(|code| u8::try_from(code).ok());
    code.unwrap_or(super::COULD_NOT_RUN)
}

/// In the child: end when the parent does. It is a session of its own, so that what is long and not urgent in it can be
/// behind other sessions without taking the user's shell along.
pub fn follow_parent() -> anyhow::Result<()> {
    let _ = prctl::set_name(NAME);
    background_io::own_session();
    prctl::set_pdeathsig(Signal::SIGTERM).context("cannot follow the parent process")
}

/// In the child: tells the parent how it ended, as the last thing it does. A parent that is gone needs no word.
pub fn tell(code: u8) {
    if let Ok(line) = std::io::stdin().as_fd().try_clone_to_owned() {
        let _ = UnixStream::from(line).write_all(&[code]);
    }
}
