//! Keeps what grows within its bounds: heartbeats, actions, audit, used tokens.

use std::time::Duration;

use super::{Context, alone};
use crate::store::{Result, activities, audit, enrolments, heartbeats};

const DAY_MS: i64 = 24 * 3_600_000;
/// Actions that ended, with their activities and events: a quarter, as incidents are reviewed.
const ACTIONS_KEPT_MS: i64 = 90 * DAY_MS;
/// Who did what: a year, as auditors ask.
const AUDIT_KEPT_MS: i64 = 365 * DAY_MS;
/// Enrolment tokens after they ended, to tell that one was used.
const ENROLMENTS_KEPT_MS: i64 = 7 * DAY_MS;
/// Actions removed at once: short transactions let others write in between.
const ACTIONS_AT_ONCE: i64 = 200;

pub const NAME: &str = "history";
pub const EVERY: Duration = Duration::from_secs(60);

pub async fn run(context: Context) -> Result<()> {
    loop {
        let Some(mut change) = alone(&context, NAME).await? else { return Ok(()) };
        let now = context.now;
        let thinned = heartbeats::thin(&mut change, now).await?;
        let forgotten = activities::forget(&mut change, now - ACTIONS_KEPT_MS, ACTIONS_AT_ONCE).await?;
        audit::forget(&mut change, now - AUDIT_KEPT_MS).await?;
        enrolments::forget(&mut change, now - ENROLMENTS_KEPT_MS).await?;
        change.commit().await?;
        if thinned == 0 && forgotten == 0 {
            return Ok(());
        }
    }
}
