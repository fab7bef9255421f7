//! The control group everything of a sandbox lives below, so that nothing of it outlives it.

use std::ffi::OsStr;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

const PREFIX: &str = "warden-sandbox.";
/// The kernel removes killed processes in milliseconds.
const PATIENCE: Duration = Duration::from_secs(10);

pub struct Cgroup(PathBuf);

impl Cgroup {
    pub fn new() -> Cgroup {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let top = mounted_at();
        sweep(&top);
        let number = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = top.join(format!("{PREFIX}{}.{number}", std::process::id()));
        for folder in [path.clone(), path.join("init"), path.join("exec")] {
            fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        }
        // Where this machine has the memory controller here and lets it be handed on, the sandbox has it too.
        for folder in [&top, &path] {
            let _ = fs::write(folder.join("cgroup.subtree_control"), "+memory");
        }
        Cgroup(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// A command that enters this group before anything else.
    pub fn command(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new("/bin/sh");
        command.args(["-c", "echo $$ > \"$1\" && shift && exec \"$@\"", "sh"]);
        command.arg(self.0.join("exec/cgroup.procs")).arg(program);
        command
    }

    /// Kills whatever is still inside, and leaves no trace.
    pub fn remove(&self) {
        let _ = fs::write(self.0.join("cgroup.kill"), "1");
        let began = Instant::now();
        while self.0.exists() && began.elapsed() < PATIENCE {
            remove_folders(&self.0);
            std::thread::sleep(Duration::from_millis(2));
        }
    }
}

fn mounted_at() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap();
    let line = mounts.lines().find(|line| line.contains(" - cgroup2 ")).expect("this test needs cgroup2");
    PathBuf::from(line.split(' ').nth(4).unwrap())
}

/// Empty groups of processes that were killed before they could clean up.
fn sweep(top: &Path) {
    for entry in fs::read_dir(top).unwrap().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let Some(process) = name.strip_prefix(PREFIX).and_then(|rest| rest.split('.').next()) else {
            continue;
        };
        let populated = fs::read_to_string(entry.path().join("cgroup.events")).unwrap_or_default();
        if !Path::new("/proc").join(process).exists() && populated.contains("populated 0") {
            remove_folders(&entry.path());
        }
    }
}

fn remove_folders(folder: &Path) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
            remove_folders(&entry.path());
        }
    }
    let _ = fs::remove_dir(folder);
}
