//! What can go wrong on the way to systemd, in the kinds a caller branches on.

use std::time::Duration;

use zbus::DBusError;

#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no bus, or no systemd on it, or the connection broke.
    #[error("{0}")]
    Unavailable(String),
    /// polkit, or the policy of the bus.
    #[error("permission denied")]
    Denied,
    #[error("{0}")]
    NoSuchUnit(String),
    #[error("systemd did not answer within {0:?}")]
    Timeout(Duration),
    /// Any other answer of systemd that is an error, in its words.
    #[error("{0}")]
    Call(String),
}

/// Why a call that changes something gave no job.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// It had no effect, for certain.
    #[error(transparent)]
    Refused(Error),
    /// The connection broke before the answer: it may have had its effect.
    #[error("{0}")]
    Lost(String),
}

pub fn explain(error: zbus::Error) -> Error {
    if let Some((name, text)) = answered(&error) {
        return match short(&name) {
            "AccessDenied" | "InteractiveAuthorizationRequired" | "AuthFailed" => Error::Denied,
            "ServiceUnknown" | "NameHasNoOwner" => {
                Error::Unavailable("systemd does not run on this host".to_owned())
            }
            "NoReply" | "Disconnected" => Error::Unavailable(text),
            "NoSuchUnit" => Error::NoSuchUnit(text),
            _ => Error::Call(text),
        };
    }
    if let zbus::Error::InputOutput(error) = error {
        return Error::Unavailable(format!("the connection to the D-Bus system bus broke: {error}"));
    }
    Error::Call(error.to_string())
}

pub fn explain_connect(error: zbus::Error) -> Error {
    let absent = matches!(&error, zbus::Error::InputOutput(_) | zbus::Error::Connection(..));
    Error::Unavailable(if absent {
        "no D-Bus system bus on this host".to_owned()
    } else {
        format!("the D-Bus system bus does not take us: {error}")
    })
}

/// Only an answer says for certain that nothing was done; and the bus says `NoReply` for a systemd that went away
/// with the call in its hands.
pub fn explain_call(error: zbus::Error) -> CallError {
    let certain = answered(&error).is_some_and(|(name, _)| {
        !matches!(short(&name), "NoReply" | "Disconnected" | "Timeout" | "TimedOut" | "IOError")
    });
    if certain { CallError::Refused(explain(error)) } else { CallError::Lost(explain(error).to_string()) }
}

/// Name and text of an error that came as an answer. Those that the D-Bus specification names come as a kind of
/// their own.
fn answered(error: &zbus::Error) -> Option<(String, String)> {
    let (name, text) = if let zbus::Error::MethodError(name, detail, _) = error {
        (name.to_string(), detail.clone())
    } else if let zbus::Error::FDO(error) = error {
        if let zbus::fdo::Error::ZBus(error) = error.as_ref() {
            return answered(error);
        }
        (error.name().to_string(), error.description().map(str::to_owned))
    } else {
        return None;
    };
    let text = text.filter(|text| !text.is_empty()).unwrap_or_else(|| name.clone());
    Some((name, text))
}

fn short(name: &str) -> &str {
    name.rsplit('.').next().unwrap_or(name)
}
