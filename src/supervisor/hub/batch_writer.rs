//! Writes what nodes tell into the store, many at once: one sync of the disk is for all that came meanwhile.

use std::time::Duration;

use tokio::sync::{mpsc, oneshot};
use tokio_util::sync::CancellationToken;
use warden_protocol::{Finished, Hello};

use crate::Clock;
use crate::store::nodes::{self, Told};
use crate::store::{self, Notice, Store, activities};

/// What one transaction takes: enough that the disk's sync is a small share, and over in a moment.
const AT_ONCE: usize = 256;
/// What may wait to be written; then the connections wait too, and stop reading.
const WAITING: usize = 1024;
/// After a transaction failed as a whole: each part of it is tried by itself, no faster than this.
const ONE_BY_ONE: Duration = Duration::from_millis(5);

/// The store did not take it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Unwritten(String);

type Answer<T> = oneshot::Sender<Result<T, Unwritten>>;

/// Something to be written.
enum Note {
    Hello {
        told: Box<Told>,
        done: Answer<()>,
    },
    /// Done tells whether it is the caller's to send.
    Delivered {
        activity: u64,
        done: Answer<bool>,
    },
    Accepted {
        node: u64,
        activity: u64,
    },
    Progress {
        node: u64,
        activity: u64,
        step: String,
    },
    Finished {
        node: u64,
        finished: Box<Finished>,
        done: Answer<()>,
    },
}

/// Takes notes, and waits for them to be on disk where it matters.
#[derive(Clone)]
pub struct Scribe {
    notes: mpsc::Sender<Note>,
}

/// What the scribe has not written yet.
pub struct Notes(mpsc::Receiver<Note>);

pub fn scribe() -> (Scribe, Notes) {
    let (notes, waiting) = mpsc::channel(WAITING);
    (Scribe { notes }, Notes(waiting))
}

impl Scribe {
    /// `arrived` is told to all Supervisors when it is written.
    pub async fn hello(&self, node: u64, hello: Hello, arrived: Notice) -> Result<(), Unwritten> {
        let told = Box::new(Told { node, hello, arrived });
        self.write(|done| Note::Hello { told, done }).await
    }

    pub async fn delivered(&self, activity: u64) -> Result<bool, Unwritten> {
        self.write(|done| Note::Delivered { activity, done }).await
    }

    /// Nobody waits for this to be on disk: the node will tell how it ends.
    pub async fn accepted(&self, node: u64, activity: u64) {
        let _ = self.notes.send(Note::Accepted { node, activity }).await;
    }

    pub async fn progress(&self, node: u64, activity: u64, step: String) {
        let _ = self.notes.send(Note::Progress { node, activity, step }).await;
    }

    pub async fn finished(&self, node: u64, finished: Finished) -> Result<(), Unwritten> {
        self.write(|done| Note::Finished { node, finished: Box::new(finished), done }).await
    }

    async fn write<T>(&self, note: impl FnOnce(Answer<T>) -> Note) -> Result<T, Unwritten> {
        let (done, written) = oneshot::channel();
        let stopped = || Unwritten("the Supervisor stops".to_owned());
        self.notes.send(note(done)).await.map_err(|_| stopped())?;
        written.await.unwrap_or_else(|_| Err(stopped()))
    }
}

impl Notes {
    /// Writes until told to stop, and then what is still waiting.
    pub async fn write(mut self, store: Store, clock: Clock, stop: CancellationToken) {
        let mut notes = Vec::with_capacity(AT_ONCE);
        loop {
            let took = tokio::select! {
                biased;
                took = self.0.recv_many(&mut notes, AT_ONCE) => took,
                () = stop.cancelled() => 0,
            };
            if took == 0 {
                return;
            }
            Batch::of(notes.drain(..)).write(&store, clock()).await;
        }
    }
}

/// Notes by kind, each kind by the id of its row: transactions that lock in one order do not wait for each other.
#[derive(Default)]
struct Batch {
    hellos: Vec<(Box<Told>, Answer<()>)>,
    delivered: Vec<(u64, Answer<bool>)>,
    accepted: Vec<(u64, u64)>,
    progress: Vec<(u64, u64, String)>,
    finished: Vec<(u64, Box<Finished>, Answer<()>)>,
}

impl Batch {
    fn of(notes: impl Iterator<Item = Note>) -> Batch {
        let mut batch = Batch::default();
        for note in notes {
            match note {
                Note::Hello { told, done } => batch.hellos.push((told, done)),
                Note::Delivered { activity, done } => batch.delivered.push((activity, done)),
                Note::Accepted { node, activity } => batch.accepted.push((node, activity)),
                Note::Progress { node, activity, step } => batch.progress.push((node, activity, step)),
                Note::Finished { node, finished, done } => batch.finished.push((node, finished, done)),
            }
        }
        batch.hellos.sort_by_key(|(told, _)| told.node);
        batch.delivered.sort_by_key(|(activity, _)| *activity);
        batch.accepted.sort_by_key(|(_, activity)| *activity);
        batch.progress.sort_by_key(|(_, activity, _)| *activity);
        batch.finished.sort_by_key(|(_, finished, _)| finished.request);
        batch
    }

    async fn write(self, store: &Store, now: i64) {
        hellos(store, self.hellos, now).await;
        delivered(store, self.delivered, now).await;
        if !self.accepted.is_empty()
            && let Err(error) = activities::accepted_all(store, &self.accepted, now).await
        {
            tracing::warn!(%error, "that nodes took their requests is not written");
        }
        for (node, activity, step) in self.progress {
            if let Err(error) = activities::progress(store, node, activity, &step, now).await {
                tracing::warn!(node, request = activity, %error, "a step of a request is not written");
            }
        }
        finished(store, self.finished, now).await;
    }
}

async fn hellos(store: &Store, notes: Vec<(Box<Told>, Answer<()>)>, now: i64) {
    let told: Vec<&Told> = notes.iter().map(|(told, _)| &**told).collect();
    let written = if told.is_empty() { return } else { nodes::arrived(store, &told, now).await };
    for (told, done) in notes {
        let written = match &written {
            Ok(()) => Ok(()),
            Err(_) => one(nodes::arrived(store, &[&told], now)).await,
        };
        let _ = done.send(written);
    }
}

async fn delivered(store: &Store, notes: Vec<(u64, Answer<bool>)>, now: i64) {
    let ids: Vec<u64> = notes.iter().map(|(activity, _)| *activity).collect();
    let written = if ids.is_empty() { return } else { activities::delivered_all(store, &ids, now).await };
    for (activity, done) in notes {
        let written = match &written {
            Ok(ours) => Ok(ours.binary_search(&activity).is_ok()),
            Err(_) => one(activities::delivered(store, activity, now)).await,
        };
        let _ = done.send(written);
    }
}

async fn finished(store: &Store, notes: Vec<(u64, Box<Finished>, Answer<()>)>, now: i64) {
    let told: Vec<(u64, &Finished)> = notes.iter().map(|(node, finished, _)| (*node, &**finished)).collect();
    let written = if told.is_empty() { return } else { activities::finished_all(store, &told, now).await };
    for (node, finished, done) in notes {
        let written = match &written {
            Ok(()) => Ok(()),
            Err(_) => one(activities::finished(store, node, &finished, now)).await.map(|_| ()),
        };
        let _ = done.send(written);
    }
}

/// One part of a transaction that failed: what is wrong with one node must not fail the others.
async fn one<T>(write: impl Future<Output = store::Result<T>>) -> Result<T, Unwritten> {
    tokio::time::sleep(ONE_BY_ONE).await;
    write.await.map_err(|error| Unwritten(error.to_string()))
}
