//! The socket the API is served on: TLS with rustls, or plain where nobody else can listen.

use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, anyhow, bail, ensure};
use axum::Router;
use axum_server::Handle;
use axum_server::accept::NoDelayAcceptor;
use axum_server::tls_rustls::{RustlsAcceptor, RustlsConfig};
use hyper_util::rt::TokioTimer;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::certificate;
use super::settings::{Settings, Tls};
use crate::tasks::Tasks;

/// For the head of a request to come, and for the next one on a connection that is kept.
const HEAD_PATIENCE: Duration = Duration::from_secs(60);
/// For requests under way when the Supervisor stops.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// How often the certificate's files are looked at: whoever renews them need not tell us.
const RENEWAL_LOOK: Duration = Duration::from_secs(60);

/// A socket that is bound, and what it speaks.
pub struct Listener {
    socket: TcpListener,
    pub address: SocketAddr,
    tls: Option<(RustlsConfig, Tls)>,
    public_url: Option<String>,
}

impl Listener {
    /// Binds the socket and reads certificate and key.
    pub fn bind(settings: &Settings) -> anyhow::Result<Listener> {
        let listen = settings.listen;
        if let Some(exposure) = settings.exposure() {
            bail!(exposure);
        }
        let tls = match &settings.tls {
            Some(tls) => Some((RustlsConfig::from_config(config(tls)?), tls.clone())),
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
    pub fn serve(self, router: Router, tasks: &mut Tasks) -> anyhow::Result<()> {
        // From now on: a SIGHUP that nobody waits for would end the process.
        let hangup = signal(SignalKind::hangup()).context("cannot wait for SIGHUP")?;
        let (tls, public_url) = (self.tls.clone(), self.public_url.clone());
        tasks.spawn("certificate", |stop| renew(tls, public_url, hangup, stop));
        tasks.spawn("http", |stop| self.run(router, stop));
        Ok(())
    }

    async fn run(self, router: Router, stop: CancellationToken) -> anyhow::Result<()> {
        let service = router.into_make_service_with_connect_info::<SocketAddr>();
        let handle = Handle::new();
        let ends = handle.clone();
        tokio::spawn(async move {
            stop.cancelled().await;
            ends.graceful_shutdown(Some(STOP_GRACE));
        });
        match self.tls {
            Some((tls, _)) => {
                let acceptor = RustlsAcceptor::new(tls).acceptor(NoDelayAcceptor::new());
                let mut server = axum_server::from_tcp(self.socket)?.acceptor(acceptor).handle(handle);
                bound(server.http_builder());
                server.serve(service).await?;
            }
            None => {
                let server = axum_server::from_tcp(self.socket)?.acceptor(NoDelayAcceptor::new());
                let mut server = server.handle(handle);
                bound(server.http_builder());
                server.serve(service).await?;
            }
        }
        Ok(())
    }
}

/// Limits of a connection.
fn bound(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEAD_PATIENCE);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(100).keep_alive_interval(HEAD_PATIENCE);
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

/// Takes up a renewed certificate: soon after it was written, and at once on SIGHUP. One that cannot be read leaves the
/// old one in place.
async fn renew(
    tls: Option<(RustlsConfig, Tls)>,
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
        match config(files) {
            Ok(config) => {
                served.reload_from_config(config);
                tracing::info!(certificate = %files.certificate.display(), "the certificate was read anew");
                certificate::warn(files, public_url.as_deref());
            }
            Err(error) => tracing::error!("the renewed certificate is not taken: {error:#}"),
        }
        known = now;
    }
}

/// When the files were written last.
fn written(tls: &Tls) -> Vec<Option<SystemTime>> {
    let files = [Some(&tls.certificate), Some(&tls.key), tls.client_ca.as_ref()];
    files.iter().map(|path| std::fs::metadata(path.as_ref()?).ok()?.modified().ok()).collect()
}
