//! certificates-files: are the certificates that the listeners are configured with good.

mod chain;

use warden_certificates::{self as certificate, Certificate};
use warden_host::quantity::count;
use warden_host::{Cause, Failure, Host, Kind, NO_PRIVATE_KEY};

use crate::iggy::{self, Listener};
use crate::{Advice, Area, Check, DEADLINE, Error, Evidence, Finding, Read, Result, Verdict, quoted};

pub const CHECK: Check = Check {
    id: "certificates-files",
    area: Area::Certificates,
    title: "Are the certificates good?",
    why: "Iggy loads whatever certificate it is given and never says that it has expired: clients are refused, and the \
          server's log shows nothing. The sample certificate of Iggy's repository expired on 2026-11-17.",
    reads: &[
        Read::Group(iggy::READS),
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
        "fails when a certificate is missing, broken, not valid yet, or expires in 7 days (one of 10 days or less: in a tenth of its time), on each path that clients can build",
        "fails when the key does not belong to the first certificate or every user may read it, when the chain is broken, and when an authority's limits forbid it",
        "warns when a certificate expires in 30 days (one of 10 days or less: in a third of its time), has no name that the listener is reached by, is weak (RSA under 2048 bits, SHA-1), or stands out of order",
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
        chain::judge_first(&mut finding, path, &file.certificates, belongs);
        chain::judge_chain(host, &mut finding, &mut table, path, &file, now);
        if belongs != Some(false) {
            judge_names(&mut finding, path, leaf, &listeners);
        }
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
        Cause::Absent
        | Cause::TimedOut
        | Cause::Unavailable(_)
        | Cause::Unrecorded
        | Cause::Truncated(_)
        | Cause::Masked
        | Cause::Other(_) => Advice::text("Look at the file by hand; nothing is said of it here."),
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
        Err(Error::Host(Failure { cause: Cause::Other(reason), .. })) if reason == NO_PRIVATE_KEY => {
            finding.fail(
                format!("the key {path} cannot be used: it {reason} (rustls reads none that is encrypted)"),
                advice("Put the key there in PEM form and without a password."),
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
pub(super) mod tests {
    use warden_certificates::made::{Made, NOW, authority, issued};
    use warden_host::{Data, Recorded, Request};

    use super::*;
    use crate::iggy::tests::{running, settings, stat};

    pub(super) const PEM: &str = "/etc/iggy/a.pem";
    pub(super) const KEY: &str = "/etc/iggy/a.key";

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

    pub(super) fn with(leaf: &Made, pem: &str) -> Recorded {
        key_of(configured("0.0.0.0").file(PEM, pem), leaf, 0o640)
    }

    pub(super) fn of(recorded: Recorded) -> Finding {
        run(&recorded.host()).unwrap()
    }

    pub(super) fn problem(recorded: Recorded) -> (Verdict, String) {
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
        let expiries = crate::expiries(&with(&soon, &format!("{}{}", soon.pem, root.pem)).host());
        let first = crate::Expiry { path: PEM.to_owned(), not_after: 1_796_860_800 };
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
        let none = Cause::Other(NO_PRIVATE_KEY.to_owned());
        assert_eq!(problem(with(&leaf, &leaf.pem).without(key(), none)).0, Verdict::Fail);
    }

    #[test]
    fn a_hidden_configuration_is_unknown_and_not_skipped() {
        let error = run(&running(70).denied("/proc/70/environ").host()).unwrap_err();
        assert_eq!(error.to_string(), "/proc/70/environ: permission denied");
    }
}
