//! How the other end of a connection that we open is proven, and we to it: rustls, with the host's authorities or
//! pinned ones.

mod any;
pub mod issue;
mod pin;
mod words;

use std::path::{Path, PathBuf};
use std::sync::Arc;

pub use any::accepting_any_certificate;
use anyhow::{Context, ensure};
pub use pin::{Fingerprint, NotAFingerprint, Pinned, pem};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
pub use words::{may_be_https, words};

/// Fingerprints that are told where none fits.
const TOLD: usize = 4;

/// What must have signed the other end's certificate.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The authorities this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    Host,
    /// These, and no other: the file is read anew for each connection.
    File(&'a Path),
    /// These, and no other, in PEM.
    Pem(&'a str),
    /// The one with a fingerprint, as soon as the other end shows it.
    Pinned(&'a Pinned),
    /// Nobody: for addresses without TLS, on a host that may trust nobody.
    Nobody,
}

/// A certificate chain and its key, both in PEM.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientCertificate {
    pub certificate: PathBuf,
    pub key: PathBuf,
}

/// Certificates and keys are read anew for each connection: a renewed one needs no restart.
pub fn configuration(trust: Trust<'_>, client: Option<&ClientCertificate>) -> anyhow::Result<ClientConfig> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ClientConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match trust {
        Trust::Pinned(pinned) => {
            builder.dangerous().with_custom_certificate_verifier(pinned.verifier(provider))
        }
        Trust::Host | Trust::File(_) | Trust::Pem(_) | Trust::Nobody => {
            builder.with_root_certificates(roots(trust)?)
        }
    };
    let mut configuration = match client {
        None => builder.with_no_client_auth(),
        Some(client) => {
            let chain = certificates(&read(&client.certificate)?)
                .with_context(|| format!("{} holds no certificate", client.certificate.display()))?;
            let key = PrivateKeyDer::from_pem_slice(&zeroize::Zeroizing::new(read(&client.key)?))
                .map_err(|_| anyhow::anyhow!("{} holds no private key in PEM", client.key.display()))?;
            let set = builder.with_client_auth_cert(chain, key);
            set.with_context(|| format!("{} does not fit its key", client.certificate.display()))?
        }
    };
    // The upgrade to a websocket is one of HTTP/1.1.
    configuration.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(configuration)
}

/// `how_to_trust`: by which options the caller is told of an authority.
pub async fn handshake(
    configuration: ClientConfig,
    host: &str,
    stream: TcpStream,
    how_to_trust: &str,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let name =
        ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name of a host"))?;
    let connected = TlsConnector::from(Arc::new(configuration)).connect(name, stream).await;
    connected
        .map_err(|error| match words(&error, how_to_trust) {
            Some(words) => anyhow::anyhow!(words),
            None => error.into(),
        })
        .with_context(|| format!("cannot prove that it is {host}"))
}

/// The certificate with this fingerprint out of a file of some, in PEM.
///
/// # Errors
/// The file cannot be read, or does not hold it.
pub fn authority_in(file: &Path, fingerprint: Fingerprint) -> anyhow::Result<String> {
    let shown = file.display();
    let known = certificates(&read(file)?).with_context(|| format!("{shown} holds no certificate in PEM"))?;
    let found = known.iter().find(|certificate| Fingerprint::of(certificate) == fingerprint);
    found.map(pem).with_context(|| {
        let held: Vec<String> =
            known.iter().take(TOLD).map(|certificate| Fingerprint::of(certificate).to_string()).collect();
        format!("{shown} holds no certificate with the fingerprint {fingerprint}, but {}", held.join(", "))
    })
}

/// The authority at the end of a server's chain, in PEM, if the file holds one of somebody's own.
pub fn own_authority(chain: &Path) -> Option<String> {
    let chain = certificates(&read(chain).ok()?).ok()?;
    let last = pem(chain.last().filter(|_| chain.len() > 1)?);
    let parsed = warden_certificates::parse_pem("", &last).ok()?;
    parsed.first().is_some_and(|one| one.is_authority && one.is_self_issued()).then_some(last)
}

/// Fingerprints of the certificates in a text, in its order.
pub fn fingerprints(pem: &str) -> Vec<Fingerprint> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).flatten().map(|der| Fingerprint::of(&der)).collect()
}

fn roots(trust: Trust<'_>) -> anyhow::Result<RootCertStore> {
    let mut store = RootCertStore::empty();
    match trust {
        Trust::Host => {
            let found = rustls_native_certs::load_native_certs();
            store.add_parsable_certificates(found.certs);
            ensure!(
                !store.is_empty(),
                "this host trusts no certificate authority: install ca-certificates, or name a file with one"
            );
        }
        Trust::File(path) => {
            let pinned = certificates(&read(path)?);
            let whose = || format!("{} holds no certificate in PEM", path.display());
            add(&mut store, pinned.with_context(whose)?).with_context(whose)?;
        }
        Trust::Nobody | Trust::Pinned(_) => {}
        Trust::Pem(pem) => {
            let whose = "the authority given at enrolment is no certificate: enrol this host anew";
            add(&mut store, certificates(pem.as_bytes()).context(whose)?).context(whose)?;
        }
    }
    Ok(store)
}

fn add(store: &mut RootCertStore, certificates: Vec<CertificateDer<'static>>) -> anyhow::Result<()> {
    for certificate in certificates {
        store.add(certificate)?;
    }
    Ok(())
}

fn certificates(pem: &[u8]) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let found = CertificateDer::pem_slice_iter(pem).collect::<Result<Vec<_>, _>>()?;
    ensure!(!found.is_empty(), "no certificate");
    Ok(found)
}

fn read(path: &Path) -> anyhow::Result<Vec<u8>> {
    std::fs::read(path).with_context(|| format!("cannot read {}", path.display()))
}
