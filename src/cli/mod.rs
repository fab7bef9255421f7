//! The command line: one file a verb. The only place that prints.

mod checks;
mod output;
mod plan;
mod progress;
mod snapshot;
mod summary;
mod terminal;

use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

/// Diagnoses the hosts of an Apache Iggy deployment.
#[derive(Debug, Parser)]
#[command(name = "warden", version, propagate_version = true, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    /// Diagnose this host and write a report
    Snapshot(snapshot::Arguments),
    /// List the checks, or explain one
    Checks(checks::Arguments),
}

/// It ran, and this is what it found or failed at. Usage errors are 2 as well.
const COULD_NOT_RUN: u8 = 2;

/// Parses the arguments of this process, does what they say, and returns the exit code.
pub fn run() -> ExitCode {
    let matches = Command::command().get_matches();
    let result = match Command::from_arg_matches(&matches) {
        Ok(command) => match command.verb {
            Verb::Snapshot(arguments) => snapshot::run(&arguments),
            Verb::Checks(arguments) => checks::run(&arguments),
        },
        Err(error) => Err(error.into()),
    };
    match result {
        Ok(code) => code,
        // Whoever read us went away (`warden checks | head`): that is no failure to tell them about.
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            terminal::error(&error);
            ExitCode::from(COULD_NOT_RUN)
        }
    }
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
