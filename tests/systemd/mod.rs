//! A real systemd, commanded.

mod actions;
mod automatic;
mod busless;
mod ends;
mod full;
mod killed;
mod node;
mod once;
mod privileges;
mod readings;
mod reasons;
mod sandbox;
mod told;

use crate::support::sandbox::Sandbox;

/// Makes a service that runs until it is stopped, and writes down each start before systemd calls it started.
fn runs(sandbox: &Sandbox, unit: &str) {
    let count = "/bin/sh -c 'echo %n >> /run/starts'";
    let service = format!("[Service]\nExecStartPre={count}\nExecStart=/bin/sleep 1000\nTimeoutStopSec=5\n");
    sandbox.unit(unit, &service);
}

/// How often a service of [`runs`] was started.
fn counted(sandbox: &Sandbox, unit: &str) -> usize {
    sandbox.read("/run/starts").lines().filter(|line| *line == unit).count()
}
