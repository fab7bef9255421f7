//! `/deployments`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::asked::{Asked, Issues};
use super::identity::{Allowed, Manage, Read, Within};
use super::once::Reply;
use super::pages::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use super::values::{Id, Time};
use super::{Api, base_url};
use crate::supervisor::store::audit;
use crate::supervisor::store::deployments::{self, Deployment, Plan};
use crate::supervisor::{FIRST_DIVISION, FIRST_ENVIRONMENT};

/// Nodes that run one Iggy together.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Deployment, example = json!({
    "id": 611298765432109056u64, "tenant_id": 1, "division_id": 1, "environment_id": 1, "name": "events-prod",
    "plan": "pro", "created_at": "2026-06-01T10:30:00Z", "supervisor_url": "https://warden.example.com"
}))]
pub struct Shown {
    pub id: u64,
    pub tenant_id: u64,
    pub division_id: u64,
    pub environment_id: u64,
    pub name: String,
    /// `basic`, `pro` or `enterprise`: how many snapshots are kept, and how long.
    pub plan: &'static str,
    pub created_at: Time,
    /// Where its nodes reach this Supervisor.
    pub supervisor_url: String,
}

/// A deployment to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "events-prod" }))]
pub struct NewDeployment {
    /// Its own among those of its environment.
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `basic` (3 snapshots, 7 days), `pro` (5, 14) or `enterprise` (20, 90).
    #[serde(default)]
    #[schema(default = "basic")]
    plan: Option<String>,
    /// Another tenant than the key's: for administrators.
    #[serde(default)]
    tenant_id: Option<Id>,
    #[serde(default)]
    division_id: Option<Id>,
    #[serde(default)]
    environment_id: Option<Id>,
}

impl Shown {
    fn new(deployment: Deployment, supervisor_url: String) -> Shown {
        Shown {
            id: deployment.id,
            tenant_id: deployment.tenant_id,
            division_id: deployment.division_id,
            environment_id: deployment.environment_id,
            name: deployment.name,
            plan: deployment.plan.as_str(),
            created_at: Time(deployment.created_at),
            supervisor_url,
        }
    }
}

/// List deployments
///
/// Those the key may see, newest first.
#[utoipa::path(get, operation_id = "list_deployments", path = "/deployments", tag = "deployments", params(PageParameters),
    responses((status = OK, body = PageOf<Shown>)))]
pub async fn list(
    State(api): State<Api>,
    who: Allowed<Read>,
    listed: Listed,
    parts: Parts,
) -> Result<Response, Problem> {
    let found = deployments::list(&api.store, who.caller.key.scope(), listed.page).await?;
    let url = base_url(&parts, &api.settings);
    listed.respond(found, |deployment| Shown::new(deployment, url.clone()))
}

/// Make a deployment
#[utoipa::path(post, operation_id = "create_deployment", path = "/deployments", tag = "deployments", request_body = NewDeployment,
    responses(
        (status = CREATED, body = Shown, headers(("ld-deployment" = u64, description = "The id of the deployment."))),
        (status = CONFLICT, description = "`deployment_exists`: the environment has one of this name."),
    ))]
pub async fn create(
    State(api): State<Api>,
    who: Allowed<Manage>,
    parts: Parts,
    Asked { body, claim }: Asked<NewDeployment>,
) -> Result<Response, Problem> {
    let key = &who.caller.key;
    if key.deployments.is_some() {
        return Err(Problem::forbidden("this key is limited to some deployments and cannot make others"));
    }
    let tenant = body.tenant_id.map_or(key.tenant_id, |id| id.0);
    if tenant != key.tenant_id {
        who.caller.must_be_administrator()?;
    }
    let mut issues = Issues::default();
    issues.name("name", &body.name);
    let plan = body.plan.as_deref().map_or(Ok(Plan::Basic), str::parse).unwrap_or_else(|reason: String| {
        issues.add("plan", "invalid_value", reason);
        Plan::Basic
    });
    issues.finish()?;
    let now = api.now();
    let deployment = Deployment {
        id: api.store.id(now),
        tenant_id: tenant,
        division_id: body.division_id.map_or(FIRST_DIVISION, |id| id.0),
        environment_id: body.environment_id.map_or(FIRST_ENVIRONMENT, |id| id.0),
        name: body.name,
        plan,
        created_at: now,
    };
    let mut change = api.store.change().await?;
    if !deployments::insert(&mut change, &deployment).await? {
        return Err(Problem::conflict("deployment_exists", "there is a deployment of this name already"));
    }
    let detail = json!({ "name": deployment.name, "plan": plan.as_str() });
    let mut entry = who.caller.did("deployment.create", tenant, ("Deployment", deployment.id), detail);
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    let id = deployment.id;
    let shown = Shown::new(deployment, base_url(&parts, &api.settings));
    claim.commit(change, Reply::json(StatusCode::CREATED, &shown)?.created("ld-deployment", id)).await
}

/// Get a deployment
#[utoipa::path(get, operation_id = "get_deployment", path = "/deployments/{deployment_id}", tag = "deployments",
    responses((status = OK, body = Shown)))]
pub async fn get(State(api): State<Api>, within: Within<Read>, parts: Parts) -> Result<Response, Problem> {
    let url = base_url(&parts, &api.settings);
    Ok(Reply::json(StatusCode::OK, &Shown::new(within.deployment, url))?.into_response())
}
