//! `/audit`: who did what.

use axum::extract::State;
use axum::http::request::Parts;
use axum::response::Response;
use serde::Serialize;
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

use super::Api;
use super::auth::Administrator;
use super::json_types::Time;
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use crate::store::audit::{self, AuditFilter, Recorded};
use crate::store::deployments::Scope;

/// Something that was done.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = AuditEntry, example = json!({
    "id": 611298765432109058u64, "at": "2026-06-01T10:30:00Z", "tenant_id": 1, "actor_type": "api_key",
    "actor_id": 42, "actor": "ops@example.com", "address": "203.0.113.9",
    "request": "5f0c7b1c9a834d1d8d5fbb6c0f7e2a11", "action": "activity.start",
    "deployment_id": 611298765432109056u64, "resource_type": "AsyncAction", "resource_id": 98765,
    "detail": { "runtime": "iggy", "action": "restart", "nodes": 3 }
}))]
pub struct Shown {
    pub id: u64,
    pub at: Time,
    pub tenant_id: u64,
    /// `api_key`, `node` or `supervisor`.
    pub actor_type: &'static str,
    pub actor_id: Option<u64>,
    /// The name it had then.
    pub actor: String,
    /// Where it called from.
    pub address: Option<String>,
    /// The header `ld-request` of the answer.
    pub request: Option<String>,
    /// A resource and a verb.
    pub action: String,
    pub deployment_id: Option<u64>,
    pub resource_type: String,
    pub resource_id: Option<u64>,
    pub detail: Value,
}

impl From<Recorded> for Shown {
    fn from(Recorded { id, at, entry }: Recorded) -> Shown {
        Shown {
            id,
            at: Time(at),
            tenant_id: entry.tenant_id,
            actor_type: entry.actor.kind(),
            actor_id: entry.actor.id(),
            actor: entry.actor.name().to_owned(),
            address: entry.address,
            request: entry.request,
            action: entry.action,
            deployment_id: entry.deployment_id,
            resource_type: entry.resource_type,
            resource_id: entry.resource_id,
            detail: entry.detail,
        }
    }
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; the query is read by hand to tell every mistake")]
pub struct AuditParameters {
    /// Only of the actor with this name.
    #[param(example = "ops@example.com")]
    actor: Option<String>,
    /// Only this action, or all actions of a resource.
    #[param(example = "activity.start")]
    action: Option<String>,
    /// Only entries about this node, and requests that had an activity on it.
    node_id: Option<u64>,
    /// RFC 3339, included.
    #[param(example = "2026-06-01T09:30:00Z")]
    from: Option<String>,
    /// RFC 3339, included.
    #[param(example = "2026-06-01T10:30:00Z")]
    to: Option<String>,
}

/// List what was done
///
/// Every change, newest first, of the last 365 days.
#[utoipa::path(get, operation_id = "list_audit", path = "/audit", tag = "administration", params(PageParameters, AuditParameters),
    responses((status = OK, body = PageOf<Shown>)))]
pub async fn list(State(api): State<Api>, _who: Administrator, parts: Parts) -> Result<Response, Problem> {
    let listed = Listed::read(&parts, &api, &["actor", "action", "node_id", "from", "to"])?;
    let (from, to) = (listed.query.parsed::<Time>("from")?, listed.query.parsed::<Time>("to")?);
    let all = AuditFilter::default();
    let filter = AuditFilter {
        actor: listed.query.text("actor").map(str::to_owned),
        action: listed.query.text("action").map(str::to_owned),
        node_id: listed.query.id("node_id")?,
        from: from.map_or(all.from, |time| time.0),
        to: to.map_or(all.to, |time| time.0),
    };
    let found = audit::list(&api.store, Scope::ALL, &filter, listed.page).await?;
    listed.respond(found, Shown::from)
}
