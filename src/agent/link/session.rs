//! One connection, from `hello` to its end.

use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message};
use tokio_util::sync::CancellationToken;
use warden_platform::aligned_timer::Pulse;
use warden_protocol as protocol;
use warden_protocol::{
    self, FromNode, Heartbeat, Hello, Outcome, PING_SECONDS, PINGS_UNANSWERED, Refusal, ToNode, Welcome,
};

use super::handshake::Socket;
use crate::executor::Executor;

/// For the Supervisor to answer `hello`: it may have to find out whether an older connection is dead.
const WELCOME_LIMIT: Duration = Duration::from_secs(15);
/// For one message to leave this host; longer, and the Supervisor does not read.
const SEND_LIMIT: Duration = Duration::from_secs(15);
/// For the Supervisor to say goodbye too.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);

/// Why a connection ended.
#[derive(Debug, PartialEq, Eq)]
pub enum End {
    /// We were told to stop.
    Stopped,
    Broken(String),
    /// The Supervisor closed it, and said why.
    Refused {
        code: Refusal,
        reason: String,
    },
}

pub struct Session<'a> {
    socket: Socket,
    executor: &'a Executor,
    reports: &'a mut mpsc::Receiver<FromNode>,
    beats: &'a mut mpsc::Receiver<Heartbeat>,
    unanswered: u32,
    /// The Supervisor understands offers; one that does not would take them for no message at all.
    takes_offers: bool,
}

impl<'a> Session<'a> {
    /// Says hello and waits for the welcome.
    pub async fn begin(
        socket: Socket,
        hello: Hello,
        executor: &'a Executor,
        reports: &'a mut mpsc::Receiver<FromNode>,
        beats: &'a mut mpsc::Receiver<Heartbeat>,
    ) -> Result<(Session<'a>, Welcome), End> {
        let mut session = Session { socket, executor, reports, beats, unanswered: 0, takes_offers: false };
        session.send(&FromNode::Hello(hello)).await?;
        let welcome = timeout(WELCOME_LIMIT, session.welcome()).await;
        let welcome = welcome.unwrap_or_else(|_| Err(broken("the Supervisor does not answer hello")))?;
        session.takes_offers = welcome.takes_offers;
        Ok((session, welcome))
    }

    /// Carries messages both ways until the connection ends.
    pub async fn run(mut self, pulse: Pulse, stop: &CancellationToken) -> End {
        let end = match self.carry(pulse, stop).await {
            Ok(()) => End::Stopped,
            Err(end) => end,
        };
        let frame = CloseFrame {
            code: if end == End::Stopped { CloseCode::Away } else { CloseCode::Normal },
            reason: "".into(),
        };
        // Whoever is gone does not say goodbye.
        let _ = timeout(CLOSE_LIMIT, async {
            self.socket.close(Some(frame)).await?;
            while let Some(Ok(_)) = self.socket.next().await {}
            Ok::<(), tokio_tungstenite::tungstenite::Error>(())
        })
        .await;
        end
    }

    async fn carry(&mut self, pulse: Pulse, stop: &CancellationToken) -> Result<(), End> {
        for report in self.executor.unsettled() {
            self.send(&report).await?;
        }
        let mut ping = pulse.every(Duration::from_secs(PING_SECONDS));
        loop {
            tokio::select! {
                () = stop.cancelled() => return Ok(()),
                received = self.socket.next() => self.received(received).await?,
                Some(report) = self.reports.recv() => self.send(&report).await?,
                Some(beat) = self.beats.recv() => self.send(&FromNode::Heartbeat(beat)).await?,
                _ = ping.tick() => self.ping().await?,
            }
        }
    }

    async fn welcome(&mut self) -> Result<Welcome, End> {
        loop {
            let message = self.socket.next().await;
            if let Some(message) = self.message(message)? {
                return match message {
                    ToNode::Welcome(welcome) => Ok(welcome),
                    ToNode::Refused { code, reason } => Err(End::Refused { code, reason }),
                    ToNode::Request(_)
                    | ToNode::Cancel { .. }
                    | ToNode::Settled { .. }
                    | ToNode::UploadGrant(_)
                    | ToNode::UploadConfirmed { .. }
                    | ToNode::UploadRefused { .. }
                    | ToNode::OfferRefused { .. } => {
                        Err(broken("the Supervisor spoke before it said welcome"))
                    }
                };
            }
        }
    }

    async fn received(&mut self, received: Option<Received>) -> Result<(), End> {
        let Some(message) = self.message(received)? else { return Ok(()) };
        match message {
            ToNode::Refused { code, reason } => Err(End::Refused { code, reason }),
            // Said twice: harmless.
            ToNode::Welcome(_) => Ok(()),
            work @ (ToNode::Request(_)
            | ToNode::Cancel { .. }
            | ToNode::Settled { .. }
            | ToNode::UploadGrant(_)
            | ToNode::UploadConfirmed { .. }
            | ToNode::UploadRefused { .. }
            | ToNode::OfferRefused { .. }) => {
                self.executor.take(work).await;
                Ok(())
            }
        }
    }

    /// What a frame says; none if it only shows that the Supervisor lives.
    fn message(&mut self, received: Option<Received>) -> Result<Option<ToNode>, End> {
        let message = match received {
            None => return Err(broken("the Supervisor closed the connection")),
            Some(Err(error)) => return Err(End::Broken(error.to_string())),
            Some(Ok(message)) => message,
        };
        self.unanswered = 0;
        match message {
            Message::Text(text) => match protocol::decode(&text) {
                Ok(message) => Ok(Some(message)),
                Err(error) => {
                    Err(End::Broken(format!("the Supervisor said what we do not understand: {error}")))
                }
            },
            Message::Binary(_) => Err(broken("the Supervisor sent what is no text")),
            Message::Close(frame) => {
                let why = frame.filter(|frame| !frame.reason.is_empty());
                Err(End::Broken(match why {
                    Some(frame) => format!("the Supervisor closed the connection: {}", frame.reason),
                    None => "the Supervisor closed the connection".to_owned(),
                }))
            }
            Message::Ping(_) | Message::Pong(_) | Message::Frame(_) => Ok(None),
        }
    }

    async fn ping(&mut self) -> Result<(), End> {
        if self.unanswered >= PINGS_UNANSWERED {
            return Err(broken("the Supervisor does not answer any more"));
        }
        self.unanswered += 1;
        self.put(Message::Ping(Vec::new().into())).await
    }

    async fn send(&mut self, message: &FromNode) -> Result<(), End> {
        if matches!(message, FromNode::SnapshotOffered(_)) && !self.takes_offers {
            tracing::debug!("the Supervisor is too old to take a snapshot that nobody asked for");
            return Ok(());
        }
        let text = match (protocol::encode(message), message) {
            (Ok(text), _) => text,
            // The outcome matters more than what goes with it.
            (Err(protocol::Error::TooLarge(_)), FromNode::Finished(finished)) => {
                let mut bare = finished.clone();
                match &mut bare.outcome {
                    Outcome::Completed { result } | Outcome::Rejected { result, .. } => *result = None,
                }
                protocol::encode(&FromNode::Finished(bare)).map_err(|error| End::Broken(error.to_string()))?
            }
            (Err(error), _) => {
                tracing::warn!(%error, "a message was not sent");
                return Ok(());
            }
        };
        self.put(Message::text(text)).await
    }

    async fn put(&mut self, message: Message) -> Result<(), End> {
        match timeout(SEND_LIMIT, self.socket.send(message)).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(error)) => Err(End::Broken(error.to_string())),
            Err(_) => Err(broken("the Supervisor does not read")),
        }
    }
}

type Received = Result<Message, tokio_tungstenite::tungstenite::Error>;

fn broken(why: &str) -> End {
    End::Broken(why.to_owned())
}
