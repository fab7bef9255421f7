//! `/async_actions`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::{Allowed, Caller, Manage, Read, Within};
use super::extract::{Asked, Place};
use super::idempotency::Reply;
use super::json_types::Time;
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use crate::store::async_actions::{self, AsyncAction, Filter};
use crate::store::{activities, audit};

/// An operation that outlives its request.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AsyncAction, example = json!({
    "id": 98765, "user": "ops@example.com", "resource_type": "Deployment", "action": "restart",
    "resource_id": 611298765432109056u64, "started_via": "api", "started_at": "2024-01-15T10:30:00Z",
    "finished_at": "2024-01-15T10:45:00Z", "finished_success": true,
    "finished_message": "Restarted iggy on 3 of 3 nodes",
    "finished_result": { "nodes": [{ "node_id": 1, "status": "completed", "activity_id": 7 }] },
    "metadata": { "runtime": "iggy" }
}))]
pub struct Shown {
    pub id: u64,
    /// The name of the key that asked, or of the node.
    pub user: String,
    pub resource_type: String,
    pub action: String,
    pub resource_id: u64,
    /// `api`, `web`, `cli` or `hook`; `node` when a node offered a snapshot that it took by itself.
    pub started_via: String,
    pub started_at: Time,
    /// This and the next three are null while it runs.
    pub finished_at: Option<Time>,
    pub finished_success: Option<bool>,
    pub finished_message: Option<String>,
    pub finished_result: Option<Value>,
    pub metadata: Value,
}

/// Nothing: `{}`, or no body.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; the query is read by hand to tell every mistake")]
pub struct Filters {
    /// Only of this kind.
    #[param(example = "restart")]
    action: Option<String>,
    /// Only on this kind of thing.
    #[param(example = "Deployment")]
    resource_type: Option<String>,
    /// `true`: only those that run; `false`: only those that ended.
    running: Option<bool>,
}

impl From<AsyncAction> for Shown {
    fn from(action: AsyncAction) -> Shown {
        let finished = action.finished;
        Shown {
            id: action.id,
            user: action.author,
            resource_type: action.resource_type,
            action: action.action,
            resource_id: action.resource_id,
            started_via: action.started_via,
            started_at: Time(action.started_at),
            finished_at: finished.as_ref().map(|finish| Time(finish.at)),
            finished_success: finished.as_ref().map(|finish| finish.success),
            finished_message: finished.as_ref().map(|finish| finish.message.clone()),
            finished_result: finished.map(|finish| finish.result),
            metadata: action.metadata,
        }
    }
}

/// List async actions
#[utoipa::path(get, operation_id = "list_async_actions", path = "/async_actions", tag = "async actions", params(PageParameters, Filters),
    responses((status = OK, body = PageOf<Shown>)))]
pub async fn list(State(api): State<Api>, who: Allowed<Read>, parts: Parts) -> Result<Response, Problem> {
    listed(&api, &who.caller, None, &parts).await
}

/// List the async actions of a deployment
#[utoipa::path(get, operation_id = "list_async_actions_of_deployment", path = "/deployments/{deployment_id}/async_actions", tag = "async actions",
    params(PageParameters, Filters), responses((status = OK, body = PageOf<Shown>)))]
pub async fn list_of_deployment(
    State(api): State<Api>,
    within: Within<Read>,
    parts: Parts,
) -> Result<Response, Problem> {
    listed(&api, &within.caller, Some(within.deployment.id), &parts).await
}

async fn listed(
    api: &Api,
    caller: &Caller,
    deployment_id: Option<u64>,
    parts: &Parts,
) -> Result<Response, Problem> {
    let listed = Listed::read(parts, api, &["action", "resource_type", "running"])?;
    let running = listed.query.parsed::<bool>("running");
    let filter = Filter {
        deployment_id,
        action: listed.query.text("action").map(str::to_owned),
        resource_type: listed.query.text("resource_type").map(str::to_owned),
        running: running.map_err(|_| Problem::field("running", "invalid_value", "expected true or false"))?,
    };
    let found = async_actions::list(&api.store, caller.key.scope(), &filter, listed.page).await?;
    listed.respond(found, Shown::from)
}

/// Get an async action
#[utoipa::path(get, operation_id = "get_async_action", path = "/async_actions/{async_action_id}", tag = "async actions",
    responses((status = OK, body = Shown), (status = NOT_FOUND, description = "`async_action_not_found`")))]
pub async fn get(State(api): State<Api>, who: Allowed<Read>, place: Place) -> Result<Response, Problem> {
    let action = action(&api, &who.caller, &place).await?;
    Ok(Reply::json(StatusCode::OK, &Shown::from(action))?.into_response())
}

/// Cancel an async action
///
/// What was not sent to a node ends at once, rejected with `cancelled`. What a node has is asked back: it ends
/// `cancelled` if it has taken no effect yet, else as it would have.
#[utoipa::path(post, operation_id = "cancel_async_action", path = "/async_actions/{async_action_id}/cancel", tag = "async actions",
    request_body = Nothing,
    responses(
        (status = ACCEPTED, body = Shown),
        (status = NOT_FOUND, description = "`async_action_not_found`"),
        (status = CONFLICT, description = "`async_action_finished`"),
    ))]
pub async fn cancel(
    State(api): State<Api>,
    who: Allowed<Manage>,
    place: Place,
    Asked { body: Nothing {}, claim }: Asked<Nothing>,
) -> Result<Response, Problem> {
    let found = action(&api, &who.caller, &place).await?;
    if found.finished.is_some() {
        return Err(Problem::conflict("async_action_finished", "this action has ended already"));
    }
    let now = api.now();
    let mut change = api.store.change().await?;
    let cancelled = activities::cancel(&mut change, found.id, now).await?;
    let resource = ("AsyncAction", found.id);
    let mut entry = who.caller.did("async_action.cancel", found.tenant_id, resource, json!({}));
    entry.deployment_id = Some(found.deployment_id);
    audit::record(&mut change, entry, now).await?;
    claim.commit(change, Reply::json(StatusCode::ACCEPTED, &Shown::from(cancelled))?).await
}

/// The action that the path names, if the caller may see it.
pub async fn action(api: &Api, caller: &Caller, place: &Place) -> Result<AsyncAction, Problem> {
    let id = place.id("async_action_id")?;
    async_actions::get(&api.store, caller.key.scope(), id).await?.ok_or_else(|| {
        Problem::not_found("async_action_not_found", "there is no such action, or it is not yours to see")
    })
}
