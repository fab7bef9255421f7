//! What can be asked of a node: which runtime, which action.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// Longest key of a connector instance, in bytes: it becomes part of a unit name, which systemd limits to 255.
const KEY_LIMIT: usize = 64;

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Work {
    Activity {
        runtime: Runtime,
        action: Action,
    },
    /// `redact_secrets: false` is refused: nothing leaves a host unmasked.
    Snapshot {
        redact_secrets: bool,
        include_iggy: bool,
        /// The one that the node offered, taken already; absent: a new one.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        offer: Option<u64>,
        #[serde(flatten)]
        choice: SnapshotChoice,
    },
}

/// The capability of an agent that heeds a [`SnapshotChoice`]: one that does not know it would take all of the host, as
/// it is.
pub const SNAPSHOT_CHOICE: &str = "snapshot_choice";

/// What of a host a snapshot tells; without a choice, all of it, as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SnapshotChoice {
    /// Only these checks and areas.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub only: Vec<String>,
    /// How far back logs are read, in seconds.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since_seconds: Option<u32>,
    /// Addresses and names are taken out, too.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub anonymize: bool,
}

/// A thing that runs on a node. As text `iggy`, `connectors`, or `connector:sink:orders-pg` for one instance.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Runtime {
    Iggy,
    Connectors,
    Connector { kind: ConnectorKind, key: String },
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum ConnectorKind {
    Sink,
    Source,
}

/// As text `start`, `stop`, `restart`, or `reconfigure:42` with the id of the configuration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    Start,
    Stop,
    Restart,
    Reconfigure(u64),
}

/// The text names no runtime, connector or action.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("expected {expected}")]
pub struct Unreadable {
    expected: &'static str,
}

/// In a few words for a person: `restart iggy`.
impl fmt::Display for Work {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Work::Activity { runtime, action } => write!(formatter, "{action} {runtime}"),
            Work::Snapshot { .. } => formatter.write_str("snapshot"),
        }
    }
}

impl ConnectorKind {
    pub fn as_str(self) -> &'static str {
        match self {
            ConnectorKind::Sink => "sink",
            ConnectorKind::Source => "source",
        }
    }
}

impl FromStr for Runtime {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable =
            Unreadable { expected: "iggy, connectors, connector:sink:KEY or connector:source:KEY" };
        let instance = |kind, key: &str| {
            let written = key.bytes().all(|byte| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || matches!(byte, b'-' | b'_')
            });
            let bounded = (1..=KEY_LIMIT).contains(&key.len()) && !key.starts_with('-');
            (written && bounded).then(|| Runtime::Connector { kind, key: key.to_owned() })
        };
        match text.split(':').collect::<Vec<_>>().as_slice() {
            ["iggy"] => Ok(Runtime::Iggy),
            ["connectors"] => Ok(Runtime::Connectors),
            ["connector", "sink", key] => instance(ConnectorKind::Sink, key).ok_or(unreadable),
            ["connector", "source", key] => instance(ConnectorKind::Source, key).ok_or(unreadable),
            _ => Err(unreadable),
        }
    }
}

impl fmt::Display for Runtime {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Runtime::Iggy => formatter.write_str("iggy"),
            Runtime::Connectors => formatter.write_str("connectors"),
            Runtime::Connector { kind, key } => write!(formatter, "connector:{}:{key}", kind.as_str()),
        }
    }
}

impl FromStr for Action {
    type Err = Unreadable;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let unreadable = Unreadable { expected: "start, stop, restart or reconfigure:CONFIG_ID" };
        match text {
            "start" => Ok(Action::Start),
            "stop" => Ok(Action::Stop),
            "restart" => Ok(Action::Restart),
            other => {
                let id = other.strip_prefix("reconfigure:").filter(|id| !id.starts_with('+'));
                id.and_then(|id| id.parse().ok()).map(Action::Reconfigure).ok_or(unreadable)
            }
        }
    }
}

impl fmt::Display for Action {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Action::Start => formatter.write_str("start"),
            Action::Stop => formatter.write_str("stop"),
            Action::Restart => formatter.write_str("restart"),
            Action::Reconfigure(configuration) => write!(formatter, "reconfigure:{configuration}"),
        }
    }
}

macro_rules! as_text {
    ($($type:ty),*) => {$(
        impl Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }

        impl<'de> Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
as_text!(Runtime, Action);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runtimes_and_actions_read_as_they_are_written() {
        for text in ["iggy", "connectors", "connector:sink:orders-pg", "connector:source:s3_in"] {
            assert_eq!(text.parse::<Runtime>().unwrap().to_string(), text);
        }
        for text in ["start", "stop", "restart", "reconfigure:18446744073709551615"] {
            assert_eq!(text.parse::<Action>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn what_could_name_another_unit_is_no_connector_key() {
        for key in ["", "-x", "../iggy", "a.service", "a b", "A", "a@b", "a\0", &"k".repeat(65)] {
            assert!(format!("connector:sink:{key}").parse::<Runtime>().is_err(), "{key:?}");
        }
        for action in ["", "Restart", "reconfigure:", "reconfigure:-1", "reconfigure:+1", "reconfigure:1:2"] {
            assert!(action.parse::<Action>().is_err(), "{action:?}");
        }
    }
}
