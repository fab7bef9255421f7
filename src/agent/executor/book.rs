//! What is open right now, for whoever must not wait for the disk.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::{mpsc, watch};

use crate::agent::request::Event;
use crate::agent::status::Doing;
use crate::protocol::{Finished, FromNode, Outcome};

/// Requests refused without a word in the ledger that are remembered, so that a second copy of one is not done.
const REFUSED_LIMIT: usize = 1_000;

#[derive(Debug, Default)]
pub struct Book {
    pages: Mutex<Pages>,
    /// Says that [`Book::doing`] may have changed.
    news: watch::Sender<()>,
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
    outcome: Option<Arc<Outcome>>,
}

impl Book {
    /// `course`: to what runs for it.
    pub fn open(&self, doing: Doing, course: mpsc::UnboundedSender<Event>) {
        let request = doing.request;
        let open = Open { doing: Some(doing), course: Some(course), outcome: None };
        self.pages().open.insert(request, open);
        self.news.send_replace(());
    }

    /// The outcome is known. Whether something still runs for it is another question: see [`Book::ended`].
    pub fn finished(&self, request: u64, outcome: &Outcome) {
        let outcome = Some(Arc::new(outcome.clone()));
        let mut pages = self.pages();
        let open = pages.open.entry(request).or_insert(Open { doing: None, course: None, outcome: None });
        open.outcome = outcome;
        open.doing = None;
        drop(pages);
        self.news.send_replace(());
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

    pub fn refused(&self, finished: Finished) {
        let mut pages = self.pages();
        if pages.refused.len() >= REFUSED_LIMIT {
            pages.refused.pop_front();
        }
        pages.refused.push_back(finished);
    }

    /// What there is to say of a request this node has already, if it has.
    pub fn known(&self, request: u64) -> Option<FromNode> {
        let pages = self.pages();
        let refused = pages.refused.iter().find(|refused| refused.request == request);
        match (pages.open.get(&request), refused) {
            (Some(open), _) => Some(said(request, open)),
            (None, Some(refused)) => Some(FromNode::Finished(refused.clone())),
            (None, None) => None,
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

    pub fn len(&self) -> usize {
        self.pages().open.len()
    }

    pub fn requests(&self) -> Vec<u64> {
        self.pages().open.keys().copied().collect()
    }

    /// What a Supervisor that was away has to hear again.
    pub fn told_again(&self) -> Vec<FromNode> {
        self.pages().open.iter().map(|(request, open)| said(*request, open)).collect()
    }

    fn pages(&self) -> MutexGuard<'_, Pages> {
        self.pages.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn said(request: u64, open: &Open) -> FromNode {
    match &open.outcome {
        Some(outcome) => FromNode::Finished(Finished { request, outcome: (**outcome).clone() }),
        None => FromNode::Accepted { request },
    }
}
