//! Where the Supervisor is: `https://supervisor.example.com`, with a port and a path where they are not the usual.

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use serde::Deserialize;
use url::{Host, Url};

/// An address of the Supervisor. Only a Supervisor on this very host may be spoken to without TLS.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String")]
pub struct Endpoint {
    pub secure: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
    /// Empty, or begins with a slash and does not end with one.
    pub prefix: String,
}

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum NotAnEndpoint {
    #[error("expected an address like https://supervisor.example.com")]
    Form,
    #[error(
        "http:// is only for a Supervisor on this host; elsewhere the credential could be read: use https://"
    )]
    Plain,
    #[error("the address must not have a user, a password, a query or a fragment")]
    Parts,
}

impl Endpoint {
    /// Host and port as HTTP's `host` header and CONNECT write them.
    pub fn authority(&self) -> String {
        match self.host.parse::<IpAddr>() {
            Ok(IpAddr::V6(address)) => format!("[{address}]:{}", self.port),
            _ => format!("{}:{}", self.host, self.port),
        }
    }

    /// The path of `place` at this Supervisor.
    pub fn path(&self, place: &str) -> String {
        format!("{}{place}", self.prefix)
    }
}

impl FromStr for Endpoint {
    type Err = NotAnEndpoint;

    fn from_str(text: &str) -> Result<Endpoint, NotAnEndpoint> {
        let url = Url::parse(text.trim()).map_err(|_| NotAnEndpoint::Form)?;
        let secure = match url.scheme() {
            "https" => true,
            "http" => false,
            _ => return Err(NotAnEndpoint::Form),
        };
        let parts = [url.username(), url.password().unwrap_or_default()];
        if parts != [""; 2] || url.query().is_some() || url.fragment().is_some() {
            return Err(NotAnEndpoint::Parts);
        }
        let (host, local) = match url.host().ok_or(NotAnEndpoint::Form)? {
            Host::Domain(name) => (name.to_owned(), name == "localhost"),
            Host::Ipv4(address) => (address.to_string(), address.is_loopback()),
            Host::Ipv6(address) => (address.to_string(), address.is_loopback()),
        };
        if !secure && !local {
            return Err(NotAnEndpoint::Plain);
        }
        let port = url.port_or_known_default().ok_or(NotAnEndpoint::Form)?;
        Ok(Endpoint { secure, host, port, prefix: url.path().trim_end_matches('/').to_owned() })
    }
}

impl TryFrom<String> for Endpoint {
    type Error = NotAnEndpoint;

    fn try_from(text: String) -> Result<Endpoint, NotAnEndpoint> {
        text.parse()
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, usual) = if self.secure { ("https", ":443") } else { ("http", ":80") };
        let authority = self.authority();
        let authority = authority.strip_suffix(usual).unwrap_or(&authority);
        write!(formatter, "{scheme}://{authority}{}", self.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_is_read_as_it_is_written() {
        for (text, authority, path) in [
            ("https://sup.example.com", "sup.example.com:443", "/nodes/link"),
            ("https://sup.example.com:8443/warden", "sup.example.com:8443", "/warden/nodes/link"),
            ("https://[2001:db8::1]:8443", "[2001:db8::1]:8443", "/nodes/link"),
            ("http://127.0.0.1:3130", "127.0.0.1:3130", "/nodes/link"),
            ("http://localhost", "localhost:80", "/nodes/link"),
            ("http://[::1]", "[::1]:80", "/nodes/link"),
        ] {
            let endpoint: Endpoint = text.parse().unwrap();
            assert_eq!(endpoint.to_string(), text);
            assert_eq!(
                (endpoint.authority().as_str(), endpoint.path("/nodes/link").as_str()),
                (authority, path)
            );
        }
        assert_eq!("https://a/b/".parse::<Endpoint>().unwrap().to_string(), "https://a/b");
    }

    #[test]
    fn what_would_send_the_credential_in_clear_or_means_nothing_is_refused() {
        for (text, why) in [
            ("http://sup.example.com", NotAnEndpoint::Plain),
            ("http://10.0.0.1:3130", NotAnEndpoint::Plain),
            ("https://u:p@sup.example.com", NotAnEndpoint::Parts),
            ("https://sup.example.com/?a=b", NotAnEndpoint::Parts),
            ("wss://sup.example.com", NotAnEndpoint::Form),
            ("sup.example.com", NotAnEndpoint::Form),
            ("", NotAnEndpoint::Form),
        ] {
            assert_eq!(text.parse::<Endpoint>(), Err(why), "{text}");
        }
    }
}
