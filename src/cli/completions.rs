//! `warden completions`: what a shell needs to complete our verbs and options.

use std::io::Write;

use clap::ValueEnum;
use clap_complete::aot;

/// Print completions for a shell
///
/// The packages install them. By hand, for bash:
/// warden completions bash > ~/.local/share/bash-completion/completions/warden
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0.")]
pub struct Arguments {
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// `command` is the whole command line, as clap knows it.
pub fn run(arguments: &Arguments, mut command: clap::Command) -> anyhow::Result<u8> {
    let mut text = Vec::new();
    match arguments.shell {
        Shell::Bash => aot::generate(aot::Bash, &mut command, "warden", &mut text),
        Shell::Zsh => aot::generate(aot::Zsh, &mut command, "warden", &mut text),
        Shell::Fish => aot::generate(aot::Fish, &mut command, "warden", &mut text),
    }
    std::io::stdout().lock().write_all(&text)?;
    Ok(0)
}
