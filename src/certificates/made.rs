//! Certificates that are made for tests.
#![expect(clippy::unwrap_used, reason = "only tests use it")]

use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};

use super::{Certificate, parse_pem};

/// 2026-11-21T11:20:00Z, when the made certificates are in their middle.
pub const NOW: i64 = 1_795_260_000;

pub struct Made {
    pub pem: String,
    pub key: KeyPair,
    params: CertificateParams,
}

impl Made {
    pub fn parsed(&self) -> Certificate {
        parse_pem("made", &self.pem).unwrap().remove(0)
    }
}

fn params(name: &str, names: &[&str], until: (i32, u8, u8)) -> CertificateParams {
    let mut params =
        CertificateParams::new(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
    params.distinguished_name.push(DnType::CommonName, name);
    params.not_before = date_time_ymd(2026, 1, 1);
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    params
}

fn made(params: CertificateParams, by: Option<&Made>) -> Made {
    let key = KeyPair::generate().unwrap();
    let certificate = match by {
        Some(by) => params.signed_by(&key, &Issuer::from_params(&by.params, &by.key)),
        None => params.self_signed(&key),
    };
    Made { pem: certificate.unwrap().pem(), key, params }
}

pub fn authority(name: &str) -> Made {
    let mut params = params(name, &[], (2030, 1, 1));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    made(params, None)
}

pub fn issued(by: &Made, names: &[&str], until: (i32, u8, u8)) -> Made {
    made(params("iggy", names, until), Some(by))
}

/// An authority below another one, with what `edit` makes different.
pub fn intermediate(by: &Made, name: &str, edit: impl FnOnce(&mut CertificateParams)) -> Made {
    let mut params = params(name, &[], (2030, 1, 1));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    edit(&mut params);
    made(params, Some(by))
}

/// The certificate of `of`, name and key alike, as `by` signs it.
pub fn cross_signed(of: &Made, by: &Made, until: (i32, u8, u8)) -> String {
    let mut params = of.params.clone();
    params.not_after = date_time_ymd(until.0, until.1, until.2);
    params.signed_by(&of.key, &Issuer::from_params(&by.params, &by.key)).unwrap().pem()
}
