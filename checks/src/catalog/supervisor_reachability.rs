//! supervisor-reachability: can this node reach its Supervisor, and which step of the way fails.

use std::time::Duration;

use warden_host::{Cause, Failure, Host, IfAny};

use crate::endpoint::Endpoint;
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
    reads: &[Read::Resolve, Read::Connect, Read::Tls, Read::Http],
    thresholds: &[
        "fails at the first step (name, connection, TLS, HTTP) that does not work",
        "warns when a step takes over 1 s",
        "warns when its clock and this one differ by more than 5 s, and fails above 5 min",
        "notes a Supervisor without TLS",
    ],
    advice: "Follow the failing step: name server, route and firewall, then certificate and protocol.",
    // Four steps, each of which may take a timeout of its own.
    deadline: Duration::from_secs(30),
    run,
};

/// One behind a proxy, or that wants a certificate, is not called by other ways than the agent's.
const UNKNOWN: &str =
    "no Supervisor is configured that the agent calls without a proxy and a certificate of its own";
const WARN_MILLIS: f64 = 1000.0;

fn run(host: &Host) -> Result<Finding> {
    let Some(url) = host.settings().if_any()?.and_then(|settings| settings.supervisor_url) else {
        return Ok(Finding::skip(UNKNOWN));
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
    if way.is_open {
        ask_for_health(host, &endpoint, &mut way)?;
    }
    if !endpoint.tls {
        let advice = "Serve it over https: requests and snapshots cross the network readable.";
        way.finding.note(format!("the Supervisor at {address} is reached without TLS"), Advice::text(advice));
    }
    Ok(way.finding(&endpoint))
}

/// What a signed request or a presigned URL forgives is counted in minutes.
const CLOCK_WARN_SECONDS: i64 = 5;
const CLOCK_FAIL_SECONDS: i64 = 300;

fn ask_for_health(host: &Host, endpoint: &Endpoint, way: &mut Way) -> Result<()> {
    let scheme = if endpoint.tls { "https" } else { "http" };
    let url = format!("{scheme}://{}/health", endpoint.address());
    let answer = host.http(&url);
    let date = answer.as_ref().ok().and_then(|answer| answer.date);
    let healthy = answer.and_then(|answer| match answer.status {
        200 => Ok((answer.millis, "GET /health: 200".to_owned())),
        status => {
            let cause = Cause::Other(format!("GET /health answered {status}"));
            Err(Failure { what: url.clone(), cause }.into())
        }
    });
    let advice = "See the Supervisor's own log; a proxy on the way may answer in its place.";
    way.step("HTTP", healthy, Advice::run(advice, format!("curl -sv '{url}'")))?;

    let Some(date) = date else { return Ok(()) };
    let ahead = host.clock()?.seconds().saturating_sub(date);
    let off = ahead.saturating_abs();
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    let text = || {
        let off = quantity::duration(off as f64);
        format!("this host's clock is {off} {direction} that of the Supervisor at {}", way.address)
    };
    let advice = Advice::run(
        "Let both follow a time server; see system-time.",
        "timedatectl timesync-status || chronyc tracking",
    );
    if off > CLOCK_FAIL_SECONDS {
        let text = text();
        way.finding.fail(text, advice);
    } else if off > CLOCK_WARN_SECONDS {
        let text = text();
        way.finding.warn(text, advice);
    }
    Ok(())
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
    use warden_host::{Data, HttpAnswer, Recorded, Request, TlsAnswer};

    use super::*;
    use crate::iggy::tests::settings;

    const NOW: i64 = 1_795_262_400;
    const ADDRESS: &str = "warden.example:443";

    fn configured(url: &str) -> Recorded {
        let mut settings = settings();
        settings.supervisor_url = Some(url.to_owned());
        Recorded::complete().settings(settings).at(NOW, 90_000)
    }

    fn health(base: &str) -> Request {
        Request::Http { url: format!("{base}/health") }
    }

    fn healthy(status: u16, date: i64) -> Data {
        Data::Http(HttpAnswer { status, body: String::new(), millis: 3.0, date: Some(date) })
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
            .with(health("https://warden.example:443"), healthy(200, NOW))
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
        let expected = "warden.example:443 was reached: name 2 ms, connection 20 ms, TLS 45 ms, HTTP 3 ms";
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
    fn a_supervisor_that_is_not_well_fails() {
        let unwell =
            reached(URL, 2.0, 20.0, 45.0).with(health("https://warden.example:443"), healthy(503, NOW));
        let (verdict, _, texts) = examined(unwell);
        let text =
            "the way to the Supervisor at warden.example:443 ends at its HTTP: GET /health answered 503";
        assert_eq!((verdict, texts), (Verdict::Fail, vec![text.to_owned()]));
    }

    #[test]
    fn clocks_that_differ_warn_then_fail() {
        let off_by = |seconds| {
            let answer = healthy(200, NOW - seconds);
            examined(reached(URL, 2.0, 20.0, 45.0).with(health("https://warden.example:443"), answer))
        };
        assert_eq!((off_by(5).0, off_by(-5).0), (Verdict::Pass, Verdict::Pass));
        let text = "this host's clock is 6 s ahead of that of the Supervisor at warden.example:443";
        assert_eq!((off_by(6).0, off_by(6).2), (Verdict::Warn, vec![text.to_owned()]));
        assert_eq!(off_by(-301).0, Verdict::Fail);
    }

    #[test]
    fn an_address_needs_no_lookup_and_plain_http_is_noted() {
        let recorded = configured("http://user:secret@10.0.0.1:81")
            .with(Request::Connect { address: "10.0.0.1:81".to_owned() }, Data::Connected { millis: 1.0 })
            .with(health("http://10.0.0.1:81"), healthy(200, NOW));
        let (verdict, summary, texts) = examined(recorded);
        assert_eq!(
            (verdict, summary.as_str()),
            (Verdict::Note, "10.0.0.1:81 was reached: connection 1 ms, HTTP 3 ms")
        );
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
