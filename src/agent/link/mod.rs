//! The link to the Supervisor: dialled by the node, held for ever, made anew whenever it breaks.
//!
//! Nothing here decides by the wall clock, and nothing here ends the agent: while there is no Supervisor, what runs on
//! this host goes on, and the ledger keeps what there is to tell.

mod connect;
mod handshake;
mod proxy;
mod session;

use std::future::Future;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

pub use connect::{Route, explained};
pub use handshake::upgrade;
pub use proxy::{Proxy, ProxyAddress};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;
use warden_platform::aligned_timer::Pulse;
use warden_platform::backoff::{After, delay};
use warden_protocol::{FromNode, Heartbeat, Hello, Refusal, SNAPSHOT_CHOICE, Welcome};

use self::handshake::Socket;
use self::session::{End, Session};
use super::executor::Executor;
use super::identity::Identity;
use super::settings::Settings;
use super::status::{Link as State, Teller};
use super::{Surroundings, host_info};

/// From the name of the Supervisor to the open websocket.
pub const CONNECT_LIMIT: Duration = Duration::from_secs(15);
/// A connection that lasted this long shows that the Supervisor is well: the next failure is a first one.
const STEADY: Duration = Duration::from_secs(30);
/// How often an agent that is not enrolled looks whether it is now.
const LOOK_AGAIN: Duration = Duration::from_secs(10);
/// Requests named in `hello`; what is not named is sent again, and answered from the ledger.
const OPEN_LIMIT: usize = 1_000;

/// Kinds of work this agent does, and what it heeds in them.
const CAPABILITIES: [&str; 2] = ["activity", SNAPSHOT_CHOICE];

/// Why there is no connection.
#[derive(Debug)]
pub enum Failure {
    /// The Supervisor does not want this node.
    Refused(String),
    /// It said, or meant, later.
    Busy {
        seconds: Option<u64>,
        why: String,
    },
    Broken(anyhow::Error),
}

/// All that the link needs of the agent.
pub struct Link {
    pub settings: Settings,
    pub executor: Executor,
    /// What the executor has to tell. Dropped while there is no connection: the ledger tells it again.
    pub reports: mpsc::Receiver<FromNode>,
    pub beats: mpsc::Receiver<Heartbeat>,
    /// How often to tell how the node is; none while nobody listens.
    pub listening: watch::Sender<Option<Duration>>,
    pub status: Arc<Teller>,
    pub pulse: Pulse,
    pub boot_id: String,
    pub instance: String,
    pub surroundings: Surroundings,
}

impl Link {
    /// Holds the link until told to stop.
    pub async fn run(mut self, stop: CancellationToken) -> anyhow::Result<()> {
        let mut attempt = 0;
        let mut told = String::new();
        while !stop.is_cancelled() {
            let Some(identity) = self.identity(&stop).await else { break };
            let supervisor = self.settings.supervisor.clone().unwrap_or_else(|| identity.supervisor.clone());
            self.status.identity(identity.node, identity.deployment, supervisor.to_string());
            self.show(State::Connecting);

            let (failure, lasted) = self.once(&identity, &stop).await;
            if stop.is_cancelled() {
                break;
            }
            if lasted >= STEADY {
                attempt = 0;
            }
            let (after, why) = match failure {
                Failure::Refused(why) => (After::Refused, why),
                Failure::Busy { seconds: Some(seconds), why } => (After::Asked { seconds, attempt }, why),
                Failure::Busy { seconds: None, why } => (After::Failure { attempt }, why),
                Failure::Broken(error) => (After::Failure { attempt }, format!("{error:#}")),
            };
            attempt += 1;
            let wait = delay(after, (self.surroundings.random)());
            // A Supervisor that is away for an hour is one line, not a hundred.
            if told == why {
                tracing::debug!(attempt, ?wait, "still no link to the Supervisor: {why}");
            } else {
                tracing::warn!(node = identity.node, ?wait, "no link to the Supervisor: {why}");
                told.clone_from(&why);
            }
            let again_at_ms = (self.surroundings.wall_clock)()
                .saturating_add(i64::try_from(wait.as_millis()).unwrap_or(i64::MAX));
            self.show(match after {
                After::Refused => State::Refused { why, again_at_ms },
                After::Failure { .. } | After::Asked { .. } => State::Waiting { why, attempt, again_at_ms },
            });
            self.wait(wait, &stop).await;
            if lasted >= STEADY {
                told.clear();
            }
        }
        Ok(())
    }

    /// One connection from its making to its end: why it ended, and how long it was open.
    async fn once(&mut self, identity: &Identity, stop: &CancellationToken) -> (Failure, Duration) {
        let connected = {
            let dialling = timeout(CONNECT_LIMIT, open(&self.settings, identity));
            let dialling = async { dialling.await.unwrap_or_else(|_| Err(too_slow())) };
            tokio::select! {
                () = stop.cancelled() => return (too_slow(), Duration::ZERO),
                connected = dropping(&mut self.reports, dialling) => connected,
            }
        };
        let socket = match connected {
            Ok(socket) => socket,
            Err(failure) => return (failure, Duration::ZERO),
        };
        // What waited here told how things were before.
        while self.beats.try_recv().is_ok() {}
        let hello = self.hello(identity);
        let begun = tokio::select! {
            () = stop.cancelled() => return (too_slow(), Duration::ZERO),
            begun = Session::begin(socket, hello, &self.executor, &mut self.reports, &mut self.beats) => begun,
        };
        let (session, welcome) = match begun {
            Ok(begun) => begun,
            Err(end) => return (failure(end), Duration::ZERO),
        };
        let opened = Instant::now();
        tracing::info!(node = identity.node, "linked to the Supervisor");
        self.status.link(State::Connected, (self.surroundings.wall_clock)());
        self.listening.send_replace(Some(self.settings.heartbeat.unwrap_or_else(|| beat_every(&welcome))));
        let end = session.run(self.pulse, stop).await;
        self.listening.send_replace(None);
        (failure(end), opened.elapsed())
    }

    /// Who this node is, as soon as it is somebody. Read anew for each connection: a host that is enrolled anew needs
    /// no restart of the agent.
    async fn identity(&mut self, stop: &CancellationToken) -> Option<Identity> {
        loop {
            let why = match Identity::read(
                &self.settings.state_directory,
                self.surroundings.credentials.as_deref(),
            ) {
                Ok(Some(identity)) => return Some(identity),
                Ok(None) => "this host is not enrolled: run `warden enroll`".to_owned(),
                Err(error) => format!("{error:#}"),
            };
            let state = State::NotEnrolled { why };
            if self.status.now().link != state {
                tracing::warn!("{}", if let State::NotEnrolled { why } = &state { why } else { "" });
                self.show(state);
            }
            self.wait(LOOK_AGAIN, stop).await;
            if stop.is_cancelled() {
                return None;
            }
        }
    }

    async fn wait(&mut self, wait: Duration, stop: &CancellationToken) {
        tokio::select! {
            () = stop.cancelled() => {}
            () = dropping(&mut self.reports, tokio::time::sleep(wait)) => {}
        }
    }

    fn hello(&self, identity: &Identity) -> Hello {
        let mut open = self.executor.open_requests();
        let older = open.len().saturating_sub(OPEN_LIMIT);
        open.drain(..older);
        Hello {
            node: identity.node,
            boot_id: self.boot_id.clone(),
            instance: self.instance.clone(),
            agent_version: env!("CARGO_PKG_VERSION").to_owned(),
            capabilities: CAPABILITIES.map(str::to_owned).to_vec(),
            host: host_info::about(),
            open,
        }
    }

    fn show(&self, state: State) {
        self.status.link(state, (self.surroundings.wall_clock)());
    }
}

async fn open(settings: &Settings, identity: &Identity) -> Result<Socket, Failure> {
    let endpoint = settings.supervisor.as_ref().unwrap_or(&identity.supervisor);
    let dialled = async {
        let route = Route::new(settings, endpoint, identity.ca.as_deref())?;
        route.dial().await
    };
    let stream = dialled.await.map_err(Failure::Broken)?;
    Ok(upgrade(stream, endpoint, &identity.credential).await?.socket)
}

/// Does `work`, while nobody is there to be told what the executor reports.
async fn dropping<T>(reports: &mut mpsc::Receiver<FromNode>, work: impl Future<Output = T>) -> T {
    let mut work = pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            Some(_) = reports.recv() => {}
        }
    }
}

fn failure(end: End) -> Failure {
    match end {
        End::Stopped => Failure::Broken(anyhow::anyhow!("stopped")),
        End::Broken(why) => Failure::Broken(anyhow::anyhow!(why)),
        End::Refused { code: Refusal::GoingAway, .. } => {
            Failure::Busy { seconds: None, why: "the Supervisor stops".to_owned() }
        }
        End::Refused { code, reason } => {
            let reason: String = reason.chars().filter(|c| !c.is_control()).take(200).collect();
            Failure::Refused(match code {
                Refusal::DuplicateIdentity => {
                    format!("another agent has the identity of this node: {reason}")
                }
                Refusal::UnknownNode => format!("the Supervisor does not know this node: {reason}"),
                Refusal::Malformed => format!("the Supervisor does not understand this agent: {reason}"),
                Refusal::GoingAway | Refusal::Other => reason,
            })
        }
    }
}

fn too_slow() -> Failure {
    Failure::Broken(anyhow::anyhow!("the Supervisor does not answer within {} s", CONNECT_LIMIT.as_secs()))
}

/// As the Supervisor says, within reason.
fn beat_every(welcome: &Welcome) -> Duration {
    use super::settings::HEARTBEAT_SECONDS;
    let seconds = welcome.heartbeat_seconds.clamp(*HEARTBEAT_SECONDS.start(), *HEARTBEAT_SECONDS.end());
    Duration::from_secs(seconds.into())
}
