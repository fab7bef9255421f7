//! What the Supervisor does by itself, again and again. One file a job.
//!
//! On PostgreSQL any replica may run a job, but one at a time: each run takes the job's advisory lock for its
//! transaction, and is skipped where another holds it.

mod deadlines;
mod heartbeats;
mod idempotency;
mod retention;
mod snapshots;
mod unreachable;

use std::time::Duration;

use futures_util::future::BoxFuture;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use warden_platform::task_set::Tasks;

use super::Clock;
use super::http::Api;
use super::settings::Limits;
use super::store::{self, Change, Store};

/// A job: its name, how often it runs, and one run of it.
struct Job {
    name: &'static str,
    every: Duration,
    run: fn(Context) -> BoxFuture<'static, store::Result<()>>,
}

#[derive(Clone)]
struct Context {
    store: Store,
    api: Api,
    limits: Limits,
    now: i64,
}

macro_rules! jobs {
    ($($job:ident),* $(,)?) => {
        [$(Job { name: $job::NAME, every: $job::EVERY, run: |context| Box::pin($job::run(context)) }),*]
    };
}

const JOBS: [Job; 6] = jobs![heartbeats, deadlines, unreachable, idempotency, snapshots, retention];

/// Starts every job.
pub fn start(tasks: &mut Tasks, store: &Store, api: &Api, limits: Limits, clock: &Clock) {
    for job in &JOBS {
        let (store, api, clock) = (store.clone(), api.clone(), Clock::clone(clock));
        tasks.spawn(job.name, move |stop| repeat(job, store, api, limits, clock, stop));
    }
}

async fn repeat(
    job: &'static Job,
    store: Store,
    api: Api,
    limits: Limits,
    clock: Clock,
    stop: CancellationToken,
) -> anyhow::Result<()> {
    let mut ticks = interval(job.every);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut failing = false;
    loop {
        let last = tokio::select! {
            _ = ticks.tick() => false,
            () = stop.cancelled() => true,
        };
        let context = Context { store: store.clone(), api: api.clone(), limits, now: clock() };
        match (job.run)(context).await {
            Ok(()) if failing => {
                failing = false;
                tracing::info!(job = job.name, "the job {} works again", job.name);
            }
            Ok(()) => {}
            // Told once; a store that fails now fails for everybody.
            Err(error) if !failing => {
                failing = true;
                tracing::error!(job = job.name, %error, "the job {} fails", job.name);
            }
            Err(_) => {}
        }
        if last {
            return Ok(());
        }
    }
}

/// A transaction in which no other replica runs the same job; none when one does.
async fn alone(context: &Context, job: &str) -> store::Result<Option<Change>> {
    let mut change = context.store.change().await?;
    Ok(if change.lock(job).await? { Some(change) } else { None })
}
