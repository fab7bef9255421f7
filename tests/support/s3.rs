//! A real S3-compatible server, in this process, over a folder that goes when it goes.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use hyper_util::rt::TokioIo;
use s3s::auth::SimpleAuth;
use s3s::service::S3ServiceBuilder;
use tempfile::TempDir;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

pub const BUCKET: &str = "warden-archives";
pub const ACCESS_KEY: &str = "test-access-key";
pub const SECRET_KEY: &str = "test-secret-key";

pub struct S3Server {
    pub address: SocketAddr,
    folder: TempDir,
    server: JoinHandle<()>,
}

impl S3Server {
    /// Runs on the runtime of the caller. Signatures are checked.
    pub async fn start() -> S3Server {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(BUCKET)).unwrap();
        let mut service = S3ServiceBuilder::new(s3s_fs::FileSystem::new(folder.path()).unwrap());
        service.set_auth(SimpleAuth::from_single(ACCESS_KEY, SECRET_KEY));
        let service = service.build();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = tokio::spawn(async move {
            loop {
                let (connection, _) = listener.accept().await.unwrap();
                let service = service.clone();
                tokio::spawn(async move {
                    let http = hyper::server::conn::http1::Builder::new();
                    // A client that goes away in the middle is nothing to fail for.
                    let _ = http.serve_connection(TokioIo::new(connection), service).await;
                });
            }
        });
        S3Server { address, folder, server }
    }

    pub fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Where an object lies on disk.
    pub fn object(&self, path: &str) -> PathBuf {
        self.folder.path().join(BUCKET).join(path)
    }
}

impl Drop for S3Server {
    fn drop(&mut self) {
        self.server.abort();
    }
}
