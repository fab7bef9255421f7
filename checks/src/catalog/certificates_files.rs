//! certificates-files: are the certificates that the listeners are configured with good.

use crate::certificate::path::{Chain, Unneeded, best};
use crate::certificate::store::{Trust, store, trust};
use crate::certificate::{self, Certificate, CertificateFile};
use crate::host::{Cause, Failure, Host, Kind};
use crate::iggy::{self, Listener};
use crate::quantity::count;
use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Table, Verdict, quoted};

pub const CHECK: Check = Check {
    id: "certificates-files",
    area: Area::Certificates,
    title: "Are the certificates good?",
    why: "Iggy loads whatever certificate it is given and never says that it has expired: clients are refused, and the \
          server's log shows nothing. The sample certificate of Iggy's repository expired on 2026-11-17.",
    reads: &[
        Read::Iggy,
        Read::PublicKey,
        Read::Path("/**/*.pem"),
        Read::Path("/**/*.crt"),
        Read::Path("/**/*.cer"),
        Read::Path("/**/*.cert"),
        Read::Path("/**/*.key"),
        Read::Path("/etc/ssl/certs/ca-certificates.crt"),
        Read::Path("/etc/pki/tls/certs/ca-bundle.crt"),
        Read::Path("/etc/ssl/ca-bundle.pem"),
        Read::Path("/etc/ssl/cert.pem"),
    ],
    thresholds: &[
        "fails when a certificate is missing, broken, not valid yet, or expires in 7 days, on each path that clients can build",
        "fails when the key does not belong to the first certificate or every user may read it, when the chain is broken, and when an authority's limits forbid it",
        "warns when a certificate expires in 30 days, has no name that the listener is reached by, is weak (RSA under 2048 bits, SHA-1), or stands out of order",
        "notes a self-signed certificate, signatures that could not be checked, certificates that are not needed, and what could not be read",
    ],
    advice: "Renew the certificate, put the whole chain into the file, and restart the runtime: it reads it only at its start.",
    deadline: DEADLINE,
    run,
};

/// Names of keys that are opened for a configuration, which anybody's process may have brought.
const KEY_NAMES: [&str; 2] = [".pem", ".key"];

fn run(host: &Host) -> Result<Finding> {
    let listeners: Vec<Listener> =
        iggy::listeners(host).into_iter().filter(|one| one.certificate.is_some()).collect();
    if listeners.is_empty() {
        let none =
            Finding::skip("no listener of Iggy or its connectors is configured with a certificate file");
        return iggy::hidden_configuration(host).map_or(Ok(none), Err);
    }
    let now = host.clock()?.seconds();
    let mut finding = Finding::new("");
    let mut table = certificate::table("Certificates in the files");
    let (mut seen, mut read): (Vec<&str>, usize) = (Vec::new(), 0);
    let mut unread = None;
    for listener in &listeners {
        let Some(path) = listener.certificate.as_deref().filter(|path| !seen.contains(path)) else {
            continue;
        };
        seen.push(path);
        let file = match certificate::read(host, path) {
            Ok(file) => file,
            Err(Error::Host(failure)) if failure.cause != Cause::Absent => {
                finding.note(
                    format!("the certificate of the {} listener is unknown: {failure}", listener.name),
                    look_again(&failure),
                );
                unread = Some(Error::Host(failure));
                continue;
            }
            Err(error) => {
                let text =
                    format!("the certificate of the {} listener cannot be used: {error}", listener.name);
                finding.fail(
                    text,
                    Advice::run(
                        "Put the certificate there, or correct the path in the configuration.",
                        format!("ls -lL {}", quoted(path)),
                    ),
                );
                continue;
            }
        };
        read += 1;
        let leaf = &file.certificates[0];
        let key = listener.key.as_deref();
        let belongs = key.and_then(|key| judge_key(host, &mut finding, path, key, &file.certificates));
        judge_first(&mut finding, path, &file.certificates, belongs);
        judge_chain(host, &mut finding, &mut table, path, &file, now);
        judge_names(&mut finding, path, leaf, &listeners);
    }
    if let (0, Some(error), Verdict::Note) = (read, unread, finding.verdict()) {
        return Err(error);
    }
    finding.summary = match finding.problems.len() {
        0 => format!(
            "{} looked at, all good",
            count(seen.len() as u64, "certificate file", "certificate files")
        ),
        problems => format!(
            "{} looked at, {}",
            count(seen.len() as u64, "certificate file", "certificate files"),
            count(problems as u64, "problem", "problems")
        ),
    };
    finding.show(Evidence::Table(table));
    Ok(finding)
}

fn capability() -> Advice {
    Advice::text("Run as root or give Warden CAP_DAC_READ_SEARCH.")
}

fn look_again(failure: &Failure) -> Advice {
    match failure.cause {
        Cause::Denied => capability(),
        Cause::Absent | Cause::TimedOut | Cause::Unavailable(_) | Cause::Unrecorded | Cause::Other(_) => {
            Advice::text("Look at the file by hand; nothing is said of it here.")
        }
    }
}

fn list(path: &str) -> String {
    format!("openssl crl2pkcs7 -nocrl -certfile {} | openssl pkcs7 -print_certs -noout", quoted(path))
}

/// The server presents the first certificate as its own, whatever it is.
fn judge_first(finding: &mut Finding, path: &str, set: &[Certificate], belongs: Option<bool>) {
    let first = &set[0];
    let order = || Advice::run("Put the server's own certificate first.", list(path));
    let has_other = set.iter().any(|one| !one.is_authority);
    if first.is_authority && belongs.is_none() && (has_other || !first.is_self_issued()) {
        let text = format!(
            "the first certificate in {path} is that of an authority, {}: the server presents it as its own",
            first.subject
        );
        finding.fail(text, order());
    } else if first.is_authority && belongs == Some(true) && !first.is_self_issued() {
        let text = format!(
            "{} in {path} is marked as an authority: clients built on rustls refuse it as a server's certificate",
            first.subject
        );
        finding.warn(text, Advice::text("Have it issued again without CA:TRUE."));
    }
    if first.is_self_issued() {
        let marked = if first.is_authority {
            ", and clients built on rustls refuse it, because it is marked as an authority (CA:TRUE)"
        } else {
            ""
        };
        let text = format!("the certificate in {path} is self-signed: each client must be given it{marked}");
        finding.note(text, Advice::text("Have it issued by an authority that the clients know."));
    }
}

fn judge_chain(
    host: &Host,
    finding: &mut Finding,
    table: &mut Table,
    path: &str,
    file: &CertificateFile,
    now: i64,
) {
    let set = &file.certificates;
    let chain = best(set, now);
    let renew = || {
        Advice::run(
            "Renew it, then restart the runtime.",
            format!("openssl x509 -in {} -noout -subject -issuer -dates", quoted(path)),
        )
    };
    for (at, one) in set.iter().enumerate() {
        let faults = chain.faults.iter().filter(|fault| fault.at == at);
        let worst = faults.clone().map(|fault| fault.severity).max();
        for fault in faults {
            finding.problem(fault.severity, format!("{} in {path} {}", one.subject, fault.text), renew());
        }
        match worst {
            Some(severity) => table.marked_row(severity, certificate::cells(path, one)),
            None => table.row(certificate::cells(path, one)),
        }
        if let Some(weakness) = one.weakness.as_ref().filter(|_| chain.path.contains(&at)) {
            finding.warn(format!("{} in {path} is weak: {weakness}", one.subject), renew());
        }
    }
    judge_links(host, finding, path, set, &chain, now);
    for (at, kind) in &chain.unchecked {
        let text = format!("the signature of {} in {path} was not checked ({kind})", set[*at].subject);
        let advice = "This program has no means to check it, nor may clients that are built on rustls.";
        finding.note(text, Advice::run(advice, format!("openssl verify -untrusted {0} {0}", quoted(path))));
    }
    for label in &file.passed_over {
        let text = format!("a block of {path} is not read by the server: {label}");
        let advice = "Where it is needed, convert it: rustls reads blocks labelled CERTIFICATE only.";
        let command = format!("openssl x509 -in {}", quoted(path));
        finding.note(text, Advice::run(advice, command));
    }
    for (at, kind) in &chain.unneeded {
        let reason = match kind {
            Unneeded::Duplicate => "stands there twice",
            Unneeded::Unrelated if is_gap(&chain, set) => continue,
            Unneeded::Unrelated => "does not belong to the chain of the server's certificate",
            Unneeded::OtherPath if set[*at].not_after < now => {
                "has expired, and another path does without it"
            }
            Unneeded::OtherPath => continue,
        };
        let advice = Advice::run("Remove it when you renew the file.", list(path));
        finding.note(format!("{} in {path} {reason}", set[*at].subject), advice);
    }
}

/// Whether nothing in the set leads on from the server's certificate although there are authorities in it.
fn is_gap(chain: &Chain, set: &[Certificate]) -> bool {
    let unrelated = |(at, kind): &(usize, Unneeded)| *kind == Unneeded::Unrelated && set[*at].is_authority;
    chain.path.len() == 1 && !set[0].is_self_issued() && chain.unneeded.iter().any(unrelated)
}

fn judge_links(host: &Host, finding: &mut Finding, path: &str, set: &[Certificate], chain: &Chain, now: i64) {
    let order = || {
        Advice::run("Put the server's certificate first, then each issuer after what it signed.", list(path))
    };
    if let Some((own, issuer)) = chain.broken {
        let text = format!(
            "the chain in {path} is broken: certificate {} was not signed by certificate {}",
            own + 1,
            issuer + 1
        );
        finding.fail(text, order());
    } else if is_gap(chain, set) {
        let known = store(host).ok().flatten().map(|store| trust(&set[0], &store.authorities, now));
        if known != Some(Trust::Trusted) {
            let text = format!(
                "the chain in {path} is broken: {} was issued by {}, and none of the other certificates is that of its issuer",
                set[0].subject, set[0].issuer
            );
            finding.fail(text, order());
        }
    } else if !chain.in_order {
        let text = format!(
            "the certificates in {path} are out of order: some clients take only a chain in which each issuer follows what it signed"
        );
        finding.warn(text, order());
    }
}

fn judge_names(finding: &mut Finding, path: &str, leaf: &Certificate, listeners: &[Listener]) {
    if leaf.names.is_empty() {
        let advice = Advice::text(
            "Have it issued again with the names and addresses by which clients reach this node.",
        );
        finding.warn(
            format!("the certificate in {path} has no subject alternative name: clients refuse it"),
            advice,
        );
        return;
    }
    let users = listeners.iter().filter(|one| one.certificate.as_deref() == Some(path));
    for one in users.filter(|one| !one.is_wildcard() && !one.is_loopback() && !leaf.covers(&one.host)) {
        let text = format!(
            "the {} listener is reached at {}, and the certificate in {path} is for {}",
            one.name,
            one.host,
            leaf.names.join(", ")
        );
        finding.warn(
            text,
            Advice::text(
                "If clients use that address and not a name, have the certificate issued for it too.",
            ),
        );
    }
}

/// Whether the key belongs to the first certificate, where that can be told.
fn judge_key(
    host: &Host,
    finding: &mut Finding,
    certificate: &str,
    path: &str,
    set: &[Certificate],
) -> Option<bool> {
    judge_mode(host, finding, path);
    let advice = |text: &str| Advice::run(text, format!("ls -lL {}", quoted(path)));
    match host.public_key(path) {
        Ok(digest) if digest == set[0].key_sha256 => Some(true),
        Ok(digest) => {
            let owner = set.iter().position(|one| one.key_sha256 == digest);
            let first = owner.map_or_else(String::new, |at| {
                format!(" (it is that of certificate {}, and the server presents the first)", at + 1)
            });
            finding.fail(
                format!("the key {path} does not belong to the certificate {certificate}: no handshake can succeed after the next start{first}"),
                advice("Put the key and the certificate in place that were made together."),
            );
            Some(false)
        }
        Err(Error::Host(Failure { cause: Cause::Absent, .. })) => {
            finding.fail(
                format!("the key {path} does not exist"),
                advice("Put the key there or correct the path in the configuration."),
            );
            None
        }
        Err(error) => {
            finding
                .note(format!("whether the key belongs to {certificate} is unknown: {error}"), capability());
            None
        }
    }
}

fn judge_mode(host: &Host, finding: &mut Finding, path: &str) {
    if !KEY_NAMES.iter().any(|end| path.ends_with(end)) {
        return;
    }
    let stat = host.stat(path).ok();
    let target = || host.link(path).ok().filter(|target| KEY_NAMES.iter().any(|end| target.ends_with(end)));
    let stat = match stat {
        Some(link) if link.kind == Kind::Link => {
            let directory = path.rsplit_once('/').map_or("", |(directory, _)| directory);
            let absolute = target()
                .map(|target| if target.starts_with('/') { target } else { format!("{directory}/{target}") });
            absolute.and_then(|target| host.stat(&target).ok())
        }
        other => other,
    };
    if let Some(stat) = stat.filter(|stat| stat.mode & 0o006 != 0) {
        let text =
            format!("every user of this machine may read or change the key {path} (mode {:04o})", stat.mode);
        finding.fail(
            text,
            Advice::run(
                "Close it, and replace the key if the machine has other users.",
                format!("chmod o= {}", quoted(path)),
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::certificate::tests::{Made, NOW, authority, cross_signed, intermediate, issued};
    use crate::host::{Data, Recorded, Request};
    use crate::iggy::tests::{running, settings, stat};

    const PEM: &str = "/etc/iggy/a.pem";
    const KEY: &str = "/etc/iggy/a.key";

    fn configured(address: &str) -> Recorded {
        let environment = format!(
            "IGGY_TCP_ADDRESS={address}:8090\0IGGY_TCP_TLS_ENABLED=true\0IGGY_TCP_TLS_SELF_SIGNED=false\0\
             IGGY_TCP_TLS_CERT_FILE={PEM}\0IGGY_TCP_TLS_KEY_FILE={KEY}\0"
        );
        running(70).file("/proc/70/environ", &environment).at(NOW, 9000)
    }

    fn key_of(recorded: Recorded, made: &Made, mode: u32) -> Recorded {
        let mut stat = stat(Kind::File, 200);
        stat.mode = mode;
        let key = Data::PublicKey { algorithm: "ECDSA".to_owned(), spki_sha256: made.parsed().key_sha256 };
        recorded
            .with(Request::PublicKey { path: KEY.to_owned() }, key)
            .with(Request::Stat { path: KEY.to_owned() }, Data::Stat(stat))
    }

    fn with(leaf: &Made, pem: &str) -> Recorded {
        key_of(configured("0.0.0.0").file(PEM, pem), leaf, 0o640)
    }

    fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    fn problem(recorded: Recorded) -> (Verdict, String) {
        let finding = of(recorded);
        assert_eq!(finding.problems.len(), 1, "{:?}", finding.problems);
        (finding.verdict(), finding.problems[0].text.clone())
    }

    #[test]
    fn a_whole_chain_with_its_key_passes() {
        let root = authority("root");
        let leaf = issued(&root, &["node1"], (2027, 6, 1));
        let finding = of(with(&leaf, &format!("{}{}", leaf.pem, root.pem)));
        assert_eq!(
            (finding.verdict(), finding.summary.as_str()),
            (Verdict::Pass, "1 certificate file looked at, all good")
        );
    }

    #[test]
    fn a_certificate_near_its_end_warns_and_one_past_it_fails() {
        let root = authority("root");
        let soon = issued(&root, &["node1"], (2026, 12, 10));
        let (verdict, text) = problem(with(&soon, &soon.pem));
        assert_eq!(verdict, Verdict::Warn);
        assert_eq!(text, format!("CN=iggy in {PEM} expires in 18 d 12 h, at 2026-12-10T00:00:00Z"));
        let expiries = certificate::expiries(&with(&soon, &format!("{}{}", soon.pem, root.pem)).host());
        let first = certificate::Expiry { path: PEM.to_owned(), not_after: 1_796_860_800 };
        assert_eq!(expiries, [first], "of each file once, the first of its certificates");
        let past = issued(&root, &["node1"], (2026, 11, 17));
        assert_eq!(problem(with(&past, &past.pem)).0, Verdict::Fail);
    }

    #[test]
    fn a_broken_chain_a_foreign_key_and_an_open_key_fail() {
        let (root, other) = (authority("root"), authority("root"));
        let leaf = issued(&root, &["node1"], (2027, 6, 1));
        let chain = problem(with(&leaf, &format!("{}{}", leaf.pem, other.pem)));
        assert_eq!(
            chain.1,
            format!("the chain in {PEM} is broken: certificate 1 was not signed by certificate 2")
        );
        let foreign = problem(key_of(with(&leaf, &leaf.pem), &root, 0o600));
        assert!(foreign.1.starts_with(&format!("the key {KEY} does not belong to the certificate {PEM}")));
        let open = problem(key_of(with(&leaf, &leaf.pem), &leaf, 0o644));
        let expected = format!("every user of this machine may read or change the key {KEY} (mode 0644)");
        assert_eq!(open, (Verdict::Fail, expected));
    }

    #[test]
    fn a_chain_in_any_order_is_whole_and_what_is_more_is_noted() {
        let (root, old) = (authority("root"), authority("old root"));
        let between = intermediate(&root, "between", |_| ());
        let leaf = issued(&between, &["node1"], (2027, 6, 1));
        let of = |pems: &[&str]| of(with(&leaf, &pems.concat()));
        let crossed = cross_signed(&between, &old, (2030, 1, 1));
        assert_eq!(of(&[&leaf.pem, &between.pem, &crossed]).verdict(), Verdict::Pass);
        assert_eq!(of(&[&leaf.pem, &crossed, &between.pem, &root.pem]).verdict(), Verdict::Pass);
        let mixed = of(&[&leaf.pem, &root.pem, &between.pem]);
        assert_eq!(mixed.verdict(), Verdict::Warn);
        assert!(mixed.problems[0].text.starts_with(&format!("the certificates in {PEM} are out of order")));
        for extra in [&old.pem, &between.pem] {
            assert_eq!(of(&[&leaf.pem, &between.pem, extra]).verdict(), Verdict::Note, "{extra}");
        }
        let expired = cross_signed(&between, &old, (2026, 11, 1));
        let noted = of(&[&leaf.pem, &expired, &between.pem]);
        assert_eq!(noted.verdict(), Verdict::Note);
        assert!(noted.problems[0].text.ends_with("has expired, and another path does without it"));
        let unchecked = include_str!("../certificate/samples/ecdsa-p521-sha256.pem");
        let noted = run(&with(&leaf, unchecked).host()).unwrap();
        assert!(noted.problems.iter().any(|problem| problem.severity == Verdict::Note
            && problem.text
                == format!("the signature of CN=node1 in {PEM} was not checked (ECDSA with SHA-256)")));
        assert!(!noted.problems.iter().any(|problem| problem.text.contains("broken")));
    }

    #[test]
    fn others_instead_of_the_issuer_break_the_chain_unless_the_machine_knows_the_issuer() {
        let (root, other) = (authority("root"), authority("other"));
        let leaf = issued(&root, &["node1"], (2027, 6, 1));
        let recorded = with(&leaf, &format!("{}{}", leaf.pem, other.pem));
        let expected = format!(
            "the chain in {PEM} is broken: CN=iggy was issued by CN=root, and none of the other certificates is that of its issuer"
        );
        assert_eq!(problem(recorded.clone()), (Verdict::Fail, expected));
        let known = recorded.file("/etc/ssl/certs/ca-certificates.crt", &root.pem);
        assert_eq!(of(known).verdict(), Verdict::Pass);
    }

    #[test]
    fn the_server_presents_the_first_certificate() {
        let root = authority("root");
        let between = intermediate(&root, "between", |_| ());
        let leaf = issued(&between, &["node1"], (2027, 6, 1));
        let turned = with(&leaf, &format!("{}{}", between.pem, leaf.pem));
        let told = of(turned.clone()).problems.remove(0);
        assert_eq!(told.severity, Verdict::Fail);
        assert!(
            told.text.ends_with("(it is that of certificate 2, and the server presents the first)"),
            "{told:?}"
        );
        let unseen = of(turned.without(Request::PublicKey { path: KEY.to_owned() }, Cause::Denied));
        assert!(unseen.problems.iter().any(|problem| problem.severity == Verdict::Fail
            && problem.text.starts_with(&format!("the first certificate in {PEM} is that of an authority"))));
        let labelled = leaf.pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        assert_eq!(of(with(&leaf, &format!("{labelled}{}", between.pem))).verdict(), Verdict::Fail);
    }

    #[test]
    fn a_key_in_the_file_does_not_matter_masked_or_not() {
        let root = authority("root");
        let leaf = issued(&root, &["node1"], (2027, 6, 1));
        for key in [
            leaf.key.serialize_pem().as_str(),
            "-----BEGIN PRIVATE KEY-----\n[secret:private-key:3f9a]\n-----END PRIVATE KEY-----\n",
        ] {
            let finding = of(with(&leaf, &format!("{key}{}{}", leaf.pem, root.pem)));
            assert_eq!(finding.verdict(), Verdict::Pass, "{:?}", finding.problems);
        }
    }

    #[test]
    fn a_file_that_is_not_opened_or_not_whole_is_unknown() {
        let leaf = issued(&authority("root"), &["node1"], (2027, 6, 1));
        let environment = "IGGY_TCP_TLS_ENABLED=true\0IGGY_TCP_TLS_SELF_SIGNED=false\0\
             IGGY_TCP_TLS_CERT_FILE=/etc/iggy/fullchain\0IGGY_TCP_TLS_KEY_FILE=/etc/iggy/a.key\0";
        let unnamed = running(70).file("/proc/70/environ", environment).at(NOW, 9000);
        assert!(run(&unnamed.host()).is_err());
        let masked = leaf.pem.replacen("MII", "[secret:entropy:3f9a]", 1);
        assert!(run(&with(&leaf, &masked).host()).is_err());
    }

    #[test]
    fn names_that_do_not_fit_warn_and_a_self_signed_certificate_is_noted() {
        let root = authority("root");
        let leaf = issued(&root, &["node1"], (2027, 6, 1));
        let at_address = key_of(configured("10.0.0.7").file(PEM, &leaf.pem), &leaf, 0o600);
        let expected =
            format!("the tcp listener is reached at 10.0.0.7, and the certificate in {PEM} is for node1");
        assert_eq!(problem(at_address), (Verdict::Warn, expected));
        let nameless = issued(&root, &[], (2027, 6, 1));
        assert!(
            problem(with(&nameless, &nameless.pem))
                .1
                .ends_with("has no subject alternative name: clients refuse it")
        );
        let own = of(with(&root, &root.pem));
        assert!(
            own.problems
                .iter()
                .any(|problem| problem.severity == Verdict::Note && problem.text.contains("self-signed"))
        );
    }

    #[test]
    fn a_missing_or_broken_file_fails_a_denied_one_is_unknown_and_none_is_skipped() {
        assert!(
            problem(configured("0.0.0.0")).1.ends_with(&format!("cannot be used: {PEM}: does not exist"))
        );
        assert_eq!(problem(configured("0.0.0.0").file(PEM, "junk")).0, Verdict::Fail);
        assert!(run(&configured("0.0.0.0").denied(PEM).host()).is_err());
        assert_eq!(of(running(70)).verdict(), Verdict::Skip);
        assert_eq!(of(Recorded::complete().settings(settings())).verdict(), Verdict::Skip);
    }

    #[test]
    fn a_key_that_may_not_be_seen_is_noted_and_a_missing_one_fails() {
        let leaf = issued(&authority("root"), &["node1"], (2027, 6, 1));
        let key = || Request::PublicKey { path: KEY.to_owned() };
        assert_eq!(problem(with(&leaf, &leaf.pem).without(key(), Cause::Denied)).0, Verdict::Note);
        let missing = problem(with(&leaf, &leaf.pem).without(key(), Cause::Absent));
        assert_eq!(missing, (Verdict::Fail, format!("the key {KEY} does not exist")));
    }

    #[test]
    fn a_hidden_configuration_is_unknown_and_not_skipped() {
        let error = run(&running(70).denied("/proc/70/environ").host()).unwrap_err();
        assert_eq!(error.to_string(), "/proc/70/environ: permission denied");
    }
}
