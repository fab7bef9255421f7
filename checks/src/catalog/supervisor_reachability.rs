//! supervisor-reachability: can this node reach its Supervisor, and which step of the way fails.

use std::time::Duration;

use crate::endpoint::Endpoint;
use crate::host::{Cause, Failure, Host, IfAny};
use crate::{
    Advice, Area, Check, Error, Evidence, Fields, Finding, Read, Result, Series, Table, Unit, Value, Verdict,
    quantity,
};

pub const CHECK: Check = Check {
    id: "supervisor-reachability",
    area: Area::Supervisor,
    title: "Can this node reach its Supervisor?",
    why: "The node dials its Supervisor; nothing dials the node. While it cannot, Iggy runs on untouched, and the node \
          takes no requests and delivers no snapshots.",
    reads: &[Read::Resolve, Read::Connect, Read::Tls],
    thresholds: &[
        "fails at the first step (name, connection, TLS) that does not work",
        "warns when a step takes over 1 s",
        "notes a Supervisor without TLS",
    ],
    advice: "Follow the failing step: name server, route and firewall, then certificate and protocol.",
    // Three steps, each of which may take a timeout of its own.
    deadline: Duration::from_secs(30),
    run,
};

const WARN_MILLIS: f64 = 1000.0;

fn run(host: &Host) -> Result<Finding> {
    let Some(url) = host.settings().if_any()?.and_then(|settings| settings.supervisor_url) else {
        return Ok(Finding::skip("no Supervisor is configured"));
    };
    let Some(endpoint) = Endpoint::parse(&url) else {
        let mut finding = Finding::new("the Supervisor's URL cannot be used");
        let advice = "Give `https://name[:port]` in the configuration of the agent.";
        finding.fail(
            "the Supervisor's URL is neither http nor https with a host and a port",
            Advice::text(advice),
        );
        return Ok(finding);
    };
    let address = endpoint.address();
    let mut way = Way::new(&address);

    if !endpoint.is_address() {
        let advice =
            Advice::run("Check the name and the name servers.", format!("getent ahosts '{}'", endpoint.host));
        let answer = host.resolve(&endpoint.host).map(|(addresses, millis)| (millis, addresses.join(", ")));
        way.step("name", answer, advice)?;
    }
    if way.is_open {
        let advice = "Check the route, the firewalls on the way, and that the Supervisor runs.";
        let Endpoint { host: name, port, .. } = &endpoint;
        let command =
            format!("ip route get $(getent ahosts {name} | cut -d' ' -f1 | head -n 1); nc -vz {name} {port}");
        way.step(
            "connection",
            host.connect(&address).map(|millis| (millis, address.clone())),
            Advice::run(advice, command),
        )?;
    }
    if way.is_open && endpoint.tls {
        let command =
            format!("openssl s_client -connect '{address}' -servername '{}' </dev/null", endpoint.host);
        let answer = host.tls(&address, &endpoint.host).map(|tls| {
            let chain = quantity::count(tls.chain.len() as u64, "certificate", "certificates");
            (tls.millis, format!("{}, {}, {chain}", tls.protocol, tls.cipher))
        });
        way.step(
            "TLS",
            answer,
            Advice::run("See what it offers; a proxy on the way may answer in its place.", command),
        )?;
    }
    if !endpoint.tls {
        let advice = "Serve it over https: requests and snapshots cross the network readable.";
        way.finding.note(format!("the Supervisor at {address} is reached without TLS"), Advice::text(advice));
    }
    Ok(way.finding(&endpoint))
}

/// The steps taken so far; the first that fails ends it.
struct Way<'a> {
    address: &'a str,
    finding: Finding,
    table: Table,
    chart: Series,
    taken: Vec<(&'static str, f64)>,
    is_open: bool,
}

impl Way<'_> {
    fn new(address: &str) -> Way<'_> {
        let mut chart = Series::bars("Time of each step", Unit::Milliseconds, ["step"]);
        chart.limit = Some(WARN_MILLIS);
        let table = Table::new("Steps", ["step", "ms", "answer"]);
        Way { address, finding: Finding::new(""), table, chart, taken: Vec::new(), is_open: true }
    }

    /// Only what the way itself answers is a verdict on it; what Warden may not ask stays an error.
    fn step(&mut self, name: &'static str, answer: Result<(f64, String)>, advice: Advice) -> Result<()> {
        let cause = match answer {
            Ok((millis, said)) => {
                self.pass(name, millis, said, advice);
                return Ok(());
            }
            Err(Error::Host(Failure {
                cause: cause @ (Cause::Absent | Cause::TimedOut | Cause::Other(_)),
                ..
            })) => cause,
            Err(error) => return Err(error),
        };
        self.is_open = false;
        self.table.marked_row(Verdict::Fail, [name.into(), Value::Nothing, cause.to_string().into()]);
        self.finding.fail(
            format!("the way to the Supervisor at {} ends at its {name}: {cause}", self.address),
            advice,
        );
        Ok(())
    }

    fn pass(&mut self, name: &'static str, millis: f64, said: String, advice: Advice) {
        self.taken.push((name, millis));
        self.chart.point(name, [millis]);
        let cells = [name.into(), millis.into(), said.into()];
        if millis > WARN_MILLIS {
            self.table.marked_row(Verdict::Warn, cells);
            let took = quantity::duration(millis / 1000.0);
            self.finding
                .warn(format!("the {name} of the Supervisor at {} took {took}", self.address), advice);
        } else {
            self.table.row(cells);
        }
    }

    fn finding(mut self, endpoint: &Endpoint) -> Finding {
        let steps: Vec<String> = self
            .taken
            .iter()
            .map(|(name, millis)| format!("{name} {}", quantity::duration(millis / 1000.0)))
            .collect();
        let reached = if self.is_open { "was reached" } else { "was not reached" };
        self.finding.summary = match steps.as_slice() {
            [] => format!("{} {reached}", self.address),
            steps => format!("{} {reached}: {}", self.address, steps.join(", ")),
        };
        if !self.chart.points.is_empty() {
            self.finding.show(Evidence::Series(self.chart));
        }
        self.finding.show(Evidence::Table(self.table));
        let fields = Fields::new("Supervisor")
            .row("host", endpoint.host.as_str())
            .row("port", i64::from(endpoint.port))
            .row("TLS", endpoint.tls);
        self.finding.show(Evidence::Fields(fields));
        self.finding
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::{Data, Recorded, Request, TlsAnswer};
    use crate::iggy::tests::settings;

    const ADDRESS: &str = "warden.example:443";

    fn configured(url: &str) -> Recorded {
        let mut settings = settings();
        settings.supervisor_url = Some(url.to_owned());
        Recorded::complete().settings(settings)
    }

    fn resolve() -> Request {
        Request::Resolve { name: "warden.example".to_owned() }
    }

    fn connect() -> Request {
        Request::Connect { address: ADDRESS.to_owned() }
    }

    fn handshake() -> Request {
        Request::Tls { address: ADDRESS.to_owned(), name: "warden.example".to_owned() }
    }

    /// Each step in so many milliseconds.
    fn reached(url: &str, name: f64, connection: f64, tls: f64) -> Recorded {
        let word = |text: &str| text.to_owned();
        let answer = TlsAnswer {
            protocol: word("TLSv1.3"),
            cipher: word("TLS13_AES_256_GCM_SHA384"),
            chain: vec![word("PEM")],
            millis: tls,
        };
        configured(url)
            .with(resolve(), Data::Addresses { addresses: vec![word("192.0.2.9")], millis: name })
            .with(connect(), Data::Connected { millis: connection })
            .with(handshake(), Data::Tls(answer))
    }

    fn examined(recorded: Recorded) -> (Verdict, String, Vec<String>) {
        let finding = run(&recorded.host()).unwrap();
        (
            finding.verdict(),
            finding.summary.clone(),
            finding.problems.into_iter().map(|problem| problem.text).collect(),
        )
    }

    const URL: &str = "https://warden.example/";

    #[test]
    fn a_supervisor_that_answers_passes_and_each_step_is_timed() {
        let (verdict, summary, _) = examined(reached(URL, 2.0, 20.0, 45.0));
        let expected = "warden.example:443 was reached: name 2 ms, connection 20 ms, TLS 45 ms";
        assert_eq!((verdict, summary.as_str()), (Verdict::Pass, expected));
    }

    #[test]
    fn a_slow_step_warns() {
        assert_eq!(examined(reached(URL, 2.0, 1000.0, 45.0)).0, Verdict::Pass);
        let (verdict, _, texts) = examined(reached(URL, 2.0, 1500.0, 45.0));
        let text = "the connection of the Supervisor at warden.example:443 took 1.5 s";
        assert_eq!((verdict, texts), (Verdict::Warn, vec![text.to_owned()]));
    }

    #[test]
    fn the_first_step_that_fails_is_named_and_the_next_is_not_taken() {
        let ends = |request, cause| examined(reached(URL, 2.0, 20.0, 45.0).without(request, cause));
        let (verdict, summary, texts) = ends(resolve(), Cause::Absent);
        assert_eq!((verdict, summary.as_str()), (Verdict::Fail, "warden.example:443 was not reached"));
        assert_eq!(
            texts,
            ["the way to the Supervisor at warden.example:443 ends at its name: does not exist"]
        );
        let (_, summary, texts) = ends(connect(), Cause::TimedOut);
        assert_eq!(summary, "warden.example:443 was not reached: name 2 ms");
        assert_eq!(
            texts,
            ["the way to the Supervisor at warden.example:443 ends at its connection: no answer in time"]
        );
        let (_, _, texts) =
            ends(handshake(), Cause::Other("received fatal alert: HandshakeFailure".to_owned()));
        let text = "the way to the Supervisor at warden.example:443 ends at its TLS: received fatal alert: HandshakeFailure";
        assert_eq!(texts, [text]);
    }

    #[test]
    fn an_address_needs_no_lookup_and_plain_http_is_noted() {
        let recorded = configured("http://user:secret@10.0.0.1:81")
            .with(Request::Connect { address: "10.0.0.1:81".to_owned() }, Data::Connected { millis: 1.0 });
        let (verdict, summary, texts) = examined(recorded);
        assert_eq!((verdict, summary.as_str()), (Verdict::Note, "10.0.0.1:81 was reached: connection 1 ms"));
        assert_eq!(texts, ["the Supervisor at 10.0.0.1:81 is reached without TLS"]);
    }

    #[test]
    fn no_supervisor_is_skipped_and_an_unusable_url_fails() {
        assert_eq!(examined(Recorded::complete().settings(settings())).0, Verdict::Skip);
        assert_eq!(examined(configured("ftp://x")).0, Verdict::Fail);
    }

    #[test]
    fn what_was_never_asked_is_an_error() {
        assert!(run(&reached(URL, 2.0, 20.0, 45.0).without(connect(), Cause::Unrecorded).host()).is_err());
        assert!(run(&reached(URL, 2.0, 20.0, 45.0).without(connect(), Cause::Denied).host()).is_err());
    }
}
