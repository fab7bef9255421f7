//! `warden ctl keys`.

use std::path::PathBuf;

use anyhow::ensure;
use clap::Subcommand;
use clap::builder::{PossibleValue, PossibleValuesParser};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::confirm::Confirmation;
use super::context::Session;
use super::pagination::Part;
use super::reference::Reference;
use super::table::{Column, Kind, column};
use crate::supervisor::store::keys::Permission;

/// List, create or delete API keys
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List the keys; none of their secrets
    List {
        #[command(flatten)]
        part: Part,
    },
    /// Create a key; its secret is shown once
    Create {
        /// Who or what will use it
        name: String,

        /// What it may do (repeat, or separate by commas)
        #[arg(
            long = "permission",
            value_name = "PERMISSION",
            required_unless_present = "administrator",
            value_delimiter = ',',
            value_parser = permissions()
        )]
        permissions: Vec<String>,

        /// It may do everything, in place of --permission
        #[arg(long, conflicts_with_all = ["permissions", "deployments"])]
        administrator: bool,

        /// Days until it expires, at most 365
        #[arg(long, value_name = "DAYS", default_value_t = 90)]
        days: u16,

        /// Address or network it may be used from, such as 10.0.0.0/8 (repeat; none: from anywhere)
        #[arg(long = "allow", value_name = "NETWORK", value_delimiter = ',')]
        allow_list: Vec<String>,

        /// Deployment it is limited to (repeat; none: all)
        #[arg(long = "only", value_name = "NAME|ID", value_delimiter = ',')]
        deployments: Vec<Reference>,

        /// Write the secret to this file, readable by you alone, instead of showing it
        #[arg(long, value_name = "FILE")]
        into: Option<PathBuf>,
    },
    /// Delete a key: it is void from now on
    Delete {
        /// Id of the key
        id: u64,

        #[command(flatten)]
        confirmation: Confirmation,
    },
}

/// What a key may live at most, by the API. In days.
const LONGEST_LIFE: u16 = 365;
const SECONDS_OF_A_DAY: i64 = 24 * 3600;

const COLUMNS: &[Column] = &[
    column("id", "/id", Kind::Id),
    column("name", "/name", Kind::Text),
    column("administrator", "/administrator", Kind::Text),
    column("permissions", "/permissions", Kind::Text),
    column("expires (UTC)", "/expires_at", Kind::Time),
    column("created (UTC)", "/created_at", Kind::Time),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    match verb {
        Verb::List { part } => session.list(&["api_keys"], &[], part, COLUMNS, ("key", "keys")).await,
        Verb::Create { name, permissions, administrator, days, allow_list, deployments, into } => {
            ensure!((1..=LONGEST_LIFE).contains(days), "a key lives 1 to {LONGEST_LIFE} days");
            let mut body = json!({
                "name": name,
                "permissions": permissions,
                "administrator": administrator,
                "expires_at": in_days(session.look.now, *days)?.to_string(),
            });
            if !allow_list.is_empty() {
                body["allow_list"] = Value::from(allow_list.as_slice());
            }
            if !deployments.is_empty() {
                let mut ids = Vec::new();
                for deployment in deployments {
                    ids.push(session.deployment_id(deployment).await?);
                }
                body["deployments"] = Value::from(ids);
            }
            let answer = session.client.post(&["api_keys"], &body).await?;
            session.secret(answer.body, "key", into.as_deref())
        }
        Verb::Delete { id, confirmation } => {
            let question = format!("Remove key {id}? Whoever uses it is refused from then on.");
            confirmation.ask(session, &question)?;
            session.client.delete(&["api_keys", &id.to_string()]).await?;
            session.done(&format!("key {id} removed"))
        }
    }
}

/// The permissions there are, each with what it is for.
fn permissions() -> PossibleValuesParser {
    let value = |permission: Permission| PossibleValue::new(permission.as_str()).help(permission.about());
    PossibleValuesParser::new(Permission::ALL.map(value))
}

fn in_days(now: Timestamp, days: u16) -> anyhow::Result<Timestamp> {
    // A minute less, so that a year by our clock is no more than a year by the Supervisor's.
    Ok(Timestamp::from_second(now.as_second() + i64::from(days) * SECONDS_OF_A_DAY - 60)?)
}
