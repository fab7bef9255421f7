//! When the certificates of Iggy's listeners run out.

use warden_certificates::{lasts_until, read};
use warden_host::Host;

use crate::iggy;

/// When the certificates in a file run out: the first of the path that lasts longest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expiry {
    pub path: String,
    /// Unix time in seconds.
    pub not_after: i64,
}

/// Tells it of every certificate file that a listener of Iggy or its connectors is configured with, and that can be read.
pub fn expiries(host: &Host) -> Vec<Expiry> {
    let mut all: Vec<Expiry> = Vec::new();
    for path in iggy::listeners(host).into_iter().filter_map(|listener| listener.certificate) {
        if all.iter().all(|one| one.path != path)
            && let Ok(file) = read(host, &path)
            && let Some(not_after) = lasts_until(&file.certificates)
        {
            all.push(Expiry { path, not_after });
        }
    }
    all
}
