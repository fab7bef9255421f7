//! One connection: what came over it, and until when something must come again.

use std::io;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::{Connections, Place, Why};

/// For the first byte: whoever connects has something to say.
pub const FIRST_BYTE: Duration = Duration::from_secs(10);
/// For the first request, TLS included: a node far away on a busy host.
pub const FIRST_REQUEST: Duration = Duration::from_secs(30);
/// For another request, since the last one was answered.
pub const IDLE: Duration = Duration::from_secs(60);
/// For a byte either way while a request comes, is carried out, or is answered: carrying one out takes at most 30 s, and
/// writing the end of an upload to a slow disk some more.
pub const STALLED: Duration = Duration::from_secs(120);

/// What is known of a connection.
pub struct Connection {
    pub(super) peer: IpAddr,
    /// What it counts for, if it does.
    pub(super) address: Option<IpAddr>,
    began: Instant,
    /// Milliseconds after that a byte came or went last.
    moved: AtomicU64,
    state: Mutex<State>,
    ended: CancellationToken,
}

#[derive(Default)]
struct State {
    heard: bool,
    asked: bool,
    known: bool,
    /// Requests and answers under way.
    under_way: usize,
    /// Since when none is.
    at_rest: Option<Instant>,
}

/// How much a connection would be missed, by those that would be missed least first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Rank {
    /// It has asked for nothing yet.
    Unheard,
    /// Nothing is under way.
    Asked,
    /// The same, of one that showed a key or a credential.
    Known,
    Served,
}

impl Connection {
    pub(super) fn new(peer: IpAddr, address: Option<IpAddr>) -> Connection {
        Connection {
            peer,
            address,
            began: Instant::now(),
            moved: AtomicU64::new(0),
            state: Mutex::default(),
            ended: CancellationToken::new(),
        }
    }

    pub(super) fn rank(&self) -> Rank {
        let state = self.state();
        match *state {
            State { under_way: 1.., .. } => Rank::Served,
            State { known: true, .. } => Rank::Known,
            State { asked: true, .. } => Rank::Asked,
            State { .. } => Rank::Unheard,
        }
    }

    /// A request has come; it is under way until what this returns is dropped.
    pub(super) fn asks(self: &Arc<Connection>) -> Asking {
        let mut state = self.state();
        state.heard = true;
        state.asked = true;
        state.under_way += 1;
        Asking(Arc::clone(self))
    }

    pub(super) fn hears(&self) {
        self.state().heard = true;
    }

    pub(super) fn is_known(&self) {
        self.state().known = true;
    }

    /// It is to make way.
    pub(super) fn end(&self) {
        self.ended.cancel();
    }

    #[cfg(test)]
    pub(super) fn is_ended(&self) -> bool {
        self.ended.is_cancelled()
    }

    /// Returns why the connection is to end, when it is.
    pub(super) async fn overdue(&self) -> Why {
        loop {
            let (due, why) = self.due();
            tokio::select! {
                () = self.ended.cancelled() => return Why::MadeWay,
                () = sleep_until(due) => {}
            }
            // It may have moved meanwhile.
            if self.due().0 <= due {
                return why;
            }
        }
    }

    fn due(&self) -> (Instant, Why) {
        let state = self.state();
        match *state {
            State { under_way: 1.., .. } => {
                let moved = Duration::from_millis(self.moved.load(Ordering::Relaxed));
                (self.began + moved + STALLED, Why::Stalled)
            }
            State { asked: true, at_rest, .. } => (at_rest.unwrap_or(self.began) + IDLE, Why::Idle),
            State { heard: true, .. } => (self.began + FIRST_REQUEST, Why::NoRequest),
            State { .. } => (self.began + FIRST_BYTE, Why::Silent),
        }
    }

    fn moves(&self) {
        let since = u64::try_from(self.began.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.moved.store(since, Ordering::Relaxed);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A request that is under way.
pub struct Asking(Arc<Connection>);

impl Drop for Asking {
    fn drop(&mut self) {
        let mut state = self.0.state();
        state.under_way -= 1;
        state.at_rest = Some(Instant::now());
        drop(state);
        // What was not asked for was not waited for.
        self.0.moves();
    }
}

/// Whoever sent a request, for those who find out who it is.
#[derive(Clone)]
pub struct Visitor {
    connections: Connections,
    number: u64,
    connection: Arc<Connection>,
}

impl Visitor {
    pub(super) fn new(connections: Connections, number: u64, connection: Arc<Connection>) -> Visitor {
        Visitor { connections, number, connection }
    }

    pub(super) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// It has shown a key that is good.
    pub fn is_known(&self) {
        self.connection.is_known();
    }

    /// It is the link of a node from now on, and no caller any more.
    pub fn becomes_node(&self) {
        self.connection.is_known();
        self.connections.leave(self.number);
    }
}

/// A stream that tells its connection what comes and goes, and has its place until it is dropped.
pub(super) struct Watched {
    stream: TcpStream,
    connection: Arc<Connection>,
    heard: bool,
    _place: Place,
}

impl Watched {
    pub(super) fn new(stream: TcpStream, place: Place) -> Watched {
        Watched { stream, connection: Arc::clone(place.connection()), heard: false, _place: place }
    }
}

impl AsyncRead for Watched {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        if buffer.filled().len() > before {
            if !self.heard {
                self.heard = true;
                self.connection.hears();
            }
            self.connection.moves();
        }
        read
    }
}

impl AsyncWrite for Watched {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.connection.moves();
        }
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(context, bytes);
        if matches!(written, Poll::Ready(Ok(1..))) {
            self.connection.moves();
        }
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_must_say_something_then_ask_then_ask_again_or_go() {
        let peer: IpAddr = "192.0.2.1".parse().unwrap();
        let connection = Arc::new(Connection::new(peer, None));
        let began = connection.began;
        assert_eq!(connection.due(), (began + FIRST_BYTE, Why::Silent));
        connection.hears();
        assert_eq!(connection.due(), (began + FIRST_REQUEST, Why::NoRequest));
        let asking = connection.asks();
        assert_eq!(connection.due(), (began + STALLED, Why::Stalled));
        connection.moved.store(5_000, Ordering::Relaxed);
        assert_eq!(connection.due(), (began + Duration::from_secs(5) + STALLED, Why::Stalled));
        let second = connection.asks();
        drop(asking);
        assert_eq!(connection.due().1, Why::Stalled, "one is still under way");
        drop(second);
        let at_rest = connection.state().at_rest.unwrap();
        assert_eq!(connection.due(), (at_rest + IDLE, Why::Idle));
        connection.end();
        assert_eq!(connection.overdue().await, Why::MadeWay);
    }
}
