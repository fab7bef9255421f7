//! `warden ctl deployments`.

use clap::Subcommand;
use serde_json::json;

use super::list::Part;
use super::session::Session;
use super::table::{Column, Kind, column};

/// List, show or make deployments
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the deployments this key may see
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Show one
    Show { id: u64 },
    /// Make one; prints its id
    Create { name: String },
}

const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("name", "/name", Kind::Text),
    column("created (UTC)", "/created_at", Kind::Time),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::List { part } => {
            session.list(&["deployments"], &[], part, COLUMNS, ("deployment", "deployments")).await
        }
        Verb::Show { id } => {
            let deployment = session.client.get(&["deployments", &id.to_string()], &[]).await?;
            session.show(&deployment, COLUMNS)
        }
        Verb::Create { name } => {
            let answer = session.client.post(&["deployments"], &json!({ "name": name })).await?;
            session.created(&answer, "ld-deployment")
        }
    }
}
