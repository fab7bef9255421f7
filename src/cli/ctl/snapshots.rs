//! `warden ctl snapshots`.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, ensure};
use clap::Subcommand;
use indicatif::ProgressBar;
use serde_json::{Value, json};
use tokio::time::Instant;
use warden_host::quantity;

use super::archive_files;
use super::confirm::Confirmation;
use super::context::Session;
use super::interrupt::{self, unless_interrupted};
use super::pagination::Part;
use super::reference::Reference;
use super::runtime_actions::label;
use super::table::{Column, Kind, column, table};
use crate::cli::output_file;
use crate::cli::snapshot::parse_since;
use crate::cli::terminal::harmless;
use crate::snapshot::fleet;

/// Between two looks at a run.
const PAUSE: Duration = Duration::from_secs(1);

/// List, show, create, download, open or delete snapshots
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Create a snapshot of every node, or of some
    ///
    /// Where Iggy's data directory cannot be had, such as on a disk that is not mounted, the snapshot is completed
    /// without it, and its report says why.
    Create(Create),
    /// List the snapshots, a line a node, the newest first
    List {
        /// Only of this run
        #[arg(long, value_name = "ID")]
        run: Option<u64>,

        #[command(flatten)]
        part: Part,
    },
    /// Show a snapshot
    Show {
        /// Id of a snapshot
        id: u64,
    },
    /// Download the archive of a snapshot, and check its SHA-256
    Download {
        /// Id of a snapshot, as `list` prints it
        id: u64,

        /// Where to write it [default: its name, here]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Compare the nodes of a run, on one page
    ///
    /// Fetches the archive of each node, holds it against its SHA-256, reads it and removes it again; there is never
    /// more than one here. A node without one is told as missing, with the reason.
    #[command(
        after_help = "Exit status: 0 when nothing warns or fails, no node differs and none is missing; 1 when something \
                      does; 2 when no archive could be read."
    )]
    Fleet {
        /// Id of a run, as `create` prints it
        #[arg(value_name = "RUN")]
        run: u64,

        /// Where to write it [default: the name of the run, here]
        #[arg(short, long, value_name = "FILE")]
        output: Option<PathBuf>,
    },
    /// Open a report in the browser, or the page that compares the nodes of a run
    Open {
        /// Id of a snapshot or of a run
        id: u64,

        /// Only say where the page was written
        #[arg(long)]
        print: bool,
    },
    /// Delete a snapshot or a whole run, archives and all
    Delete {
        /// Id of a snapshot or of a run
        id: u64,

        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status with --wait: 0 when every node has a snapshot; 1 when one or more failed; 2 when it could not be \
                  asked, or not be known in time. Without --wait: 0 when it was taken on, 2 when not."
)]
pub struct Create {
    /// Node to take it of, by name or id (repeat for several) [default: every node of the deployment]
    #[arg(long = "node", value_name = "NAME|ID", value_delimiter = ',')]
    nodes: Vec<Reference>,

    /// Run only these checks or areas (repeat, or separate by commas); `warden checks` lists them
    #[arg(long, value_name = "AREA|ID", value_delimiter = ',')]
    only: Vec<String>,

    /// How far back to read logs: 90m, 24h, 7d [default: 24h]
    #[arg(long, value_name = "DURATION", value_parser = parse_since)]
    since: Option<Duration>,

    /// Take addresses, host and user names, e-mail addresses and machine ids out, too
    #[arg(long)]
    anonymize: bool,

    /// Leave Iggy's data directory out
    #[arg(long)]
    without_iggy: bool,

    /// Where the plan is full, delete the oldest run once this one is stored
    #[arg(long)]
    replace_oldest: bool,

    /// Wait until it has ended on every node, and tell how
    #[arg(long)]
    wait: bool,

    /// How long to wait, in seconds; the nodes go on whatever happens
    #[arg(long, value_name = "SECONDS", default_value_t = 3900, requires = "wait")]
    timeout: u64,
}

const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("name", "/name", Kind::Text),
    column("node", "/node_id", Kind::Id),
    column("status", "/status", Kind::Status),
    column("verdict", "/verdict", Kind::Status),
    column("size", "/size", Kind::Bytes),
    column("created (UTC)", "/created_at", Kind::Time),
    column("reason", "/reason/code", Kind::Text),
    column("trigger", "/trigger/reason", Kind::Text),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    let path = ["deployments", &*deployment, "snapshots"];
    match verb {
        Verb::Create(order) => create(session, &deployment, order).await,
        Verb::List { run, part } => {
            let query = [("run_id", run.map(|id| id.to_string()))];
            session.list(&path, &query, part, COLUMNS, ("snapshot", "snapshots")).await
        }
        Verb::Show { id } => session.show(&one(session, &deployment, *id).await?, COLUMNS),
        Verb::Download { id, output } => {
            let snapshot = one(session, &deployment, *id).await?;
            let output = output.clone().unwrap_or_else(|| archive_files::file_name(&snapshot).into());
            archive_files::fetch(session, &deployment, &snapshot, &output).await?;
            let told = json!({ "path": output, "size": snapshot["size"], "sha256": snapshot["sha256"] });
            session.print(&told, || {
                let bytes = snapshot["size"].as_u64().map(quantity::bytes).unwrap_or_default();
                let path = harmless(&output.display().to_string());
                format!("{path} ({bytes}, SHA-256 as told)\n")
            })
        }
        Verb::Fleet { run, output } => put_side_by_side(session, &deployment, *run, output.as_deref()).await,
        Verb::Open { id, print } => archive_files::open(session, &deployment, *id, *print).await,
        Verb::Delete { id, confirmation } => {
            confirmation.ask(session, &format!("Delete snapshot {id} with its archives?"))?;
            session.client.delete(&[&path[..], &[&id.to_string()]].concat()).await?;
            session.done(&format!("snapshot {id} deleted"))
        }
    }
}

async fn create(session: &Session, deployment: &str, order: &Create) -> anyhow::Result<u8> {
    let mut body = json!({ "include_iggy": !order.without_iggy });
    let nodes = session.node_ids(deployment, &order.nodes).await?;
    if !nodes.is_empty() {
        body["nodes"] = json!(nodes);
    }
    if !order.only.is_empty() {
        body["only"] = json!(order.only);
    }
    if let Some(since) = order.since {
        body["since_seconds"] = json!(since.as_secs());
    }
    if order.anonymize {
        body["anonymize"] = json!(true);
    }
    if order.replace_oldest {
        body["replace_oldest"] = Value::from(true);
    }
    let answer = session.client.post(&["deployments", deployment, "snapshots"], &body).await?;
    let run = answer.created("ld-snapshot").context("the Supervisor names no run")?;
    if !order.wait {
        let told = json!({ "run_id": run.parse::<u64>().ok() });
        return session
            .print(&told, || format!("run {run} has begun: warden ctl snapshots list --run {run}\n"));
    }
    let limit = Duration::from_secs(order.timeout);
    let Some(ended) = unless_interrupted(until_ended(session, deployment, &run, limit)).await? else {
        let follow = format!("warden ctl snapshots list --run {run}");
        let action = answer.created("ld-async-action");
        return Ok(interrupt::report(session, &format!("run {run}"), &follow, action.as_deref()));
    };
    let completed = ended.iter().filter(|snapshot| snapshot["status"] == "completed").count();
    session.print(&json!({ "items": ended }), || table(COLUMNS, &ended, session.look))?;
    if completed > 1 && !session.json {
        session.screen.say(&format!("side by side: warden ctl snapshots fleet {run}"));
    }
    Ok(u8::from(completed < ended.len()))
}

/// Follows a run, telling each change of each node on stderr.
async fn until_ended(
    session: &Session,
    deployment: &str,
    run: &str,
    limit: Duration,
) -> anyhow::Result<Vec<Value>> {
    let (screen, began) = (&session.screen, Instant::now());
    let nodes = session.all(&["deployments", deployment, "nodes"], &[]).await?.items;
    let mut bars: BTreeMap<String, (ProgressBar, String)> = BTreeMap::new();
    loop {
        let query = [("run_id", run.to_owned())];
        let page = session.all(&["deployments", deployment, "snapshots"], &query).await?;
        for snapshot in &page.items {
            let label = label(&snapshot["node_id"], &nodes);
            let step = step(snapshot);
            let (bar, said) =
                bars.entry(label.clone()).or_insert_with(|| (screen.spinner(&label), String::new()));
            if *said != step {
                bar.set_message(step.clone());
                if !screen.draws() && !session.json {
                    screen.say(&format!("{label}: {step}"));
                }
                *said = step;
            }
        }
        if page.items.iter().all(|snapshot| snapshot["status"] != "processing") {
            for (bar, _) in bars.values() {
                bar.finish_and_clear();
            }
            return Ok(page.items);
        }
        ensure!(
            began.elapsed() < limit,
            "not ended after {}; it goes on: warden ctl snapshots list --run {run}",
            quantity::duration(limit.as_secs_f64())
        );
        tokio::time::sleep(PAUSE).await;
    }
}

/// Where a snapshot is, in a few words.
fn step(snapshot: &Value) -> String {
    let number = |name: &str| snapshot["progress"][name].as_u64().unwrap_or(0);
    match snapshot["status"].as_str() {
        Some("completed") => {
            format!("completed, {}", harmless(snapshot["verdict"].as_str().unwrap_or("unknown")))
        }
        Some("failed") => {
            format!(
                "failed: {}",
                harmless(snapshot["reason"]["reason"].as_str().unwrap_or("no reason given"))
            )
        }
        _ if snapshot["progress"].is_null() => "waiting for the node".to_owned(),
        _ if number("bytes_total") > 0 => {
            let bytes = |name| quantity::bytes(number(name));
            format!("sending, {} of {}", bytes("bytes_sent"), bytes("bytes_total"))
        }
        _ if number("bytes_packed") > 0 => format!("packing, {}", quantity::bytes(number("bytes_packed"))),
        _ => format!("{} of {} checks", number("checks_done"), number("checks_total")),
    }
}

async fn one(session: &Session, deployment: &str, id: u64) -> anyhow::Result<Value> {
    Ok(session.client.get(&["deployments", deployment, "snapshots", &id.to_string()], &[]).await?)
}

async fn put_side_by_side(
    session: &Session,
    deployment: &str,
    run: u64,
    output: Option<&Path>,
) -> anyhow::Result<u8> {
    let snapshots = archive_files::of_run(session, deployment, run).await?;
    let first = snapshots.first();
    let first = first
        .with_context(|| format!("there is no run {run}; warden ctl snapshots list --json names them"))?;
    let output = output.map_or_else(|| archive_files::page_name(first).into(), Path::to_owned);
    let fleet = archive_files::side_by_side(session, deployment, &snapshots).await?;
    output_file::write_for(&output, fleet::page(&fleet)?.as_bytes(), "--output")?;
    session.print(&serde_json::to_value(&fleet)?, || {
        let path = harmless(&output.display().to_string());
        crate::cli::fleet::text(&fleet, session.look.paint) + &format!("Page written to {path}\n")
    })?;
    Ok(u8::from(!fleet.is_well()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_step_is_told_in_a_few_words() {
        let of = |progress: Value| step(&json!({ "status": "processing", "progress": progress }));
        assert_eq!(of(Value::Null), "waiting for the node");
        assert_eq!(of(json!({ "checks_done": 3, "checks_total": 57 })), "3 of 57 checks");
        assert_eq!(of(json!({ "bytes_packed": 1 << 20 })), "packing, 1 MiB");
        assert_eq!(of(json!({ "bytes_sent": 0, "bytes_total": 1 << 20 })), "sending, 0 B of 1 MiB");
        let failed = json!({ "status": "failed", "reason": { "code": "x", "reason": "a\u{7}b" } });
        assert_eq!(step(&failed), "failed: a\\u{7}b");
    }
}
