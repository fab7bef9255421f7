//! runtime-iggy-health: does the server answer, and is the answer true.

use warden_host::quantity::{bytes, count, number};
use warden_host::{Cause, Failure, Host, IfAny, Level, LogLine};

use crate::iggy::{self, Listener, Runtime, Service, answering, log};
use crate::{
    Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Log, Read, Result, Table, Value, Verdict,
};

mod statistics;

pub const CHECK: Check = Check {
    id: "runtime-iggy-health",
    area: Area::Runtime,
    title: "Does Iggy answer, and can the answer be trusted?",
    why: "The server answers /ping from its HTTP thread alone: after a shard died, for instance on a full disk, \
          /ping still says pong while producers hang. So the answer is held against the log of this run and the \
          room that is left.",
    reads: &[
        Read::Group(iggy::READS),
        Read::Http,
        Read::IggyApi,
        Read::Path("/proc/net/*"),
        Read::Path("/proc/[pid]/net/*"),
        Read::Path("/proc/[pid]/status"),
        Read::Space,
        Read::Journal,
        Read::Tail("/**/iggy-server.log"),
        Read::Path("/proc/[pid]/ns/net"),
        Read::Path("/proc/self/ns/net"),
    ],
    thresholds: &[
        "fails when /ping does not answer, or when nobody listens at another configured TCP port: those are not connected to, because the server logs each connection, and one that says nothing as a warning",
        "warns when an answer takes more than 500 ms",
        "fails when a shard does not answer: GET /clients takes over 2.5 s (asked only with an access token)",
        "fails when the log of this run tells of a dead shard or of a full disk",
        "fails when less than 64 MiB is left where the data is",
    ],
    advice: "Restart a server whose shard died; before that, make room and see what the log says.",
    deadline: DEADLINE,
    run,
};

const SLOW_MILLIS: f64 = 500.0;
/// A few segment flushes of a busy partition.
const ROOM_BYTES: u64 = 64 << 20;
/// What the server logs, or prints as it panics, when a shard is gone and the process stays.
const DEAD_SHARD: [&str; 3] =
    ["partition local commit failed", "message pump died", "shard thread returned error"];
const FULL_DISK: &str = "No space left on device";
/// Lines of proof that a report needs.
const LINES: usize = 20;

fn run(host: &Host) -> Result<Finding> {
    let process = iggy::processes(host).into_iter().find(|process| process.runtime == Runtime::Iggy);
    let Some(process) = process else { return Ok(Finding::skip("no Iggy server runs on this host")) };
    let known = iggy::configuration(host, Runtime::Iggy);
    let listeners = known.as_ref().map(|known| known.listeners()).unwrap_or_default();
    // Without its configuration only its defaults can be tried, and it may well listen elsewhere.
    let guessed = known.is_some_and(|known| known.hidden(host).is_some());
    let network = |whose: &str| host.link(&format!("/proc/{whose}/ns/net")).ok();
    let (own, its) = (network("self"), network(&process.pid.to_string()));
    // Behind a network of its own only published ports can be reached: no answer proves nothing.
    let apart = own.is_some() && its.is_some() && own != its;
    let of_server = if apart { format!("/proc/{}", process.pid) } else { "/proc".to_owned() };
    let silence = if apart || guessed { Verdict::Note } else { Verdict::Fail };

    let mut finding = Finding::new("");
    let mut table = Table::new("Answers", ["listener", "address", "asked", "answer", "time"]);
    for listener in listeners.iter().filter(|listener| !listener.udp) {
        let is_http = listener.name == "http";
        let (asked, answer) = match is_http {
            true => ("GET /ping", ping(host, listener)),
            false => ("the kernel's list of listeners", listens(host, &of_server, listener)),
        };
        let severity = match &answer {
            Ok(answer) if !answer.good => Some(Verdict::Fail),
            Ok(answer) if answer.millis > SLOW_MILLIS => Some(Verdict::Warn),
            Ok(_) => None,
            Err(error) if error.was_not_tried() => Some(Verdict::Note),
            Err(_) => Some(silence),
        };
        let (said, time) = match &answer {
            Ok(answer) if is_http => {
                (answer.text.clone(), Value::Text(format!("{} ms", number(answer.millis))))
            }
            Ok(answer) => (answer.text.clone(), Value::Nothing),
            Err(error) => (error.to_string(), Value::Nothing),
        };
        let cells =
            [listener.name.into(), Value::Code(listener.address()), asked.into(), said.clone().into(), time];
        match severity {
            None => table.row(cells),
            Some(severity) => {
                table.marked_row(severity, cells);
                let (text, advice) = problem(listener, asked, answer, apart, guessed);
                finding.problem(severity, text, advice);
            }
        }
        if is_http {
            finding.summary = format!("/ping says {said}");
        }
    }
    if finding.summary.is_empty() {
        finding.summary = match table.rows.len() {
            0 => "the configuration of the running server names no TCP listener".to_owned(),
            tried => format!("{tried} listeners were tried; HTTP is switched off, so /ping was not asked"),
        };
    }
    finding.show(Evidence::Table(table));
    if let Some(http) = listeners.iter().find(|listener| listener.name == "http") {
        statistics::judge(host, &process, http, &mut finding)?;
    }
    judge_log(host, &mut finding)?;
    judge_room(host, &mut finding)?;
    Ok(finding)
}

struct Answer {
    good: bool,
    text: String,
    millis: f64,
}

fn ping(host: &Host, listener: &Listener) -> Result<Answer> {
    let url = format!("{}/ping", answering::base(listener));
    let answer = host.http(&url)?;
    let body = host.unmasked(&url, answer.body.clone())?;
    if answer.status == 200 && body.trim().is_empty() {
        return Err(
            Failure { what: url, cause: Cause::Truncated("the answer has no body".to_owned()) }.into()
        );
    }
    let good = answer.status == 200 && answer.body.trim() == "pong";
    let text = if good { "pong".to_owned() } else { format!("status {}", answer.status) };
    Ok(Answer { good, text, millis: answer.millis })
}

fn listens(host: &Host, root: &str, listener: &Listener) -> Result<Answer> {
    let what = format!("port {}", listener.port);
    let hidden = |error| Failure {
        what: what.clone(),
        cause: Cause::Unavailable(format!("the kernel's list of listeners is not to be had: {error}")),
    };
    if answering::listens(host, root, listener).map_err(hidden)? {
        return Ok(Answer { good: true, text: "listens".to_owned(), millis: 0.0 });
    }
    let cause = Cause::Other("nobody listens there".to_owned());
    Err(Failure { what, cause }.into())
}

fn problem(
    listener: &Listener,
    asked: &str,
    answer: Result<Answer>,
    apart: bool,
    guessed: bool,
) -> (String, Advice) {
    let (name, address) = (listener.name, listener.address());
    match answer {
        Ok(answer) if answer.good => {
            let text = format!("{asked} of the {name} listener {address} took {} ms", number(answer.millis));
            (
                text,
                Advice::text(
                    "See cpu-load, disk-latency and runtime-iggy-process for what keeps the server busy.",
                ),
            )
        }
        Ok(answer) => {
            let text = format!(
                "{asked} at {address} answered {} and not pong: another program may listen there",
                answer.text
            );
            (text, Advice::run("See who listens there.", format!("ss -ltnp 'sport = :{}'", listener.port)))
        }
        Err(error) if error.was_not_tried() => {
            let text = format!("whether the {name} listener {address} answers could not be seen: {error}");
            (text, Advice::run("Ask it.", format!("ss -ltn 'sport = :{}'", listener.port)))
        }
        Err(error) if guessed => {
            let text = format!(
                "nothing answers at {address}, the default of the {name} listener; where it listens could not be read: {error}"
            );
            (text, Advice::text("Run as root or give Warden CAP_SYS_PTRACE and CAP_DAC_READ_SEARCH."))
        }
        Err(error) if apart => {
            let text = format!(
                "the {name} listener cannot be reached from here: {error}; the server has a network of its own"
            );
            (
                text,
                Advice::text(
                    "Publish the port on loopback if it should be watched, or run Warden in that network.",
                ),
            )
        }
        Err(error) => {
            let text = format!("the {name} listener {address} does not answer: {error}");
            (
                text,
                Advice::run(
                    "See whether it listens and what the server said; then restart it.",
                    format!("ss -ltnp 'sport = :{}'", listener.port),
                ),
            )
        }
    }
}

fn judge_log(host: &Host, finding: &mut Finding) -> Result<()> {
    let Some(said) = log::said(host, Runtime::Iggy)? else {
        let advice = Advice::text("Give Warden the log directory or the journal of the unit to read.");
        finding.note("there is no log that the answer could be held against", advice);
        return Ok(());
    };
    for reason in &said.unread {
        let advice = Advice::text(
            "Run as root or add Warden's user to the group systemd-journal; give it CAP_DAC_READ_SEARCH for the log file.",
        );
        finding.note(
            format!("part of the log could not be read, so a dead shard may go unseen: {reason}"),
            advice,
        );
    }
    let lines = log::since_start(&said.log.lines);
    let restart = Service::of(host, Runtime::Iggy).restart();
    let shard_panic =
        |line: &LogLine| line.level == Some(Level::Critical) && line.text.starts_with("thread 'shard-");
    let dead = |line: &&LogLine| shard_panic(line) || DEAD_SHARD.iter().any(|mark| line.text.contains(mark));
    let full = |line: &&LogLine| line.text.contains(FULL_DISK);
    let (deaths, refusals) = (lines.iter().filter(dead).count(), lines.iter().filter(full).count());
    if deaths > 0 {
        let advice =
            Advice::run("Make sure that there is room and memory, then restart the server.", restart);
        finding.fail(format!("a shard died in this run of the server ({} so): its partitions take and give nothing, whatever /ping says", count(deaths as u64, "line says", "lines say")), advice);
    }
    if refusals > 0 {
        let advice = Advice::run(
            "Make room and restart the server: a shard that met a full disk does not recover.",
            "df -h",
        );
        finding.fail(
            format!(
                "{} failed in this run for want of room on the disk",
                count(refusals as u64, "write", "writes")
            ),
            advice,
        );
    }
    let proof: Vec<LogLine> = lines.iter().filter(|line| dead(line) || full(line)).cloned().collect();
    if !proof.is_empty() {
        let from = proof.len().saturating_sub(LINES);
        finding.show(Evidence::Log(Log {
            title: "What the server said".to_owned(),
            lines: proof[from..].to_vec(),
            cut: from > 0,
        }));
    }
    let fields =
        Fields::new("Held against").row("log", said.sources.join(", ")).row("lines of this run", lines.len());
    finding.show(Evidence::Fields(fields));
    Ok(())
}

fn judge_room(host: &Host, finding: &mut Finding) -> Result<()> {
    let Some(data) = iggy::data_directory(host) else { return Ok(()) };
    match host.space(&data.path).if_any() {
        Ok(Some(space)) if space.available < ROOM_BYTES => {
            let text = format!(
                "only {} are left where {} is: the next write may kill a shard",
                bytes(space.available),
                data.path
            );
            finding.fail(
                text,
                Advice::run(
                    "Make room first, then restart the server.",
                    format!("du -xh --max-depth=3 '{}' | sort -h | tail", data.path),
                ),
            );
        }
        Ok(_) => {}
        Err(Error::Host(failure)) => {
            let advice = Advice::text("Run as root or give Warden CAP_DAC_READ_SEARCH.");
            finding.note(format!("the room for the data is unknown: {failure}"), advice);
        }
        Err(error @ Error::Parse { .. }) => return Err(error),
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use warden_host::{Cause, Content, Data, HttpAnswer, LogText, Recorded, Request};

    use super::*;
    use crate::iggy::tests::{directory, link, running, settings};

    const START: &str = "2026-11-21T11:09:09Z  INFO main server_common::bootstrap: Initializing system, data will be stored at: /d\n";
    const FULL: &str = "2026-11-21T11:09:13Z ERROR shard-1 iggy.partitions.storage: failed to write frozen messages err=No space left on device (os error 28)\n";
    /// 8090 and 8092.
    const SOCKETS: &str = "  sl\n 0: 0100007F:1F9A 0:0 0A 0:0 00:0 0 997 0 1465 1\n 1: 0100007F:1F9C 0:0 0A 0:0 00:0 0 997 0 1466 1\n";
    const PING: &str = "http://127.0.0.1:3000/ping";

    fn ping_answer(status: u16, body: &str, millis: f64) -> Data {
        Data::Http(HttpAnswer { status, body: body.to_owned(), millis, date: None })
    }

    fn with_log(text: &str) -> Recorded {
        let recorded = link(running(70), "/proc/70/fd/5", "/d/logs/iggy-server.log");
        let recorded = directory(recorded, "/d/streams")
            .space("/d", 100 << 30, 50 << 30)
            .with(Request::Http { url: PING.to_owned() }, ping_answer(200, "pong", 1.2))
            .with(
                Request::Tail { path: "/d/logs/iggy-server.log".to_owned() },
                Data::Text(Content { text: text.to_owned(), cut_from: None }),
            )
            .log(Request::Journal { unit: "iggy.service".to_owned() }, LogText::default());
        recorded.file("/proc/net/tcp", SOCKETS)
    }

    fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    fn ping_at(data: Data) -> Finding {
        of(with_log(START).with(Request::Http { url: PING.to_owned() }, data))
    }

    #[test]
    fn a_server_that_answers_and_has_said_nothing_bad_passes() {
        let finding = of(with_log(&format!("{FULL}{START}")));
        assert_eq!((finding.verdict(), finding.summary.as_str()), (Verdict::Pass, "/ping says pong"));
    }

    #[test]
    fn a_slow_answer_warns_and_a_foreign_one_fails() {
        assert_eq!(ping_at(ping_answer(200, "pong", 500.0)).verdict(), Verdict::Pass);
        let slow = ping_at(ping_answer(200, "pong", 501.0));
        assert_eq!(slow.problems[0].text, "GET /ping of the http listener 127.0.0.1:3000 took 501 ms");
        assert_eq!(slow.verdict(), Verdict::Warn);
        let foreign = ping_at(ping_answer(404, "", 1.0));
        assert_eq!(foreign.verdict(), Verdict::Fail);
        assert_eq!(foreign.summary, "/ping says status 404");
    }

    #[test]
    fn silence_fails_unless_the_server_has_a_network_of_its_own() {
        let silent = with_log(START).without(Request::Http { url: PING.to_owned() }, Cause::TimedOut);
        let finding = of(silent.clone());
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(
            finding.problems[0].text,
            format!("the http listener 127.0.0.1:3000 does not answer: http {PING}: no answer in time")
        );
        let apart = link(silent, "/proc/self/ns/net", "net:[1]");
        assert_eq!(of(link(apart, "/proc/70/ns/net", "net:[2]")).verdict(), Verdict::Note);
    }

    #[test]
    fn pong_does_not_hide_a_dead_shard() {
        let finding = of(with_log(&format!("{START}{FULL}")));
        assert_eq!((finding.verdict(), finding.summary.as_str()), (Verdict::Fail, "/ping says pong"));
        assert_eq!(finding.problems[0].text, "1 write failed in this run for want of room on the disk");
        let panic =
            "thread 'shard-1' (7) panicked at core/x.rs:1:2:\npartition local commit failed at op=12\n";
        let finding = of(with_log(&format!("{START}{panic}")));
        assert!(
            finding.problems[0].text.starts_with("a shard died in this run of the server (1 line says so)")
        );
    }

    #[test]
    fn too_little_room_fails_at_once() {
        assert_eq!(of(with_log(START).space("/d", 100 << 30, 64 << 20)).verdict(), Verdict::Pass);
        let finding = of(with_log(START).space("/d", 100 << 30, (64 << 20) - 1));
        assert_eq!(
            finding.problems[0].text,
            "only 64 MiB are left where /d is: the next write may kill a shard"
        );
    }

    #[test]
    fn a_log_that_may_not_be_read_is_said_and_without_a_server_there_is_no_question() {
        let tail = Request::Tail { path: "/d/logs/iggy-server.log".to_owned() };
        let finding = of(with_log(START).without(tail, Cause::Denied));
        assert_eq!(finding.verdict(), Verdict::Note);
        assert!(finding.problems[0].text.contains("permission denied"));
        assert_eq!(of(Recorded::complete().settings(settings())).verdict(), Verdict::Skip);
    }

    #[test]
    fn nobody_is_connected_to_and_silence_at_a_default_address_is_noted_when_the_configuration_is_hidden() {
        let deaf = with_log(START).file("/proc/net/tcp", &SOCKETS.replace("1F9A", "1F9B"));
        let finding = of(deaf.clone());
        assert_eq!(finding.verdict(), Verdict::Fail);
        assert_eq!(
            finding.problems[0].text,
            "the tcp listener 127.0.0.1:8090 does not answer: port 8090: nobody listens there"
        );
        let finding = of(deaf.denied("/proc/70/environ"));
        assert_eq!(finding.verdict(), Verdict::Note);
        assert!(finding.problems[0].text.starts_with("nothing answers at 127.0.0.1:8090, the default of"));
    }
}
