//! `warden ctl activities`.

use clap::{Subcommand, ValueEnum};

use super::context::Session;
use super::pagination::Part;
use super::reference::Reference;
use super::table::{Column, Kind, column};
use crate::protocol::Runtime;

/// List or show what was asked of nodes, and how it ended
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the activities, the newest first
    List {
        /// Only of this node
        #[arg(long, value_name = "NAME|ID")]
        node: Option<Reference>,

        /// Only of this runtime: iggy, connectors, connector:sink:KEY, connector:source:KEY
        #[arg(long)]
        runtime: Option<Runtime>,

        /// Only those that stand so
        #[arg(long)]
        status: Option<Status>,

        #[command(flatten)]
        part: Part,
    },
    /// Show an activity, with reason, unit states and journal lines
    Show {
        /// Id of an activity, as `list` prints it
        id: u64,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Status {
    Processing,
    Completed,
    Rejected,
}

pub const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("runtime", "/runtime", Kind::Text),
    column("action", "/action", Kind::Text),
    column("node", "/node_id", Kind::Id),
    column("status", "/status", Kind::Status),
    column("created (UTC)", "/created_at", Kind::Time),
    column("finished (UTC)", "/finished_at", Kind::Time),
    column("forced", "/result/forced", Kind::Text),
    column("reason", "/reason/code", Kind::Text),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    match verb {
        Verb::List { node, runtime, status, part } => {
            let node = match node {
                Some(node) => Some(session.node_id(&deployment, node).await?.to_string()),
                None => None,
            };
            let query = [
                ("node_id", node),
                ("runtime", runtime.as_ref().map(Runtime::to_string)),
                ("status", status.map(|status| status.word().to_owned())),
            ];
            let path = ["deployments", &*deployment, "activities"];
            session.list(&path, &query, part, COLUMNS, ("activity", "activities")).await
        }
        Verb::Show { id } => {
            let path = ["deployments", &*deployment, "activities", &id.to_string()];
            let activity = session.client.get(&path, &[]).await?;
            session.show(&activity, COLUMNS)
        }
    }
}

impl Status {
    fn word(self) -> &'static str {
        match self {
            Status::Processing => "processing",
            Status::Completed => "completed",
            Status::Rejected => "rejected",
        }
    }
}
