//! The HTTP API: one file a resource.

#![expect(unused_qualifications, reason = "utoipa's macros qualify the types of parameters")]

mod activities;
mod api_keys;
mod async_actions;
mod audit;
mod auth;
mod bounds;
mod deployments;
mod enrolments;
mod event_stream;
mod extract;
mod health;
mod heartbeats;
mod idempotency;
mod json_types;
mod metrics_history;
mod middleware;
mod nodes;
mod openapi;
mod openapi_html;
mod pagination;
pub mod problem;
mod prometheus;
mod snapshots;
mod streams;

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::Deref;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

pub use api_keys::LIFE_LIMIT_MS as KEY_LIFE_LIMIT_MS;
use auth::Limiter;
pub use auth::PREFIX as KEY_PREFIX;
use axum::Router;
use axum::extract::{ConnectInfo, DefaultBodyLimit};
use axum::http::request::Parts;
use axum::http::{Extensions, StatusCode, header, uri};
use axum::middleware::from_fn_with_state;
use problem::Problem;
use prometheus::Telemetry;
use tokio_util::sync::CancellationToken;
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use super::Clock;
use super::settings::Settings;
use super::store::Store;
use super::upload_service::Uploads;

/// Bytes of a body.
pub const BODY_LIMIT: usize = 1 << 20;
/// For a body to come whole: 1 MiB in this time is 70 KB/s.
const BODY_PATIENCE: Duration = Duration::from_secs(15);
/// A request that takes longer is given up; what it changed by then is rolled back or committed whole.
const REQUEST_LIMIT: Duration = Duration::from_secs(30);

/// What the endpoints share.
#[derive(Clone)]
pub struct Api(Arc<Inner>);

pub struct Inner {
    pub store: Store,
    pub settings: Settings,
    pub uploads: Uploads,
    clock: Clock,
    limiter: Limiter,
    telemetry: Telemetry,
    readiness: health::Readiness,
    streams: streams::Streams,
    stop: CancellationToken,
    document: openapi::Document,
}

impl Deref for Api {
    type Target = Inner;

    fn deref(&self) -> &Inner {
        &self.0
    }
}

impl Inner {
    fn now(&self) -> i64 {
        (self.clock)()
    }

    /// Forgets what only matters while somebody calls.
    pub fn tidy(&self) {
        self.limiter.forget();
    }
}

/// Every endpoint but the pages of [`document`].
fn endpoints() -> OpenApiRouter<Api> {
    OpenApiRouter::with_openapi(openapi::frame())
        .routes(routes!(deployments::list, deployments::create))
        .routes(routes!(deployments::get, deployments::change, deployments::remove))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::get, nodes::remove))
        .routes(routes!(enrolments::list, enrolments::create))
        .routes(routes!(enrolments::revoke))
        .routes(routes!(activities::start))
        .routes(routes!(activities::list))
        .routes(routes!(activities::get))
        .routes(routes!(snapshots::list, snapshots::create))
        .routes(routes!(snapshots::get, snapshots::remove))
        .routes(routes!(snapshots::download))
        .routes(routes!(async_actions::list))
        .routes(routes!(async_actions::list_of_deployment))
        .routes(routes!(async_actions::get))
        .routes(routes!(async_actions::cancel))
        .routes(routes!(event_stream::follow))
        .routes(routes!(heartbeats::list))
        .routes(routes!(heartbeats::of_runtime))
        .routes(routes!(metrics_history::list))
        .routes(routes!(metrics_history::of_runtime))
        .routes(routes!(api_keys::list, api_keys::create))
        .routes(routes!(api_keys::remove))
        .routes(routes!(audit::list))
        .routes(routes!(health::health))
        .routes(routes!(health::ready))
        .routes(routes!(health::metrics))
}

/// The whole API, `more` included, with its conventions around it.
pub fn router(
    store: Store,
    settings: Settings,
    uploads: Uploads,
    clock: Clock,
    stop: CancellationToken,
    more: Router<()>,
) -> (Router<()>, Api) {
    let (endpoints, openapi) = endpoints().split_for_parts();
    let api = Api(Arc::new(Inner {
        limiter: Limiter::new(&settings.limits),
        telemetry: Telemetry::default(),
        readiness: health::Readiness::default(),
        streams: streams::Streams::default(),
        document: openapi::Document::new(openapi),
        store,
        settings,
        uploads,
        clock,
        stop,
    }));
    let router = endpoints
        .merge(openapi::routes())
        .with_state(api.clone())
        .merge(more)
        .fallback(unknown_path)
        .method_not_allowed_fallback(wrong_verb)
        .layer(DefaultBodyLimit::max(BODY_LIMIT))
        .layer(from_fn_with_state(api.clone(), middleware::keep));
    (router, api)
}

async fn unknown_path() -> Problem {
    Problem::not_found("path_not_found", "there is nothing at this path; /docs tells what there is")
}

async fn wrong_verb() -> Problem {
    let reason = "this path does not take this method; the header allow tells which it takes";
    Problem::new(StatusCode::METHOD_NOT_ALLOWED, "method_not_allowed", reason)
}

/// Names one request, in its answer and in the log: 32 hexadecimal digits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RequestId(String);

impl RequestId {
    fn of(extensions: &Extensions) -> RequestId {
        extensions.get().cloned().unwrap_or(RequestId(String::new()))
    }
}

impl fmt::Display for RequestId {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

/// Whose request it turned out to be, for the log line.
#[derive(Clone, Default)]
struct Seen(Arc<AtomicU64>);

impl Seen {
    fn caller(&self, key: u64) {
        self.0.store(key, Ordering::Relaxed);
    }

    fn key(&self) -> Option<u64> {
        Some(self.0.load(Ordering::Relaxed)).filter(|key| *key > 0)
    }
}

/// The other end of the connection.
struct Peer;

impl Peer {
    fn of(extensions: &Extensions) -> IpAddr {
        let peer = extensions.get::<ConnectInfo<SocketAddr>>();
        peer.map_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED), |peer| peer.0.ip().to_canonical())
    }
}

/// How the caller reaches this Supervisor: as it is configured, else as the request was addressed.
fn base_url(parts: &Parts, settings: &Settings) -> String {
    if let Some(url) = &settings.public_url {
        return url.clone();
    }
    let scheme = if settings.tls.is_some() { "https" } else { "http" };
    let host = parts.headers.get(header::HOST).and_then(|value| value.to_str().ok());
    let host = host.filter(|host| host.parse::<uri::Authority>().is_ok());
    let authority = parts.uri.authority().map(uri::Authority::as_str).or(host);
    format!("{scheme}://{}", authority.map_or_else(|| settings.listen.to_string(), str::to_owned))
}
