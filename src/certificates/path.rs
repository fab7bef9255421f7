//! The paths that a client can build over a set of certificates, and the best of them.
//!
//! The server's certificate is the first of the set; the others may be in any order, more than are needed, and signed
//! by several authorities (RFC 8446, 4.4.2; RFC 4158).

use std::collections::BTreeMap;

use warden_host::Verdict;

use super::constraints::{self, Fault};
use super::{Certificate, Signature};

/// Certificates of a set that are looked at: real files hold two to five, and each pair may cost a signature.
const CERTIFICATES: usize = 64;
/// Certificates that a path has at most: webpki takes six authorities between the server and the root.
const LONGEST_PATH: usize = 8;
/// Paths that are looked at; a change of roots makes two or four.
const PATHS: usize = 64;

/// What a certificate is there for when the best path does without it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unneeded {
    /// The same certificate stands before it.
    Duplicate,
    /// It is part of another path, as in a change of roots.
    OtherPath,
    Unrelated,
}

/// The path that serves clients best.
#[derive(Debug, PartialEq, Eq)]
pub struct Chain {
    /// Places in the set, the server's certificate first.
    pub path: Vec<usize>,
    /// Faults of the certificates on the path; `at` is a place in the set.
    pub faults: Vec<Fault>,
    /// The certificate whose signature none of those with its issuer's name made, and the first of these.
    pub broken: Option<(usize, usize)>,
    /// Whether each issuer stands behind what it signed.
    pub in_order: bool,
    /// Certificates of the path whose signature could not be checked, with its kind.
    pub unchecked: Vec<(usize, String)>,
    pub unneeded: Vec<(usize, Unneeded)>,
}

/// The best path at Unix time `now`; `set` must not be empty.
pub fn best(set: &[Certificate], now: i64) -> Chain {
    let mut signatures = Signatures { set, known: BTreeMap::new() };
    let paths = signatures.paths();
    let cost = |signatures: &mut Signatures, path: &[usize]| {
        let faults = faults(set, path, now);
        let broken = path.last().and_then(|&last| signatures.wrong_issuer(last));
        let worst = faults.iter().map(|fault| fault.severity).max();
        (broken.map(|_| Verdict::Fail).max(worst), !path.is_sorted(), faults.len())
    };
    let path = paths.iter().min_by_key(|path| cost(&mut signatures, path)).cloned().unwrap_or_default();
    let broken = path.last().and_then(|&last| Some((last, signatures.wrong_issuer(last)?)));
    let faults = faults(set, &path, now);
    let links = path.windows(2).filter_map(|pair| Some((*pair.first()?, *pair.get(1)?)));
    let unchecked = links
        .filter_map(|(own, issuer)| match signatures.of(own, issuer) {
            Signature::Unchecked(kind) => Some((own, kind)),
            Signature::Good | Signature::Broken => None,
        })
        .collect();
    let unneeded = (0..set.len()).filter(|at| !path.contains(at)).map(|at| {
        let is_double = set.iter().take(at).any(|other| other.sha256 == set[at].sha256);
        let is_on_a_path = paths.iter().any(|path| path.contains(&at));
        let kind = match (is_double, is_on_a_path) {
            (true, _) => Unneeded::Duplicate,
            (false, true) => Unneeded::OtherPath,
            (false, false) => Unneeded::Unrelated,
        };
        (at, kind)
    });
    let unneeded = unneeded.collect();
    Chain { in_order: path.is_sorted(), path, faults, broken, unchecked, unneeded }
}

/// Every path from the first certificate, as places in the set.
pub fn paths(set: &[Certificate]) -> Vec<Vec<usize>> {
    Signatures { set, known: BTreeMap::new() }.paths()
}

/// What clients find wrong with a path, at Unix time `now`; `at` is a place in the set.
pub fn faults(set: &[Certificate], path: &[usize], now: i64) -> Vec<Fault> {
    let certificates: Vec<&Certificate> = path.iter().filter_map(|&at| set.get(at)).collect();
    let times = certificates.iter().enumerate().filter_map(|(at, one)| {
        let (severity, text) = one.judge_time(now)?;
        Some(Fault { at, severity, text })
    });
    let all = times.chain(constraints::faults(&certificates));
    all.map(|fault| Fault { at: path.get(fault.at).copied().unwrap_or(0), ..fault }).collect()
}

struct Signatures<'a> {
    set: &'a [Certificate],
    known: BTreeMap<(usize, usize), Signature>,
}

impl Signatures<'_> {
    fn paths(&mut self) -> Vec<Vec<usize>> {
        let mut all = Vec::new();
        if !self.set.is_empty() {
            self.extend(&mut vec![0], &mut all);
        }
        all
    }

    fn extend(&mut self, path: &mut Vec<usize>, all: &mut Vec<Vec<usize>>) {
        let Some(&last) = path.last() else { return };
        let is_end = self.set[last].is_self_issued() || path.len() >= LONGEST_PATH;
        let above = if is_end { Vec::new() } else { self.issuers(last, path) };
        if above.is_empty() {
            all.push(path.clone());
        }
        for issuer in above {
            if all.len() >= PATHS {
                return;
            }
            path.push(issuer);
            self.extend(path, all);
            path.pop();
        }
    }

    /// Those that may have signed `own`, without any that is on the path already (RFC 4158, 5.2) or stands twice.
    fn issuers(&mut self, own: usize, path: &[usize]) -> Vec<usize> {
        let mut found: Vec<usize> = Vec::new();
        for at in 0..self.set.len().min(CERTIFICATES) {
            let one = &self.set[at];
            let is_same = |other: &&usize| {
                let other = &self.set[**other];
                other.key_sha256 == one.key_sha256 && other.subject == one.subject
            };
            let is_double = found.iter().any(|other| self.set[*other].sha256 == one.sha256);
            let is_named = self.set[own].issuer == one.subject && at != own;
            if is_named && !is_double && !path.iter().any(|other| is_same(&other)) {
                match self.of(own, at) {
                    Signature::Good | Signature::Unchecked(_) => found.push(at),
                    Signature::Broken => {}
                }
            }
        }
        found
    }

    /// The first certificate that has the issuer's name and did not sign `own`.
    fn wrong_issuer(&mut self, own: usize) -> Option<usize> {
        if self.set.get(own)?.is_self_issued() {
            return None;
        }
        let count = self.set.len().min(CERTIFICATES);
        let named: Vec<usize> =
            (0..count).filter(|&at| at != own && self.set[at].subject == self.set[own].issuer).collect();
        named.into_iter().find(|&at| self.of(own, at) == Signature::Broken)
    }

    fn of(&mut self, own: usize, issuer: usize) -> Signature {
        let set = self.set;
        let look = || set[own].signature_by(&set[issuer]);
        self.known.entry((own, issuer)).or_insert_with(look).clone()
    }
}

#[cfg(test)]
mod tests {
    use rcgen::{BasicConstraints, ExtendedKeyUsagePurpose, GeneralSubtree, IsCa, NameConstraints};

    use super::*;
    use crate::made::{Made, NOW, authority, cross_signed, intermediate, issued};
    use crate::parse_pem;

    fn set(pems: &[&str]) -> Vec<Certificate> {
        parse_pem("x", &pems.concat()).unwrap()
    }

    fn leaf(by: &Made) -> Made {
        issued(by, &["node1.example", "10.0.0.7"], (2027, 6, 1))
    }

    /// What is said of a chain of a leaf, an intermediate with what `edit` makes different, and its root.
    fn faults_of(edit: impl FnOnce(&mut rcgen::CertificateParams)) -> Vec<(Verdict, String)> {
        let root = authority("root");
        let between = intermediate(&root, "between", edit);
        let chain = best(&set(&[&leaf(&between).pem, &between.pem, &root.pem]), NOW);
        assert_eq!((chain.path.as_slice(), chain.broken), ([0, 1, 2].as_slice(), None));
        chain.faults.into_iter().map(|fault| (fault.severity, fault.text)).collect()
    }

    #[test]
    fn any_order_with_doubles_and_strangers_makes_a_path() {
        let (root, old) = (authority("root"), authority("old root"));
        let between = intermediate(&root, "between", |_| ());
        let other = cross_signed(&between, &old, (2030, 1, 1));
        let leaf = leaf(&between);
        let chain = best(&set(&[&leaf.pem, &between.pem, &other]), NOW);
        assert_eq!((chain.path, chain.broken, chain.in_order), (vec![0, 1], None, true));
        assert_eq!(chain.unneeded, [(2, Unneeded::OtherPath)]);

        let chain = best(&set(&[&leaf.pem, &root.pem, &between.pem]), NOW);
        assert_eq!((chain.path, chain.broken, chain.in_order), (vec![0, 2, 1], None, false));

        let chain = best(&set(&[&leaf.pem, &between.pem, &between.pem, &old.pem, &root.pem]), NOW);
        assert_eq!((chain.path, chain.in_order), (vec![0, 1, 4], true));
        assert_eq!(chain.unneeded, [(2, Unneeded::Duplicate), (3, Unneeded::Unrelated)]);
    }

    #[test]
    fn an_expired_cross_signature_does_no_harm_while_another_path_is_in_force() {
        let (root, old) = (authority("root"), authority("old root"));
        let between = intermediate(&root, "between", |_| ());
        let expired = cross_signed(&between, &old, (2026, 11, 1));
        let leaf = leaf(&between);
        let chain = best(&set(&[&leaf.pem, &expired, &between.pem]), NOW);
        assert_eq!((chain.path, chain.faults), (vec![0, 2], Vec::new()));
        let alone = best(&set(&[&leaf.pem, &expired]), NOW);
        assert_eq!(alone.faults.iter().map(|fault| fault.at).collect::<Vec<_>>(), [1]);
    }

    #[test]
    fn a_signature_of_a_namesake_is_broken_unless_the_right_one_is_there_too() {
        let (root, namesake) = (authority("root"), authority("root"));
        let leaf = leaf(&root);
        assert_eq!(best(&set(&[&leaf.pem, &namesake.pem]), NOW).broken, Some((0, 1)));
        assert_eq!(best(&set(&[&leaf.pem, &namesake.pem, &root.pem]), NOW).broken, None);
    }

    #[test]
    fn what_could_not_be_checked_is_told_and_still_a_path() {
        let chain = best(&parse_pem("x", include_str!("samples/ecdsa-p256-sha512.pem")).unwrap(), NOW);
        assert_eq!((chain.path, chain.broken), (vec![0, 1], None));
        assert_eq!(chain.unchecked, [(0, "ECDSA with SHA-512".to_owned())]);
    }

    #[test]
    fn the_limits_of_an_authority_are_held_against_what_it_signed() {
        assert_eq!(faults_of(|_| ()), []);
        assert_eq!(
            faults_of(|params| params.is_ca = IsCa::NoCa),
            [(
                Verdict::Fail,
                "signed CN=iggy, and is not marked as an authority: clients refuse it".to_owned()
            )]
        );
        let constrained = |permitted: &str| {
            let subtree = GeneralSubtree::DnsName(permitted.to_owned());
            let constraints =
                NameConstraints { permitted_subtrees: vec![subtree], excluded_subtrees: Vec::new() };
            faults_of(|params| params.name_constraints = Some(constraints))
        };
        assert_eq!(constrained("example"), []);
        assert_eq!(
            constrained("iggy.example"),
            [(
                Verdict::Fail,
                "does not allow the name node1.example of CN=iggy (name constraints): clients refuse it"
                    .to_owned()
            )]
        );
        assert_eq!(
            faults_of(|params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth]),
            [(Verdict::Fail, "is not for TLS servers (extended key usage): clients refuse it".to_owned())]
        );
        assert_eq!(
            faults_of(|params| params.key_usages = vec![rcgen::KeyUsagePurpose::CrlSign]),
            [(
                Verdict::Warn,
                "signed CN=iggy, and its key is not for signing certificates (key usage)".to_owned()
            )]
        );
    }

    #[test]
    fn a_path_may_be_as_long_as_its_authorities_allow() {
        let root = authority("root");
        let above =
            intermediate(&root, "above", |params| params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0)));
        let below = intermediate(&above, "below", |_| ());
        let long = best(&set(&[&leaf(&below).pem, &below.pem, &above.pem]), NOW);
        assert_eq!(long.faults[0].at, 2);
        assert_eq!(
            long.faults[0].text,
            "allows 0 authorities below it and there are 1 (path length): clients refuse it"
        );
        assert_eq!(best(&set(&[&leaf(&above).pem, &above.pem]), NOW).faults, []);
    }

    #[test]
    fn many_certificates_of_one_name_are_looked_at_within_limits() {
        let root = authority("same");
        let chain: Vec<Made> =
            std::iter::successors(Some(root), |above| Some(intermediate(above, "same", |_| ())))
                .take(80)
                .collect();
        let leaf = leaf(chain.last().unwrap());
        let pems: Vec<&str> =
            std::iter::once(leaf.pem.as_str()).chain(chain.iter().map(|one| one.pem.as_str())).collect();
        assert!(paths(&set(&pems)).len() <= PATHS);
    }
}
