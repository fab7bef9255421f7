//! `/deployments`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::auth::{Allowed, Manage, Read, Within, deployment_not_found};
use super::extract::{Asked, Issues, Query};
use super::idempotency::Reply;
use super::json_types::{Id, Time};
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use super::{Api, base_url};
use crate::store::deployments::{self, Changes, Deployment, NotChanged, Plan};
use crate::store::{activities, audit, enrolments, nodes, snapshots};
use crate::{FIRST_DIVISION, FIRST_ENVIRONMENT};

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

/// What is to be different; what is not said stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "plan": "pro" }))]
pub struct ChangedDeployment {
    /// Its own among those of its environment.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    /// `basic` (3 snapshots, 7 days), `pro` (5, 14) or `enterprise` (20, 90).
    #[serde(default)]
    plan: Option<String>,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; the query is read by hand to tell every mistake")]
pub struct Removal {
    /// Its nodes go with it.
    #[param(default = false)]
    force: Option<bool>,
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

/// Change name or plan of a deployment
///
/// What was taken before keeps the name it was taken under. A smaller plan removes at once nothing: what is older than it
/// keeps goes within a minute, and while there are more snapshots than it keeps, no other is taken.
#[utoipa::path(patch, operation_id = "change_deployment", path = "/deployments/{deployment_id}", tag = "deployments", request_body = ChangedDeployment,
    responses(
        (status = OK, body = Shown),
        (status = CONFLICT, description = "`deployment_exists`: the environment has another one of this name."),
    ))]
pub async fn change(
    State(api): State<Api>,
    within: Within<Manage>,
    parts: Parts,
    Asked { body, claim }: Asked<ChangedDeployment>,
) -> Result<Response, Problem> {
    let mut issues = Issues::default();
    if let Some(name) = &body.name {
        issues.name("name", name);
    }
    let plan = body.plan.as_deref().and_then(|text| {
        let plan: Result<Plan, String> = text.parse();
        plan.map_err(|reason| issues.add("plan", "invalid_value", reason)).ok()
    });
    issues.finish()?;
    let (before, now) = (&within.deployment, api.now());
    let mut change = api.store.change().await?;
    let changes = Changes { name: body.name, plan };
    let after = deployments::update(&mut change, before.id, &changes).await?.map_err(|why| match why {
        NotChanged::Missing => deployment_not_found(),
        NotChanged::NameTaken => {
            Problem::conflict("deployment_exists", "there is another deployment of this name already")
        }
    })?;
    if after != *before {
        let detail = json!({ "name": after.name, "plan": after.plan.as_str(),
            "before": { "name": before.name, "plan": before.plan.as_str() } });
        let resource = ("Deployment", after.id);
        let mut entry = within.caller.did("deployment.change", after.tenant_id, resource, detail);
        entry.deployment_id = Some(after.id);
        audit::record(&mut change, entry, now).await?;
    }
    let shown = Shown::new(after, base_url(&parts, &api.settings));
    claim.commit(change, Reply::json(StatusCode::OK, &shown)?).await
}

/// Remove a deployment
///
/// Its snapshots go with their archives, and its enrolments are void. With `force` its nodes go too, as if each were
/// removed. What was done in it stays in the audit.
#[utoipa::path(delete, operation_id = "remove_deployment", path = "/deployments/{deployment_id}", tag = "deployments", params(Removal),
    responses(
        (status = NO_CONTENT),
        (status = CONFLICT, description = "`deployment_has_nodes`: remove them first, or say `force=true`."),
    ))]
pub async fn remove(
    State(api): State<Api>,
    within: Within<Manage>,
    parts: Parts,
) -> Result<Response, Problem> {
    let force = Query::read(&parts, &["force"])?.parsed::<bool>("force")?.unwrap_or(false);
    let (deployment, now) = (&within.deployment, api.now());
    let mut change = api.store.change().await?;
    // First, so that no node comes to be behind the list of those there are.
    enrolments::revoke_all(&mut change, deployment.id).await?;
    let nodes = nodes::ids(&mut change, deployment.id).await?;
    if !force && !nodes.is_empty() {
        let reason = match nodes.len() {
            1 => "it has a node: remove that first, or set force=true (ctl: --force)".to_owned(),
            many => format!("it has {many} nodes: remove them first, or set force=true (ctl: --force)"),
        };
        return Err(Problem::conflict("deployment_has_nodes", reason));
    }
    for node in &nodes {
        nodes::remove(&mut change, deployment.id, *node, now).await?;
        activities::end_for_removed_node(&mut change, *node, now).await?;
    }
    let snapshots = snapshots::remove_all(&mut change, deployment.id, now).await?;
    if !deployments::remove(&mut change, deployment.id, now).await? {
        return Err(deployment_not_found());
    }
    let detail = json!({ "name": deployment.name, "nodes": nodes.len(), "snapshots": snapshots });
    let resource = ("Deployment", deployment.id);
    let mut entry = within.caller.did("deployment.remove", deployment.tenant_id, resource, detail);
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    change.commit().await?;
    // Hidden for good. What is left of the archives if this fails, the job removes.
    if let Err(error) = api.uploads.remove_archives(now).await {
        tracing::warn!(deployment = deployment.id, %error, "archives of a removed deployment are still there");
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}
