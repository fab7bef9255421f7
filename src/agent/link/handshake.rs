//! From a stream to a websocket, and what a Supervisor says that does not want to.

use anyhow::Context;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Error;
use tokio_tungstenite::tungstenite::handshake::client::{Request, Response, generate_key};
use tokio_tungstenite::tungstenite::http::header::{
    AUTHORIZATION, CONNECTION, DATE, HOST, HeaderValue, RETRY_AFTER, SEC_WEBSOCKET_KEY,
    SEC_WEBSOCKET_VERSION, UPGRADE, USER_AGENT,
};
use tokio_tungstenite::tungstenite::protocol::WebSocketConfig;
use warden_platform::backoff::retry_after;
use warden_platform::endpoint::Endpoint;
use warden_platform::secret::Secret;
use warden_protocol::{LINK_PATH, MESSAGE_LIMIT};

use super::Failure;
use super::connect::{Stream, explained};

/// Bytes read at once: most messages are smaller.
const READ_AT_ONCE: usize = 4 << 10;
/// Bytes that may wait for the Supervisor to read; then the connection is given up.
const WRITE_LIMIT: usize = 4 * MESSAGE_LIMIT;
/// Characters of a Supervisor's reason that are shown.
const REASON_LIMIT: usize = 200;

pub type Socket = WebSocketStream<Box<dyn Stream>>;

/// The credential was accepted, and nothing was said yet.
pub struct Opened {
    pub socket: Socket,
    /// The Supervisor's clock, as HTTP's `date` header has it.
    pub date: Option<String>,
}

/// Asks for the websocket, showing the credential.
pub async fn upgrade(
    stream: Box<dyn Stream>,
    endpoint: &Endpoint,
    credential: &Secret,
) -> Result<Opened, Failure> {
    let request = request(endpoint, credential).map_err(Failure::Broken)?;
    let settings = WebSocketConfig::default()
        .read_buffer_size(READ_AT_ONCE)
        .write_buffer_size(0)
        .max_write_buffer_size(WRITE_LIMIT)
        .max_message_size(Some(MESSAGE_LIMIT))
        .max_frame_size(Some(MESSAGE_LIMIT));
    match tokio_tungstenite::client_async_with_config(request, stream, Some(settings)).await {
        Ok((socket, answer)) => {
            let date = answer.headers().get(DATE).and_then(|date| date.to_str().ok());
            Ok(Opened { socket, date: date.map(str::to_owned) })
        }
        Err(Error::Http(response)) => Err(declined(&response)),
        Err(error) => Err(Failure::Broken(
            explained(error, endpoint).context("what answered is not a Supervisor of Warden, or broke off"),
        )),
    }
}

fn request(endpoint: &Endpoint, credential: &Secret) -> anyhow::Result<Request> {
    let authority = endpoint.authority();
    let mut shown = HeaderValue::try_from(format!("Bearer {}", credential.expose()))
        .map_err(|_| anyhow::anyhow!("the credential is damaged: enrol this host anew"))?;
    shown.set_sensitive(true);
    Request::builder()
        .uri(format!("ws://{authority}{}", endpoint.path(LINK_PATH)))
        .header(HOST, authority)
        .header(CONNECTION, "Upgrade")
        .header(UPGRADE, "websocket")
        .header(SEC_WEBSOCKET_VERSION, "13")
        .header(SEC_WEBSOCKET_KEY, generate_key())
        .header(USER_AGENT, concat!("warden/", env!("CARGO_PKG_VERSION")))
        .header(AUTHORIZATION, shown)
        .body(())
        .context("the address of the Supervisor makes no request")
}

fn declined(response: &Response) -> Failure {
    let status = response.status().as_u16();
    let asked =
        response.headers().get(RETRY_AFTER).and_then(|value| value.to_str().ok()).and_then(retry_after);
    let told = response.body().as_deref().and_then(reason);
    let with = |what: &str| match &told {
        Some(reason) => format!("{what} ({status}): {reason}"),
        None => format!("{what} ({status})"),
    };
    match (status, asked) {
        (401 | 403, _) => Failure::Refused(with("the credential of this node is not accepted")),
        (429 | 503, _) | (_, Some(_)) => {
            Failure::Busy { seconds: asked, why: with("the Supervisor asks to come back later") }
        }
        (404, _) => {
            Failure::Broken(anyhow::anyhow!(with("there is no Supervisor of Warden at this address")))
        }
        _ => Failure::Broken(anyhow::anyhow!(with("the Supervisor does not open the link"))),
    }
}

/// The sentence of a problem (RFC 9457) as far as it came with the head of the answer.
fn reason(body: &[u8]) -> Option<String> {
    let problem: serde_json::Value = serde_json::from_slice(body).ok()?;
    let reason = problem.get("reason")?.as_str()?;
    Some(reason.chars().map(|c| if c.is_control() { ' ' } else { c }).take(REASON_LIMIT).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, retry: Option<&str>, body: &str) -> Response {
        let mut answer = Response::new(Some(body.as_bytes().to_vec()));
        *answer.status_mut() = status.try_into().unwrap();
        if let Some(retry) = retry {
            answer.headers_mut().insert(RETRY_AFTER, HeaderValue::try_from(retry).unwrap());
        }
        answer
    }

    #[test]
    fn a_declined_upgrade_is_told_by_its_kind() {
        let refused = declined(&answer(401, Some("5"), r#"{"reason":"unknown\ncredential"}"#));
        assert!(
            matches!(&refused, Failure::Refused(why) if why.ends_with("(401): unknown credential")),
            "{refused:?}"
        );
        let busy = declined(&answer(503, Some("30"), "<html>"));
        assert!(matches!(busy, Failure::Busy { seconds: Some(30), .. }), "{busy:?}");
        let busy = declined(&answer(429, None, ""));
        assert!(matches!(busy, Failure::Busy { seconds: None, .. }), "{busy:?}");
        let busy = declined(&answer(502, Some("7"), ""));
        assert!(matches!(busy, Failure::Busy { seconds: Some(7), .. }), "{busy:?}");
        let other = declined(&answer(200, None, ""));
        assert!(matches!(&other, Failure::Broken(_)), "{other:?}");
    }
}
