//! Snapshots that the Supervisor asks for: taken by a process of its own, kept in the outbox, sent when it can be.
//!
//! Taking one has no effect but its archive, so what a crash interrupts is simply done again; an archive that is whole
//! is never taken twice, and what of it has arrived is not sent twice.

mod outbox;
mod subprocess;
mod upload_client;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

pub use outbox::{For, Limits, Note, Outbox, Taken};
pub use subprocess::Child;
use tokio::sync::{Semaphore, mpsc};
use tokio_util::sync::CancellationToken;
pub use upload_client::uploader;
use warden_protocol::{
    Code, FromNode, OfferRefusal, Outcome, PartTag, SnapshotChoice, SnapshotProgress, ToNode, UploadGrant,
    UploadWanted, Uploaded,
};

use super::upload::{Archive, Failure, Uploader};

/// How long an answer of the Supervisor is waited for before the question is asked again: it may have got lost with
/// the connection.
const ASK_AGAIN: Duration = Duration::from_secs(15);
/// How often progress is told at most.
const TELL_EVERY: Duration = Duration::from_secs(1);
/// Answers that wait for a snapshot to read them. There is one at a time, and some that came twice.
const MAILBOX: usize = 16;

/// Refusals of offers that wait to be read: there are a few offers at most, and each is told again.
const REFUSALS_WAITING: usize = 16;

/// The Supervisor does not want an offer, or not now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refused {
    pub offer: u64,
    pub code: OfferRefusal,
    pub reason: String,
}

/// Takes and sends snapshots, one after the other.
pub struct Snapshots {
    pub child: Child,
    pub outbox: Outbox,
    pub uploader: MakeUploader,
    pub reports: mpsc::Sender<FromNode>,
    one_at_a_time: Semaphore,
    /// Where the Supervisor's answers go, by request.
    mailboxes: Mutex<BTreeMap<u64, mpsc::Sender<ToNode>>>,
    refusals: mpsc::Sender<Refused>,
}

/// Makes what archives are sent with, when one is to be sent.
pub type MakeUploader = Box<dyn Fn() -> anyhow::Result<Uploader> + Send + Sync>;

/// What is asked for.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wish {
    pub redact_secrets: bool,
    pub include_iggy: bool,
    /// The one this host has offered, taken already.
    pub offer: Option<u64>,
    pub choice: SnapshotChoice,
    /// Why the data directory that was asked for is not in it, for the report to tell.
    pub iggy_left_out: Option<String>,
}

impl Snapshots {
    /// With what the Supervisor says to offers.
    pub fn new(
        child: Child,
        outbox: Outbox,
        uploader: MakeUploader,
        reports: mpsc::Sender<FromNode>,
    ) -> (Snapshots, mpsc::Receiver<Refused>) {
        let (one_at_a_time, mailboxes) = (Semaphore::new(1), Mutex::default());
        let (refusals, refused) = mpsc::channel(REFUSALS_WAITING);
        (Snapshots { child, outbox, uploader, reports, one_at_a_time, mailboxes, refusals }, refused)
    }

    /// Takes the snapshot of an offer, without the data directory, into the outbox.
    ///
    /// # Errors
    /// There is no room for it, or it failed.
    pub async fn take_offer(&self, offer: u64) -> anyhow::Result<()> {
        let _turn = self.one_at_a_time.acquire().await?;
        let place = self.outbox.place(For::Offer(offer))?;
        let wish = Wish { redact_secrets: true, ..Wish::default() };
        let verdict = self.child.run(&place, &wish, |_| ()).await?;
        self.outbox.keep(For::Offer(offer), verdict).await?;
        Ok(())
    }

    /// Takes the snapshot of a request and sends it, if its archive has no more than `largest` bytes. Cut off at any
    /// point and called again, it goes on from there.
    pub async fn take(
        &self,
        request: u64,
        wish: Wish,
        largest: Option<u64>,
        stop: &CancellationToken,
    ) -> Outcome {
        let (answers, mailbox) = mpsc::channel(MAILBOX);
        let mailbox = tokio::sync::Mutex::new(mailbox);
        self.mailboxes().insert(request, answers);
        let done = self.take_and_send(request, wish, largest, mailbox, stop).await;
        self.mailboxes().remove(&request);
        done
    }

    /// Hands an answer of the Supervisor to the snapshot it is for; one that nobody waits for is dropped.
    pub fn deliver(&self, message: ToNode) {
        if let ToNode::OfferRefused { offer, code, reason } = message {
            // Full: it is offered again, and refused again.
            let _ = self.refusals.try_send(Refused { offer, code, reason });
            return;
        }
        let request = match &message {
            ToNode::UploadGrant(UploadGrant { request, .. })
            | ToNode::UploadConfirmed { request }
            | ToNode::UploadRefused { request, .. } => *request,
            ToNode::Welcome(_)
            | ToNode::Request(_)
            | ToNode::Cancel { .. }
            | ToNode::Settled { .. }
            | ToNode::OfferRefused { .. }
            | ToNode::Refused { .. } => return,
        };
        if let Some(mailbox) = self.mailboxes().get(&request) {
            // Full: the same answer waits already, or the question is asked again.
            let _ = mailbox.try_send(message);
        }
    }

    /// The request is over and known to be: what lies in the outbox of it may go.
    pub fn settled(&self, request: u64) {
        self.outbox.remove(For::Request(request));
        // One that was given up by its deadline has left it.
        self.mailboxes().remove(&request);
    }

    async fn take_and_send(
        &self,
        request: u64,
        wish: Wish,
        largest: Option<u64>,
        mailbox: Mailbox,
        stop: &CancellationToken,
    ) -> Outcome {
        if !wish.redact_secrets {
            let why = "secrets are masked on this host whatever is asked; ask for it with redact_secrets";
            return Outcome::rejected(Code::PolicyDenied, why);
        }
        let Ok(_turn) = self.one_at_a_time.acquire().await else {
            return Outcome::rejected(Code::Internal, "the agent takes no snapshots any more");
        };
        if let Some(offer) = wish.offer
            && let Err(error) = self.outbox.adopt(offer, request)
        {
            let why = format!("the snapshot that this host took by itself cannot be found: {error}");
            return Outcome::rejected(Code::Internal, why);
        }
        let taken = match self.outbox.taken(For::Request(request)) {
            Some(taken) => taken,
            None if wish.offer.is_some() => {
                let why = "the snapshot that this host took by itself is not there any more";
                return Outcome::rejected(Code::Internal, why);
            }
            None => match self.collect(request, &wish).await {
                Ok(taken) => taken,
                Err(outcome) => return outcome,
            },
        };
        if let Some(largest) = largest.filter(|largest| taken.size > *largest) {
            self.outbox.remove(For::Request(request));
            let size = taken.size;
            let why = format!("the archive has {size} bytes, the policy of this host lets {largest} leave");
            return Outcome::rejected(Code::PolicyDenied, why);
        }
        match self.send(request, &taken, &mailbox, stop).await {
            Ok(()) => {
                self.outbox.remove(For::Request(request));
                Outcome::Completed { result: None }
            }
            Err(failure) => {
                self.outbox.remove(For::Request(request));
                rejected(&failure)
            }
        }
    }

    /// What fails with the data directory is done once more without it, and tells so: a disk that is not mounted is a
    /// reason to look at the host, not to see nothing of it.
    async fn collect(&self, request: u64, wish: &Wish) -> Result<Taken, Outcome> {
        let failed = match self.collect_once(request, wish).await {
            Err(failed) if wish.include_iggy => failed,
            done => return done.map_err(|why| Outcome::rejected(Code::Internal, why)),
        };
        tracing::warn!(request, "{failed}; it is taken again without the data directory of Iggy");
        let without = Wish { include_iggy: false, iggy_left_out: Some(failed.clone()), ..wish.clone() };
        let done = self.collect_once(request, &without).await;
        done.map_err(|why| {
            Outcome::rejected(Code::Internal, format!("{why}; and before, with Iggy's data: {failed}"))
        })
    }

    async fn collect_once(&self, request: u64, wish: &Wish) -> Result<Taken, String> {
        let place = self.outbox.place(For::Request(request));
        let place = place.map_err(|error| format!("no room for a snapshot: {error:#}"))?;
        let progress = |progress: SnapshotProgress| {
            let _ =
                self.reports.try_send(FromNode::SnapshotProgress(SnapshotProgress { request, ..progress }));
        };
        let verdict = self.child.run(&place, wish, progress).await;
        let verdict = verdict.map_err(|error| format!("the snapshot failed: {error:#}"))?;
        let kept = self.outbox.keep(For::Request(request), verdict).await;
        kept.map_err(|error| format!("the archive cannot be kept: {error:#}"))
    }

    async fn send(
        &self,
        request: u64,
        taken: &Taken,
        mailbox: &Mailbox,
        stop: &CancellationToken,
    ) -> Result<(), Failure> {
        let archive = Archive { path: taken.archive.clone(), size: taken.size };
        let mut told = tokio::time::Instant::now() - TELL_EVERY;
        let sent = |bytes_sent: u64| {
            if told.elapsed() < TELL_EVERY && bytes_sent < taken.size {
                return;
            }
            told = tokio::time::Instant::now();
            let progress = SnapshotProgress {
                request,
                bytes_packed: taken.size,
                bytes_sent,
                bytes_total: taken.size,
                ..SnapshotProgress::default()
            };
            let _ = self.reports.try_send(FromNode::SnapshotProgress(progress));
        };
        let ask = |parts: Vec<u32>| {
            let wanted = UploadWanted { request, size: taken.size, sha256: taken.sha256.clone(), parts };
            async move {
                match self.ask(FromNode::UploadWanted(wanted), mailbox).await? {
                    Answer::Grant(grant) => Ok(grant),
                    // It has all of it, from before it lost the word of that.
                    Answer::Confirmed => Err(Failure::AlreadyThere),
                }
            }
        };
        let uploader = (self.uploader)().map_err(|error| Failure::NotSetUp(format!("{error:#}")))?;
        let tags = match uploader.upload(&archive, ask, sent, stop).await {
            Err(Failure::AlreadyThere) => return Ok(()),
            tags => tags?,
        };
        self.confirm(request, taken, tags, mailbox).await
    }

    async fn confirm(
        &self,
        request: u64,
        taken: &Taken,
        parts: Vec<PartTag>,
        mailbox: &Mailbox,
    ) -> Result<(), Failure> {
        let uploaded = Uploaded { request, verdict: taken.verdict.clone(), parts };
        loop {
            // A grant is the late answer to a question that was asked twice.
            if let Answer::Confirmed = self.ask(FromNode::Uploaded(uploaded.clone()), mailbox).await? {
                return Ok(());
            }
        }
    }

    async fn ask(&self, question: FromNode, mailbox: &Mailbox) -> Result<Answer, Failure> {
        loop {
            // The link drops it while there is no connection; it is asked again.
            let _ = self.reports.send(question.clone()).await;
            match tokio::time::timeout(ASK_AGAIN, async { mailbox.lock().await.recv().await }).await {
                Err(_) => {}
                Ok(Some(ToNode::UploadGrant(grant))) => return Ok(Answer::Grant(grant)),
                Ok(Some(ToNode::UploadConfirmed { .. })) => return Ok(Answer::Confirmed),
                Ok(Some(ToNode::UploadRefused { code, reason, .. })) => {
                    return Err(Failure::Refused { code, reason });
                }
                Ok(_) => return Err(Failure::Cancelled),
            }
        }
    }

    fn mailboxes(&self) -> std::sync::MutexGuard<'_, BTreeMap<u64, mpsc::Sender<ToNode>>> {
        self.mailboxes.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// One question at a time is asked; its answer is read here.
type Mailbox = tokio::sync::Mutex<mpsc::Receiver<ToNode>>;

enum Answer {
    Grant(UploadGrant),
    Confirmed,
}

impl std::fmt::Debug for Snapshots {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Snapshots").field("outbox", &self.outbox).finish_non_exhaustive()
    }
}

/// Where this program is, so that it can be started once more.
pub fn own_program() -> PathBuf {
    PathBuf::from("/proc/self/exe")
}

fn rejected(failure: &Failure) -> Outcome {
    let code = match failure {
        Failure::PolicyDenied(_) => Code::PolicyDenied,
        Failure::Cancelled => Code::Cancelled,
        Failure::Refused { .. }
        | Failure::NotFound
        | Failure::TooLarge
        | Failure::Forbidden(_)
        | Failure::GaveUp(_)
        | Failure::BadGrant(_)
        | Failure::Archive(_)
        | Failure::NotSetUp(_)
        | Failure::AlreadyThere => Code::UploadFailed,
    };
    Outcome::rejected(code, failure.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_supervisor_that_asks_for_secrets_gets_no_snapshot() {
        let folder = tempfile::tempdir().unwrap();
        let at = |name: &str| folder.path().join(name);
        let child = Child {
            program: at("nothing"),
            policy: at("policy.toml"),
            state: at("state"),
            agent: None,
            iggy_budget: 1,
            limit: Duration::from_secs(1),
        };
        let outbox = Outbox::open(&at("outbox"), Limits { archives: 1, bytes: 1 }).unwrap();
        let (reports, _told) = mpsc::channel(1);
        let (snapshots, _) =
            Snapshots::new(child, outbox, Box::new(|| anyhow::bail!("nothing is sent")), reports);
        let wish = Wish::default();
        let outcome = snapshots.take(7, wish, None, &CancellationToken::new()).await;
        let Outcome::Rejected { reason, .. } = outcome else { panic!("{outcome:?}") };
        assert_eq!(reason.code, Code::PolicyDenied);
    }
}
