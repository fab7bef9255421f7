//! A certificate authority for one test, and what stands before a Supervisor with its certificates.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;

pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate and its key, in PEM.
pub struct Certified {
    pub certificate: String,
    pub key: String,
}

impl Authority {
    pub fn new(name: &str) -> Authority {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        Authority { issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap() }
    }

    pub fn pem(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for a server of this name or address.
    pub fn server(&self, name: &str) -> Certified {
        self.certify(CertificateParams::new([name.to_owned()]).unwrap(), ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The same, that runs out after `life`.
    pub fn server_for(&self, name: &str, life: Duration) -> Certified {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_after = (SystemTime::now() + life).into();
        self.certify(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The same, for a time of its own, in seconds from now.
    pub fn server_between(&self, name: &str, from: i64, until: i64) -> Certified {
        let at = |seconds: i64| {
            let distance = Duration::from_secs(seconds.unsigned_abs());
            if seconds < 0 { SystemTime::now() - distance } else { SystemTime::now() + distance }
        };
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.not_before = at(from).into();
        params.not_after = at(until).into();
        self.certify(params, ExtendedKeyUsagePurpose::ServerAuth)
    }

    /// The certificate of an authority of this name, as some serve it by mistake.
    pub fn authority_as_server(name: &str) -> (Authority, Certified) {
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let key_pem = key.serialize_pem();
        let issuer = CertifiedIssuer::self_signed(params, key).unwrap();
        let certified = Certified { certificate: issuer.pem(), key: key_pem };
        (Authority { issuer }, certified)
    }

    pub fn client(&self, name: &str) -> Certified {
        let mut params = CertificateParams::default();
        params.distinguished_name.push(DnType::CommonName, name);
        self.certify(params, ExtendedKeyUsagePurpose::ClientAuth)
    }

    fn certify(&self, mut params: CertificateParams, usage: ExtendedKeyUsagePurpose) -> Certified {
        params.extended_key_usages = vec![usage];
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        Certified { certificate: certificate.pem(), key: key.serialize_pem() }
    }
}

impl Certified {
    /// Writes both below `folder`: certificate and key.
    pub fn write(&self, folder: &Path, name: &str) -> (PathBuf, PathBuf) {
        let paths = (folder.join(format!("{name}.pem")), folder.join(format!("{name}.key")));
        std::fs::write(&paths.0, &self.certificate).unwrap();
        std::fs::write(&paths.1, &self.key).unwrap();
        paths
    }
}

/// What ends TLS before a server that has none. `clients`: whose certificates a client must have.
pub struct Front {
    pub address: SocketAddr,
    task: tokio::task::JoinHandle<()>,
}

impl Front {
    pub async fn before(server: SocketAddr, certified: &Certified, clients: Option<&Authority>) -> Front {
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let builder = ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()
            .unwrap();
        let builder = match clients {
            None => builder.with_no_client_auth(),
            Some(authority) => {
                let mut roots = RootCertStore::empty();
                roots.add(CertificateDer::from_pem_slice(authority.pem().as_bytes()).unwrap()).unwrap();
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.build().unwrap())
            }
        };
        let chain = CertificateDer::pem_slice_iter(certified.certificate.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().unwrap();
        let key = PrivateKeyDer::from_pem_slice(certified.key.as_bytes()).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(builder.with_single_cert(chain, key).unwrap()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let task = tokio::spawn(async move {
            loop {
                let Ok((client, _)) = listener.accept().await else { continue };
                let acceptor = acceptor.clone();
                tokio::spawn(async move {
                    let Ok(mut client) = acceptor.accept(client).await else { return };
                    let Ok(mut server) = TcpStream::connect(server).await else { return };
                    let _ = tokio::io::copy_bidirectional(&mut client, &mut server).await;
                });
            }
        });
        Front { address, task }
    }
}

impl Drop for Front {
    fn drop(&mut self) {
        self.task.abort();
    }
}
