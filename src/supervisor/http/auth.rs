//! Who calls, what it may do, and where: the extractors that every endpoint with a key begins with.

use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::sync::Arc;

use axum::extract::FromRequestParts;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use governor::clock::{Clock, DefaultClock};
use governor::{DefaultKeyedRateLimiter, Quota, RateLimiter};
use serde_json::Value;
use subtle::ConstantTimeEq;
use warden_platform::secret::Secret;

use super::extract::Place;
use super::problem::Problem;
use super::{Api, Peer, RequestId};
use crate::connections::Visitor;
use crate::network::Network;
use crate::settings::Limits;
use crate::store::audit::{Actor, Entry};
use crate::store::deployments::{self, Deployment};
use crate::store::keys::{self, ApiKey, Permission};

/// The header with the key.
pub const HEADER: &str = "ld-api-key";
/// What a key begins with; its id and another `_` follow.
pub const PREFIX: &str = "wk_";
/// Longest key that is looked at, in bytes: ours have some 70.
const LENGTH_LIMIT: usize = 256;

/// Whoever sent a request, known by its key.
#[derive(Debug)]
pub struct Caller {
    pub key: ApiKey,
    pub address: IpAddr,
    pub request: RequestId,
    /// `api`, `web` or `cli`.
    pub started_via: &'static str,
}

impl Caller {
    pub fn may(&self, permission: Permission) -> Result<(), Problem> {
        if self.key.allows(permission) {
            return Ok(());
        }
        Err(Problem::forbidden(format!("this key lacks the permission {}", permission.as_str())))
    }

    pub fn must_be_administrator(&self) -> Result<(), Problem> {
        if self.key.administrator {
            Ok(())
        } else {
            Err(Problem::forbidden("this needs an administrator's key"))
        }
    }

    /// What this caller did, for the audit.
    pub fn did(&self, action: &str, tenant: u64, resource: (&str, u64), detail: Value) -> Entry {
        Entry {
            tenant_id: tenant,
            actor: Actor::ApiKey { id: self.key.id, name: self.key.name.clone() },
            address: Some(self.address.to_string()),
            request: Some(self.request.to_string()),
            action: action.to_owned(),
            deployment_id: None,
            resource_type: resource.0.to_owned(),
            resource_id: Some(resource.1),
            detail,
        }
    }
}

/// A permission as a type, so that a handler says in its signature what it needs.
pub trait Need: Send + Sync {
    const PERMISSION: Permission;
}

/// `deployment:read`
pub struct Read;
/// `deployment:manage`
pub struct Manage;

impl Need for Read {
    const PERMISSION: Permission = Permission::DeploymentRead;
}

impl Need for Manage {
    const PERMISSION: Permission = Permission::DeploymentManage;
}

/// A caller with this permission.
pub struct Allowed<N> {
    pub caller: Arc<Caller>,
    need: PhantomData<N>,
}

/// A caller with this permission in the deployment that the path names.
pub struct Within<N> {
    pub caller: Arc<Caller>,
    pub deployment: Deployment,
    need: PhantomData<N>,
}

/// A caller whose key is an administrator's.
pub struct Administrator {
    pub caller: Arc<Caller>,
}

impl<N: Need> FromRequestParts<Api> for Allowed<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Allowed<N>, Problem> {
        let caller = identify(parts, api).await?;
        caller.may(N::PERMISSION)?;
        Ok(Allowed { caller, need: PhantomData })
    }
}

impl<N: Need> FromRequestParts<Api> for Within<N> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Within<N>, Problem> {
        let Allowed { caller, need } = Allowed::<N>::from_request_parts(parts, api).await?;
        let id = Place::from_request_parts(parts, api).await?.id("deployment_id")?;
        let deployment = deployments::get(&api.store, caller.key.scope(), id).await?;
        let deployment = deployment.ok_or_else(deployment_not_found)?;
        Ok(Within { caller, deployment, need })
    }
}

impl FromRequestParts<Api> for Administrator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, api: &Api) -> Result<Administrator, Problem> {
        let caller = identify(parts, api).await?;
        caller.must_be_administrator()?;
        Ok(Administrator { caller })
    }
}

/// The same for a deployment that is not there and for one that is another's.
pub fn deployment_not_found() -> Problem {
    Problem::not_found("deployment_not_found", "there is no such deployment, or it is not yours to see")
}

async fn identify(parts: &mut Parts, api: &Api) -> Result<Arc<Caller>, Problem> {
    let sent = parts.headers.get(HEADER).ok_or_else(|| unauthorized("the header ld-api-key is missing"))?;
    let wrong = || unauthorized("this key is unknown, expired or was removed");
    let text = sent.to_str().ok().filter(|text| text.len() <= LENGTH_LIMIT).ok_or_else(wrong)?;
    let sent = Secret::new(text);
    let key = match id(text) {
        Some(id) => keys::by_id(&api.store, id).await?,
        None => None,
    };
    let known = key.as_ref().map_or("", |key| key.hash.as_str());
    let same = bool::from(sent.hash().as_bytes().ct_eq(known.as_bytes()));
    let key = key.filter(|key| same && key.expires_at > api.now()).ok_or_else(wrong)?;
    let address = address(parts, &api.settings.trusted_proxies);
    if !key.allow_list.is_empty() && !key.allow_list.iter().any(|network| network.contains(address)) {
        return Err(Problem::forbidden("this key may not be used from this address").coded("address_denied"));
    }
    if let Some(visitor) = parts.extensions.get::<Visitor>() {
        visitor.is_known();
    }
    api.limiter.take(key.id)?;
    let request = RequestId::of(&parts.extensions);
    let caller = Arc::new(Caller { key, address, request, started_via: started_via(&parts.headers) });
    parts.extensions.insert(Arc::clone(&caller));
    if let Some(seen) = parts.extensions.get::<super::Seen>() {
        seen.caller(caller.key.id);
    }
    Ok(caller)
}

fn id(text: &str) -> Option<u64> {
    text.strip_prefix(PREFIX)?.split('_').next()?.parse().ok()
}

fn unauthorized(reason: &str) -> Problem {
    Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", reason)
        .header(header::WWW_AUTHENTICATE, HeaderValue::from_static("ApiKey realm=\"warden\""))
}

/// Where the request comes from: the peer, or behind proxies that are trusted, whoever they took it from.
pub fn address(parts: &Parts, trusted: &[Network]) -> IpAddr {
    let trusts = |address: IpAddr| trusted.iter().any(|network| network.contains(address));
    let mut address = Peer::of(&parts.extensions);
    let forwarded = parts.headers.get_all("x-forwarded-for").iter();
    let texts: Vec<&str> = forwarded.filter_map(|value| value.to_str().ok()).collect();
    // Each proxy adds the address it saw at the end: from there back as far as proxies are ours.
    for hop in texts.iter().rev().flat_map(|text| text.rsplit(',')) {
        if !trusts(address) {
            break;
        }
        let Ok(hop) = hop.trim().parse::<IpAddr>() else { break };
        address = hop.to_canonical();
    }
    address
}

fn started_via(headers: &HeaderMap) -> &'static str {
    let agent = headers.get(header::USER_AGENT).and_then(|value| value.to_str().ok());
    if agent.is_some_and(|agent| agent.starts_with("warden-ctl/")) { "cli" } else { "api" }
}

/// How often each key may call.
pub struct Limiter {
    limiter: DefaultKeyedRateLimiter<u64>,
}

impl Limiter {
    pub fn new(limits: &Limits) -> Limiter {
        let at_least_one = |number: u32| NonZeroU32::new(number).unwrap_or(NonZeroU32::MIN);
        let quota =
            Quota::per_second(at_least_one(limits.per_second)).allow_burst(at_least_one(limits.burst));
        Limiter { limiter: RateLimiter::keyed(quota) }
    }

    fn take(&self, key: u64) -> Result<(), Problem> {
        self.limiter.check_key(&key).map_err(|early| {
            let wait = early.wait_time_from(DefaultClock::default().now());
            let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
            Problem::new(
                StatusCode::TOO_MANY_REQUESTS,
                "rate_limited",
                "this key calls too often; wait as long as retry-after says",
            )
            .retry_after(seconds.max(1))
        })
    }

    /// Forgets keys that did not call for a while.
    pub fn forget(&self) {
        self.limiter.retain_recent();
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use axum::extract::ConnectInfo;
    use axum::http::Request;

    use super::*;

    fn seen(peer: &str, forwarded: &[&str], trusted: &[&str]) -> String {
        let mut request = Request::builder();
        for value in forwarded {
            request = request.header("x-forwarded-for", *value);
        }
        let (mut parts, ()) = request.body(()).unwrap().into_parts();
        let peer: SocketAddr = peer.parse().unwrap();
        parts.extensions.insert(ConnectInfo(peer));
        let trusted: Vec<Network> = trusted.iter().map(|network| network.parse().unwrap()).collect();
        address(&parts, &trusted).to_string()
    }

    #[test]
    fn only_trusted_proxies_are_believed() {
        assert_eq!(seen("203.0.113.9:1", &["10.1.1.1"], &[]), "203.0.113.9");
        assert_eq!(seen("203.0.113.9:1", &["10.1.1.1"], &["10.0.0.0/8"]), "203.0.113.9");
        assert_eq!(seen("10.0.0.1:1", &["198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1:1", &["6.6.6.6, 198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1:1", &["6.6.6.6, 198.51.100.7, 10.0.0.2"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1:1", &["6.6.6.6", "198.51.100.7"], &["10.0.0.0/8"]), "198.51.100.7");
        assert_eq!(seen("10.0.0.1:1", &["nonsense"], &["10.0.0.0/8"]), "10.0.0.1");
        assert_eq!(seen("[::ffff:10.0.0.1]:1", &[], &[]), "10.0.0.1");
    }
}
