//! The authorities that this machine trusts.

use warden_host::{Host, IfAny, Result};

use super::{Certificate, Signature, pem};

/// Where distributions keep the bundle, as rustls-native-certs and Go look for it.
pub const STORES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

/// The authorities of the first bundle that there is.
#[derive(Debug)]
pub struct Store {
    pub path: &'static str,
    pub authorities: Vec<Certificate>,
    /// Blocks that could not be read: programs that use the bundle leave them out, too.
    pub unreadable: usize,
}

/// Whether a store vouches for a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Trust {
    Trusted,
    /// An authority of the store has the issuer's name, and the kind of its signature cannot be checked here.
    Unchecked(String),
    Unknown,
}

/// The store; `None` when none of the usual files is there.
pub fn store(host: &Host) -> Result<Option<Store>> {
    for path in STORES {
        if let Some(text) = host.read(path).if_any()? {
            let blocks = pem::blocks(path, &text)?;
            let count = blocks.certificates.len();
            let parsed = blocks.certificates.into_iter().map(|der| Certificate::parse(path, der));
            let authorities: Vec<Certificate> = parsed.filter_map(Result::ok).collect();
            let unreadable = count - authorities.len() + usize::from(blocks.refused.is_some());
            return Ok(Some(Store { path, authorities, unreadable }));
        }
    }
    Ok(None)
}

/// Whether `one` is an authority of the store that is in force at Unix time `now`, or was signed by one.
pub fn trust(one: &Certificate, authorities: &[Certificate], now: i64) -> Trust {
    let mut found = Trust::Unknown;
    for authority in authorities.iter().filter(|authority| authority.not_after >= now) {
        let is_itself = one.subject == authority.subject && one.key_sha256 == authority.key_sha256;
        if is_itself {
            return Trust::Trusted;
        }
        if one.issuer != authority.subject {
            continue;
        }
        match one.signature_by(authority) {
            Signature::Good => return Trust::Trusted,
            Signature::Unchecked(kind) => found = Trust::Unchecked(kind),
            Signature::Broken => {}
        }
    }
    found
}
