//! `/deployments/{deployment_id}/heartbeats`: how nodes and their runtimes are, as they told.

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use utoipa::{IntoParams, ToSchema};
use warden_protocol::{Agent, Host, Runtime, RuntimeState};

use super::Api;
use super::auth::{Read, Within};
use super::extract::{Place, Query};
use super::json_types::Time;
use super::nodes::node;
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use crate::store::Paged;
use crate::store::heartbeats::{self, Newest, Span};
use crate::store::nodes::{self, Node};

/// The newest heartbeat of a node; what it never told is null.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = NodeHeartbeat, example = json!({
    "node_id": 610809900976570889u64, "name": "iggy-1", "status": "online", "at": "2026-06-01T10:30:00Z",
    "node_at": "2026-06-01T10:29:59.980Z",
    "host": { "uptime_seconds": 86400, "load_1m": 0.4, "cpu": 0.05, "memory_total_bytes": 33654345728u64,
              "memory_available_bytes": 21474836480u64, "network_received_bytes": 1048576, "network_sent_bytes": 2097152,
              "disks": [{ "mount": "/", "total_bytes": 107374182400u64, "available_bytes": 53687091200u64 }] },
    "agent": { "resident_bytes": 10485760, "cpu_ms": 1200 },
    "runtimes": [{ "runtime": "iggy", "unit": "iggy.service", "load_state": "loaded", "active_state": "active",
                   "sub_state": "running", "main_pid": 811, "since_ms": 1780309800000i64, "restarts": 0,
                   "memory_bytes": 268435456, "cpu_ms": 65000, "tasks": 24, "answers": true }]
}))]
pub struct OfNode {
    pub node_id: u64,
    pub name: String,
    /// `pending`, `online` or `unreachable`.
    pub status: &'static str,
    /// When the Supervisor got it.
    pub at: Option<Time>,
    /// The node's own clock then.
    pub node_at: Option<Time>,
    pub host: Option<Host>,
    /// What the agent itself costs.
    pub agent: Option<Agent>,
    pub runtimes: Vec<RuntimeState>,
}

/// One heartbeat of a runtime.
#[derive(Debug, Serialize, ToSchema)]
pub struct OfRuntime {
    /// When the Supervisor got it.
    pub at: Time,
    #[serde(flatten)]
    pub state: RuntimeState,
}

/// From when to when.
#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; the query is read by hand to tell every mistake")]
pub struct SpanParameters {
    /// RFC 3339; without it, as far back as the history goes (24 h).
    #[param(example = "2026-06-01T09:30:00Z")]
    from: Option<String>,
    /// RFC 3339, included; without it, now.
    #[param(example = "2026-06-01T10:30:00Z")]
    to: Option<String>,
}

impl OfNode {
    fn new(node: &Node, newest: Option<Newest>, now: i64) -> OfNode {
        let (node_id, name, status) = (node.id, node.name.clone(), node.status(now).as_str());
        match newest {
            None => {
                let runtimes = Vec::new();
                OfNode { node_id, name, status, at: None, node_at: None, host: None, agent: None, runtimes }
            }
            Some(Newest { at, of_host, runtimes, .. }) => OfNode {
                node_id,
                name,
                status,
                at: Some(Time(at)),
                node_at: Some(Time(of_host.at_ms)),
                host: Some(of_host.host),
                agent: Some(of_host.agent),
                runtimes,
            },
        }
    }
}

/// List the newest heartbeat of each node
#[utoipa::path(get, operation_id = "list_heartbeats", path = "/deployments/{deployment_id}/heartbeats", tag = "health", params(PageParameters),
    responses((status = OK, body = PageOf<OfNode>)))]
pub async fn list(State(api): State<Api>, within: Within<Read>, listed: Listed) -> Result<Response, Problem> {
    let (found, now) = (newest(&api, within.deployment.id, &listed).await?, api.now());
    listed.respond(found, |(node, newest)| OfNode::new(&node, newest, now))
}

/// A page of nodes, each with its newest heartbeat.
pub async fn newest(
    api: &Api,
    deployment: u64,
    listed: &Listed,
) -> Result<Paged<(Node, Option<Newest>)>, Problem> {
    let Paged { items, total } = nodes::list(&api.store, deployment, listed.page).await?;
    let ids: Vec<u64> = items.iter().map(|node| node.id).collect();
    let mut newest = heartbeats::newest(&api.store, &ids).await?;
    let items = items.into_iter().map(|node| {
        let at = newest.iter().position(|beat| beat.node_id == node.id);
        (node, at.map(|at| newest.swap_remove(at)))
    });
    Ok(Paged { items: items.collect(), total })
}

/// List the heartbeats of a runtime
///
/// Newest first: every one of the last hour, one in five minutes of the last 24 hours.
#[utoipa::path(get, operation_id = "list_heartbeats_of_runtime", path = "/deployments/{deployment_id}/nodes/{node_id}/heartbeats/{runtime}", tag = "health",
    params(("runtime" = String, Path, example = "iggy"), PageParameters, SpanParameters),
    responses((status = OK, body = PageOf<OfRuntime>), (status = NOT_FOUND, description = "`node_not_found`")))]
pub async fn of_runtime(
    State(api): State<Api>,
    within: Within<Read>,
    place: Place,
    parts: Parts,
) -> Result<Response, Problem> {
    let listed = Listed::read(&parts, &api, &["from", "to"])?;
    let span = span(&listed.query, api.now())?;
    let runtime: Runtime = place.parsed("runtime")?;
    let node = node(&api, &within, &place).await?;
    let found = heartbeats::of_runtime(&api.store, node.id, &runtime.to_string(), span, listed.page).await?;
    listed.respond(found, |(at, state)| OfRuntime { at: Time(at), state })
}

/// From later than to: nothing is in it.
pub fn span(query: &Query, now: i64) -> Result<Span, Problem> {
    let to = query.parsed::<Time>("to")?.map_or(now, |time| time.0);
    // Without `from` all that there is before `to`.
    let from = query.parsed::<Time>("from")?.map_or(to.min(now) - heartbeats::HISTORY_KEPT_MS, |time| time.0);
    Ok(Span { from, to })
}
