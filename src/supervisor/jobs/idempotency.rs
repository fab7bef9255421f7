//! Forgets answers that are no longer replayed, and callers that no longer call.

use std::time::Duration;

use super::{Context, alone};
use crate::store::{Result, idempotency};

pub const NAME: &str = "idempotency";
pub const EVERY: Duration = Duration::from_secs(60);

pub async fn run(context: Context) -> Result<()> {
    context.api.tidy();
    let Some(mut change) = alone(&context, NAME).await? else { return Ok(()) };
    idempotency::forget(&mut change, context.now).await?;
    change.commit().await
}
