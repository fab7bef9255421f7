//! A node's websocket: bounded both ways, and small while nothing happens.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use futures_util::{SinkExt, StreamExt};
use hyper::upgrade::Upgraded;
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::time::timeout;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::protocol::frame::coding::CloseCode;
use tokio_tungstenite::tungstenite::protocol::{CloseFrame, Message, Role, WebSocketConfig};
use warden_protocol::{self as protocol, MESSAGE_LIMIT, ToNode};

/// Bytes read at once. A heartbeat has two or three times as many: the buffer grows for it and is given back.
const READ_AT_ONCE: usize = 1 << 10;
/// Bytes that may wait for a node to read.
const WRITE_LIMIT: usize = 4 * MESSAGE_LIMIT;
/// For one message to leave; longer, and the node does not read.
const SEND_LIMIT: Duration = Duration::from_secs(10);
/// For the node to say goodbye too.
const CLOSE_LIMIT: Duration = Duration::from_secs(2);
/// Bytes of the frame of a client beside its content: two, and the mask.
const FRAME: u64 = 6;

pub struct Socket {
    /// None only while it is made anew.
    inner: Option<WebSocketStream<Counted>>,
    /// Bytes of the frames that were handed out, at least.
    accounted: u64,
    /// The buffers have grown.
    grown: bool,
}

/// Counts what is read, so that it is known whether anything waits in a buffer.
struct Counted {
    stream: TokioIo<Upgraded>,
    read: u64,
}

/// Why nothing more comes or goes.
#[derive(Debug, PartialEq, Eq)]
pub enum Failure {
    /// The node closed it, or the network did.
    Gone(String),
    /// The node does not read.
    Slow,
    /// The node sent what is no message.
    Malformed(String),
}

/// What came.
#[derive(Debug)]
pub enum Received {
    Text(tokio_tungstenite::tungstenite::Utf8Bytes),
    /// A ping or a pong: the node lives.
    Sign,
}

impl Socket {
    pub async fn new(stream: Upgraded) -> Socket {
        let stream = Counted { stream: TokioIo::new(stream), read: 0 };
        Socket { inner: Some(websocket(stream).await), accounted: 0, grown: false }
    }

    /// The next message. Can be dropped at any time: nothing is lost.
    pub async fn receive(&mut self) -> Result<Received, Failure> {
        let Some(inner) = &mut self.inner else { return Err(Failure::Gone("closed".to_owned())) };
        let message = match inner.next().await {
            None => return Err(Failure::Gone("the node closed the connection".to_owned())),
            Some(Ok(message)) => message,
            Some(Err(error)) => return Err(explain(&error)),
        };
        let length = message.len() as u64;
        self.grown |= length > READ_AT_ONCE as u64;
        // What is in longer frames or in parts takes more bytes than this; then the buffers are simply kept.
        self.accounted += FRAME + length + if length > 125 { 2 } else { 0 };
        match message {
            Message::Text(text) => Ok(Received::Text(text)),
            Message::Ping(_) => {
                // tungstenite has the pong ready.
                self.flush().await?;
                Ok(Received::Sign)
            }
            Message::Pong(_) | Message::Frame(_) => Ok(Received::Sign),
            Message::Binary(_) => Err(Failure::Malformed("a binary message".to_owned())),
            Message::Close(_) => Err(Failure::Gone("the node closed the connection".to_owned())),
        }
    }

    pub async fn send(&mut self, message: &ToNode) -> Result<(), Failure> {
        match protocol::encode(message) {
            Ok(text) => {
                self.grown |= text.len() > READ_AT_ONCE;
                self.put(Message::text(text)).await
            }
            Err(error) => {
                tracing::error!(%error, "a message to a node was not sent");
                Ok(())
            }
        }
    }

    pub async fn ping(&mut self) -> Result<(), Failure> {
        self.put(Message::Ping(Vec::new().into())).await
    }

    /// Gives back what the buffers have grown by, if nothing waits in them.
    pub async fn release(&mut self) {
        let Some(inner) = &self.inner else { return };
        if !self.grown || inner.get_ref().read != self.accounted {
            return;
        }
        if let Some(inner) = self.inner.take() {
            self.inner = Some(websocket(inner.into_inner()).await);
            self.grown = false;
        }
    }

    /// Says goodbye.
    pub async fn close(mut self, code: CloseCode, reason: &'static str) {
        let Some(mut inner) = self.inner.take() else { return };
        let frame = CloseFrame { code, reason: reason.into() };
        let _ = timeout(CLOSE_LIMIT, async {
            inner.close(Some(frame)).await?;
            while let Some(Ok(_)) = inner.next().await {}
            Ok::<(), Error>(())
        })
        .await;
    }

    async fn flush(&mut self) -> Result<(), Failure> {
        let Some(inner) = &mut self.inner else { return Ok(()) };
        in_time(inner.flush()).await
    }

    async fn put(&mut self, message: Message) -> Result<(), Failure> {
        let Some(inner) = &mut self.inner else { return Err(Failure::Gone("closed".to_owned())) };
        in_time(inner.send(message)).await
    }
}

async fn in_time(work: impl Future<Output = Result<(), Error>>) -> Result<(), Failure> {
    match timeout(SEND_LIMIT, work).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(explain(&error)),
        Err(_) => Err(Failure::Slow),
    }
}

async fn websocket(stream: Counted) -> WebSocketStream<Counted> {
    let settings = WebSocketConfig::default()
        .read_buffer_size(READ_AT_ONCE)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_LIMIT)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    WebSocketStream::from_raw_socket(stream, Role::Server, Some(settings)).await
}

#[expect(clippy::wildcard_enum_match_arm, reason = "the others are about handshakes and addresses")]
fn explain(error: &Error) -> Failure {
    match error {
        Error::Capacity(_) | Error::Utf8(_) => Failure::Malformed(error.to_string()),
        Error::Protocol(
            tokio_tungstenite::tungstenite::error::ProtocolError::ResetWithoutClosingHandshake,
        ) => Failure::Gone(error.to_string()),
        Error::Protocol(_) => Failure::Malformed(error.to_string()),
        Error::WriteBufferFull(_) => Failure::Slow,
        other => Failure::Gone(other.to_string()),
    }
}

impl AsyncRead for Counted {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let before = buffer.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(context, buffer);
        self.read += (buffer.filled().len() - before) as u64;
        read
    }
}

impl AsyncWrite for Counted {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(context, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(context)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(context)
    }
}
