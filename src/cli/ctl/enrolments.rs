//! `warden ctl enrolments`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Subcommand;
use serde_json::{Map, Value};

use super::confirm::Confirmation;
use super::context::Session;
use super::pagination::Part;
use super::table::{Column, Kind, column};
use crate::cli::duration;

/// List, create or revoke the tokens by which hosts become nodes
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the enrolments; none of their tokens
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Create a token for one node, or for several; it is shown once
    Create {
        /// What the node will be called [default: its host name]
        #[arg(long, value_name = "NAME", conflicts_with = "nodes")]
        name: Option<String>,

        /// How many nodes it is good for, such as those of an autoscaling group: 1 to 1000
        #[arg(long, value_name = "COUNT", default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..=1000))]
        nodes: u32,

        /// How long it is good: 30m, 24h, 7d; at most 30d
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = valid)]
        valid: Duration,

        /// Write the token to this file, readable by you alone, instead of showing it
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Revoke a token: it is void from now on, and nodes that came by it stay
    #[command(visible_alias = "delete")]
    Revoke {
        /// Id of an enrolment, as `list` prints it
        #[arg(value_name = "ID")]
        id: u64,

        #[command(flatten)]
        confirmation: Confirmation,
    },
}

const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("name", "/name", Kind::Text),
    column("status", "/status", Kind::Status),
    column("nodes", "/used", Kind::Id),
    column("of", "/uses", Kind::Id),
    column("expires (UTC)", "/expires_at", Kind::Time),
    column("last used (UTC)", "/last_used_at", Kind::Time),
    column("created (UTC)", "/created_at", Kind::Time),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    let path = ["deployments", &*deployment, "enrolments"];
    match verb {
        Verb::List { part } => session.list(&path, &[], part, COLUMNS, ("enrolment", "enrolments")).await,
        Verb::Create { name, nodes, valid, into } => {
            let mut body = Map::new();
            body.insert("expires_in_seconds".to_owned(), Value::from(valid.as_secs()));
            body.extend((*nodes > 1).then(|| ("uses".to_owned(), Value::from(*nodes))));
            body.extend(name.as_ref().map(|name| ("name".to_owned(), Value::from(name.as_str()))));
            let answer = session.client.post(&path, &Value::Object(body)).await?;
            session.secret(answer.body, "token", into.as_deref())
        }
        Verb::Revoke { id, confirmation } => {
            confirmation.ask(session, &format!("Revoke enrolment {id}? Its token is void from then on."))?;
            session.client.delete(&[&path[..], &[&id.to_string()]].concat()).await?;
            session.done(&format!("enrolment {id} revoked"))
        }
    }
}

fn valid(text: &str) -> Result<Duration, String> {
    duration::parse(text, duration::MINUTE, 30 * duration::DAY, "30m, 24h or 7d")
}
