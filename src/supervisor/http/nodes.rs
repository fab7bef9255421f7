//! `/deployments/{deployment_id}/nodes`

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;
use warden_protocol::About;

use super::Api;
use super::auth::{Manage, Read, Within};
use super::extract::Place;
use super::idempotency::Reply;
use super::json_types::Time;
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use crate::store::nodes::{self, Node};
use crate::store::{activities, audit};

/// A host of a deployment.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Node, example = json!({
    "id": 610809900976570889u64, "deployment_id": 611298765432109056u64, "name": "iggy-1", "status": "online",
    "enrolled_at": "2026-06-01T10:30:00Z", "last_seen_at": "2026-06-01T10:45:00Z", "unreachable_since": null,
    "connected_at": "2026-06-01T10:30:01Z", "agent_version": "0.1.0", "boot_id": "4f0d…",
    "capabilities": ["activity", "snapshot_choice"],
    "host": { "hostname": "iggy-1", "os": "Debian GNU/Linux 12 (bookworm)", "kernel": "6.1.0-18-amd64",
              "architecture": "x86_64", "cpus": 8, "memory_bytes": 33654345728u64 }
}))]
pub struct Shown {
    pub id: u64,
    pub deployment_id: u64,
    pub name: String,
    /// `pending` (enrolled, never heard), `online`, or `unreachable` (its connection ended and it is not back within
    /// 10 s, or it is silent for 120 s; it heals by itself).
    pub status: &'static str,
    pub enrolled_at: Time,
    pub last_seen_at: Option<Time>,
    pub unreachable_since: Option<Time>,
    /// When it said last what it is: with every connection.
    pub connected_at: Option<Time>,
    pub agent_version: Option<String>,
    pub boot_id: Option<String>,
    /// Kinds of work its agent can do.
    pub capabilities: Vec<String>,
    pub host: Option<About>,
}

impl Shown {
    fn new(node: Node, now: i64) -> Shown {
        let status = node.status(now);
        let silent = status == nodes::Status::Unreachable;
        let since = node.unreachable_from().filter(|_| silent);
        let hello = node.hello;
        Shown {
            id: node.id,
            deployment_id: node.deployment_id,
            name: node.name,
            status: status.as_str(),
            enrolled_at: Time(node.enrolled_at),
            last_seen_at: node.last_seen_at.map(Time),
            unreachable_since: since.map(Time),
            connected_at: node.hello_at.map(Time),
            agent_version: hello.as_ref().map(|hello| hello.agent_version.clone()),
            boot_id: hello.as_ref().map(|hello| hello.boot_id.clone()),
            capabilities: hello.as_ref().map(|hello| hello.capabilities.clone()).unwrap_or_default(),
            host: hello.map(|hello| hello.host),
        }
    }
}

/// List the nodes of a deployment
#[utoipa::path(get, operation_id = "list_nodes", path = "/deployments/{deployment_id}/nodes", tag = "nodes", params(PageParameters),
    responses((status = OK, body = PageOf<Shown>)))]
pub async fn list(State(api): State<Api>, within: Within<Read>, listed: Listed) -> Result<Response, Problem> {
    let found = nodes::list(&api.store, within.deployment.id, listed.page).await?;
    let now = api.now();
    listed.respond(found, |node| Shown::new(node, now))
}

/// Get a node
#[utoipa::path(get, operation_id = "get_node", path = "/deployments/{deployment_id}/nodes/{node_id}", tag = "nodes",
    responses((status = OK, body = Shown), (status = NOT_FOUND, description = "`node_not_found`")))]
pub async fn get(State(api): State<Api>, within: Within<Read>, place: Place) -> Result<Response, Problem> {
    let node = node(&api, &within, &place).await?;
    Ok(Reply::json(StatusCode::OK, &Shown::new(node, api.now()))?.into_response())
}

/// Remove a node
///
/// Its credential is void from now on, and its connection is closed. What it was asked and has not answered is
/// rejected with `node_removed`. The runtimes on the host go on.
#[utoipa::path(delete, operation_id = "remove_node", path = "/deployments/{deployment_id}/nodes/{node_id}", tag = "nodes",
    responses((status = NO_CONTENT), (status = NOT_FOUND, description = "`node_not_found`")))]
pub async fn remove(
    State(api): State<Api>,
    within: Within<Manage>,
    place: Place,
) -> Result<Response, Problem> {
    let node = node(&api, &within, &place).await?;
    let (deployment, now) = (&within.deployment, api.now());
    let mut change = api.store.change().await?;
    if !nodes::remove(&mut change, deployment.id, node.id, now).await? {
        return Err(node_not_found());
    }
    activities::end_for_removed_node(&mut change, node.id, now).await?;
    let detail = json!({ "name": node.name });
    let mut entry = within.caller.did("node.remove", deployment.tenant_id, ("Node", node.id), detail);
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// The node that the path names.
pub async fn node<N>(api: &Api, within: &Within<N>, place: &Place) -> Result<Node, Problem> {
    let id = place.id("node_id")?;
    nodes::get(&api.store, within.deployment.id, id).await?.ok_or_else(node_not_found)
}

fn node_not_found() -> Problem {
    Problem::not_found("node_not_found", "there is no such node in this deployment")
}
