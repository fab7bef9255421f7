//! `/api_keys`

use std::collections::BTreeSet;

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use utoipa::openapi::schema::{ArrayBuilder, Type};
use utoipa::openapi::{ObjectBuilder, Schema};
use warden_platform::secret::Secret;

use super::Api;
use super::auth::{Administrator, PREFIX};
use super::extract::{Asked, Issues, Place};
use super::idempotency::Reply;
use super::json_types::{Id, Time};
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use crate::network::Network;
use crate::store::audit;
use crate::store::deployments::{self, Scope};
use crate::store::keys::{self, ApiKey, Permission};

/// Longest life of a key: a year.
pub const LIFE_LIMIT_MS: i64 = 365 * 24 * 3_600_000;
/// Networks of an allow-list, and deployments a key is limited to.
const LIST_LIMIT: usize = 100;

/// A key, without its secret.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[schema(as = ApiKey, example = json!({
    "id": 42, "tenant_id": 1, "name": "ops@example.com", "administrator": false,
    "permissions": ["deployment:read", "deployment:manage"], "allow_list": ["10.0.0.0/8"],
    "deployments": null, "created_at": "2026-06-01T10:30:00Z", "expires_at": "2027-06-01T10:30:00Z"
}))]
pub struct Shown {
    pub id: u64,
    pub tenant_id: u64,
    /// Who or what uses it; told as the user of what it starts.
    pub name: String,
    /// May do everything, in every tenant.
    pub administrator: bool,
    pub permissions: Vec<&'static str>,
    /// Where it may be used from; empty: anywhere.
    pub allow_list: Vec<String>,
    /// The deployments it is limited to; null: all of its tenant.
    pub deployments: Option<Vec<u64>>,
    pub created_at: Time,
    pub expires_at: Time,
}

/// A key as it is made: the only time its secret is shown.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({
    "id": 42, "tenant_id": 1, "name": "ops@example.com", "administrator": false,
    "permissions": ["deployment:read"], "allow_list": [], "deployments": null,
    "created_at": "2026-06-01T10:30:00Z", "expires_at": "2027-06-01T10:30:00Z", "key": "wk_42_…"
}))]
pub struct CreatedApiKey {
    #[serde(flatten)]
    shown: Shown,
    /// What goes into `ld-api-key`. Null in a replay.
    key: Option<String>,
}

/// A key to be made.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "name": "ops@example.com", "permissions": ["deployment:read", "deployment:manage"],
    "allow_list": ["10.0.0.0/8"], "expires_at": "2027-06-01T10:30:00Z"
}))]
pub struct NewApiKey {
    #[schema(min_length = 1, max_length = 100)]
    name: String,
    /// `deployment:read`, `deployment:manage`, `deployment:connector:read`, `deployment:connector:manage`,
    /// `deployment:config:read`, `deployment:config:manage`
    #[serde(default)]
    #[schema(schema_with = permission_names)]
    permissions: Vec<String>,
    /// A time to come, at most 365 days from now.
    expires_at: Time,
    /// Networks such as `10.0.0.0/8`, or single addresses.
    #[serde(default)]
    #[schema(max_items = 100)]
    allow_list: Vec<String>,
    #[serde(default)]
    #[schema(max_items = 100)]
    deployments: Option<Vec<Id>>,
    /// May do everything, in every tenant; takes no permissions and no deployments.
    #[serde(default)]
    administrator: bool,
    /// Another tenant than the maker's.
    #[serde(default)]
    tenant_id: Option<Id>,
}

fn permission_names() -> Schema {
    let names = Permission::ALL.map(Permission::as_str);
    let item = ObjectBuilder::new().schema_type(Type::String).enum_values(Some(names));
    ArrayBuilder::new().items(item).max_items(Some(Permission::ALL.len())).into()
}

impl From<&ApiKey> for Shown {
    fn from(key: &ApiKey) -> Shown {
        Shown {
            id: key.id,
            tenant_id: key.tenant_id,
            name: key.name.clone(),
            administrator: key.administrator,
            permissions: key.permissions.iter().map(|permission| permission.as_str()).collect(),
            allow_list: key.allow_list.iter().map(Network::to_string).collect(),
            deployments: key.deployments.clone(),
            created_at: Time(key.created_at),
            expires_at: Time(key.expires_at),
        }
    }
}

/// List keys
#[utoipa::path(get, operation_id = "list_api_keys", path = "/api_keys", tag = "administration", params(PageParameters),
    responses((status = OK, body = PageOf<Shown>)))]
pub async fn list(State(api): State<Api>, _who: Administrator, listed: Listed) -> Result<Response, Problem> {
    let found = keys::list(&api.store, Scope::ALL, listed.page).await?;
    listed.respond(found, |key| Shown::from(&key))
}

/// Make a key
///
/// Its secret is in this answer and nowhere else; only a hash of it is kept.
#[utoipa::path(post, operation_id = "create_api_key", path = "/api_keys", tag = "administration", request_body = NewApiKey,
    responses((status = CREATED, body = CreatedApiKey, headers(("ld-key" = u64, description = "The id of the key.")))))]
pub async fn create(
    State(api): State<Api>,
    who: Administrator,
    Asked { body, claim }: Asked<NewApiKey>,
) -> Result<Response, Problem> {
    let now = api.now();
    let id = api.store.id(now);
    let secret = Secret::draw(&format!("{PREFIX}{id}_")).map_err(Problem::internal)?;
    let maker = &who.caller.key;
    let tenant = body.tenant_id.map_or(maker.tenant_id, |id| id.0);
    let mut key = checked(body, now)?;
    (key.id, key.tenant_id, key.hash, key.author_id) = (id, tenant, secret.hash(), Some(maker.id));
    exist(&api, &key).await?;

    let mut change = api.store.change().await?;
    keys::insert(&mut change, &key).await?;
    let shown = Shown::from(&key);
    let detail = json!({ "name": shown.name, "permissions": shown.permissions,
                         "administrator": shown.administrator, "expires_at": shown.expires_at });
    audit::record(&mut change, who.caller.did("api_key.create", tenant, ("ApiKey", id), detail), now).await?;
    let kept = CreatedApiKey { shown: shown.clone(), key: None };
    let created = CreatedApiKey { shown, key: Some(secret.expose().to_owned()) };
    let reply = Reply::json(StatusCode::CREATED, &created)?.created("ld-key", id).kept(&kept)?;
    claim.commit(change, reply).await
}

/// What the body asks for, if all of it is right; ids and hash are still to be filled in.
fn checked(body: NewApiKey, now: i64) -> Result<ApiKey, Problem> {
    let mut issues = Issues::default();
    issues.name("name", &body.name);
    let mut permissions = BTreeSet::new();
    for (at, text) in body.permissions.iter().enumerate() {
        match text.parse::<Permission>() {
            Ok(permission) => drop(permissions.insert(permission)),
            Err(reason) => issues.add(format!("permissions[{at}]"), "invalid_value", reason),
        }
    }
    let mut allow_list = Vec::new();
    for (at, text) in body.allow_list.iter().enumerate() {
        match text.parse::<Network>() {
            Ok(network) => allow_list.push(network),
            Err(error) => issues.add(format!("allow_list[{at}]"), "invalid_value", error.to_string()),
        }
    }
    let deployments = body.deployments.map(|ids| ids.iter().map(|id| id.0).collect::<Vec<u64>>());
    for (path, length) in
        [("allow_list", allow_list.len()), ("deployments", deployments.as_ref().map_or(0, Vec::len))]
    {
        if length > LIST_LIMIT {
            issues.add(path, "too_long", format!("expected at most {LIST_LIMIT}"));
        }
    }
    match (body.administrator, permissions.is_empty(), deployments.is_some()) {
        (false, true, _) => issues.add("permissions", "empty", "expected at least one permission"),
        (true, false, _) => issues.add("permissions", "invalid_value", "an administrator has all of them"),
        (true, _, true) => issues.add("deployments", "invalid_value", "an administrator has all of them"),
        _ => {}
    }
    if body.expires_at.0 <= now {
        issues.add("expires_at", "out_of_range", "expected a time to come");
    } else if body.expires_at.0 > now + LIFE_LIMIT_MS {
        issues.add("expires_at", "out_of_range", "expected at most 365 days from now");
    }
    issues.finish()?;
    Ok(ApiKey {
        id: 0,
        tenant_id: 0,
        name: body.name,
        hash: String::new(),
        administrator: body.administrator,
        permissions,
        allow_list,
        deployments,
        author_id: None,
        created_at: now,
        expires_at: body.expires_at.0,
    })
}

/// Whether the deployments a key is limited to are there, in its tenant.
async fn exist(api: &Api, key: &ApiKey) -> Result<(), Problem> {
    let mut issues = Issues::default();
    let scope = Scope { tenant_id: Some(key.tenant_id), limited_by: None };
    for (at, id) in key.deployments.iter().flatten().enumerate() {
        if deployments::get(&api.store, scope, *id).await?.is_none() {
            let reason = "there is no such deployment in the tenant of the key";
            issues.add(format!("deployments[{at}]"), "deployment_not_found", reason);
        }
    }
    issues.finish()
}

/// Remove a key
///
/// It is void from now on.
#[utoipa::path(delete, operation_id = "remove_api_key", path = "/api_keys/{api_key_id}", tag = "administration",
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, description = "`api_key_not_found`"),
        (status = CONFLICT, description = "`last_administrator`: nobody could make keys any more."),
    ))]
pub async fn remove(State(api): State<Api>, who: Administrator, place: Place) -> Result<Response, Problem> {
    let id = place.id("api_key_id")?;
    let missing = || Problem::not_found("api_key_not_found", "there is no such key");
    let key = keys::by_id(&api.store, id).await?.ok_or_else(missing)?;
    let now = api.now();
    let mut change = api.store.change().await?;
    // Two who remove each other's key at the same moment would leave none.
    if !change.lock("administrators").await? {
        return Err(Problem::unavailable("another key is being removed"));
    }
    if !keys::delete(&mut change, id).await? {
        return Err(missing());
    }
    if keys::administrators(&mut change, now).await? == 0 {
        let reason = "this is the last administrator's key; make another one first";
        return Err(Problem::conflict("last_administrator", reason));
    }
    let entry = who.caller.did("api_key.remove", key.tenant_id, ("ApiKey", id), json!({ "name": key.name }));
    audit::record(&mut change, entry, now).await?;
    change.commit().await?;
    Ok(StatusCode::NO_CONTENT.into_response())
}
