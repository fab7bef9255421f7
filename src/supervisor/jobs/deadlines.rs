//! Ends activities whose deadline passed.

use std::time::Duration;

use super::{Context, alone};
use crate::store::{Result, activities};

pub const NAME: &str = "deadlines";
/// An activity may end this much after its deadline.
pub const EVERY: Duration = Duration::from_secs(1);

pub async fn run(context: Context) -> Result<()> {
    loop {
        let overdue =
            activities::overdue(&context.store, context.now, context.limits.deadline_grace_ms).await?;
        if overdue.is_empty() {
            return Ok(());
        }
        let Some(mut change) = alone(&context, NAME).await? else { return Ok(()) };
        let rejected = activities::reject_overdue(&mut change, &overdue, context.now).await?;
        change.commit().await?;
        tracing::info!(rejected, "{rejected} activities were not done by their deadline");
        // Of a snapshot that came to nothing, nothing stays.
        for (activity, _) in &overdue {
            context.api.uploads.ended(*activity, context.now).await;
        }
        if rejected == 0 {
            return Ok(());
        }
    }
}
