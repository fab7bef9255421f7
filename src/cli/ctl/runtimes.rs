//! `warden ctl start|stop|restart RUNTIME`.

use std::time::Duration;

use serde_json::{Value, json};

use super::activities::COLUMNS;
use super::list::Page;
use super::session::Session;
use super::table::table;
use super::wait;
use crate::protocol::Runtime;

#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status with --wait: 0 when every node completed it; 1 when one or more rejected it; 2 when it could \
                  not be asked, or not be known in time. Without --wait: 0 when it was taken on, 2 when not."
)]
pub struct Arguments {
    /// iggy, connectors, connector:sink:KEY or connector:source:KEY
    runtime: Runtime,

    /// Node to do it on (repeat for several) [default: every node of the deployment]
    #[arg(long = "node", value_name = "ID", value_delimiter = ',')]
    nodes: Vec<u64>,

    /// How long it may take on each node, in seconds, being away included
    #[arg(long, value_name = "SECONDS")]
    deadline: Option<u32>,

    /// Wait until it has ended on every node, and tell how
    #[arg(long)]
    wait: bool,

    /// How long to wait, in seconds; the nodes go on whatever happens
    #[arg(long, value_name = "SECONDS", default_value_t = 900, requires = "wait")]
    timeout: u64,
}

pub async fn run(session: &Session, action: &str, order: &Arguments) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    let mut body = if order.nodes.is_empty() { json!({}) } else { json!({ "nodes": order.nodes }) };
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
    let ended = wait::until_ended(session, &deployment, activities, limit).await?;
    let completed = ended.iter().filter(|activity| wait::is_completed(activity)).count();
    session.print(&json!({ "items": ended }), || {
        let rejected = ended.len() - completed;
        let others = if rejected == 0 { String::new() } else { format!(", {rejected} rejected") };
        format!("{action} of {runtime}: {completed} completed{others}\n")
    })?;
    Ok(u8::from(completed < ended.len()))
}

/// The name of a node beside its id, where it has one.
pub fn label(id: &Value, nodes: &[Value]) -> String {
    let known = nodes.iter().find(|node| node.get("id") == Some(id));
    let name = known.and_then(|node| node.get("name")?.as_str()).filter(|name| !name.is_empty());
    name.map_or_else(|| id.to_string(), |name| format!("{name} ({id})"))
}
