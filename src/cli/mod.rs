//! The command line: one file a verb. The only place that prints.

mod agent;
mod agent_args;
mod audit;
mod backup;
mod checks;
mod child_process;
mod compare_output;
mod completions;
mod ctl;
mod diff;
mod doctor;
mod duration;
mod enroll;
mod fleet;
mod help;
mod iggy_data;
mod inspect;
mod inspect_text;
mod json_ids;
mod logging;
mod man;
mod output_file;
mod plan;
mod progress;
mod reload;
mod sign_encrypt;
mod snapshot;
mod stall_watchdog;
mod status;
mod summary;
mod supervisor;
mod terminal;
mod up;
mod verify;

use std::io::Write;
use std::process::ExitCode;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand};

use crate::syscalls;

/// Diagnose and command the hosts of an Apache Iggy deployment
#[derive(Debug, Parser)]
#[command(name = "warden", version, propagate_version = true, max_term_width = 100)]
struct Command {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Snapshot(snapshot::Arguments),
    Inspect(inspect::Arguments),
    Checks(checks::Arguments),
    Verify(verify::Arguments),
    Diff(diff::Arguments),
    Fleet(fleet::Arguments),
    Agent(agent::Arguments),
    Audit(audit::Arguments),
    Enroll(enroll::Arguments),
    Supervisor(supervisor::Command),
    Up(up::Arguments),
    Status(status::Arguments),
    Doctor(doctor::Arguments),
    Ctl(ctl::Arguments),
    Completions(completions::Arguments),
    Man(man::Arguments),
}

/// It ran, and this is what it found or failed at. Usage errors are 2 as well.
const COULD_NOT_RUN: u8 = 2;

/// Parses the arguments of this process, does what they say, and returns the exit code.
pub fn run() -> ExitCode {
    syscalls::give_memory_back();
    let mut line = help::grouped(Command::command());
    let matches = line.clone().get_matches();
    let command = Command::from_arg_matches(&matches).unwrap_or_else(|error| error.format(&mut line).exit());
    let result = match &command.verb {
        Verb::Snapshot(arguments) => snapshot::run(arguments),
        Verb::Inspect(arguments) => inspect::run(arguments),
        Verb::Checks(arguments) => checks::run(arguments),
        Verb::Verify(arguments) => verify::run(arguments),
        Verb::Diff(arguments) => diff::run(arguments),
        Verb::Fleet(arguments) => fleet::run(arguments),
        Verb::Agent(arguments) => agent::run(arguments),
        Verb::Audit(arguments) => audit::run(arguments),
        Verb::Enroll(arguments) => enroll::run(arguments),
        Verb::Supervisor(arguments) => supervisor::run(arguments),
        Verb::Up(arguments) => up::run(arguments),
        Verb::Status(arguments) => status::run(arguments),
        Verb::Doctor(arguments) => doctor::run(arguments),
        Verb::Ctl(arguments) => ctl::run(arguments),
        Verb::Completions(arguments) => completions::run(arguments, Command::command()),
        Verb::Man(arguments) => man::run(arguments, Command::command()),
    };
    let result = result.and_then(|code| std::io::stdout().flush().map(|()| code).map_err(Into::into));
    let code = match result {
        Ok(code) => code,
        // Whoever read us went away (`warden checks | head`): that is no failure to tell them about.
        Err(error) if is_broken_pipe(&error) => 0,
        Err(error) => {
            terminal::error(&error);
            COULD_NOT_RUN
        }
    };
    if matches!(&command.verb, Verb::Snapshot(arguments) if arguments.in_child) {
        child_process::tell(code);
    }
    ExitCode::from(code)
}

fn is_broken_pipe(error: &anyhow::Error) -> bool {
    let io = error.chain().find_map(|cause| cause.downcast_ref::<std::io::Error>());
    io.is_some_and(|error| error.kind() == std::io::ErrorKind::BrokenPipe)
}
