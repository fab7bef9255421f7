//! From an HTTP request to a websocket: who is it, and is there room.

use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::{ConnectInfo, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use tokio::sync::SemaphorePermit;
use tokio::time::timeout;
use tokio_tungstenite::tungstenite::handshake::server::create_response_with_body;
use warden_platform::secret::Secret;

use super::socket::Socket;
use super::{COME_BACK, Hub, TURN_LIMIT};
use crate::connections::Visitor;
use crate::http::problem::Problem;
use crate::store::nodes;

/// Bytes of a credential; ours have some 50.
const CREDENTIAL_LIMIT: usize = 256;
/// For the bytes of the websocket to begin, once it is granted.
const UPGRADE_LIMIT: std::time::Duration = std::time::Duration::from_secs(10);

/// A node asks for its websocket.
pub async fn take(State(hub): State<Hub>, mut request: Request) -> Result<Response, Problem> {
    let Some(credential) = credential(request.headers()) else {
        return Err(unauthorized("a node shows its credential as `authorization: Bearer`"));
    };
    if hub.inner.stop.is_cancelled() || hub.inner.connections.len() >= hub.inner.limits.connections {
        return Err(busy("this Supervisor takes no more nodes now"));
    }
    let node = {
        let _turn = hub.turn().await?;
        nodes::by_credential_hash(&hub.inner.store, &credential.hash()).await?
    };
    let Some(node) = node else {
        return Err(unauthorized("no node has this credential: it was removed, or never enrolled here"));
    };
    let response = create_response_with_body(&request, Body::empty);
    let response = response.map_err(|error| {
        Problem::new(
            StatusCode::UPGRADE_REQUIRED,
            "upgrade_required",
            format!("expected a websocket: {error}"),
        )
        .header(header::UPGRADE, header::HeaderValue::from_static("websocket"))
    })?;
    if let Some(visitor) = request.extensions().get::<Visitor>() {
        visitor.becomes_node();
    }
    let address = address(&request);
    let upgrade = hyper::upgrade::on(&mut request);
    let connections = hub.inner.connections.clone();
    connections.spawn(async move {
        match timeout(UPGRADE_LIMIT, upgrade).await {
            Ok(Ok(stream)) => {
                let socket = Socket::new(stream).await;
                // On the heap: what waits for most of its life should be small.
                Box::pin(hub.serve(node, address, socket)).await;
            }
            Ok(Err(error)) => tracing::debug!(node = node.id, %error, "a node left during the upgrade"),
            Err(_) => tracing::debug!(node = node.id, "a node did not go on with the upgrade"),
        }
    });
    Ok(response)
}

impl Hub {
    /// A turn to look something up for somebody nobody knows yet.
    pub(super) async fn turn(&self) -> Result<SemaphorePermit<'_>, Problem> {
        match timeout(TURN_LIMIT, self.inner.lookups.acquire()).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(busy("many nodes come at once")),
        }
    }
}

/// The address of the caller, as the socket tells.
pub fn address(request: &Request) -> String {
    let peer = request.extensions().get::<ConnectInfo<SocketAddr>>();
    peer.map_or_else(String::new, |peer| peer.0.ip().to_canonical().to_string())
}

fn credential(headers: &HeaderMap) -> Option<Secret> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, credential) = value.split_once(' ')?;
    let credential = credential.trim();
    (scheme.eq_ignore_ascii_case("bearer") && (1..=CREDENTIAL_LIMIT).contains(&credential.len()))
        .then(|| Secret::new(credential))
}

fn unauthorized(reason: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unknown_credential", reason)
        .header(header::WWW_AUTHENTICATE, header::HeaderValue::from_static("Bearer"))
}

pub(super) fn busy(reason: &str) -> Problem {
    Problem::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_nodes", reason).retry_after(COME_BACK)
}
