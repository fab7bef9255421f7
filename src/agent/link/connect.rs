//! From an address to an encrypted stream: names, addresses, proxy, TLS.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use anyhow::Context;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use warden_platform::endpoint::Endpoint;
use warden_platform::tls::{self, Trust};

use super::proxy::ProxyAddress;
use crate::settings::{ClientCertificate, Settings};

/// Until the next address of a name is tried beside those that have not answered (RFC 8305, Connection Attempt
/// Delay).
const NEXT_ADDRESS: Duration = Duration::from_millis(250);
/// Addresses of one name that are tried.
const ADDRESSES: usize = 8;
/// How the agent is told of the Supervisor's authority.
pub const HOW_TO_TRUST: &str = "name its authority as agent.ca_file, or enrol with --ca-file FILE or --ca-fingerprint HEX \
                                (warden enroll --replace)";

/// Where to, by which way, and proven by what.
#[derive(Debug, Clone)]
pub struct Route<'a> {
    pub endpoint: &'a Endpoint,
    pub proxy: Option<ProxyAddress>,
    pub trust: Trust<'a>,
    pub client: Option<&'a ClientCertificate>,
}

/// A stream to the Supervisor.
pub trait Stream: AsyncRead + AsyncWrite + Send + Unpin {}

impl<T: AsyncRead + AsyncWrite + Send + Unpin> Stream for T {}

impl<'a> Route<'a> {
    /// The one the settings say. `ca` was given at enrolment; the settings' own comes first.
    pub fn new(
        settings: &'a Settings,
        endpoint: &'a Endpoint,
        ca: Option<&'a str>,
    ) -> anyhow::Result<Route<'a>> {
        let trust = match (&settings.ca_file, ca) {
            (Some(file), _) => Trust::File(file),
            (None, Some(pem)) => Trust::Pem(pem),
            (None, None) => Trust::Host,
        };
        let proxy = settings.proxy.to(endpoint, |name| std::env::var(name).ok())?;
        Ok(Route { endpoint, proxy, trust, client: settings.client.as_ref() })
    }

    /// Connects. Takes as long as it takes: the caller has the time limit.
    pub async fn dial(&self) -> anyhow::Result<Box<dyn Stream>> {
        let stream = self.connect().await?;
        self.secure(stream).await
    }

    /// The host and port that are connected to: the proxy's, or the Supervisor's own.
    pub fn first_hop(&self) -> (&str, u16) {
        let own = (self.endpoint.host.as_str(), self.endpoint.port);
        self.proxy.as_ref().map_or(own, |proxy| (proxy.host.as_str(), proxy.port))
    }

    /// The first half of [`Route::dial`]: as far as the Supervisor's port.
    pub async fn connect(&self) -> anyhow::Result<TcpStream> {
        let Endpoint { host, port, .. } = self.endpoint;
        let stream = match &self.proxy {
            None => connect(host, *port).await?,
            Some(proxy) => {
                let reached = connect(&proxy.host, proxy.port).await;
                let mut stream = reached.context("the proxy is not reached")?;
                proxy.tunnel(&mut stream, &self.endpoint.authority()).await?;
                stream
            }
        };
        // Messages are small, and somebody waits for each.
        stream.set_nodelay(true)?;
        Ok(stream)
    }

    /// The second half: TLS, where the address asks for it.
    pub async fn secure(&self, stream: TcpStream) -> anyhow::Result<Box<dyn Stream>> {
        if !self.endpoint.secure {
            return Ok(Box::new(stream));
        }
        let configuration = tls::configuration(self.trust, self.client)?;
        Ok(Box::new(tls::handshake(configuration, &self.endpoint.host, stream, HOW_TO_TRUST).await?))
    }
}

/// What broke on an open stream, in words where it was TLS, or the want of it.
pub fn explained(
    error: impl std::error::Error + Send + Sync + 'static,
    endpoint: &Endpoint,
) -> anyhow::Error {
    match tls::words(&error, HOW_TO_TRUST) {
        Some(words) => anyhow::anyhow!(words),
        None if !endpoint.secure && tls::may_be_https(&error) => anyhow::anyhow!(
            "what answers there does not speak http; a Supervisor with a certificate speaks https: use https:// and a \
             name of its certificate"
        ),
        None => error.into(),
    }
}

/// A connection to the first address of `host` that takes one. An address that does not answer does not keep the
/// others waiting.
async fn connect(host: &str, port: u16) -> anyhow::Result<TcpStream> {
    let found = tokio::net::lookup_host((host, port)).await;
    let found = found.with_context(|| format!("the name {host} is not resolved"))?;
    let mut waiting = in_turn(found.collect()).into_iter().take(ADDRESSES);
    let mut running = FuturesUnordered::new();
    let mut failure = None;
    loop {
        match waiting.next() {
            Some(address) => running.push(async move { (address, TcpStream::connect(address).await) }),
            None if running.is_empty() => {
                let (address, error): (SocketAddr, io::Error) =
                    failure.with_context(|| format!("the name {host} has no address"))?;
                return Err(error).with_context(|| format!("cannot connect to {address}"));
            }
            None => {}
        }
        let patience = if waiting.len() == 0 { Duration::MAX } else { NEXT_ADDRESS };
        if let Ok(Some((address, connected))) = tokio::time::timeout(patience, running.next()).await {
            match connected {
                Ok(stream) => return Ok(stream),
                Err(error) => {
                    failure.get_or_insert((address, error));
                }
            }
        }
    }
}

/// The families in turn, as the resolver prefers them: one that leads nowhere costs little.
fn in_turn(addresses: Vec<SocketAddr>) -> Vec<SocketAddr> {
    let first_is_v6 = addresses.first().is_some_and(SocketAddr::is_ipv6);
    let (first, second): (Vec<_>, Vec<_>) =
        addresses.into_iter().partition(|address| address.is_ipv6() == first_is_v6);
    let mut second = second.into_iter();
    let mut turns = Vec::new();
    for address in first {
        turns.push(address);
        turns.extend(second.next());
    }
    turns.extend(second);
    turns
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_families_of_addresses_are_tried_in_turn() {
        let addresses =
            |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect::<Vec<SocketAddr>>();
        let given = addresses(&["[::1]:1", "[::2]:1", "[::3]:1", "1.1.1.1:1", "2.2.2.2:1"]);
        let turns = addresses(&["[::1]:1", "1.1.1.1:1", "[::2]:1", "2.2.2.2:1", "[::3]:1"]);
        assert_eq!(in_turn(given), turns);
        assert_eq!(in_turn(Vec::new()), Vec::new());
    }

    #[tokio::test]
    async fn an_address_that_refuses_does_not_hide_the_next() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        // `localhost` is ::1 first on many hosts, where nothing listens.
        connect("localhost", port).await.unwrap();
        drop(listener);
        let error = connect("127.0.0.1", port).await.unwrap_err();
        let told = format!("{error:#}");
        assert_eq!(told, format!("cannot connect to 127.0.0.1:{port}: Connection refused (os error 111)"));
    }
}
