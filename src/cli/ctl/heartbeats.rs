//! `warden ctl heartbeats`.

use clap::Subcommand;

use super::context::Session;
use super::pagination::Part;
use super::reference::Reference;
use super::table::{Column, Kind, column};
use crate::protocol::Runtime;

/// List or show how nodes and runtimes are, as they told last
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the newest heartbeat of every node
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Show the heartbeats of a runtime of a node, the newest first
    Show {
        /// Name or id of a node
        node: Reference,
        /// Runtime: iggy, connectors, connector:sink:KEY, connector:source:KEY
        runtime: Runtime,
        #[command(flatten)]
        part: Part,
    },
}

const OF_NODES: &[Column] = &[
    column("node", "/node_id", Kind::Id),
    column("name", "/name", Kind::Text),
    column("status", "/status", Kind::Status),
    column("told", "/at", Kind::Age),
    column("cpu", "/host/cpu", Kind::Share),
    column("load", "/host/load_1m", Kind::Text),
    column("free memory", "/host/memory_available_bytes", Kind::Bytes),
    column("runtimes", "/runtimes", Kind::Runtimes),
];

const OF_A_RUNTIME: &[Column] = &[
    column("at (UTC)", "/at", Kind::Time),
    column("state", "/active_state", Kind::Status),
    column("sub", "/sub_state", Kind::Text),
    column("pid", "/main_pid", Kind::Id),
    column("restarts", "/restarts", Kind::Id),
    column("memory", "/memory_bytes", Kind::Bytes),
    column("answers", "/answers", Kind::Status),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    let nouns = ("heartbeat", "heartbeats");
    match verb {
        Verb::List { part } => {
            session.list(&["deployments", &deployment, "heartbeats"], &[], part, OF_NODES, nouns).await
        }
        Verb::Show { node, runtime, part } => {
            let node = session.node_id(&deployment, node).await?.to_string();
            let runtime = runtime.to_string();
            let path = ["deployments", &*deployment, "nodes", &*node, "heartbeats", &*runtime];
            session.list(&path, &[], part, OF_A_RUNTIME, nouns).await
        }
    }
}
