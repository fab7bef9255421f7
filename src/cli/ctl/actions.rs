//! `warden ctl actions`.

use clap::Subcommand;
use serde_json::json;

use super::context::Session;
use super::pagination::Part;
use super::table::{Column, Kind, column};

/// List, show or cancel operations as a whole, over all their nodes
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the operations, the newest first
    List {
        /// Only of this kind: restart, stop, ...
        #[arg(long)]
        action: Option<String>,

        /// Only on this kind of thing: Deployment, ...
        #[arg(long, value_name = "TYPE")]
        resource_type: Option<String>,

        /// Only those that still run
        #[arg(long)]
        running: bool,

        #[command(flatten)]
        part: Part,
    },
    /// Show an operation
    Show {
        /// Id of an action, as `list` prints it
        id: u64,
    },
    /// Cancel an operation: what has taken effect stays, what has not is not done
    Cancel {
        /// Id of an action, as `list` prints it
        id: u64,
    },
}

const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("action", "/action", Kind::Text),
    column("on", "/resource_type", Kind::Text),
    column("started (UTC)", "/started_at", Kind::Time),
    column("finished (UTC)", "/finished_at", Kind::Time),
    column("success", "/finished_success", Kind::Status),
    column("by", "/user", Kind::Text),
    column("message", "/finished_message", Kind::Text),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::List { action, resource_type, running, part } => {
            let query = [
                ("action", action.clone()),
                ("resource_type", resource_type.clone()),
                ("running", running.then(|| "true".to_owned())),
            ];
            session.list(&["async_actions"], &query, part, COLUMNS, ("action", "actions")).await
        }
        Verb::Show { id } => {
            let action = session.client.get(&["async_actions", &id.to_string()], &[]).await?;
            session.show(&action, COLUMNS)
        }
        Verb::Cancel { id } => {
            session.client.post(&["async_actions", &id.to_string(), "cancel"], &json!({})).await?;
            session.done(&format!("action {id} is being cancelled"))
        }
    }
}
