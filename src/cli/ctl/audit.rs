//! `warden ctl audit`.

use clap::Subcommand;

use super::list::Part;
use super::session::Session;
use super::table::{Column, Kind, column};

/// Who did what
#[derive(Debug, Subcommand)]
pub enum Verb {
    /// List what was done, the newest first
    List {
        #[command(flatten)]
        part: Part,
    },
}

const COLUMNS: &[Column] = &[
    column("at (UTC)", "/at", Kind::Time),
    column("actor", "/actor", Kind::Text),
    column("address", "/address", Kind::Text),
    column("action", "/action", Kind::Text),
    column("on", "/resource_type", Kind::Text),
    column("id", "/resource_id", Kind::Id),
];

pub async fn run(session: &Session, verb: &Verb) -> anyhow::Result<u8> {
    let Verb::List { part } = verb;
    session.list(&["audit"], &[], part, COLUMNS, ("entry", "entries")).await
}
