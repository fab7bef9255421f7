//! The socket the API is served on: TLS with rustls, or plain where nobody else can listen.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail, ensure};
use axum::Router;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use warden_platform::task_set::Tasks;

use super::certificate;
use super::connections::{self, Connections};
use super::settings::{Settings, Tls};

/// How often the certificate's files are looked at: whoever renews them need not tell us.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);

/// A socket that is bound, and what it speaks.
pub struct Listener {
    socket: TcpListener,
    pub address: SocketAddr,
    tls: Option<(Certificate, Tls)>,
    public_url: Option<String>,
}

/// The certificate that is shown, with its key: the one of now.
#[derive(Clone)]
pub struct Certificate(Arc<RwLock<Arc<ServerConfig>>>);

impl Certificate {
    fn new(config: Arc<ServerConfig>) -> Certificate {
        Certificate(Arc::new(RwLock::new(config)))
    }

    pub fn current(&self) -> Arc<ServerConfig> {
        Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner))
    }

    fn replace(&self, config: Arc<ServerConfig>) {
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = config;
    }
}

impl Listener {
    /// Binds the socket and reads certificate and key.
    pub fn bind(settings: &Settings) -> anyhow::Result<Listener> {
        let listen = settings.listen;
        if let Some(exposure) = settings.exposure() {
            bail!(exposure);
        }
        let tls = match &settings.tls {
            Some(tls) => Some((Certificate::new(config(tls)?), tls.clone())),
            None => None,
        };
        let socket = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        socket.set_nonblocking(true)?;
        let address = socket.local_addr()?;
        if let Some(tls) = &settings.tls {
            certificate::warn(tls, settings.public_url.as_deref());
        }
        Ok(Listener { socket, address, tls, public_url: settings.public_url.clone() })
    }

    /// Serves until told to stop, then ends what is under way.
    pub fn serve(self, router: Router, connections: Connections, tasks: &mut Tasks) -> anyhow::Result<()> {
        // From now on: a SIGHUP that nobody waits for would end the process.
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let (tls, public_url) = (self.tls.clone(), self.public_url.clone());
        tasks.spawn("certificate", |stop| renew(tls, public_url, hangup, stop));
        let socket = tokio::net::TcpListener::from_std(self.socket)?;
        let certificate = self.tls.map(|(certificate, _)| certificate);
        tasks.spawn("http", |stop| async move {
            connections::serve(socket, certificate, router, connections, stop).await;
            Ok(())
        });
        Ok(())
    }
}

/// What is served, out of the files.
pub(super) fn config(tls: &Tls) -> anyhow::Result<Arc<ServerConfig>> {
    let certificates = certificates(&tls.certificate)?;
    let key = PrivateKeyDer::from_pem_file(&tls.key)
        .with_context(|| format!("there is no private key in {}", tls.key.display()))?;
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder =
        ServerConfig::builder_with_provider(Arc::clone(&provider)).with_safe_default_protocol_versions()?;
    let builder = match &tls.client_ca {
        None => builder.with_no_client_auth(),
        Some(path) => {
            let mut roots = RootCertStore::empty();
            for certificate in self::certificates(path)? {
                roots.add(certificate).with_context(|| format!("{} has no CA", path.display()))?;
            }
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider).build()?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let (certificate, own_key) = (tls.certificate.display(), tls.key.display());
    let mut config = builder.with_single_cert(certificates, key).map_err(|error| {
        // The words of a debugger.
        tracing::debug!(%error, "certificate and key");
        anyhow!(
            "{certificate} and {own_key} do not fit: the key is of another certificate, or not of a kind that is served \
             (EC P-256 and P-384, Ed25519, RSA); the server's own certificate stands first in its file"
        )
    })?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn certificates(path: &Path) -> anyhow::Result<Vec<CertificateDer<'static>>> {
    let shown = path.display();
    let certificates = CertificateDer::pem_file_iter(path)
        .with_context(|| format!("cannot read {shown}"))?
        .collect::<Result<Vec<_>, _>>()
        .with_context(|| format!("{shown} is no PEM file"))?;
    ensure!(!certificates.is_empty(), "there is no certificate in {shown}");
    Ok(certificates)
}

/// Takes up a renewed certificate: soon after it was written, and at once on SIGHUP. One that cannot be read, or is
/// valid at another time than now, leaves the old one in place.
async fn renew(
    tls: Option<(Certificate, Tls)>,
    public_url: Option<String>,
    mut hangup: Signal,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut known = tls.as_ref().map(|(_, files)| written(files));
    loop {
        let told = tokio::select! {
            () = tokio::time::sleep(RENEWAL_LOOK) => false,
            _ = hangup.recv() => true,
            () = stop.cancelled() => return Ok(()),
        };
        let Some((served, files)) = &tls else { continue };
        let now = Some(written(files));
        if now == known && !told {
            continue;
        }
        let usable = certificate::is_of_today(files).and_then(|()| config(files));
        match usable {
            Ok(config) => {
                served.replace(config);
                tracing::info!(certificate = %files.certificate.display(), "the certificate was read anew");
                certificate::warn(files, public_url.as_deref());
            }
            Err(error) => {
                tracing::error!(
                    "the renewed certificate is not taken, and the one before is served: {error:#}"
                );
            }
        }
        known = now;
    }
}

/// When the files were written last.
fn written(tls: &Tls) -> Vec<Option<SystemTime>> {
    let files = [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()];
    files.iter().map(|path| std::fs::metadata(path.as_ref()?).ok()?.modified().ok()).collect()
}
