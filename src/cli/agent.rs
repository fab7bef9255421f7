//! `warden agent`: the daemon on a node.

use std::path::PathBuf;

use clap::Args;

use super::log;
use crate::agent::{self, Settings};
use crate::config::fragments;

/// Run the agent of this host
///
/// It links this host to its Supervisor and does what is asked of it and allowed here.
#[derive(Debug, Args)]
#[command(after_help = "\
Settings are in warden.toml and warden.d/*.toml, sections [agent] and [units]; what this host allows is in \
policy.toml. A host that is not enrolled yet waits for `warden enroll`.

Signals: SIGTERM and SIGINT end what runs, or leave it to be taken up again, and stop. While it runs, `warden status` \
tells how it is. What is logged: WARDEN_LOG=debug, or WARDEN_LOG=info,warden::agent=debug.

Exit status: 0 stopped when told to, 2 could not run.")]
pub struct Arguments {
    /// The folder of warden.toml
    #[arg(long, value_name = "FOLDER", default_value = fragments::FOLDER)]
    config: PathBuf,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let settings = Settings::load(&arguments.config)?;
    log::start();
    log::tell_unread(&arguments.config);
    agent::run(settings)?;
    Ok(0)
}
