//! How archives leave this host: proven, through its proxy, and only where its policy lets them.

use std::path::Path;
use std::time::Duration;

use anyhow::Context;
use reqwest::{Client, Url};
use warden_config::policy;
use warden_platform::tls::{self, Trust};

use crate::identity::Identity;
use crate::link::{ProxyAddress, Route};
use crate::settings::Settings;
use crate::upload::{AT_ONCE, STALLED, Uploader};

/// From a name to an encrypted connection.
const CONNECT_LIMIT: Duration = Duration::from_secs(15);

/// What archives are sent with, made anew for each: certificates may have been renewed, the host enrolled anew.
///
/// # Errors
/// The host is not enrolled, or a certificate cannot be read.
pub fn uploader(
    settings: &Settings,
    credentials: Option<&Path>,
    random: fn() -> f64,
) -> anyhow::Result<Uploader> {
    let identity =
        Identity::read(&settings.state_directory, credentials)?.context("this host is not enrolled")?;
    let endpoint = settings.supervisor.as_ref().unwrap_or(&identity.supervisor);
    let route = Route::new(settings, endpoint, identity.ca.as_deref())?;
    let mut own = bounded(Client::builder()).tls_backend_preconfigured(tls::configuration(
        if endpoint.secure { route.trust } else { Trust::Nobody },
        route.client,
    )?);
    own = match &route.proxy {
        Some(proxy) => own.proxy(through(proxy)?),
        None => own.no_proxy(),
    };
    // A store beside the Supervisor is one of the world's: its certificate is proven by the host's authorities.
    let other = tls::configuration(Trust::Host, None).or_else(|_| tls::configuration(Trust::Nobody, None))?;
    let other = bounded(Client::builder()).tls_backend_preconfigured(other);
    let policy = settings.policy.clone();
    Ok(Uploader {
        own: own.build().context("cannot set up uploads to the Supervisor")?,
        other: other.build().context("cannot set up uploads")?,
        supervisor: endpoint.to_string().parse().context("the address of the Supervisor is none")?,
        allowed: Box::new(move |url| allowed(&policy, url)),
        bytes_per_second: settings.upload_bytes_per_second,
        patience: STALLED,
        at_once: AT_ONCE,
        random,
    })
}

fn bounded(builder: reqwest::ClientBuilder) -> reqwest::ClientBuilder {
    builder
        .connect_timeout(CONNECT_LIMIT)
        .redirect(reqwest::redirect::Policy::none())
        .user_agent(concat!("warden/", env!("CARGO_PKG_VERSION")))
}

fn through(proxy: &ProxyAddress) -> anyhow::Result<reqwest::Proxy> {
    let authority = if proxy.host.contains(':') {
        format!("[{}]:{}", proxy.host, proxy.port)
    } else {
        format!("{}:{}", proxy.host, proxy.port)
    };
    let through = reqwest::Proxy::all(format!("http://{authority}")).context("the proxy has no address")?;
    Ok(match proxy.authorization() {
        None => through,
        Some(secret) => {
            let mut value = reqwest::header::HeaderValue::from_str(secret.expose())
                .context("the proxy's password has characters that a header cannot have")?;
            value.set_sensitive(true);
            through.custom_http_auth(value)
        }
    })
}

/// Encrypted, or to this very host; and a host that the policy names, if it names any.
fn allowed(place: &Path, url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let local = host == "localhost"
        || host
            .trim_matches(['[', ']'])
            .parse::<std::net::IpAddr>()
            .is_ok_and(|address| address.is_loopback());
    if url.scheme() != "https" && !local {
        return false;
    }
    match policy::snapshots(place) {
        Ok(rules) => rules.upload_hosts.is_none_or(|hosts| hosts.iter().any(|known| known == host)),
        Err(error) => {
            tracing::error!("no archive leaves this host for now: {error:#}");
            false
        }
    }
}
