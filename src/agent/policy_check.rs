//! Asks the policy of this host whether a request may be done. It is read anew each time, so that a change holds at
//! once, and whatever cannot be read or understood denies.

use std::path::{Path, PathBuf};

use warden_config::policy::{Asked, Done, decide, looks_back, rules};
use warden_protocol::Work;

use super::ledger::Ledger;

/// Actions that are counted for a rule, the newest: a rule that allows more allows everything.
const COUNTED: u32 = 10_000;

/// # Errors
/// It may not, and this is why.
pub async fn allows(path: &Path, ledger: &Ledger, asked: &Asked, now_ms: i64) -> Result<(), String> {
    let place: PathBuf = path.to_owned();
    let rules =
        tokio::task::spawn_blocking(move || rules(&place)).await.map_err(|error| error.to_string())?;
    let rules = rules.map_err(|error| format!("nothing is done on this host for now: {error:#}"))?;
    let mut done = Vec::new();
    if let Some(span) = looks_back(&rules) {
        let since = now_ms.saturating_sub(i64::try_from(span.as_millis()).unwrap_or(i64::MAX));
        let begun = ledger.begun_since(since, COUNTED).await;
        let begun = begun.map_err(|error| format!("what was done before cannot be counted: {error:#}"))?;
        done.extend(begun.into_iter().filter_map(|begun| {
            let Work::Activity { runtime, action } = begun.work else { return None };
            Some(Done { asked: Asked { runtime, action, author: begun.author }, at_ms: begun.at_ms })
        }));
    }
    decide(&rules, asked, &done, now_ms).map_err(|denied| denied.0)
}
