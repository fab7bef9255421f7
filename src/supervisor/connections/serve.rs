//! Takes connections, speaks TLS and HTTP over them, and ends those that do not speak.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes, HttpBody};
use axum::extract::{ConnectInfo, Request};
use axum::response::Response;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto::Builder;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::watch::{Asking, FIRST_REQUEST, Visitor, Watched};
use super::{Connections, Place, Why};
use crate::server::Certificate;

/// For requests under way when the Supervisor stops.
const STOP_GRACE: Duration = Duration::from_secs(10);
/// For a client of HTTP/2 that is idle to take the goodbye.
const GOODBYE: Duration = Duration::from_secs(5);
/// How often the log tells of connections that were closed.
const TOLD_EVERY: Duration = Duration::from_secs(10);
/// After the kernel gave no connection: without descriptors the next try fails at once, too.
const TRY_AGAIN: Duration = Duration::from_millis(200);
/// Requests at once on one connection of HTTP/2.
const STREAMS: u32 = 100;
/// Between two questions whether a client of HTTP/2 is still there, while something is under way.
const PING: Duration = Duration::from_secs(60);

/// Serves until told to stop, then ends what is under way.
pub async fn serve(
    listener: TcpListener,
    tls: Option<Certificate>,
    router: Router,
    connections: Connections,
    stop: CancellationToken,
) {
    let mut builder = Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(FIRST_REQUEST);
    builder.http2().timer(TokioTimer::new()).max_concurrent_streams(STREAMS).keep_alive_interval(PING);
    let server = Arc::new(Server { tls, router, connections, builder, stop });
    let tracker = TaskTracker::new();
    let mut tell = interval(TOLD_EVERY);
    tell.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let accepted = tokio::select! {
            accepted = listener.accept() => accepted,
            _ = tell.tick() => {
                server.tell();
                continue;
            }
            () = server.stop.cancelled() => break,
        };
        match accepted {
            Ok((stream, peer)) => {
                if let Some(place) = server.connections.admit(peer.ip()) {
                    tracker.spawn(Arc::clone(&server).carry(stream, peer, place));
                }
            }
            Err(error) => {
                tracing::warn!(%error, "a connection cannot be taken");
                tokio::time::sleep(TRY_AGAIN).await;
            }
        }
    }
    tracker.close();
    // What is not done by then is cut off with the process.
    let _ = timeout(STOP_GRACE, tracker.wait()).await;
    server.tell();
    // Not before: thousands of nodes that are refused dial again at once, and what is under way needs the cores.
    drop(listener);
}

struct Server {
    tls: Option<Certificate>,
    router: Router,
    connections: Connections,
    builder: Builder<TokioExecutor>,
    stop: CancellationToken,
}

impl Server {
    fn tell(&self) {
        if let Some(line) = self.connections.told() {
            tracing::warn!("{line}");
        }
    }

    async fn carry(self: Arc<Server>, stream: TcpStream, peer: SocketAddr, place: Place) {
        // An answer is not held back for the next one.
        let _ = stream.set_nodelay(true);
        let connection = Arc::clone(place.connection());
        let visitor = Visitor::new(self.connections.clone(), place.number, Arc::clone(&connection));
        let stream = Watched::new(stream, place);
        let Some(certificate) = &self.tls else { return self.http(stream, peer, visitor).await };
        let accepted = tokio::select! {
            accepted = TlsAcceptor::from(certificate.current()).accept(stream) => accepted,
            why = connection.overdue() => return self.connections.ended(peer.ip(), why),
            () = self.stop.cancelled() => return,
        };
        match accepted {
            Ok(stream) => self.http(stream, peer, visitor).await,
            Err(error) => tracing::debug!(%peer, %error, "no TLS with a caller"),
        }
    }

    async fn http<S>(&self, stream: S, peer: SocketAddr, visitor: Visitor)
    where
        S: AsyncRead + AsyncWrite + Send + Unpin + 'static,
    {
        let connection = Arc::clone(visitor.connection());
        let router = self.router.clone();
        let service = service_fn(move |request: hyper::Request<Incoming>| {
            answer(router.clone(), peer, visitor.clone(), request.map(Body::new))
        });
        let serving = self.builder.serve_connection_with_upgrades(TokioIo::new(stream), service);
        let mut serving = pin!(serving);
        let (mut stopping, mut leaving) = (false, None);
        loop {
            let why = tokio::select! {
                ended = serving.as_mut() => {
                    if let Err(error) = ended {
                        tracing::debug!(%peer, %error, "a connection ended");
                    }
                    return;
                }
                () = self.stop.cancelled(), if !stopping => {
                    stopping = true;
                    serving.as_mut().graceful_shutdown();
                    continue;
                }
                () = sleep_until(leaving.unwrap_or_else(Instant::now)), if leaving.is_some() => return,
                why = connection.overdue(), if leaving.is_none() => why,
            };
            self.connections.ended(peer.ip(), why);
            if why != Why::Idle {
                return;
            }
            // A request that is on its way is told that nobody took it.
            serving.as_mut().graceful_shutdown();
            leaving = Some(Instant::now() + GOODBYE);
        }
    }
}

async fn answer(
    router: Router,
    peer: SocketAddr,
    visitor: Visitor,
    mut request: Request,
) -> Result<Response, Infallible> {
    let asking = visitor.connection().asks();
    request.extensions_mut().insert(ConnectInfo(peer));
    request.extensions_mut().insert(visitor);
    let Ok(response) = router.oneshot(request).await;
    Ok(response.map(|body| Body::new(Answering { body, _asking: asking })))
}

/// The body of an answer: until it is gone, the request is under way.
struct Answering {
    body: Body,
    _asking: Asking,
}

impl HttpBody for Answering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        Pin::new(&mut self.body).poll_frame(context)
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
