//! `warden ctl deployments`.

use clap::{Subcommand, ValueEnum};
use serde_json::json;

use super::list::Part;
use super::reference::Reference;
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
    Show {
        /// Name or id
        #[arg(value_name = "DEPLOYMENT")]
        reference: Reference,
    },
    /// Make one; prints its id
    Create {
        name: String,

        /// How many snapshots are kept, and how long
        #[arg(long, value_enum, default_value_t = Plan::Basic)]
        plan: Plan,
    },
}

#[derive(Debug, Clone, Copy, ValueEnum)]
pub enum Plan {
    /// 3 snapshots, 7 days
    Basic,
    /// 5 snapshots, 14 days
    Pro,
    /// 20 snapshots, 90 days
    Enterprise,
}

const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("name", "/name", Kind::Text),
    column("plan", "/plan", Kind::Text),
    column("created (UTC)", "/created_at", Kind::Time),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::List { part } => {
            session.list(&["deployments"], &[], part, COLUMNS, ("deployment", "deployments")).await
        }
        Verb::Show { reference } => {
            let id = session.deployment_id(reference).await?;
            let deployment = session.client.get(&["deployments", &id.to_string()], &[]).await?;
            session.show(&deployment, COLUMNS)
        }
        Verb::Create { name, plan } => {
            let plan = match plan {
                Plan::Basic => "basic",
                Plan::Pro => "pro",
                Plan::Enterprise => "enterprise",
            };
            let body = json!({ "name": name, "plan": plan });
            let answer = session.client.post(&["deployments"], &body).await?;
            session.created(&answer, "ld-deployment")
        }
    }
}
