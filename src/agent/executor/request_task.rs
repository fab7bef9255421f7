//! Runs the course of one request: does what it asks for, and brings it what happens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use warden_platform::boot_time::{BootTime, sleep_until};
use warden_protocol::{Code, Finished, FromNode, Outcome, Reason};

use super::effects::{SharedHands, audit_event, does};
use super::open_requests::Known;
use super::{Shared, wall_clock};
use crate::audit::Happened;
use crate::ledger::Entry;
use crate::request::{Answer, Course, Effect, Event, Record, Step};
use crate::status::Doing;

/// For a last word that is told already to be written, when the disk does not answer.
const LAST_WRITE: Duration = Duration::from_secs(5);
const DEFECT: &str = "a defect of the agent ended it; whether it took effect shows the unit";

pub struct Run {
    shared: Arc<Shared>,
    entry: Entry,
    course: Course,
    hands: SharedHands,
    events: mpsc::UnboundedReceiver<Event>,
    under_way: Option<UnderWay>,
}

struct UnderWay {
    number: u32,
    answer: Pin<Box<dyn Future<Output = Answer> + Send>>,
}

impl Run {
    /// Starts a task that ends with the request, or where it can be taken up again.
    pub async fn start(
        shared: &Arc<Shared>,
        entry: Entry,
        course: Course,
        hands: SharedHands,
        effects: Vec<Effect>,
    ) {
        let (sender, events) = mpsc::unbounded_channel();
        let request = entry.request;
        let doing = Doing { request, what: hands.lock().await.what(), since_ms: wall_clock() };
        shared.book.open(doing, sender, course.is_in_doubt());
        let run = Run { shared: shared.clone(), entry, course, hands, events, under_way: None };
        let shared = shared.clone();
        let tasks = shared.tasks.clone();
        tasks.spawn(async move {
            let ended = tokio::spawn(run.run(effects)).await;
            shared.book.ended(request);
            match ended {
                // What came in its last moments.
                Ok(mut events) => {
                    while let Ok(event) = events.try_recv() {
                        match event {
                            Event::Settled => shared.settle(request).await,
                            Event::Cancel => {
                                if let Known::Said(said) = shared.book.known(request) {
                                    shared.tell(*said);
                                }
                            }
                            Event::Answer(..) | Event::Tick => {}
                        }
                    }
                }
                Err(error) if error.is_panic() => broke(&shared, request).await,
                Err(_) => {}
            }
        });
    }

    /// Until its end, or until it is to be parked. What was not taken is given back.
    async fn run(mut self, effects: Vec<Effect>) -> mpsc::UnboundedReceiver<Event> {
        self.apply(effects).await;
        while !self.course.is_over() {
            let event = tokio::select! {
                biased;
                () = self.shared.parking.cancelled() => return self.events,
                () = self.shared.closing.cancelled(), if !self.course.is_begun() => return self.events,
                answer = answer(&mut self.under_way) => answer,
                Some(event) = self.events.recv() => event,
                () = sleep_until(self.course.wake()) => Event::Tick,
            };
            let effects = self.course.handle(event, BootTime::now());
            self.apply(effects).await;
        }
        if self.under_way.is_some() {
            let _ = tokio::time::timeout(LAST_WRITE, answer(&mut self.under_way)).await;
        }
        self.events
    }

    async fn apply(&mut self, effects: Vec<Effect>) {
        let request = self.entry.request;
        for effect in effects {
            match effect {
                Effect::Do(number, op) => {
                    // What was under way is dropped first, and lets go of the hands.
                    self.under_way = None;
                    let answer = Box::pin(does(self.hands.clone(), op));
                    self.under_way = Some(UnderWay { number, answer });
                }
                Effect::TellAccepted => {
                    self.shared.book.accepted(request);
                    self.shared.tell(FromNode::Accepted { request });
                }
                Effect::TellProgress(step) => {
                    self.shared.tell(FromNode::Progress { request, step: step.to_owned() });
                }
                Effect::TellFinished(outcome) => tell_finished(&self.shared, request, *outcome),
                Effect::TellRefused(outcome) => refuse(&self.shared, &self.entry, *outcome).await,
                Effect::Settle => self.shared.settle(request).await,
            }
        }
    }
}

/// Waits for ever when nothing is under way.
async fn answer(under_way: &mut Option<UnderWay>) -> Event {
    let Some(waited_for) = under_way else { return std::future::pending().await };
    let answer = (&mut waited_for.answer).await;
    let number = waited_for.number;
    *under_way = None;
    Event::Answer(number, answer)
}

fn tell_finished(shared: &Shared, request: u64, outcome: Outcome) {
    match &outcome {
        Outcome::Completed { .. } => tracing::info!(request, "request {request} is completed"),
        Outcome::Rejected { reason, .. } => {
            tracing::warn!(request, "request {request} is rejected: {}", reason.reason);
        }
    }
    shared.book.finished(request, &outcome);
    shared.tell(FromNode::Finished(Finished { request, outcome }));
}

/// Nothing of it is in the ledger. A second copy of it gets the same answer, as long as this process lives.
pub async fn refuse(shared: &Shared, entry: &Entry, outcome: Outcome) {
    let request = entry.request;
    if let Outcome::Rejected { reason: Reason { reason, .. }, .. } = &outcome {
        tracing::warn!(request, "request {request} is refused: {reason}");
    }
    let event = audit_event(Happened::Rejected, entry, None, Some(&outcome));
    if let Err(error) = shared.audit(event, false).await {
        tracing::warn!(request, "{error:#}");
    }
    let finished = Finished { request, outcome };
    shared.book.refused(finished.clone());
    shared.tell(FromNode::Finished(finished));
}

/// Told only when it is written: else it could be done after the next start, when its end was told.
async fn broke(shared: &Shared, request: u64) {
    tracing::error!(request, "request {request}: {DEFECT}");
    let outcome = Outcome::rejected(Code::Internal, DEFECT);
    match end(shared, request, &outcome).await {
        Ok(()) => tell_finished(shared, request, outcome),
        Err(error) => {
            tracing::error!(
                request,
                "request {request} stays open until the next start of the agent: {error:#}"
            );
        }
    }
}

async fn end(shared: &Shared, request: u64, outcome: &Outcome) -> anyhow::Result<()> {
    let Some(row) = shared.ledger.find(request).await? else { return Ok(()) };
    let progress = row.record.map(|record| record.progress).unwrap_or_default();
    let record = Record { step: Step::Finished, progress, outcome: Some(outcome.clone()) };
    Ok(shared.ledger.write(&row.entry, &record, wall_clock()).await?)
}
