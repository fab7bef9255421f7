//! Snapshots: a row a node, a run over all nodes of a deployment.
//!
//! The run is an async action, each row an activity of the same id, which carries it to its node and ends it. What is
//! here beside that is the archive: announced, under way, stored, removed.

mod archive;
mod offer;
mod replacement;
mod retention;

pub use archive::{Uploading, announce, awaits, lacks_archive, progress, stored, uploading};
pub use offer::{Cause, offered_since, status_of_offer};
pub use retention::{Removal, Replaceable, expire, forget, is_known, remove, remove_all, removed, to_remove};
use sqlx::any::AnyRow;
use warden_protocol::{Outcome, Reason, SnapshotProgress, UnitChange};

use super::activities::{self, Order};
use super::async_actions::AsyncAction;
use super::deployments::Plan;
use super::pagination::paged;
use super::row::{self, Columns, json, key};
use super::{Change, Page, Paged, Result, Store};

/// The action of a run, as async actions name it.
pub const ACTION: &str = "snapshot";

const DAY_MS: i64 = 86_400_000;
/// Lines of a node's log that are kept, and characters of each: an agent sends fewer.
const LOG_LINES: usize = 40;
const LOG_LINE: usize = 1_000;

#[derive(Debug, Clone, PartialEq)]
pub struct Snapshot {
    /// Also the id of the activity, and of the request on the wire.
    pub id: u64,
    /// The async action it is part of.
    pub run_id: u64,
    pub tenant_id: u64,
    pub division_id: u64,
    pub environment_id: u64,
    pub deployment_id: u64,
    /// As it was called when the snapshot was taken.
    pub deployment_name: String,
    pub node_id: u64,
    /// The same for all nodes of a run: `snapshot-20260601-103000`.
    pub name: String,
    pub status: Status,
    pub created_at: i64,
    pub completed_at: Option<i64>,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// What its agent logged last, oldest first, when it failed.
    pub log: Vec<String>,
    /// The worst finding.
    pub verdict: Option<String>,
    pub size: Option<u64>,
    pub sha256: Option<String>,
    /// How far it is; only while it is processing.
    pub progress: Option<SnapshotProgress>,
    /// Why the node took it by itself; absent when it was asked for.
    pub cause: Option<Cause>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Status {
    Processing,
    Completed,
    Failed,
}

/// Why no run was started.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refused {
    InProgress,
    /// As many runs as the plan keeps.
    LimitReached(u64),
    NoNodes,
}

/// How many runs a plan keeps, and how many days.
pub fn limits(plan: Plan) -> (u64, i64) {
    match plan {
        Plan::Basic => (3, 7),
        Plan::Pro => (5, 14),
        Plan::Enterprise => (20, 90),
    }
}

impl Status {
    pub fn as_str(self) -> &'static str {
        match self {
            Status::Processing => "processing",
            Status::Completed => "completed",
            Status::Failed => "failed",
        }
    }
}

impl std::str::FromStr for Status {
    type Err = String;

    fn from_str(text: &str) -> std::result::Result<Status, String> {
        [Status::Processing, Status::Completed, Status::Failed]
            .into_iter()
            .find(|status| status.as_str() == text)
            .ok_or_else(|| format!("a snapshot in the status {text:?}"))
    }
}

/// Starts a run: a row and an activity for each of the nodes, which must be those of the deployment. The change is
/// not to be committed when it is refused. `cause`: of the one snapshot that a node has offered. The last place of
/// the plan is for what somebody asks for. `replaceable`: which runs may give their place to this one where the plan is
/// full; the oldest of them does, once an archive of this one is stored.
pub async fn start(
    change: &mut Change,
    order: Order,
    cause: Option<Cause>,
    replaceable: Option<Replaceable>,
    now: i64,
) -> Result<std::result::Result<(AsyncAction, Vec<Snapshot>), Refused>> {
    if order.nodes.is_empty() {
        return Ok(Err(Refused::NoNodes));
    }
    let deployment = order.deployment.clone();
    if in_progress(change, deployment.id).await? {
        return Ok(Err(Refused::InProgress));
    }
    let kept = replacement::kept(deployment.plan, cause.is_some());
    let full = runs(change, deployment.id).await? >= kept;
    let replaces = replaceable.filter(|_| full);
    let oldest = match replaces {
        Some(replaceable) => retention::oldest(change, deployment.id, replaceable, None).await?,
        None => None,
    };
    if full && oldest.is_none() {
        return Ok(Err(Refused::LimitReached(kept)));
    }
    let (action, activities) = match activities::start(change, &order, now).await {
        // Another Supervisor was quicker: the index over running snapshots says so.
        Err(sqlx::Error::Database(error)) if error.is_unique_violation() => {
            return Ok(Err(Refused::InProgress));
        }
        started => started?,
    };
    let name = name(now);
    let mut snapshots = Vec::with_capacity(activities.len());
    for activity in activities {
        let snapshot = Snapshot {
            id: activity.id,
            run_id: action.id,
            tenant_id: deployment.tenant_id,
            division_id: deployment.division_id,
            environment_id: deployment.environment_id,
            deployment_id: deployment.id,
            deployment_name: deployment.name.clone(),
            node_id: activity.node_id,
            name: name.clone(),
            status: Status::Processing,
            created_at: now,
            completed_at: None,
            reason: None,
            log: Vec::new(),
            verdict: None,
            size: None,
            sha256: None,
            progress: None,
            cause: cause.clone(),
        };
        insert(change, &snapshot, replaces).await?;
        snapshots.push(snapshot);
    }
    Ok(Ok((action, snapshots)))
}

/// The snapshot of that id; of the id of a run over one node, the one it has.
pub async fn get(store: &Store, deployment: u64, snapshot: u64) -> Result<Option<Snapshot>> {
    let rows = sqlx::query(
        "SELECT * FROM snapshots WHERE (id = $1 OR run_id = $1) AND deployment_id = $2 \
         AND removed_at IS NULL LIMIT 2",
    )
    .bind(key(snapshot))
    .bind(key(deployment))
    .fetch_all(store.readers())
    .await?;
    match rows.as_slice() {
        [only] => read(only).map(Some),
        _ => Ok(None),
    }
}

/// Of one run, or of all.
pub async fn list(store: &Store, deployment: u64, run: Option<u64>, page: Page) -> Result<Paged<Snapshot>> {
    let run = key(run.unwrap_or(0));
    let count = sqlx::query(
        "SELECT COUNT(*) FROM snapshots WHERE deployment_id = $1 AND removed_at IS NULL \
         AND ($2 = 0 OR run_id = $2)",
    )
    .bind(key(deployment))
    .bind(run);
    let list = sqlx::query(
        "SELECT * FROM snapshots WHERE deployment_id = $1 AND removed_at IS NULL \
         AND ($2 = 0 OR run_id = $2) ORDER BY id DESC LIMIT $3 OFFSET $4",
    )
    .bind(key(deployment))
    .bind(run)
    .bind(page.limit())
    .bind(page.offset());
    paged(&mut *store.readers().acquire().await?, count, list, read).await
}

/// Ends the snapshot of an activity that ended, if it is one.
pub(super) async fn ended(change: &mut Change, activity: u64, outcome: &Outcome, now: i64) -> Result<()> {
    let (status, reason, log) = match outcome {
        Outcome::Completed { .. } => (Status::Completed, None, None),
        Outcome::Rejected { reason, result } => {
            (Status::Failed, Some(json(reason)?), result.as_ref().and_then(log_in))
        }
    };
    let row = sqlx::query(
        "UPDATE snapshots SET status = $2, completed_at = $3, reason = $4, log = $5, progress = NULL \
         WHERE id = $1 AND status = 'processing' RETURNING *",
    )
    .bind(key(activity))
    .bind(status.as_str())
    .bind(now)
    .bind(reason)
    .bind(log.as_ref().map(json).transpose()?)
    .fetch_optional(change.connection())
    .await?;
    match row {
        Some(row) if status == Status::Completed => replacement::make_room(change, &row, now).await,
        _ => Ok(()),
    }
}

/// What the node tells of a snapshot, if it is one, that had failed before by its deadline.
pub(super) async fn learn_late(change: &mut Change, activity: u64, result: &UnitChange) -> Result<()> {
    let Some(log) = log_in(result) else { return Ok(()) };
    sqlx::query("UPDATE snapshots SET log = $2 WHERE id = $1 AND status = 'failed' AND log IS NULL")
        .bind(key(activity))
        .bind(json(&log)?)
        .execute(change.connection())
        .await
        .map(|_| ())
}

fn log_in(result: &UnitChange) -> Option<Vec<String>> {
    let lines = result.journal.iter().take(LOG_LINES);
    let log: Vec<String> = lines.map(|line| row::plain(line, LOG_LINE)).collect();
    Some(log).filter(|log| !log.is_empty())
}

async fn in_progress(change: &mut Change, deployment: u64) -> Result<bool> {
    let row = sqlx::query(
        "SELECT id FROM async_actions WHERE deployment_id = $1 AND action = 'snapshot' \
         AND finished_at IS NULL LIMIT 1",
    )
    .bind(key(deployment))
    .fetch_optional(change.connection())
    .await?;
    Ok(row.is_some())
}

/// Runs that count: those with an archive, or still without an end. What failed on every node takes no place.
async fn runs(change: &mut Change, deployment: u64) -> Result<u64> {
    let row = sqlx::query(
        "SELECT COUNT(DISTINCT run_id) AS runs FROM snapshots WHERE deployment_id = $1 \
         AND removed_at IS NULL AND status <> 'failed'",
    )
    .bind(key(deployment))
    .fetch_one(change.connection())
    .await?;
    row.id("runs")
}

async fn insert(change: &mut Change, snapshot: &Snapshot, replaces: Option<Replaceable>) -> Result<()> {
    sqlx::query(
        "INSERT INTO snapshots (id, run_id, tenant_id, division_id, environment_id, deployment_id, \
         deployment_name, node_id, name, status, created_at, offer, cause, replaces) \
         VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14)",
    )
    .bind(key(snapshot.id))
    .bind(key(snapshot.run_id))
    .bind(key(snapshot.tenant_id))
    .bind(key(snapshot.division_id))
    .bind(key(snapshot.environment_id))
    .bind(key(snapshot.deployment_id))
    .bind(snapshot.deployment_name.as_str())
    .bind(key(snapshot.node_id))
    .bind(snapshot.name.as_str())
    .bind(snapshot.status.as_str())
    .bind(snapshot.created_at)
    .bind(snapshot.cause.as_ref().map(|cause| key(cause.offer)))
    .bind(snapshot.cause.as_ref().map(json).transpose()?)
    .bind(replaces.map(Replaceable::as_str))
    .execute(change.connection())
    .await
    .map(|_| ())
}

fn name(now: i64) -> String {
    let at = jiff::Timestamp::from_millisecond(now).unwrap_or_default();
    at.strftime("snapshot-%Y%m%d-%H%M%S").to_string()
}

fn read(row: &AnyRow) -> Result<Snapshot> {
    Ok(Snapshot {
        id: row.id("id")?,
        run_id: row.id("run_id")?,
        tenant_id: row.id("tenant_id")?,
        division_id: row.id("division_id")?,
        environment_id: row.id("environment_id")?,
        deployment_id: row.id("deployment_id")?,
        deployment_name: row.text("deployment_name")?,
        node_id: row.id("node_id")?,
        name: row.text("name")?,
        status: row.parsed("status")?,
        created_at: row.number("created_at")?,
        completed_at: row.maybe_number("completed_at")?,
        reason: row.maybe_json("reason")?,
        log: row.maybe_json("log")?.unwrap_or_default(),
        verdict: row.maybe_text("verdict")?,
        size: row.maybe_id("size")?,
        sha256: row.maybe_text("sha256")?,
        progress: row.maybe_json("progress")?,
        cause: row.maybe_json("cause")?,
    })
}
