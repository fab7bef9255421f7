//! `/deployments/{deployment_id}/metrics`: figures of nodes and runtimes over time.

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;
use warden_protocol::{Disk, Host, Runtime, RuntimeState};

use super::Api;
use super::auth::{Read, Within};
use super::extract::{Place, Query};
use super::heartbeats::{SpanParameters, newest, span};
use super::idempotency::Reply;
use super::json_types::Time;
use super::nodes::node;
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use crate::store::heartbeats::{self, Entry, OfHost};
use crate::store::{Page, nodes};

/// What the figures of the host itself are asked by, in place of a runtime.
const HOST: &str = "host";
/// Points of one answer: all that the history holds at a heartbeat every 30 s is about 400.
const POINTS_LIMIT: u32 = 5000;

/// The newest figures of a node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NodeMetrics, example = json!({
    "node_id": 610809900976570889u64, "name": "iggy-1",
    "host": { "at": "2026-06-01T10:30:00Z", "cpu": 0.05, "load_1m": 0.4, "memory_total_bytes": 33654345728u64,
              "memory_available_bytes": 21474836480u64, "network_received_bytes": 1048576,
              "network_sent_bytes": 2097152, "disks": [] },
    "runtimes": [{ "runtime": "iggy", "memory_bytes": 268435456, "cpu_ms": 65000, "tasks": 24, "restarts": 0 }]
}))]
pub struct OfNode {
    pub node_id: u64,
    pub name: String,
    /// Null until its first heartbeat.
    pub host: Option<HostPoint>,
    pub runtimes: Vec<Figures>,
}

/// What a runtime uses.
#[derive(Debug, Serialize, ToSchema)]
pub struct Figures {
    pub runtime: String,
    pub memory_bytes: Option<u64>,
    /// CPU time since the unit was started.
    pub cpu_ms: Option<u64>,
    pub tasks: Option<u64>,
    pub restarts: Option<u32>,
}

/// The figures of one runtime of a node, or of the host itself, over time.
#[derive(Debug, Serialize, ToSchema)]
pub struct Series {
    pub node_id: u64,
    pub runtime: String,
    pub from: Time,
    pub to: Time,
    /// Oldest first: every heartbeat of the last hour, one in five minutes before. At most 5000, the newest.
    pub points: Vec<Point>,
}

/// Of a runtime, or of the host itself.
#[derive(Debug, Serialize, ToSchema)]
#[serde(untagged)]
pub enum Point {
    OfRuntime(RuntimePoint),
    OfHost(HostPoint),
}

/// The figures of a runtime at one moment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "at": "2026-06-01T10:30:00Z", "active_state": "active", "cpu": 0.12, "cpu_ms": 65000,
                           "memory_bytes": 268435456, "tasks": 24, "restarts": 0 }))]
pub struct RuntimePoint {
    pub at: Time,
    pub active_state: String,
    /// Cores in use since the point before; null for the first, and after a restart.
    pub cpu: Option<f64>,
    pub cpu_ms: Option<u64>,
    pub memory_bytes: Option<u64>,
    pub tasks: Option<u64>,
    pub restarts: Option<u32>,
}

/// The figures of a host at one moment.
#[derive(Debug, Serialize, ToSchema)]
pub struct HostPoint {
    pub at: Time,
    /// Share of all cores, 0 to 1.
    pub cpu: Option<f64>,
    pub load_1m: Option<f64>,
    pub memory_total_bytes: Option<u64>,
    pub memory_available_bytes: Option<u64>,
    /// Since boot, over all interfaces but loopback.
    pub network_received_bytes: Option<u64>,
    pub network_sent_bytes: Option<u64>,
    pub disks: Vec<Disk>,
}

impl HostPoint {
    fn new(at: i64, host: Host) -> HostPoint {
        HostPoint {
            at: Time(at),
            cpu: host.cpu,
            load_1m: host.load_1m,
            memory_total_bytes: host.memory_total_bytes,
            memory_available_bytes: host.memory_available_bytes,
            network_received_bytes: host.network_received_bytes,
            network_sent_bytes: host.network_sent_bytes,
            disks: host.disks,
        }
    }
}

/// List the newest figures of each node
#[utoipa::path(get, operation_id = "list_metrics", path = "/deployments/{deployment_id}/metrics", tag = "health", params(PageParameters),
    responses((status = OK, body = PageOf<OfNode>)))]
pub async fn list(State(api): State<Api>, within: Within<Read>, listed: Listed) -> Result<Response, Problem> {
    let found = newest(&api, within.deployment.id, &listed).await?;
    listed.respond(found, |(nodes::Node { id, name, .. }, newest)| {
        let (host, runtimes) =
            newest.map(|newest| (HostPoint::new(newest.at, newest.of_host.host), newest.runtimes)).unzip();
        let figures = runtimes.unwrap_or_default().into_iter().map(|state| Figures {
            runtime: state.runtime.to_string(),
            memory_bytes: state.memory_bytes,
            cpu_ms: state.cpu_ms,
            tasks: state.tasks,
            restarts: state.restarts,
        });
        OfNode { node_id: id, name, host, runtimes: figures.collect() }
    })
}

/// Get the figures of a runtime over time
///
/// In place of a runtime, `host` asks for those of the host itself (a `HostPoint` each).
#[utoipa::path(get, operation_id = "get_metrics_of_runtime", path = "/deployments/{deployment_id}/nodes/{node_id}/metrics/{runtime}", tag = "health",
    params(("runtime" = String, Path, example = "iggy"), SpanParameters),
    responses((status = OK, body = Series), (status = NOT_FOUND, description = "`node_not_found`")))]
pub async fn of_runtime(
    State(api): State<Api>,
    within: Within<Read>,
    place: Place,
    parts: Parts,
) -> Result<Response, Problem> {
    let span = span(&Query::read(&parts, &["from", "to"])?, api.now())?;
    let of_host = place.text("runtime") == HOST;
    let runtime: Option<Runtime> = if of_host { None } else { Some(place.parsed("runtime")?) };
    let node = node(&api, &within, &place).await?;
    let page = Page { page: 1, results: POINTS_LIMIT };
    let points: Vec<Point> = if let Some(runtime) = runtime {
        let runtime = runtime.to_string();
        let found = heartbeats::of_runtime(&api.store, node.id, &runtime, span, page).await?;
        points(found.items).into_iter().map(Point::OfRuntime).collect()
    } else {
        let found = heartbeats::of_host(&api.store, node.id, span, page).await?;
        let point = |(at, OfHost { host, .. })| Point::OfHost(HostPoint::new(at, host));
        found.items.into_iter().rev().map(point).collect()
    };
    let runtime = place.text("runtime").to_owned();
    let series = Series { node_id: node.id, runtime, from: Time(span.from), to: Time(span.to), points };
    Ok(Reply::json(StatusCode::OK, &series)?.into_response())
}

fn points(newest_first: Vec<Entry<RuntimeState>>) -> Vec<RuntimePoint> {
    let mut before: Option<(i64, u64)> = None;
    let mut points = Vec::with_capacity(newest_first.len());
    for (at, state) in newest_first.into_iter().rev() {
        let now = state.cpu_ms.map(|cpu_ms| (at, cpu_ms));
        points.push(RuntimePoint {
            at: Time(at),
            cpu: cores(before, now),
            active_state: state.active_state,
            cpu_ms: state.cpu_ms,
            memory_bytes: state.memory_bytes,
            tasks: state.tasks,
            restarts: state.restarts,
        });
        before = now;
    }
    points
}

fn cores(before: Option<(i64, u64)>, now: Option<(i64, u64)>) -> Option<f64> {
    let ((then, used_then), (at, used)) = (before?, now?);
    // The counter begins anew with the unit.
    let used = used.checked_sub(used_then)?;
    (at > then).then(|| used as f64 / (at - then) as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_is_told_between_two_points_of_the_same_run() {
        assert_eq!(cores(Some((1000, 500)), Some((31_000, 15_500))), Some(0.5));
        assert_eq!(cores(Some((1000, 500)), Some((31_000, 20))), None, "the unit was restarted");
        assert_eq!(cores(Some((1000, 500)), Some((1000, 500))), None);
        assert_eq!(cores(None, Some((1000, 500))), None);
    }
}
