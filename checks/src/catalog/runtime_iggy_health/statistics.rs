//! What Iggy's API tells when the run was given an access token: its numbers, and whether every shard answers.

use warden_host::quantity::{duration, number};
use warden_host::{Cause, Failure, Host, HttpAnswer};

use super::{Listener, SLOW_MILLIS};
use crate::iggy::api::Statistics;
use crate::iggy::{Process, Runtime, Service, processes, starter};
use crate::{Advice, Error, Evidence, Fields, Finding, Result, Value};

/// The server asks all its shards for their clients and waits 3 s for one that is dead; otherwise this takes
/// milliseconds.
const DEAD_SHARD_MILLIS: f64 = 2500.0;

pub fn judge(host: &Host, process: &Process, listener: &Listener, finding: &mut Finding) -> Result<()> {
    if starter::refusal(host, process).is_some() || has_strangers(host) {
        return Ok(());
    }
    let scheme = if listener.tls { "https" } else { "http" };
    let base = format!("{scheme}://{}", listener.address());
    let answer = match host.iggy_api(&format!("{base}/stats")) {
        Ok(answer) => answer,
        // No token was given, or the recording is of a run without one: nothing more to tell.
        Err(Error::Host(Failure {
            cause: Cause::Unavailable(_) | Cause::Unrecorded | Cause::Absent,
            ..
        })) => return Ok(()),
        Err(Error::Host(Failure { cause: Cause::TimedOut, .. })) => {
            dead_shard(host, "GET /stats has no answer in time", finding);
            return Ok(());
        }
        Err(error) => {
            let advice =
                Advice::text("See what else this check says; the server may be overloaded or half dead.");
            finding.warn(format!("GET /stats has no answer: {error}"), advice);
            return Ok(());
        }
    };
    if answer.status != 200 {
        finding.note(format!("GET /stats was refused with status {}", answer.status), refused(answer.status));
        return Ok(());
    }
    show(&answer, finding)?;
    judge_shards(host, &base, finding);
    Ok(())
}

/// A token is shown only to a process that is trusted: anybody can call a program `iggy-server` and let it listen.
/// Where the data directory is told by what some process holds open, a stranger's could name the listener.
fn has_strangers(host: &Host) -> bool {
    let mut servers = processes(host).into_iter().filter(|process| process.runtime == Runtime::Iggy);
    servers.any(|process| starter::refusal(host, &process).is_some())
}

fn refused(status: u16) -> Advice {
    match status {
        401 => Advice::text("The token is unknown or has expired: create a new one for Warden's user."),
        403 => Advice::text("Give Warden's user the global right read_servers, and no other."),
        _ => Advice::text("Another program may answer in Iggy's place; see network-listeners."),
    }
}

fn show(answer: &HttpAnswer, finding: &mut Finding) -> Result<()> {
    let statistics = Statistics::parse(&answer.body)?;
    let time = format!("{} ms", number(answer.millis));
    if answer.millis > SLOW_MILLIS {
        let advice = Advice::text(
            "See cpu-load, disk-latency and runtime-iggy-process for what keeps the server busy.",
        );
        finding.warn(format!("GET /stats took {time}"), advice);
    }
    let fields = Fields::new("By Iggy's own count")
        .row("version", statistics.iggy_server_version.clone())
        .row("running for", Value::Seconds(statistics.run_time as f64 / 1e6))
        .row("streams", statistics.streams_count)
        .row("topics", statistics.topics_count)
        .row("partitions", statistics.partitions_count)
        .row("segments", statistics.segments_count)
        .row("messages", statistics.messages_count)
        .row("messages' size", statistics.message_bytes().map_or(Value::Nothing, Value::Bytes))
        .row("clients", statistics.clients_count)
        .row("consumer groups", statistics.consumer_groups_count)
        .row("answered in", time);
    finding.show(Evidence::Fields(fields));
    Ok(())
}

fn judge_shards(host: &Host, base: &str, finding: &mut Finding) {
    let took = match host.iggy_api(&format!("{base}/clients")) {
        Ok(answer) if answer.millis < DEAD_SHARD_MILLIS => return,
        Ok(answer) => format!("took {}", duration(answer.millis / 1e3)),
        Err(Error::Host(Failure { cause: Cause::TimedOut, .. })) => "has no answer in time".to_owned(),
        Err(_) => return,
    };
    dead_shard(host, &format!("GET /clients {took}"), finding);
}

fn dead_shard(host: &Host, what: &str, finding: &mut Finding) {
    let advice = Advice::run(
        "Make room if the disk is full, then restart the server: a dead shard does not come back by itself.",
        Service::of(host, Runtime::Iggy).restart(),
    );
    finding.fail(format!("{what}: a shard does not answer, though /ping does"), advice);
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Recorded, Request};

    use super::*;
    use crate::Verdict;
    use crate::iggy::tests::{running, settings};

    const STATS: &str = r#"{"run_time":8000000,"messages_size_bytes":"14451.763 KB","streams_count":3,"topics_count":4,
        "partitions_count":7,"segments_count":13,"messages_count":22267,"clients_count":2,"consumer_groups_count":2,
        "iggy_server_version":"0.9.0-edge.5"}"#;

    fn answer(status: u16, body: &str, millis: f64) -> Data {
        Data::Http(HttpAnswer { status, body: body.to_owned(), millis, date: None })
    }

    fn api(path: &str) -> Request {
        Request::IggyApi { url: format!("http://127.0.0.1:3000{path}") }
    }

    fn with_token() -> Recorded {
        running(70)
            .settings(settings())
            .file("/proc/70/status", "Name:\tiggy-server\nUid:\t0\t0\t0\t0\n")
            .with(api("/stats"), answer(200, STATS, 4.0))
            .with(api("/clients"), answer(200, r#"{"clients":2}"#, 3.0))
    }

    fn judged(recorded: Recorded) -> Finding {
        let listener = Listener {
            runtime: Runtime::Iggy,
            name: "http",
            host: "127.0.0.1".to_owned(),
            port: 3000,
            udp: false,
            tls: false,
            certificate: None,
            key: None,
        };
        let mut finding = Finding::new("");
        judge(&recorded.host(), &Process { runtime: Runtime::Iggy, pid: 70 }, &listener, &mut finding)
            .unwrap();
        finding
    }

    #[test]
    fn the_numbers_of_a_server_that_is_well_are_shown() {
        let finding = judged(with_token());
        assert_eq!(finding.verdict(), Verdict::Pass);
        let Evidence::Fields(fields) = &finding.evidence[0] else { panic!("{finding:?}") };
        assert_eq!(fields.rows[6], ("messages".to_owned(), Value::Count(22_267)));
    }

    #[test]
    fn a_shard_that_does_not_answer_fails_although_ping_does() {
        let slow = judged(with_token().with(api("/clients"), answer(200, "{}", 3004.0)));
        assert_eq!(slow.verdict(), Verdict::Fail);
        assert_eq!(
            slow.problems[0].text,
            "GET /clients took 3 s: a shard does not answer, though /ping does"
        );
        assert_eq!(judged(with_token().without(api("/clients"), Cause::TimedOut)).verdict(), Verdict::Fail);
    }

    #[test]
    fn statistics_that_do_not_come_fail_too() {
        let silent = judged(with_token().without(api("/stats"), Cause::TimedOut));
        assert_eq!(
            silent.problems[0].text,
            "GET /stats has no answer in time: a shard does not answer, though /ping does"
        );
        assert_eq!(silent.verdict(), Verdict::Fail);
    }

    #[test]
    fn a_refused_token_is_noted_with_the_right_that_it_lacks() {
        let refused = judged(with_token().with(api("/stats"), answer(403, "", 1.0)));
        assert_eq!(
            refused.problems[0].advice.text,
            "Give Warden's user the global right read_servers, and no other."
        );
        assert_eq!(refused.verdict(), Verdict::Note);
    }

    #[test]
    fn without_a_token_nothing_is_said() {
        let none = Cause::Unavailable("no access token was given".to_owned());
        assert_eq!(judged(with_token().without(api("/stats"), none)), Finding::new(""));
    }

    #[test]
    fn one_stranger_among_the_servers_keeps_the_token_hidden() {
        let stat = |pid| {
            format!("{pid} (iggy-server) S 1 7 7 0 -1 4194560 0 0 0 0 11 22 0 0 20 0 3 0 4567 1000 250 0\n")
        };
        let beside = with_token()
            .file("/proc/71/stat", &stat(71))
            .file("/proc/71/status", "Uid:\t1001\t1001\t1001\t1001\n");
        assert_eq!(judged(beside), Finding::new(""));
    }

    #[test]
    fn a_strangers_process_is_not_shown_the_token() {
        let stranger = with_token().file("/proc/70/status", "Uid:\t1001\t1001\t1001\t1001\n");
        assert_eq!(judged(stranger), Finding::new(""));
    }
}
