//! `warden ctl audit`.

use clap::Subcommand;
use jiff::Timestamp;

use super::context::Session;
use super::pagination::Part;
use super::reference::Reference;
use super::table::{Column, Kind, column};

/// List who did what
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List what was done, the newest first
    List {
        /// Only of the key, node or other actor with this name
        #[arg(long, value_name = "NAME")]
        actor: Option<String>,

        /// Only this action, such as activity.start, or all of a resource, such as activity
        #[arg(long)]
        action: Option<String>,

        /// Only about this node, by name or id
        #[arg(long, value_name = "NAME|ID")]
        node: Option<Reference>,

        /// Only from this time on, RFC 3339, such as 2026-06-01T09:30:00Z
        #[arg(long, value_name = "TIME")]
        from: Option<Timestamp>,

        /// Only until this time, RFC 3339
        #[arg(long, value_name = "TIME")]
        to: Option<Timestamp>,

        #[command(flatten)]
        part: Part,
    },
}

const COLUMNS: &[Column] = &[
    column("at (UTC)", "/at", Kind::Time),
    column("actor", "/actor", Kind::Text),
    column("address", "/address", Kind::Text),
    column("action", "/action", Kind::Text),
    column("runtime", "/detail/runtime", Kind::Text),
    column("did", "/detail/action", Kind::Text),
    column("nodes", "/detail/nodes", Kind::Id),
    column("on", "/resource_type", Kind::Text),
    column("id", "/resource_id", Kind::Id),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let Verb::List { actor, action, node, from, to, part } = verb;
    let node = match node {
        Some(reference) => Some(session.node_id(&session.deployment().await?, reference).await?.to_string()),
        None => None,
    };
    let query = [
        ("actor", actor.clone()),
        ("action", action.clone()),
        ("node_id", node),
        ("from", from.map(|time| time.to_string())),
        ("to", to.map(|time| time.to_string())),
    ];
    session.list(&["audit"], &query, part, COLUMNS, ("entry", "entries")).await
}
