//! Takes what comes from the link, one message after the other.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};
use warden_platform::boot_time::BootTime;
use warden_protocol::{Code, Finished, FromNode, Outcome, Request, ToNode, Work};

use super::effects::{Hands, does};
use super::open_requests::Known;
use super::request_task::{Run, refuse};
use super::{OPEN_LIMIT, Shared, wall_clock};
use crate::ledger::{Entry, Row};
use crate::request::{Course, Effect, Event, Op, Progress, Record, Step};

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
        let hands = Arc::new(Mutex::new(Hands::new(shared.clone(), entry.clone(), &task, place)));
        let (course, effects) = Course::recover(task, record, entry.deadline, shared.spans(), same_boot, now);
        Run::start(shared, entry, course, hands, effects).await;
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
            Ok(Known::Said(said)) => self.shared.tell(*said),
            Ok(Known::InDoubt) => {}
            Ok(Known::No) if self.shared.book.len() >= OPEN_LIMIT => {
                let why = format!("{OPEN_LIMIT} requests are open on this node already; nothing was done");
                refuse(&self.shared, &entry, Outcome::rejected(Code::Internal, why)).await;
            }
            Ok(Known::No) => self.accept(entry).await,
            // What is open is in the book, so at most an end of it is in the ledger.
            Err(error) => {
                let why = format!("the agent cannot read its ledger, so nothing was done: {error:#}");
                refuse(&self.shared, &entry, Outcome::rejected(Code::LedgerUnavailable, why)).await;
            }
        }
    }

    /// Its first step, on disk, happens here: so the ledger has requests in the order in which they came. When that
    /// fails, the first look whether it did happens here too; if that cannot tell, others need not wait for it.
    async fn accept(&self, entry: Entry) {
        let shared = &self.shared;
        let request = entry.request;
        let (task, runtime) = shared.task(&entry);
        let place = runtime.map(|runtime| shared.order.enter(runtime, request));
        let hands = Arc::new(Mutex::new(Hands::new(shared.clone(), entry.clone(), &task, place)));
        let (mut course, mut effects) = Course::receive(task, entry.deadline, shared.spans());
        while let [Effect::Do(number, op @ (Op::Record(_) | Op::Recall))] = effects.as_slice() {
            let answer = does(hands.clone(), op.clone()).await;
            effects = course.handle(Event::Answer(*number, answer), BootTime::now());
        }
        Run::start(shared, entry, course, hands, effects).await;
    }

    async fn cancel(&self, request: u64) {
        if self.shared.book.pass(request, Event::Cancel) {
            return;
        }
        match self.known(request).await {
            Ok(Known::Said(said)) => self.shared.tell(*said),
            Ok(Known::InDoubt) => {}
            // Messages overtake each other: the request may still come, and must then not be done.
            Ok(Known::No) => self.cancel_before(request).await,
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
    async fn known(&self, request: u64) -> anyhow::Result<Known> {
        match self.shared.book.known(request) {
            Known::No => {}
            known @ (Known::InDoubt | Known::Said(_)) => return Ok(known),
        }
        let Some(row) = self.shared.ledger.find(request).await? else { return Ok(Known::No) };
        let outcome = row.record.and_then(|record| record.outcome);
        let outcome = outcome.unwrap_or_else(|| Outcome::rejected(Code::Interrupted, UNREADABLE));
        Ok(Known::Said(Box::new(FromNode::Finished(Finished { request, outcome }))))
    }
}
