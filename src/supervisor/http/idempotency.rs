//! Idempotency: a request that comes twice has one effect, and gets the first answer again.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::body::Body;
use axum::http::request::Parts;
use axum::http::{Extensions, HeaderName, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use sha2::{Digest, Sha256};
use tokio_util::sync::CancellationToken;
use warden_platform::sha256::hex;

use super::auth::Caller;
use super::problem::{self, Problem};
use super::{Api, RequestId};
use crate::store::idempotency::{self, Answer, Claim, Slot};
use crate::store::{Change, Store};

const HEADER: &str = "idempotency-key";
const REPLAYED: HeaderName = HeaderName::from_static("idempotent-replayed");
/// Longest key, in bytes.
const LIMIT: usize = 255;

/// Between two attempts to give a claim back to a store that fails, and how many there are: after a minute a claim is free
/// by itself.
const RELEASE_AGAIN: Duration = Duration::from_secs(1);
const RELEASES: u32 = 60;

/// A success, before it is written.
pub struct Reply {
    status: StatusCode,
    headers: Vec<(HeaderName, HeaderValue)>,
    body: String,
    /// What is kept for a replay, where the body holds a secret that is shown once.
    kept: Option<String>,
}

impl Reply {
    pub fn json(status: StatusCode, body: &impl Serialize) -> Result<Reply, Problem> {
        let body = serde_json::to_string(body).map_err(Problem::internal)?;
        let json = HeaderValue::from_static("application/json");
        Ok(Reply { status, headers: vec![(header::CONTENT_TYPE, json)], body, kept: None })
    }

    pub fn empty(status: StatusCode) -> Reply {
        Reply { status, headers: Vec::new(), body: String::new(), kept: None }
    }

    /// The id of what was made.
    pub fn created(mut self, name: &'static str, id: u64) -> Reply {
        self.headers.push((HeaderName::from_static(name), HeaderValue::from(id)));
        self
    }

    /// What a replay gets in place of the body.
    pub fn kept(mut self, body: &impl Serialize) -> Result<Reply, Problem> {
        self.kept = Some(serde_json::to_string(body).map_err(Problem::internal)?);
        Ok(self)
    }
}

impl IntoResponse for Reply {
    fn into_response(self) -> Response {
        let mut response = Response::new(Body::from(self.body));
        *response.status_mut() = self.status;
        response.headers_mut().extend(self.headers);
        response
    }
}

/// The claim of a request on its key, if it has one.
pub struct Claimed {
    open: Open,
}

/// A claim that is neither answered nor given back.
#[derive(Clone, Default)]
pub struct Open(Arc<Mutex<Option<(Slot, u64)>>>);

impl Open {
    fn put(&self, slot: Slot, claim: u64) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some((slot, claim));
    }

    fn take(&self) -> Option<(Slot, u64)> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).take()
    }
}

impl Claimed {
    /// Commits the change and the answer together.
    pub async fn commit(self, mut change: Change, reply: Reply) -> Result<Response, Problem> {
        if let Some((slot, claim)) = self.open.take() {
            let headers = reply
                .headers
                .iter()
                .map(|(name, value)| (name.to_string(), value.to_str().unwrap_or_default().to_owned()));
            let answer = Answer {
                status: reply.status.as_u16(),
                headers: headers.collect(),
                body: reply.kept.as_ref().unwrap_or(&reply.body).clone(),
            };
            let committed = match idempotency::answer(&mut change, &slot, claim, &answer).await {
                Ok(false) => return Err(in_progress()),
                Ok(true) => change.commit().await,
                Err(error) => Err(error),
            };
            if let Err(error) = committed {
                // Neither the effect nor the answer is there: the claim is still to be given back.
                self.open.put(slot, claim);
                return Err(error.into());
            }
        } else {
            change.commit().await?;
        }
        Ok(reply.into_response())
    }
}

/// Claims the key of a request. Err is the response: what the first request got, or why this one is refused.
pub async fn claim(api: &Api, parts: &mut Parts, media_type: &str, body: &[u8]) -> Result<Claimed, Response> {
    let open = parts.extensions.get::<Open>().cloned().unwrap_or_default();
    let Some(slot) = slot(parts).map_err(IntoResponse::into_response)? else { return Ok(Claimed { open }) };
    let fingerprint = fingerprint(&parts.method, &parts.uri.to_string(), media_type, body);
    let claim = idempotency::claim(&api.store, &slot, &fingerprint, api.now()).await;
    match claim.map_err(|error| Problem::from(error).into_response())? {
        Claim::Mine(claim) => {
            open.put(slot, claim);
            Ok(Claimed { open })
        }
        Claim::Running => Err(in_progress().into_response()),
        Claim::Differs => Err(Problem::conflict(
            "idempotency_error",
            "this idempotency-key was used with another request; use a new one",
        )
        .into_response()),
        Claim::Answered(answer) => Err(replay(&answer, &RequestId::of(&parts.extensions))),
    }
}

fn in_progress() -> Problem {
    Problem::conflict(
        "idempotent_request_in_progress",
        "the first request with this idempotency-key is under way; ask again in a moment",
    )
    .retry_after(1)
}

fn slot(parts: &Parts) -> Result<Option<Slot>, Problem> {
    let Some(value) = parts.headers.get(HEADER) else { return Ok(None) };
    let wrong = |code, reason: &str| Problem::field(HEADER, code, reason);
    let text = value.to_str().map_err(|_| wrong("invalid_value", "expected visible ASCII characters"))?;
    if text.is_empty() {
        return Err(wrong("empty", "expected a text"));
    }
    if text.len() > LIMIT {
        return Err(wrong("too_long", "expected at most 255 characters"));
    }
    let caller = parts.extensions.get::<Arc<Caller>>().ok_or_else(|| Problem::internal("nobody calls"))?;
    Ok(Some(Slot { api_key: caller.key.id, idempotency_key: text.to_owned() }))
}

fn fingerprint(method: &Method, uri: &str, media_type: &str, body: &[u8]) -> String {
    let mut hash = Sha256::new();
    for part in [method.as_str().as_bytes(), uri.as_bytes(), media_type.as_bytes(), body] {
        hash.update((part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    hex(&hash.finalize())
}

fn replay(answer: &Answer, request: &RequestId) -> Response {
    // A problem tells the request it answers.
    let problem = serde_json::from_str::<serde_json::Value>(&answer.body)
        .ok()
        .filter(|_| answer.status >= 400)
        .map(|mut problem| {
            problem["instance"] = request.to_string().into();
            problem.to_string()
        });
    let mut response = Response::new(Body::from(problem.unwrap_or_else(|| answer.body.clone())));
    *response.status_mut() = StatusCode::from_u16(answer.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    for (name, value) in &answer.headers {
        if let (Ok(name), Ok(value)) = (HeaderName::try_from(name), HeaderValue::try_from(value)) {
            response.headers_mut().append(name, value);
        }
    }
    response.headers_mut().insert(REPLAYED, HeaderValue::from_static("true"));
    response
}

/// Settles a claim that the handler left open: a refusal is kept like any answer, what may do better later is not.
pub async fn settle(api: &Api, open: &Open, extensions: &Extensions) {
    let Some((slot, claim)) = open.take() else { return };
    let kept = extensions.get::<Problem>().filter(|problem| !problem.is_retryable());
    let settled = match kept {
        Some(problem) => keep(api, &slot, claim, problem).await,
        None => idempotency::release(&api.store, &slot, claim).await,
    };
    if let Err(error) = settled {
        tracing::warn!(%error, "cannot settle an idempotency key; it is tried again for a minute");
        tokio::spawn(release_later(api.store.clone(), slot, claim, api.stop.clone()));
    }
}

/// Gives a claim back as soon as the store works again, so that whoever asks again need not wait for it to be old.
async fn release_later(store: Store, slot: Slot, claim: u64, stop: CancellationToken) {
    for _ in 0..RELEASES {
        tokio::select! {
            () = tokio::time::sleep(RELEASE_AGAIN) => {}
            () = stop.cancelled() => return,
        }
        if idempotency::release(&store, &slot, claim).await.is_ok() {
            return;
        }
    }
}

async fn keep(api: &Api, slot: &Slot, claim: u64, problem: &Problem) -> sqlx::Result<()> {
    let answer = Answer {
        status: problem.status.as_u16(),
        headers: vec![(header::CONTENT_TYPE.to_string(), problem::CONTENT_TYPE.to_owned())],
        body: problem.body(""),
    };
    let mut change = api.store.change().await?;
    if idempotency::answer(&mut change, slot, claim, &answer).await? {
        change.commit().await?;
    }
    Ok(())
}
