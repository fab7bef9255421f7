//! X.509 certificates, read for what can be wrong with them.

mod constraints;
#[cfg(any(test, feature = "made"))]
pub mod made;
pub mod path;
mod pem;
mod signature;
pub mod store;

pub use constraints::Fault;
pub use pem::certificates_in;
use sha2::{Digest, Sha256};
pub use signature::Signature;
use warden_host::quantity::{duration, time};
use warden_host::{Cause, Error, Failure, Host, Result, Table, Value, Verdict};
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::FromDer;
use x509_parser::public_key::PublicKey;
use x509_parser::x509::X509Name;

/// Names of files that are opened for a configuration, which anybody's process may have brought.
const NAMES: [&str; 4] = [".pem", ".crt", ".cer", ".cert"];

/// Tells when the certificates of a file run out, as Unix time in seconds: the first of the path that lasts longest.
pub fn lasts_until(set: &[Certificate]) -> Option<i64> {
    let ends = |path: &Vec<usize>| path.iter().filter_map(|&at| Some(set.get(at)?.not_after)).min();
    path::paths(set).iter().filter_map(ends).max()
}

/// The certificates in a file that a configuration names.
///
/// # Errors
///
/// [`Error::Parse`] when a server that is given the file refuses it, [`Error::Host`] when that cannot be told.
pub fn read(host: &Host, path: &str) -> Result<CertificateFile> {
    if !is_certificate_name(path) {
        let cause = Cause::Other("only files named .pem, .crt, .cer and .cert are opened".to_owned());
        return Err(Error::Host(Failure { what: path.to_owned(), cause }));
    }
    CertificateFile::parse(path, &host.read(path)?)
}

/// Whether a file of this name is read for certificates.
pub fn is_certificate_name(path: &str) -> bool {
    NAMES.iter().any(|end| path.ends_with(end))
}

/// The certificates of a PEM file, in its order, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertificateFile {
    pub certificates: Vec<Certificate>,
    /// Labels of blocks that look like certificates, and that the servers do not read.
    pub passed_over: Vec<String>,
}

impl CertificateFile {
    fn parse(what: &str, text: &str) -> Result<CertificateFile> {
        let blocks = pem::blocks(what, text)?;
        if let Some(reason) = blocks.refused {
            return Err(Error::parse(what, reason));
        }
        let parsed = blocks.certificates.into_iter().map(|der| Certificate::parse(what, der));
        let certificates = parsed.collect::<Result<Vec<Certificate>>>()?;
        match (certificates.is_empty(), blocks.passed_over.first()) {
            (false, _) => Ok(CertificateFile { certificates, passed_over: blocks.passed_over }),
            (true, None) => Err(Error::parse(what, "holds no certificate in PEM form")),
            (true, Some(label)) => {
                Err(Error::parse(what, format!("holds no certificate that rustls reads, only {label}")))
            }
        }
    }
}

/// Every certificate of a PEM text, in its order; other blocks (a private key) are passed over.
pub fn parse_pem(what: &str, text: &str) -> Result<Vec<Certificate>> {
    CertificateFile::parse(what, text).map(|file| file.certificates)
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Certificate {
    pub subject: String,
    pub issuer: String,
    /// DNS names and IP addresses of the subject alternative name, as text.
    pub names: Vec<String>,
    /// Unix time in seconds.
    pub not_before: i64,
    pub not_after: i64,
    pub is_authority: bool,
    /// `RSA 2048`, `EC 256`, `Ed25519`.
    pub key: String,
    /// Why key or signature are too weak, if they are.
    pub weakness: Option<String>,
    /// SHA-256, in hex, of the SubjectPublicKeyInfo.
    pub key_sha256: String,
    /// SHA-256, in hex, of the whole certificate.
    pub sha256: String,
    der: Vec<u8>,
}

impl Certificate {
    fn parse(what: &str, der: Vec<u8>) -> Result<Certificate> {
        let (_, parsed) = X509Certificate::from_der(&der)
            .map_err(|error| Error::parse(what, format!("not a certificate: {error}")))?;
        let alternative = parsed.subject_alternative_name().ok().flatten();
        let names = alternative.map(|names| names.value.general_names.iter().filter_map(name).collect());
        let (key, bits) = key(&parsed);
        Ok(Certificate {
            subject: name_text(parsed.subject()),
            issuer: name_text(parsed.issuer()),
            names: names.unwrap_or_default(),
            not_before: parsed.validity().not_before.timestamp(),
            not_after: parsed.validity().not_after.timestamp(),
            is_authority: parsed.is_ca(),
            weakness: weakness(key, bits, &signed_with(&parsed)),
            key: if bits == 0 { key.to_owned() } else { format!("{key} {bits}") },
            key_sha256: hex(parsed.public_key().raw),
            sha256: hex(&der),
            der: der.clone(),
        })
    }

    pub fn is_self_issued(&self) -> bool {
        self.subject == self.issuer
    }

    /// Whether its key is of a kind that handshakes of this program can check.
    pub fn has_usual_key(&self) -> bool {
        let rsa = self.key.strip_prefix("RSA ").and_then(|bits| bits.parse().ok());
        matches!(self.key.as_str(), "EC 256" | "EC 384" | "Ed25519")
            || rsa.is_some_and(|bits: usize| signature::RSA_BITS.contains(&bits))
    }

    /// What its signature says when `issuer` made it.
    pub fn signature_by(&self, issuer: &Certificate) -> Signature {
        signature::of(&self.der, &issuer.der)
    }

    /// Whether a client that asks for `host` (a name or an address) accepts the names (RFC 6125).
    pub fn covers(&self, host: &str) -> bool {
        let host = host.trim_end_matches('.').to_ascii_lowercase();
        let address = host.parse::<std::net::IpAddr>().ok();
        self.names.iter().any(|name| {
            let name = name.to_ascii_lowercase();
            match name.strip_prefix("*.") {
                None => name == host || address.is_some() && name.parse().ok() == address,
                Some(domain) => {
                    host.split_once('.').is_some_and(|(first, rest)| !first.is_empty() && rest == domain)
                }
            }
        })
    }

    /// What is wrong with its time, at Unix time `now`.
    pub fn judge_time(&self, now: i64) -> Option<(Verdict, String)> {
        let left = self.not_after.saturating_sub(now);
        let until = time(self.not_after);
        let lifetime = self.not_after.saturating_sub(self.not_before).max(0);
        let (fail, warn) = if lifetime <= SHORT_LIVED_SECONDS {
            (lifetime / FAIL_PART, lifetime / WARN_PART)
        } else {
            (FAIL_SECONDS, WARN_SECONDS)
        };
        match left {
            ..0 => Some((Verdict::Fail, format!("expired {} ago, at {until}", duration(-left as f64)))),
            _ if left < fail => {
                Some((Verdict::Fail, format!("expires in {}, at {until}", duration(left as f64))))
            }
            _ if self.not_before > now => {
                Some((Verdict::Fail, format!("is not valid before {}", time(self.not_before))))
            }
            _ if left < warn => {
                Some((Verdict::Warn, format!("expires in {}, at {until}", duration(left as f64))))
            }
            _ => None,
        }
    }
}

/// 30 days: a renewal that failed can still be tried a few times by hand.
const WARN_SECONDS: i64 = 30 * 86_400;
/// 7 days: whoever renews certificates here has not.
const FAIL_SECONDS: i64 = 7 * 86_400;
/// 10 days: what the CA/Browser Forum calls short-lived. Machines renew these when two thirds of their time are over,
/// and these parts of it count instead of the days above.
const SHORT_LIVED_SECONDS: i64 = 10 * 86_400;
const WARN_PART: i64 = 3;
const FAIL_PART: i64 = 10;
/// NIST SP 800-57: 112 bits of strength.
const RSA_BITS: usize = 2048;
const CURVE_BITS: usize = 224;
/// Signature algorithms on MD2, MD4, MD5 and SHA-1 (RFC 3279).
const BROKEN_SIGNATURES: [(&str, &str); 7] = [
    ("1.2.840.113549.1.1.2", "MD2"),
    ("1.2.840.113549.1.1.3", "MD4"),
    ("1.2.840.113549.1.1.4", "MD5"),
    ("1.2.840.113549.1.1.5", "SHA-1"),
    ("1.3.14.3.2.29", "SHA-1"),
    ("1.2.840.10040.4.3", "SHA-1"),
    ("1.2.840.10045.4.1", "SHA-1"),
];

/// A distinguished name as text; one that has none is told apart by its bytes.
fn name_text(name: &X509Name) -> String {
    let text = name.to_string();
    if text.contains("X509Error") { format!("unreadable name {}", hex(name.as_raw())) } else { text }
}

fn name(name: &GeneralName) -> Option<String> {
    if let GeneralName::DNSName(name) = name {
        return Some((*name).to_owned());
    }
    if let GeneralName::IPAddress(bytes) = name { address(bytes) } else { None }
}

fn address(bytes: &[u8]) -> Option<String> {
    let v4 = <[u8; 4]>::try_from(bytes).map(std::net::Ipv4Addr::from);
    let v6 = <[u8; 16]>::try_from(bytes).map(std::net::Ipv6Addr::from);
    v4.map(|address| address.to_string()).or(v6.map(|address| address.to_string())).ok()
}

fn key(certificate: &X509Certificate) -> (&'static str, usize) {
    const ED25519: &str = "1.3.101.112";
    let info = certificate.public_key();
    if info.algorithm.algorithm.to_id_string() == ED25519 {
        return ("Ed25519", 0);
    }
    match info.parsed() {
        Ok(PublicKey::RSA(key)) => ("RSA", signature::rsa_bits(&key)),
        // The coordinates of P-521 are written in 66 bytes.
        Ok(key @ PublicKey::EC(_)) => ("EC", if key.key_size() == 528 { 521 } else { key.key_size() }),
        Ok(key @ PublicKey::DSA(_)) => ("DSA", key.key_size()),
        _ => ("unknown", 0),
    }
}

/// The algorithm of the signature, empty for a self-issued certificate: nobody trusts it for its own signature.
fn signed_with(certificate: &X509Certificate) -> String {
    if certificate.subject().as_raw() == certificate.issuer().as_raw() {
        return String::new();
    }
    certificate.signature_algorithm.algorithm.to_id_string()
}

fn weakness(key: &str, bits: usize, signature: &str) -> Option<String> {
    let broken = BROKEN_SIGNATURES.iter().find(|(id, _)| *id == signature);
    match (key, broken) {
        ("RSA", _) if bits < RSA_BITS => Some(format!("its RSA key has {bits} bits, fewer than {RSA_BITS}")),
        ("EC", _) if bits < CURVE_BITS => {
            Some(format!("its EC key has {bits} bits, fewer than {CURVE_BITS}"))
        }
        ("DSA", _) => Some("its key is DSA, which no TLS 1.3 client accepts".to_owned()),
        (_, Some((_, hash))) => Some(format!("it is signed with {hash}")),
        _ => None,
    }
}

fn hex(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The table that every check of certificates shows.
pub fn table(title: impl Into<String>) -> Table {
    Table::new(title, ["from", "subject", "issuer", "names", "valid until", "key", "SHA-256"])
}

pub fn cells(from: &str, one: &Certificate) -> [Value; 7] {
    [
        Value::Code(from.to_owned()),
        one.subject.clone().into(),
        one.issuer.clone().into(),
        one.names.join(", ").into(),
        Value::Time(one.not_after),
        one.key.clone().into(),
        Value::Code(one.sha256.chars().take(16).collect()),
    ]
}

#[cfg(test)]
mod tests {
    use super::made::{authority, issued};
    use super::*;

    #[test]
    fn a_chain_is_parsed_in_its_order_and_its_signatures_are_checked() {
        let (root, other) = (authority("root"), authority("root"));
        let leaf = issued(&root, &["node1.example", "*.iggy.example", "10.0.0.7", "::1"], (2027, 1, 1));
        let private = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";
        let chain = parse_pem("x", &format!("{}{private}{}", leaf.pem, root.pem)).unwrap();
        assert_eq!(chain.len(), 2);
        assert_eq!(chain[0].names, ["node1.example", "*.iggy.example", "10.0.0.7", "::1"]);
        assert_eq!(
            (chain[0].key.as_str(), chain[1].is_authority, chain[1].is_self_issued()),
            ("EC 256", true, true)
        );
        let by = |own: &Certificate, issuer: &Certificate| own.signature_by(issuer);
        assert_eq!([by(&chain[0], &chain[1]), by(&chain[1], &chain[1])], [Signature::Good, Signature::Good]);
        let wrong = [by(&chain[0], &other.parsed()), by(&chain[1], &chain[0])];
        assert_eq!(wrong, [Signature::Broken, Signature::Broken]);
    }

    #[test]
    fn names_cover_hosts_and_a_wildcard_covers_one_label() {
        let leaf = issued(&authority("root"), &["node1.example", "*.iggy.example", "10.0.0.7"], (2027, 1, 1))
            .parsed();
        assert!(["Node1.Example", "a.iggy.example", "10.0.0.7"].iter().all(|host| leaf.covers(host)));
        assert!(
            !["iggy.example", "a.b.iggy.example", ".iggy.example", "10.0.0.8"]
                .iter()
                .any(|host| leaf.covers(host))
        );
    }

    #[test]
    fn time_is_judged_at_its_boundaries() {
        let leaf = issued(&authority("root"), &["a"], (2027, 1, 1)).parsed();
        let judge = |left: i64| leaf.judge_time(leaf.not_after - left).map(|(severity, _)| severity);
        assert_eq!(
            [30 * 86_400, 30 * 86_400 - 1, 7 * 86_400, 7 * 86_400 - 1, -1].map(judge),
            [None, Some(Verdict::Warn), Some(Verdict::Warn), Some(Verdict::Fail), Some(Verdict::Fail)]
        );
        let mut of_a_day = leaf.clone();
        of_a_day.not_before = leaf.not_after - 86_400;
        let judge = |left: i64| of_a_day.judge_time(of_a_day.not_after - left).map(|(severity, _)| severity);
        assert_eq!([28_800, 28_799, 8639].map(judge), [None, Some(Verdict::Warn), Some(Verdict::Fail)]);
        let early = leaf.judge_time(leaf.not_before - 1).unwrap();
        assert_eq!(early, (Verdict::Fail, "is not valid before 2026-01-01T00:00:00Z".to_owned()));
        let late = leaf.judge_time(leaf.not_after + 86_400).unwrap().1;
        assert_eq!(late, "expired 1 d ago, at 2027-01-01T00:00:00Z");
    }

    #[test]
    fn weak_keys_and_signatures_are_named() {
        assert_eq!(weakness("RSA", 1024, "").as_deref(), Some("its RSA key has 1024 bits, fewer than 2048"));
        assert_eq!(weakness("RSA", 2048, "1.2.840.113549.1.1.11"), None);
        assert_eq!(weakness("RSA", 2048, "1.2.840.113549.1.1.5").as_deref(), Some("it is signed with SHA-1"));
        assert_eq!((weakness("EC", 256, ""), weakness("Ed25519", 0, "")), (None, None));
        let certificates = parse_pem("x", include_str!("samples/rsa-1024-sha256.pem")).unwrap();
        assert_eq!(certificates[1].weakness.as_deref(), Some("its RSA key has 1024 bits, fewer than 2048"));
    }

    #[test]
    fn what_is_no_certificate_is_an_error() {
        let error = |text: &str| parse_pem("/x.pem", text).unwrap_err().to_string();
        assert_eq!(error(""), "cannot understand /x.pem: holds no certificate in PEM form");
        let trusted = authority("a").pem.replace("CERTIFICATE", "TRUSTED CERTIFICATE");
        assert_eq!(
            error(&trusted),
            "cannot understand /x.pem: holds no certificate that rustls reads, only TRUSTED CERTIFICATE"
        );
        let torn = "-----BEGIN CERTIFICATE-----\nAAAA\n";
        assert!(error(torn).starts_with("cannot understand /x.pem: not PEM"));
        assert!(error(&format!("{torn}-----END CERTIFICATE-----\n")).contains("not a certificate"));
    }
}
