//! certificates-served: is what the listeners serve what is on disk.

use warden_certificates::{self as certificate, Certificate, path};
use warden_host::quantity::{count, number, time};
use warden_host::{Cause, Host, TlsAnswer};

use crate::iggy::{self, Listener};
use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Table, Value, Verdict};

pub const CHECK: Check = Check {
    id: "certificates-served",
    area: Area::Certificates,
    title: "Do the listeners serve the certificates on disk?",
    why: "The runtimes read their certificates once, at their start. A renewal that nobody followed with a restart is \
          served to nobody, and the old certificate runs out although the file is fresh.",
    reads: &[
        Read::Group(iggy::READS),
        Read::Tls,
        Read::Path("/**/*.pem"),
        Read::Path("/**/*.crt"),
        Read::Path("/**/*.cer"),
        Read::Path("/**/*.cert"),
    ],
    thresholds: &[
        "fails when the handshake fails or the served certificate expires in 7 days",
        "warns when the served certificate is another than that in the file, expires in 30 days, or the protocol is older than TLS 1.2",
        "notes a certificate that the server made for itself",
    ],
    advice: "Restart the runtime after each renewal.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let running = iggy::processes(host);
    let is_running = |one: &Listener| running.iter().any(|process| process.runtime == one.runtime);
    let listeners: Vec<Listener> =
        iggy::listeners(host).into_iter().filter(|one| one.tls && !one.udp && is_running(one)).collect();
    if listeners.is_empty() {
        let none = Finding::skip("no running listener of Iggy or its connectors speaks TLS over TCP");
        return iggy::hidden_configuration(host).map_or(Ok(none), Err);
    }
    let now = host.clock()?.seconds();
    let mut finding = Finding::new("");
    let mut offers = Table::new("Handshakes", ["listener", "address", "protocol", "cipher", "time"]);
    let mut table = certificate::table("Served certificates");
    let (mut told, mut untold) = (0, None);
    for listener in &listeners {
        if listener.name == "websocket" {
            not_asked(&mut finding, listener);
            continue;
        }
        let address = listener.address();
        let read = listener.certificate.as_deref().map(|path| (path, certificate::read(host, path)));
        // Without its names nobody knows which one to ask for: no answer proves nothing then.
        let is_hidden = matches!(&read, Some((_, Err(error))) if error.is_unseen());
        let file = read.and_then(|(path, read)| Some((path, read.ok()?.certificates)));
        let answer =
            match host.tls(&address, &asked_name(listener, file.as_ref().map(|(_, chain)| &chain[0]))) {
                Ok(answer) => answer,
                Err(error) => {
                    let advice = Advice::run(
                        "See what the server says to a handshake.",
                        format!("openssl s_client -connect {address} </dev/null"),
                    );
                    let leaf = file.as_ref().map(|(_, chain)| &chain[0]);
                    let is_certain = !is_hidden && is_telling(&error, leaf);
                    let severity = if is_certain { Verdict::Fail } else { Verdict::Note };
                    told += usize::from(severity == Verdict::Fail);
                    finding.problem(
                        severity,
                        format!("no TLS handshake with the {} listener {address}: {error}", listener.name),
                        advice,
                    );
                    offers.marked_row(
                        severity,
                        [
                            listener.name.into(),
                            Value::Code(address),
                            Value::Nothing,
                            Value::Nothing,
                            Value::Nothing,
                        ],
                    );
                    untold = Some(error);
                    continue;
                }
            };
        offers.row([
            listener.name.into(),
            Value::Code(address.clone()),
            answer.protocol.clone().into(),
            answer.cipher.clone().into(),
            format!("{} ms", number(answer.millis)).into(),
        ]);
        told += 1;
        judge(&mut finding, &mut table, listener, &answer, file, now);
    }
    if let (0, Some(error)) = (told, untold) {
        return Err(error);
    }
    finding.summary = match finding.verdict() {
        Verdict::Pass => format!(
            "{} served as on disk",
            count(listeners.len() as u64, "certificate is", "certificates are")
        ),
        Verdict::Skip | Verdict::Note | Verdict::Warn | Verdict::Fail => format!(
            "{} asked, {}",
            count(listeners.len() as u64, "listener", "listeners"),
            count(finding.problems.len() as u64, "problem", "problems")
        ),
    };
    finding.show(Evidence::Table(offers));
    finding.show(Evidence::Table(table));
    Ok(finding)
}

/// Whether a handshake that did not come about says something of the listener, and not of who asked.
fn is_telling(error: &Error, leaf: Option<&Certificate>) -> bool {
    let Error::Host(failure) = error else { return false };
    match failure.cause {
        Cause::Absent | Cause::TimedOut => true,
        // The library of this program has no means for some keys, and the listener can be fine with others.
        Cause::Other(_) => leaf.is_none_or(Certificate::has_usual_key),
        Cause::Denied | Cause::Unavailable(_) | Cause::Unrecorded | Cause::Truncated(_) | Cause::Masked => {
            false
        }
    }
}

/// A name that the certificate is for, as a client would ask: a server may choose by it.
fn asked_name(listener: &Listener, leaf: Option<&Certificate>) -> String {
    let own = leaf.and_then(|leaf| leaf.names.iter().find(|name| !name.contains('*')).cloned());
    own.unwrap_or_else(|| match listener.is_wildcard() {
        true => "localhost".to_owned(),
        false => listener.host.clone(),
    })
}

fn judge(
    finding: &mut Finding,
    table: &mut Table,
    listener: &Listener,
    answer: &TlsAnswer,
    file: Option<(&str, Vec<Certificate>)>,
    now: i64,
) {
    let (name, address) = (listener.name, listener.address());
    if !matches!(answer.protocol.as_str(), "TLSv1.2" | "TLSv1.3") {
        let advice = Advice::text("Upgrade the runtime, or the proxy that stands before it.");
        finding.warn(format!("the {name} listener {address} speaks {}", answer.protocol), advice);
    }
    let chain = match certificate::parse_pem(&format!("what {address} serves"), &answer.chain.join("\n")) {
        Ok(chain) => chain,
        Err(error) => {
            let advice = Advice::text("Look at it by hand; nothing is said of it here.");
            finding.note(format!("the certificates of the {name} listener are unknown: {error}"), advice);
            return;
        }
    };
    let served = &chain[0];
    let from = format!("{name} {address}");
    let faults = path::best(&chain, now).faults;
    for (at, one) in chain.iter().enumerate() {
        let of_this = faults.iter().filter(|fault| fault.at == at);
        match of_this.clone().map(|fault| fault.severity).max() {
            Some(severity) => table.marked_row(severity, certificate::cells(&from, one)),
            None => table.row(certificate::cells(&from, one)),
        }
        for fault in of_this {
            let advice = Advice::text("Renew the certificate and restart the runtime.");
            let text = match at {
                0 => format!("the certificate that {address} serves {}", fault.text),
                _ => format!("{}, which {address} serves, {}", one.subject, fault.text),
            };
            finding.problem(fault.severity, text, advice);
        }
    }
    match file {
        Some((path, chain)) if chain[0].sha256 != served.sha256 => {
            let text = format!(
                "the {name} listener {address} serves a certificate valid until {}, {path} holds one valid until {}: it was not reloaded",
                time(served.not_after),
                time(chain[0].not_after)
            );
            let unit = listener.runtime.program().trim_end_matches("-server");
            finding.warn(
                text,
                Advice::run(
                    "Restart the runtime at a time of your choosing.",
                    format!("systemctl restart {unit}"),
                ),
            );
        }
        Some(_) => {}
        None if listener.certificate.is_none() => {
            let advice = Advice::text("Configure cert_file and key_file, and set self_signed to false.");
            finding.note(format!("the {name} listener {address} serves a certificate that the server made for itself: no client can verify it"), advice);
        }
        None => {
            let advice = Advice::text("See certificates-files for why.");
            finding.note(
                format!("the file of the {name} listener could not be compared with what {address} serves"),
                advice,
            );
        }
    }
}

/// A handshake that no WebSocket follows is a warning in the server's log.
fn not_asked(finding: &mut Finding, listener: &Listener) {
    if listener.certificate.is_none() {
        let address = listener.address();
        let advice = Advice::text("Configure cert_file and key_file, and set self_signed to false.");
        finding.note(format!("the websocket listener {address} serves a certificate that the server made for itself: no client can verify it"), advice);
    }
}

#[cfg(test)]
mod tests {
    use warden_certificates::made::{Made, NOW, authority, issued};
    use warden_host::{Cause, Data, Recorded, Request};

    use super::*;
    use crate::iggy::tests::{running, settings};

    const PEM: &str = "/etc/iggy/a.pem";

    fn request() -> Request {
        Request::Tls { address: "127.0.0.1:8090".to_owned(), name: "node1".to_owned() }
    }

    fn served(recorded: Recorded, request: Request, made: &Made, protocol: &str) -> Recorded {
        let answer = TlsAnswer {
            protocol: protocol.to_owned(),
            cipher: "TLS13_AES_256".to_owned(),
            chain: vec![made.pem.clone()],
            millis: 3.0,
        };
        recorded.with(request, Data::Tls(answer))
    }

    fn on_disk(made: &Made) -> Recorded {
        let environment = format!(
            "IGGY_TCP_TLS_ENABLED=true\0IGGY_TCP_TLS_SELF_SIGNED=false\0IGGY_TCP_TLS_CERT_FILE={PEM}\0"
        );
        running(70).file("/proc/70/environ", &environment).file(PEM, &made.pem).at(NOW, 9000)
    }

    fn leaf(until: (i32, u8, u8)) -> Made {
        issued(&authority("root"), &["node1"], until)
    }

    fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    #[test]
    fn what_is_on_disk_and_served_alike_passes() {
        let leaf = leaf((2027, 6, 1));
        let finding = of(served(on_disk(&leaf), request(), &leaf, "TLSv1.3"));
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "1 certificate is served as on disk")
        );
    }

    #[test]
    fn a_certificate_that_was_not_reloaded_warns_and_one_that_ends_fails() {
        let (old, new) = (leaf((2027, 6, 1)), leaf((2028, 6, 1)));
        let finding = of(served(on_disk(&new), request(), &old, "TLSv1.3"));
        assert_eq!(finding.verdict(), Verdict::Warn);
        assert!(
            finding.problems[0]
                .text
                .ends_with("/etc/iggy/a.pem holds one valid until 2028-06-01T00:00:00Z: it was not reloaded")
        );
        let past = leaf((2026, 11, 20));
        assert_eq!(of(served(on_disk(&past), request(), &past, "TLSv1.3")).verdict(), Verdict::Fail);
    }

    #[test]
    fn an_old_protocol_warns_and_no_handshake_fails() {
        let leaf = leaf((2027, 6, 1));
        assert_eq!(of(served(on_disk(&leaf), request(), &leaf, "TLSv1.1")).verdict(), Verdict::Warn);
        assert_eq!(of(served(on_disk(&leaf), request(), &leaf, "TLSv1.2")).verdict(), Verdict::Pass);
        let silent = of(on_disk(&leaf).without(request(), Cause::TimedOut));
        assert_eq!(silent.verdict(), Verdict::Fail);
        assert!(
            silent.problems[0].text.starts_with("no TLS handshake with the tcp listener 127.0.0.1:8090: ")
        );
    }

    #[test]
    fn a_certificate_of_the_servers_own_making_is_noted() {
        let own = authority("own");
        let request = Request::Tls { address: "127.0.0.1:8090".to_owned(), name: "127.0.0.1".to_owned() };
        let recorded = running(70).file("/proc/70/environ", "IGGY_TCP_TLS_ENABLED=true\0").at(NOW, 9000);
        assert_eq!(of(served(recorded, request, &own, "TLSv1.3")).verdict(), Verdict::Note);
    }

    #[test]
    fn a_file_that_may_not_be_read_is_said_and_without_tls_there_is_no_question() {
        let leaf = leaf((2027, 6, 1));
        let request = Request::Tls { address: "127.0.0.1:8090".to_owned(), name: "127.0.0.1".to_owned() };
        let denied = of(served(on_disk(&leaf).denied(PEM), request, &leaf, "TLSv1.3"));
        assert_eq!(denied.verdict(), Verdict::Note);
        assert_eq!(of(running(70)).verdict(), Verdict::Skip);
        assert_eq!(of(Recorded::complete().settings(settings())).verdict(), Verdict::Skip);
    }

    #[test]
    fn a_hidden_configuration_is_unknown_and_not_skipped() {
        assert!(run(&running(70).denied("/proc/70/environ").host()).is_err());
    }
}
