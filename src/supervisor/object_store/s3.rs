//! Archives in a store that speaks S3: we sign, the nodes put, and we look at what lies there.
//!
//! Addresses are presigned by Signature Version 4 with Content-Length, and the whole archive's also with its
//! SHA-256, as signed headers: the store itself refuses a body of another size or content.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::StreamExt;
use reqwest::{Client, Response, StatusCode};
use rusty_s3::actions::{CompleteMultipartUploadResponse, CreateMultipartUpload};
use rusty_s3::{Bucket, Credentials, S3Action, UrlStyle};
use warden_platform::secret::Secret;
use warden_platform::sha256::{Sha256, hex};
use warden_platform::tls;
use warden_protocol::{PartTag, Put};

use super::{Announced, Begun, DOWNLOAD_LIFE, Error, GRANT_LIFE, Key};

/// One question to the store that moves no archive.
const PATIENCE: Duration = Duration::from_secs(30);
/// Putting many parts together takes S3 minutes.
const COMPLETE_PATIENCE: Duration = Duration::from_secs(10 * 60);
/// Between two pieces of an archive that is read back.
const READ_PATIENCE: Duration = Duration::from_secs(60);
/// Longest answer that is not an archive.
const ANSWER_LIMIT: usize = 1 << 20;
const HOW_TO_TRUST: &str =
    "add it to those of the Supervisor's host (update-ca-certificates), and restart the Supervisor";
const CHECKSUM: &str = "x-amz-checksum-sha256";

/// How the store is reached.
#[derive(Debug, Clone, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct S3Settings {
    /// `https://s3.eu-central-1.amazonaws.com`; for another store, its own address.
    pub endpoint: String,
    pub region: String,
    pub bucket: String,
    pub access_key_id: String,
    pub secret_access_key: Secret,
    /// The bucket in the host name instead of the path.
    #[serde(default)]
    pub virtual_host: bool,
}

pub struct S3 {
    bucket: Bucket,
    credentials: Credentials,
    http: Client,
}

impl S3 {
    /// # Errors
    /// The endpoint is no address, or cannot hold such a bucket.
    pub fn new(settings: &S3Settings, http: Client) -> anyhow::Result<S3> {
        use anyhow::Context;
        let style = if settings.virtual_host { UrlStyle::VirtualHost } else { UrlStyle::Path };
        let endpoint = settings.endpoint.parse().context("the endpoint of the object store is no address")?;
        let bucket = Bucket::new(endpoint, style, settings.bucket.clone(), settings.region.clone())
            .context("the endpoint and bucket of the object store make no address")?;
        let credentials = Credentials::new(&settings.access_key_id, settings.secret_access_key.expose());
        Ok(S3 { bucket, credentials, http })
    }

    pub(super) fn put(&self, key: Key, announced: &Announced, now: jiff::Timestamp) -> Put {
        let path = key.path();
        let mut action = self.bucket.put_object(Some(&self.credentials), &path);
        let checksum = STANDARD.encode(announced.sha256);
        action.headers_mut().insert("content-length", announced.size.to_string());
        action.headers_mut().insert(CHECKSUM, checksum.clone());
        let url = action.sign_with_time(GRANT_LIFE, &now).into();
        Put { url, headers: vec![(CHECKSUM.to_owned(), checksum)] }
    }

    pub(super) fn put_part(
        &self,
        key: Key,
        upload: &str,
        number: u32,
        size: u64,
        now: jiff::Timestamp,
    ) -> Put {
        let path = key.path();
        let number = u16::try_from(number).unwrap_or(u16::MAX);
        let mut action = self.bucket.upload_part(Some(&self.credentials), &path, number, upload);
        action.headers_mut().insert("content-length", size.to_string());
        Put { url: action.sign_with_time(GRANT_LIFE, &now).into(), headers: Vec::new() }
    }

    pub(super) fn get(&self, key: Key, name: &str, now: jiff::Timestamp) -> String {
        let path = key.path();
        let mut action = self.bucket.get_object(Some(&self.credentials), &path);
        let disposition = format!("attachment; filename=\"{name}\"");
        action.query_mut().insert("response-content-disposition", disposition);
        action.sign_with_time(DOWNLOAD_LIFE, &now).into()
    }

    pub(super) async fn begin_parts(&self, key: Key, part_bytes: u64) -> Result<Begun, Error> {
        let path = key.path();
        let action = self.bucket.create_multipart_upload(Some(&self.credentials), &path);
        let request = self.http.post(action.sign(PATIENCE)).timeout(PATIENCE);
        let text = text_of(accepted(request.send().await)?).await?;
        let upload = CreateMultipartUpload::parse_response(&text).map_err(unavailable)?;
        Ok(Begun::Parts { part_bytes, upload_id: Some(upload.upload_id().to_owned()) })
    }

    pub(super) async fn finish(
        &self,
        key: Key,
        announced: &Announced,
        begun: &Begun,
        tags: &[PartTag],
    ) -> Result<(), Error> {
        if let Begun::Parts { part_bytes, upload_id: Some(upload) } = begun {
            let completed =
                self.complete(key, upload, announced.size.div_ceil(*part_bytes) as u32, tags).await;
            // Completed before, by a Supervisor that died before it could say so? Stores answer that in many ways.
            if let Err(error) = completed {
                return self.is_as_announced(key, announced).await.map_err(|_| error);
            }
        }
        let matches = self.is_as_announced(key, announced).await;
        if let Err(Error::Mismatch(_)) = &matches {
            self.delete(key).await?;
        }
        matches
    }

    pub(super) async fn abort(&self, key: Key, begun: &Begun) -> Result<(), Error> {
        let Begun::Parts { upload_id: Some(upload), .. } = begun else { return Ok(()) };
        let path = key.path();
        let action = self.bucket.abort_multipart_upload(Some(&self.credentials), &path, upload);
        let request = self.http.delete(action.sign(PATIENCE)).timeout(PATIENCE);
        gone(request.send().await)
    }

    pub(super) async fn delete(&self, key: Key) -> Result<(), Error> {
        let path = key.path();
        let action = self.bucket.delete_object(Some(&self.credentials), &path);
        let request = self.http.delete(action.sign(PATIENCE)).timeout(PATIENCE);
        gone(request.send().await)
    }

    pub(super) async fn ready(&self) -> Result<(), Error> {
        let action = self.bucket.head_bucket(Some(&self.credentials));
        accepted(self.http.head(action.sign(PATIENCE)).timeout(PATIENCE).send().await).map(drop)
    }

    async fn complete(&self, key: Key, upload: &str, count: u32, tags: &[PartTag]) -> Result<(), Error> {
        let tags: BTreeMap<u32, &str> = tags.iter().map(|tag| (tag.number, tag.etag.as_str())).collect();
        if !tags.keys().copied().eq(1..=count) {
            return Err(Error::Missing(format!("{} of {count} parts were told of", tags.len())));
        }
        let path = key.path();
        let etags = tags.into_values();
        let action = self.bucket.complete_multipart_upload(Some(&self.credentials), &path, upload, etags);
        let url = action.sign(COMPLETE_PATIENCE);
        let request = self.http.post(url).body(action.body()).timeout(COMPLETE_PATIENCE);
        let response = request.send().await.map_err(unreached)?;
        let status = response.status();
        let text = text_of(response).await?;
        match status {
            StatusCode::NOT_FOUND => Err(Error::Missing("the upload is not known any more".to_owned())),
            StatusCode::BAD_REQUEST => {
                Err(Error::Mismatch(format!("the store refused the parts: {}", code(&text))))
            }
            _ if !status.is_success() => Err(Error::Unavailable(format!("{status}: {}", code(&text)))),
            // An answer of 200 may still carry an error.
            _ => CompleteMultipartUploadResponse::parse(&text)
                .map(drop)
                .map_err(|_| Error::Unavailable(format!("completing failed: {}", code(&text)))),
        }
    }

    async fn is_as_announced(&self, key: Key, announced: &Announced) -> Result<(), Error> {
        let path = key.path();
        let mut action = self.bucket.head_object(Some(&self.credentials), &path);
        action.headers_mut().insert("x-amz-checksum-mode", "ENABLED");
        let request = self.http.head(action.sign(PATIENCE)).header("x-amz-checksum-mode", "ENABLED");
        let response = request.timeout(PATIENCE).send().await.map_err(unreached)?;
        if response.status() == StatusCode::NOT_FOUND {
            return Err(Error::Missing(path));
        }
        let response = accepted(Ok(response))?;
        let header = |name: &str| response.headers().get(name).and_then(|value| value.to_str().ok());
        let size = header("content-length").and_then(|size| size.parse::<u64>().ok());
        if size != Some(announced.size) {
            let is = size.map_or_else(|| "unknown size".to_owned(), |size| format!("{size} bytes"));
            return Err(Error::Mismatch(format!("{is}, announced {}", announced.size)));
        }
        // Of an archive in parts the store may tell a hash of hashes, which has a `-` and a number at its end.
        match header(CHECKSUM).filter(|checksum| !checksum.contains('-')) {
            Some(checksum) if checksum == STANDARD.encode(announced.sha256) => Ok(()),
            Some(_) => Err(Error::Mismatch("another SHA-256 than announced".to_owned())),
            None => self.reads_as_announced(key, announced).await,
        }
    }

    /// Reads the object back: for stores that keep no SHA-256 of the whole.
    async fn reads_as_announced(&self, key: Key, announced: &Announced) -> Result<(), Error> {
        let path = key.path();
        let url = self.bucket.get_object(Some(&self.credentials), &path).sign(PATIENCE);
        let mut body = accepted(self.http.get(url).send().await)?.bytes_stream();
        let mut hash = Sha256::default();
        while let Some(bytes) = tokio::time::timeout(READ_PATIENCE, body.next())
            .await
            .map_err(|_| Error::Unavailable(format!("{path} stopped in the middle of being read")))?
        {
            hash.update(&bytes.map_err(unreached)?);
        }
        let digest = hash.finish();
        if digest == announced.sha256 {
            return Ok(());
        }
        Err(Error::Mismatch(format!("SHA-256 {}, announced {}", hex(&digest), hex(&announced.sha256))))
    }
}

impl std::fmt::Debug for S3 {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("S3").field("bucket", &self.bucket.name()).finish_non_exhaustive()
    }
}

/// Addresses are secrets, so no error carries one.
fn unavailable(error: impl std::fmt::Display) -> Error {
    Error::Unavailable(error.to_string())
}

fn unreached(error: reqwest::Error) -> Error {
    let error = error.without_url();
    unavailable(tls::words(&error, HOW_TO_TRUST).unwrap_or_else(|| error.to_string()))
}

fn accepted(response: reqwest::Result<Response>) -> Result<Response, Error> {
    let response = response.map_err(unreached)?;
    if response.status().is_success() {
        return Ok(response);
    }
    Err(Error::Unavailable(format!("it answered {}", response.status())))
}

fn gone(response: reqwest::Result<Response>) -> Result<(), Error> {
    let response = response.map_err(unreached)?;
    if response.status() == StatusCode::NOT_FOUND { Ok(()) } else { accepted(Ok(response)).map(drop) }
}

async fn text_of(response: Response) -> Result<String, Error> {
    let mut body = response.bytes_stream();
    let mut text = Vec::new();
    while let Some(bytes) = body.next().await {
        text.extend_from_slice(&bytes.map_err(unreached)?);
        if text.len() > ANSWER_LIMIT {
            return Err(Error::Unavailable("its answer is longer than any of S3's".to_owned()));
        }
    }
    Ok(String::from_utf8_lossy(&text).into_owned())
}

/// The `<Code>` of an error of S3, which is safe to show; the rest may repeat what was signed.
fn code(text: &str) -> &str {
    let code = text.split_once("<Code>").and_then(|(_, rest)| rest.split_once("</Code>"));
    code.map(|(code, _)| code).filter(|code| code.len() <= 64).unwrap_or("no reason given")
}
