//! The rest of a body that was refused before it was read: taken in for a while, so that the answer arrives.
//!
//! Whoever closes a connection with bytes unread makes the kernel reset it, and a client that is still sending may lose
//! the answer that says why.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes, HttpBody};
use futures_util::StreamExt;
use hyper::body::{Frame, SizeHint};

/// How much of a body nobody wants is taken in: what a client sends before it looks whether there is an answer.
const REST_BYTES: usize = 64 << 20;
/// And for how long.
const REST_PATIENCE: Duration = Duration::from_secs(10);

/// A body whose rest is taken in when it is dropped before its end.
pub fn linger(body: Body) -> Body {
    if body.is_end_stream() { body } else { Body::new(Lingering { body: Some(body) }) }
}

struct Lingering {
    /// Gone once it came to an end.
    body: Option<Body>,
}

impl HttpBody for Lingering {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let Some(body) = &mut self.body else { return Poll::Ready(None) };
        let frame = std::task::ready!(Pin::new(body).poll_frame(context));
        if !matches!(frame, Some(Ok(_))) {
            self.body = None;
        }
        Poll::Ready(frame)
    }

    fn is_end_stream(&self) -> bool {
        self.body.as_ref().is_none_or(HttpBody::is_end_stream)
    }

    fn size_hint(&self) -> SizeHint {
        self.body.as_ref().map_or_else(|| SizeHint::with_exact(0), HttpBody::size_hint)
    }
}

impl Drop for Lingering {
    fn drop(&mut self) {
        let Some(body) = self.body.take().filter(|body| !body.is_end_stream()) else { return };
        if let Ok(runtime) = tokio::runtime::Handle::try_current() {
            runtime.spawn(tokio::time::timeout(REST_PATIENCE, discard(body)));
        }
    }
}

async fn discard(body: Body) {
    let (mut rest, mut left) = (body.into_data_stream(), REST_BYTES);
    while let Some(Ok(bytes)) = rest.next().await {
        let Some(fewer) = left.checked_sub(bytes.len()) else { return };
        left = fewer;
    }
}
