//! How the other end of a connection that we open is proven, and we to it: rustls, with the host's authorities or
//! pinned ones.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, ensure};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

/// What must have signed the other end's certificate.
#[derive(Debug, Clone, Copy)]
pub enum Trust<'a> {
    /// The authorities this host trusts (`SSL_CERT_FILE` and `SSL_CERT_DIR` name others).
    Host,
    /// These, and no other: the file is read anew for each connection.
    File(&'a Path),
    /// These, and no other, in PEM.
    Pem(&'a str),
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
    let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()?
        .with_root_certificates(roots(trust)?);
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

pub async fn handshake(
    configuration: ClientConfig,
    host: &str,
    stream: TcpStream,
) -> anyhow::Result<TlsStream<TcpStream>> {
    let name =
        ServerName::try_from(host.to_owned()).with_context(|| format!("{host} is no name of a host"))?;
    let connected = TlsConnector::from(Arc::new(configuration)).connect(name, stream).await;
    connected.with_context(|| format!("cannot prove that it is {host}"))
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
        Trust::Nobody => {}
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
