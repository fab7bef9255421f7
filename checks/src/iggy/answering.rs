//! Whether a runtime that has just been started does its work, by its own words: the answer of its API, and whether
//! somebody listens at the other addresses that it is configured with.

use std::net::SocketAddr;

use warden_host::proc::ProcessStat;
use warden_host::{Cause, Failure, Host};

use super::{Configuration, Listener, Runtime, configuration};
use crate::Result;
use crate::sockets::Socket;

/// What came of asking a runtime; each with a sentence that says it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answering {
    Answers(String),
    Silent(String),
    /// Nothing can be asked, or where is not known. It says nothing about the runtime.
    NotAsked(String),
}

/// Asks `runtime` on this host. `api`: where Iggy's HTTP API is, whatever its configuration says.
pub fn ask(host: &Host, runtime: Runtime, api: Option<SocketAddr>) -> Answering {
    let not_asked = |why: String| Answering::NotAsked(format!("{} was not asked: {why}", runtime.program()));
    let Some(known) = configuration(host, runtime) else {
        return not_asked("nothing on this host tells how it is configured".to_owned());
    };
    let Some(pid) = known.launch.as_ref().and_then(|launch| launch.pid) else {
        return Answering::Silent(format!("{} has no process", runtime.program()));
    };
    if let Some(error) = known.hidden(host) {
        return not_asked(format!("how it is configured cannot be read: {error}"));
    }
    if api.is_none()
        && let Some(why) = unconfigured(host, &known, pid)
    {
        return not_asked(why);
    }
    let network = |whose: &str| host.link(&format!("/proc/{whose}/ns/net")).ok();
    if let (Some(own), Some(its)) = (network("self"), network(&pid.to_string()))
        && own != its
    {
        return not_asked(format!("process {pid} has a network of its own"));
    }
    let listeners = known.listeners();
    let configured = listeners.iter().find(|listener| listener.name == "http");
    let base = match (api, configured) {
        (Some(address), _) => format!("http://{address}"),
        (None, Some(listener)) => base(listener),
        (None, None) => return not_asked("its HTTP API is switched off in its configuration".to_owned()),
    };
    let said = match self::api(host, runtime, &base) {
        Ok(said) => said,
        Err(error) if error.was_not_tried() => return not_asked(error.to_string()),
        Err(error) => return Answering::Silent(error.to_string()),
    };
    for listener in listeners.iter().filter(|listener| listener.name != "http") {
        match listens(host, "/proc", listener) {
            Ok(true) => {}
            Ok(false) => {
                let (name, address) = (listener.name, listener.address());
                return Answering::Silent(format!(
                    "{said}, and nobody listens at {address}, which it has for {name}"
                ));
            }
            // The API has answered; what the kernel would say of the rest could not be read.
            Err(_) => break,
        }
    }
    Answering::Answers(said)
}

/// Why nobody knows where it listens: what runs is no program of this runtime, as with `docker run`, and nothing that
/// configures one was found.
fn unconfigured(host: &Host, known: &Configuration, pid: u32) -> Option<String> {
    let of_program = |name: &str| Runtime::of_command(name) == Some(known.runtime);
    let text = host.read(&format!("/proc/{pid}/stat")).unwrap_or_default();
    let name = ProcessStat::parse(&text).map(|stat| stat.name).unwrap_or_default();
    let mut written = [&known.current, &known.file].into_iter().flatten();
    let is_written = written.any(|file| file.content.is_ok());
    let in_environment =
        || known.environment().is_some_and(|all| all.keys().any(|name| name.starts_with("IGGY_")));
    let is_known = of_program(&name) || is_written || in_environment();
    (!is_known).then(|| {
        format!("process {pid} of the unit is `{name}`, and nothing tells where what it starts would listen")
    })
}

/// `https://127.0.0.1:3000`
pub fn base(listener: &Listener) -> String {
    format!("{}://{}", if listener.tls { "https" } else { "http" }, listener.address())
}

/// What the API says; an error where it does not answer, or answers as no runtime does.
fn api(host: &Host, runtime: Runtime, base: &str) -> Result<String> {
    let (path, expected) = match runtime {
        Runtime::Iggy => ("/ping", Some("pong")),
        Runtime::Connectors => ("/health", None),
    };
    let url = format!("{base}{path}");
    let answer = host.http(&url)?;
    let said = match expected {
        Some(word) if answer.status == 200 && answer.body.trim() == word => word.to_owned(),
        // A runtime that asks for its key does its work.
        None if matches!(answer.status, 200 | 401 | 403) => format!("status {}", answer.status),
        _ => {
            let cause = Cause::Other(format!("it answered with status {}", answer.status));
            return Err(Failure { what: url, cause }.into());
        }
    };
    Ok(format!("{url} says {said}"))
}

/// Whether somebody listens there, by the kernel's list for the network whose files are below `root`. A connect would
/// tell no more, since the kernel accepts it, and the server logs each one: as a warning, when a WebSocket or TLS client
/// was expected and nothing was said.
pub fn listens(host: &Host, root: &str, listener: &Listener) -> Result<bool> {
    let sockets = if listener.udp { Socket::udp(host, root)? } else { Socket::tcp(host, root)? };
    Ok(sockets.iter().any(|socket| socket.is_listener() && socket.port == listener.port))
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, HttpAnswer, Recorded, Request};

    use super::super::tests::{directory, link, running, settings, stat_line};
    use super::*;

    const PING: &str = "http://127.0.0.1:3000/ping";
    /// 8090 and 8092.
    const TCP: &str = "  sl\n 0: 0100007F:1F9A 0:0 0A 0:0 00:0 0 997 0 1465 1\n 1: 0100007F:1F9C 0:0 0A 0:0 00:0 0 997 0 1466 1\n";
    /// 8080.
    const UDP: &str = "  sl\n 0: 0100007F:1F90 0:0 07 0:0 00:0 0 997 0 1467 1\n";

    fn answered(recorded: Recorded, url: &str, status: u16, body: &str) -> Recorded {
        let answer = HttpAnswer { status, body: body.to_owned(), millis: 1.0, date: None };
        recorded.with(Request::Http { url: url.to_owned() }, Data::Http(answer))
    }

    fn server() -> Recorded {
        let recorded = link(running(70), "/proc/70/fd/5", "/d/logs/iggy-server.log");
        let recorded = directory(recorded, "/d/streams");
        recorded.file("/proc/net/tcp", TCP).file("/proc/net/udp", UDP)
    }

    fn iggy(recorded: Recorded) -> Answering {
        ask(&recorded.host(), Runtime::Iggy, None)
    }

    fn not_asked(why: &str) -> Answering {
        Answering::NotAsked(format!("iggy-server was not asked: {why}"))
    }

    #[test]
    fn iggy_answers_when_it_says_pong_and_listens_wherever_it_should() {
        let pongs = answered(server(), PING, 200, "pong\n");
        assert_eq!(iggy(pongs.clone()), Answering::Answers(format!("{PING} says pong")));
        let deaf = pongs.clone().file("/proc/net/tcp", &TCP.replace("1F9C", "1F9D"));
        let silent =
            format!("{PING} says pong, and nobody listens at 127.0.0.1:8092, which it has for websocket");
        assert_eq!(iggy(deaf.clone()), Answering::Silent(silent));
        let without = deaf.file("/d/runtime/current_config.toml", "[websocket]\nenabled = false\n");
        assert_eq!(iggy(without), Answering::Answers(format!("{PING} says pong")));
        let deaf = pongs.file("/proc/net/udp", "  sl\n");
        assert!(matches!(iggy(deaf), Answering::Silent(why) if why.ends_with("which it has for quic")));
    }

    #[test]
    fn silence_and_a_foreign_answer_are_no_answer() {
        let silent = server().without(Request::Http { url: PING.to_owned() }, Cause::TimedOut);
        assert_eq!(iggy(silent), Answering::Silent(format!("http {PING}: no answer in time")));
        let foreign = answered(server(), PING, 404, "pong");
        assert_eq!(iggy(foreign), Answering::Silent(format!("{PING}: it answered with status 404")));
        let stopped = Recorded::complete()
            .settings(settings())
            .unit("iggy.service", serde_json::json!({ "LoadState": "loaded", "MainPID": 0 }));
        assert_eq!(iggy(stopped), Answering::Silent("iggy-server has no process".to_owned()));
    }

    #[test]
    fn where_nothing_can_be_asked_that_is_said() {
        let off = "its HTTP API is switched off in its configuration";
        let configured = server().file("/d/runtime/current_config.toml", "[http]\nenabled = false\n");
        assert_eq!(iggy(configured), not_asked(off));
        let environment = server().file("/proc/70/environ", "IGGY_HTTP_ENABLED=false\0");
        assert_eq!(iggy(environment), not_asked(off));
        let apart = link(server(), "/proc/self/ns/net", "net:[1]");
        let apart = link(apart, "/proc/70/ns/net", "net:[2]");
        assert_eq!(iggy(apart), not_asked("process 70 has a network of its own"));
        let hidden = iggy(server().denied("/proc/70/environ"));
        assert!(matches!(hidden, Answering::NotAsked(why) if why.contains("permission denied")));
        assert_eq!(
            iggy(Recorded::complete().settings(settings())),
            not_asked("nothing on this host tells how it is configured")
        );
    }

    #[test]
    fn a_program_of_another_name_is_asked_where_its_configuration_says_and_not_by_the_defaults() {
        let wrapped = Recorded::complete()
            .settings(settings())
            .unit("iggy.service", serde_json::json!({ "LoadState": "loaded", "MainPID": 80 }))
            .file("/proc/80/stat", &stat_line(80, "docker", 'S'))
            .file("/proc/net/tcp", TCP)
            .file("/proc/net/udp", UDP);
        let why = "process 80 of the unit is `docker`, and nothing tells where what it starts would listen";
        assert_eq!(iggy(wrapped.clone()), not_asked(why));
        let told = answered(wrapped.clone(), "http://127.0.0.1:3001/ping", 200, "pong");
        let told = told.file("/proc/80/environ", "IGGY_HTTP_ADDRESS=127.0.0.1:3001\0");
        assert_eq!(iggy(told), Answering::Answers("http://127.0.0.1:3001/ping says pong".to_owned()));
        let given = ask(
            &answered(wrapped, PING, 200, "pong").host(),
            Runtime::Iggy,
            Some(([127, 0, 0, 1], 3000).into()),
        );
        assert_eq!(given, Answering::Answers(format!("{PING} says pong")));
    }

    #[test]
    fn connectors_answer_by_their_health() {
        let recorded = Recorded::complete()
            .settings(settings())
            .file("/proc/71/stat", &stat_line(71, "iggy-connectors", 'S'));
        let url = "http://127.0.0.1:8081/health";
        let asked =
            |status| ask(&answered(recorded.clone(), url, status, "").host(), Runtime::Connectors, None);
        assert_eq!(asked(200), Answering::Answers(format!("{url} says status 200")));
        assert_eq!(asked(401), Answering::Answers(format!("{url} says status 401")));
        assert_eq!(asked(500), Answering::Silent(format!("{url}: it answered with status 500")));
    }
}
