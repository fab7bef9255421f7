//! The two kinds of object store, serving, for tests that put archives.

use std::net::SocketAddr;
use std::path::Path;
use std::time::Duration;

use axum::Router;
use reqwest::{Client, Response, StatusCode};
use sha2::{Digest, Sha256};
use warden::protocol::{PartTag, Put, Upload};
use warden::secret::Secret;
use warden::supervisor::object_store::{Announced, Key, Local, Objects, S3, S3Settings, local};

use super::proxy::Proxy;
use super::s3::{ACCESS_KEY, BUCKET, S3Server, SECRET_KEY};

pub const KEY: Key = Key { deployment: 611298765432109056, snapshot: 610809900976570889 };

/// Every upload is waited for, as nothing but the folder knows.
pub fn always() -> local::Wanted {
    std::sync::Arc::new(|_| Box::pin(std::future::ready(Some(true))))
}

/// One of the two stores, serving.
pub struct Place {
    pub objects: Objects,
    /// Where relative addresses lead.
    pub base: String,
    pub http: Client,
    folder: Option<tempfile::TempDir>,
    s3: Option<S3Server>,
}

impl Place {
    pub async fn folder() -> Place {
        Place::folder_behind(|routes| routes).await
    }

    /// The folder behind something that may answer in its stead.
    pub async fn folder_behind(front: impl FnOnce(Router) -> Router) -> Place {
        Place::folder_at(tempfile::tempdir().unwrap(), front).await
    }

    pub async fn folder_at(folder: tempfile::TempDir, front: impl FnOnce(Router) -> Router) -> Place {
        let kept = Local::open(folder.path()).unwrap();
        let base = serve(front(local::routes(kept.clone(), always()))).await;
        Place { objects: Objects::Local(kept), base, http: http(), folder: Some(folder), s3: None }
    }

    pub async fn s3() -> Place {
        let server = S3Server::start().await;
        let address = server.address;
        Place::s3_at(server, address)
    }

    /// Both the Supervisor and the nodes reach it through a network.
    pub async fn s3_through_network() -> (Place, Proxy) {
        let server = S3Server::start().await;
        let network = Proxy::before(server.address).await;
        (Place::s3_at(server, network.address), network)
    }

    fn s3_at(server: S3Server, address: SocketAddr) -> Place {
        let settings = S3Settings {
            endpoint: format!("http://{address}"),
            region: "eu-central-1".to_owned(),
            bucket: BUCKET.to_owned(),
            access_key_id: ACCESS_KEY.to_owned(),
            secret_access_key: Secret::new(SECRET_KEY),
            virtual_host: false,
        };
        let objects = Objects::S3(Box::new(S3::new(&settings, http()).unwrap()));
        Place { objects, base: String::new(), http: http(), folder: None, s3: Some(server) }
    }

    pub async fn both() -> [Place; 2] {
        [Place::folder().await, Place::s3().await]
    }

    pub async fn send(&self, put: &Put, body: Vec<u8>) -> Response {
        let url =
            if put.url.starts_with('/') { format!("{}{}", self.base, put.url) } else { put.url.clone() };
        let mut request = self.http.put(url).body(body);
        for (name, value) in &put.headers {
            request = request.header(name, value);
        }
        request.send().await.unwrap()
    }

    /// Puts all of it as granted, grant after grant, and tells the tags.
    pub async fn put_all(&self, content: &[u8], announced: &Announced, whole_limit: u64) -> Vec<PartTag> {
        let begun = self.objects.begin(KEY, announced, whole_limit).await.unwrap();
        let mut tags = Vec::new();
        match self.objects.grant(KEY, announced, &begun, &[], now()) {
            Upload::Whole { put } => {
                assert_eq!(self.send(&put, content.to_vec()).await.status(), StatusCode::OK);
            }
            Upload::Parts { part_bytes, parts } => {
                for (chunk, part) in content.chunks(part_bytes as usize).zip(parts) {
                    let response = self.send(&part.put, chunk.to_vec()).await;
                    assert_eq!(response.status(), StatusCode::OK);
                    let etag = response.headers()["etag"].to_str().unwrap().to_owned();
                    tags.push(PartTag { number: part.number, etag });
                }
            }
        }
        self.objects.finish(KEY, announced, &begun, &tags).await.unwrap();
        tags
    }

    /// Where the archive lies when it has arrived.
    pub fn object(&self) -> std::path::PathBuf {
        self.folder.as_ref().unwrap().path().join(KEY.path())
    }

    /// Everything that lies in the store, uploads under way too, but what it keeps for itself.
    pub fn stored(&self) -> Vec<String> {
        let folder = match (&self.folder, &self.s3) {
            (Some(folder), _) => folder.path(),
            (_, Some(s3)) => s3.folder(),
            _ => return Vec::new(),
        };
        stored_in(folder)
    }

    /// Of the upload that is under way.
    pub fn partial_bytes(&self) -> u64 {
        let folder = self.folder.as_ref().map(|folder| folder.path().join(".partial").join(KEY.path()));
        folder.and_then(|path| std::fs::metadata(path).ok()).map_or(0, |about| about.len())
    }

    pub fn lies_there(&self) -> bool {
        match (&self.folder, &self.s3) {
            (Some(folder), _) => folder.path().join(KEY.path()).exists(),
            (_, Some(s3)) => s3.object(&KEY.path()).exists(),
            _ => false,
        }
    }
}

/// Everything that lies in the folder of a store, uploads under way too, but what the store keeps for itself.
pub fn stored_in(folder: &Path) -> Vec<String> {
    // Of the S3 server: what it knows of an object, and requests that it still waits for.
    let own =
        |name: &str| name == ".signing-key" || name.starts_with(".bucket-") || name.starts_with(".tmp.");
    let mut stored = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(at) = folders.pop() {
        for entry in std::fs::read_dir(at).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if !own(path.file_name().unwrap().to_str().unwrap()) {
                let path = path.strip_prefix(folder).unwrap().to_str().unwrap();
                stored.push(path.strip_prefix(&format!("{BUCKET}/")).unwrap_or(path).to_owned());
            }
        }
    }
    stored.sort();
    stored
}

pub fn http() -> Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder().no_proxy().timeout(Duration::from_secs(60)).build().unwrap()
}

pub fn now() -> jiff::Timestamp {
    jiff::Timestamp::now()
}

pub fn content(size: usize) -> Vec<u8> {
    (0..size).map(|at| (at % 251) as u8).collect()
}

pub fn announced(content: &[u8]) -> Announced {
    Announced { size: content.len() as u64, sha256: Sha256::digest(content).into() }
}

/// Where it is served.
pub async fn serve(routes: Router) -> String {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let base = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, routes).await.unwrap() });
    base
}
