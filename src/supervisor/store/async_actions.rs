//! Async actions: operations that outlive their request, and every change of them as an event.
//!
//! A change takes the next version of its action, and with it the row: events of one action are numbered without a
//! gap and committed in order, whichever Supervisor wrote them.

use serde_json::{Value, json};
use sqlx::any::AnyRow;
use warden_protocol::Code;

use super::activities::State;
use super::deployments::Scope;
use super::pagination::paged;
use super::row::{self, Columns, key};
use super::{Change, Notice, Page, Paged, Result, Store};

/// Events of one action after which progress is no longer kept; starts and ends always are.
const PROGRESS_LIMIT: u64 = 10_000;
/// Events read at once.
const EVENTS_AT_ONCE: i64 = 256;

#[derive(Debug, Clone, PartialEq)]
pub struct AsyncAction {
    pub id: u64,
    pub tenant_id: u64,
    pub deployment_id: u64,
    pub author_id: u64,
    pub author: String,
    pub resource_type: String,
    pub resource_id: u64,
    pub action: String,
    pub started_via: String,
    pub started_at: i64,
    pub metadata: Value,
    /// Activities it has, has ended, and has completed.
    pub total: u64,
    pub ended: u64,
    pub completed: u64,
    pub version: u64,
    pub cancel_requested_at: Option<i64>,
    pub finished: Option<Finish>,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Finish {
    pub at: i64,
    pub success: bool,
    pub message: String,
    pub result: Value,
}

/// One change of an async action.
#[derive(Debug, Clone, PartialEq)]
pub struct Event {
    /// From 1, without gaps.
    pub version: u64,
    pub at: i64,
    /// `started`, `progress`, `node`, `cancelling`, `finished`
    pub kind: String,
    pub data: Value,
}

/// An activity of it that ended.
#[derive(Debug, Clone, Copy)]
pub(super) struct Ended {
    pub node: u64,
    pub activity: u64,
    pub state: State,
    pub code: Option<Code>,
}

/// An activity of it that goes on.
pub(super) struct Progress {
    pub node: u64,
    pub activity: u64,
    pub step: String,
}

/// Which actions; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub deployment_id: Option<u64>,
    pub action: Option<String>,
    pub resource_type: Option<String>,
    pub running: Option<bool>,
}

pub async fn insert(change: &mut Change, mut action: AsyncAction, now: i64) -> Result<AsyncAction> {
    action.version = 1;
    sqlx::query(
        "INSERT INTO async_actions (id, tenant_id, deployment_id, author_id, author, resource_type, \
         resource_id, action, started_via, started_at, metadata, total, ended, completed, version) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, 0, 0, 1)",
    )
    .bind(key(action.id))
    .bind(key(action.tenant_id))
    .bind(key(action.deployment_id))
    .bind(key(action.author_id))
    .bind(action.author.as_str())
    .bind(action.resource_type.as_str())
    .bind(key(action.resource_id))
    .bind(action.action.as_str())
    .bind(action.started_via.as_str())
    .bind(action.started_at)
    .bind(row::json(&action.metadata)?)
    .bind(key(action.total))
    .execute(change.connection())
    .await?;
    let data = json!({ "action": action.action, "metadata": action.metadata, "nodes": action.total });
    event(change, action.id, 1, "started", &data, now).await?;
    Ok(action)
}

pub async fn get(store: &Store, scope: Scope, id: u64) -> Result<Option<AsyncAction>> {
    let row = sqlx::query(
        "SELECT * FROM async_actions WHERE id = $1 AND (tenant_id = $2 OR $2 = 0) AND ($3 = 0 OR \
         deployment_id IN (SELECT deployment_id FROM api_key_deployments WHERE api_key_id = $3))",
    )
    .bind(key(id))
    .bind(scope.tenant())
    .bind(scope.limit())
    .fetch_optional(store.readers())
    .await?;
    row.as_ref().map(read).transpose()
}

/// The action as the change sees it.
pub(super) async fn within(change: &mut Change, id: u64) -> Result<AsyncAction> {
    let row = sqlx::query("SELECT * FROM async_actions WHERE id = $1")
        .bind(key(id))
        .fetch_one(change.connection())
        .await?;
    read(&row)
}

pub async fn list(store: &Store, scope: Scope, filter: &Filter, page: Page) -> Result<Paged<AsyncAction>> {
    const COUNT: &str = "SELECT COUNT(*) FROM async_actions WHERE (tenant_id = $1 OR $1 = 0) AND ($2 = 0 OR \
        deployment_id IN (SELECT deployment_id FROM api_key_deployments WHERE api_key_id = $2)) \
        AND ($3 = 0 OR deployment_id = $3) AND ($4 = '' OR action = $4) AND ($5 = '' OR resource_type = $5) \
        AND ($6 = 0 OR ($6 = 1 AND finished_at IS NULL) OR ($6 = 2 AND finished_at IS NOT NULL))";
    const LIST: &str = "SELECT * FROM async_actions WHERE (tenant_id = $1 OR $1 = 0) AND ($2 = 0 OR \
        deployment_id IN (SELECT deployment_id FROM api_key_deployments WHERE api_key_id = $2)) \
        AND ($3 = 0 OR deployment_id = $3) AND ($4 = '' OR action = $4) AND ($5 = '' OR resource_type = $5) \
        AND ($6 = 0 OR ($6 = 1 AND finished_at IS NULL) OR ($6 = 2 AND finished_at IS NOT NULL)) \
        ORDER BY id DESC LIMIT $7 OFFSET $8";
    let running: i64 = match filter.running {
        None => 0,
        Some(true) => 1,
        Some(false) => 2,
    };
    let bound = |sql: &'static str| {
        sqlx::query(sql)
            .bind(scope.tenant())
            .bind(scope.limit())
            .bind(key(filter.deployment_id.unwrap_or(0)))
            .bind(filter.action.clone().unwrap_or_default())
            .bind(filter.resource_type.clone().unwrap_or_default())
            .bind(running)
    };
    let list = bound(LIST).bind(page.limit()).bind(page.offset());
    paged(&mut *store.readers().acquire().await?, bound(COUNT), list, read).await
}

/// Events after a version, oldest first: at most 256.
pub async fn events_after(store: &Store, action: u64, version: u64) -> Result<Vec<Event>> {
    let rows = sqlx::query(
        "SELECT version, at, kind, data FROM async_action_events WHERE async_action_id = $1 \
         AND version > $2 ORDER BY version LIMIT $3",
    )
    .bind(key(action))
    .bind(key(version))
    .bind(EVENTS_AT_ONCE)
    .fetch_all(store.readers())
    .await?;
    let read = |row: &AnyRow| {
        Ok(Event {
            version: row.id("version")?,
            at: row.number("at")?,
            kind: row.text("kind")?,
            data: row.json("data")?,
        })
    };
    rows.iter().map(read).collect()
}

pub(super) async fn progressed(change: &mut Change, action: u64, progress: Progress, now: i64) -> Result<()> {
    let row = sqlx::query(
        "UPDATE async_actions SET version = version + 1 WHERE id = $1 AND version < $2 RETURNING version",
    )
    .bind(key(action))
    .bind(key(PROGRESS_LIMIT))
    .fetch_optional(change.connection())
    .await?;
    let Some(row) = row else { return Ok(()) };
    let Progress { node, activity, step } = progress;
    let data = json!({ "node_id": node, "activity_id": activity, "step": step });
    event(change, action, row.id("version")?, "progress", &data, now).await
}

pub(super) async fn cancelling(change: &mut Change, action: u64, now: i64) -> Result<()> {
    let row = sqlx::query(
        "UPDATE async_actions SET version = version + 1, cancel_requested_at = $2 \
         WHERE id = $1 AND cancel_requested_at IS NULL RETURNING version",
    )
    .bind(key(action))
    .bind(now)
    .fetch_optional(change.connection())
    .await?;
    let Some(row) = row else { return Ok(()) };
    event(change, action, row.id("version")?, "cancelling", &json!({}), now).await
}

/// Counts activities that ended, and finishes the action with the last of them.
pub(super) async fn ended(change: &mut Change, action: u64, ended: &[Ended], now: i64) -> Result<()> {
    let completed = ended.iter().filter(|ended| ended.state == State::Completed).count();
    let row = sqlx::query(
        "UPDATE async_actions SET ended = ended + $2, completed = completed + $3, version = version + $2 \
         WHERE id = $1 RETURNING *",
    )
    .bind(key(action))
    .bind(key(ended.len() as u64))
    .bind(key(completed as u64))
    .fetch_one(change.connection())
    .await?;
    let after = read(&row)?;
    let before = after.version - ended.len() as u64;
    for (version, ended) in (before + 1..).zip(ended) {
        let mut data = json!({ "node_id": ended.node, "activity_id": ended.activity,
                               "status": ended.state.as_str() });
        if let Some(code) = ended.code {
            data["code"] = json!(code);
        }
        event(change, action, version, "node", &data, now).await?;
    }
    if after.ended == after.total { finish(change, &after, now).await } else { Ok(()) }
}

async fn finish(change: &mut Change, action: &AsyncAction, now: i64) -> Result<()> {
    let rows =
        sqlx::query("SELECT id, node_id, state FROM activities WHERE async_action_id = $1 ORDER BY node_id")
            .bind(key(action.id))
            .fetch_all(change.connection())
            .await?;
    let mut nodes = Vec::with_capacity(rows.len());
    for row in &rows {
        nodes.push(json!({ "node_id": row.id("node_id")?, "status": row.text("state")?,
                           "activity_id": row.id("id")? }));
    }
    let success = action.completed == action.total;
    let message = message(action);
    let result = json!({ "nodes": nodes });
    sqlx::query(
        "UPDATE async_actions SET version = version + 1, finished_at = $2, finished_success = $3, \
         finished_message = $4, finished_result = $5 WHERE id = $1",
    )
    .bind(key(action.id))
    .bind(now)
    .bind(i64::from(success))
    .bind(message.as_str())
    .bind(row::json(&result)?)
    .execute(change.connection())
    .await?;
    let data = json!({ "finished_success": success, "finished_message": message, "finished_result": result });
    event(change, action.id, action.version + 1, "finished", &data, now).await
}

/// `Restarted iggy on 3 of 3 nodes`
fn message(action: &AsyncAction) -> String {
    let nodes = if action.total == 1 { "node" } else { "nodes" };
    let (completed, total) = (action.completed, action.total);
    let done = match action.action.as_str() {
        "snapshot" => return format!("Took a snapshot of {completed} of {total} {nodes}"),
        "start" => "Started",
        "stop" => "Stopped",
        "restart" => "Restarted",
        other if other.starts_with("reconfigure") => "Reconfigured",
        _ => "Done:",
    };
    let runtime = action.metadata["runtime"].as_str().unwrap_or_default();
    format!("{done} {runtime} on {completed} of {total} {nodes}")
}

async fn event(
    change: &mut Change,
    action: u64,
    version: u64,
    kind: &str,
    data: &Value,
    now: i64,
) -> Result<()> {
    sqlx::query(
        "INSERT INTO async_action_events (async_action_id, version, at, kind, data) \
         VALUES ($1, $2, $3, $4, $5)",
    )
    .bind(key(action))
    .bind(key(version))
    .bind(now)
    .bind(kind)
    .bind(row::json(data)?)
    .execute(change.connection())
    .await?;
    change.notify(Notice::Changed(action));
    Ok(())
}

fn read(row: &AnyRow) -> Result<AsyncAction> {
    let finished = match row.maybe_number("finished_at")? {
        None => None,
        Some(at) => Some(Finish {
            at,
            success: row.yes("finished_success")?,
            message: row.text("finished_message")?,
            result: row.json("finished_result")?,
        }),
    };
    Ok(AsyncAction {
        id: row.id("id")?,
        tenant_id: row.id("tenant_id")?,
        deployment_id: row.id("deployment_id")?,
        author_id: row.id("author_id")?,
        author: row.text("author")?,
        resource_type: row.text("resource_type")?,
        resource_id: row.id("resource_id")?,
        action: row.text("action")?,
        started_via: row.text("started_via")?,
        started_at: row.number("started_at")?,
        metadata: row.json("metadata")?,
        total: row.id("total")?,
        ended: row.id("ended")?,
        completed: row.id("completed")?,
        version: row.id("version")?,
        cancel_requested_at: row.maybe_number("cancel_requested_at")?,
        finished,
    })
}
