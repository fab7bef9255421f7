//! Takes what comes from the link, one message after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;

use super::hands::{Hands, audit_event};
use super::run::Run;
use super::{OPEN_LIMIT, Shared, wall_clock};
use crate::agent::audit::Happened;
use crate::agent::clock::BootTime;
use crate::agent::ledger::{Entry, Row};
use crate::agent::request::{Answer, Course, Effect, Event, Op, Progress, Record, Step};
use crate::protocol::{Code, Finished, FromNode, Outcome, Reason, Request, ToNode, Work};

/// The longest deadline a request gets: whoever asks for more has mistaken the unit.
const DEADLINE_LIMIT: Duration = Duration::from_secs(24 * 3600);
const UNREADABLE: &str =
    "another version of the agent wrote how far it had come, and this one cannot tell what came of it";
const CANCELLED_BEFORE: &str = "cancelled before it came; nothing was done";

pub struct Desk {
    shared: Arc<Shared>,
}

/// Goes on with what the ledger has as open. Which offers of snapshots it asks for.
pub async fn recover(shared: &Arc<Shared>) -> anyhow::Result<Vec<u64>> {
    let now = BootTime::now();
    let mut asked = Vec::new();
    for Row { entry, record, .. } in shared.ledger.open_requests().await? {
        let request = entry.request;
        if let Some(Work::Snapshot { offer, .. }) = &entry.work {
            asked.extend(offer);
        }
        let Some(record) = record else {
            let outcome = Outcome::rejected(Code::Interrupted, UNREADABLE);
            let record = Record {
                step: Step::Finished,
                progress: Progress::default(),
                outcome: Some(outcome.clone()),
            };
            shared.ledger.write(&entry, &record, wall_clock()).await?;
            shared.book.finished(request, &outcome);
            continue;
        };
        if let Some(outcome) = &record.outcome {
            shared.book.finished(request, outcome);
            continue;
        }
        tracing::info!(request, step = ?record.step, "going on with request {request}, which was open");
        let same_boot = entry.boot_id == shared.boot_id;
        let (task, runtime) = shared.task(&entry);
        let place = runtime.map(|runtime| shared.order.enter(runtime, request));
        let hands = Hands::new(shared.clone(), entry.clone(), &task, place);
        let (course, effects) = Course::recover(task, record, entry.deadline, shared.spans(), same_boot, now);
        Run::start(shared, request, course, hands, effects);
    }
    Ok(asked)
}

impl Desk {
    pub fn new(shared: Arc<Shared>) -> Desk {
        Desk { shared }
    }

    pub async fn run(self, mut messages: mpsc::Receiver<ToNode>) {
        let closing = self.shared.closing.clone();
        loop {
            let message = tokio::select! {
                () = closing.cancelled() => break,
                message = messages.recv() => message,
            };
            match message {
                None => return,
                Some(ToNode::Request(request)) => self.request(request).await,
                Some(ToNode::Cancel { request }) => self.cancel(request).await,
                Some(ToNode::Settled { request }) => self.settled(request).await,
                // The link's own, or of another request's course.
                Some(
                    ToNode::Welcome(_)
                    | ToNode::Refused { .. }
                    | ToNode::UploadGrant(_)
                    | ToNode::UploadConfirmed { .. }
                    | ToNode::UploadRefused { .. }
                    | ToNode::OfferRefused { .. },
                ) => {}
            }
        }
        // Work waits in the Supervisor; what is settled need not be told again after the next start.
        while let Ok(message) = messages.try_recv() {
            if let ToNode::Settled { request } = message {
                self.settled(request).await;
            }
        }
    }

    async fn request(&self, Request { request, work, author, deadline_ms }: Request) {
        let span = Duration::from_millis(deadline_ms).min(DEADLINE_LIMIT);
        let boot_id = self.shared.boot_id.clone();
        let deadline = BootTime::now().after(span);
        let entry = Entry { request, work: Some(work), author, boot_id, deadline };
        match self.known(request).await {
            Ok(Some(said)) => self.shared.tell(said),
            Ok(None) if self.shared.book.len() >= OPEN_LIMIT => {
                let why = format!("{OPEN_LIMIT} requests are open on this node already; nothing was done");
                self.refuse(&entry, Outcome::rejected(Code::Internal, why)).await;
            }
            Ok(None) => self.accept(entry).await,
            Err(error) => {
                let why = format!("the agent cannot read its ledger, so nothing was done: {error:#}");
                self.refuse(&entry, Outcome::rejected(Code::LedgerUnavailable, why)).await;
            }
        }
    }

    /// Its first step, on disk, happens here: so the ledger has requests in the order in which they came.
    async fn accept(&self, entry: Entry) {
        let shared = &self.shared;
        let request = entry.request;
        let (task, runtime) = shared.task(&entry);
        let place = runtime.map(|runtime| shared.order.enter(runtime, request));
        let mut hands = Hands::new(shared.clone(), entry.clone(), &task, place);
        let (mut course, first) = Course::receive(task, entry.deadline, shared.spans());
        let mut effects = Vec::new();
        for effect in first {
            let Effect::Do(number, Op::Record(record)) = effect else { continue };
            let answer = match hands.record(*record).await {
                Ok(()) => Answer::Recorded,
                Err(error) => Answer::NotRecorded(format!("{error:#}")),
            };
            effects = course.handle(Event::Answer(number, answer), BootTime::now());
        }
        match course.outcome() {
            Some(outcome) if course.is_over() => self.refuse(&entry, outcome.clone()).await,
            _ => Run::start(shared, request, course, hands, effects),
        }
    }

    /// Nothing of it is in the ledger. A second copy of it gets the same answer, as long as this process lives.
    async fn refuse(&self, entry: &Entry, outcome: Outcome) {
        let request = entry.request;
        if let Outcome::Rejected { reason: Reason { reason, .. }, .. } = &outcome {
            tracing::warn!(request, "request {request} is refused: {reason}");
        }
        let event = audit_event(Happened::Rejected, entry, None, Some(&outcome));
        if let Err(error) = self.shared.audit(event, false).await {
            tracing::warn!(request, "{error:#}");
        }
        let finished = Finished { request, outcome };
        self.shared.book.refused(finished.clone());
        self.shared.tell(FromNode::Finished(finished));
    }

    async fn cancel(&self, request: u64) {
        if self.shared.book.pass(request, Event::Cancel) {
            return;
        }
        match self.known(request).await {
            Ok(Some(said)) => self.shared.tell(said),
            // Messages overtake each other: the request may still come, and must then not be done.
            Ok(None) => self.cancel_before(request).await,
            Err(error) => tracing::warn!(request, "cannot cancel request {request}: {error:#}"),
        }
    }

    async fn cancel_before(&self, request: u64) {
        if self.shared.book.len() >= OPEN_LIMIT {
            return;
        }
        let boot_id = self.shared.boot_id.clone();
        let entry = Entry { request, work: None, author: String::new(), boot_id, deadline: BootTime::now() };
        let outcome = Outcome::rejected(Code::Cancelled, CANCELLED_BEFORE);
        let record =
            Record { step: Step::Finished, progress: Progress::default(), outcome: Some(outcome.clone()) };
        match self.shared.ledger.write(&entry, &record, wall_clock()).await {
            Ok(()) => {
                self.shared.book.finished(request, &outcome);
                self.shared.tell(FromNode::Finished(Finished { request, outcome }));
            }
            Err(error) => tracing::warn!(request, "cannot cancel request {request}: {error:#}"),
        }
    }

    async fn settled(&self, request: u64) {
        // What still runs for it writes that down at its end.
        if !self.shared.book.pass(request, Event::Settled) {
            self.shared.settle(request).await;
        }
    }

    /// What there is to say of a request that came before.
    async fn known(&self, request: u64) -> anyhow::Result<Option<FromNode>> {
        if let Some(said) = self.shared.book.known(request) {
            return Ok(Some(said));
        }
        let Some(row) = self.shared.ledger.find(request).await? else { return Ok(None) };
        let outcome = row.record.and_then(|record| record.outcome);
        let outcome = outcome.unwrap_or_else(|| Outcome::rejected(Code::Interrupted, UNREADABLE));
        Ok(Some(FromNode::Finished(Finished { request, outcome })))
    }
}
