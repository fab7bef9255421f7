//! An authority that is known by its fingerprint: met when the other end shows it, and believed only if it is that one.

use std::fmt;
use std::str::FromStr;
use std::sync::{Arc, OnceLock};

use base64::Engine;
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{CertificateError, DigitallySignedStruct, Error, OtherError, RootCertStore, SignatureScheme};

use crate::sha256::{Digest, Sha256, from_hex, hex};

/// Certificates that are told of when none of them is the one that is looked for.
const TOLD: usize = 4;

/// SHA-256 over a certificate in DER, as `openssl x509 -fingerprint -sha256` tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Fingerprint(Digest);

#[derive(Debug, thiserror::Error)]
#[error(
    "expected 64 hexadecimal digits, with or without colons: the SHA-256 fingerprint that `warden supervisor init-tls` prints"
)]
pub struct NotAFingerprint;

impl Fingerprint {
    pub fn of(der: &[u8]) -> Fingerprint {
        let mut hash = Sha256::default();
        hash.update(der);
        Fingerprint(hash.finish())
    }
}

impl FromStr for Fingerprint {
    type Err = NotAFingerprint;

    fn from_str(text: &str) -> Result<Fingerprint, NotAFingerprint> {
        let text = text.trim();
        let named = text.get(..7).filter(|name| name.eq_ignore_ascii_case("sha256:"));
        let digits: String =
            text.get(named.map_or(0, str::len)..).unwrap_or_default().chars().filter(|c| *c != ':').collect();
        from_hex(&digits).map(Fingerprint).ok_or(NotAFingerprint)
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

/// The authority with this fingerprint, looked for among what the other end shows.
#[derive(Debug, Clone)]
pub struct Pinned {
    fingerprint: Fingerprint,
    found: Arc<OnceLock<CertificateDer<'static>>>,
}

impl Pinned {
    pub fn new(fingerprint: Fingerprint) -> Pinned {
        Pinned { fingerprint, found: Arc::default() }
    }

    /// Its certificate in PEM, once a handshake has proven the other end by it.
    pub fn pem(&self) -> Option<String> {
        self.found.get().map(|found| pem(found))
    }

    /// Accepts a server that this authority vouches for, and no other.
    pub fn verifier(&self, provider: Arc<CryptoProvider>) -> Arc<dyn ServerCertVerifier> {
        Arc::new(Verifier { pinned: self.clone(), provider })
    }
}

/// What a server shows instead of the authority that is looked for.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct NotPinned(String);

impl NotPinned {
    fn error(text: String) -> Error {
        Error::Other(OtherError(Arc::new(NotPinned(text))))
    }
}

#[derive(Debug)]
struct Verifier {
    pinned: Pinned,
    provider: Arc<CryptoProvider>,
}

impl ServerCertVerifier for Verifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let wanted = self.pinned.fingerprint;
        let mut shown = std::iter::once(end_entity).chain(intermediates);
        let Some(authority) = shown.find(|one| Fingerprint::of(one) == wanted) else {
            return Err(NotPinned::error(instead(wanted, end_entity, intermediates)));
        };
        let mut roots = RootCertStore::empty();
        roots.add(authority.clone().into_owned())?;
        let verifier =
            WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&self.provider))
                .build()
                .map_err(|error| Error::General(error.to_string()))?;
        let verified =
            verifier.verify_server_cert(end_entity, intermediates, server_name, ocsp_response, now);
        let verified = match verified {
            Err(Error::InvalidCertificate(CertificateError::UnknownIssuer)) if authority == end_entity => {
                return Err(NotPinned::error(
                    "the fingerprint is that of its own certificate, which an authority signed: give the fingerprint of \
                     the authority"
                        .to_owned(),
                ));
            }
            verified => verified?,
        };
        // A second connection meets the same one, or fails above.
        let _ = self.pinned.found.set(authority.clone().into_owned());
        Ok(verified)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls12_signature(message, certificate, signature, algorithms)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        rustls::crypto::verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }
}

fn instead(wanted: Fingerprint, own: &CertificateDer<'_>, others: &[CertificateDer<'_>]) -> String {
    let shown: Vec<String> =
        std::iter::once(own).chain(others).take(TOLD).map(|one| Fingerprint::of(one).to_string()).collect();
    let advice = if others.is_empty() {
        "it shows its own certificate alone: put the authority's behind it in the file tls_certificate there, or give \
         --ca-file here"
    } else {
        "this is another Supervisor, or something answers in its place; nothing was sent to it"
    };
    format!("it shows no certificate with the fingerprint {wanted}, but {}: {advice}", shown.join(", "))
}

/// Writes a certificate as PEM, in lines of 64 characters (RFC 7468).
pub fn pem(certificate: &CertificateDer<'_>) -> String {
    let text = base64::engine::general_purpose::STANDARD.encode(certificate);
    let lines: Vec<&str> =
        text.as_bytes().chunks(64).map(|line| std::str::from_utf8(line).unwrap_or_default()).collect();
    format!("-----BEGIN CERTIFICATE-----\n{}\n-----END CERTIFICATE-----\n", lines.join("\n"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fingerprint_is_read_as_openssl_and_we_write_it() {
        let ours = "0f".repeat(32);
        let of_openssl = vec!["0F"; 32].join(":");
        for text in [ours.as_str(), &of_openssl, &format!("sha256:{ours}"), &format!("SHA256:{of_openssl}\n")]
        {
            assert_eq!(text.parse::<Fingerprint>().unwrap().to_string(), ours);
        }
        for text in ["", "0f", "sha256:", &"0g".repeat(32), &"0f".repeat(33), "é"] {
            assert!(text.parse::<Fingerprint>().is_err(), "{text}");
        }
    }
}
