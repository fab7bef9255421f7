//! How a runtime was started, or would be: its environment and its working directory.

use std::collections::BTreeMap;

use warden_host::proc::ProcessStat;
use warden_host::{Failure, Host, Rights};

use super::{Process, Runtime, configuration, processes, starter};

/// What decides, before any configuration file, where a runtime looks for things.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Launch {
    /// The process, when it runs.
    pub pid: Option<u32>,
    /// `process 70` or `iggy.service`.
    pub name: String,
    /// Values that may be secret come masked.
    pub environment: BTreeMap<String, String>,
    pub directory: Option<String>,
    /// With whose rights the paths are read that it names.
    pub rights: Rights,
    /// Why nothing is read that it names.
    pub refused: Option<Failure>,
}

/// Every running process of `runtime` that systemd, root or another trusted user started; the unit, when none runs.
/// Where there is no unit either, those that are refused: anybody can call a program like a runtime.
pub fn launches(host: &Host, runtime: Runtime) -> Vec<Launch> {
    let of_runtime = processes(host).into_iter().filter(|process| process.runtime == runtime);
    let (mut trusted, mut refused) = (Vec::new(), Vec::new());
    for process in of_runtime {
        match starter::refusal(host, &process) {
            None => trusted.push(of_process(host, process.pid)),
            Some(failure) => refused.push(of_refused(&process, failure)),
        }
    }
    if trusted.is_empty() {
        trusted.extend(of_unit(host, runtime));
    }
    if trusted.is_empty() { refused } else { trusted }
}

fn of_refused(process: &Process, failure: Failure) -> Launch {
    Launch {
        pid: Some(process.pid),
        name: format!("process {}", process.pid),
        environment: BTreeMap::new(),
        directory: None,
        rights: Rights::Process { pid: process.pid, started: 0 },
        refused: Some(failure),
    }
}

/// When a process began, in clock ticks since boot; 0, which no process but the first has, when it is gone.
fn started(host: &Host, pid: u32) -> u64 {
    let path = format!("/proc/{pid}/stat");
    let all = host.read_all("/proc/[pid]/stat").unwrap_or_default();
    let stat = all.iter().find(|file| file.path == path).and_then(|file| ProcessStat::parse(&file.text));
    stat.map_or(0, |stat| stat.start_ticks)
}

fn of_process(host: &Host, pid: u32) -> Launch {
    let environment = host.read(&format!("/proc/{pid}/environ")).unwrap_or_default();
    Launch {
        pid: Some(pid),
        name: format!("process {pid}"),
        environment: told(host, &format!("/proc/{pid}/environ"), environment.split('\0')),
        directory: host.link(&format!("/proc/{pid}/cwd")).ok().map(without_mark),
        rights: Rights::Process { pid, started: started(host, pid) },
        refused: None,
    }
}

/// A working directory that was deleted is still what relative paths of the process were meant by.
fn without_mark(directory: String) -> String {
    directory.strip_suffix(super::DELETED).map(str::to_owned).unwrap_or(directory)
}

fn of_unit(host: &Host, runtime: Runtime) -> Option<Launch> {
    let name = super::unit_of(host, runtime).ok()?;
    let unit = host.unit(&name).ok().filter(|unit| unit.is_loaded())?;
    // `-` and `!` before the directory are flags of systemd (systemd.exec(5)).
    let directory = unit.text("WorkingDirectory").map(|path| path.trim_start_matches(['-', '!']));
    Some(Launch {
        pid: None,
        environment: told(host, &name, unit.list("Environment").into_iter()),
        name,
        directory: Some(directory.filter(|path| path.starts_with('/')).unwrap_or("/").to_owned()),
        rights: Rights::User { name: unit.text("User").unwrap_or("root").to_owned() },
        refused: None,
    })
}

/// The variables, of which those that no redactor should have masked are remembered as unseen.
fn told<'a>(host: &Host, what: &str, variables: impl Iterator<Item = &'a str>) -> BTreeMap<String, String> {
    let environment: BTreeMap<String, String> = variables.filter_map(variable).collect();
    for (name, value) in environment.iter().filter(|(name, _)| name.starts_with("IGGY_")) {
        configuration::note_masked(host, what, name, value);
    }
    environment
}

fn variable(text: &str) -> Option<(String, String)> {
    text.split_once('=').map(|(name, value)| (name.to_owned(), value.to_owned()))
}

impl Launch {
    /// `path` as the runtime itself resolves it; `None` when it is relative and the working directory is unknown.
    pub fn absolute(&self, path: &str) -> Option<String> {
        let whole = if path.starts_with('/') {
            path.to_owned()
        } else {
            format!("{}/{path}", self.directory.as_ref()?)
        };
        let mut components: Vec<&str> = Vec::new();
        for component in whole.split('/') {
            match component {
                "" | "." => {}
                ".." => {
                    components.pop();
                }
                name => components.push(name),
            }
        }
        Some(format!("/{}", components.join("/")))
    }

    /// A directory or file of the runtime as Warden can reach it: in a container the same path is another file,
    /// and the right one is below /proc/PID/root. It is read with the rights of the runtime from then on.
    pub fn seen_from_here(&self, host: &Host, path: &str) -> String {
        let Some(pid) = self.pid else {
            host.name(path, &self.rights);
            return path.to_owned();
        };
        let other = format!("/proc/{pid}/root{path}");
        host.name(path, &self.rights);
        host.name(&other, &self.rights);
        let is_there = |path: &str| match path.ends_with(".toml") {
            true => host.stat(path).is_ok(),
            false => super::is_data_directory(host, path),
        };
        match has_own_root(host, pid) {
            Some(true) => other,
            Some(false) => path.to_owned(),
            // Recordings did not always tell.
            None if !is_there(path) && is_there(&other) => other,
            None => path.to_owned(),
        }
    }
}

/// Whether the root directory of a process is another one than that of this host; `None` when it may not be seen.
fn has_own_root(host: &Host, pid: u32) -> Option<bool> {
    let stat = |path: &str| host.quietly(|host| host.stat(path)).ok();
    let (here, there) = (stat("/")?, stat(&format!("/proc/{pid}/root/."))?);
    Some((here.device, here.inode) != (there.device, there.inode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn relative_paths_start_at_the_working_directory() {
        let mut launch = Launch {
            pid: None,
            name: String::new(),
            environment: BTreeMap::new(),
            directory: Some("/srv/iggy".to_owned()),
            rights: Rights::User { name: "iggy".to_owned() },
            refused: None,
        };
        let absolute = |launch: &Launch, path: &str| launch.absolute(path);
        assert_eq!(absolute(&launch, "local_data").as_deref(), Some("/srv/iggy/local_data"));
        assert_eq!(absolute(&launch, "./a//../b/").as_deref(), Some("/srv/iggy/b"));
        assert_eq!(absolute(&launch, "/x/../../y").as_deref(), Some("/y"));
        launch.directory = None;
        assert_eq!((absolute(&launch, "a"), absolute(&launch, "/a").as_deref()), (None, Some("/a")));
    }
}
