//! A new node trades an enrolment token for its id.

use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use warden_platform::secret::Secret;
use warden_protocol::{self as protocol, Enrol, Enrolled};

use super::Hub;
use super::upgrade::address;
use crate::http::problem::Problem;
use crate::store::enrolments::{self, Applicant};
use crate::store::nodes::{self, Node};

/// Bytes of the request: a token, a hash, and what the host is.
const BODY_LIMIT: usize = 16 << 10;

/// Asked again with the same token and the same credential, the answer is the same: the first may have been lost.
pub async fn enrol(State(hub): State<Hub>, request: Request) -> Result<Response, Problem> {
    let address = address(&request);
    let body = to_bytes(request.into_body(), BODY_LIMIT).await.map_err(|_| {
        Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "body_too_large", "an enrolment has at most 16 KiB")
    })?;
    let text = std::str::from_utf8(&body).unwrap_or_default();
    // What it is that is wrong is told by place: the content is a secret.
    let asked: Enrol =
        protocol::decode(text).map_err(|error| Problem::bad_request("malformed", error.to_string()))?;
    let hex = |byte: u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte);
    if asked.credential_hash.len() != 64 || !asked.credential_hash.bytes().all(hex) {
        return Err(Problem::bad_request("malformed", "credential_hash must be 64 hexadecimal digits"));
    }
    let token = Secret::new(asked.token);
    let hostname = name(&asked.host.hostname);
    let node = {
        let _turn = hub.turn().await?;
        hub.trade(&token, &hostname, &asked.credential_hash, &address).await?
    };
    let Some(node) = node else {
        return Err(Problem::new(
            StatusCode::FORBIDDEN,
            "enrolment_refused",
            "the token is not known here, was used or revoked, or is too old: ask for a new one",
        ));
    };
    tracing::info!(node = node.id, deployment = node.deployment_id, hostname, "a node was enrolled");
    let enrolled = Enrolled { node: node.id, deployment: node.deployment_id };
    let body = protocol::encode(&enrolled).map_err(Problem::internal)?;
    Ok(([(header::CONTENT_TYPE, "application/json")], body).into_response())
}

impl Hub {
    async fn trade(
        &self,
        token: &Secret,
        hostname: &str,
        credential_hash: &str,
        address: &str,
    ) -> Result<Option<Node>, Problem> {
        let store = &self.inner.store;
        // Only whoever enrolled with it knows the hash of a credential.
        if let Some(known) = nodes::by_credential_hash(store, credential_hash).await? {
            let own = enrolments::served(store, &token.hash(), known.id).await?;
            return Ok(own.then_some(known));
        }
        let host = Applicant { hostname, credential_hash, address };
        Ok(enrolments::use_token(store, &token.hash(), host, self.now()).await?)
    }
}

/// A host name as it may be shown: bounded, and without what no name has.
fn name(hostname: &str) -> String {
    let name: String = hostname.chars().filter(|c| c.is_ascii_graphic()).take(253).collect();
    if name.is_empty() { "node".to_owned() } else { name }
}
