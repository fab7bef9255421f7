//! Keeps in memory only what an idle agent uses: code that its start or a request needed is given back.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::syscalls;

/// The start is over by then, and the first heartbeats are sent.
const FIRST: Duration = Duration::from_secs(30);
/// Rare enough to cost nothing, and often enough that what a request brought in does not stay.
const EVERY: Duration = Duration::from_secs(600);

pub async fn run(stop: CancellationToken) -> anyhow::Result<()> {
    let mut pause = FIRST;
    while stop.run_until_cancelled(tokio::time::sleep(pause)).await.is_some() {
        syscalls::let_go_of_code();
        pause = EVERY;
    }
    Ok(())
}
