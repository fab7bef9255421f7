//! `warden completions`: what a shell needs to complete our verbs, options and values.

use std::io::Write;

use clap::builder::PossibleValuesParser;
use clap::{Command, ValueEnum};
use clap_complete::aot;
use warden_checks::CHECKS;
use warden_host::Area;

/// Print completions for a shell
///
/// The packages install them. By hand, for bash:
///
///   warden completions bash > ~/.bash_completion.d/warden
#[derive(Debug, clap::Args)]
#[command(after_help = "Exit status: 0.")]
pub struct Arguments {
    /// Shell to print them for
    #[arg(value_enum)]
    shell: Shell,
}

#[derive(Debug, Clone, Copy, ValueEnum)]
enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// Runtimes that a word names; those of single connectors have names of their own.
const RUNTIMES: [&str; 2] = ["iggy", "connectors"];
/// Stands for the names of profiles until the shell asks for them.
const PROFILES: &str = "__warden_profiles__";
/// Prints them, a line each.
const LIST_PROFILES: &str = "warden ctl profile list --names 2>/dev/null";

/// `command` is the whole command line, as clap knows it.
pub fn run(arguments: &Arguments, command: Command) -> anyhow::Result<u8> {
    let mut command = with_values(command);
    let mut text = Vec::new();
    match arguments.shell {
        Shell::Bash => aot::generate(aot::Bash, &mut command, "warden", &mut text),
        Shell::Zsh => aot::generate(aot::Zsh, &mut command, "warden", &mut text),
        Shell::Fish => aot::generate(aot::Fish, &mut command, "warden", &mut text),
    }
    let text = asking_for_profiles(&String::from_utf8(text)?, arguments.shell);
    std::io::stdout().lock().write_all(text.as_bytes())?;
    Ok(0)
}

/// The same command line, where arguments that take any text know what is usual.
fn with_values(command: Command) -> Command {
    let checks = || Area::ALL.iter().map(|area| area.name()).chain(CHECKS.iter().map(|check| check.id));
    let checks: Vec<&'static str> = checks().collect();
    let command = known(command, &["snapshot"], "only", &checks);
    let command = known(command, &["snapshot"], "skip", &checks);
    let command = known(command, &["checks", "explain"], "names", &checks);
    let command = known(command, &["ctl", "snapshots", "create"], "only", &checks);
    let places =
        [["start", ""], ["stop", ""], ["restart", ""], ["activities", "list"], ["heartbeats", "show"]];
    let command = places.iter().fold(command, |command, [noun, verb]| {
        let path =
            [&["ctl", noun][..], if verb.is_empty() { &[] } else { std::slice::from_ref(verb) }].concat();
        known(command, &path, "runtime", &RUNTIMES)
    });
    let command = known(command, &["ctl"], "profile", &[PROFILES]);
    let command = known(command, &["ctl", "profile", "use"], "name", &[PROFILES]);
    known(command, &["ctl", "profile", "set"], "name", &[PROFILES])
}

fn known(command: Command, path: &[&str], argument: &'static str, values: &[&'static str]) -> Command {
    match path {
        [] => command.mut_arg(argument, |argument| argument.value_parser(PossibleValuesParser::new(values))),
        [verb, rest @ ..] => command.mut_subcommand(*verb, |below| known(below, rest, argument, values)),
    }
}

/// Where the shell evaluates what it completes, the names of profiles come from the program.
fn asking_for_profiles(text: &str, shell: Shell) -> String {
    match shell {
        Shell::Bash => text.replace(PROFILES, &format!("$({LIST_PROFILES})")),
        Shell::Zsh => text.replace(&format!("({PROFILES})"), &format!("{{compadd -- $({LIST_PROFILES})}}")),
        Shell::Fish => text.replace(&format!("{PROFILES}\\t''"), &format!("({LIST_PROFILES})")),
    }
}
