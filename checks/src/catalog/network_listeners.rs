//! network-listeners: who listens where, and does Iggy have the ports it is configured with.

use std::collections::BTreeMap;
use std::net::IpAddr;

use warden_host::{Host, IfAny};

use crate::iggy::{self, Configuration, Listener, Process, Runtime, Service};
use crate::socket_owners::{DESCRIPTOR, DESCRIPTORS, Held, STATUS, holder};
use crate::sockets::Socket;
use crate::{Advice, Area, Check, DEADLINE, Evidence, Finding, Read, Result, Table, Value, quantity};

pub const CHECK: Check = Check {
    id: "network-listeners",
    area: Area::Network,
    title: "Who listens where?",
    why: "Iggy ends at its start when one of its ports is taken, and the HTTP port 3000 is one that others like too. \
          An administrative port that listens on every address is open to whoever reaches the host.",
    reads: &[
        Read::Path("/proc/net/*"),
        Read::Path("/proc/[pid]/net/*"),
        Read::Path("/proc/[pid]/ns/net"),
        Read::Path("/proc/self/ns/net"),
        Read::Path(DESCRIPTORS),
        Read::Path(DESCRIPTOR),
        Read::Path(STATUS),
        Read::Group(iggy::READS),
    ],
    thresholds: &[
        "fails when a configured port of a running Iggy has no listener, or any configured port is held by another process",
        "warns when 64 or more connections wait to be accepted",
        "notes an HTTP port of Iggy or its connectors that listens on every address",
    ],
    advice: "Compare `ss -tulpn` with the addresses in Iggy's configuration.",
    deadline: DEADLINE,
    run,
};

/// Iggy accepts at once; this many in a row means that nobody accepts any more.
const WAITING: u64 = 64;

fn run(host: &Host) -> Result<Finding> {
    let processes = iggy::processes(host);
    let mut finding = Finding::new("");
    let mut view = View::of(host, &processes, &mut finding)?;
    let (mut judged, mut working, mut unknown) = (0u64, 0u64, 0u64);
    for runtime in Runtime::ALL {
        let Some(configuration) = iggy::configuration(host, runtime) else { continue };
        for listener in configuration.listeners() {
            match judge(host, &mut finding, &mut view, &configuration, &listener) {
                Some(works) => {
                    judged += 1;
                    working += u64::from(works);
                }
                None => unknown += 1,
            }
        }
    }
    for (key, listener) in view.purposes.clone() {
        let Some(socket) = view.sockets.get(key) else { continue };
        judge_exposure(&mut finding, socket, &listener);
        if !socket.udp && socket.waiting >= WAITING {
            let text = format!("{} connections wait at {} to be accepted", socket.waiting, shown(socket));
            let advice = "The shard that accepts is stuck: take its stacks, then restart Iggy.";
            finding.warn(
                text,
                Advice::run(advice, format!("ss -ltn; {}", Service::of(host, listener.runtime).show_log())),
            );
        }
    }

    let count = quantity::count(view.sockets.len() as u64, "listener", "listeners");
    let ports = quantity::count(unknown, "configured port", "configured ports");
    finding.summary = match (judged, unknown) {
        (0, 0) => format!("{count}; no Iggy is configured on this host"),
        (0, _) => format!("{count}; whether Iggy has its {ports} is not known"),
        (_, 0) => format!("{count}; Iggy has {working} of its {judged} configured ports"),
        _ => format!("{count}; Iggy has {working} of {judged} configured ports; of {ports} it is not known"),
    };
    finding.show(Evidence::Table(view.table()));
    Ok(finding)
}

/// Every listener of the host and of the runtimes, and who holds it.
struct View {
    sockets: Vec<Socket>,
    /// By socket: the runtime's process, or who else was found to hold it.
    owners: BTreeMap<usize, String>,
    /// By socket: what Iggy has it for.
    purposes: BTreeMap<usize, Listener>,
    /// Sockets of a runtime in a network namespace of its own (a container), by their process.
    apart: BTreeMap<u32, std::ops::Range<usize>>,
    /// What the runtimes hold is fully known.
    certain: bool,
}

impl View {
    fn of(host: &Host, processes: &[Process], finding: &mut Finding) -> Result<View> {
        let mut sockets = listeners_below(host, "/proc")?;
        let (mut owners, mut apart) = (BTreeMap::new(), BTreeMap::new());
        // A process that is not seen may hold its port.
        let mut certain = iggy::processes_are_known(host);
        let own = host.link("/proc/self/ns/net").if_any();
        for process in processes {
            let theirs = host.link(&format!("/proc/{}/ns/net", process.pid)).if_any();
            if let (Ok(Some(own)), Ok(Some(theirs))) = (&own, &theirs)
                && own != theirs
                && let Ok(inside) = listeners_below(host, &format!("/proc/{}", process.pid))
            {
                apart.insert(process.pid, sockets.len()..sockets.len() + inside.len());
                sockets.extend(inside);
            }
            match Held::by(host, process.pid) {
                Ok(held) => {
                    certain &= held.complete;
                    let mine =
                        sockets.iter().enumerate().filter(|(_, socket)| held.inodes.contains(&socket.inode));
                    owners.extend(
                        mine.map(|(at, _)| (at, format!("{} ({})", process.runtime.program(), process.pid))),
                    );
                }
                Err(error) => {
                    certain = false;
                    let text = format!("which ports process {} holds is not known: {error}", process.pid);
                    finding.note(
                        text,
                        Advice::text("Run Warden as root or give it CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH."),
                    );
                }
            }
        }
        Ok(View { sockets, owners, purposes: BTreeMap::new(), apart, certain })
    }

    /// Sockets that take the place of `listener`, seen from where its runtime runs.
    fn at(&self, listener: &Listener, pid: Option<u32>) -> Vec<usize> {
        let inside = pid.and_then(|pid| self.apart.get(&pid).cloned());
        let outside = || 0..self.apart.values().map(|range| range.start).min().unwrap_or(self.sockets.len());
        let matches = |&at: &usize| takes(&self.sockets[at], listener);
        inside.unwrap_or_else(outside).filter(matches).collect()
    }

    fn table(&self) -> Table {
        let mut table = Table::new(
            "Listeners",
            ["protocol", "address", "port", "process", "user id", "of Iggy", "waiting"],
        );
        for (at, socket) in self.sockets.iter().enumerate() {
            table.row([
                if socket.udp { "udp" } else { "tcp" }.into(),
                Value::Code(socket.address.to_string()),
                Value::Count(socket.port.into()),
                self.owners.get(&at).cloned().into(),
                Value::Count(socket.uid.into()),
                self.purposes.get(&at).map(|listener| listener.name).into(),
                socket.waiting.into(),
            ]);
        }
        table
    }
}

fn listeners_below(host: &Host, root: &str) -> Result<Vec<Socket>> {
    let sockets = Socket::tcp(host, root)?.into_iter().chain(Socket::udp(host, root)?);
    Ok(sockets.filter(Socket::is_listener).collect())
}

/// Whether a bind to the listener's address meets this socket. A host name is not looked up: its port decides.
fn takes(socket: &Socket, listener: &Listener) -> bool {
    let wanted = listener.host.parse::<IpAddr>().ok().map(|address| address.to_canonical());
    if listener.host == "localhost" {
        let reachable = socket.address.is_loopback() || socket.address.is_unspecified();
        return reachable && socket.udp == listener.udp && socket.port == listener.port;
    }
    let meets = wanted.is_none_or(|wanted| {
        wanted == socket.address || wanted.is_unspecified() || socket.address.is_unspecified()
    });
    socket.udp == listener.udp && socket.port == listener.port && meets
}

/// Whether the runtime has its port; `None` when nothing tells.
fn judge(
    host: &Host,
    finding: &mut Finding,
    view: &mut View,
    configuration: &Configuration,
    listener: &Listener,
) -> Option<bool> {
    let pid = configuration.launch.as_ref().and_then(|launch| launch.pid);
    let program = configuration.runtime.program();
    let protocol = if listener.udp { "UDP" } else { "TCP" };
    let port = format!("{protocol} port {}, {program}'s {}", listener.port, listener.name);
    let there = view.at(listener, pid);
    let owned = there.iter().find(|at| view.owners.get(*at).is_some_and(|owner| owner.starts_with(program)));
    if let Some(&at) = owned {
        view.purposes.insert(at, listener.clone());
        return Some(true);
    }
    let Some(&at) = there.first() else {
        return match pid {
            Some(_) => missing(host, finding, configuration, listener, &port).then_some(false),
            None => Some(false),
        };
    };
    if !view.certain {
        // Something listens, and a note already says that its owner is not known.
        view.purposes.insert(at, listener.clone());
        return None;
    }
    let socket = &view.sockets[at];
    let holder = holder(host, socket.inode, socket.uid);
    let by = holder.clone().unwrap_or_else(|| format!("a process of user {}", socket.uid));
    view.owners.insert(at, by.clone());
    let effect = if pid.is_some() { "and not by Iggy" } else { "so it cannot start" };
    let command = format!("ss -lnp{} 'sport = :{}'", if listener.udp { "u" } else { "t" }, listener.port);
    let advice = Advice::run("Stop the other process, or give one of the two another port.", command);
    finding.fail(format!("{port}, is held by {by}, {effect}"), advice);
    Some(false)
}

/// Says that a port has no listener; `false` when its configuration is a guess.
fn missing(
    host: &Host,
    finding: &mut Finding,
    configuration: &Configuration,
    listener: &Listener,
    port: &str,
) -> bool {
    let show_log = Service::of(host, configuration.runtime).show_log();
    let advice = Advice::run("Look in its log for the bind that failed.", show_log);
    if configuration.hidden(host).is_none() {
        finding.fail(
            format!("nothing listens on {port}, although it runs and is configured to, at {}", listener.host),
            advice,
        );
        true
    } else {
        let text = format!("nothing listens on {port}, its default; its configuration could not be read");
        let advice = Advice::text("Run as root, or give Warden CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH.");
        finding.note(text, advice);
        false
    }
}

fn judge_exposure(finding: &mut Finding, socket: &Socket, listener: &Listener) {
    if listener.name == "http" && socket.address.is_unspecified() {
        let program = listener.runtime.program();
        let text = format!("the HTTP port {} of {program} listens on every address", socket.port);
        let advice =
            "Bind it to the loopback or an inner address, or let a firewall choose who may reach it.";
        finding.note(text, Advice::text(advice));
    }
}

fn shown(socket: &Socket) -> String {
    std::net::SocketAddr::new(socket.address, socket.port).to_string()
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;
    use crate::Verdict;
    use crate::iggy::tests::{link, running, settings, stat_line};

    /// Iggy with only its TCP and HTTP listeners, as process 70.
    const CONFIGURATION: &str = "[tcp]\nenabled = true\naddress = \"127.0.0.1:8090\"\n[http]\nenabled = true\naddress = \"0.0.0.0:3000\"\n\
                                 [quic]\nenabled = false\n[websocket]\nenabled = false\n";

    fn row(address: &str, port: u16, inode: u64, waiting: u32) -> String {
        format!(
            "   0: {address}:{port:04X} 00000000:0000 0A 00000000:{waiting:08X} 00:00000000 00000000   997        0 {inode} 1\n"
        )
    }

    const LOOPBACK: &str = "0100007F";
    const EVERY: &str = "00000000";

    fn configured(recorded: Recorded) -> Recorded {
        let recorded = recorded
            .file("/d/runtime/current_config.toml", CONFIGURATION)
            .file("/proc/net/udp", "  sl  local_address\n");
        link(recorded, "/proc/70/fd/3", "/d/logs/iggy-server.log")
    }

    fn server(table: &str) -> Recorded {
        let recorded = configured(running(70)).file("/proc/net/tcp", table);
        link(link(recorded, "/proc/70/fd/9", "socket:[1]"), "/proc/70/fd/10", "socket:[2]")
    }

    fn examined(recorded: Recorded) -> (Verdict, Vec<String>) {
        let finding = run(&recorded.host()).unwrap();
        (finding.verdict(), finding.problems.into_iter().map(|problem| problem.text).collect())
    }

    #[test]
    fn iggy_on_all_its_ports_passes() {
        let table = row(LOOPBACK, 8090, 1, 0) + &row("020200C0", 3000, 2, 0) + &row(EVERY, 22, 5, 0);
        let finding = run(&server(&table).host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "3 listeners; Iggy has 2 of its 2 configured ports")
        );
        let Evidence::Table(table) = &finding.evidence[0] else { panic!("a table") };
        let cells: Vec<String> = table.rows[0].cells.iter().map(Value::to_string).collect();
        assert_eq!(cells, ["tcp", "127.0.0.1", "8090", "iggy-server (70)", "997", "tcp", "0"]);
    }

    #[test]
    fn a_configured_port_without_a_listener_fails() {
        let text = "nothing listens on TCP port 8090, iggy-server's tcp, although it runs and is configured to, at 127.0.0.1";
        let found = examined(server(&row("020200C0", 3000, 2, 0)));
        assert_eq!(found, (Verdict::Fail, vec![text.to_owned()]));
    }

    #[test]
    fn a_port_that_another_process_holds_fails_and_the_process_is_named() {
        let table = row(LOOPBACK, 8090, 1, 0) + &row(EVERY, 3000, 77, 0);
        let recorded = server(&table).file("/proc/9/status", "Name:\tgrafana\nUid:\t997\t997\t997\t997\n");
        let found = examined(link(recorded, "/proc/9/fd/4", "socket:[77]"));
        let text = "TCP port 3000, iggy-server's http, is held by grafana (9), and not by Iggy";
        assert_eq!(found, (Verdict::Fail, vec![text.to_owned()]));
    }

    #[test]
    fn a_port_of_a_stopped_iggy_that_is_taken_fails_and_free_ones_pass() {
        let stopped = || {
            let unit = serde_json::json!({ "LoadState": "loaded", "MainPID": 0, "WorkingDirectory": "/d", "Environment": ["IGGY_QUIC_ENABLED=false"] });
            Recorded::complete()
                .settings(settings())
                .unit("iggy.service", unit)
                .file("/proc/1/stat", &stat_line(1, "systemd", 'S'))
                .file("/proc/net/udp", "  sl  local_address\n")
        };
        let taken = examined(stopped().file("/proc/net/tcp", &row(LOOPBACK, 3000, 77, 0)));
        let text = "TCP port 3000, iggy-server's http, is held by a process of user 997, so it cannot start";
        assert_eq!(taken, (Verdict::Fail, vec![text.to_owned()]));
        assert_eq!(examined(stopped().file("/proc/net/tcp", "  sl  local_address\n")).0, Verdict::Pass);
    }

    #[test]
    fn an_open_http_port_is_noted_and_a_stuck_queue_warns() {
        let open = examined(server(&(row(LOOPBACK, 8090, 1, 63) + &row(EVERY, 3000, 2, 0))));
        let text = "the HTTP port 3000 of iggy-server listens on every address";
        assert_eq!(open, (Verdict::Note, vec![text.to_owned()]));
        let stuck = examined(server(&(row(LOOPBACK, 8090, 1, 64) + &row(LOOPBACK, 3000, 2, 0))));
        assert_eq!(
            stuck,
            (Verdict::Warn, vec!["64 connections wait at 127.0.0.1:8090 to be accepted".to_owned()])
        );
    }

    #[test]
    fn a_server_in_a_container_is_seen_in_its_own_network() {
        let recorded = server("  sl  local_address\n")
            .file("/proc/70/net/tcp", &(row(LOOPBACK, 8090, 1, 0) + &row(LOOPBACK, 3000, 2, 0)));
        let recorded = recorded.file("/proc/70/net/udp", "  sl  local_address\n");
        let recorded = link(link(recorded, "/proc/self/ns/net", "net:[1]"), "/proc/70/ns/net", "net:[2]");
        assert_eq!(examined(recorded), (Verdict::Pass, vec![]));
    }

    #[test]
    fn descriptors_that_may_not_be_seen_are_said() {
        let recorded = running(70)
            .file("/proc/net/udp", "  sl  local_address\n")
            .file("/proc/net/tcp", &row(LOOPBACK, 8090, 1, 0));
        let (verdict, texts) = examined(recorded.file(
            "/proc/70/environ",
            "IGGY_HTTP_ENABLED=false\0IGGY_QUIC_ENABLED=false\0IGGY_WEBSOCKET_ENABLED=false\0",
        ));
        assert_eq!(texts, ["which ports process 70 holds is not known: list /proc/70/fd: does not exist"]);
        assert_eq!(verdict, Verdict::Note);
        let hidden = "IGGY_HTTP_ENABLED=false\0IGGY_QUIC_ENABLED=false\0IGGY_WEBSOCKET_ENABLED=false\0";
        let recorded =
            running(70).file("/proc/70/environ", hidden).file("/proc/net/udp", "  sl  local_address\n");
        let finding = run(&recorded.file("/proc/net/tcp", &row(LOOPBACK, 8090, 1, 0)).host()).unwrap();
        assert_eq!(finding.summary, "1 listener; whether Iggy has its 1 configured port is not known");
    }

    #[test]
    fn a_name_of_the_loopback_is_taken_by_who_listens_there() {
        let listener = |host: &str| Listener {
            runtime: Runtime::Iggy,
            name: "tcp",
            host: host.to_owned(),
            port: 8090,
            udp: false,
            tls: false,
            certificate: None,
            key: None,
        };
        let at = |address: &str| {
            Socket::tcp(
                &Recorded::complete().file("/proc/net/tcp", &row(address, 8090, 1, 0)).host(),
                "/proc",
            )
            .unwrap()
            .remove(0)
        };
        assert!(takes(&at(LOOPBACK), &listener("localhost")) && takes(&at(EVERY), &listener("localhost")));
        assert!(
            !takes(&at("020200C0"), &listener("localhost")) && takes(&at("020200C0"), &listener("iggy.test"))
        );
    }

    #[test]
    fn a_host_without_iggy_only_lists_and_a_denied_table_is_an_error() {
        let finding = run(&Recorded::complete()
            .file("/proc/net/tcp", "  sl  local_address\n")
            .file("/proc/net/udp", "  sl  local_address\n")
            .host())
        .unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "0 listeners; no Iggy is configured on this host")
        );
        assert!(run(&Recorded::complete().denied("/proc/net/tcp").host()).is_err());
    }
}
