//! `warden ctl deployments`.

use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Map, Value, json};

use super::confirm::{self, Confirmation};
use super::context::Session;
use super::pagination::Part;
use super::reference::Reference;
use super::runtime_actions::label;
use super::table::{Column, Kind, column};

/// List, show, create, update or delete deployments
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the deployments that this key may see
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Show a deployment
    Show {
        /// Name or id of a deployment
        #[arg(value_name = "DEPLOYMENT")]
        reference: Reference,
    },
    /// Create a deployment, and print its id
    Create {
        /// Name of the deployment
        #[arg(value_name = "NAME")]
        name: String,

        /// How many snapshots are kept, and how long
        #[arg(long, value_enum, default_value_t = Plan::Basic)]
        plan: Plan,
    },
    /// Rename a deployment, or change its plan
    ///
    /// A smaller plan removes snapshots that are older than it keeps, and takes no new ones while there are more than it
    /// keeps.
    Update(Update),
    /// Delete a deployment with its snapshots and enrolments
    Delete {
        /// Name or id of a deployment
        #[arg(value_name = "DEPLOYMENT")]
        reference: Reference,

        /// Remove its nodes as well; what runs on them goes on running
        #[arg(long)]
        force: bool,

        #[command(flatten)]
        confirmation: Confirmation,
    },
}

#[derive(Debug, Args)]
#[group(skip)]
pub struct Update {
    /// Name or id of a deployment
    #[arg(value_name = "DEPLOYMENT")]
    reference: Reference,

    /// New name
    #[arg(long, value_name = "NAME", required_unless_present = "plan")]
    name: Option<String>,

    /// New plan: how many snapshots are kept, and how long
    #[arg(long, value_enum)]
    plan: Option<Plan>,

    #[command(flatten)]
    confirmation: Confirmation,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, ValueEnum)]
pub enum Plan {
    /// 3 snapshots, 7 days
    Basic,
    /// 5 snapshots, 14 days
    Pro,
    /// 20 snapshots, 90 days
    Enterprise,
}

impl Plan {
    fn word(self) -> &'static str {
        match self {
            Plan::Basic => "basic",
            Plan::Pro => "pro",
            Plan::Enterprise => "enterprise",
        }
    }

    /// Snapshots that are kept, and days.
    fn keeps(self) -> (u32, u32) {
        match self {
            Plan::Basic => (3, 7),
            Plan::Pro => (5, 14),
            Plan::Enterprise => (20, 90),
        }
    }
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
            let body = json!({ "name": name, "plan": plan.word() });
            let answer = session.client.post(&["deployments"], &body).await?;
            session.created(&answer, "ld-deployment")
        }
        Verb::Update(order) => update(session, order).await,
        Verb::Delete { reference, force, confirmation } => {
            let id = session.deployment_id(reference).await?.to_string();
            if confirmation.asks() {
                confirmation.ask(session, &deletion(session, &id, reference, *force).await?)?;
            }
            let query = if *force { vec![("force", "true".to_owned())] } else { Vec::new() };
            session.client.delete_with(&["deployments", &id], &query).await?;
            session.done(&format!("deployment {id} deleted"))
        }
    }
}

async fn update(session: &Session, order: &Update) -> anyhow::Result<u8> {
    let id = session.deployment_id(&order.reference).await?.to_string();
    let path = ["deployments", &*id];
    if let Some(plan) = order.plan
        && order.confirmation.asks()
    {
        let before = session.client.get(&path, &[]).await?;
        let before = before["plan"].as_str().and_then(|word| Plan::from_str(word, false).ok());
        if before.is_some_and(|before| plan < before) {
            let ((kept, days), word) = (plan.keeps(), plan.word());
            let question = format!(
                "Change the plan of {} to {word}? It keeps {kept} snapshots; those older than {days} days are removed.",
                order.reference
            );
            order.confirmation.ask(session, &question)?;
        }
    }
    let mut body = Map::new();
    body.extend(order.name.as_ref().map(|name| ("name".to_owned(), Value::from(name.as_str()))));
    body.extend(order.plan.map(|plan| ("plan".to_owned(), Value::from(plan.word()))));
    let answer = session.client.patch(&path, &Value::Object(body)).await?;
    session.show(&answer.body, COLUMNS)
}

async fn deletion(session: &Session, id: &str, reference: &Reference, force: bool) -> anyhow::Result<String> {
    let what = format!("Delete deployment {reference} with its snapshots and enrolments");
    let nodes = session.all(&["deployments", id, "nodes"], &[]).await?.items;
    if !force || nodes.is_empty() {
        return Ok(format!("{what}?"));
    }
    let labels: Vec<String> = nodes.iter().map(|node| label(&node["id"], &nodes)).collect();
    Ok(format!("{what}, and remove {}? They must enroll again.", confirm::nodes(&labels)))
}
