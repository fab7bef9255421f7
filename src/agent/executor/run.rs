//! Runs the course of one request: does what it asks for, and brings it what happens.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Mutex, mpsc};

use super::hands::{Hands, SharedHands, does};
use super::{Shared, wall_clock};
use crate::agent::clock::{BootTime, sleep_until};
use crate::agent::request::{Answer, Course, Effect, Event, Record, Step};
use crate::agent::status::Doing;
use crate::protocol::{Code, Finished, FromNode, Outcome};

/// For a last word that is told already to be written, when the disk does not answer.
const LAST_WRITE: Duration = Duration::from_secs(5);
const DEFECT: &str = "a defect of the agent ended it; whether it took effect shows the unit";

pub struct Run {
    shared: Arc<Shared>,
    request: u64,
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
    pub fn start(shared: &Arc<Shared>, request: u64, course: Course, hands: Hands, effects: Vec<Effect>) {
        let (sender, events) = mpsc::unbounded_channel();
        shared.book.open(Doing { request, what: hands.what(), since_ms: wall_clock() }, sender);
        let hands = Arc::new(Mutex::new(hands));
        let run = Run { shared: shared.clone(), request, course, hands, events, under_way: None };
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
                                shared.book.known(request).into_iter().for_each(|said| shared.tell(said))
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
        let request = self.request;
        for effect in effects {
            match effect {
                Effect::Do(number, op) => {
                    // What was under way is dropped first, and lets go of the hands.
                    self.under_way = None;
                    let answer = Box::pin(does(self.hands.clone(), op));
                    self.under_way = Some(UnderWay { number, answer });
                }
                Effect::TellAccepted => {
                    self.shared.tell(FromNode::Accepted { request });
                }
                Effect::TellProgress(step) => {
                    self.shared.tell(FromNode::Progress { request, step: step.to_owned() });
                }
                Effect::TellFinished(outcome) => tell_finished(&self.shared, request, *outcome),
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

async fn broke(shared: &Shared, request: u64) {
    tracing::error!(request, "request {request}: {DEFECT}");
    let outcome = Outcome::rejected(Code::Internal, DEFECT);
    if let Ok(Some(row)) = shared.ledger.find(request).await {
        let progress = row.record.map(|record| record.progress).unwrap_or_default();
        let record = Record { step: Step::Finished, progress, outcome: Some(outcome.clone()) };
        if let Err(error) = shared.ledger.write(&row.entry, &record, wall_clock()).await {
            tracing::warn!(request, "{error:#}");
        }
    }
    tell_finished(shared, request, outcome);
}
