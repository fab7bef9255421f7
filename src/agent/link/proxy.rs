//! Which HTTP proxy stands between this host and the Supervisor, if any, and how it is asked for a tunnel.

use std::net::IpAddr;

use anyhow::{Context, bail, ensure};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde::Deserialize;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use url::Url;
use warden_platform::endpoint::Endpoint;
use warden_platform::secret::Secret;

/// Bytes of a proxy's answer to CONNECT: a status line and some headers.
const ANSWER_LIMIT: usize = 8 << 10;

/// What the configuration says: an address, `none`, or nothing, and then the environment says.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(try_from = "String")]
pub enum Proxy {
    /// `HTTPS_PROXY` (for a Supervisor without TLS `HTTP_PROXY`), `ALL_PROXY` and `NO_PROXY`, as curl(1) takes them.
    #[default]
    Environment,
    Never,
    At(ProxyAddress),
}

#[derive(Debug, Clone, PartialEq)]
pub struct ProxyAddress {
    pub host: String,
    pub port: u16,
    /// The value of `proxy-authorization`.
    authorization: Option<Secret>,
}

impl Proxy {
    /// The proxy to go through to `endpoint`. `variable` reads the environment.
    ///
    /// # Errors
    /// The environment names something that is no HTTP proxy.
    pub fn to(
        &self,
        endpoint: &Endpoint,
        variable: impl Fn(&str) -> Option<String>,
    ) -> anyhow::Result<Option<ProxyAddress>> {
        match self {
            Proxy::Never => Ok(None),
            Proxy::At(address) => Ok(Some(address.clone())),
            Proxy::Environment => {
                let set = |name: &str| variable(name).filter(|value| !value.trim().is_empty());
                // HTTP_PROXY in capitals could be set by a request to a CGI program: curl does not read it either.
                let names: &[&str] = if endpoint.secure {
                    &["https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"]
                } else {
                    &["http_proxy", "all_proxy", "ALL_PROXY"]
                };
                let Some((name, value)) = names.iter().find_map(|name| Some((name, set(name)?))) else {
                    return Ok(None);
                };
                let exempt = set("no_proxy").or_else(|| set("NO_PROXY")).unwrap_or_default();
                if is_exempt(endpoint, &exempt) {
                    return Ok(None);
                }
                let address = ProxyAddress::parse(&value);
                Ok(Some(address.with_context(|| format!("{name} is no HTTP proxy"))?))
            }
        }
    }
}

impl TryFrom<String> for Proxy {
    type Error = String;

    fn try_from(text: String) -> Result<Proxy, String> {
        match text.as_str() {
            "none" => Ok(Proxy::Never),
            address => match ProxyAddress::parse(address) {
                Ok(address) => Ok(Proxy::At(address)),
                // Not the text: it may hold a password.
                Err(_) => Err("expected an address like http://proxy.example.com:3128, or none".to_owned()),
            },
        }
    }
}

impl ProxyAddress {
    pub fn authorization(&self) -> Option<&Secret> {
        self.authorization.as_ref()
    }

    fn parse(text: &str) -> anyhow::Result<ProxyAddress> {
        let text = text.trim();
        let url = if text.contains("://") { Url::parse(text) } else { Url::parse(&format!("http://{text}")) };
        // The error must not repeat a password.
        let Ok(url) = url else { bail!("not an address") };
        ensure!(
            url.scheme() == "http",
            "only proxies at http:// are spoken to; what goes through them is encrypted"
        );
        let host = url.host_str().context("it names no host")?.trim_matches(['[', ']']).to_owned();
        let authorization = match (url.username(), url.password()) {
            ("", None) => None,
            (user, password) => {
                let pair = format!("{}:{}", decoded(user), decoded(password.unwrap_or_default()));
                Some(Secret::new(format!("Basic {}", BASE64_STANDARD.encode(pair))))
            }
        };
        // curl's port for a proxy that names none.
        Ok(ProxyAddress { host, port: url.port().unwrap_or(1080), authorization })
    }

    /// Asks for a tunnel to `authority` (`host:port`) over a new connection to the proxy.
    pub async fn tunnel(&self, stream: &mut TcpStream, authority: &str) -> anyhow::Result<()> {
        let mut request = format!("CONNECT {authority} HTTP/1.1\r\nHost: {authority}\r\n");
        if let Some(authorization) = &self.authorization {
            request.push_str(&format!("Proxy-Authorization: {}\r\n", authorization.expose()));
        }
        request.push_str("\r\n");
        stream.write_all(zeroize::Zeroizing::new(request).as_bytes()).await?;
        let mut answer = Vec::new();
        loop {
            // What follows the answer belongs to the Supervisor, who does not speak first.
            if let Some(end) = answer.windows(4).position(|window| window == b"\r\n\r\n") {
                ensure!(end + 4 == answer.len(), "the proxy spoke out of turn");
                return judge(&answer);
            }
            ensure!(answer.len() < ANSWER_LIMIT, "the proxy answered with more than {ANSWER_LIMIT} bytes");
            if stream.read_buf(&mut answer).await? == 0 {
                bail!("the proxy closed the connection");
            }
        }
    }
}

fn judge(answer: &[u8]) -> anyhow::Result<()> {
    let line = answer.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let line = String::from_utf8_lossy(line);
    let mut words = line.split(' ');
    let is_http = words.next().is_some_and(|version| version.starts_with("HTTP/1."));
    match words.next().and_then(|status| status.parse::<u16>().ok()).filter(|_| is_http) {
        Some(200..=299) => Ok(()),
        Some(407) => bail!("the proxy wants a user and password, or other ones (407)"),
        Some(status) => bail!("the proxy does not connect us to the Supervisor ({status})"),
        None => bail!("what answered is no HTTP proxy"),
    }
}

/// As curl(1) reads `NO_PROXY`: names match themselves and what is below them, addresses themselves or a network.
fn is_exempt(endpoint: &Endpoint, exempt: &str) -> bool {
    let host = endpoint.host.to_ascii_lowercase();
    let address: Option<IpAddr> = host.parse().ok();
    exempt.split([',', ' ']).map(str::trim).filter(|entry| !entry.is_empty()).any(|entry| {
        if entry == "*" {
            return true;
        }
        let entry = entry.to_ascii_lowercase();
        if let Some(address) = address {
            let (network, length) = entry.split_once('/').unwrap_or((&entry, "128"));
            let network = network.trim_matches(['[', ']']).parse().ok();
            return network.is_some_and(|network| is_within(address, network, length.parse().unwrap_or(129)));
        }
        let name = entry.strip_prefix('.').unwrap_or(&entry);
        host == name || host.strip_suffix(name).is_some_and(|before| before.ends_with('.'))
    })
}

fn is_within(address: IpAddr, network: IpAddr, length: u32) -> bool {
    let (address, network, width) = match (address, network) {
        (IpAddr::V4(address), IpAddr::V4(network)) => {
            (u128::from(address.to_bits()), u128::from(network.to_bits()), 32)
        }
        (IpAddr::V6(address), IpAddr::V6(network)) => (address.to_bits(), network.to_bits(), 128),
        _ => return false,
    };
    // 128 stands for a whole address of either kind.
    let rest = match length {
        128 => 0,
        length if length <= width => width - length,
        _ => return false,
    };
    address.checked_shr(rest) == network.checked_shr(rest)
}

fn decoded(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut decoded = Vec::with_capacity(bytes.len());
    let mut at = 0;
    while at < bytes.len() {
        let code = bytes.get(at + 1..at + 3).and_then(|digits| std::str::from_utf8(digits).ok());
        match code.and_then(|digits| u8::from_str_radix(digits, 16).ok()) {
            Some(byte) if bytes[at] == b'%' => {
                decoded.push(byte);
                at += 3;
            }
            _ => {
                decoded.push(bytes[at]);
                at += 1;
            }
        }
    }
    String::from_utf8_lossy(&decoded).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn found(endpoint: &str, environment: &[(&str, &str)]) -> Option<String> {
        let variable = |name: &str| {
            environment.iter().find(|(known, _)| *known == name).map(|(_, value)| (*value).to_owned())
        };
        let found = Proxy::Environment.to(&endpoint.parse().unwrap(), variable).unwrap();
        found.map(|proxy| format!("{}:{}", proxy.host, proxy.port))
    }

    #[test]
    fn the_environment_names_the_proxy_as_curl_takes_it() {
        let secure = "https://sup.example.com";
        assert_eq!(found(secure, &[]), None);
        assert_eq!(found(secure, &[("HTTPS_PROXY", "http://p:3128")]), Some("p:3128".into()));
        assert_eq!(found(secure, &[("https_proxy", "q"), ("HTTPS_PROXY", "p")]), Some("q:1080".into()));
        assert_eq!(found(secure, &[("ALL_PROXY", "http://[::1]:8080/")]), Some("::1:8080".into()));
        assert_eq!(found(secure, &[("http_proxy", "p"), ("HTTPS_PROXY", " ")]), None);
        assert_eq!(found("http://127.0.0.1", &[("HTTP_PROXY", "p")]), None);
        assert_eq!(found("http://127.0.0.1", &[("http_proxy", "p:1")]), Some("p:1".into()));
        let socks = |_: &str| Some("socks5://p".to_owned());
        assert!(Proxy::Environment.to(&secure.parse().unwrap(), socks).is_err());
    }

    #[test]
    fn no_proxy_exempts_names_below_addresses_and_networks() {
        let exempt = |endpoint: &str, list: &str| {
            found(endpoint, &[("https_proxy", "p"), ("NO_PROXY", list)]).is_none()
        };
        for list in ["*", "sup.example.com", "example.com", ".example.com", "a.b, EXAMPLE.COM"] {
            assert!(exempt("https://sup.example.com", list), "{list}");
        }
        for list in ["ample.com", "other.example.com", "com.", "10.0.0.0/8"] {
            assert!(!exempt("https://sup.example.com", list), "{list}");
        }
        for list in ["10.1.2.3", "10.0.0.0/8", "0.0.0.0/0"] {
            assert!(exempt("https://10.1.2.3", list), "{list}");
        }
        for list in ["10.1.2.4", "11.0.0.0/8", "::/0", "10.0.0.0/33", "10.0.0.0/x"] {
            assert!(!exempt("https://10.1.2.3", list), "{list}");
        }
        assert!(exempt("https://[2001:db8::1]", "2001:db8::/32"));
    }

    #[test]
    fn a_password_is_told_to_the_proxy_and_to_nobody_else() {
        let Proxy::At(proxy) = Proxy::try_from("http://me:p%40ss@proxy:3128".to_owned()).unwrap() else {
            panic!("an address is an address");
        };
        let told = proxy.authorization.as_ref().unwrap().expose();
        assert_eq!(told, format!("Basic {}", BASE64_STANDARD.encode("me:p@ss")));
        assert!(!format!("{proxy:?}").contains("p@ss"));
        let error = Proxy::try_from("https://me:p@ss@proxy".to_owned()).unwrap_err();
        assert!(!error.contains("p@ss"), "{error}");
    }

    #[test]
    fn only_a_2xx_of_http_opens_the_tunnel() {
        assert!(judge(b"HTTP/1.1 200 Connection established\r\n\r\n").is_ok());
        for answer in ["HTTP/1.1 407 No\r\n\r\n", "HTTP/1.0 503 x\r\n\r\n", "SSH-2.0-x\r\n\r\n", "\r\n\r\n"] {
            assert!(judge(answer.as_bytes()).is_err(), "{answer}");
        }
    }
}
