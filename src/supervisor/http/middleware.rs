//! What holds for every request: an id, a time limit, one shape of problems, a line in the log.

use std::panic::AssertUnwindSafe;
use std::time::Instant;

use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderName, HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use futures_util::FutureExt;
use ring::rand::{SecureRandom, SystemRandom};
use warden_platform::sha256::hex;

use super::idempotency::Open;
use super::problem::{self, Problem};
use super::{Api, Peer, REQUEST_LIMIT, RequestId, Seen, idempotency};
use crate::drain_body::linger;

const LD_REQUEST: HeaderName = HeaderName::from_static("ld-request");

pub async fn keep(State(api): State<Api>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (id, seen) = (RequestId::draw(), Seen::default());
    let peer = Peer::of(request.extensions());
    let method = request.method().clone();
    let route = request.extensions().get::<MatchedPath>().map_or("none", MatchedPath::as_str).to_owned();
    request.extensions_mut().insert(id.clone());
    request.extensions_mut().insert(seen.clone());
    let request = request.map(linger);

    let answered = tokio::time::timeout(REQUEST_LIMIT, carry_out(api.clone(), request, next)).await;
    let response = answered.unwrap_or_else(|_| too_slow().into_response());
    let (problem, mut response) = told(response, &id);

    let headers = response.headers_mut();
    if let Ok(value) = HeaderValue::try_from(&id.0) {
        headers.insert(LD_REQUEST, value);
    }
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));

    let (status, took) = (response.status(), started.elapsed());
    api.telemetry.answered(&method, &route, status, took);
    let line = Line { id: &id, method: &method, route: &route, status, key: seen.key() };
    line.log(peer, took.as_secs_f64() * 1000.0, problem.as_ref());
    response
}

/// Runs the endpoint. A request that changes something runs to its end even if the caller hangs up: who asks again
/// with the same idempotency key finds it done, not torn.
async fn carry_out(api: Api, mut request: Request, next: Next) -> Response {
    if matches!(*request.method(), Method::GET | Method::HEAD) {
        let caught = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        return caught.unwrap_or_else(|_| Problem::internal("the handler panicked").into_response());
    }
    let open = Open::default();
    request.extensions_mut().insert(open.clone());
    let task = tokio::spawn(async move {
        let caught = AssertUnwindSafe(next.run(request)).catch_unwind().await;
        let response = caught.unwrap_or_else(|_| Problem::internal("the handler panicked").into_response());
        idempotency::settle(&api, &open, response.extensions()).await;
        response
    });
    task.await.unwrap_or_else(|error| Problem::internal(error).into_response())
}

fn too_slow() -> Problem {
    Problem::new(
        StatusCode::SERVICE_UNAVAILABLE,
        "request_too_slow",
        format!("the request was not done within {} s; it may be done yet", REQUEST_LIMIT.as_secs()),
    )
    .retry_after(1)
}

/// Gives every refusal the one shape, also those that our own code did not make.
fn told(mut response: Response, id: &RequestId) -> (Option<Problem>, Response) {
    let ours = response.extensions_mut().remove::<Problem>();
    let Some(problem) = ours.or_else(|| foreign(&response)) else { return (None, response) };
    let mut told = problem.respond(&id.0);
    // Such as `allow` of a 405.
    for (name, value) in response.headers() {
        if !matches!(*name, header::CONTENT_TYPE | header::CONTENT_LENGTH) {
            told.headers_mut().entry(name).or_insert(value.clone());
        }
    }
    (Some(problem), told)
}

fn foreign(response: &Response) -> Option<Problem> {
    let status = response.status();
    let shaped = |value: &HeaderValue| value == problem::CONTENT_TYPE;
    let refused = status.is_client_error() || status.is_server_error();
    if !refused || response.headers().get(header::CONTENT_TYPE).is_some_and(shaped) {
        return None;
    }
    let (code, reason) = match status {
        StatusCode::PAYLOAD_TOO_LARGE => ("body_too_large", "the body is over the limit"),
        StatusCode::UPGRADE_REQUIRED => ("upgrade_required", "this path takes a websocket"),
        status if status.is_server_error() => ("internal_error", "the Supervisor failed"),
        _ => ("bad_request", "the request cannot be understood"),
    };
    Some(Problem::new(status, code, reason))
}

struct Line<'a> {
    id: &'a RequestId,
    method: &'a Method,
    route: &'a str,
    status: StatusCode,
    key: Option<u64>,
}

impl Line<'_> {
    fn log(&self, peer: std::net::IpAddr, took_ms: f64, problem: Option<&Problem>) {
        let (code, cause) = (problem.map(Problem::code), problem.and_then(Problem::cause));
        let Line { id: request, method, route, key, .. } = self;
        let status = self.status.as_u16();
        if let Some(cause) = cause {
            tracing::error!(%request, %method, route, status, key, %peer, took_ms, code, cause,
                "{method} {route} failed");
        } else if *method == Method::GET || *method == Method::HEAD {
            tracing::debug!(%request, %method, route, status, key, %peer, took_ms, code,
                "{method} {route} answered {status}");
        } else {
            tracing::info!(%request, %method, route, status, key, %peer, took_ms, code,
                "{method} {route} answered {status}");
        }
    }
}

impl RequestId {
    fn draw() -> RequestId {
        let mut bytes = [0_u8; 16];
        // Without randomness the id is the same for all; the answer is still right.
        let _ = SystemRandom::new().fill(&mut bytes);
        RequestId(hex(&bytes))
    }
}
