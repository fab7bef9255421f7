//! Names, TCP connects and HTTP to services of this host.

use std::net::{IpAddr, SocketAddr, TcpStream, ToSocketAddrs};
use std::time::{Duration, Instant};

use warden_host::{BODY_BYTES, Cause, Data, HttpAnswer, quantity};

use super::files::{cause_of, lossy};

pub fn resolve(name: &str) -> Result<Data, Cause> {
    let started = Instant::now();
    let addresses = lookup(&format!("{name}:0"))?;
    let mut addresses: Vec<String> = addresses.iter().map(|address| address.ip().to_string()).collect();
    addresses.sort();
    addresses.dedup();
    Ok(Data::Addresses { addresses, millis: millis(started) })
}

pub fn connect(address: &str, limit: Duration) -> Result<Data, Cause> {
    let started = Instant::now();
    open(address, limit)?;
    Ok(Data::Connected { millis: millis(started) })
}

/// A connection to the first address of `host:port` that accepts one.
pub(super) fn open(address: &str, limit: Duration) -> Result<TcpStream, Cause> {
    let mut last = Cause::Other(format!("`{address}` has no address"));
    for address in lookup(address)? {
        match TcpStream::connect_timeout(&address, limit.max(Duration::from_millis(1))) {
            Ok(stream) => return Ok(stream),
            Err(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                last = Cause::Other(format!("{address} refused the connection"));
            }
            Err(error) => last = cause_of(error),
        }
    }
    Err(last)
}

fn lookup(address: &str) -> Result<Vec<SocketAddr>, Cause> {
    let failed = |error: std::io::Error| Cause::Other(format!("cannot be resolved ({error})"));
    Ok(address.to_socket_addrs().map_err(failed)?.collect())
}

pub(super) fn millis(since: Instant) -> f64 {
    (since.elapsed().as_secs_f64() * 1e6).round() / 1e3
}

/// GET without credentials, redirects or proxies, and only to an address of this host or to the Supervisor: a
/// configuration file of a runtime cannot make us call somebody else.
pub async fn get(url: &str, supervisor: Option<&str>, limit: Duration) -> Result<HttpAnswer, Cause> {
    let parsed = reqwest::Url::parse(url).map_err(|error| Cause::Other(error.to_string()))?;
    let is_supervisor = supervisor
        .and_then(|supervisor| supervisor.parse::<reqwest::Url>().ok())
        .is_some_and(|supervisor| supervisor.origin() == parsed.origin());
    if !is_local(&parsed) && !is_supervisor {
        return Err(Cause::Other("is neither an address of this host nor the Supervisor".to_owned()));
    }
    send(parsed, None, limit).await
}

/// GET of what `token`, an access token with the right `read_servers`, may see of a local Iggy.
pub async fn iggy_api(url: &str, token: &str, limit: Duration) -> Result<HttpAnswer, Cause> {
    let parsed = reqwest::Url::parse(url).map_err(|error| Cause::Other(error.to_string()))?;
    if !is_local(&parsed) {
        return Err(Cause::Other("is not an address of this host".to_owned()));
    }
    match parsed.path() {
        "/stats" => send(parsed, Some(token), limit).await,
        "/clients" => {
            let answer = send(parsed, Some(token), limit).await?;
            Ok(HttpAnswer { body: without_addresses(&answer.body), ..answer })
        }
        _ => Err(Cause::Other("is not asked: only /stats and /clients are".to_owned())),
    }
}

/// Who the clients are is nobody's business; how many is.
fn without_addresses(body: &str) -> String {
    let clients = serde_json::from_str::<Vec<serde::de::IgnoredAny>>(body).map(|clients| clients.len());
    clients.map_or_else(|_| "{}".to_owned(), |count| format!("{{\"clients\":{count}}}"))
}

async fn send(url: reqwest::Url, token: Option<&str>, limit: Duration) -> Result<HttpAnswer, Cause> {
    let client = reqwest::Client::builder()
        .tls_backend_preconfigured(warden_platform::tls::accepting_any_certificate())
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .timeout(limit)
        .user_agent(concat!("warden/", env!("CARGO_PKG_VERSION")))
        .build()
        .map_err(|error| Cause::Other(error.to_string()))?;
    let started = Instant::now();
    let request = client.get(url);
    let request = token.into_iter().fold(request, |request, token| request.bearer_auth(token));
    let mut response = request.send().await.map_err(explain)?;
    let status = response.status().as_u16();
    let date =
        response.headers().get(reqwest::header::DATE).and_then(|date| unix_seconds(date.to_str().ok()?));
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(explain)? {
        body.extend_from_slice(&chunk);
        if body.len() as u64 > BODY_BYTES {
            let limit = quantity::bytes(BODY_BYTES);
            return Err(Cause::Truncated(format!("the body of the answer is longer than {limit}")));
        }
    }
    Ok(HttpAnswer { status, body: lossy(body), millis: millis(started), date })
}

/// RFC 9110, section 5.6.7: `Sun, 06 Nov 1994 08:49:37 GMT`.
fn unix_seconds(date: &str) -> Option<i64> {
    jiff::fmt::rfc2822::parse(date).ok().map(|at| at.timestamp().as_second())
}

fn is_local(url: &reqwest::Url) -> bool {
    let host = url.host_str().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    match host.parse::<IpAddr>() {
        Ok(address) => address.is_loopback() || own_addresses().contains(&address),
        Err(_) => host == "localhost",
    }
}

fn own_addresses() -> Vec<IpAddr> {
    let interfaces = nix::ifaddrs::getifaddrs().into_iter().flatten();
    interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|v4| IpAddr::V4(v4.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|v6| IpAddr::V6(v6.ip())))
        })
        .collect()
}

fn explain(error: reqwest::Error) -> Cause {
    if error.is_timeout() {
        return Cause::TimedOut;
    }
    // The innermost cause says it; the outer ones repeat the URL.
    let mut inner: &dyn std::error::Error = &error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    match inner.downcast_ref::<std::io::Error>().map(std::io::Error::kind) {
        Some(std::io::ErrorKind::ConnectionRefused) => Cause::Other("the connection was refused".to_owned()),
        _ => Cause::Other(inner.to_string()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_header_is_read() {
        assert_eq!(unix_seconds("Sun, 06 Nov 1994 08:49:37 GMT"), Some(784_111_777));
        assert_eq!(unix_seconds("yesterday"), None);
    }

    #[test]
    fn of_the_clients_only_their_number_stays() {
        let body = r#"[{"client_id":2,"user_id":0,"address":"127.0.0.1:51670","transport":"TCP"}]"#;
        assert_eq!(without_addresses(body), r#"{"clients":1}"#);
        assert_eq!(without_addresses("127.0.0.1:51670"), "{}");
    }

    #[test]
    fn only_addresses_of_this_host_are_called() {
        let local = |url: &str| is_local(&url.parse().unwrap());
        assert!(
            local("http://127.0.0.1:3000/ping")
                && local("http://[::1]:3000/ping")
                && local("https://localhost/x")
        );
        assert!(!local("http://169.254.169.254/latest/meta-data") && !local("http://example.com/"));
    }
}
