//! The signed addresses of the folder, over HTTP.

use std::collections::HashMap;
use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::map_request;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use tokio::task::JoinHandle;
use tower::ServiceExt;
use tower_http::services::ServeFile;
use warden_platform::sha256;

use super::upload::{Over, Part};
use super::{Allowed, Local, PATH, Verb};
use crate::drain_body::linger;
use crate::object_store::Key;

/// Bytes gathered before they go to disk; of one upload there are two in memory, one that comes and one that is written.
const BLOCK: usize = 1 << 20;

/// Tells whether an upload is still waited for; none when that cannot be told now.
pub type Wanted = Arc<dyn Fn(Key) -> BoxFuture<'static, Option<bool>> + Send + Sync>;

/// `GET`, `HEAD` and `PUT` of the folder's own addresses. They need no key: the signature is the right, and of a `PUT`
/// that its upload is still wanted.
pub fn routes(local: Local, wanted: Wanted) -> Router {
    Router::new()
        .route(&format!("{PATH}/{{*path}}"), get(download).put(upload))
        .with_state(Served { local, wanted })
        .layer(map_request(async |request: Request| request.map(linger)))
}

#[derive(Clone)]
struct Served {
    local: Local,
    wanted: Wanted,
}

async fn download(
    State(Served { local, .. }): State<Served>,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    request: Request,
) -> Response {
    let allowed = match allowed(&local, Verb::Get, &path, &query) {
        Ok(allowed) => allowed,
        Err(refusal) => return refusal,
    };
    let file = ServeFile::new(local.object(allowed.key));
    let Ok(mut response) = file.oneshot(request).await;
    let headers = response.headers_mut();
    // The name is ours: letters, digits, `-` and `.`.
    if let Ok(name) = HeaderValue::from_str(&format!("attachment; filename=\"{}\"", allowed.name)) {
        headers.insert(header::CONTENT_DISPOSITION, name);
    }
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("private, no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response.map(Body::new)
}

async fn upload(
    State(Served { local, wanted }): State<Served>,
    Path(path): Path<String>,
    Query(query): Query<HashMap<String, String>>,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let allowed = match allowed(&local, Verb::Put, &path, &query) {
        Ok(allowed) => allowed,
        Err(refusal) => return refusal,
    };
    match wanted(allowed.key).await {
        Some(true) => {}
        Some(false) => return over(),
        None => return tell(StatusCode::SERVICE_UNAVAILABLE, "the store does not answer; try again"),
    }
    let length = headers.get(header::CONTENT_LENGTH).and_then(|length| length.to_str().ok()?.parse().ok());
    match length {
        None => return tell(StatusCode::LENGTH_REQUIRED, "say Content-Length"),
        Some(length) if length != allowed.size => {
            return tell(StatusCode::BAD_REQUEST, "Content-Length is not what the address allows");
        }
        Some::<u64>(_) => {}
    }
    if let Err(error) = local.room_for(allowed.size) {
        tracing::warn!(object = allowed.key.path(), %error, "an upload was turned away");
        return tell(StatusCode::INSUFFICIENT_STORAGE, "no room for it now");
    }
    match receive(local, &allowed, body).await {
        // The whole archive is held against its SHA-256 at the end; a part only needs a name.
        Ok(()) => [(header::ETAG, format!("\"{}\"", allowed.part))].into_response(),
        Err(Broken::Over) => over(),
        Err(Broken::Torn) => tell(StatusCode::BAD_REQUEST, "the body ended early"),
        Err(Broken::Disk(error)) => {
            tracing::error!(object = allowed.key.path(), %error, "an upload could not be written");
            tell(StatusCode::INSUFFICIENT_STORAGE, "it could not be written")
        }
    }
}

/// Confirmed, given up, or of a snapshot that has ended.
fn over() -> Response {
    tell(StatusCode::FORBIDDEN, "this upload is over: ask whether the archive is still wanted")
}

enum Broken {
    Torn,
    Over,
    Disk(std::io::Error),
}

async fn receive(local: Local, allowed: &Allowed, body: Body) -> Result<(), Broken> {
    let (key, number, offset) = (allowed.key, allowed.part, allowed.offset);
    let part = blocking(move || Part::begin(&local, key, number, offset)).await?;
    let mut left = allowed.size;
    let mut block = Vec::with_capacity(BLOCK.min(left as usize));
    // One block is written while the next one comes.
    let mut writing = tokio::spawn(written(part, Vec::new()));
    let mut stream = body.into_data_stream();
    while let Some(bytes) = stream.next().await {
        let bytes = bytes.map_err(|_| Broken::Torn)?;
        left = left.checked_sub(bytes.len() as u64).ok_or(Broken::Torn)?;
        block.extend_from_slice(&bytes);
        if block.len() >= BLOCK {
            let (part, spare) = before(writing).await?;
            writing = tokio::spawn(written(part, std::mem::replace(&mut block, spare)));
        }
    }
    if left > 0 {
        return Err(Broken::Torn);
    }
    let (part, _) = before(writing).await?;
    let (part, _) = written(part, block).await?;
    let arrived = blocking(move || part.end()).await?;
    // Nobody waits for it.
    tokio::task::spawn_blocking(move || arrived.hash());
    Ok(())
}

async fn written(mut part: Part, mut block: Vec<u8>) -> Result<(Part, Vec<u8>), Broken> {
    blocking(move || {
        let written = part.write(&block)?;
        block.clear();
        Ok(written.map(|()| (part, block)))
    })
    .await
}

/// The block before this one is on its way to the disk.
async fn before(writing: JoinHandle<Result<(Part, Vec<u8>), Broken>>) -> Result<(Part, Vec<u8>), Broken> {
    writing.await.map_err(std::io::Error::other).map_err(Broken::Disk)?
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> std::io::Result<Result<T, Over>> + Send + 'static,
) -> Result<T, Broken> {
    let done = tokio::task::spawn_blocking(work).await;
    let done = done.map_err(std::io::Error::other).and_then(|done| done).map_err(Broken::Disk)?;
    done.map_err(|Over| Broken::Over)
}

/// What the address allows, if it is ours and still good. A wrong one is told apart from an old one only when the
/// signature is right.
#[expect(clippy::result_large_err, reason = "the error is the answer, made once per request")]
fn allowed(
    local: &Local,
    verb: Verb,
    path: &str,
    query: &HashMap<String, String>,
) -> Result<Allowed, Response> {
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<u64>().ok());
    let read = || {
        let allowed = Allowed {
            verb,
            key: Key::from_path(path)?,
            expires: i64::try_from(number("expires")?).ok()?,
            size: number("size")?,
            part: u32::try_from(number("part")?).ok()?,
            offset: number("offset")?,
            name: query.get("name")?.clone(),
        };
        let signature = sha256::from_hex(query.get("signature")?)?;
        local.is_signed(&allowed, &signature).then_some(allowed)
    };
    let Some(allowed) = read() else {
        return Err(tell(StatusCode::FORBIDDEN, "this address is not one of ours"));
    };
    if jiff::Timestamp::now().as_second() >= allowed.expires {
        return Err(tell(StatusCode::FORBIDDEN, "this address has run out: ask for another"));
    }
    if verb == Verb::Get && !local.object(allowed.key).exists() {
        return Err(tell(StatusCode::NOT_FOUND, "the archive is gone"));
    }
    Ok(allowed)
}

fn tell(status: StatusCode, sentence: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], sentence).into_response()
}
