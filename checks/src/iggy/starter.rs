//! Who started a process that is called like a runtime: what it names is read only when that was systemd, root, the
//! user of the unit, or whoever runs Warden.

use warden_host::proc::field;
use warden_host::{Cause, Failure, Host, Settings};

use super::{Process, Runtime};
use crate::Error;

/// Directories that only container engines of root make in the control group tree. Below `user.slice` the tree belongs
/// to a user, who can give any name.
const CONTAINERS: [&str; 8] =
    ["docker", "docker-", "libpod-", "libpod_parent", "cri-containerd-", "crio-", "kubepods", "lxc.payload"];

/// Returns why nothing is read that `process` names; `None` when it is trusted.
pub fn refusal(host: &Host, process: &Process) -> Option<Failure> {
    let pid = process.pid;
    let settings = host.settings().ok()?;
    let units: Vec<_> =
        Runtime::ALL.into_iter().filter_map(|runtime| host.unit(runtime.unit(&settings)).ok()).collect();
    if units.iter().any(|unit| unit.number("MainPID") == Some(u64::from(pid))) {
        return None;
    }
    let refused =
        |why: String| Failure { what: format!("what process {pid} names"), cause: Cause::Other(why) };
    let status = match host.read(&format!("/proc/{pid}/status")) {
        Ok(status) => status,
        // It has ended, or the recording is of a time when this was not asked: what it named cannot be read anyway.
        Err(Error::Host(Failure { cause: Cause::Absent | Cause::Unrecorded, .. })) => return None,
        Err(error) => return Some(refused(format!("who started it cannot be told ({error})"))),
    };
    // The real user: a set-user-ID program runs with the effective rights of another one, in an environment that its
    // caller chose.
    let Some(user) = field(&status, "Uid").and_then(|ids| ids.split_whitespace().next()?.parse::<u32>().ok())
    else {
        return Some(refused("its user cannot be told".to_owned()));
    };
    let is_known = user == 0 || user == settings.effective_uid;
    let of_unit = || {
        units.iter().any(|unit| {
            unit.number("UID") == Some(u64::from(user))
                || unit.text("User").is_some_and(|name| is_user(host, name, user))
        })
    };
    if is_known || of_unit() || is_in_container(host, pid) {
        return None;
    }
    Some(refused(reason(user, &settings)))
}

fn reason(user: u32, settings: &Settings) -> String {
    format!(
        "it was started by user {user}, and only what systemd, root, the user of {} or whoever runs Warden started \
         is followed",
        settings.iggy_unit
    )
}

/// Whether `name` of a unit's `User=` has the number `user`.
fn is_user(host: &Host, name: &str, user: u32) -> bool {
    if let Ok(number) = name.parse::<u32>() {
        return number == user;
    }
    let users = host.read("/etc/passwd").unwrap_or_default();
    users.lines().any(|line| {
        let mut fields = line.split(':');
        fields.next() == Some(name) && fields.nth(1).and_then(|number| number.parse().ok()) == Some(user)
    })
}

/// Whether a container engine of root keeps the process: by its control group, which nobody else can put it in. What
/// it names is looked for in the container alone.
fn is_in_container(host: &Host, pid: u32) -> bool {
    let text = host.read(&format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let paths = || text.lines().filter_map(|line| line.splitn(3, ':').nth(2));
    let of_user = |part: &str| part == "user.slice" || part.starts_with("user@");
    let of_container = |part: &str| {
        CONTAINERS
            .iter()
            .any(|name| part == *name || (name.len() > 6 || name.ends_with('-')) && part.starts_with(name))
    };
    paths().flat_map(|path| path.split('/')).any(of_container)
        && !paths().flat_map(|path| path.split('/')).any(of_user)
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use warden_host::{Recorded, Request, Rights};

    use super::super::tests::{directory, running, settings};
    use super::super::{data_directory, hidden_configuration, hidden_data_directory, listeners};
    use super::*;

    const SERVER: Process = Process { runtime: Runtime::Iggy, pid: 70 };

    fn started_by(user: &str) -> Recorded {
        running(70).file("/proc/70/status", &format!("Name:\tiggy-server\nUid:\t{user}\n"))
    }

    fn is_refused(recorded: Recorded) -> bool {
        refusal(&recorded.host(), &SERVER).is_some()
    }

    /// A server whose environment names a configuration, which names a certificate.
    fn naming(user: &str) -> Host {
        let recorded = started_by(user)
            .file("/proc/70/environ", "IGGY_CONFIG_PATH=/x/a.toml\0IGGY_PATH=/d\0")
            .file("/x/a.toml", "[http.tls]\nenabled = true\ncert_file = \"/x/a.pem\"\n")
            .file("/x/a.pem", "");
        directory(recorded, "/d/streams").host()
    }

    fn is_asked(host: &Host, wanted: &Request) -> bool {
        host.asked().lock().unwrap().contains(wanted)
    }

    #[test]
    fn what_a_process_names_is_asked_for_with_its_rights_at_every_step() {
        let host = naming("0\t0\t0\t0");
        let certificate = listeners(&host).into_iter().find_map(|one| one.certificate).unwrap();
        host.read(&certificate).unwrap();
        host.stat(&format!("{}/streams", data_directory(&host).unwrap().path)).unwrap();
        let of_process = |request| Request::OnBehalf {
            rights: Rights::Process { pid: 70, started: 4567 },
            request: Box::new(request),
        };
        for request in [
            Request::File { path: "/x/a.toml".to_owned() },
            Request::File { path: "/x/a.pem".to_owned() },
            Request::Stat { path: "/d/streams".to_owned() },
        ] {
            assert!(!is_asked(&host, &request), "{request}");
            assert!(is_asked(&host, &of_process(request)));
        }
    }

    #[test]
    fn nothing_of_a_strangers_process_is_followed_and_nobody_takes_that_for_nothing() {
        let host = naming("1001\t1001\t1001\t1001");
        assert_eq!(data_directory(&host), None);
        assert!(hidden_data_directory(&host).is_some() && hidden_configuration(&host).is_some());
        assert!(listeners(&host).iter().all(|listener| listener.certificate.is_none()));
        let asked = host.asked();
        let asked = asked.lock().unwrap();
        let named = |request: &Request| {
            request.path().is_some_and(|path| path.starts_with("/x") || path.starts_with("/d"))
        };
        assert!(!asked.iter().any(named), "{asked:?}");
    }

    #[test]
    fn what_a_stranger_started_is_refused_with_the_reason() {
        let refused = refusal(&started_by("1001\t1001\t1001\t1001").host(), &SERVER).unwrap();
        assert_eq!(
            refused.to_string(),
            "what process 70 names: it was started by user 1001, and only what systemd, root, the user of \
             iggy.service or whoever runs Warden started is followed"
        );
    }

    #[test]
    fn a_program_with_the_rights_of_root_is_still_its_callers() {
        assert!(is_refused(started_by("1001\t0\t0\t0")));
        assert!(
            !is_refused(started_by("0\t997\t997\t997")),
            "one that gave its rights up was started by root"
        );
    }

    #[test]
    fn systemd_root_the_user_of_the_unit_and_whoever_asks_are_trusted() {
        assert!(!is_refused(started_by("0\t0\t0\t0")));
        assert!(!is_refused(running(70)), "a recording that does not tell");
        let main = started_by("1001\t1001\t1001\t1001").unit("iggy.service", json!({ "MainPID": 70 }));
        assert!(!is_refused(main));
        let by_number =
            started_by("997\t997\t997\t997").unit("iggy.service", json!({ "MainPID": 9, "UID": 997 }));
        assert!(!is_refused(by_number));
        let by_name = started_by("997\t997\t997\t997")
            .unit("iggy.service", json!({ "MainPID": 0, "User": "iggy" }))
            .file("/etc/passwd", "iggy2:x:996:996::/:/bin/sh\niggy:x:997:997::/:/bin/sh\n");
        assert!(!is_refused(by_name.clone()));
        assert!(is_refused(by_name.file("/etc/passwd", "iggy:x:996:997::/:/bin/sh\n")));
        let asking = Settings { effective_uid: 1001, ..settings() };
        assert!(!is_refused(started_by("1001\t1001\t1001\t1001").settings(asking)));
    }

    #[test]
    fn containers_of_root_are_trusted_and_those_that_a_user_can_make_are_not() {
        let of = |cgroup: &str| {
            is_refused(
                started_by("1001\t1001\t1001\t1001").file("/proc/70/cgroup", &format!("0::{cgroup}\n")),
            )
        };
        assert!(!of("/system.slice/docker-3f9a.scope"));
        assert!(!of("/docker/3f9a"));
        assert!(!of("/kubepods.slice/kubepods-burstable.slice/cri-containerd-1.scope"));
        assert!(of("/user.slice/user-1001.slice/user@1001.service/docker-3f9a.scope"));
        assert!(of("/system.slice/cron.service"));
        assert!(of("/system.slice/dockerish.service") && of("/"));
    }
}
