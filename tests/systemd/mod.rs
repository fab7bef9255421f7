//! A real systemd, commanded.

mod actions;
mod automatic;
mod busless;
mod full;
mod killed;
mod node;
mod once;
mod privileges;
mod readings;
mod sandbox;

use crate::support::sandbox::Sandbox;

/// Makes a service that runs until it is stopped, and writes down each time it is started.
fn runs(sandbox: &Sandbox, unit: &str) {
    let script = "/bin/sh -c 'echo %n >> /run/starts; exec sleep 1000'";
    sandbox.unit(unit, &format!("[Service]\nExecStart={script}\nTimeoutStopSec=5\n"));
}

/// How often a service of [`runs`] was started.
fn counted(sandbox: &Sandbox, unit: &str) -> usize {
    sandbox.read("/run/starts").lines().filter(|line| *line == unit).count()
}
