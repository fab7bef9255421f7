//! Starting, stopping and restarting a unit, and waiting for what comes of it.

use std::time::Duration;

use futures_util::StreamExt;
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, OwnedObjectPath};

use super::error::{CallError, explain, explain_call};
use super::{DESTINATION, Error, MANAGER, MANAGER_PATH, Manager};

/// How a job takes the place of one that contradicts it: what systemctl does too.
const MODE: &str = "replace";
/// How often it is looked whether a job is still there: its end may go unheard while systemd executes itself anew.
const LOOK: Duration = Duration::from_secs(10);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verb {
    Start,
    Stop,
    Restart,
}

/// Hears of every job of one unit that ends, from before the first call on: a job can end before the answer to its
/// call arrives.
pub struct Jobs {
    manager: Manager,
    unit: String,
    signals: MessageStream,
    /// Path and result of those heard of and not yet asked for.
    ended: Vec<(String, String)>,
}

impl Manager {
    /// # Errors
    /// systemd is not there, or does not answer in time.
    pub async fn jobs(&self, unit: &str) -> Result<Jobs, Error> {
        let rule = MatchRule::builder()
            .msg_type(Type::Signal)
            .sender(DESTINATION)
            .path(MANAGER_PATH)
            .interface(MANAGER)
            .member("JobRemoved")
            .arg(2, unit)
            .build()
            .map_err(explain)?;
        let listen =
            async { MessageStream::for_match_rule(rule, self.connection(), None).await.map_err(explain) };
        let (signals, ()) = self.in_time(async { tokio::try_join!(listen, self.subscribe()) }).await?;
        Ok(Jobs { manager: self.clone(), unit: unit.to_owned(), signals, ended: Vec::new() })
    }
}

impl Jobs {
    /// Asks for a job; its path. Waits for the answer as long as the connection holds: a call given up on might
    /// still take effect.
    ///
    /// # Errors
    /// Refused, or lost on the way: then it may have taken effect.
    pub async fn call(&mut self, verb: Verb) -> Result<String, CallError> {
        let proxy = self.manager.proxy.clone();
        let unit = self.unit.clone();
        let call = async move {
            match verb {
                Verb::Start => proxy.start_unit(&unit, MODE).await,
                Verb::Stop => proxy.stop_unit(&unit, MODE).await,
                Verb::Restart => proxy.restart_unit(&unit, MODE).await,
            }
        };
        tokio::pin!(call);
        // Signals are taken off meanwhile: unread ones would hold up the answer behind them.
        let mut listening = true;
        loop {
            tokio::select! {
                biased;
                answer = &mut call => {
                    return answer.map(|path| path.to_string()).map_err(explain_call);
                }
                signal = self.signals.next(), if listening => match signal {
                    Some(signal) => self.hear(signal),
                    None => listening = false,
                }
            }
        }
    }

    /// Waits until a job has ended; its result: `done`, `failed`, `timeout`, `canceled`, `dependency`, `skipped`,
    /// ... Nothing when it ended unheard.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn ended(&mut self, job: &str) -> Result<Option<String>, Error> {
        loop {
            if let Some(at) = self.ended.iter().position(|(path, _)| path == job) {
                return Ok(Some(self.ended.swap_remove(at).1));
            }
            tokio::select! {
                signal = self.signals.next() => match signal {
                    Some(signal) => self.hear(signal),
                    None => return Err(Error::Unavailable("the D-Bus system bus went away".to_owned())),
                },
                () = tokio::time::sleep(LOOK) => {
                    let there = self.manager.standing(&self.unit).await?.job.is_some_and(|now| now.path == job);
                    if !there && !self.ended.iter().any(|(path, _)| path == job) {
                        return Ok(None);
                    }
                }
            }
        }
    }

    fn hear(&mut self, signal: zbus::Result<zbus::Message>) {
        let Ok(signal) = signal else { return };
        if let Ok((_, path, _, result)) =
            signal.body().deserialize::<(u32, OwnedObjectPath, String, String)>()
        {
            self.ended.push((path.to_string(), result));
        }
    }
}
