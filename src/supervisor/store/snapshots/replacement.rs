//! The place in a full plan that a run takes from an older one, once an archive of it is stored: what never arrives
//! pushes nothing out.

use serde_json::json;
use sqlx::any::AnyRow;

use super::{Change, Columns, Plan, Replaceable, Result, key, limits, read, retention, runs};
use crate::store::audit::{self, Actor, Entry};

/// Returns how many runs a plan keeps: the last place is for what somebody asks for.
pub(super) fn kept(plan: Plan, automatic: bool) -> u64 {
    let (kept, _) = limits(plan);
    if automatic { kept.saturating_sub(1) } else { kept }
}

/// Removes the oldest run, one for one, where the plan is full now and was full when the run of `row`, which has just
/// been stored, began.
pub(super) async fn make_room(change: &mut Change, row: &AnyRow, now: i64) -> Result<()> {
    let Some(replaces) = row.maybe_text("replaces")? else { return Ok(()) };
    let replaceable = replaces.parse::<Replaceable>().map_err(|error| sqlx::Error::Decode(error.into()))?;
    let snapshot = read(row)?;
    let automatic = snapshot.cause.is_some();
    let deployment =
        sqlx::query("SELECT plan FROM deployments WHERE id = $1").bind(key(snapshot.deployment_id));
    let plan = deployment.fetch_one(change.connection()).await?.parsed("plan")?;
    // The other nodes of the run find the place made.
    sqlx::query("UPDATE snapshots SET replaces = NULL WHERE run_id = $1")
        .bind(key(snapshot.run_id))
        .execute(change.connection())
        .await?;
    if runs(change, snapshot.deployment_id).await? <= kept(plan, automatic) {
        return Ok(());
    }
    let but = Some(snapshot.run_id);
    let Some(oldest) = retention::oldest(change, snapshot.deployment_id, replaceable, but).await? else {
        return Ok(());
    };
    retention::remove(change, snapshot.deployment_id, oldest, now).await?;
    let entry = Entry {
        tenant_id: snapshot.tenant_id,
        actor: author(change, snapshot.run_id, automatic).await?,
        address: None,
        request: None,
        action: "snapshot.remove".to_owned(),
        deployment_id: Some(snapshot.deployment_id),
        resource_type: "Snapshot".to_owned(),
        resource_id: Some(oldest),
        detail: json!({ "replaced_by": snapshot.run_id }),
    };
    audit::record(change, entry, now).await
}

/// Finds who began a run.
async fn author(change: &mut Change, run: u64, automatic: bool) -> Result<Actor> {
    let row = sqlx::query("SELECT author_id, author FROM async_actions WHERE id = $1")
        .bind(key(run))
        .fetch_one(change.connection())
        .await?;
    let (id, name) = (row.id("author_id")?, row.text("author")?);
    Ok(if automatic { Actor::Node { id, name } } else { Actor::ApiKey { id, name } })
}
