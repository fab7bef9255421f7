//! `/health`, `/ready` and `/metrics`: for machines that watch this one. No key is asked for; who may read the figures
//! says the configuration.

use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use subtle::ConstantTimeEq;
use tokio::sync::Mutex;
use utoipa::ToSchema;
use warden_platform::secret::Secret;

use super::auth::address;
use super::idempotency::Reply;
use super::problem::Problem;
use super::{Api, Peer};
use crate::network::Network;
use crate::settings::Metrics;
use crate::store::{activities, nodes};

/// A store that takes longer to answer one question is not ready.
const PATIENCE: Duration = Duration::from_secs(2);
/// How long an answer of `/ready` holds. It costs a write to the disk, and nobody needs a key to ask.
const FRESH: Duration = Duration::from_secs(1);

/// Whether it is there.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "alive", "version": "0.1.0" }))]
pub struct Health {
    status: &'static str,
    version: &'static str,
}

/// Whether it can work.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "status": "ready", "store": "ok", "objects": "ok" }))]
pub struct Ready {
    status: &'static str,
    store: &'static str,
    objects: &'static str,
}

/// Whether this process is alive
#[utoipa::path(get, operation_id = "health", path = "/health", tag = "supervisor", security(()),
    responses((status = OK, body = Health)))]
pub async fn health() -> Result<Reply, Problem> {
    Reply::json(StatusCode::OK, &Health { status: "alive", version: env!("CARGO_PKG_VERSION") })
}

/// Whether it can do its work: the store takes a write, the object store answers
///
/// Tried at most once a second: who asks more often gets the last answer again.
#[utoipa::path(get, operation_id = "ready", path = "/ready", tag = "supervisor", security(()),
    responses((status = OK, body = Ready)))]
pub async fn ready(State(api): State<Api>) -> Result<Reply, Problem> {
    match api.readiness.now(&api).await {
        None => Reply::json(StatusCode::OK, &Ready { status: "ready", store: "ok", objects: "ok" }),
        Some(reason) => {
            Err(Problem::new(StatusCode::SERVICE_UNAVAILABLE, "not_ready", reason).retry_after(1))
        }
    }
}

/// When it was tried last, and why it did not work.
#[derive(Default)]
pub struct Readiness(Mutex<Option<(Instant, Option<&'static str>)>>);

impl Readiness {
    /// Why it cannot work now, if it cannot. Whoever asks meanwhile waits for the same answer.
    async fn now(&self, api: &Api) -> Option<&'static str> {
        let mut last = self.0.lock().await;
        if let Some((at, told)) = *last
            && at.elapsed() < FRESH
        {
            return told;
        }
        let told = tried_out(api).await;
        *last = Some((Instant::now(), told));
        told
    }
}

async fn tried_out(api: &Api) -> Option<&'static str> {
    match tokio::time::timeout(PATIENCE, api.store.try_out()).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => {
            tracing::warn!(%error, "the store fails");
            return Some("the store fails, or cannot write; the log tells why");
        }
        Err(_) => return Some("the store does not answer"),
    }
    match tokio::time::timeout(PATIENCE, api.uploads.objects().ready()).await {
        Ok(Ok(())) => None,
        Ok(Err(error)) => {
            tracing::warn!(%error, "the object store fails");
            Some("the object store fails; the log tells why")
        }
        Err(_) => Some("the object store does not answer"),
    }
}

/// Its own figures, for Prometheus
///
/// For whoever calls from `metrics_networks` of the configuration, which is this host alone unless it says otherwise, and
/// from anywhere for whoever sends the token in `metrics_token_file` as `authorization: Bearer ...`.
#[utoipa::path(get, operation_id = "metrics", path = "/metrics", tag = "supervisor", security((), ("metrics-token" = [])),
    responses(
        (status = OK, content_type = "application/openmetrics-text", body = String),
        (status = UNAUTHORIZED, description = "`unauthorized`: the token is missing or wrong"),
        (status = FORBIDDEN, description = "`address_denied`: not from this address, and no token is configured"),
    ))]
pub async fn metrics(State(api): State<Api>, parts: Parts) -> Result<Response, Problem> {
    may_read(&api.settings.metrics, &parts, &api.settings.trusted_proxies)?;
    let (nodes, unreachable) = nodes::count(&api.store, api.now()).await?;
    let open = activities::count_open(&api.store).await?;
    let text = api.telemetry.text(nodes, unreachable, open).map_err(Problem::internal)?;
    let content_type = HeaderValue::from_static("application/openmetrics-text; version=1.0.0; charset=utf-8");
    Ok(([(header::CONTENT_TYPE, content_type)], text).into_response())
}

/// A token that is sent must be right, from wherever it comes.
fn may_read(metrics: &Metrics, parts: &Parts, trusted: &[Network]) -> Result<(), Problem> {
    if let Some(sent) = bearer(&parts.headers) {
        let same = |token: &Secret| bool::from(sent.hash().as_bytes().ct_eq(token.hash().as_bytes()));
        return if metrics.token.as_ref().is_some_and(same) { Ok(()) } else { Err(unauthorized("wrong")) };
    }
    let caller = address(parts, trusted);
    // Whoever stands behind a proxy that is not believed, or does not tell, may be anybody.
    let known = caller != Peer::of(&parts.extensions) || !passed_on(&parts.headers);
    if known && metrics.networks.iter().any(|network| network.contains(caller)) {
        return Ok(());
    }
    if metrics.token.is_some() {
        return Err(unauthorized("missing"));
    }
    let reason = "/metrics may not be read from this address; metrics_networks and metrics_token_file in [supervisor] \
                  say who may";
    Err(Problem::forbidden(reason).coded("address_denied"))
}

fn bearer(headers: &HeaderMap) -> Option<Secret> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| Secret::new(token.trim()))
}

fn passed_on(headers: &HeaderMap) -> bool {
    ["x-forwarded-for", "forwarded", "x-real-ip", "via"].iter().any(|name| headers.contains_key(*name))
}

fn unauthorized(how: &str) -> Problem {
    let reason = format!("the token of /metrics is {how}; send it as authorization: Bearer TOKEN");
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", reason)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"warden metrics\""))
}
