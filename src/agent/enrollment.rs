//! Makes this host a node: a one-time token is traded for an id, and the credential becomes worth something.

use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use axum::body::Body;
use axum::http::{Request, header};
use hyper_util::rt::TokioIo;
use tokio::time::timeout;
use warden_platform::atomic_file::directory;
use warden_platform::endpoint::Endpoint;
use warden_platform::secret::Secret;
use warden_platform::tls::{self, Fingerprint, Pinned, Trust};
use warden_protocol::{self as protocol, ENROL_PATH, Enrol, Enrolled};

use super::host_info;
use super::identity::{Identity, forget_pending, pending_credential};
use super::link::{Route, explained};
use super::settings::Settings;

/// From the name of the Supervisor to its answer.
const LIMIT: Duration = Duration::from_secs(30);
/// Bytes of an answer.
const ANSWER_LIMIT: usize = 64 << 10;

/// What proves the Supervisor at enrolment, and is kept with the identity.
#[derive(Debug, Clone)]
pub enum Authorities {
    /// `agent.ca_file`, else those this host trusts: nothing is kept.
    Usual,
    /// Certificates in PEM.
    Pem(String),
    /// The one with this fingerprint, which the Supervisor shows.
    Fingerprint(Fingerprint),
}

/// Enrols this host at `supervisor` and keeps the identity in the state directory.
///
/// An enrolment that was cut off, on whatever side, is done again with the same token.
///
/// # Errors
/// The Supervisor is not proven: then nothing was sent to it. Or it refuses, or does not answer.
pub async fn enrol(
    settings: &Settings,
    supervisor: &Endpoint,
    authorities: Authorities,
    token: &Secret,
) -> anyhow::Result<Identity> {
    let state: &Path = &settings.state_directory;
    let (given, pinned) = match authorities {
        Authorities::Usual => (None, None),
        Authorities::Pem(pem) => (Some(pem), None),
        Authorities::Fingerprint(fingerprint) => (None, Some((fingerprint, Pinned::new(fingerprint)))),
    };
    let mut route = Route::new(settings, supervisor, given.as_deref())?;
    if let Some((fingerprint, pinned)) = &pinned {
        ensure!(supervisor.secure, "a fingerprint proves nothing over http://: use https://");
        match &settings.ca_file {
            // The agent would believe the file afterwards, so the file must hold it.
            Some(file) => tls::authority_in(file, *fingerprint).map(|_| ())?,
            None => route.trust = Trust::Pinned(pinned),
        }
    }
    directory(state)?;
    let credential = pending_credential(state)?;
    let answered = timeout(LIMIT, ask(&route, &credential, token)).await;
    let enrolled = answered.with_context(|| {
        format!("the Supervisor at {supervisor} does not answer within {} s", LIMIT.as_secs())
    })??;
    let identity = Identity {
        node: enrolled.node,
        deployment: enrolled.deployment,
        supervisor: supervisor.clone(),
        ca: pinned.and_then(|(_, pinned)| pinned.pem()).or(given),
        credential,
    };
    identity.write(state)?;
    forget_pending(state)?;
    Ok(identity)
}

async fn ask(route: &Route<'_>, credential: &Secret, token: &Secret) -> anyhow::Result<Enrolled> {
    let whom = || format!("cannot enrol at {}", route.endpoint);
    let stream = route.dial().await.with_context(whom)?;
    let explained = |error: hyper::Error| explained(error, route.endpoint);
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
        .await
        .map_err(explained)
        .with_context(whom)?;
    let connection = tokio::spawn(connection);
    let asked = Enrol {
        token: token.expose().to_owned(),
        credential_hash: credential.hash(),
        host: host_info::about(),
    };
    let request = Request::post(route.endpoint.path(ENROL_PATH))
        .header(header::HOST, route.endpoint.authority())
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONNECTION, "close")
        .body(Body::from(protocol::encode(&asked)?))?;
    let answer = sender.send_request(request).await.map_err(explained).with_context(whom)?;
    let status = answer.status();
    let body = axum::body::to_bytes(Body::new(answer.into_body()), ANSWER_LIMIT).await.with_context(whom)?;
    connection.abort();
    let text = std::str::from_utf8(&body).unwrap_or_default();
    if status.is_success() {
        return protocol::decode(text)
            .with_context(|| format!("{} is no Supervisor of Warden", route.endpoint));
    }
    let problem: serde_json::Value = serde_json::from_str(text).unwrap_or_default();
    match problem["reason"].as_str() {
        Some(reason) => bail!("the Supervisor at {} refuses ({}): {reason}", route.endpoint, status.as_u16()),
        None => bail!("what answers at {} is no Supervisor of Warden ({status})", route.endpoint),
    }
}
