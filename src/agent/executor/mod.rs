//! What is asked of the node is done here, once.
//!
//! The desk takes what comes from the link, one by one; each request then runs its course by itself, in the line of
//! its runtime. Everything that is told goes through one channel.

mod effects;
mod inbox;
mod log_excerpt;
mod open_requests;
mod request_task;
mod runtime_queue;

use std::collections::VecDeque;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use inbox::Desk;
use jiff::Timestamp;
use open_requests::Book;
use runtime_queue::Order;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use warden_config::units::Units;
use warden_protocol::{Action, FromNode, Runtime, ToNode, Work};
use warden_systemd::Bus;

use super::audit::{Audit, Event};
use super::ledger::{Entry, Ledger};
use super::request::{Spans, Task};
use super::settings::IggyApi;
use super::snapshots::{Snapshots, Wish};
use super::status::Doing;
use super::{actions, host_info};

pub const LEDGER: &str = "ledger.sqlite";

/// Requests that are open at once on one node: with the ids of so many a hello fits a message.
const OPEN_LIMIT: usize = 1_000;
/// Messages from the link that wait for the ledger.
const INBOX: usize = 64;
/// Reports that wait for the link: each open request has a few.
const OUTBOX: usize = 4 * OPEN_LIMIT;
/// For what is parked to let go of the ledger.
const PARKING: Duration = Duration::from_secs(2);

/// Beginnings that are remembered for [`Executor::begun`]; whoever asks does so every few seconds.
const BEGUN_LIMIT: usize = 64;

/// Something that is about to be done with a unit, because it was asked.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Begun {
    pub unit: String,
    pub action: String,
    pub request: u64,
}

/// What the executor must know of its host.
#[derive(Debug, Clone)]
pub struct Settings {
    /// Where the ledger and the audit log are.
    pub state_directory: PathBuf,
    pub policy: PathBuf,
    pub units: Units,
    /// How long a unit must stay as it was right after its job.
    pub settle: Duration,
    /// How long a runtime may take to answer after its start; nought: it is not asked.
    pub answer: Duration,
    pub iggy_api: IggyApi,
}

/// Takes requests and reports how they go.
#[derive(Debug, Clone)]
pub struct Executor {
    shared: Arc<Shared>,
    inbox: mpsc::Sender<ToNode>,
}

/// What the desk and every course work with.
#[derive(Debug)]
struct Shared {
    settings: Settings,
    boot_id: String,
    bus: Arc<Bus>,
    /// Absent: this agent takes none.
    snapshots: Option<Arc<Snapshots>>,
    ledger: Ledger,
    audit: Arc<Mutex<Audit>>,
    book: Book,
    order: Arc<Order>,
    outbox: mpsc::Sender<FromNode>,
    begun: Mutex<VecDeque<Begun>>,
    tasks: TaskTracker,
    /// What has not begun stays where it is; the rest goes on.
    closing: CancellationToken,
    /// Everything stays where it is.
    parking: CancellationToken,
}

impl Executor {
    /// Opens the ledger, goes on with what was open, and reports to `reports` from then on.
    ///
    /// # Errors
    /// The ledger or the audit log cannot be opened.
    pub async fn start(
        settings: Settings,
        bus: Arc<Bus>,
        reports: mpsc::Sender<FromNode>,
        snapshots: Option<Arc<Snapshots>>,
    ) -> anyhow::Result<Executor> {
        let folder = settings.state_directory.clone();
        let ledger = Ledger::open(&folder.join(LEDGER)).await?;
        let audit = tokio::task::spawn_blocking(move || {
            Audit::open(&folder, Timestamp::now())
                .with_context(|| format!("cannot open the audit log in {}", folder.display()))
        });
        let (outbox, told) = mpsc::channel(OUTBOX);
        let (inbox, messages) = mpsc::channel(INBOX);
        let shared = Arc::new(Shared {
            settings,
            boot_id: host_info::boot_id()?,
            bus,
            snapshots,
            ledger,
            audit: Arc::new(Mutex::new(audit.await??)),
            book: Book::default(),
            order: Arc::default(),
            outbox,
            begun: Mutex::default(),
            tasks: TaskTracker::new(),
            closing: CancellationToken::new(),
            parking: CancellationToken::new(),
        });
        tokio::spawn(pass_on(told, reports));
        let asked = inbox::recover(&shared).await?;
        if let Some(snapshots) = &shared.snapshots
            && let Err(error) = snapshots.outbox.sweep(&shared.book.requests(), &asked)
        {
            tracing::warn!(%error, "what is left in the outbox cannot be removed");
        }
        shared.tasks.spawn(Desk::new(shared.clone()).run(messages));
        Ok(Executor { shared, inbox })
    }

    /// Every request in the ledger that is not settled.
    pub fn open_requests(&self) -> Vec<u64> {
        self.shared.book.requests()
    }

    /// What is being done right now, and when that may have changed.
    pub fn doing(&self) -> (Vec<Doing>, watch::Receiver<()>) {
        let news = self.shared.book.news();
        (self.shared.book.doing(), news)
    }

    /// Why nothing can be done on this host now, if that is so: the audit log is not where it was.
    pub async fn obstacle(&self) -> Option<String> {
        self.shared.obstacle().await
    }

    /// Says that a request has ended.
    pub fn ended(&self) -> watch::Receiver<()> {
        self.shared.book.ends()
    }

    /// What a Supervisor that has just said welcome may not know yet.
    pub fn unsettled(&self) -> Vec<FromNode> {
        self.shared.book.told_again()
    }

    /// What was begun since this was last asked, the newest.
    pub fn begun(&self) -> Vec<Begun> {
        self.shared.begun().drain(..).collect()
    }

    /// Takes a request, a cancellation, or the word that an outcome is settled. Waits only when dozens of messages
    /// wait for the ledger already.
    pub async fn take(&self, message: ToNode) {
        if let (
            Some(snapshots),
            ToNode::UploadGrant(_)
            | ToNode::UploadConfirmed { .. }
            | ToNode::UploadRefused { .. }
            | ToNode::OfferRefused { .. },
        ) = (&self.shared.snapshots, &message)
        {
            return snapshots.deliver(message);
        }
        let _ = self.inbox.send(message).await;
    }

    /// Lets what has begun end for so long. The rest stays in the ledger, and the next start goes on with it.
    pub async fn shut_down(&self, grace: Duration) {
        self.shared.closing.cancel();
        self.shared.tasks.close();
        if tokio::time::timeout(grace, self.shared.tasks.wait()).await.is_err() {
            self.shared.parking.cancel();
            let _ = tokio::time::timeout(PARKING, self.shared.tasks.wait()).await;
        }
    }
}

impl Shared {
    fn spans(&self) -> Spans {
        Spans { settle: self.settings.settle, answer: self.settings.answer }
    }

    /// What is to be done for a request, and in whose line.
    fn task(&self, entry: &Entry) -> (Task, Option<Runtime>) {
        let unsupported = |why: &str| Task::Unsupported(why.to_owned());
        match &entry.work {
            Some(Work::Activity { runtime, action }) => {
                let task = match (actions::of(*action), action) {
                    (Some(action), _) => Task::Unit { action, unit: self.settings.units.unit(runtime) },
                    (None, Action::Reconfigure(_)) => unsupported("this agent cannot reconfigure yet"),
                    (None, _) => unsupported("this agent cannot do that"),
                };
                (task, Some(runtime.clone()))
            }
            Some(Work::Snapshot { redact_secrets, include_iggy, offer, choice }) => {
                let wish = Wish {
                    redact_secrets: *redact_secrets,
                    include_iggy: *include_iggy,
                    offer: *offer,
                    choice: choice.clone(),
                    iggy_left_out: None,
                };
                (Task::Snapshot(wish), None)
            }
            None => (unsupported("this version of the agent does not know what to do"), None),
        }
    }

    /// Never waits: when nobody takes reports for so long that the box is full, the ledger tells it again.
    fn tell(&self, report: FromNode) {
        if self.outbox.try_send(report).is_err() {
            tracing::warn!("a report waits in the ledger for the next connection: nobody takes reports");
        }
    }

    fn begins(&self, begun: Begun) {
        let mut all = self.begun();
        if all.len() >= BEGUN_LIMIT {
            all.pop_front();
        }
        all.push_back(begun);
    }

    fn begun(&self) -> MutexGuard<'_, VecDeque<Begun>> {
        self.begun.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn audit(&self, event: Event, sync: bool) -> anyhow::Result<()> {
        let audit = self.audit.clone();
        let written = tokio::task::spawn_blocking(move || {
            let mut audit = audit.lock().unwrap_or_else(PoisonError::into_inner);
            audit.add(event, Timestamp::now())?;
            if sync { audit.sync() } else { Ok(()) }
        });
        written.await?.context("cannot write the audit log")
    }

    /// Why nothing can be done on this host now, if that is so.
    async fn obstacle(&self) -> Option<String> {
        let audit = self.audit.clone();
        let looked = tokio::task::spawn_blocking(move || {
            audit.lock().unwrap_or_else(PoisonError::into_inner).in_place()
        });
        looked.await.ok()?.err().map(|error| error.to_string())
    }

    async fn settle(&self, request: u64) {
        if let Err(error) = self.ledger.settle(request, wall_clock()).await {
            tracing::warn!(
                request,
                "cannot write that request {request} is settled; it is told again: {error:#}"
            );
        }
        self.book.settled(request);
    }
}

/// Reports wait here, in order, while the link is busy.
async fn pass_on(mut told: mpsc::Receiver<FromNode>, reports: mpsc::Sender<FromNode>) {
    while let Some(report) = told.recv().await {
        if reports.send(report).await.is_err() {
            return;
        }
    }
}

/// Milliseconds since 1970 UTC.
fn wall_clock() -> i64 {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}
