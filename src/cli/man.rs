//! `warden man`: the manual pages, written from the command line itself.

use std::io::Write;
use std::path::PathBuf;

use anyhow::{Context, bail};

/// Print a manual page, or write all of them
///
/// The packages install them; this is for where there is no package: warden man ctl restart | man -l -
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when it was written, 2 when there is no such page or it could not be written."
)]
pub struct Arguments {
    /// Verbs the page is about, such as `ctl restart` [default: the program as a whole]
    #[arg(value_name = "VERB")]
    verbs: Vec<String>,

    /// Write every page into this folder instead: warden.1, warden-ctl.1, warden-ctl-restart.1, ...
    #[arg(long, value_name = "FOLDER", conflicts_with = "verbs")]
    into: Option<PathBuf>,
}

/// `command` is the whole command line, as clap knows it.
pub fn run(arguments: &Arguments, command: clap::Command) -> anyhow::Result<u8> {
    // `help` is no verb of its own, and would have a page beside each page.
    let mut command = command.disable_help_subcommand(true);
    command.build();
    if let Some(folder) = &arguments.into {
        std::fs::create_dir_all(folder)
            .and_then(|()| clap_mangen::generate_to(command, folder))
            .with_context(|| format!("cannot write the pages into {}", folder.display()))?;
        return Ok(0);
    }
    for verb in &arguments.verbs {
        let Some(found) = command.find_subcommand(verb) else {
            bail!("there is no page for `{verb}`; see: warden --help");
        };
        command = found.clone();
    }
    let mut text = Vec::new();
    clap_mangen::Man::new(command).render(&mut text)?;
    std::io::stdout().lock().write_all(&text)?;
    Ok(0)
}
