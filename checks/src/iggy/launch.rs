//! How a runtime was started, or would be: its environment and its working directory.

use std::collections::BTreeMap;

use super::{Runtime, configuration, processes};
use crate::host::Host;

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
}

/// Every running process of `runtime`; the unit, when nothing runs.
pub fn launches(host: &Host, runtime: Runtime) -> Vec<Launch> {
    let running: Vec<Launch> = processes(host)
        .into_iter()
        .filter(|process| process.runtime == runtime)
        .map(|process| of_process(host, process.pid))
        .collect();
    if running.is_empty() { of_unit(host, runtime).into_iter().collect() } else { running }
}

fn of_process(host: &Host, pid: u32) -> Launch {
    let environment = host.read(&format!("/proc/{pid}/environ")).unwrap_or_default();
    Launch {
        pid: Some(pid),
        name: format!("process {pid}"),
        environment: told(host, &format!("/proc/{pid}/environ"), environment.split('\0')),
        directory: host.link(&format!("/proc/{pid}/cwd")).ok(),
    }
}

fn of_unit(host: &Host, runtime: Runtime) -> Option<Launch> {
    let settings = host.settings().ok()?;
    let name = runtime.unit(&settings);
    let unit = host.unit(name).ok().filter(|unit| unit.is_loaded())?;
    // `-` and `!` before the directory are flags of systemd (systemd.exec(5)).
    let directory = unit.text("WorkingDirectory").map(|path| path.trim_start_matches(['-', '!']));
    Some(Launch {
        pid: None,
        name: name.to_owned(),
        environment: told(host, name, unit.list("Environment").into_iter()),
        directory: Some(directory.filter(|path| path.starts_with('/')).unwrap_or("/").to_owned()),
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
    /// and the right one is below /proc/PID/root.
    pub fn seen_from_here(&self, host: &Host, path: &str) -> String {
        let through_process = self.pid.map(|pid| format!("/proc/{pid}/root{path}"));
        let is_there = |path: &str| match path.ends_with(".toml") {
            true => host.stat(path).is_ok(),
            false => super::is_data_directory(host, path),
        };
        match through_process {
            Some(other) if !is_there(path) && is_there(&other) => other,
            _ => path.to_owned(),
        }
    }
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
        };
        let absolute = |launch: &Launch, path: &str| launch.absolute(path);
        assert_eq!(absolute(&launch, "local_data").as_deref(), Some("/srv/iggy/local_data"));
        assert_eq!(absolute(&launch, "./a//../b/").as_deref(), Some("/srv/iggy/b"));
        assert_eq!(absolute(&launch, "/x/../../y").as_deref(), Some("/y"));
        launch.directory = None;
        assert_eq!((absolute(&launch, "a"), absolute(&launch, "/a").as_deref()), (None, Some("/a")));
    }
}
