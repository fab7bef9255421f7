//! Activities: one action on one runtime of one node, from asked to ended.

mod completion;
mod delivery;

pub use completion::{cancel, end_for_removed_node, finished, finished_all, overdue, reject_overdue};
pub use delivery::{accepted, accepted_all, delivered, delivered_all, progress, undelivered, unfinished};
use sqlx::AssertSqlSafe;
use sqlx::any::AnyRow;
use warden_protocol::{Reason, Request, Runtime, UnitChange, Work};

use super::async_actions::{self, AsyncAction};
use super::deployments::Deployment;
use super::pagination::paged;
use super::row::{Columns, json, key};
use super::{Change, Notice, Page, Paged, Result, Store, snapshots};

/// Rows of one statement: a fleet is written in a few, and none of them holds the others up.
const INSERTED_AT_ONCE: usize = 100;

#[derive(Debug, Clone, PartialEq)]
pub struct Activity {
    /// Also the id of the request on the wire.
    pub id: u64,
    pub tenant_id: u64,
    pub division_id: u64,
    pub environment_id: u64,
    pub deployment_id: u64,
    pub node_id: u64,
    pub async_action_id: u64,
    pub author_id: u64,
    pub author: String,
    pub work: Work,
    pub state: State,
    pub created_at: i64,
    pub deadline_at: i64,
    pub cancel_requested_at: Option<i64>,
    pub finished_at: Option<i64>,
    /// What the node says it does right now.
    pub step: Option<String>,
    pub reason: Option<Reason>,
    pub result: Option<UnitChange>,
}

/// How far an activity is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// In the store, and not yet sent.
    Queued,
    /// About to be sent, or sent: the node may know of it.
    Delivered,
    /// In the node's ledger.
    Accepted,
    Completed,
    Rejected,
}

impl State {
    pub fn as_str(self) -> &'static str {
        match self {
            State::Queued => "queued",
            State::Delivered => "delivered",
            State::Accepted => "accepted",
            State::Completed => "completed",
            State::Rejected => "rejected",
        }
    }
}

impl std::str::FromStr for State {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<State, String> {
        [State::Queued, State::Delivered, State::Accepted, State::Completed, State::Rejected]
            .into_iter()
            .find(|state| state.as_str() == text)
            .ok_or_else(|| format!("an activity in the state {text:?}"))
    }
}

impl Activity {
    /// Runtime and action as the API tells them; empty where the work is something else.
    pub fn on_and_what(&self) -> (String, String) {
        match &self.work {
            Work::Activity { runtime, action } => (runtime.to_string(), action.to_string()),
            Work::Snapshot { .. } => (String::new(), String::new()),
        }
    }

    /// What is sent to the node at `now`.
    pub fn request(&self, now: i64) -> Request {
        Request {
            request: self.id,
            work: self.work.clone(),
            author: self.author.clone(),
            deadline_ms: self.deadline_at.saturating_sub(now).max(0).cast_unsigned(),
        }
    }
}

/// What is asked of some nodes of a deployment.
#[derive(Debug, Clone)]
pub struct Order {
    pub deployment: Deployment,
    pub nodes: Vec<u64>,
    pub work: Work,
    pub author_id: u64,
    pub author: String,
    pub started_via: &'static str,
    pub deadline_at: i64,
}

/// Queues one activity a node, under one async action, and wakes whoever holds the connections of the nodes.
pub async fn start(change: &mut Change, order: &Order, now: i64) -> Result<(AsyncAction, Vec<Activity>)> {
    let deployment = &order.deployment;
    let (name, metadata) = match &order.work {
        Work::Activity { runtime, action } => (action.to_string(), serde_json::json!({ "runtime": runtime })),
        Work::Snapshot { redact_secrets, include_iggy, offer, choice } => (
            snapshots::ACTION.to_owned(),
            serde_json::json!({
                "redact_secrets": redact_secrets, "include_iggy": include_iggy, "offered": offer.is_some(),
                "only": choice.only, "since_seconds": choice.since_seconds, "anonymize": choice.anonymize,
            }),
        ),
    };
    let action = AsyncAction {
        id: change.id(now),
        tenant_id: deployment.tenant_id,
        deployment_id: deployment.id,
        author_id: order.author_id,
        author: order.author.clone(),
        resource_type: "Deployment".to_owned(),
        resource_id: deployment.id,
        action: name,
        started_via: order.started_via.to_owned(),
        started_at: now,
        metadata,
        total: order.nodes.len() as u64,
        ended: 0,
        completed: 0,
        version: 0,
        cancel_requested_at: None,
        finished: None,
    };
    let action = async_actions::insert(change, action, now).await?;
    let mut activities = Vec::with_capacity(order.nodes.len());
    for node in &order.nodes {
        let activity = Activity {
            id: change.id(now),
            tenant_id: deployment.tenant_id,
            division_id: deployment.division_id,
            environment_id: deployment.environment_id,
            deployment_id: deployment.id,
            node_id: *node,
            async_action_id: action.id,
            author_id: order.author_id,
            author: order.author.clone(),
            work: order.work.clone(),
            state: State::Queued,
            created_at: now,
            deadline_at: order.deadline_at,
            cancel_requested_at: None,
            finished_at: None,
            step: None,
            reason: None,
            result: None,
        };
        change.notify(Notice::Wake(*node));
        activities.push(activity);
    }
    for some in activities.chunks(INSERTED_AT_ONCE) {
        insert(change, some).await?;
    }
    Ok((action, activities))
}

/// Inserts activities of one order: they differ in id and node alone.
async fn insert(change: &mut Change, activities: &[Activity]) -> Result<()> {
    let Some(first) = activities.first() else { return Ok(()) };
    let (runtime, action) = first.on_and_what();
    let work = match &first.work {
        Work::Activity { .. } => None,
        other => Some(json(other)?),
    };
    let own = |row: usize| {
        let (id, node) = (14 + 2 * row, 15 + 2 * row);
        format!("(${id}, $1, $2, $3, $4, ${node}, $5, $6, $7, $8, $9, $10, $11, $12, $13)")
    };
    let rows: Vec<String> = (0..activities.len()).map(own).collect();
    let text = format!(
        "INSERT INTO activities (id, tenant_id, division_id, environment_id, deployment_id, node_id, \
         async_action_id, author_id, author, runtime, action, state, created_at, deadline_at, work) VALUES {}",
        rows.join(", ")
    );
    // Made of numbered places alone.
    let mut query = sqlx::query(AssertSqlSafe(text))
        .bind(key(first.tenant_id))
        .bind(key(first.division_id))
        .bind(key(first.environment_id))
        .bind(key(first.deployment_id))
        .bind(key(first.async_action_id))
        .bind(key(first.author_id))
        .bind(first.author.as_str())
        .bind(runtime)
        .bind(action)
        .bind(first.state.as_str())
        .bind(first.created_at)
        .bind(first.deadline_at)
        .bind(work);
    for activity in activities {
        query = query.bind(key(activity.id)).bind(key(activity.node_id));
    }
    // A text for each number of rows would crowd out the other statements.
    query.persistent(activities.len() == 1).execute(change.connection()).await.map(|_| ())
}

pub async fn get(store: &Store, deployment: u64, activity: u64) -> Result<Option<Activity>> {
    let row = sqlx::query("SELECT * FROM activities WHERE id = $1 AND deployment_id = $2 AND work IS NULL")
        .bind(key(activity))
        .bind(key(deployment))
        .fetch_optional(store.readers())
        .await?;
    row.as_ref().map(read).transpose()
}

/// Which activities; what is absent does not narrow.
#[derive(Debug, Clone, Default)]
pub struct Filter {
    pub node_id: Option<u64>,
    pub runtime: Option<Runtime>,
    pub status: Option<Status>,
}

/// How far an activity is, as the API tells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Processing,
    Completed,
    Rejected,
}

pub async fn list(store: &Store, deployment: u64, filter: &Filter, page: Page) -> Result<Paged<Activity>> {
    const COUNT: &str = "SELECT COUNT(*) FROM activities WHERE deployment_id = $1 AND work IS NULL \
        AND ($2 = 0 OR node_id = $2) AND ($3 = '' OR runtime = $3) AND ($4 = '' OR state = $4 \
        OR ($4 = 'processing' AND finished_at IS NULL))";
    const LIST: &str = "SELECT * FROM activities WHERE deployment_id = $1 AND work IS NULL \
        AND ($2 = 0 OR node_id = $2) AND ($3 = '' OR runtime = $3) AND ($4 = '' OR state = $4 \
        OR ($4 = 'processing' AND finished_at IS NULL)) ORDER BY id DESC LIMIT $5 OFFSET $6";
    let node = key(filter.node_id.unwrap_or(0));
    let runtime = filter.runtime.as_ref().map(ToString::to_string).unwrap_or_default();
    let status = match filter.status {
        None => "",
        Some(Status::Processing) => "processing",
        Some(Status::Completed) => State::Completed.as_str(),
        Some(Status::Rejected) => State::Rejected.as_str(),
    };
    let count = sqlx::query(COUNT).bind(key(deployment)).bind(node).bind(runtime.clone()).bind(status);
    let list = sqlx::query(LIST)
        .bind(key(deployment))
        .bind(node)
        .bind(runtime)
        .bind(status)
        .bind(page.limit())
        .bind(page.offset());
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}

/// How many have not ended.
pub async fn count_open(store: &Store) -> Result<u64> {
    let row = sqlx::query("SELECT COUNT(*) AS open FROM activities WHERE finished_at IS NULL")
        .fetch_one(store.readers())
        .await?;
    row.id("open")
}

/// Forgets actions that ended before `before`, with their activities and events.
pub async fn forget(change: &mut Change, before: i64, limit: i64) -> Result<u64> {
    let done = sqlx::query(
        "DELETE FROM async_actions WHERE id IN \
         (SELECT id FROM async_actions WHERE finished_at < $1 ORDER BY id LIMIT $2)",
    )
    .bind(before)
    .bind(limit)
    .execute(change.connection())
    .await?;
    Ok(done.rows_affected())
}

fn read(row: &AnyRow) -> Result<Activity> {
    Ok(Activity {
        id: row.id("id")?,
        tenant_id: row.id("tenant_id")?,
        division_id: row.id("division_id")?,
        environment_id: row.id("environment_id")?,
        deployment_id: row.id("deployment_id")?,
        node_id: row.id("node_id")?,
        async_action_id: row.id("async_action_id")?,
        author_id: row.id("author_id")?,
        author: row.text("author")?,
        work: match row.maybe_json("work")? {
            Some(work) => work,
            None => Work::Activity { runtime: row.parsed("runtime")?, action: row.parsed("action")? },
        },
        state: row.parsed("state")?,
        created_at: row.number("created_at")?,
        deadline_at: row.number("deadline_at")?,
        cancel_requested_at: row.maybe_number("cancel_requested_at")?,
        finished_at: row.maybe_number("finished_at")?,
        step: row.maybe_text("step")?,
        reason: row.maybe_json("reason")?,
        result: row.maybe_json("result")?,
    })
}
