//! `warden ctl enrolments`.

use std::path::PathBuf;

use clap::Subcommand;
use serde_json::{Map, Value};

use super::session::Session;

/// Make one-time tokens by which nodes enrol
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// Make one; it is shown once, and good for one node
    Create {
        /// What the node will be called [default: its host name]
        #[arg(long)]
        name: Option<String>,

        /// How long it is good, in minutes
        #[arg(long, value_name = "MINUTES", default_value_t = 60)]
        minutes: u32,

        /// Write the token to this file, readable by you alone, instead of showing it
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
}

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let deployment = session.deployment().await?;
    let Verb::Create { name, minutes, into } = verb;
    let mut body = Map::new();
    body.insert("expires_in_seconds".to_owned(), Value::from(u64::from(*minutes) * 60));
    if let Some(name) = name {
        body.insert("name".to_owned(), Value::from(name.as_str()));
    }
    let path = ["deployments", &*deployment, "enrolments"];
    let answer = session.client.post(&path, &Value::Object(body)).await?;
    session.secret(answer.body, "token", into.as_deref())
}
