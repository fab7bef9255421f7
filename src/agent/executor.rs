//! What is asked of the node is done here, once.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;

use super::settings::Settings;
use crate::protocol::{Code, Finished, FromNode, Outcome, ToNode};

/// Takes requests and reports how they go.
#[derive(Clone)]
pub struct Executor {
    open: Arc<Mutex<BTreeSet<u64>>>,
    reports: mpsc::Sender<FromNode>,
}

#[expect(clippy::unused_async, reason = "what really does something will wait for it")]
impl Executor {
    pub async fn start(_settings: &Settings, reports: mpsc::Sender<FromNode>) -> anyhow::Result<Executor> {
        Ok(Executor { open: Arc::default(), reports })
    }

    /// Requests that are not settled.
    pub fn open_requests(&self) -> Vec<u64> {
        self.open().iter().copied().collect()
    }

    /// What a Supervisor that has just said welcome may not know yet.
    pub fn unsettled(&self) -> Vec<FromNode> {
        self.open().iter().map(|request| finished(*request)).collect()
    }

    /// Takes a request, a cancellation, or the word that an outcome is settled.
    pub async fn take(&self, message: ToNode) {
        match message {
            ToNode::Request(request) => {
                let request = request.request;
                self.open().insert(request);
                let _ = self.reports.send(FromNode::Accepted { request }).await;
                let _ = self.reports.send(finished(request)).await;
            }
            ToNode::Settled { request } => {
                self.open().remove(&request);
            }
            ToNode::Cancel { .. }
            | ToNode::Welcome(_)
            | ToNode::Refused { .. }
            | ToNode::UploadGrant(_)
            | ToNode::UploadConfirmed { .. }
            | ToNode::UploadRefused { .. } => {}
        }
    }

    /// Ends what runs, or leaves it where it can be taken up again.
    pub async fn shut_down(&self, _grace: Duration) {}

    fn open(&self) -> std::sync::MutexGuard<'_, BTreeSet<u64>> {
        self.open.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn finished(request: u64) -> FromNode {
    let outcome = Outcome::rejected(Code::UnsupportedAction, "this agent does nothing yet");
    FromNode::Finished(Finished { request, outcome })
}
