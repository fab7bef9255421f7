//! `/deployments/{deployment_id}/enrolments`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::asked::{Asked, Issues};
use super::identity::{Manage, Within};
use super::once::Reply;
use super::problem::Problem;
use super::values::Time;
use super::{Api, base_url};
use crate::secret::Secret;
use crate::supervisor::store::audit;
use crate::supervisor::store::enrolments::{self, Enrolment};

/// How long a token is good when the request does not say: long enough to install a host.
const LIFE_S: u32 = 3600;
/// At most: a week, to prepare an image before the hosts are there.
const LIFE_LIMIT_S: u32 = 7 * 24 * 3600;

/// A token to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "name": "iggy-1", "expires_in_seconds": 3600 }))]
pub struct NewEnrolment {
    /// What the node will be called; without it, as its host.
    #[serde(default)]
    #[schema(min_length = 1, max_length = 100)]
    name: Option<String>,
    #[serde(default)]
    #[schema(minimum = 1, maximum = 604800, default = 3600)]
    expires_in_seconds: Option<u32>,
}

/// A token by which one host becomes a node, once.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Enrolment, example = json!({
    "id": 611298765432109057u64, "deployment_id": 611298765432109056u64, "name": "iggy-1",
    "created_at": "2026-06-01T10:30:00Z", "expires_at": "2026-06-01T11:30:00Z",
    "supervisor_url": "https://warden.example.com", "token": "we_…"
}))]
pub struct Shown {
    pub id: u64,
    pub deployment_id: u64,
    pub name: Option<String>,
    pub created_at: Time,
    pub expires_at: Time,
    /// Where the host takes the token.
    pub supervisor_url: String,
    /// Shown this once; null in a replay.
    pub token: Option<String>,
}

/// Make a one-time token for a new node
///
/// `warden enroll` on the host trades it for the node's own credential. It is shown once and good for one host.
#[utoipa::path(post, operation_id = "create_enrolment", path = "/deployments/{deployment_id}/enrolments", tag = "nodes",
    request_body = NewEnrolment,
    responses((status = CREATED, body = Shown, headers(("ld-enrolment" = u64, description = "The id of the enrolment.")))))]
pub async fn create(
    State(api): State<Api>,
    within: Within<Manage>,
    parts: Parts,
    Asked { body, claim }: Asked<NewEnrolment>,
) -> Result<Response, Problem> {
    let mut issues = Issues::default();
    if let Some(name) = &body.name {
        issues.name("name", name);
    }
    let life = body.expires_in_seconds.unwrap_or(LIFE_S);
    if !(1..=LIFE_LIMIT_S).contains(&life) {
        let reason = format!("expected a whole number from 1 to {LIFE_LIMIT_S}");
        issues.add("expires_in_seconds", "out_of_range", reason);
    }
    issues.finish()?;
    let (deployment, now) = (&within.deployment, api.now());
    let token = Secret::draw(enrolments::TOKEN_PREFIX).map_err(Problem::internal)?;
    let enrolment = Enrolment {
        id: api.store.id(now),
        deployment_id: deployment.id,
        token_hash: token.hash(),
        name: body.name,
        author_id: within.caller.key.id,
        created_at: now,
        expires_at: now + i64::from(life) * 1000,
    };
    let mut change = api.store.change().await?;
    enrolments::insert(&mut change, &enrolment).await?;
    let detail = json!({ "name": enrolment.name, "expires_at": Time(enrolment.expires_at) });
    let resource = ("Enrolment", enrolment.id);
    let mut entry = within.caller.did("enrolment.create", deployment.tenant_id, resource, detail);
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    let mut shown = Shown {
        id: enrolment.id,
        deployment_id: deployment.id,
        name: enrolment.name,
        created_at: Time(now),
        expires_at: Time(enrolment.expires_at),
        supervisor_url: base_url(&parts, &api.settings),
        token: Some(token.expose().to_owned()),
    };
    let reply = Reply::json(StatusCode::CREATED, &shown)?.created("ld-enrolment", enrolment.id);
    shown.token = None;
    claim.commit(change, reply.kept(&shown)?).await
}
