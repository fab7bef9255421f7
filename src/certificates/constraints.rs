//! What a certificate may sign and be used for (RFC 5280, 4.2.1), held against a path.

use std::net::IpAddr;

use warden_host::Verdict;
use x509_parser::certificate::X509Certificate;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::prelude::FromDer;
use x509_parser::x509::X509Version;

use super::Certificate;

/// One thing that clients refuse, or that some of them do: a predicate of the certificate at this place of the path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    pub at: usize,
    pub severity: Verdict,
    pub text: String,
}

/// The faults of a path, the server's certificate first, apart from its times and signatures.
pub fn faults(path: &[&Certificate]) -> Vec<Fault> {
    let mut found = Vec::new();
    for (at, one) in path.iter().enumerate() {
        let Ok((_, parsed)) = X509Certificate::from_der(&one.der) else { continue };
        // A client that trusts a root has it already, and looks at its key and its limits only.
        let is_root = at > 0 && at + 1 == path.len() && one.is_self_issued();
        let mut add = |severity, text| found.push(Fault { at, severity, text });
        if !is_root && !is_for_servers(&parsed) {
            add(Verdict::Fail, "is not for TLS servers (extended key usage): clients refuse it".to_owned());
        }
        if !is_root && let Some(oid) = unknown_critical(&parsed) {
            add(Verdict::Warn, format!("has a critical extension that many clients do not know ({oid})"));
        }
        let Some(signed) = at.checked_sub(1).and_then(|below| path.get(below)) else { continue };
        // Roots of version 1 have no way to say so.
        let may_sign = parsed.is_ca() || is_root && parsed.version() == X509Version::V1;
        if !may_sign {
            let severity = if is_root { Verdict::Warn } else { Verdict::Fail };
            add(
                severity,
                format!("signed {}, and is not marked as an authority: clients refuse it", signed.subject),
            );
        }
        let usage = parsed.key_usage().ok().flatten();
        if usage.is_some_and(|usage| !usage.value.key_cert_sign()) {
            add(
                Verdict::Warn,
                format!("signed {}, and its key is not for signing certificates (key usage)", signed.subject),
            );
        }
        let limit =
            parsed.basic_constraints().ok().flatten().and_then(|basic| basic.value.path_len_constraint);
        let between = path.get(1..at).unwrap_or_default().iter().filter(|one| !one.is_self_issued()).count();
        if let Some(limit) = limit.filter(|limit| between > *limit as usize) {
            add(
                Verdict::Fail,
                format!(
                    "allows {limit} authorities below it and there are {between} (path length): clients refuse it"
                ),
            );
        }
        if let (Some(name), Some(leaf)) = (forbidden_name(&parsed, path), path.first()) {
            add(
                Verdict::Fail,
                format!(
                    "does not allow the name {name} of {} (name constraints): clients refuse it",
                    leaf.subject
                ),
            );
        }
    }
    found
}

fn is_for_servers(certificate: &X509Certificate) -> bool {
    let usage = certificate.extended_key_usage().ok().flatten();
    usage.is_none_or(|usage| usage.value.server_auth || usage.value.any)
}

fn unknown_critical(certificate: &X509Certificate) -> Option<String> {
    let unknown = |parsed: &ParsedExtension| matches!(parsed, ParsedExtension::UnsupportedExtension { .. });
    let mut critical = certificate.extensions().iter().filter(|extension| extension.critical);
    critical
        .find(|extension| unknown(extension.parsed_extension()))
        .map(|extension| extension.oid.to_id_string())
}

/// The first name of the server's certificate that the constraints of `issuer` exclude or do not permit.
fn forbidden_name(issuer: &X509Certificate, path: &[&Certificate]) -> Option<String> {
    let constraints = issuer.name_constraints().ok().flatten()?.value;
    let permitted = constraints.permitted_subtrees.as_deref().unwrap_or_default();
    let excluded = constraints.excluded_subtrees.as_deref().unwrap_or_default();
    let names = &path.first()?.names;
    let is_forbidden = |name: &&String| {
        let within = |base: &GeneralName| lies_within(name, base);
        let same_kind: Vec<bool> = permitted.iter().filter_map(|subtree| within(&subtree.base)).collect();
        let is_permitted = same_kind.is_empty() || same_kind.contains(&true);
        !is_permitted || excluded.iter().any(|subtree| within(&subtree.base) == Some(true))
    };
    names.iter().find(is_forbidden).cloned()
}

/// Whether a name lies below a constraint; `None` when the two are of different kinds.
fn lies_within(name: &str, base: &GeneralName) -> Option<bool> {
    let address = name.parse::<IpAddr>().ok();
    if let (GeneralName::DNSName(base), None) = (base, address) {
        let (name, base) = (name.to_ascii_lowercase(), base.to_ascii_lowercase());
        let base = base.trim_start_matches('.');
        let below = || name.strip_suffix(base).is_some_and(|rest| rest.ends_with('.'));
        return Some(base.is_empty() || name == base || below());
    }
    if let (GeneralName::IPAddress(base), Some(address)) = (base, address) {
        let bytes = match address {
            IpAddr::V4(address) => address.octets().to_vec(),
            IpAddr::V6(address) => address.octets().to_vec(),
        };
        let (network, mask) = base.split_at(base.len() / 2);
        if network.len() != bytes.len() {
            return None;
        }
        let equal = |((byte, network), mask): ((&u8, &u8), &u8)| byte & mask == network & mask;
        return Some(bytes.iter().zip(network).zip(mask).all(equal));
    }
    None
}
