//! `warden ctl nodes`.

use clap::Subcommand;

use super::confirm::{self, Confirmation};
use super::context::Session;
use super::pagination::Part;
use super::reference::Reference;
use super::table::{Column, Kind, column};

/// List, show or delete the nodes of a deployment
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the nodes
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Show a node, with all that is known of it
    Show {
        /// Name or id of a node
        #[arg(value_name = "NODE")]
        node: Reference,
    },
    /// Delete a node: its credential is void from now on, and what runs there goes on running
    Delete {
        /// Name or id of a node
        #[arg(value_name = "NODE")]
        node: Reference,

        #[command(flatten)]
        confirmation: Confirmation,
    },
}

const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("name", "/name", Kind::Text),
    column("status", "/status", Kind::Status),
    column("seen", "/last_seen_at", Kind::Age),
    column("agent", "/agent_version", Kind::Text),
    column("system", "/host/os", Kind::Text),
    column("enrolled (UTC)", "/enrolled_at", Kind::Time),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    let path = ["deployments", &*deployment, "nodes"];
    match verb {
        Verb::List { part } => session.list(&path, &[], part, COLUMNS, ("node", "nodes")).await,
        Verb::Show { node } => {
            let id = session.node_id(&deployment, node).await?;
            let node =
                session.client.get(&["deployments", &deployment, "nodes", &id.to_string()], &[]).await?;
            session.show(&node, COLUMNS)
        }
        Verb::Delete { node, confirmation } => {
            let id = session.node_id(&deployment, node).await?;
            let node = confirm::nodes(&[node.to_string()]);
            let question =
                format!("Remove {node}? Its credential is void from then on; it must enroll again.");
            confirmation.ask(session, &question)?;
            session.client.delete(&["deployments", &deployment, "nodes", &id.to_string()]).await?;
            session.done(&format!("node {id} removed"))
        }
    }
}
