//! The host and port that a URL of the Supervisor leads to.

/// Where to connect for a URL.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub tls: bool,
    /// A name or an address, without brackets.
    pub host: String,
    pub port: u16,
}

impl Endpoint {
    /// `https://name[:port][/...]` and its kin; `None` for any other scheme or an unusable port.
    pub fn parse(url: &str) -> Option<Endpoint> {
        let (scheme, rest) = url.trim().split_once("://")?;
        let tls = match scheme.to_ascii_lowercase().as_str() {
            "https" | "wss" => true,
            "http" | "ws" => false,
            _ => return None,
        };
        let authority = rest.split(['/', '?', '#']).next()?;
        // Credentials are no part of an endpoint and must not be shown.
        let authority = authority.rsplit_once('@').map_or(authority, |(_, host)| host);
        let (host, port) = match authority.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => authority.split_at(authority.find(':').unwrap_or(authority.len())),
        };
        let port = match port.strip_prefix(':').filter(|port| !port.is_empty()) {
            Some(port) => port.parse().ok()?,
            None if tls => 443,
            None => 80,
        };
        // Nothing else stands in a name or an address, and what does not cannot break out of a command.
        let is_usable = |byte: u8| byte.is_ascii_alphanumeric() || b".-_:%".contains(&byte);
        (!host.is_empty() && host.bytes().all(is_usable)).then(|| Endpoint {
            tls,
            host: host.to_owned(),
            port,
        })
    }

    /// `name:port`, an IPv6 address in brackets.
    pub fn address(&self) -> String {
        let Endpoint { host, port, .. } = self;
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    }

    /// Whether the host is an address and needs no lookup.
    pub fn is_address(&self) -> bool {
        self.host.parse::<std::net::IpAddr>().is_ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn host_and_port_are_found_and_credentials_are_left_out() {
        let address = |url| Endpoint::parse(url).map(|endpoint| (endpoint.address(), endpoint.tls));
        assert_eq!(address("https://warden.example/api"), Some(("warden.example:443".to_owned(), true)));
        assert_eq!(
            address("WSS://u:p@warden.example:8443?x"),
            Some(("warden.example:8443".to_owned(), true))
        );
        assert_eq!(address("http://[fd00::1]:81/"), Some(("[fd00::1]:81".to_owned(), false)));
        assert_eq!(address("http://10.0.0.1"), Some(("10.0.0.1:80".to_owned(), false)));
        for odd in
            ["warden.example", "ftp://x", "https://", "https://x:99999", "https://[fd00::1", "https://a;b"]
        {
            assert_eq!(address(odd), None, "{odd}");
        }
        assert!(Endpoint::parse("http://[fd00::1]").is_some_and(|endpoint| endpoint.is_address()));
    }
}
