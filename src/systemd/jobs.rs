//! Starting, stopping and restarting a unit, and waiting for what comes of it.

use std::collections::HashMap;
use std::num::NonZeroUsize;
use std::time::Duration;

use futures_util::{FutureExt, StreamExt};
use zbus::message::Type;
use zbus::{MatchRule, MessageStream, OwnedMatchRule, OwnedObjectPath, OwnedVariant};

use super::error::{CallError, explain, explain_call};
use super::properties::text;
use super::unit_state::{SIGKILL, TIMED_OUT, killed_by, signed};
use super::{DESTINATION, Error, MANAGER, MANAGER_PATH, Manager, PROPERTIES, SERVICE, UNIT};

/// How a job takes the place of one that contradicts it: what systemctl does too.
const MODE: &str = "replace";
/// How often it is looked whether a job is still there: its end may go unheard while systemd executes itself anew.
const LOOK: Duration = Duration::from_secs(10);
/// Signals of a unit's properties that wait to be read: a job makes some twenty.
const CHANGES: NonZeroUsize = NonZeroUsize::new(256).unwrap();
/// `SubState` of a service whose processes get SIGKILL because they did not end in time.
const SIGKILLS: [&str; 2] = ["stop-sigkill", "final-sigkill"];

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
    /// Of the unit's properties.
    changes: MessageStream,
    /// Path and result of those heard of and not yet asked for.
    ended: Vec<(String, String)>,
    stop: Stop,
}

/// How a job ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Ended {
    /// `done`, `failed`, `timeout`, `canceled`, `dependency`, `skipped`, ...; absent when it ended unheard.
    pub result: Option<String>,
    /// The stop that was its first part, or all of it, was seen to end in SIGKILL. Of a unit that was not up before
    /// it means nothing: systemd repeats how its last run ended.
    pub killed: bool,
}

/// What is heard of a unit's stop. Of a restart nothing else tells of it once the unit runs again.
#[derive(Debug, Default)]
struct Stop {
    began: bool,
    /// The unit is being started again: what is heard from then on is of its next run.
    is_over: bool,
    /// The last that was heard of the service says that it was killed.
    is_told: bool,
    killed: bool,
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
        let connection = self.connection();
        let listen = |rule: OwnedMatchRule, queued| async move {
            MessageStream::for_match_rule(rule, connection, queued).await.map_err(explain)
        };
        let (signals, changes, ()) = self
            .in_time(async {
                let path = self.proxy.load_unit(unit).await.map_err(explain)?;
                let of_unit = MatchRule::builder()
                    .msg_type(Type::Signal)
                    .sender(DESTINATION)
                    .path(path.as_str())
                    .interface(PROPERTIES)
                    .member("PropertiesChanged")
                    .build()
                    .map_err(explain)?;
                let (jobs, unit) = (listen(rule.into(), None), listen(of_unit.into(), Some(CHANGES)));
                tokio::try_join!(jobs, unit, self.subscribe())
            })
            .await?;
        let (manager, unit) = (self.clone(), unit.to_owned());
        Ok(Jobs { manager, unit, signals, changes, ended: Vec::new(), stop: Stop::default() })
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
                heard = self.next(), if listening => listening = heard,
            }
        }
    }

    /// Waits until a job has ended.
    ///
    /// # Errors
    /// The connection broke.
    pub async fn ended(&mut self, job: &str) -> Result<Ended, Error> {
        loop {
            if let Some(at) = self.ended.iter().position(|(path, _)| path == job) {
                let result = Some(self.ended.swap_remove(at).1);
                return Ok(self.as_heard(result));
            }
            tokio::select! {
                heard = self.next() => if !heard {
                    return Err(Error::Unavailable("the D-Bus system bus went away".to_owned()));
                },
                () = tokio::time::sleep(LOOK) => {
                    let there = self.manager.standing(&self.unit).await?.job.is_some_and(|now| now.path == job);
                    if !there && !self.ended.iter().any(|(path, _)| path == job) {
                        return Ok(self.as_heard(None));
                    }
                }
            }
        }
    }

    /// systemd tells of the unit before it tells that the job has ended, so that this is here already.
    fn as_heard(&mut self, result: Option<String>) -> Ended {
        while let Some(Some(signal)) = self.changes.next().now_or_never() {
            self.stop.hear(signal);
        }
        Ended { result, killed: self.stop.killed }
    }

    /// Takes the next signal; `false` when none will come any more.
    async fn next(&mut self) -> bool {
        tokio::select! {
            signal = self.signals.next() => match signal {
                Some(signal) => self.hear(signal),
                None => return false,
            },
            signal = self.changes.next() => match signal {
                Some(signal) => self.stop.hear(signal),
                None => return false,
            },
        }
        true
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

impl Stop {
    fn hear(&mut self, signal: zbus::Result<zbus::Message>) {
        let Ok(signal) = signal else { return };
        let body = signal.body();
        if let Ok((interface, changed, _)) =
            body.deserialize::<(String, HashMap<String, OwnedVariant>, Vec<String>)>()
        {
            self.changed(&interface, &changed);
        }
    }

    /// systemd sends all of a unit's properties that may change, at each change: those of the service first.
    fn changed(&mut self, interface: &str, changed: &HashMap<String, OwnedVariant>) {
        let word = |name| changed.get(name).map(text).unwrap_or_default();
        if interface == SERVICE {
            let number = |name| changed.get(name).map(signed).unwrap_or_default();
            let by = killed_by(number("ExecMainCode"), number("ExecMainStatus"));
            self.is_told = word("Result") == TIMED_OUT || by == Some(SIGKILL);
        }
        if interface != UNIT || self.is_over {
            return;
        }
        match word("ActiveState").as_str() {
            "deactivating" | "inactive" | "failed" => {
                self.began = true;
                self.killed |= self.is_told || SIGKILLS.contains(&word("SubState").as_str());
            }
            "activating" | "active" => self.is_over = self.began,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use zbus::Variant;

    use super::*;

    fn heard(told: &[(&str, &[(&str, Variant<'static>)])]) -> bool {
        let mut stop = Stop::default();
        for (interface, properties) in told {
            let properties = properties.iter().map(|(name, value)| {
                ((*name).to_owned(), OwnedVariant::try_from(value.try_clone().unwrap()).unwrap())
            });
            stop.changed(interface, &properties.collect());
        }
        stop.killed
    }

    fn state(active: &'static str, sub: &'static str) -> [(&'static str, Variant<'static>); 2] {
        [("ActiveState", Variant::from(active)), ("SubState", Variant::from(sub))]
    }

    fn end(result: &'static str, code: i32, status: i32) -> [(&'static str, Variant<'static>); 3] {
        let number = |name, value: i32| (name, Variant::from(value));
        [("Result", Variant::from(result)), number("ExecMainCode", code), number("ExecMainStatus", status)]
    }

    #[test]
    fn a_stop_was_killed_when_its_own_end_says_so_and_not_the_start_after_it() {
        let stopping = (UNIT, &state("deactivating", "stop-sigterm")[..]);
        let starting = (UNIT, &state("activating", "start")[..]);
        let well = (SERVICE, &end("success", 1, 0)[..]);
        let late = (SERVICE, &end("timeout", 2, 9)[..]);
        let dead = (UNIT, &state("inactive", "dead")[..]);
        assert!(!heard(&[stopping, well, dead, starting]));
        assert!(heard(&[stopping, late, dead, starting]));
        assert!(heard(&[stopping, (UNIT, &state("deactivating", "stop-sigkill")), well, dead]));
        assert!(heard(&[stopping, (SERVICE, &end("signal", 2, 9)), dead]), "it was killed by KillSignal=");
        assert!(!heard(&[stopping, (SERVICE, &end("signal", 2, 15)), dead]));
        assert!(!heard(&[stopping, well, dead, starting, late, (UNIT, &state("failed", "failed"))]));
        // It was being started when the restart came.
        assert!(heard(&[starting, stopping, late, dead, starting]));
    }
}
