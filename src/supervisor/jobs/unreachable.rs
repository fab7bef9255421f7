//! Marks nodes that are not connected any more or fell silent.

use std::time::Duration;

use super::{Context, alone};
use crate::store::{Result, nodes};

pub const NAME: &str = "unreachable";
pub const EVERY: Duration = Duration::from_secs(5);

pub async fn run(context: Context) -> Result<()> {
    let Some(mut change) = alone(&context, NAME).await? else { return Ok(()) };
    let orphans = nodes::unlink_orphans(&mut change, context.now).await?;
    let silent = nodes::mark_unreachable(&mut change, context.now).await?;
    change.commit().await?;
    if orphans > 0 {
        tracing::info!(
            orphans,
            "a Supervisor has ended: its nodes are unreachable unless they connect again"
        );
    }
    for (node, name) in silent {
        let (gone, silent) = (nodes::RECONNECT_GRACE_MS / 1000, nodes::UNREACHABLE_AFTER_MS / 1000);
        tracing::warn!(
            node,
            name,
            "node {name:?} is unreachable: not connected for {gone} s, or silent for {silent} s"
        );
    }
    Ok(())
}
