//! `/deployments/{deployment_id}/snapshots`

use axum::extract::State;
use axum::http::StatusCode;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};
use warden_checks::Selection;
use warden_protocol::{Reason, SNAPSHOT_CHOICE, SnapshotChoice, SnapshotProgress, Trigger, Work};

use super::activities::{NODES_LIMIT, chosen};
use super::auth::{Manage, Read, Within};
use super::extract::{Asked, Issues, Place};
use super::idempotency::Reply;
use super::json_types::{Id, Time};
use super::pagination::{Listed, PageOf, PageParameters};
use super::problem::Problem;
use super::{Api, base_url};
use crate::object_store::Key;
use crate::store::activities::Order;
use crate::store::snapshots::{self, Refused, Replaceable, Snapshot, Status};
use crate::store::{audit, nodes};

/// Checks and areas that one request names; there are fewer.
const ONLY_LIMIT: usize = 100;
/// Names of nodes in a refusal.
const NAMES_TOLD: usize = 10;
/// How far back logs are read, as `warden snapshot --since` takes it: from a minute to 90 days.
const SINCE_SECONDS: std::ops::RangeInclusive<u32> = 60..=90 * 86_400;

/// The snapshot of one node. All nodes of a run have its name and its `run_id`.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = Snapshot, example = json!({
    "id": 1, "tenant_id": 615380456123456789u64, "division_id": 1, "environment_id": 1,
    "deployment_id": 611298765432109056u64, "node_id": 610809900976570889u64, "deployment_name": "events-prod",
    "name": "snapshot-20260601-103000", "status": "completed", "created_at": "2026-06-01T10:30:00Z",
    "completed_at": "2026-06-01T10:31:00Z", "run_id": 2, "verdict": "warn", "size": 481_516,
    "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad", "reason": null, "log": [], "progress": null, "trigger": null
}))]
pub struct Shown {
    pub id: u64,
    pub tenant_id: u64,
    pub division_id: u64,
    pub environment_id: u64,
    pub deployment_id: u64,
    pub node_id: u64,
    /// As the deployment was called then.
    pub deployment_name: String,
    pub name: String,
    /// `processing`, then `completed` or `failed`.
    pub status: &'static str,
    pub created_at: Time,
    /// Null while it is processing.
    pub completed_at: Option<Time>,
    /// The run over all nodes: also the id of its async action.
    pub run_id: u64,
    /// The worst finding: `pass`, `note`, `skip`, `warn` or `fail`.
    pub verdict: Option<String>,
    /// Bytes of the archive.
    pub size: Option<u64>,
    /// Of the archive, 64 hexadecimal digits.
    pub sha256: Option<String>,
    /// Why it failed.
    pub reason: Option<Reason>,
    /// What the agent logged last, masked, oldest first; only of a failure.
    pub log: Vec<String>,
    /// How far it is.
    pub progress: Option<Progress>,
    /// Why the node took it by itself; null when it was asked for.
    pub trigger: Option<Cause>,
}

/// Why a node took a snapshot without being asked.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SnapshotTrigger, example = json!({
    "kind": "out_of_memory", "reason": "iggy.service was killed for memory", "taken_at": "2026-06-01T10:29:12Z"
}))]
pub struct Cause {
    pub kind: Trigger,
    /// In a sentence.
    pub reason: String,
    /// By the clock of the node.
    pub taken_at: Time,
}

/// How far the snapshot of a node is.
#[derive(Debug, Serialize, ToSchema)]
#[schema(as = SnapshotProgress, example = json!({
    "checks_done": 57, "checks_total": 57, "bytes_packed": 1_048_576, "bytes_sent": 524_288, "bytes_total": 1_048_576
}))]
pub struct Progress {
    pub checks_done: u32,
    pub checks_total: u32,
    pub bytes_packed: u64,
    pub bytes_sent: u64,
    /// Nought until the archive is whole.
    pub bytes_total: u64,
}

/// What the snapshots shall hold.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({ "redact_secrets": true, "include_iggy": true }))]
pub struct NewSnapshots {
    /// Without it, or empty: every node of the deployment.
    #[serde(default)]
    #[schema(max_items = 10000)]
    nodes: Vec<Id>,
    /// Only true: every node masks secrets before anything leaves it. False is refused rather than ignored.
    #[serde(default = "yes")]
    #[schema(default = true)]
    redact_secrets: bool,
    /// The data directory of Iggy, as `iggy.zip` in the archive.
    #[serde(default = "yes")]
    #[schema(default = true)]
    include_iggy: bool,
    /// Only these checks, or areas of checks, as `warden checks` lists them. Without it, or empty: all.
    #[serde(default)]
    #[schema(max_items = 100, example = json!(["disk", "runtime-iggy-health"]))]
    only: Vec<String>,
    /// How far back logs are read.
    #[serde(default)]
    #[schema(minimum = 60, maximum = 7776000, default = 86400)]
    since_seconds: Option<u32>,
    /// Takes addresses, host and user names, e-mail addresses and machine ids out of the archive, too.
    #[serde(default)]
    anonymize: bool,
    /// Where the plan is full, the oldest run is deleted once an archive of this one is stored, and none if none is.
    #[serde(default)]
    #[schema(default = false)]
    replace_oldest: bool,
}

/// Where the archive can be fetched.
#[derive(Debug, Serialize, ToSchema)]
#[schema(example = json!({ "url": "https://warden.example.com/objects/1/2.zip?expires=1780310100&signature=…" }))]
pub struct Download {
    /// Good for five minutes, for whoever has it.
    url: String,
}

#[derive(IntoParams)]
#[into_params(parameter_in = Query)]
#[expect(dead_code, reason = "it describes; the query is read by hand to tell every mistake")]
pub struct Filters {
    /// Only of this run.
    run_id: Option<u64>,
}

fn yes() -> bool {
    true
}

impl From<Snapshot> for Shown {
    fn from(snapshot: Snapshot) -> Shown {
        let progress = |progress: SnapshotProgress| Progress {
            checks_done: progress.checks_done,
            checks_total: progress.checks_total,
            bytes_packed: progress.bytes_packed,
            bytes_sent: progress.bytes_sent,
            bytes_total: progress.bytes_total,
        };
        Shown {
            id: snapshot.id,
            tenant_id: snapshot.tenant_id,
            division_id: snapshot.division_id,
            environment_id: snapshot.environment_id,
            deployment_id: snapshot.deployment_id,
            node_id: snapshot.node_id,
            deployment_name: snapshot.deployment_name,
            name: snapshot.name,
            status: snapshot.status.as_str(),
            created_at: Time(snapshot.created_at),
            completed_at: snapshot.completed_at.map(Time),
            run_id: snapshot.run_id,
            verdict: snapshot.verdict,
            size: snapshot.size,
            sha256: snapshot.sha256,
            reason: snapshot.reason,
            log: snapshot.log,
            progress: snapshot.progress.map(progress),
            trigger: snapshot.cause.map(|cause| Cause {
                kind: cause.trigger,
                reason: cause.reason,
                taken_at: Time(cause.taken_at_ms),
            }),
        }
    }
}

/// Take a snapshot of every node, or of some
///
/// One run over the nodes, each with a snapshot of its own. A node that is away until the deadline has a failed one,
/// and does not hold up the next run. Where the data directory cannot be had, such as on a disk that is not mounted,
/// the snapshot is completed without `iggy.zip`, and its report fails in `data-directory` with the reason.
#[utoipa::path(post, operation_id = "create_snapshots", path = "/deployments/{deployment_id}/snapshots", tag = "snapshots", request_body = NewSnapshots,
    responses(
        (status = NO_CONTENT, headers(
            ("ld-snapshot" = u64, description = "The id of the run."),
            ("ld-async-action" = u64, description = "The same id."))),
        (status = CONFLICT, description = "`snapshot_in_progress`: one at a time. `snapshots_limit_reached`: as many as the plan keeps; delete one, or set `replace_oldest`. `no_nodes`: the deployment has none. `agent_too_old`: a node that cannot leave out what was asked to be."),
        (status = BAD_REQUEST, description = "`node_not_found`: an unknown node, nothing was asked of any. `unknown_check`: in `only`. `redaction_required`: `redact_secrets` is false, and secrets never leave a node."),
    ))]
pub async fn create(
    State(api): State<Api>,
    within: Within<Manage>,
    Asked { body, claim }: Asked<NewSnapshots>,
) -> Result<Response, Problem> {
    let NewSnapshots {
        nodes: named,
        redact_secrets,
        include_iggy,
        only,
        since_seconds,
        anonymize,
        replace_oldest,
    } = body;
    if !redact_secrets {
        let reason = "secrets are masked on every node before anything leaves it; leave this out";
        return Err(Problem::field("redact_secrets", "unsupported_value", reason).coded("redaction_required"));
    }
    let choice = chosen_of_host(only, since_seconds, anonymize, named.len())?;
    let (deployment, now) = (&within.deployment, api.now());
    let mut change = api.store.change().await?;
    let order = Order {
        deployment: deployment.clone(),
        nodes: chosen(&named, nodes::ids(&mut change, deployment.id).await?)?,
        work: Work::Snapshot { redact_secrets, include_iggy, offer: None, choice: choice.clone() },
        author_id: within.caller.key.id,
        author: within.caller.key.name.clone(),
        started_via: within.caller.started_via,
        deadline_at: now + api.settings.limits.snapshot_deadline_ms,
    };
    if choice != SnapshotChoice::default() {
        let old = nodes::without(&mut change, &order.nodes, SNAPSHOT_CHOICE).await?;
        if !old.is_empty() {
            let names = old.iter().take(NAMES_TOLD).cloned().collect::<Vec<_>>().join(", ");
            let reason = format!(
                "{} of the nodes have an agent that takes a snapshot only as a whole ({names}); upgrade it, or leave out \
                 only, since_seconds and anonymize",
                old.len()
            );
            return Err(Problem::conflict("agent_too_old", reason));
        }
    }
    let replaceable = replace_oldest.then_some(Replaceable::Any);
    let started = snapshots::start(&mut change, order, None, replaceable, now).await?;
    let (run, snapshots) = started.map_err(|refused| match refused {
        Refused::InProgress => Problem::conflict(
            "snapshot_in_progress",
            "a snapshot of this deployment is under way; wait for it, or cancel its async action",
        ),
        Refused::LimitReached(kept) => Problem::conflict(
            "snapshots_limit_reached",
            format!(
                "the plan of this deployment keeps {kept} snapshots: delete one, let the new one replace the oldest \
                 (replace_oldest, or ctl with --replace-oldest), or change the plan"
            ),
        ),
        Refused::NoNodes => Problem::conflict("no_nodes", "the deployment has no nodes yet"),
    })?;
    let detail = json!({
        "nodes": snapshots.len(), "redact_secrets": redact_secrets, "include_iggy": include_iggy,
        "only": choice.only, "since_seconds": choice.since_seconds, "anonymize": choice.anonymize,
    });
    let mut entry =
        within.caller.did("snapshot.create", deployment.tenant_id, ("AsyncAction", run.id), detail);
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    let reply = Reply::empty(StatusCode::NO_CONTENT)
        .created("ld-snapshot", run.id)
        .created("ld-async-action", run.id);
    claim.commit(change, reply).await
}

fn chosen_of_host(
    only: Vec<String>,
    since_seconds: Option<u32>,
    anonymize: bool,
    nodes: usize,
) -> Result<SnapshotChoice, Problem> {
    let mut issues = Issues::default();
    if nodes > NODES_LIMIT {
        issues.add("nodes", "too_long", format!("expected at most {NODES_LIMIT} nodes"));
    }
    if only.len() > ONLY_LIMIT {
        issues.add("only", "too_long", format!("expected at most {ONLY_LIMIT} checks and areas"));
    }
    if since_seconds.is_some_and(|seconds| !SINCE_SECONDS.contains(&seconds)) {
        let (least, most) = (SINCE_SECONDS.start(), SINCE_SECONDS.end());
        issues.add(
            "since_seconds",
            "out_of_range",
            format!("expected a whole number from {least} to {most}"),
        );
    }
    issues.finish()?;
    let selection = Selection { only, ..Selection::default() };
    if let Err(error) = selection.checks() {
        return Err(Problem::field("only", "unknown_check", error.to_string()).coded("unknown_check"));
    }
    Ok(SnapshotChoice { only: selection.only, since_seconds, anonymize })
}

/// List the snapshots of a deployment
///
/// A row a node.
#[utoipa::path(get, operation_id = "list_snapshots", path = "/deployments/{deployment_id}/snapshots", tag = "snapshots",
    params(PageParameters, Filters), responses((status = OK, body = PageOf<Shown>)))]
pub async fn list(State(api): State<Api>, within: Within<Read>, parts: Parts) -> Result<Response, Problem> {
    let listed = Listed::read(&parts, &api, &["run_id"])?;
    let run = listed.query.id("run_id")?;
    let found = snapshots::list(&api.store, within.deployment.id, run, listed.page).await?;
    listed.respond(found, Shown::from)
}

/// Get a snapshot
#[utoipa::path(get, operation_id = "get_snapshot", path = "/deployments/{deployment_id}/snapshots/{snapshot_id}", tag = "snapshots",
    responses((status = OK, body = Shown), (status = NOT_FOUND, description = "`snapshot_not_found`")))]
pub async fn get(State(api): State<Api>, within: Within<Read>, place: Place) -> Result<Response, Problem> {
    let snapshot = snapshot(&api, &within, &place).await?;
    Ok(Reply::json(StatusCode::OK, &Shown::from(snapshot))?.into_response())
}

/// Download a snapshot
///
/// Where its archive can be fetched for the next five minutes: a ZIP of `report.html`, `report.json`,
/// `manifest.json`, `host/` and, when it was asked for, `iggy.zip`.
#[utoipa::path(get, operation_id = "download_snapshot", path = "/deployments/{deployment_id}/snapshots/{snapshot_id}/download", tag = "snapshots",
    responses(
        (status = OK, body = Download),
        (status = NOT_FOUND, description = "`snapshot_not_found`"),
        (status = CONFLICT, description = "`snapshot_not_completed`: it has no archive, or none yet."),
    ))]
pub async fn download(
    State(api): State<Api>,
    within: Within<Read>,
    place: Place,
    parts: Parts,
) -> Result<Response, Problem> {
    let snapshot = snapshot(&api, &within, &place).await?;
    if snapshot.status != Status::Completed {
        let reason = format!("the snapshot is {}: there is no archive of it", snapshot.status.as_str());
        return Err(Problem::conflict("snapshot_not_completed", reason));
    }
    let key = Key { deployment: snapshot.deployment_id, snapshot: snapshot.id };
    let name = format!("{}-{}.zip", snapshot.name, snapshot.node_id);
    let now = jiff::Timestamp::from_millisecond(api.now()).map_err(Problem::internal)?;
    let url = api.uploads.objects().download(key, &name, &base_url(&parts, &api.settings), now);
    let mut response = Reply::json(StatusCode::OK, &Download { url })?.into_response();
    let no_store = axum::http::HeaderValue::from_static("no-store");
    response.headers_mut().insert(axum::http::header::CACHE_CONTROL, no_store);
    Ok(response)
}

/// Delete a snapshot
///
/// Its archive goes too. With the id of a run, all of its snapshots.
#[utoipa::path(delete, operation_id = "remove_snapshot", path = "/deployments/{deployment_id}/snapshots/{snapshot_id}", tag = "snapshots",
    responses(
        (status = NO_CONTENT),
        (status = NOT_FOUND, description = "`snapshot_not_found`"),
        (status = CONFLICT, description = "`snapshot_in_progress`: cancel its async action first."),
    ))]
pub async fn remove(
    State(api): State<Api>,
    within: Within<Manage>,
    place: Place,
) -> Result<Response, Problem> {
    let (deployment, now) = (&within.deployment, api.now());
    let id = place.id("snapshot_id")?;
    let mut change = api.store.change().await?;
    match snapshots::remove(&mut change, deployment.id, id, now).await? {
        None => return Err(not_found()),
        Some(false) => {
            let reason = "the snapshot is under way; cancel its async action first";
            return Err(Problem::conflict("snapshot_in_progress", reason));
        }
        Some(true) => {}
    }
    let mut entry = within.caller.did("snapshot.remove", deployment.tenant_id, ("Snapshot", id), json!({}));
    entry.deployment_id = Some(deployment.id);
    audit::record(&mut change, entry, now).await?;
    change.commit().await?;
    // The row is hidden for good. What is left of the archive if this fails, the job removes.
    if let Err(error) = api.uploads.remove_archives(now).await {
        tracing::warn!(snapshot = id, %error, "the archive of a deleted snapshot is still there");
    }
    Ok(StatusCode::NO_CONTENT.into_response())
}

async fn snapshot<N>(api: &Api, within: &Within<N>, place: &Place) -> Result<Snapshot, Problem> {
    let id = place.id("snapshot_id")?;
    snapshots::get(&api.store, within.deployment.id, id).await?.ok_or_else(not_found)
}

fn not_found() -> Problem {
    Problem::not_found("snapshot_not_found", "there is no such snapshot in this deployment")
}
