//! The long-running parts of a process: each has a name, all stop together, and the first failure stops all.

use std::future::Future;
use std::panic;
use std::time::Duration;

use anyhow::Context;
use tokio::task::{JoinError, JoinSet};
use tokio_util::sync::CancellationToken;

/// A set of named tasks with one way to stop them.
#[derive(Debug, Default)]
pub struct Tasks {
    set: JoinSet<anyhow::Result<()>>,
    names: Vec<(tokio::task::Id, &'static str)>,
    stop: CancellationToken,
}

impl Tasks {
    /// Tasks that stop when `stop` is cancelled, by whomever.
    pub fn new(stop: CancellationToken) -> Tasks {
        Tasks { stop, ..Tasks::default() }
    }

    /// Starts one. It gets a token to watch, and returns soon after that is cancelled.
    pub fn spawn<F>(&mut self, name: &'static str, task: impl FnOnce(CancellationToken) -> F)
    where
        F: Future<Output = anyhow::Result<()>> + Send + 'static,
    {
        let handle = self.set.spawn(task(self.stop.child_token()));
        self.names.push((handle.id(), name));
    }

    /// Waits until all have ended. When one fails or panics, or when told to stop, the others get `grace` to end;
    /// what is still there then is cut off.
    ///
    /// # Errors
    /// The first failure, with the task's name; or what had to be cut off.
    pub async fn run(mut self, grace: Duration) -> anyhow::Result<()> {
        let stop = self.stop.clone();
        let mut outcome = Ok(());
        loop {
            tokio::select! {
                () = stop.cancelled() => break,
                ended = self.set.join_next_with_id() => match ended {
                    None => return Ok(()),
                    Some(ended) => {
                        outcome = self.named(ended);
                        if outcome.is_err() {
                            break;
                        }
                    }
                },
            }
        }
        stop.cancel();
        let left = tokio::time::timeout(grace, async {
            while let Some(ended) = self.set.join_next_with_id().await {
                let ended = self.named(ended);
                if outcome.is_ok() {
                    outcome = ended;
                }
            }
        });
        if left.await.is_err() && outcome.is_ok() {
            let names: Vec<_> = self.names.iter().map(|(_, name)| *name).collect();
            outcome = Err(anyhow::anyhow!("{} did not stop within {grace:?}", names.join(", ")));
        }
        self.set.shutdown().await;
        outcome
    }

    fn named(
        &mut self,
        ended: Result<(tokio::task::Id, anyhow::Result<()>), JoinError>,
    ) -> anyhow::Result<()> {
        let (id, result) = match ended {
            Ok((id, result)) => (id, result),
            Err(error) if error.is_panic() => {
                let id = error.id();
                let said = error.into_panic();
                let said = said.downcast_ref::<&str>().map(|said| (*said).to_owned());
                (id, Err(anyhow::anyhow!("panicked: {}", said.unwrap_or_else(|| "see above".to_owned()))))
            }
            Err(error) => (error.id(), Err(error.into())),
        };
        let at = self.names.iter().position(|(known, _)| *known == id);
        let name = at.map_or("a task", |at| self.names.swap_remove(at).1);
        result.with_context(|| format!("{name} failed"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Longer than any machine needs; the tests wait for conditions, not for it.
    const GENEROUS: Duration = Duration::from_secs(60);

    #[tokio::test]
    async fn tasks_that_end_well_end_the_set() {
        let mut tasks = Tasks::default();
        tasks.spawn("one", |_| async { Ok(()) });
        tasks.spawn("other", |_| async { Ok(()) });
        tasks.run(GENEROUS).await.unwrap();
    }

    #[tokio::test]
    async fn the_first_failure_stops_the_others_and_is_told_with_its_name() {
        let mut tasks = Tasks::default();
        tasks.spawn("link", |stop| async move {
            stop.cancelled().await;
            Ok(())
        });
        tasks.spawn("ledger", |_| async { anyhow::bail!("disk full") });
        assert_eq!(format!("{:#}", tasks.run(GENEROUS).await.unwrap_err()), "ledger failed: disk full");
    }

    #[tokio::test]
    async fn a_panic_is_a_failure() {
        let mut tasks = Tasks::default();
        tasks.spawn("link", |_| async { panic!("at the disco") });
        assert_eq!(
            format!("{:#}", tasks.run(GENEROUS).await.unwrap_err()),
            "link failed: panicked: at the disco"
        );
    }

    #[tokio::test]
    async fn what_does_not_stop_within_the_grace_is_cut_off_and_named() {
        let stop = CancellationToken::new();
        let mut tasks = Tasks::new(stop.clone());
        tasks.spawn("stubborn", |_| async {
            std::future::pending::<()>().await;
            Ok(())
        });
        stop.cancel();
        let error = tasks.run(Duration::from_millis(1)).await.unwrap_err();
        assert_eq!(error.to_string(), "stubborn did not stop within 1ms");
    }
}
