//! The administrator's key: made by the Supervisor or on its host, never over the network.

use std::collections::BTreeSet;

use serde_json::json;
use warden_platform::secret::Secret;

use super::store::audit::{self, Actor, Entry};
use super::store::keys::{self, ApiKey};
use super::store::{Change, Store};
use super::{FIRST_TENANT, http};

/// Makes a key that may do everything, in every tenant, for a year. Returns its id and what is to be shown once.
pub async fn make_key(change: &mut Change, now: i64) -> anyhow::Result<(u64, Secret)> {
    let id = change.id(now);
    let secret = Secret::draw(&format!("{}{id}_", http::KEY_PREFIX))?;
    let key = ApiKey {
        id,
        tenant_id: FIRST_TENANT,
        name: "administrator".to_owned(),
        hash: secret.hash(),
        administrator: true,
        permissions: BTreeSet::new(),
        allow_list: Vec::new(),
        deployments: None,
        author_id: None,
        created_at: now,
        expires_at: now + http::KEY_LIFE_LIMIT_MS,
    };
    keys::insert(change, &key).await?;
    let detail = json!({ "name": key.name, "administrator": true });
    audit::record(change, entry("api_key.create", &key, detail), now).await?;
    Ok((id, secret))
}

/// Makes a new administrator's key beside those there are.
pub async fn new_key(store: &Store, now: i64) -> anyhow::Result<(u64, Secret)> {
    let mut change = store.change().await?;
    let made = make_key(&mut change, now).await?;
    change.commit().await?;
    Ok(made)
}

/// Removes the administrators' keys that were made on this host, but for `keep`. Keys that somebody made over the API
/// stay. Returns those that were removed.
pub async fn retire_keys(store: &Store, keep: u64, now: i64) -> anyhow::Result<Vec<ApiKey>> {
    let mut change = store.change().await?;
    let mut retired = keys::made_on_the_host(&mut change).await?;
    retired.retain(|key| key.id != keep);
    for key in &retired {
        keys::delete(&mut change, key.id).await?;
        let detail = json!({ "name": key.name, "replaced_by": keep });
        audit::record(&mut change, entry("api_key.remove", key, detail), now).await?;
    }
    change.commit().await?;
    Ok(retired)
}

fn entry(action: &str, key: &ApiKey, detail: serde_json::Value) -> Entry {
    Entry {
        tenant_id: key.tenant_id,
        actor: Actor::Supervisor,
        address: None,
        request: None,
        action: action.to_owned(),
        deployment_id: None,
        resource_type: "ApiKey".to_owned(),
        resource_id: Some(key.id),
        detail,
    }
}
