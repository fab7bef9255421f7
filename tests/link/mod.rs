//! The link between node and Supervisor: real ends on a real network, and one that misbehaves.

mod agent;
mod enrolment;
mod fake;
mod hub;
pub mod node;
mod offers;
mod private_authority;
mod replicas;
mod site;
mod way;
mod whole;

use std::time::{Duration, Instant};

/// Far longer than anything waited for takes, so that only what never happens fails.
const PATIENCE: Duration = Duration::from_secs(120);

/// Asks until there is an answer.
async fn until<T>(what: &str, mut ask: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(began.elapsed() < PATIENCE, "waited {PATIENCE:?} in vain: {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
