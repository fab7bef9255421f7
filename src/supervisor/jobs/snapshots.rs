//! Lets snapshots go: those older than their plan keeps, and archives nobody knows any more.

use std::time::Duration;

use super::{Context, alone};
use crate::store::{Result, snapshots};

pub const NAME: &str = "snapshots";
pub const EVERY: Duration = Duration::from_secs(60);

pub async fn run(context: Context) -> Result<()> {
    let Some(mut change) = alone(&context, NAME).await? else { return Ok(()) };
    let expired = snapshots::expire(&mut change, context.now).await?;
    change.commit().await?;
    if expired > 0 {
        tracing::info!(expired, "snapshots older than their plan keeps are removed");
    }
    // Not in the transaction: an object store may take its time. Two replicas that remove the same do no harm.
    context.api.uploads.remove_archives(context.now).await
}
