//! `warden ctl start|stop|restart RUNTIME`.

use std::time::Duration;

use serde_json::{Value, json};

use super::activities::COLUMNS;
use super::confirm::{self, Confirmation};
use super::context::Session;
use super::interrupt::{self, unless_interrupted};
use super::pagination::Page;
use super::reference::Reference;
use super::table::table;
use super::wait;
use crate::protocol::Runtime;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "It is completed when systemd's job is done, the unit stays as it is for a while, and what was started \
                  answers (settle_seconds and answer_seconds of the node). A stop that ended in SIGKILL is completed \
                  with a warning.\n\n\
                  Exit status with --wait: 0 when every node completed it; 1 when one or more rejected it; 2 when it could \
                  not be asked, or not be known in time. Without --wait: 0 when it was taken on, 2 when not."
)]
pub struct Arguments {
    /// Runtime: iggy, connectors, connector:sink:KEY or connector:source:KEY
    runtime: Runtime,

    /// Node to do it on, by name or id (repeat for several) [default: every node of the deployment]
    #[arg(long = "node", value_name = "NAME|ID", value_delimiter = ',')]
    nodes: Vec<Reference>,

    /// How long it may take on each node, in seconds, being away included; what has begun by then is followed for 12 s
    /// more
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u32>,

    /// Wait until it has ended on every node, and tell how
    #[arg(long)]
    wait: bool,

    /// How long to wait, in seconds; the nodes go on whatever happens
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "wait")]
    timeout: u64,

    #[command(flatten)]
    confirmation: Confirmation,
}

pub async fn run(session: &Session, action: &str, order: &Arguments) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    let nodes = session.node_ids(&deployment, &order.nodes).await?;
    if action != "start" && order.confirmation.asks() {
        confirm_several(session, &deployment, action, order, &nodes).await?;
    }
    let mut body = if nodes.is_empty() { json!({}) } else { json!({ "nodes": nodes }) };
    if let Some(seconds) = order.deadline {
        body["deadline_seconds"] = Value::from(seconds);
    }
    let runtime = order.runtime.to_string();
    let path = ["deployments", &*deployment, "activities", &*runtime, action];
    let answer = session.client.post(&path, &body).await?;
    let activities = Page::read(answer.body.clone()).items;
    if !order.wait {
        return session.print(&answer.body, || table(COLUMNS, &activities, session.look));
    }
    let limit = Duration::from_secs(order.timeout);
    let waiting = wait::until_ended(session, &deployment, activities, limit);
    let Some(ended) = unless_interrupted(waiting).await? else {
        let follow = "warden ctl activities list --status processing";
        let id = answer.created("ld-async-action");
        return Ok(interrupt::report(session, &format!("{action} of {runtime}"), follow, id.as_deref()));
    };
    let completed = ended.iter().filter(|activity| wait::is_completed(activity)).count();
    session.print(&json!({ "items": ended }), || {
        let rejected = ended.len() - completed;
        let others = if rejected == 0 { String::new() } else { format!(", {rejected} rejected") };
        format!("{action} of {runtime}: {completed} completed{others}\n")
    })?;
    Ok(u8::from(completed < ended.len()))
}

/// Asks before a runtime stops on several nodes at once: named ones, or all of the deployment.
async fn confirm_several(
    session: &Session,
    deployment: &str,
    action: &str,
    order: &Arguments,
    chosen: &[u64],
) -> anyhow::Result<()> {
    let all = session.all(&["deployments", deployment, "nodes"], &[]).await?.items;
    let is_meant = |id: u64| chosen.is_empty() || chosen.contains(&id);
    let known: Vec<&Value> =
        all.iter().map(|node| &node["id"]).filter(|id| id.as_u64().is_some_and(is_meant)).collect();
    if known.len() < 2 {
        return Ok(());
    }
    let labels: Vec<String> = known.iter().map(|id| label(id, &all)).collect();
    let question =
        format!("{action} {} on {}, all at the same time?", order.runtime, confirm::nodes(&labels));
    order.confirmation.ask(session, &question)
}

/// The name of a node beside its id, where it has one.
pub fn label(id: &Value, nodes: &[Value]) -> String {
    let known = nodes.iter().find(|node| node.get("id") == Some(id));
    let name = known.and_then(|node| node.get("name")?.as_str()).filter(|name| !name.is_empty());
    name.map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
}
