//! `warden ctl`: the Supervisor's API from a shell. One file a resource.

mod actions;
mod activities;
mod archive_files;
mod audit;
mod confirm;
mod context;
mod deployments;
mod download;
mod enrolments;
mod heartbeats;
mod interrupt;
mod keys;
mod nodes;
mod pagination;
mod profile;
mod progress;
mod reference;
mod runtime_actions;
mod snapshots;
mod table;
mod wait;

use clap::Subcommand;
pub use context::Access;

/// Command the nodes of a deployment through its Supervisor
///
/// Which Supervisor and which key: options, else the environment, else a profile (`warden ctl profile set`). The key
/// itself comes from WARDEN_API_KEY or from a file that is its owner's alone, never from an argument.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "Exit status: 0 when it was done; 1 when something was rejected (with --wait); 2 when the Supervisor \
                        could not be asked or refused.\n\n\
                        Answers 429 and 503 are waited for as long as the Supervisor says, two minutes in all. A call \
                        that is tried again is done once: it carries an idempotency-key."
)]
pub struct Arguments {
    #[command(flatten)]
    access: Access,

    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    #[command(subcommand)]
    Deployments(deployments::Verb),
    #[command(subcommand)]
    Nodes(nodes::Verb),
    #[command(subcommand)]
    Activities(activities::Verb),
    #[command(subcommand, alias = "snapshot")]
    Snapshots(snapshots::Verb),
    #[command(subcommand)]
    Actions(actions::Verb),
    #[command(subcommand)]
    Enrolments(enrolments::Verb),
    #[command(subcommand)]
    Keys(keys::Verb),
    #[command(subcommand)]
    Audit(audit::Verb),
    #[command(subcommand)]
    Heartbeats(heartbeats::Verb),
    /// Start a runtime on every node, or on some
    Start(runtime_actions::Arguments),
    /// Stop a runtime on every node, or on some
    Stop(runtime_actions::Arguments),
    /// Restart a runtime on every node, or on some
    Restart(runtime_actions::Arguments),
    #[command(subcommand)]
    Profile(profile::Verb),
}

pub fn run(arguments: &Arguments) -> anyhow::Result<u8> {
    let access = &arguments.access;
    if let Verb::Profile(verb) = &arguments.verb {
        return profile::run(access, verb);
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let session = access.session()?;
        match &arguments.verb {
            Verb::Deployments(verb) => deployments::run(&session, verb).await,
            Verb::Nodes(verb) => nodes::run(&session, verb).await,
            Verb::Activities(verb) => activities::run(&session, verb).await,
            Verb::Snapshots(verb) => snapshots::run(&session, verb).await,
            Verb::Actions(verb) => actions::run(&session, verb).await,
            Verb::Enrolments(verb) => enrolments::run(&session, verb).await,
            Verb::Keys(verb) => keys::run(&session, verb).await,
            Verb::Audit(verb) => audit::run(&session, verb).await,
            Verb::Heartbeats(verb) => heartbeats::run(&session, verb).await,
            Verb::Start(order) => runtime_actions::run(&session, "start", order).await,
            Verb::Stop(order) => runtime_actions::run(&session, "stop", order).await,
            Verb::Restart(order) => runtime_actions::run(&session, "restart", order).await,
            Verb::Profile(_) => Ok(0),
        }
    })
}
