//! network-dns: do the names that this node needs resolve, and fast.

use std::net::IpAddr;

use warden_host::{Cause, Failure, Host, IfAny, PLACEHOLDER};

use crate::endpoint::Endpoint;
use crate::{
    Advice, Area, Check, Error, Evidence, Fields, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
    quantity, quoted,
};

pub const CHECK: Check = Check {
    id: "network-dns",
    area: Area::Network,
    title: "Do names resolve?",
    why: "The agent looks its Supervisor up at each reconnect, and connectors look up the systems they copy to. A name \
          server that is gone adds its whole timeout, five seconds by default, to each of them.",
    reads: &[
        Read::Path("/etc/resolv.conf"),
        Read::Path("/run/systemd/resolve/resolv.conf"),
        Read::Path("/etc/nsswitch.conf"),
        Read::Resolve,
    ],
    thresholds: &[
        "fails when the Supervisor's name does not resolve, warns when the host's own does not",
        "warns when a lookup took over 1 s",
        "warns when no name server is configured, notes ones after the third, which are never asked",
    ],
    advice: "Check the name servers in /etc/resolv.conf (or `resolvectl status`) and the spelling of the name.",
    // Two names at three servers of five seconds each would outlast the usual deadline.
    deadline: std::time::Duration::from_secs(30),
    run,
};

const WARN_MILLIS: f64 = 1000.0;
/// glibc asks no more than three (resolv.conf(5), MAXNS).
const SERVERS_ASKED: usize = 3;
/// The stub of systemd-resolved, whose own servers are in another file.
const STUBS: [&str; 2] = ["127.0.0.53", "127.0.0.54"];

fn run(host: &Host) -> Result<Finding> {
    let url = host.settings().if_any()?.and_then(|settings| settings.supervisor_url);
    let supervisor = url.as_deref().and_then(Endpoint::parse).filter(|endpoint| !endpoint.is_address());
    let mut names = vec![(host.uname()?.node, "this host", Verdict::Warn)];
    if let Some(endpoint) = supervisor {
        names.insert(0, (endpoint.host, "the Supervisor", Verdict::Fail));
    }

    let mut finding = Finding::new("");
    let servers = judge_servers(host, &mut finding)?;
    let mut table = Table::new("Lookups", ["name", "of", "addresses", "ms"]);
    let mut chart = Series::bars("Time of a lookup", Unit::Milliseconds, ["lookup"]);
    chart.limit = Some(WARN_MILLIS);
    let (mut slowest, mut resolved) = (0.0f64, 0u64);
    for (name, of, severity) in &names {
        let advice =
            || Advice::run(CHECK.advice, format!("getent ahosts {0}; resolvectl query {0}", quoted(name)));
        let (addresses, millis) = match host.resolve(name) {
            Ok(answer) => answer,
            Err(Error::Host(Failure {
                cause: cause @ (Cause::Absent | Cause::TimedOut | Cause::Other(_)),
                ..
            })) => {
                table.marked_row(
                    *severity,
                    [Value::Code(name.clone()), (*of).into(), cause.to_string().into(), Value::Nothing],
                );
                finding.problem(
                    *severity,
                    format!("the name of {of}, {name}, does not resolve: {cause}"),
                    own_or(*severity, name, advice()),
                );
                continue;
            }
            Err(error) => return Err(error),
        };
        resolved += 1;
        slowest = slowest.max(millis);
        chart.point(name, [millis]);
        let cells =
            [Value::Code(name.clone()), (*of).into(), Value::Code(addresses.join(", ")), millis.into()];
        if millis > WARN_MILLIS {
            table.marked_row(Verdict::Warn, cells);
            let took = quantity::duration(millis / 1000.0);
            finding.warn(format!("the name of {of}, {name}, took {took} to resolve"), advice());
        } else {
            table.row(cells);
        }
    }
    finding.summary = match resolved {
        0 => format!("none of {} resolved", quantity::count(names.len() as u64, "name", "names")),
        _ => format!(
            "{resolved} of {} resolved, the slowest in {}",
            quantity::count(names.len() as u64, "name", "names"),
            quantity::duration(slowest / 1000.0)
        ),
    };
    if !chart.points.is_empty() {
        finding.show(Evidence::Series(chart));
    }
    finding.show(Evidence::Table(table));
    finding.show(Evidence::Fields(servers));
    Ok(finding)
}

/// The host's own name belongs in its own files, not in a name server's.
fn own_or(severity: Verdict, name: &str, advice: Advice) -> Advice {
    if severity == Verdict::Fail {
        return advice;
    }
    let command = format!("echo 127.0.1.1 {} >> /etc/hosts", quoted(name));
    Advice::run(
        "Name this host in /etc/hosts, or add `myhostname` to the hosts line of /etc/nsswitch.conf.",
        command,
    )
}

fn judge_servers(host: &Host, finding: &mut Finding) -> Result<Fields> {
    let resolv = host.value("/etc/resolv.conf").if_any()?.unwrap_or_default();
    let mut servers = values(&resolv, "nameserver");
    let asked_by_stub = servers.iter().any(|server| STUBS.contains(server));
    let upstream =
        if asked_by_stub { host.value("/run/systemd/resolve/resolv.conf").if_any()? } else { None };
    let upstream = upstream.as_deref().map(|text| values(text, "nameserver"));
    servers
        .retain(|server| server.split('%').next().is_some_and(|address| address.parse::<IpAddr>().is_ok()));

    let advice = || Advice::run(CHECK.advice, "cat /etc/resolv.conf; resolvectl status");
    if servers.is_empty() {
        finding
            .warn("/etc/resolv.conf names no name server, so only one on this host would be asked", advice());
    } else if servers.len() > SERVERS_ASKED {
        finding.note(
            format!(
                "/etc/resolv.conf names {} name servers, and only the first {SERVERS_ASKED} are asked",
                servers.len()
            ),
            advice(),
        );
    }
    if upstream.as_ref().is_some_and(Vec::is_empty) {
        finding.warn("systemd-resolved has no name server to ask", advice());
    }
    let nsswitch = host.read("/etc/nsswitch.conf").if_any()?.unwrap_or_default();
    if nsswitch.lines().any(|line| line.starts_with("hosts:") && line.contains(PLACEHOLDER)) {
        host.note_masked("hosts in /etc/nsswitch.conf");
    }
    let order = nsswitch.lines().find_map(|line| line.strip_prefix("hosts:")).map(str::trim);
    let list =
        |words: Vec<&str>| if words.is_empty() { Value::Nothing } else { Value::Code(words.join(", ")) };
    Ok(Fields::new("How names are looked up")
        .row("order", order)
        .row("name servers", list(servers))
        .row("which ask", upstream.map_or(Value::Nothing, list))
        .row("search", list(values(&resolv, "search")))
        .row("options", list(values(&resolv, "options"))))
}

/// Every word after the keyword, over all of its lines (resolv.conf(5)).
fn values<'a>(text: &'a str, keyword: &str) -> Vec<&'a str> {
    let words = text.lines().map(str::split_ascii_whitespace);
    words.filter_map(|mut words| (words.next() == Some(keyword)).then_some(words)).flatten().collect()
}

#[cfg(test)]
mod tests {
    use warden_host::{Data, Recorded, Request, Uname};

    use super::*;
    use crate::iggy::tests::settings;

    fn lookup(recorded: Recorded, name: &str, millis: f64) -> Recorded {
        let addresses = vec!["192.0.2.9".to_owned()];
        recorded.with(Request::Resolve { name: name.to_owned() }, Data::Addresses { addresses, millis })
    }

    fn node(resolv: &str) -> Recorded {
        let mut settings = settings();
        settings.supervisor_url = Some("https://warden.example/".to_owned());
        let word = |text: &str| text.to_owned();
        let uname = Uname {
            system: word("Linux"),
            node: word("node7"),
            release: word("6"),
            version: word(""),
            machine: word(""),
        };
        Recorded::complete()
            .settings(settings)
            .with(Request::Uname, Data::Uname(uname))
            .file("/etc/resolv.conf", resolv)
    }

    fn well() -> Recorded {
        lookup(lookup(node("# by hand\nnameserver 192.0.2.53\n"), "warden.example", 12.5), "node7", 0.2)
    }

    fn examined(recorded: Recorded) -> (Verdict, Vec<String>) {
        let finding = run(&recorded.host()).unwrap();
        (finding.verdict(), finding.problems.into_iter().map(|problem| problem.text).collect())
    }

    #[test]
    fn names_that_resolve_pass() {
        let finding = run(&well().host()).unwrap();
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "2 of 2 names resolved, the slowest in 12.5 ms")
        );
    }

    #[test]
    fn a_supervisor_without_an_address_fails_and_the_own_name_warns() {
        let gone = |name: &str, cause| well().without(Request::Resolve { name: name.to_owned() }, cause);
        let text = "the name of the Supervisor, warden.example, does not resolve: no answer in time";
        assert_eq!(examined(gone("warden.example", Cause::TimedOut)), (Verdict::Fail, vec![text.to_owned()]));
        let text = "the name of this host, node7, does not resolve: does not exist";
        assert_eq!(examined(gone("node7", Cause::Absent)), (Verdict::Warn, vec![text.to_owned()]));
    }

    #[test]
    fn a_slow_lookup_warns() {
        assert_eq!(examined(lookup(well(), "warden.example", 1000.0)).0, Verdict::Pass);
        let text = "the name of the Supervisor, warden.example, took 5 s to resolve";
        assert_eq!(
            examined(lookup(well(), "warden.example", 5004.0)),
            (Verdict::Warn, vec![text.to_owned()])
        );
    }

    #[test]
    fn too_few_and_too_many_name_servers_are_said() {
        let text = "/etc/resolv.conf names no name server, so only one on this host would be asked";
        assert_eq!(
            examined(well().file("/etc/resolv.conf", "nameserver\nnameserver x\n")),
            (Verdict::Warn, vec![text.to_owned()])
        );
        let many = "nameserver 192.0.2.1\n".repeat(4);
        assert_eq!(examined(well().file("/etc/resolv.conf", &many)).0, Verdict::Note);
        let stub = well()
            .file("/etc/resolv.conf", "nameserver 127.0.0.53\n")
            .file("/run/systemd/resolve/resolv.conf", "search .\n");
        assert_eq!(
            examined(stub),
            (Verdict::Warn, vec!["systemd-resolved has no name server to ask".to_owned()])
        );
    }

    #[test]
    fn what_may_not_be_asked_is_an_error() {
        let denied = well().without(Request::Resolve { name: "node7".to_owned() }, Cause::Unrecorded);
        assert!(run(&denied.host()).is_err());
        assert!(run(&well().denied("/etc/resolv.conf").host()).is_err());
        assert!(run(&Recorded::complete().host()).is_err());
    }
}
