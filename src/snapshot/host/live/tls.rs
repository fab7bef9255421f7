//! What a TLS listener offers, whatever it is.

use std::io::{Read, Write};
use std::sync::Arc;
use std::time::{Duration, Instant};

use rustls::ClientConnection;
use rustls::pki_types::ServerName;
use warden_host::{Cause, TlsAnswer};
use warden_platform::tls::{accepting_any_certificate, pem};

use super::network;

pub fn handshake(address: &str, name: &str, limit: Duration) -> Result<TlsAnswer, Cause> {
    let started = Instant::now();
    let name = ServerName::try_from(name.to_owned())
        .map_err(|_| Cause::Other(format!("`{name}` is not a host name")))?;
    let mut stream = network::open(address, limit)?;
    let left = Some(limit.saturating_sub(started.elapsed()).max(Duration::from_millis(1)));
    stream
        .set_read_timeout(left)
        .and_then(|()| stream.set_write_timeout(left))
        .map_err(super::files::cause_of)?;
    let config = Arc::new(accepting_any_certificate());
    let mut connection =
        ClientConnection::new(config, name).map_err(|error| Cause::Other(error.to_string()))?;
    complete(&mut connection, &mut stream, started, limit)?;
    take_leave(&mut connection, &mut stream);
    let chain = connection.peer_certificates().unwrap_or_default().iter().map(pem).collect();
    Ok(TlsAnswer {
        protocol: connection.protocol_version().map_or("unknown", protocol_name).to_owned(),
        cipher: connection
            .negotiated_cipher_suite()
            .map_or_else(String::new, |suite| format!("{:?}", suite.suite())),
        chain,
        millis: network::millis(started),
    })
}

/// A listener that sends a byte a second keeps each read in time; the whole is bounded too.
fn complete(
    connection: &mut ClientConnection,
    stream: &mut (impl Read + Write),
    started: Instant,
    limit: Duration,
) -> Result<(), Cause> {
    let failed = |error: std::io::Error| {
        if matches!(error.kind(), std::io::ErrorKind::WouldBlock | std::io::ErrorKind::TimedOut) {
            Cause::TimedOut
        } else {
            Cause::Other(format!("the TLS handshake failed: {error}"))
        }
    };
    while connection.is_handshaking() {
        if started.elapsed() > limit {
            return Err(Cause::TimedOut);
        }
        while connection.wants_write() {
            connection.write_tls(stream).map_err(failed)?;
        }
        if connection.is_handshaking() && connection.wants_read() {
            if connection.read_tls(stream).map_err(failed)? == 0 {
                return Err(Cause::Other(
                    "the listener closed the connection: it does not speak TLS".to_owned(),
                ));
            }
            connection
                .process_new_packets()
                .map_err(|error| Cause::Other(format!("the TLS handshake failed: {error}")))?;
        }
    }
    Ok(())
}

/// Ends in order: the last message of the handshake may still be unsent, and a server that misses it logs a failure.
/// What was to be learned is known by now, so that an error here is none.
fn take_leave(connection: &mut ClientConnection, stream: &mut impl Write) {
    connection.send_close_notify();
    while connection.wants_write() {
        if connection.write_tls(stream).is_err() {
            return;
        }
    }
    let _ = stream.flush();
}

fn protocol_name(version: rustls::ProtocolVersion) -> &'static str {
    if version == rustls::ProtocolVersion::TLSv1_3 {
        "TLSv1.3"
    } else if version == rustls::ProtocolVersion::TLSv1_2 {
        "TLSv1.2"
    } else {
        "unknown"
    }
}
