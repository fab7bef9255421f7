//! Where Iggy is on this host: its processes, its data directory, its configuration.

pub mod answering;
pub mod api;
pub mod boot_refusals;
mod configuration;
pub mod data_inventory;
pub mod held;
pub mod log;
mod process_env;
mod service;
pub(crate) mod starter;

pub use configuration::{
    Configuration, ConfigurationFile, Listener, configuration, hidden_configuration, listeners,
};
pub use process_env::{Launch, launches};
pub use service::{Service, unit_of};
use warden_host::proc::ProcessStat;
use warden_host::{FileText, Host, IfAny, PLACEHOLDER, Rights, Settings};

use crate::{Error, Read};

/// What looking for Iggy may ask of the host; `Read::Group(READS)` stands for all of it. Files are limited by their
/// names, and read with the rights of the process that named them ([`Rights`]): anybody can start a process called
/// `iggy-server` whose environment points at any path.
pub const READS: &[Read] = &[
    Read::Units,
    Read::Path("/"),
    Read::Path("/etc/passwd"),
    Read::Path("/proc/[pid]/root/."),
    Read::Path("/proc/[pid]/stat"),
    Read::Path("/proc/[pid]/status"),
    Read::Path("/proc/[pid]/cgroup"),
    Read::Path("/proc/[pid]/environ"),
    Read::Path("/proc/[pid]/cwd"),
    Read::Path("/proc/[pid]/fd"),
    Read::Path("/proc/[pid]/fd/*"),
    Read::Path("/**/*.toml"),
    Read::Path("/**/streams"),
];

/// One of the two runtimes that Warden looks after.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Runtime {
    Iggy,
    Connectors,
}

impl Runtime {
    pub const ALL: [Runtime; 2] = [Runtime::Iggy, Runtime::Connectors];

    /// The name of its program.
    pub const fn program(self) -> &'static str {
        match self {
            Runtime::Iggy => "iggy-server",
            Runtime::Connectors => "iggy-connectors",
        }
    }

    pub fn unit(self, settings: &Settings) -> &str {
        match self {
            Runtime::Iggy => &settings.iggy_unit,
            Runtime::Connectors => &settings.connectors_unit,
        }
    }

    /// By the thread name of the main thread, of which the kernel keeps 15 bytes; a version may follow the name.
    fn of_command(name: &str) -> Option<Runtime> {
        match name {
            name if name.starts_with("iggy-server") => Some(Runtime::Iggy),
            name if name.starts_with("iggy-connector") => Some(Runtime::Connectors),
            _ => None,
        }
    }
}

/// A running process of a runtime.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Process {
    pub runtime: Runtime,
    pub pid: u32,
}

/// Every process of the runtimes, however it was started (unit, container, by hand); the units' own come first.
pub fn processes(host: &Host) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    if let Ok(settings) = host.settings() {
        for runtime in Runtime::ALL {
            let unit = host.unit(runtime.unit(&settings)).ok();
            let pid = unit.and_then(|unit| unit.number("MainPID")).and_then(|pid| u32::try_from(pid).ok());
            found.extend(pid.filter(|&pid| pid != 0).map(|pid| Process { runtime, pid }));
        }
    }
    for file in host.read_all("/proc/[pid]/stat").unwrap_or_default() {
        let Some(stat) = ProcessStat::parse(&file.text) else { continue };
        let Some(runtime) = Runtime::of_command(&stat.name) else { continue };
        let is_gone = matches!(stat.state, 'Z' | 'X');
        if !is_gone && found.iter().all(|known| known.pid != stat.pid) {
            found.push(Process { runtime, pid: stat.pid });
        }
    }
    found
}

/// Whether every process of the host could be read, so that one which was not found is not there.
pub fn processes_are_known(host: &Host) -> bool {
    let is_whole = |file: &FileText| ProcessStat::parse(&file.text).is_some();
    host.read_all("/proc/[pid]/stat").is_ok_and(|files| files.iter().all(is_whole))
}

/// A data directory and how it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataDirectory {
    pub path: String,
    pub found_by: String,
}

/// Files that the server keeps open, as they end below its data directory.
const OPEN_FILES: [&str; 2] = ["/logs/iggy-server.log", "/metadata/journal.wal"];
/// What the kernel appends to the name of a file that has none any more (proc(5)).
const DELETED: &str = " (deleted)";
/// The server opens its log, its journal and its rings before any segment: they are among the first.
const DESCRIPTORS_LOOKED_AT: usize = 64;
/// Where packages, the images and the examples of Iggy put their data.
pub const WELL_KNOWN: [&str; 5] =
    ["/var/lib/iggy", "/var/lib/iggy/local_data", "/opt/iggy/local_data", "/app/local_data", "/local_data"];

/// The data directory of the server that runs here, or else of the one that would.
pub fn data_directory(host: &Host) -> Option<DataDirectory> {
    let launches = launches(host, Runtime::Iggy);
    let by_open_file = || launches.iter().find_map(|launch| of_open_file(host, launch));
    let by_configuration = || launches.iter().find_map(|launch| of_configuration(host, launch));
    by_open_file().or_else(by_configuration).or_else(|| {
        let owned = |path: &&str| {
            host.name(path, &Rights::Owner { of: (*path).to_owned() });
            is_data_directory(host, path)
        };
        let path = WELL_KNOWN.into_iter().find(owned)?;
        Some(DataDirectory { path: path.to_owned(), found_by: "its usual place".to_owned() })
    })
}

/// Where the server that does not run would have its data at its next start, whether that is there or not.
pub fn intended_data_directory(host: &Host) -> Option<(DataDirectory, Launch)> {
    let launch = launches(host, Runtime::Iggy).into_iter().find(|launch| launch.pid.is_none())?;
    let (value, found_by) = configuration::configured_path(host, &launch)?;
    Some((DataDirectory { path: launch.absolute(&value)?, found_by }, launch))
}

/// Why nobody can say that there is no data directory when [`data_directory`] found none: what would tell may
/// not be seen.
pub fn hidden_data_directory(host: &Host) -> Option<Error> {
    if let Some(refused) = launches(host, Runtime::Iggy).into_iter().find_map(|launch| launch.refused) {
        return Some(refused.into());
    }
    let servers = processes(host).into_iter().filter(|process| process.runtime == Runtime::Iggy);
    let environments = servers.map(|process| host.read(&format!("/proc/{}/environ", process.pid)).err());
    let places = WELL_KNOWN.iter().map(|path| host.stat(&format!("{path}/streams")).err());
    environments.chain(places).flatten().find(|error| Err::<(), _>(error.clone()).if_any().is_err())
}

fn of_open_file(host: &Host, launch: &Launch) -> Option<DataDirectory> {
    let pid = launch.pid.filter(|_| launch.refused.is_none())?;
    let path = open_data_directory(host, pid)?;
    Some(DataDirectory {
        path: launch.seen_from_here(host, &path),
        found_by: format!("a file that process {pid} holds open"),
    })
}

/// The data directory, as process `pid` itself names it, by the files that it holds open.
pub fn open_data_directory(host: &Host, pid: u32) -> Option<String> {
    first_descriptors(host, pid).iter().find_map(|(_, target)| {
        let target = target.strip_suffix(DELETED).unwrap_or(target);
        OPEN_FILES.iter().find_map(|end| target.strip_suffix(end)).map(str::to_owned)
    })
}

/// The lowest file descriptors of a process, with what they are.
pub fn first_descriptors(host: &Host, pid: u32) -> Vec<(u32, String)> {
    descriptors(host, pid, DESCRIPTORS_LOOKED_AT)
}

fn descriptors(host: &Host, pid: u32, limit: usize) -> Vec<(u32, String)> {
    let directory = format!("/proc/{pid}/fd");
    let entries = host.list(&directory).unwrap_or_default();
    let mut numbers: Vec<u32> = entries.iter().filter_map(|entry| entry.name.parse().ok()).collect();
    numbers.sort_unstable();
    let target = |number: u32| Some((number, host.link(&format!("{directory}/{number}")).ok()?));
    numbers.into_iter().take(limit).filter_map(target).collect()
}

fn of_configuration(host: &Host, launch: &Launch) -> Option<DataDirectory> {
    if launch.refused.is_some() {
        return None;
    }
    let (value, found_by) = configuration::configured_path(host, launch)?;
    // A masked path leads nowhere; that it is masked is remembered.
    if value.contains(PLACEHOLDER) {
        return None;
    }
    let path = launch.seen_from_here(host, &launch.absolute(&value)?);
    // A process creates its directory; that of a unit which never ran may not be there.
    let exists = launch.pid.is_some() || is_data_directory(host, &path);
    exists.then_some(DataDirectory { path, found_by })
}

fn is_data_directory(host: &Host, path: &str) -> bool {
    host.stat(&format!("{path}/streams")).is_ok() || host.stat(&current_configuration(path)).is_ok()
}

/// Where the server writes, at each start, what it is configured with.
fn current_configuration(data_directory: &str) -> String {
    format!("{data_directory}/runtime/current_config.toml")
}

#[cfg(test)]
pub(crate) mod tests {
    use serde_json::json;
    use warden_host::{Data, Kind, Recorded, Request, STATE_DIRECTORY, Stat};

    use super::*;

    pub(crate) fn settings() -> Settings {
        Settings {
            iggy_unit: "iggy.service".to_owned(),
            connectors_unit: "iggy-connectors.service".to_owned(),
            warden_unit: "warden.service".to_owned(),
            state_directory: STATE_DIRECTORY.to_owned(),
            supervisor_url: None,
            supervisor_authorities: None,
            since_seconds: 86_400,
            own_pid: 1,
            effective_uid: 0,
            capabilities: Vec::new(),
        }
    }

    pub(crate) fn stat_line(pid: u32, name: &str, state: char) -> String {
        format!("{pid} ({name}) {state} 1 7 7 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0")
    }

    /// A host on which the server runs as process `pid`.
    pub(crate) fn running(pid: u32) -> Recorded {
        Recorded::complete()
            .settings(settings())
            .file(&format!("/proc/{pid}/stat"), &stat_line(pid, "iggy-server", 'S'))
    }

    pub(crate) fn link(recorded: Recorded, path: &str, target: &str) -> Recorded {
        recorded.with(Request::Link { path: path.to_owned() }, Data::Link { target: target.to_owned() })
    }

    pub(crate) fn directory(recorded: Recorded, path: &str) -> Recorded {
        recorded.with(Request::Stat { path: path.to_owned() }, Data::Stat(stat(Kind::Directory, 4096)))
    }

    pub(crate) fn stat(kind: Kind, size: u64) -> Stat {
        let mode = if kind == Kind::Directory { 0o755 } else { 0o644 };
        Stat {
            kind,
            mode,
            uid: 997,
            gid: 997,
            size,
            allocated: size,
            modified: 1_795_257_421,
            device: 1,
            inode: 2,
        }
    }

    #[test]
    fn processes_are_found_by_unit_and_by_name_and_named_once() {
        let host = Recorded::complete()
            .settings(settings())
            .unit("iggy.service", json!({ "MainPID": 70 }))
            .unit("iggy-connectors.service", json!({ "MainPID": 0 }))
            .file("/proc/70/stat", &stat_line(70, "iggy-server", 'S'))
            .file("/proc/71/stat", &stat_line(71, "iggy-connectors", 'S'))
            .file("/proc/72/stat", &stat_line(72, "iggy-server", 'Z'))
            .file("/proc/73/stat", &stat_line(73, "iggy", 'R'))
            .file("/proc/74/stat", "torn")
            .host();
        let found: Vec<(Runtime, u32)> =
            processes(&host).iter().map(|process| (process.runtime, process.pid)).collect();
        assert_eq!(found, [(Runtime::Iggy, 70), (Runtime::Connectors, 71)]);
    }

    #[test]
    fn an_open_log_tells_the_data_directory_whatever_the_environment_says() {
        let recorded = running(70).file("/proc/70/environ", "IGGY_SYSTEM_PATH=/elsewhere\0");
        let recorded = link(recorded, "/proc/70/fd/3", "anon_inode:[eventfd]");
        let recorded = link(recorded, "/proc/70/fd/5", "/data/iggy/logs/iggy-server.log");
        let found = data_directory(&directory(recorded, "/data/iggy/streams").host()).unwrap();
        assert_eq!(
            (found.path.as_str(), found.found_by.as_str()),
            ("/data/iggy", "a file that process 70 holds open")
        );
    }

    #[test]
    fn a_data_directory_in_a_container_is_reached_through_its_process() {
        let recorded = link(running(70), "/proc/70/fd/8", "/app/local_data/metadata/journal.wal");
        let recorded = directory(recorded, "/proc/70/root/app/local_data/streams");
        assert_eq!(data_directory(&recorded.host()).unwrap().path, "/proc/70/root/app/local_data");
    }

    #[test]
    fn without_open_files_environment_then_file_then_default_tell() {
        let recorded = link(running(70), "/proc/70/cwd", "/srv/iggy");
        let found = |recorded: Recorded| {
            data_directory(&recorded.host()).map(|found| (found.path, found.found_by)).unwrap()
        };
        let default = found(recorded.clone());
        assert_eq!(default.0, "/srv/iggy/local_data");
        assert_eq!(default.1, "the default, below the working directory of process 70");

        let file = recorded.file("/srv/iggy/core/server/config.toml", "[system]\npath = \"from-file\"\n");
        assert_eq!(
            found(file.clone()),
            ("/srv/iggy/from-file".to_owned(), "/srv/iggy/core/server/config.toml".to_owned())
        );

        let environment = file.file("/proc/70/environ", "HOME=/\0IGGY_PATH=/from/environment\0");
        assert_eq!(
            found(environment),
            ("/from/environment".to_owned(), "IGGY_PATH of process 70".to_owned())
        );
    }

    #[test]
    fn a_stopped_server_is_found_by_its_unit_and_then_by_its_usual_place() {
        let stopped = Recorded::complete().settings(settings());
        assert_eq!(data_directory(&stopped.clone().host()), None);
        let usual = directory(stopped, "/var/lib/iggy/streams");
        assert_eq!(data_directory(&usual.clone().host()).unwrap().path, "/var/lib/iggy");
        let unit = json!({ "LoadState": "loaded", "MainPID": 0, "Environment": ["IGGY_SYSTEM_PATH=data"], "WorkingDirectory": "/srv/x" });
        let by_unit = directory(usual.unit("iggy.service", unit), "/srv/x/data/streams");
        let found = data_directory(&by_unit.host()).unwrap();
        assert_eq!(
            (found.path.as_str(), found.found_by.as_str()),
            ("/srv/x/data", "IGGY_SYSTEM_PATH of iggy.service")
        );
    }
}
