//! `/deployments/{deployment_id}/enrolments`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use warden_platform::secret::Secret;

use super::auth::{Manage, Read, Within};
use super::extract::{Asked, Issues, Place};
use super::idempotency::Reply;
use super::json_types::Time;
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use super::{Api, base_url};
use crate::store::audit;
use crate::store::enrolments::{self, Enrolment, Standing};

/// How long a token is good when the request does not say: long enough to install a host.
const LIFE_S: u32 = 3600;
/// At most: a month, for the hosts that an autoscaling group makes until the next change of its image.
const LIFE_LIMIT_S: u32 = 30 * 24 * 3600;
/// Hosts that one token may serve at most: as many as a group of that month makes.
const USES_LIMIT: u32 = 1000;

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
    #[schema(minimum = 1, maximum = 2592000, default = 3600)]
    expires_in_seconds: Option<u32>,
    /// How many hosts it is good for. With a name it is good for one.
    #[serde(default)]
    #[schema(minimum = 1, maximum = 1000, default = 1)]
    uses: Option<u32>,
}

/// A token by which hosts become nodes: one, or as many as `uses` says.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Enrolment, example = json!({
    "id": 611298765432109057u64, "deployment_id": 611298765432109056u64, "name": "iggy-1",
    "created_at": "2026-06-01T10:30:00Z", "expires_at": "2026-06-01T11:30:00Z", "uses": 1,
    "supervisor_url": "https://warden.example.com", "token": "we_…"
}))]
pub struct Shown {
    pub id: u64,
    pub deployment_id: u64,
    pub name: Option<String>,
    pub created_at: Time,
    pub expires_at: Time,
    /// How many hosts it is good for.
    pub uses: u32,
    /// Where the host takes the token.
    pub supervisor_url: String,
    /// Shown this once; null in a replay.
    pub token: Option<String>,
}

/// An enrolment, without its token.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = EnrolmentStanding, example = json!({
    "id": 611298765432109057u64, "deployment_id": 611298765432109056u64, "name": null, "author_id": 42,
    "created_at": "2026-06-01T10:30:00Z", "expires_at": "2026-06-02T10:30:00Z", "uses": 20, "used": 3,
    "last_used_at": "2026-06-01T12:00:00Z", "status": "open"
}))]
pub struct ShownStanding {
    pub id: u64,
    pub deployment_id: u64,
    pub name: Option<String>,
    /// The key that made it.
    pub author_id: u64,
    pub created_at: Time,
    pub expires_at: Time,
    /// How many hosts it is good for.
    pub uses: u32,
    /// How many hosts became nodes by it.
    pub used: u32,
    pub last_used_at: Option<Time>,
    /// `open`, `used_up` or `expired`.
    pub status: &'static str,
}

impl ShownStanding {
    fn new(standing: Standing, now: i64) -> ShownStanding {
        let status = standing.status(now).as_str();
        let Standing { enrolment, used, last_used_at } = standing;
        ShownStanding {
            id: enrolment.id,
            deployment_id: enrolment.deployment_id,
            name: enrolment.name,
            author_id: enrolment.author_id,
            created_at: Time(enrolment.created_at),
            expires_at: Time(enrolment.expires_at),
            uses: enrolment.uses,
            used,
            last_used_at: last_used_at.map(Time),
            status,
        }
    }
}

/// List the enrolments of a deployment
///
/// None of their tokens. Those that ended are forgotten a week after their expiry.
#[utoipa::path(get, operation_id = "list_enrolments", path = "/deployments/{deployment_id}/enrolments", tag = "nodes",
    params(PageParameters), responses((status = OK, body = PageOf<ShownStanding>)))]
pub async fn list(State(api): State<Api>, within: Within<Read>, listed: Listed) -> Result<Response, Problem> {
    let found = enrolments::list(&api.store, within.deployment.id, listed.page).await?;
    let now = api.now();
    listed.respond(found, |standing| ShownStanding::new(standing, now))
}

/// Revoke an enrolment
///
/// Its token is void from now on. Nodes that came by it stay.
#[utoipa::path(delete, operation_id = "revoke_enrolment", path = "/deployments/{deployment_id}/enrolments/{enrolment_id}", tag = "nodes",
    responses((status = NO_CONTENT), (status = NOT_FOUND, description = "`enrolment_not_found`")))]
pub async fn revoke(
    State(api): State<Api>,
    within: Within<Manage>,
    place: Place,
) -> Result<Response, Problem> {
    let id = place.id("enrolment_id")?;
    let (deployment, now) = (&within.deployment, api.now());
    let mut change = api.store.change().await?;
    let Some(revoked) = enrolments::revoke(&mut change, deployment.id, id).await? else {
        let reason = "there is no such enrolment in this deployment";
        return Err(Problem::not_found("enrolment_not_found", reason));
    };
    let detail =
        json!({ "name": revoked.enrolment.name, "uses": revoked.enrolment.uses, "used": revoked.used });
    let mut entry = within.caller.did("enrolment.revoke", deployment.tenant_id, ("Enrolment", id), detail);
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// Make a token for new nodes
///
/// `warden enroll` on a host trades it for the node's own credential. It is shown once, and good for one host unless
/// `uses` says otherwise.
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
    let uses = body.uses.unwrap_or(1);
    if !(1..=USES_LIMIT).contains(&uses) {
        issues.add("uses", "out_of_range", format!("expected a whole number from 1 to {USES_LIMIT}"));
    } else if uses > 1 && body.name.is_some() {
        issues.add("name", "invalid_value", "is for one node: leave it out, and each is called as its host");
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
        uses,
    };
    let mut change = api.store.change().await?;
    enrolments::insert(&mut change, &enrolment).await?;
    let detail = json!({ "name": enrolment.name, "expires_at": Time(enrolment.expires_at), "uses": uses });
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
        uses,
        supervisor_url: base_url(&parts, &api.settings),
        token: Some(token.expose().to_owned()),
    };
    let reply = Reply::json(StatusCode::CREATED, &shown)?.created("ld-enrolment", enrolment.id);
    shown.token = None;
    claim.commit(change, reply.kept(&shown)?).await
}
