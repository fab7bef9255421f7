//! `/deployments/{deployment_id}/activities`

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use warden_protocol::{Action, Reason, Runtime, UnitChange, Work};

use super::Api;
use super::auth::{Manage, Read, Within};
use super::extract::{Asked, Issues, Place};
use super::idempotency::Reply;
use super::json_types::{Id, Time};
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use crate::store::activities::{self, Activity, Filter, Order, Status};
use crate::store::{audit, nodes};

/// Nodes of one request.
pub const NODES_LIMIT: usize = 10_000;
/// Longest deadline a request may ask for, in seconds.
const DEADLINE_LIMIT_S: u32 = 24 * 3600;

/// One action on one runtime of one node.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Activity, example = json!({
    "id": 1, "tenant_id": 1, "division_id": 1, "environment_id": 1, "deployment_id": 1, "author_id": 42,
    "runtime": "iggy", "action": "restart", "node_id": 610809900976570889u64, "status": "completed",
    "created_at": "2026-03-16T12:00:00Z", "finished_at": "2026-03-16T12:00:05Z",
    "async_action_id": 98765, "deadline_at": "2026-03-16T12:05:00Z", "step": null, "reason": null,
    "result": { "unit": "iggy.service", "job_result": "done", "took_ms": 812,
        "answers": true, "answer": "http://127.0.0.1:3000/ping says pong",
        "before": { "active_state": "active", "sub_state": "running", "main_pid": 811,
                    "invocation_id": "0d1c…", "result": "success", "exit_status": null },
        "after": { "active_state": "active", "sub_state": "running", "main_pid": 4711,
                   "invocation_id": "77aa…", "result": "success", "exit_status": null } }
}))]
pub struct Shown {
    pub id: u64,
    pub tenant_id: u64,
    pub division_id: u64,
    pub environment_id: u64,
    pub deployment_id: u64,
    /// The id of the key that asked.
    pub author_id: u64,
    /// `iggy`, `connectors`, `connector:sink:KEY` or `connector:source:KEY`
    pub runtime: String,
    /// `start`, `stop`, `restart` or `reconfigure:CONFIG_ID`
    pub action: String,
    pub node_id: u64,
    /// `processing`, then `completed` or `rejected`.
    pub status: &'static str,
    pub created_at: Time,
    /// Null while it is processing.
    pub finished_at: Option<Time>,
    /// What it is part of, with the other nodes of the same request.
    pub async_action_id: u64,
    /// It has ended by then, one way or the other.
    pub deadline_at: Time,
    /// What the node does right now, in a few words.
    pub step: Option<String>,
    /// Why it was rejected.
    pub reason: Option<Reason>,
    /// What it did to the unit, as far as that is known.
    pub result: Option<UnitChange>,
}

/// What one request made: an activity a node.
#[derive(Debug, Serialize, ToSchema)]
pub struct Started {
    items: Vec<Shown>,
}

/// Whom it is asked of.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "nodes": [610809900976570889u64] }))]
pub struct NewActivities {
    /// Without it, or empty: every node of the deployment.
    #[serde(default)]
    #[schema(max_items = 10000)]
    nodes: Vec<Id>,
    /// How long it may take, from now until it has ended.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 86400, default = 300)]
    deadline_seconds: Option<u32>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; the query is read by hand to tell every mistake")]
pub struct Filters {
    /// Only of this node.
    node_id: Option<u64>,
    /// Only of this runtime.
    #[param(example = "iggy")]
    runtime: Option<String>,
    /// Only `processing`, `completed` or `rejected` ones.
    #[param(example = "processing")]
    status: Option<String>,
}

impl From<Activity> for Shown {
    fn from(activity: Activity) -> Shown {
        use activities::State::{Accepted, Completed, Delivered, Queued, Rejected};
        let (runtime, action) = activity.on_and_what();
        Shown {
            id: activity.id,
            tenant_id: activity.tenant_id,
            division_id: activity.division_id,
            environment_id: activity.environment_id,
            deployment_id: activity.deployment_id,
            author_id: activity.author_id,
            runtime,
            action,
            node_id: activity.node_id,
            status: match activity.state {
                Queued | Delivered | Accepted => "processing",
                Completed => "completed",
                Rejected => "rejected",
            },
            created_at: Time(activity.created_at),
            finished_at: activity.finished_at.map(Time),
            async_action_id: activity.async_action_id,
            deadline_at: Time(activity.deadline_at),
            step: activity.step,
            reason: activity.reason,
            result: activity.result,
        }
    }
}

/// Have nodes do something to a runtime
///
/// One activity a node, all under one async action. It takes effect once on each node, however often anything in
/// between fails, and always ends: a node that is away has until the deadline to come back, then its activity is
/// rejected with `node_unreachable`.
#[utoipa::path(post, operation_id = "start_activities", path = "/deployments/{deployment_id}/activities/{runtime}/{action}", tag = "activities",
    params(
        ("runtime" = String, Path, description = "`iggy`, `connectors`, or `connector:{type}:{key}` for one connector instance", example = "iggy"),
        ("action" = String, Path, description = "`start`, `stop`, `restart` or `reconfigure:{config_id}`", example = "restart"),
    ),
    request_body = NewActivities,
    responses(
        (status = ACCEPTED, body = Started, headers(("ld-async-action" = u64, description = "The id of the async action."))),
        (status = BAD_REQUEST, description = "`node_not_found`: an unknown node, nothing was asked of any. `unsupported_action`, `config_not_found`, `validation_error`."),
        (status = CONFLICT, description = "`no_nodes`: the deployment has none."),
    ))]
pub async fn start(
    State(api): State<Api>,
    within: Within<Manage>,
    place: Place,
    Asked { body, claim }: Asked<NewActivities>,
) -> Result<Response, Problem> {
    let runtime: Runtime = place.parsed("runtime")?;
    let action: Action = place.parsed("action").map_err(|problem| problem.coded("unsupported_action"))?;
    if let Action::Reconfigure(_) = action {
        return Err(Problem::field("action", "config_not_found", "there is no such configuration")
            .coded("config_not_found"));
    }
    let deadline_ms = deadline(&api, &body)?;
    let (deployment, now) = (&within.deployment, api.now());
    let mut change = api.store.change().await?;
    let nodes = chosen(&body.nodes, nodes::ids(&mut change, deployment.id).await?)?;
    let order = Order {
        deployment: deployment.clone(),
        nodes,
        work: Work::Activity { runtime: runtime.clone(), action },
        author_id: within.caller.key.id,
        author: within.caller.key.name.clone(),
        started_via: within.caller.started_via,
        deadline_at: now + deadline_ms,
    };
    let (started, activities) = activities::start(&mut change, &order, now).await?;
    let detail = json!({ "runtime": runtime, "action": action, "nodes": order.nodes.len() });
    let resource = ("AsyncAction", started.id);
    let mut entry = within.caller.did("activity.start", deployment.tenant_id, resource, detail);
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    let body = Started { items: activities.into_iter().map(Shown::from).collect() };
    let reply = Reply::json(StatusCode::ACCEPTED, &body)?.created("ld-async-action", started.id);
    claim.commit(change, reply).await
}

fn deadline(api: &Api, body: &NewActivities) -> Result<i64, Problem> {
    let mut issues = Issues::default();
    if body.nodes.len() > NODES_LIMIT {
        issues.add("nodes", "too_long", format!("expected at most {NODES_LIMIT} nodes"));
    }
    if body.deadline_seconds.is_some_and(|seconds| !(1..=DEADLINE_LIMIT_S).contains(&seconds)) {
        let reason = format!("expected a whole number from 1 to {DEADLINE_LIMIT_S}");
        issues.add("deadline_seconds", "out_of_range", reason);
    }
    issues.finish()?;
    let asked = body.deadline_seconds.map(|seconds| i64::from(seconds) * 1000);
    Ok(asked.unwrap_or(api.settings.limits.activity_deadline_ms))
}

/// The nodes that are meant: all there are, or each that was named, once.
pub fn chosen(named: &[Id], there: Vec<u64>) -> Result<Vec<u64>, Problem> {
    if there.len() > NODES_LIMIT && named.is_empty() {
        return Err(Problem::field("nodes", "too_long", format!("name at most {NODES_LIMIT} nodes")));
    }
    if there.is_empty() && named.is_empty() {
        return Err(Problem::conflict("no_nodes", "the deployment has no nodes yet"));
    }
    if named.is_empty() {
        return Ok(there);
    }
    let there: BTreeSet<u64> = there.into_iter().collect();
    let mut issues = Issues::default();
    for (at, id) in named.iter().enumerate().filter(|(_, id)| !there.contains(&id.0)) {
        let reason = format!("there is no node {} in this deployment", id.0);
        issues.add(format!("nodes[{at}]"), "node_not_found", reason);
    }
    issues.finish().map_err(|problem| problem.coded("node_not_found"))?;
    let named: BTreeSet<u64> = named.iter().map(|id| id.0).collect();
    Ok(named.into_iter().collect())
}

/// List the activities of a deployment
#[utoipa::path(get, operation_id = "list_activities", path = "/deployments/{deployment_id}/activities", tag = "activities",
    params(PageParameters, Filters), responses((status = OK, body = PageOf<Shown>)))]
pub async fn list(State(api): State<Api>, within: Within<Read>, parts: Parts) -> Result<Response, Problem> {
    let listed = Listed::read(&parts, &api, &["node_id", "runtime", "status"])?;
    let filter = Filter {
        node_id: listed.query.id("node_id")?,
        runtime: listed.query.parsed("runtime")?,
        status: listed.query.parsed("status")?,
    };
    let found = activities::list(&api.store, within.deployment.id, &filter, listed.page).await?;
    listed.respond(found, Shown::from)
}

impl std::str::FromStr for Status {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Status, Self::Err> {
        match text {
            "processing" => Ok(Status::Processing),
            "completed" => Ok(Status::Completed),
            "rejected" => Ok(Status::Rejected),
            _ => Err("expected processing, completed or rejected"),
        }
    }
}

/// Get an activity
#[utoipa::path(get, operation_id = "get_activity", path = "/deployments/{deployment_id}/activities/{activity_id}", tag = "activities",
    responses((status = OK, body = Shown), (status = NOT_FOUND, description = "`activity_not_found`")))]
pub async fn get(State(api): State<Api>, within: Within<Read>, place: Place) -> Result<Response, Problem> {
    let id = place.id("activity_id")?;
    let activity = activities::get(&api.store, within.deployment.id, id).await?.ok_or_else(|| {
        Problem::not_found("activity_not_found", "there is no such activity in this deployment")
    })?;
    Ok(Reply::json(StatusCode::OK, &Shown::from(activity))?.into_response())
}
