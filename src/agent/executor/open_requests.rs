//! What is open right now, for whoever must not wait for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};
use warden_protocol::{Finished, FromNode, Outcome};

use crate::request::Event;
use crate::status::Doing;

/// Requests refused without a word in the ledger that are remembered, so that a second copy of one is not done.
const REFUSED_LIMIT: usize = 1_000;

#[derive(Debug, Default)]
pub struct Book {
    pages: Mutex<Pages>,
    /// Says that [`Book::doing`] may have changed.
    news: watch::Sender<()>,
    /// Says that a request has ended.
    ends: watch::Sender<()>,
}

#[derive(Debug, Default)]
struct Pages {
    open: BTreeMap<u64, Open>,
    refused: VecDeque<Finished>,
}

#[derive(Debug)]
struct Open {
    /// What is being done, while something is.
    doing: Option<Doing>,
    /// To what runs for it, as long as it does.
    course: Option<mpsc::UnboundedSender<Event>>,
    /// Whether it is in the ledger is not known: nobody hears of it.
    in_doubt: bool,
    outcome: Option<Arc<Outcome>>,
}

/// What there is to say of a request.
#[derive(Debug)]
pub enum Known {
    No,
    /// It is here, and whether it is accepted is not known yet.
    InDoubt,
    Said(Box<FromNode>),
}

impl Book {
    /// `course`: to what runs for it. `in_doubt`: whether it is in the ledger is not known.
    pub fn open(&self, doing: Doing, course: mpsc::UnboundedSender<Event>, in_doubt: bool) {
        let request = doing.request;
        let open = Open { doing: Some(doing), course: Some(course), in_doubt, outcome: None };
        self.pages().open.insert(request, open);
        self.news.send_replace(());
    }

    /// It is in the ledger.
    pub fn accepted(&self, request: u64) {
        if let Some(open) = self.pages().open.get_mut(&request) {
            open.in_doubt = false;
        }
    }

    /// The outcome is known. Whether something still runs for it is another question: see [`Book::ended`].
    pub fn finished(&self, request: u64, outcome: &Outcome) {
        let outcome = Some(Arc::new(outcome.clone()));
        let mut pages = self.pages();
        let without = Open { doing: None, course: None, in_doubt: false, outcome: None };
        let open = pages.open.entry(request).or_insert(without);
        open.outcome = outcome;
        open.doing = None;
        drop(pages);
        self.news.send_replace(());
        self.ends.send_replace(());
    }

    /// Nothing runs for it any more.
    pub fn ended(&self, request: u64) {
        if let Some(open) = self.pages().open.get_mut(&request) {
            open.course = None;
        }
    }

    pub fn settled(&self, request: u64) {
        self.pages().open.remove(&request);
    }

    /// Nothing of it is in the ledger, and nothing comes of it.
    pub fn refused(&self, finished: Finished) {
        let mut pages = self.pages();
        pages.open.remove(&finished.request);
        if pages.refused.len() >= REFUSED_LIMIT {
            pages.refused.pop_front();
        }
        pages.refused.push_back(finished);
        drop(pages);
        self.news.send_replace(());
    }

    pub fn known(&self, request: u64) -> Known {
        let pages = self.pages();
        let refused = pages.refused.iter().find(|refused| refused.request == request);
        match (pages.open.get(&request), refused) {
            (Some(open), _) => said(request, open).map_or(Known::InDoubt, |said| Known::Said(Box::new(said))),
            (None, Some(refused)) => Known::Said(Box::new(FromNode::Finished(refused.clone()))),
            (None, None) => Known::No,
        }
    }

    /// Passes an event on to what runs for a request; `false` when nothing does.
    pub fn pass(&self, request: u64, event: Event) -> bool {
        let pages = self.pages();
        let course = pages.open.get(&request).and_then(|open| open.course.as_ref());
        course.is_some_and(|course| course.send(event).is_ok())
    }

    /// What is being done, the oldest first.
    pub fn doing(&self) -> Vec<Doing> {
        self.pages().open.values().filter_map(|open| open.doing.clone()).collect()
    }

    pub fn news(&self) -> watch::Receiver<()> {
        self.news.subscribe()
    }

    pub fn ends(&self) -> watch::Receiver<()> {
        self.ends.subscribe()
    }

    pub fn len(&self) -> usize {
        self.pages().open.len()
    }

    /// Those of which a Supervisor may hear.
    pub fn requests(&self) -> Vec<u64> {
        let pages = self.pages();
        pages
            .open
            .iter()
            .filter(|(request, open)| said(**request, open).is_some())
            .map(|(request, _)| *request)
            .collect()
    }

    /// What a Supervisor that was away has to hear again.
    pub fn told_again(&self) -> Vec<FromNode> {
        self.pages().open.iter().filter_map(|(request, open)| said(*request, open)).collect()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Nothing while it is in doubt.
fn said(request: u64, open: &Open) -> Option<FromNode> {
    match &open.outcome {
        Some(outcome) => Some(FromNode::Finished(Finished { request, outcome: (**outcome).clone() })),
        None => (!open.in_doubt).then_some(FromNode::Accepted { request }),
    }
}
