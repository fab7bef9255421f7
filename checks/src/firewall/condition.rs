//! What decides whether a test of a rule holds when the packet alone does not say: who sends it, how it arrives.

use super::rule::{Comparison, Family, Key, TCP, Value, shown_addresses};
use super::{Connection, Tracking};

/// Something that is true of some packets of a connection and not of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    /// `source 10.0.0.0/8`, `arriving on eth1`, `within 10/second`.
    pub text: String,
    pub kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    Source(Vec<(u128, u128)>),
    /// Names that may end in `*`.
    Interface(Vec<String>),
    Other,
    /// Warden cannot tell of whom it is true.
    Unjudged,
}

/// Whether a test holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Match {
    Yes,
    No,
    If(Condition),
}

/// Ranges of a source that are listed one by one; more are named by their number.
const SHOWN_VALUES: usize = 4;
/// Ranges that two conditions are compared by; larger sets only equal themselves.
const COMPARED_VALUES: usize = 256;

impl Condition {
    pub fn other(text: impl Into<String>) -> Condition {
        Condition { text: text.into(), kind: Kind::Other }
    }

    pub fn unjudged(text: impl Into<String>) -> Condition {
        Condition { text: text.into(), kind: Kind::Unjudged }
    }

    /// Whether it is true given that `other` is `holds`; `None` when that does not say.
    pub fn follows_from(&self, other: &Condition, holds: bool) -> Option<bool> {
        if self == other {
            return Some(holds);
        }
        let (within, around, apart) = match (&self.kind, &other.kind) {
            (Kind::Source(own), Kind::Source(others)) => {
                let inside = |one: &(u128, u128), all: &[(u128, u128)]| {
                    all.iter().any(|(first, last)| *first <= one.0 && one.1 <= *last)
                };
                (
                    own.iter().all(|one| inside(one, others)),
                    others.iter().all(|one| inside(one, own)),
                    own.iter().all(|one| others.iter().all(|other| one.1 < other.0 || other.1 < one.0)),
                )
            }
            (Kind::Interface(own), Kind::Interface(others)) => {
                let inside = |one: &str, all: &[String]| all.iter().any(|pattern| fits(pattern, one));
                let exact = own.iter().chain(others).all(|name| !name.ends_with('*'));
                (
                    own.iter().all(|one| inside(one, others)),
                    others.iter().all(|one| inside(one, own)),
                    exact && own.iter().all(|one| !others.contains(one)),
                )
            }
            (Kind::Source(_) | Kind::Interface(_) | Kind::Other | Kind::Unjudged, _) => return None,
        };
        match holds {
            true if around => Some(true),
            true if apart => Some(false),
            false if within => Some(false),
            _ => None,
        }
    }
}

/// Whether an interface name, or every name of a pattern, is one of those that `pattern` stands for.
fn fits(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(begin) => name.starts_with(begin),
        None => name == pattern,
    }
}

/// What one value says.
enum Part {
    Yes,
    No,
    /// The packet has no such thing: the test fails, negated or not.
    Absent,
    Source(u128, u128),
    Interface(String),
    Other(String),
    Unjudged(String),
}

/// Whether `comparison` holds, before its negation.
pub fn compare(comparison: &Comparison, connection: &Connection, tracking: &Tracking) -> (Match, bool) {
    if comparison.keys.iter().any(|key| matches!(part(key, &Value::Any, connection, tracking), Part::Absent))
    {
        return (Match::No, false);
    }
    let mut found = Found::default();
    for element in &comparison.elements {
        if found.add(&comparison.keys, element, connection, tracking) {
            return (Match::Yes, comparison.negated);
        }
    }
    (found.condition(comparison.label.as_deref()), comparison.negated)
}

/// Whether the values of one element of a map are those of the packet.
pub fn compare_element(
    keys: &[Key],
    element: &[Value],
    connection: &Connection,
    tracking: &Tracking,
) -> Match {
    let mut found = Found::default();
    match found.add(keys, element, connection, tracking) {
        true => Match::Yes,
        false => found.condition(None),
    }
}

/// Conditions under which one of several elements matches.
#[derive(Default)]
struct Found {
    sources: Vec<(u128, u128)>,
    shown: Vec<String>,
    interfaces: Vec<String>,
    others: Vec<String>,
    unjudged: Option<String>,
}

impl Found {
    /// Whether the element matches whatever else.
    fn add(&mut self, keys: &[Key], element: &[Value], connection: &Connection, tracking: &Tracking) -> bool {
        let mut parts = Vec::new();
        let every = [Value::Any];
        // `*` alone stands for every value of every key.
        let values = if element.len() == keys.len() { element } else { &every };
        for (at, key) in keys.iter().enumerate() {
            let value = values.get(at).unwrap_or(&Value::Any);
            match part(key, value, connection, tracking) {
                Part::Yes => {}
                Part::No | Part::Absent => return false,
                part @ (Part::Source(..) | Part::Interface(_) | Part::Other(_) | Part::Unjudged(_)) => {
                    parts.push((part, key));
                }
            }
        }
        let mut parts = parts.into_iter();
        let (first, more) = (parts.next(), parts.next());
        match (first, more) {
            (None, _) => return true,
            (Some((Part::Unjudged(text), _)), _) | (_, Some((Part::Unjudged(text), _))) => {
                self.unjudged.get_or_insert(text);
            }
            (Some((Part::Source(first, last), Key::Source(family))), None) => {
                self.sources.push((first, last));
                self.shown.push(shown_addresses(*family, first, last));
            }
            (Some((Part::Interface(name), _)), None) => self.interfaces.push(name),
            (Some(first), more) => {
                let texts: Vec<String> = [Some(first), more]
                    .into_iter()
                    .flatten()
                    .chain(parts)
                    .map(|(part, key)| text(part, key))
                    .collect();
                self.others.push(texts.join(" and "));
            }
        }
        false
    }

    fn condition(self, label: Option<&str>) -> Match {
        let kinds = [!self.sources.is_empty(), !self.interfaces.is_empty(), !self.others.is_empty()];
        let sources = || match (label, self.shown.len()) {
            (Some(label), _) => format!("source in {label}"),
            (None, count) if count > SHOWN_VALUES => {
                format!("source {} and {} more", self.shown[..SHOWN_VALUES].join(", "), count - SHOWN_VALUES)
            }
            _ => format!("source {}", self.shown.join(", ")),
        };
        let interfaces = || format!("arriving on {}", self.interfaces.join(", "));
        if let Some(text) = self.unjudged {
            return Match::If(Condition::unjudged(text));
        }
        match kinds {
            [false, false, false] => Match::No,
            [true, false, false] => {
                let text = sources();
                let kind = if self.sources.len() > COMPARED_VALUES {
                    Kind::Other
                } else {
                    Kind::Source(self.sources)
                };
                Match::If(Condition { text, kind })
            }
            [false, true, false] => {
                let text = interfaces();
                Match::If(Condition { text, kind: Kind::Interface(self.interfaces) })
            }
            [has_sources, has_interfaces, _] => {
                let mut texts: Vec<String> = Vec::new();
                texts.extend(has_sources.then(sources));
                texts.extend(has_interfaces.then(interfaces));
                let more = self.others.len().saturating_sub(SHOWN_VALUES);
                texts.extend(self.others.into_iter().take(SHOWN_VALUES));
                texts.extend((more > 0).then(|| format!("{more} more")));
                Match::If(Condition::other(texts.join(" or ")))
            }
        }
    }
}

fn text(part: Part, key: &Key) -> String {
    match (part, key) {
        (Part::Source(first, last), Key::Source(family)) => {
            format!("source {}", shown_addresses(*family, first, last))
        }
        (Part::Interface(name), _) => format!("arriving on {name}"),
        (Part::Other(text) | Part::Unjudged(text), _) => text,
        (Part::Yes | Part::No | Part::Absent | Part::Source(..), _) => String::new(),
    }
}

fn part(key: &Key, value: &Value, connection: &Connection, tracking: &Tracking) -> Part {
    let number = |own: u128| match value {
        Value::Range(first, last) if (first..=last).contains(&&own) => Part::Yes,
        Value::Any => Part::Yes,
        Value::Unsupported(text) => Part::Unjudged(text.clone()),
        Value::Range(..) | Value::Word(_) => Part::No,
    };
    match key {
        Key::Family => number(connection.family.number()),
        Key::Protocol => number(connection.protocol()),
        Key::DestinationPort => number(u128::from(connection.port)),
        Key::TcpFlags(_) if connection.protocol() != TCP => Part::Absent,
        // SYN, and ACK of those after it.
        Key::TcpFlags(mask) => number(mask & if connection.later { 0x10 } else { 0x02 }),
        Key::Mark(_) if tracking.marked => Part::Unjudged("the mark that an earlier rule sets".to_owned()),
        Key::Mark(_) => number(0),
        Key::Source(family) | Key::Destination(family) if *family != connection.family => Part::Absent,
        Key::Source(_) => source(value, connection),
        Key::Destination(family) => destination(value, *family, connection),
        Key::SourcePort => match value {
            Value::Any => Part::Yes,
            // Clients get their ports from above the reserved ones.
            Value::Range(first, last) if *first <= 1024 && *last >= 65_535 => Part::Yes,
            Value::Range(first, last) => Part::Other(format!("source port {first}-{last}")),
            Value::Word(text) | Value::Unsupported(text) => Part::Unjudged(text.clone()),
        },
        Key::InterfaceIn => interface(value, connection),
        Key::State => word(value, tracking.state(connection)),
        Key::Constant(Value::Range(own, _)) => number(*own),
        Key::Constant(Value::Word(own)) => word(value, own),
        Key::Constant(Value::Any | Value::Unsupported(_)) => {
            Part::Unjudged("a value that is not known".to_owned())
        }
    }
}

fn word(value: &Value, own: &str) -> Part {
    match value {
        Value::Any => Part::Yes,
        Value::Unsupported(text) => Part::Unjudged(text.clone()),
        Value::Word(word) if word.eq_ignore_ascii_case(own) => Part::Yes,
        Value::Word(_) | Value::Range(..) => Part::No,
    }
}

/// No other host sends from the loopback addresses or from one of ours.
fn source(value: &Value, connection: &Connection) -> Part {
    let is_ours = |first: u128, last: u128| {
        let (low, high) = loopback(connection.family);
        (low <= first && last <= high) || (first == last && connection.local.contains(&first))
    };
    match value {
        Value::Any => Part::Yes,
        Value::Range(0, last) if *last >= connection.family.last() => Part::Yes,
        Value::Range(first, last) if is_ours(*first, *last) => Part::No,
        Value::Range(first, last) => Part::Source(*first, *last),
        Value::Word(text) | Value::Unsupported(text) => Part::Unjudged(text.clone()),
    }
}

fn destination(value: &Value, family: Family, connection: &Connection) -> Part {
    let Value::Range(first, last) = value else {
        return match value {
            Value::Word(text) | Value::Unsupported(text) => Part::Unjudged(text.clone()),
            Value::Any | Value::Range(..) => Part::Yes,
        };
    };
    let inside = |address: &&u128| (first..=last).contains(address);
    let (low, high) = loopback(family);
    let multicast = match family {
        Family::V4 => 0xe000_0000,
        Family::V6 => 0xff << 120,
    };
    match (connection.local.len(), connection.local.iter().filter(inside).count()) {
        _ if *first == 0 && *last >= family.last() => Part::Yes,
        _ if low <= *first && *last <= high => Part::No,
        _ if *first >= multicast => Part::No,
        (0, _) => Part::Other(format!("to {}", shown_addresses(family, *first, *last))),
        (_, 0) => Part::No,
        (all, some) if all == some => Part::Yes,
        _ => Part::Other(format!("to {}", shown_addresses(family, *first, *last))),
    }
}

fn interface(value: &Value, connection: &Connection) -> Part {
    match value {
        Value::Any => Part::Yes,
        Value::Word(name) if name == "lo" => Part::No,
        Value::Word(name) if name.is_empty() || name == "*" => Part::Yes,
        Value::Word(name) => {
            let known = &connection.interfaces;
            match !known.is_empty() && known.iter().all(|own| fits(name, own)) {
                true => Part::Yes,
                false => Part::Interface(name.clone()),
            }
        }
        Value::Range(..) => Part::Unjudged("an interface that is named by a number".to_owned()),
        Value::Unsupported(text) => Part::Unjudged(text.clone()),
    }
}

/// The first and the last loopback address.
fn loopback(family: Family) -> (u128, u128) {
    match family {
        Family::V4 => (0x7f00_0000, 0x7fff_ffff),
        Family::V6 => (1, 1),
    }
}
