//! What failed about TLS, in words, and what to do about it.

use std::error::Error as StdError;
use std::io;

use jiff::Timestamp;
use rustls::pki_types::UnixTime;
use rustls::{AlertDescription, CertificateError, Error};

use super::pin::NotPinned;

/// Names of a certificate that are told; a wildcard of a hosting provider has hundreds.
const NAMES_TOLD: usize = 5;

/// Says what TLS failed at, and what to do; none where something else failed. `how_to_trust` names the options by which
/// the caller is told of an authority.
pub fn words(error: &(dyn StdError + 'static), how_to_trust: &str) -> Option<String> {
    let mut next = Some(error);
    while let Some(error) = next {
        if let Some(found) = rustls_in(error) {
            return Some(of(found, how_to_trust));
        }
        // By tokio-rustls, which has no type for it.
        if error.to_string() == "tls handshake eof" {
            return Some("it closed the connection in the middle of the TLS handshake: is this the port of the Supervisor, and does a proxy or load balancer stand before it?".to_owned());
        }
        next = error.source();
    }
    None
}

/// Whether what answers a request of http may speak https: its answer is none of HTTP.
pub fn may_be_https(error: &(dyn StdError + 'static)) -> bool {
    use tokio_tungstenite::tungstenite;
    let mut next = Some(error);
    while let Some(error) = next {
        let of_http = error.downcast_ref::<hyper::Error>().is_some_and(hyper::Error::is_parse);
        let of_websocket = error.downcast_ref::<tungstenite::Error>().is_some_and(|error| {
            matches!(error, tungstenite::Error::Protocol(tungstenite::error::ProtocolError::HttparseError(_)))
        });
        if of_http || of_websocket {
            return true;
        }
        next = error.source();
    }
    false
}

/// The error itself, or what an error of input and output holds, which is no source of it.
fn rustls_in<'e>(error: &'e (dyn StdError + 'static)) -> Option<&'e Error> {
    if let Some(found) = error.downcast_ref::<Error>() {
        return Some(found);
    }
    let held = error.downcast_ref::<io::Error>()?.get_ref()?;
    let held: &(dyn StdError + 'static) = held;
    rustls_in(held)
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds kinds, and each has a sentence at the end")]
fn of(error: &Error, how_to_trust: &str) -> String {
    match error {
        Error::InvalidCertificate(error) => of_certificate(error, how_to_trust),
        Error::InvalidMessage(_) | Error::InappropriateMessage { .. } => {
            "what answers there does not speak TLS: a Supervisor without a certificate speaks http, and another \
             service something else; give the Supervisor tls_certificate and tls_key, and look at the port"
                .to_owned()
        }
        Error::AlertReceived(alert) => of_alert(*alert),
        Error::NoCertificatesPresented => {
            "it shows no certificate: give it tls_certificate and tls_key".to_owned()
        }
        Error::PeerIncompatible(_) | Error::NoApplicationProtocol => {
            "it speaks no TLS that is spoken here (1.2 and 1.3): is it a Supervisor, and does an old proxy stand before it?"
                .to_owned()
        }
        Error::Other(other) if other.0.is::<NotPinned>() => other.0.to_string(),
        Error::General(text) => text.clone(),
        other => format!(
            "the other end breaks the rules of TLS ({}): does something else answer in its place?",
            spaced(&other.to_string())
        ),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "rustls adds kinds, and each has a sentence at the end")]
fn of_certificate(error: &CertificateError, how_to_trust: &str) -> String {
    match error {
        CertificateError::UnknownIssuer => {
            format!("its certificate is signed by no authority that is trusted here: {how_to_trust}")
        }
        CertificateError::NotValidForNameContext { expected, presented } => {
            let named: Vec<&str> = presented.iter().map(|name| bare(name)).collect();
            let more = named.len().saturating_sub(NAMES_TOLD);
            let mut told = named.iter().take(NAMES_TOLD).copied().collect::<Vec<_>>().join(", ");
            if more > 0 {
                told += &format!(" and {more} more");
            }
            let expected = expected.to_str();
            match named.is_empty() {
                true => format!(
                    "its certificate names no host at all (no subject alternative name): have one made that names \
                     {expected}"
                ),
                false => format!(
                    "its certificate is for {told}, not for {expected}: call it by one of these, or have a certificate \
                     made that names {expected}"
                ),
            }
        }
        CertificateError::ExpiredContext { time, not_after } => format!(
            "its certificate ran out at {}, and the clock here says {}: renew the certificate, or set the clock",
            at(*not_after),
            at(*time)
        ),
        CertificateError::NotValidYetContext { time, not_before } => format!(
            "its certificate is not valid before {}, and the clock here says {}: set the clock that is wrong \
             (timedatectl), here or where the certificate was made",
            at(*not_before),
            at(*time)
        ),
        CertificateError::InvalidPurpose | CertificateError::InvalidPurposeContext { .. } => {
            "its certificate is not one for servers (extended key usage): have one made for a server".to_owned()
        }
        CertificateError::BadSignature => {
            "its certificate is not signed by the authority that it names: another authority of the same name is \
             trusted here, or certificate and authority were mixed up"
                .to_owned()
        }
        CertificateError::Revoked => "its certificate was revoked: renew it".to_owned(),
        CertificateError::ApplicationVerificationFailure => "its certificate is refused".to_owned(),
        CertificateError::Other(other) => match other.0.downcast_ref::<webpki::Error>() {
            Some(webpki::Error::CaUsedAsEndEntity) => {
                "it shows the certificate of an authority (CA:TRUE) as its own, which no client accepts: give it a \
                 certificate for a server that the authority signed; `warden supervisor init-tls` makes both"
                    .to_owned()
            }
            _ => format!("its certificate is not accepted ({})", spaced(&other.0.to_string())),
        },
        other => format!("its certificate is not accepted ({})", spaced(&other.to_string())),
    }
}

#[expect(clippy::wildcard_enum_match_arm, reason = "alerts are many, and most mean a defect")]
fn of_alert(alert: AlertDescription) -> String {
    match alert {
        AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::UnsupportedCertificate
        | AlertDescription::CertificateExpired
        | AlertDescription::CertificateUnknown
        | AlertDescription::UnknownCA
        | AlertDescription::AccessDenied => {
            "it wants a certificate of this client and got none that it accepts: \
             look at agent.client_certificate here and supervisor.tls_client_ca there"
                .to_owned()
        }
        AlertDescription::HandshakeFailure
        | AlertDescription::ProtocolVersion
        | AlertDescription::InsufficientSecurity => {
            "it speaks no TLS that is spoken here (1.2 and 1.3)".to_owned()
        }
        AlertDescription::UnrecognisedName => {
            "it has no certificate for this name: call it by a name of its certificate".to_owned()
        }
        other => {
            format!("it broke off the TLS handshake ({}): its log tells why", spaced(&format!("{other:?}")))
        }
    }
}

/// `DnsName("a.example")` and `IpAddress(10.0.0.1)`, as webpki writes them, are a.example and 10.0.0.1.
fn bare(name: &str) -> &str {
    let inside = name.split_once('(').and_then(|(_, rest)| rest.strip_suffix(')'));
    inside.unwrap_or(name).trim_matches('"')
}

/// `PathLenConstraintViolated` as words.
fn spaced(name: &str) -> String {
    let mut text = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() && text.ends_with(|last: char| last.is_ascii_lowercase()) {
            text.push(' ');
        }
        text.extend(c.to_lowercase());
    }
    text
}

fn at(time: UnixTime) -> String {
    let seconds = i64::try_from(time.as_secs()).unwrap_or(i64::MAX);
    Timestamp::from_second(seconds).map_or_else(|_| "a time that is none".to_owned(), |at| at.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn told(error: Error) -> String {
        words(&io::Error::new(io::ErrorKind::InvalidData, error), "name it").unwrap()
    }

    #[test]
    fn what_is_wrong_with_a_certificate_is_told_with_names_and_times() {
        let name = |expected: &str, presented: &[&str]| {
            told(Error::InvalidCertificate(CertificateError::NotValidForNameContext {
                expected: expected.to_owned().try_into().unwrap(),
                presented: presented.iter().map(|&name| name.to_owned()).collect(),
            }))
        };
        assert_eq!(
            name("a.example", &["DnsName(\"b.example\")", "IpAddress(10.0.0.1)"]),
            "its certificate is for b.example, 10.0.0.1, not for a.example: call it by one of these, or have a certificate \
             made that names a.example"
        );
        let many: Vec<String> = (0..9).map(|at| format!("DnsName(\"{at}.example\")")).collect();
        let many: Vec<&str> = many.iter().map(String::as_str).collect();
        assert!(name("a.example", &many).contains("4.example and 4 more, not for a.example"));
        assert!(name("a.example", &[]).starts_with("its certificate names no host at all"));
        let time = |seconds: u64| UnixTime::since_unix_epoch(std::time::Duration::from_secs(seconds));
        assert_eq!(
            told(Error::InvalidCertificate(CertificateError::ExpiredContext {
                time: time(1_795_262_400),
                not_after: time(1_795_000_000),
            })),
            "its certificate ran out at 2026-11-18T11:06:40Z, and the clock here says 2026-11-21T12:00:00Z: renew the \
             certificate, or set the clock"
        );
        let early = told(Error::InvalidCertificate(CertificateError::NotValidYetContext {
            time: time(1_795_000_000),
            not_before: time(1_795_262_400),
        }));
        assert!(early.starts_with("its certificate is not valid before 2026-11-21T12:00:00Z, "), "{early}");
        let unknown = told(Error::InvalidCertificate(CertificateError::UnknownIssuer));
        assert_eq!(unknown, "its certificate is signed by no authority that is trusted here: name it");
    }

    #[test]
    fn no_kind_of_failure_is_told_in_the_words_of_a_debugger() {
        let certificate = |error: webpki::Error| {
            Error::InvalidCertificate(CertificateError::Other(rustls::OtherError(std::sync::Arc::new(error))))
        };
        for error in [
            certificate(webpki::Error::CaUsedAsEndEntity),
            certificate(webpki::Error::PathLenConstraintViolated),
            Error::InvalidCertificate(CertificateError::BadEncoding),
            Error::InvalidMessage(rustls::InvalidMessage::InvalidContentType),
            Error::AlertReceived(AlertDescription::CertificateRequired),
            Error::AlertReceived(AlertDescription::InternalError),
            Error::PeerIncompatible(rustls::PeerIncompatible::Tls12NotOffered),
            Error::PeerMisbehaved(rustls::PeerMisbehaved::TooMuchEarlyDataReceived),
            Error::DecryptError,
        ] {
            let text = told(error);
            let camel = text
                .as_bytes()
                .windows(2)
                .any(|pair| pair[0].is_ascii_lowercase() && pair[1].is_ascii_uppercase());
            assert!(!camel && !text.contains("Error"), "{text}");
        }
        assert_eq!(words(&io::Error::other("disk"), ""), None);
    }
}
