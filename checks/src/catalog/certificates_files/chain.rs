//! The certificates of one file as clients take them: what stands first, and the paths over the rest.

use warden_certificates::path::{Chain, Unneeded, best};
use warden_certificates::store::{Trust, store, trust};
use warden_certificates::{self as certificate, Certificate, CertificateFile};
use warden_host::Host;

use crate::{Advice, Finding, Table, quoted};

fn list(path: &str) -> String {
    format!("openssl crl2pkcs7 -nocrl -certfile {} | openssl pkcs7 -print_certs -noout", quoted(path))
}

/// The server presents the first certificate as its own, whatever it is.
pub(super) fn judge_first(finding: &mut Finding, path: &str, set: &[Certificate], belongs: Option<bool>) {
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

pub(super) fn judge_chain(
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
        let advice =
            "This program cannot check signatures of this kind, and clients built on rustls may not either.";
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

#[cfg(test)]
mod tests {
    use warden_certificates::made::{authority, cross_signed, intermediate, issued};
    use warden_host::{Cause, Request};

    use super::super::run;
    use super::super::tests::{KEY, PEM, of, problem, with};
    use crate::Verdict;

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
        let unchecked = include_str!("../../../../src/certificates/samples/ecdsa-p521-sha256.pem");
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
}
