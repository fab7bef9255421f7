//! The host the Supervisor runs on, as a node of its own: nobody carries a token to it.

use anyhow::{Context, bail};
use serde_json::json;
use warden_platform::secret::Secret;

use super::store::audit::{self, Actor, Entry};
use super::store::deployments::{self, Deployment, Plan, Scope};
use super::store::enrolments::{self, Enrolment};
use super::store::nodes::{self, Node};
use super::store::{Page, Store};
use super::{FIRST_DIVISION, FIRST_ENVIRONMENT, FIRST_TENANT, Supervisor};

/// The deployment that is made when there is none and nobody named one.
const FIRST_DEPLOYMENT: &str = "local";
/// The token is used in the next moment.
const TOKEN_LIFE_MS: i64 = 60_000;
/// The author of what the Supervisor does by itself.
const NOBODY: u64 = 0;

/// A token for one host, and where it leads.
pub struct Invitation {
    pub deployment: Deployment,
    pub token: Secret,
}

impl Supervisor {
    /// Which node this credential is of, by its SHA-256 in hexadecimal.
    pub async fn node_of(&self, credential_hash: &str) -> anyhow::Result<Option<Node>> {
        Ok(nodes::by_credential_hash(&self.store, credential_hash).await?)
    }

    /// Whether this deployment has this name.
    pub async fn is_called(&self, deployment: u64, name: &str) -> anyhow::Result<bool> {
        let known = deployments::get(&self.store, Scope::ALL, deployment).await?;
        Ok(known.is_some_and(|known| known.name == name))
    }

    /// A token for this host into the deployment of this name, which is made if it is not there. Without a name: into
    /// the only one there is, or a new one called `local`.
    ///
    /// # Errors
    /// There are several deployments, and none was named.
    pub async fn invite(&self, deployment: Option<&str>, now: i64) -> anyhow::Result<Invitation> {
        let deployment = match named(&self.store, deployment).await? {
            Ok(known) => known,
            Err(name) => made(&self.store, name, now).await?,
        };
        let token = Secret::draw(enrolments::TOKEN_PREFIX)?;
        let enrolment = Enrolment {
            id: self.store.id(now),
            deployment_id: deployment.id,
            token_hash: token.hash(),
            name: None,
            author_id: NOBODY,
            created_at: now,
            expires_at: now + TOKEN_LIFE_MS,
            uses: 1,
        };
        let mut change = self.store.change().await?;
        enrolments::insert(&mut change, &enrolment).await?;
        let entry =
            entry("enrolment.create", &deployment, ("Enrolment", enrolment.id), json!({ "name": null }));
        audit::record(&mut change, entry, now).await?;
        change.commit().await?;
        Ok(Invitation { deployment, token })
    }
}

/// The deployment that is meant, or the name of the one to make.
async fn named(store: &Store, name: Option<&str>) -> anyhow::Result<Result<Deployment, String>> {
    let Some(name) = name else {
        let mut some = deployments::list(store, Scope::ALL, Page { page: 1, results: 1 }).await?;
        return match (some.total, some.items.pop()) {
            (1, Some(only)) => Ok(Ok(only)),
            (0, _) => Ok(Err(FIRST_DEPLOYMENT.to_owned())),
            (total, _) => {
                bail!("there are {total} deployments: say with --deployment which this host is part of")
            }
        };
    };
    let known = deployments::by_name(store, FIRST_TENANT, FIRST_ENVIRONMENT, name).await?;
    Ok(known.ok_or_else(|| name.to_owned()))
}

async fn made(store: &Store, name: String, now: i64) -> anyhow::Result<Deployment> {
    let deployment = Deployment {
        id: store.id(now),
        tenant_id: FIRST_TENANT,
        division_id: FIRST_DIVISION,
        environment_id: FIRST_ENVIRONMENT,
        name,
        plan: Plan::Basic,
        created_at: now,
    };
    let mut change = store.change().await?;
    if !deployments::insert(&mut change, &deployment).await? {
        // Another Supervisor of this store was faster.
        drop(change);
        let known = deployments::by_name(store, FIRST_TENANT, FIRST_ENVIRONMENT, &deployment.name).await?;
        return known.context("the deployment is gone again");
    }
    let detail = json!({ "name": deployment.name, "plan": deployment.plan.as_str() });
    let resource = ("Deployment", deployment.id);
    audit::record(&mut change, entry("deployment.create", &deployment, resource, detail), now).await?;
    change.commit().await?;
    Ok(deployment)
}

fn entry(action: &str, deployment: &Deployment, (kind, id): (&str, u64), detail: serde_json::Value) -> Entry {
    Entry {
        tenant_id: deployment.tenant_id,
        actor: Actor::Supervisor,
        address: None,
        request: None,
        action: action.to_owned(),
        deployment_id: Some(deployment.id),
        resource_type: kind.to_owned(),
        resource_id: Some(id),
        detail,
    }
}
