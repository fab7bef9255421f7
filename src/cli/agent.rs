//! `warden agent`: the daemon on a node.

use std::path::PathBuf;

use clap::Args;
use jiff::Timestamp;

use super::reload::{OF_AGENT, Reload};
use super::{doctor, logging};
use crate::agent::doctor::check_configuration;
use crate::agent::{self, Settings};
use crate::config::fragments;

/// Run the agent of this host
///
/// It links this host to its Supervisor and does what is asked of it and allowed here.
#[derive(Debug, Args)]
#[command(after_help = "\
Settings are in warden.toml and warden.d/*.toml, sections [agent] and [units]; what this host allows is in \
policy.toml. A host that is not enrolled yet waits for `warden enroll`.

Signals: SIGTERM and SIGINT end what runs, or leave it to be taken up again, and stop. SIGHUP (systemctl reload warden) \
reads the configuration anew: agent.log is taken up, and the log names what was changed and needs a restart. Certificates \
are read for each connection and the policy for each request, without any signal. While it runs, `warden status` tells \
how it is. What is logged: agent.log of the configuration, or WARDEN_LOG=info,warden::agent=debug, which goes before.

Exit status: 0 stopped when told to, 2 could not run; with --check-config 0 when nothing is wrong, 1 when something is.")]
pub struct Arguments {
    /// The folder of warden.toml
    #[arg(long, value_name = "FOLDER", default_value = fragments::FOLDER)]
    config: PathBuf,

    /// Look at the configuration, the policy and the certificates they name, tell everything that is wrong, and end
    #[arg(long)]
    check_config: bool,
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    if arguments.check_config {
        return doctor::tell(&check_configuration(&arguments.config, Timestamp::now().as_second()));
    }
    let settings = Settings::load(&arguments.config)?;
    logging::start(&settings.log);
    logging::tell_unread(&arguments.config);
    let folder = arguments.config.clone();
    agent::run(settings, |stop| {
        let reload = Reload::new(&folder, OF_AGENT)?;
        Ok(reload.run(move || Ok(Settings::load(&folder)?.log), stop))
    })?;
    Ok(0)
}
