//! What started a runtime and keeps it running, by the control group that its process is in: a unit of the system,
//! a unit of a user, a container, or nobody.

use warden_host::Host;

use super::{Runtime, processes, starter};
use crate::{Advice, Result, units};

/// The unit of `runtime`, whether it runs or not: the configured one, or else the one that is loaded under a name of
/// its kind (`iggy-server.service`).
pub fn unit_of(host: &Host, runtime: Runtime) -> Result<String> {
    let configured = runtime.unit(&host.settings()?).to_owned();
    if host.unit(&configured).is_ok_and(|unit| unit.is_loaded()) {
        return Ok(configured);
    }
    let is_its = |name: &str| {
        let stem = name.trim_start_matches("apache-").strip_suffix(".service");
        let stem = stem.map(|stem| stem.split('@').next().unwrap_or(stem));
        match runtime {
            Runtime::Iggy => matches!(stem, Some("iggy" | "iggy-server" | "iggy-broker" | "iggy_server")),
            Runtime::Connectors => stem.is_some_and(|stem| stem.starts_with("iggy-connect")),
        }
    };
    let mut rows = host.units().unwrap_or_default().into_iter();
    let other = rows.find(|row| row.load == "loaded" && is_its(&row.name)).map(|row| row.name);
    Ok(other.unwrap_or(configured))
}

/// Who looks after a process. Commands fit each of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Service {
    Unit(String),
    /// A unit of the service manager of the user with this id.
    UserUnit {
        user: u32,
        unit: String,
    },
    Container {
        engine: Engine,
        id: String,
    },
    /// A login session, or no group at all: it was started by hand.
    Nobody {
        pid: u32,
    },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Engine {
    Docker,
    Podman,
    /// Through the container runtime interface: Kubernetes.
    Cri,
}

impl Service {
    /// Of the first process of `runtime`; its unit, when none runs or its group cannot be read.
    pub fn of(host: &Host, runtime: Runtime) -> Service {
        let usual = || format!("{}.service", runtime.program().trim_end_matches("-server"));
        let stopped = || Service::Unit(unit_of(host, runtime).unwrap_or_else(|_| usual()));
        Service::all(host, runtime).into_iter().next().unwrap_or_else(stopped)
    }

    /// Of every process of `runtime` that is not a stranger's and whose group can be read.
    pub fn all(host: &Host, runtime: Runtime) -> Vec<Service> {
        let trusted = processes(host)
            .into_iter()
            .filter(|process| process.runtime == runtime && starter::refusal(host, process).is_none());
        trusted.filter_map(|process| Service::of_process(host, process.pid)).collect()
    }

    /// `None` when the group of the process cannot be read.
    pub fn of_process(host: &Host, pid: u32) -> Option<Service> {
        let text = host.read(&format!("/proc/{pid}/cgroup")).ok()?;
        Some(parse(&text).unwrap_or(Service::Nobody { pid }))
    }

    /// The name by which the host is asked for its entries in the journal; a container's output is not among them.
    pub fn journal(&self) -> Option<String> {
        match self {
            Service::Unit(unit) => Some(unit.clone()),
            Service::UserUnit { user, unit } => Some(format!("user@{user}.service/{unit}")),
            Service::Container { .. } | Service::Nobody { .. } => None,
        }
    }

    pub fn name(&self) -> String {
        match self {
            Service::Unit(unit) => unit.clone(),
            Service::UserUnit { user, unit } => format!("{unit} of user {user}"),
            Service::Container { id, .. } => format!("container {id}"),
            Service::Nobody { pid } => format!("process {pid}, which no unit started"),
        }
    }

    /// A command that shows the newest lines it wrote.
    pub fn show_log(&self) -> String {
        match self {
            Service::Unit(unit) => format!("journalctl -u {} -n 200 --no-pager", word(unit)),
            Service::UserUnit { user, unit } => {
                format!("journalctl _SYSTEMD_USER_UNIT={} _UID={user} -n 200 --no-pager", word(unit))
            }
            Service::Container { engine: Engine::Docker, id } => format!("docker logs --tail 200 {id}"),
            Service::Container { engine: Engine::Podman, id } => format!("podman logs --tail 200 {id}"),
            Service::Container { engine: Engine::Cri, id } => format!("crictl logs --tail 200 {id}"),
            Service::Nobody { pid } => format!("ls -l /proc/{pid}/fd/1 /proc/{pid}/fd/2"),
        }
    }

    pub fn restart(&self) -> String {
        self.verb("restart")
    }

    pub fn stop(&self) -> String {
        self.verb("stop")
    }

    fn verb(&self, verb: &str) -> String {
        match self {
            Service::Unit(unit) => format!("systemctl {verb} {}", word(unit)),
            Service::UserUnit { user, unit } => {
                format!("systemctl --user -M {user}@.host {verb} {}", word(unit))
            }
            Service::Container { engine: Engine::Docker, id } => format!("docker {verb} {id}"),
            Service::Container { engine: Engine::Podman, id } => format!("podman {verb} {id}"),
            // The pod's controller starts a stopped container again.
            Service::Container { engine: Engine::Cri, id } => format!("crictl stop {id}"),
            Service::Nobody { pid } => format!("kill -TERM {pid}"),
        }
    }

    /// How to set a limit of it for good.
    pub fn set(&self, host: &Host, setting: &str) -> Advice {
        match self {
            Service::Unit(unit) => units::drop_in(host, unit, setting),
            Service::UserUnit { user, unit } => Advice::text(format!(
                "As user {user}: `systemctl --user edit --drop-in=zz-warden {unit}` and set {setting}; it holds from the next start, and not beyond the limits of user@{user}.service."
            )),
            Service::Container { .. } => {
                let text = "Set it where the container is defined (docker run --ulimit nofile=65536 --ulimit memlock=-1; the pod's node for Kubernetes).";
                Advice::text(text)
            }
            Service::Nobody { pid } => {
                let text = "Raise it where the process is started, which is not a unit; --nofile=, --memlock= until then.";
                Advice::run(text, format!("prlimit --pid {pid}"))
            }
        }
    }
}

/// A unit's name as one word of a shell; an escaped one has a backslash in it.
fn word(unit: &str) -> String {
    if unit.contains('\\') { crate::quoted(unit) } else { unit.to_owned() }
}

/// cgroups(7): `0::/system.slice/iggy.service`; in the first hierarchy systemd's own line tells. `None` for a group
/// that no unit of ours made.
fn parse(text: &str) -> Option<Service> {
    let lines = || text.lines().filter_map(|line| line.split_once(':')?.1.split_once(':'));
    let systemd = lines().find(|(controllers, path)| *controllers == "name=systemd" && *path != "/");
    let unified = || lines().find(|(controllers, path)| controllers.is_empty() && *path != "/");
    let (_, path) = systemd.or_else(unified).or_else(|| lines().find(|(_, path)| *path != "/"))?;
    let parts: Vec<&str> = path.split('/').filter(|part| !part.is_empty()).collect();
    if let Some(container) = parts.iter().rev().find_map(|part| container(part)) {
        return Some(container);
    }
    // Docker and Kubernetes with cgroupfs: /docker/ID, /kubepods/.../ID.
    if let Some(id) = parts.last().filter(|part| is_container_id(part)) {
        let cri = parts.iter().any(|part| part.starts_with("kubepods"));
        let engine = match parts.first() {
            _ if cri => Engine::Cri,
            Some(&"libpod_parent") => Engine::Podman,
            _ => Engine::Docker,
        };
        return Some(Service::Container { engine, id: short(id) });
    }
    let manager = parts.iter().position(|part| part.starts_with("user@") && part.ends_with(".service"));
    let is_unit = |part: &&&str| part.ends_with(".service") && is_unit_name(part);
    match manager {
        Some(at) => {
            let user = parts[at].strip_prefix("user@")?.strip_suffix(".service")?.parse().ok()?;
            let unit = parts[at + 1..].iter().find(is_unit)?;
            Some(Service::UserUnit { user, unit: (*unit).to_owned() })
        }
        None => parts.iter().find(is_unit).map(|unit| Service::Unit((*unit).to_owned())),
    }
}

/// The scope that a container engine makes: `docker-ID.scope`.
fn container(part: &str) -> Option<Service> {
    const SCOPES: [(&str, Engine); 5] = [
        ("docker-", Engine::Docker),
        ("libpod-", Engine::Podman),
        ("cri-containerd-", Engine::Cri),
        ("crio-", Engine::Cri),
        ("containerd-", Engine::Cri),
    ];
    let name = part.strip_suffix(".scope")?;
    let (id, engine) =
        SCOPES.iter().find_map(|(start, engine)| Some((name.strip_prefix(start)?, *engine)))?;
    is_container_id(id).then(|| Service::Container { engine, id: short(id) })
}

/// systemd.unit(5). Whoever may make groups below their own may give them any name, and this one ends in commands.
fn is_unit_name(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b":_.@-\\".contains(&byte))
        && !text.starts_with('-')
}

fn is_container_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Engines take the first twelve digits, and show no more.
fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Recorded, Request, UnitRow};

    use super::super::tests::{running, settings};
    use super::*;

    const ID: &str = "3f4e8a1b2c5d6e7f8091a2b3c4d5e6f708192a3b4c5d6e7f8091a2b3c4d5e6f7";

    fn of(cgroup: &str) -> Service {
        Service::of(&running(70).file("/proc/70/cgroup", cgroup).host(), Runtime::Iggy)
    }

    #[test]
    fn the_unit_is_that_of_the_process_whatever_its_name() {
        let unit = |name: &str| Service::Unit(name.to_owned());
        assert_eq!(of("0::/system.slice/iggy-server.service\n"), unit("iggy-server.service"));
        let hybrid = "12:pids:/system.slice/x.service\n1:name=systemd:/system.slice/broker.service\n0::/\n";
        assert_eq!(of(hybrid), unit("broker.service"));
        assert_eq!(of("0::/system.slice/system-iggy.slice/iggy@a.service/worker\n"), unit("iggy@a.service"));
        let service = of("0::/system.slice/iggy-server.service\n");
        assert_eq!(service.show_log(), "journalctl -u iggy-server.service -n 200 --no-pager");
        assert_eq!(service.restart(), "systemctl restart iggy-server.service");
    }

    #[test]
    fn a_unit_of_a_user_a_container_and_a_shell_are_told_apart() {
        let user = of("0::/user.slice/user-1000.slice/user@1000.service/app.slice/iggy.service\n");
        assert_eq!(user.journal().as_deref(), Some("user@1000.service/iggy.service"));
        assert_eq!(user.restart(), "systemctl --user -M 1000@.host restart iggy.service");
        for (group, restart) in [
            (format!("0::/system.slice/docker-{ID}.scope\n"), "docker restart 3f4e8a1b2c5d"),
            (format!("4:memory:/docker/{ID}\n"), "docker restart 3f4e8a1b2c5d"),
            (format!("0::/machine.slice/libpod-{ID}.scope/container\n"), "podman restart 3f4e8a1b2c5d"),
            (
                format!("0::/kubepods.slice/kubepods-pod1.slice/cri-containerd-{ID}.scope\n"),
                "crictl stop 3f4e8a1b2c5d",
            ),
        ] {
            let service = of(&group);
            assert_eq!((service.restart().as_str(), service.journal()), (restart, None), "{group}");
        }
        for group in [
            "0::/x/$(reboot).service\n",
            "0::/user.slice/user-0.slice/session-3.scope\n",
            "0::/\n",
            "0::/init.scope\n",
        ] {
            assert_eq!(of(group), Service::Nobody { pid: 70 }, "{group}");
        }
    }

    #[test]
    fn the_unit_of_a_stopped_runtime_is_found_under_another_name() {
        let row = |name: &str| UnitRow {
            name: name.to_owned(),
            description: String::new(),
            load: "loaded".to_owned(),
            active: "failed".to_owned(),
            sub: "failed".to_owned(),
        };
        let units =
            ["iggy-exporter.service", "iggy-connectors@a.service", "iggy-server.service"].map(row).to_vec();
        let host = Recorded::complete().settings(settings()).with(Request::UnitList, Data::Units { units });
        let names = |host: Recorded| {
            let host = host.host();
            Runtime::ALL.map(|runtime| unit_of(&host, runtime).unwrap())
        };
        assert_eq!(names(host.clone()), ["iggy-server.service", "iggy-connectors@a.service"]);
        let configured = host.unit("iggy.service", serde_json::json!({"LoadState": "loaded"}));
        assert_eq!(names(configured)[0], "iggy.service");
    }

    #[test]
    fn without_a_process_or_a_group_the_configured_unit_is_meant() {
        assert_eq!(Service::of(&running(70).host(), Runtime::Iggy), Service::Unit("iggy.service".to_owned()));
        let denied = running(70).denied("/proc/70/cgroup").host();
        assert_eq!(Service::of(&denied, Runtime::Iggy), Service::Unit("iggy.service".to_owned()));
    }
}
