//! Does the operations that the course of one request asks for.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Mutex;
use tokio_util::sync::CancellationToken;
use warden_config::policy::{Asked, snapshots};
use warden_platform::boot_time::sleep_until;
use warden_protocol::{Code, Outcome, Reason, UnitChange, Work};
use warden_systemd::{CallError, Ended, Error, Jobs, Manager, Verb};

use super::runtime_queue::Place;
use super::{Begun, Shared, log_excerpt, wall_clock};
use crate::answering::{self, Answered};
use crate::audit::{self, Happened};
use crate::ledger::{Entry, NotWritten};
use crate::policy_check;
use crate::request::{Answer, OWN_UNIT, Op, Record, Step, Task};
use crate::snapshots::Wish;

/// Why a snapshot failed, when that cannot be masked.
const WITHHELD: &str = "the snapshot failed, and why is not told: the policy of this host is not understood";
/// How long it is remembered how long an action took: a unit may be quicker today. In milliseconds.
const USUAL_KNOWN_MS: i64 = 24 * 3_600_000;
/// Between two attempts to reach the bus.
const TRY_AGAIN: Duration = Duration::from_millis(250);

/// Locked while one operation is done; an operation that is given up lets go.
pub type SharedHands = Arc<Mutex<Hands>>;

pub struct Hands {
    shared: Arc<Shared>,
    entry: Entry,
    unit: Option<String>,
    place: Option<Place>,
    /// The connection of the last look: what is called goes through the same.
    manager: Option<Manager>,
    /// Hears of the unit's jobs, from before the call on.
    jobs: Option<Jobs>,
    /// An end that could not be written is written again, but is told to the audit log once.
    audited_end: bool,
}

pub async fn does(hands: SharedHands, op: Op) -> Answer {
    let mut hands = hands.lock_owned().await;
    match op {
        Op::Record(record) => match hands.record(*record).await {
            Ok(()) => Answer::Recorded,
            Err(error) => {
                let request = hands.entry.request;
                tracing::warn!(request, "cannot write request {request} down: {error}");
                match error {
                    NotWritten::Untouched(why) => Answer::NotRecorded(format!("{why:#}")),
                    NotWritten::Doubtful(why) => Answer::Doubtful(format!("{why:#}")),
                }
            }
        },
        Op::Recall => hands.recall().await,
        Op::Turn => {
            if let Some(place) = &mut hands.place {
                place.first().await;
            }
            Answer::Turn
        }
        Op::Policy => hands.policy().await,
        Op::Snapshot(wish) => hands.snapshot(wish).await,
        Op::Look => hands.look().await,
        Op::Call(verb) => hands.call(verb).await,
        Op::Follow { job } => hands.follow(&job).await,
        Op::Quiet { bus } => {
            while let Err(error) = hands.shared.bus.until_gone(&bus).await {
                tracing::debug!("cannot ask the bus: {error}");
                tokio::time::sleep(TRY_AGAIN).await;
            }
            Answer::Quiet
        }
        Op::Ask => hands.ask().await,
        Op::Pause { until } => {
            sleep_until(until).await;
            Answer::Paused
        }
        Op::Journal { since } => {
            let unit = hands.unit.clone().unwrap_or_default();
            let policy = hands.shared.settings.policy.clone();
            let lines = tokio::task::spawn_blocking(move || log_excerpt::newest_lines(&unit, since, &policy));
            Answer::Journal(lines.await.unwrap_or_default())
        }
        Op::OwnLog => {
            let policy = hands.shared.settings.policy.clone();
            let lines = tokio::task::spawn_blocking(move || log_excerpt::own_newest_lines(&policy));
            Answer::Journal(lines.await.unwrap_or_default())
        }
    }
}

impl Hands {
    /// What it is all about, in a few words.
    pub fn what(&self) -> String {
        self.entry.work.as_ref().map_or_else(|| "unknown work".to_owned(), Work::to_string)
    }

    pub fn new(shared: Arc<Shared>, entry: Entry, task: &Task, place: Option<Place>) -> Hands {
        let unit = match task {
            Task::Unit { unit, .. } => Some(unit.clone()),
            Task::Snapshot(_) | Task::Unsupported(_) => None,
        };
        Hands { shared, entry, unit, place, manager: None, jobs: None, audited_end: false }
    }

    /// Into the audit log, then into the ledger. The log may so have a step twice after a crash, but never lacks one.
    async fn record(&mut self, record: Record) -> Result<(), NotWritten> {
        let outcome = record.outcome.as_ref();
        let happened = match (record.step, outcome) {
            (Step::Accepted, _) => Some(Happened::Received),
            (Step::Intended, _) => Some(Happened::Calling),
            (Step::Called, _) => Some(Happened::Called),
            (Step::Settling, _) => None,
            (Step::Finished, _) if self.audited_end => None,
            (Step::Finished, Some(Outcome::Completed { .. })) => Some(Happened::Completed),
            (Step::Finished, Some(Outcome::Rejected { reason, .. })) if is_denial(reason.code) => {
                Some(Happened::Denied)
            }
            (Step::Finished, _) => Some(Happened::Rejected),
        };
        if let Some(happened) = happened {
            let event = audit_event(happened, &self.entry, self.unit.as_deref(), outcome);
            let written = self.shared.audit(event, record.step == Step::Finished).await;
            // What is not begun must not begin unseen; what was done is told all the same.
            if record.step <= Step::Intended {
                written.map_err(NotWritten::Untouched)?;
            } else if let Err(error) = written {
                tracing::warn!(request = self.entry.request, "{error:#}");
            }
            self.audited_end |= record.step == Step::Finished;
        }
        // A write that is given up goes on, and must not be overtaken by the next: so it is not given up here.
        let (shared, entry) = (self.shared.clone(), self.entry.clone());
        let write = async move { shared.ledger.write(&entry, &record, wall_clock()).await };
        self.shared.tasks.spawn(write).await.map_err(|error| NotWritten::Doubtful(error.into()))?
    }

    async fn recall(&self) -> Answer {
        let request = self.entry.request;
        match self.shared.ledger.find(request).await {
            Ok(Some(_)) => Answer::Recorded,
            Ok(None) => Answer::NotThere,
            Err(error) => {
                tracing::warn!(
                    request,
                    "whether request {request} is in the ledger is not known, and it waits: {error:#}"
                );
                Answer::Unread
            }
        }
    }

    async fn policy(&self) -> Answer {
        let Some(Work::Activity { runtime, action }) = self.entry.work.clone() else {
            return Answer::Denied("the policy of this host does not know such work".to_owned());
        };
        let asked = Asked { runtime, action, author: self.entry.author.clone() };
        let place = &self.shared.settings.policy;
        match policy_check::allows(place, &self.shared.ledger, &asked, wall_clock()).await {
            Ok(()) => Answer::Allowed { usual_ms: self.usual_ms().await },
            Err(why) => Answer::Denied(why),
        }
    }

    /// How long the same took the last time. Not to know it is no reason to refuse anything.
    async fn usual_ms(&self) -> Option<u64> {
        let work = self.entry.work.as_ref()?;
        let since = wall_clock().saturating_sub(USUAL_KNOWN_MS);
        match self.shared.ledger.last_took_ms(work, since).await {
            Ok(took) => took,
            Err(error) => {
                let request = self.entry.request;
                tracing::warn!(request, "how long the same took the last time is not known: {error:#}");
                None
            }
        }
    }

    /// Takes and sends it, within what the policy allows. Given up, the process that takes it is ended.
    async fn snapshot(&self, wish: Wish) -> Answer {
        let policy = self.shared.settings.policy.clone();
        let rules = tokio::task::spawn_blocking(move || snapshots(&policy)).await;
        let denied = |why: String| Outcome::rejected(Code::PolicyDenied, why);
        let outcome = match (rules, &self.shared.snapshots) {
            (Ok(Ok(rules)), _) if !rules.allow => {
                denied("the policy of this host allows no snapshots".to_owned())
            }
            (Ok(Ok(rules)), Some(snapshots)) => {
                let wish = Wish { include_iggy: wish.include_iggy && rules.include_iggy, ..wish };
                let largest = rules.largest_upload_mib.map(|mebibytes| mebibytes << 20);
                let stop = CancellationToken::new();
                snapshots.take(self.entry.request, wish, largest, &stop).await
            }
            (Ok(Ok(_)), None) => Outcome::rejected(Code::UnsupportedAction, "this agent takes no snapshots"),
            (Ok(Err(error)), _) => denied(format!("nothing is done on this host for now: {error:#}")),
            (Err(error), _) => Outcome::rejected(Code::Internal, error.to_string()),
        };
        Answer::Snapshot(Box::new(self.explained(outcome).await))
    }

    /// A snapshot that failed, with the newest lines of the agent's log; all of it masked.
    async fn explained(&self, outcome: Outcome) -> Outcome {
        let Outcome::Rejected { reason, .. } = outcome else { return outcome };
        if matches!(reason.code, Code::PolicyDenied | Code::Cancelled | Code::UnsupportedAction) {
            return Outcome::Rejected { reason, result: None };
        }
        let policy = self.shared.settings.policy.clone();
        let code = reason.code;
        let masked = tokio::task::spawn_blocking(move || {
            let reason = log_excerpt::masked(&reason.reason, &policy).unwrap_or_else(|| WITHHELD.to_owned());
            (reason, log_excerpt::own_newest_lines(&policy))
        });
        let (reason, journal) = masked.await.unwrap_or_else(|_| (WITHHELD.to_owned(), Vec::new()));
        let change = UnitChange { unit: OWN_UNIT.to_owned(), journal, ..UnitChange::default() };
        let result = Some(change).filter(|change| !change.journal.is_empty());
        Outcome::Rejected { reason: Reason { code, reason }, result }
    }

    /// Asks the runtime itself.
    async fn ask(&self) -> Answer {
        let Some(Work::Activity { runtime, .. }) = self.entry.work.clone() else {
            return Answer::Answered(Answered::default());
        };
        let (units, api) = (self.shared.settings.units.clone(), self.shared.settings.iggy_api);
        let asked = tokio::task::spawn_blocking(move || answering::ask(&runtime, &units, api)).await;
        Answer::Answered(asked.unwrap_or_default())
    }

    async fn look(&mut self) -> Answer {
        match self.standing().await {
            Ok(answer) => answer,
            Err(error) => Answer::NotSeen(error),
        }
    }

    async fn standing(&mut self) -> Result<Answer, Error> {
        let manager = self.shared.bus.manager().await?;
        let standing = manager.standing(self.unit.as_deref().unwrap_or_default()).await?;
        let bus = manager.identity();
        self.manager = Some(manager);
        Ok(Answer::Standing { standing: Box::new(standing), bus })
    }

    async fn call(&mut self, verb: Verb) -> Answer {
        let (Some(manager), Some(unit)) = (self.manager.clone(), self.unit.as_deref()) else {
            return Answer::NotSent;
        };
        let action = match verb {
            Verb::Start => "start",
            Verb::Stop => "stop",
            Verb::Restart => "restart",
        };
        let (unit_name, request) = (unit.to_owned(), self.entry.request);
        self.shared.begins(Begun { unit: unit_name, action: action.to_owned(), request });
        self.jobs = None;
        let mut jobs = match manager.jobs(unit).await {
            Ok(jobs) => jobs,
            Err(error) => {
                tracing::debug!(unit, "cannot hear of the jobs of {unit}: {error}");
                return Answer::NotSent;
            }
        };
        match jobs.call(verb).await {
            Ok(job) => {
                self.jobs = Some(jobs);
                Answer::Called { job }
            }
            Err(CallError::Refused(error)) => Answer::Refused(error),
            Err(CallError::Lost(why)) => {
                tracing::warn!(unit, "the answer to a call for {unit} was lost: {why}");
                Answer::Lost
            }
        }
    }

    async fn follow(&mut self, job: &str) -> Answer {
        let ended = match &mut self.jobs {
            Some(jobs) => jobs.ended(job).await,
            None => self.follow_anew(job).await,
        };
        match ended {
            Ok(Ended { result, killed }) => {
                // Unread signals would hold up every answer of the bus behind them.
                self.jobs = None;
                Answer::JobEnded { result, killed }
            }
            Err(error) => {
                tracing::warn!(unit = self.unit, "lost sight of a job: {error}");
                self.jobs = None;
                Answer::JobLost
            }
        }
    }

    /// A job that was there before this connection: it may be gone by now.
    async fn follow_anew(&mut self, job: &str) -> Result<Ended, Error> {
        let unit = self.unit.as_deref().unwrap_or_default();
        let manager = self.shared.bus.manager().await?;
        let jobs = self.jobs.insert(manager.jobs(unit).await?);
        let there = manager.standing(unit).await?.job.is_some_and(|now| now.path == job);
        if there { jobs.ended(job).await } else { Ok(Ended { result: None, killed: false }) }
    }
}

fn is_denial(code: Code) -> bool {
    matches!(code, Code::PolicyDenied | Code::PermissionDenied)
}

/// The line of the audit log for something that happened to a request.
pub fn audit_event(
    happened: Happened,
    entry: &Entry,
    unit: Option<&str>,
    outcome: Option<&Outcome>,
) -> audit::Event {
    let (runtime, action) = match &entry.work {
        Some(Work::Activity { runtime, action }) => (Some(runtime.to_string()), action.to_string()),
        Some(Work::Snapshot { .. }) => (None, "snapshot".to_owned()),
        None => (None, "unknown".to_owned()),
    };
    let reason = match outcome {
        Some(Outcome::Rejected { reason, .. }) => Some(reason),
        Some(Outcome::Completed { .. }) | None => None,
    };
    let code = reason.and_then(|reason| serde_json::to_value(reason.code).ok());
    audit::Event {
        event: happened,
        request: Some(entry.request),
        author: Some(entry.author.clone()),
        runtime,
        action: Some(action),
        unit: unit.map(str::to_owned),
        code: code.and_then(|code| code.as_str().map(str::to_owned)),
        reason: reason.map(|reason| reason.reason.clone()),
    }
}
