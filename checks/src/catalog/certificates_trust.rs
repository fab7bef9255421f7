//! certificates-trust: whom does this machine trust, and is the Supervisor among them.

use warden_certificates::store::{Store, Trust, store, trust};
use warden_certificates::{self as certificate, Certificate, Fault, Signature, path};
use warden_host::quantity::count;
use warden_host::{Authorities, Host};

use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Fields, Finding, Read, Result, Value, Verdict};

pub const CHECK: Check = Check {
    id: "certificates-trust",
    area: Area::Certificates,
    title: "Does this machine trust the right authorities?",
    why: "The agent trusts its Supervisor by the system's store of authorities, unless it was told of an authority of \
          its own. A store that is missing or stale, or a proxy that puts its own certificate in between, cuts the node off from its Supervisor.",
    reads: &[
        Read::Tls,
        Read::Path("/etc/ssl/certs/ca-certificates.crt"),
        Read::Path("/etc/pki/tls/certs/ca-bundle.crt"),
        Read::Path("/etc/ssl/ca-bundle.pem"),
        Read::Path("/etc/ssl/cert.pem"),
    ],
    thresholds: &[
        "fails when the Supervisor's chain does not end at an authority of the store, does not bear its name, or is out of date",
        "fails, where the agent is told of the Supervisor's authority (agent.ca_file, or at enrolment), when the chain does not \
         end at that one, whatever the store holds",
        "warns when there is no store of authorities, or the Supervisor's certificate or such an authority expires in 30 days",
        "notes a Supervisor that is reached without TLS",
    ],
    advice: "Install the package ca-certificates; put an authority of your own into /usr/local/share/ca-certificates and run update-ca-certificates.",
    deadline: DEADLINE,
    run,
};

fn run(host: &Host) -> Result<Finding> {
    let now = host.clock()?.seconds();
    let settings = host.settings()?;
    let mut finding = Finding::new("");
    let store = store(host)?;
    let authorities = store.as_ref().map(|store| store.authorities.as_slice()).unwrap_or_default();
    let expired = authorities.iter().filter(|one| one.not_after < now).count();
    match &store {
        Some(Store { path, authorities, unreadable }) => {
            let number = authorities.len() as u64;
            finding.summary = format!("{path} trusts {}", count(number, "authority", "authorities"));
            if *unreadable > 0 {
                let text = format!(
                    "{} of {path} could not be read and {} left out",
                    count(*unreadable as u64, "block", "blocks"),
                    if *unreadable == 1 { "is" } else { "are" }
                );
                let advice = "Write the bundle anew; programs leave out what they cannot read.";
                finding.note(text, Advice::run(advice, "update-ca-certificates --fresh || update-ca-trust"));
            }
        }
        None => {
            finding.summary = "there is no store of authorities".to_owned();
            let advice = Advice::run(
                "Install the authorities of the distribution.",
                "apt-get install ca-certificates",
            );
            if settings.supervisor_authorities.is_some() {
                finding.note(
                    "there is no store of authorities in any of the usual places: TLS to anywhere but the Supervisor fails",
                    advice,
                );
            } else {
                finding.warn(
                    "there is no store of authorities in any of the usual places: TLS to anywhere fails",
                    advice,
                );
            }
        }
    }
    let fields = Fields::new("Store")
        .row("file", store.as_ref().map(|store| Value::Code(store.path.to_owned())))
        .row("authorities", authorities.len())
        .row("expired", expired);
    finding.show(Evidence::Fields(fields));
    if let Some(url) = &settings.supervisor_url {
        let named = settings.supervisor_authorities.as_ref();
        judge_supervisor(host, &mut finding, url, store.as_ref(), named, now)?;
    }
    Ok(finding)
}

fn judge_supervisor(
    host: &Host,
    finding: &mut Finding,
    url: &str,
    store: Option<&Store>,
    named: Option<&Authorities>,
    now: i64,
) -> Result<()> {
    let Some((name, address)) = endpoint(url) else {
        let advice = Advice::text("Give the Supervisor a certificate and an https:// address.");
        finding.note(
            "the Supervisor is reached without TLS: whoever is in between reads and changes everything",
            advice,
        );
        return Ok(());
    };
    let answer = host.tls(&address, &name)?;
    let chain = certificate::parse_pem(&format!("what {address} serves"), &answer.chain.join("\n"))?;
    let look = || {
        Advice::run(
            "Look at what is served; if a proxy is in between, its authority must be in the store.",
            format!("openssl s_client -showcerts -connect {address} -servername {name} </dev/null"),
        )
    };
    let mut table = certificate::table("The Supervisor's chain");
    let pinned = named.map(|named| pinned(finding, named, now)).transpose()?;
    let of_store = store.map(|store| store.authorities.as_slice()).unwrap_or_default();
    // The agent believes an authority that it was told of also when that has run out.
    let (authorities, since) = pinned.as_deref().map_or((of_store, now), |pinned| (pinned, i64::MIN));
    let (trusted, faults) = trusted(&chain, authorities, now, since);
    for (at, one) in chain.iter().enumerate() {
        let of_this = faults.iter().filter(|fault| fault.at == at);
        match of_this.clone().map(|fault| fault.severity).max() {
            Some(severity) => table.marked_row(severity, certificate::cells(&address, one)),
            None => table.row(certificate::cells(&address, one)),
        }
        for fault in of_this {
            let text = format!("{} of the Supervisor's chain {}", one.subject, fault.text);
            finding.problem(fault.severity, text, look());
        }
    }
    if !chain[0].covers(&name) {
        let text =
            format!("the Supervisor is called {name}, its certificate is for {}", chain[0].names.join(", "));
        finding.fail(text, look());
    }
    let top = path::best(&chain, now).path.last().map_or("", |&last| chain[last].issuer.as_str());
    let advice = || {
        Advice::run(
            "If the authority is your own, add it to the store or name it in Warden's configuration.",
            "update-ca-certificates",
        )
    };
    match trusted {
        Trust::Trusted => {}
        Trust::Unchecked(kind) => finding.note(
            format!("whether this machine trusts the Supervisor's certificate was not checked: a signature on its path is {kind}"),
            look(),
        ),
        Trust::Unknown if named.is_some() => finding.fail(
            format!(
                "the Supervisor's certificate leads to {top}, which is not the authority that the agent was told of by {}",
                named.map_or("", |named| named.named_by.as_str())
            ),
            Advice::run(
                "Name the authority that signed it as agent.ca_file, or enrol again with --ca-file or --ca-fingerprint.",
                "warden doctor",
            ),
        ),
        Trust::Unknown if store.is_some_and(|store| store.unreadable > 0) => finding.warn(
            format!("the Supervisor's certificate leads to {top}, which is not among the authorities that could be read"),
            advice(),
        ),
        Trust::Unknown => finding.fail(
            format!("the Supervisor's certificate leads to {top}, which this machine does not trust"),
            advice(),
        ),
    }
    if finding.verdict() == Verdict::Pass {
        let by = named.map_or_else(|| "with them".to_owned(), |named| format!("by {}", named.named_by));
        finding.summary.push_str(&format!(", and {by} the Supervisor at {address}"));
    }
    finding.show(Evidence::Table(table));
    Ok(())
}

/// The authorities that the agent was told of; one that runs out is warned of.
fn pinned(finding: &mut Finding, named: &Authorities, now: i64) -> Result<Vec<Certificate>> {
    let Authorities { named_by, pem } = named;
    let pem = pem.as_ref().map_err(|reason| Error::parse(named_by.as_str(), reason.as_str()))?;
    let authorities = certificate::parse_pem(named_by, pem)?;
    for one in &authorities {
        if let Some((_, text)) = one.judge_time(now) {
            let advice =
                "Make a new authority, tell every node of both, and then serve a certificate of the new one.";
            finding.warn(
                format!("{}, by which the agent knows its Supervisor ({named_by}), {text}", one.subject),
                Advice::text(advice),
            );
        }
    }
    Ok(authorities)
}

/// Whether a path over what is served leads to an authority of the store, and the faults of the path that serves
/// best: what clients do not need does no harm.
/// Authorities count that are in force at `since`.
fn trusted(chain: &[Certificate], authorities: &[Certificate], now: i64, since: i64) -> (Trust, Vec<Fault>) {
    let mut best = (Trust::Unknown, path::best(chain, now).faults);
    for path in path::paths(chain) {
        for length in 1..=path.len() {
            let begin = &path[..length];
            let by_store = trust(&chain[begin[length - 1]], authorities, since);
            let faults = path::faults(chain, begin, now);
            let worst = |faults: &[Fault]| faults.iter().map(|fault| fault.severity).max();
            let unchecked =
                begin.windows(2).find_map(|pair| match chain[pair[0]].signature_by(&chain[pair[1]]) {
                    Signature::Unchecked(kind) => Some(kind),
                    Signature::Good | Signature::Broken => None,
                });
            let by_store = match (by_store, unchecked) {
                (Trust::Trusted, Some(kind)) => Trust::Unchecked(kind),
                (by_store, _) => by_store,
            };
            let rank = |trust: &Trust, faults: &[Fault]| {
                let rank = match trust {
                    Trust::Trusted => 0,
                    Trust::Unchecked(_) => 1,
                    Trust::Unknown => 2,
                };
                (rank, worst(faults))
            };
            if rank(&by_store, &faults) < rank(&best.0, &best.1) {
                best = (by_store, faults);
            }
        }
    }
    best
}

/// Name and `host:port` of an https or wss URL.
fn endpoint(url: &str) -> Option<(String, String)> {
    let rest = url.strip_prefix("https://").or_else(|| url.strip_prefix("wss://"))?;
    let authority = rest.split(['/', '?', '#']).next()?;
    let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
    let has_port =
        authority.rsplit_once(':').is_some_and(|(_, port)| port.bytes().all(|byte| byte.is_ascii_digit()));
    let address = if has_port { authority.to_owned() } else { format!("{authority}:443") };
    let name = address.rsplit_once(':')?.0.trim_matches(['[', ']']).to_owned();
    (!name.is_empty()).then_some((name, address))
}

#[cfg(test)]
mod tests {
    use warden_certificates::made::{Made, NOW, authority, issued};
    use warden_certificates::store::STORES;
    use warden_host::{Cause, Data, Recorded, Request, TlsAnswer};

    use super::*;
    use crate::iggy::tests::settings;

    fn machine(store: &Made, supervisor: Option<&str>) -> Recorded {
        let mut settings = settings();
        settings.supervisor_url = supervisor.map(str::to_owned);
        Recorded::complete().settings(settings).at(NOW, 9000).file(STORES[0], &store.pem)
    }

    fn request() -> Request {
        Request::Tls { address: "sup.example:8443".to_owned(), name: "sup.example".to_owned() }
    }

    fn serving(store: &Made, chain: &[&Made]) -> Recorded {
        let chain = chain.iter().map(|made| made.pem.clone()).collect();
        let answer = TlsAnswer { protocol: "TLSv1.3".to_owned(), cipher: String::new(), chain, millis: 9.0 };
        machine(store, Some("https://sup.example:8443/v1")).with(request(), Data::Tls(answer))
    }

    fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    #[test]
    fn a_supervisor_of_a_trusted_authority_passes_and_so_does_a_machine_without_one() {
        let root = authority("root");
        let leaf = issued(&root, &["sup.example"], (2027, 6, 1));
        let finding = of(serving(&root, &[&leaf]));
        assert_eq!(finding.verdict(), Verdict::Pass);
        assert_eq!(
            finding.summary,
            format!("{} trusts 1 authority, and with them the Supervisor at sup.example:8443", STORES[0])
        );
        assert_eq!(of(machine(&root, None)).verdict(), Verdict::Pass);
    }

    #[test]
    fn an_unknown_authority_another_name_and_a_past_end_fail() {
        let (root, other) = (authority("root"), authority("other"));
        let leaf = issued(&root, &["sup.example"], (2027, 6, 1));
        let unknown = of(serving(&other, &[&leaf, &root]));
        assert_eq!(
            unknown.problems[0].text,
            "the Supervisor's certificate leads to CN=root, which this machine does not trust"
        );
        let misnamed = issued(&root, &["else.example"], (2027, 6, 1));
        assert_eq!(
            of(serving(&root, &[&misnamed])).problems[0].text,
            "the Supervisor is called sup.example, its certificate is for else.example"
        );
        let past = issued(&root, &["sup.example"], (2026, 11, 1));
        assert_eq!(of(serving(&root, &[&past])).verdict(), Verdict::Fail);
        let soon = issued(&root, &["sup.example"], (2026, 12, 10));
        assert_eq!(of(serving(&root, &[&soon])).verdict(), Verdict::Warn);
    }

    #[test]
    fn an_authority_that_the_agent_was_told_of_counts_alone() {
        let (root, other) = (authority("root"), authority("other"));
        let leaf = issued(&root, &["sup.example"], (2027, 6, 1));
        let told = |store: &Made, pem: std::result::Result<String, String>| {
            let mut settings = settings();
            settings.supervisor_url = Some("https://sup.example:8443/v1".to_owned());
            settings.supervisor_authorities = Some(Authorities { named_by: "the enrolment".to_owned(), pem });
            run(&serving(store, &[&leaf]).settings(settings).host())
        };
        let good = told(&other, Ok(root.pem.clone())).unwrap();
        assert_eq!(good.verdict(), Verdict::Pass);
        assert!(
            good.summary.ends_with(", and by the enrolment the Supervisor at sup.example:8443"),
            "{}",
            good.summary
        );
        let wrong = told(&root, Ok(other.pem.clone())).unwrap();
        assert_eq!(
            wrong.problems[0].text,
            "the Supervisor's certificate leads to CN=root, which is not the authority that the agent was told of by the \
             enrolment"
        );
        let unread = told(&root, Err("permission denied".to_owned())).unwrap_err();
        assert!(unread.to_string().contains("permission denied"), "{unread}");
    }

    #[test]
    fn without_a_store_a_supervisor_that_the_agent_was_told_of_is_reached_all_the_same() {
        let root = authority("root");
        let leaf = issued(&root, &["sup.example"], (2027, 6, 1));
        let mut settings = settings();
        settings.supervisor_url = Some("https://sup.example:8443".to_owned());
        settings.supervisor_authorities =
            Some(Authorities { named_by: "the enrolment".to_owned(), pem: Ok(root.pem.clone()) });
        let chain = vec![leaf.pem.clone()];
        let answer = TlsAnswer { protocol: "TLSv1.3".to_owned(), cipher: String::new(), chain, millis: 9.0 };
        let bare = Recorded::complete().settings(settings).at(NOW, 9000).with(request(), Data::Tls(answer));
        assert_eq!(of(bare).verdict(), Verdict::Note);
    }

    #[test]
    fn no_store_warns_and_no_tls_is_noted() {
        let bare = Recorded::complete().settings(settings()).at(NOW, 9000);
        assert_eq!(of(bare).verdict(), Verdict::Warn);
        let root = authority("root");
        assert_eq!(of(machine(&root, Some("http://sup.example"))).verdict(), Verdict::Note);
    }

    #[test]
    fn a_store_that_may_not_be_read_and_a_silent_supervisor_are_unknown() {
        let root = authority("root");
        assert!(run(&machine(&root, None).denied(STORES[0]).host()).is_err());
        let silent = machine(&root, Some("https://sup.example:8443")).without(request(), Cause::TimedOut);
        assert!(run(&silent.host()).is_err());
    }

    #[test]
    fn an_address_is_taken_from_a_url() {
        let of = |url: &str| endpoint(url).map(|(name, address)| format!("{name} {address}"));
        assert_eq!(of("https://a.example/x").as_deref(), Some("a.example a.example:443"));
        assert_eq!(of("wss://u:p@[::1]:8443/x").as_deref(), Some("::1 [::1]:8443"));
        assert_eq!((of("http://a"), of("https://")), (None, None));
    }
}
