//! What nftables and iptables have in common: base chains, chains, rules, and what a rule compares.

use std::net::IpAddr;
use std::sync::Arc;

/// A chain of a table.
#[derive(Clone, Debug)]
pub struct Chain {
    /// `inet filter`, `iptables filter`.
    pub table: String,
    /// With its table: `inet filter input`, `iptables filter INPUT`.
    pub name: String,
    /// Where the kernel calls it; `None` for one that is only jumped to.
    pub base: Option<Base>,
    pub rules: Vec<Rule>,
}

#[derive(Clone, Debug)]
pub struct Base {
    pub hook: Hook,
    /// Lower ones come first at the same hook.
    pub priority: i64,
    /// `None` for both families.
    pub family: Option<Family>,
    pub policy: Verdict,
    /// What has to hold for a packet to come here at all.
    pub entry: Vec<Test>,
}

/// The hooks that a packet for this host passes, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Hook {
    Ingress,
    Prerouting,
    Input,
}

impl Hook {
    pub fn parse(name: &str) -> Option<Hook> {
        match name.to_ascii_lowercase().as_str() {
            "ingress" => Some(Hook::Ingress),
            "prerouting" => Some(Hook::Prerouting),
            "input" => Some(Hook::Input),
            _ => None,
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Family {
    V4,
    V6,
}

impl Family {
    pub fn of(address: IpAddr) -> Family {
        if address.is_ipv4() { Family::V4 } else { Family::V6 }
    }

    pub const fn name(self) -> &'static str {
        match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        }
    }

    /// The number that [`Key::Family`] has for it.
    pub const fn number(self) -> u128 {
        match self {
            Family::V4 => 4,
            Family::V6 => 6,
        }
    }

    /// The highest address, as a number.
    pub const fn last(self) -> u128 {
        match self {
            Family::V4 => u32::MAX as u128,
            Family::V6 => u128::MAX,
        }
    }
}

#[derive(Clone, Debug)]
pub struct Rule {
    /// How a person finds it: its options, or its handle.
    pub text: String,
    /// In the order in which the kernel runs them; the first test that fails ends the rule.
    pub statements: Vec<Statement>,
}

#[derive(Clone, Debug)]
pub enum Statement {
    Test(Test),
    Verdict(Verdict),
    /// The verdict of the element that the keys match; the rule ends when none does.
    Map(Arc<VerdictMap>),
    /// Sets the mark of the packet or the connection.
    SetMark,
    /// Exempts the packet from connection tracking.
    Untrack,
}

#[derive(Debug)]
pub struct VerdictMap {
    pub keys: Vec<Key>,
    /// Values of the keys, in their order; an element that stands for every other one comes last.
    pub elements: Vec<(Vec<Value>, Verdict)>,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Accept,
    Drop,
    Reject,
    Return,
    /// Goes on with the next rule.
    Continue,
    /// To the chain of this full name, and back.
    Jump(String),
    /// To the chain of this full name, and back to where this chain was jumped to from.
    Goto(String),
    /// Something else decides from here on: another destination, a program, a proxy.
    Elsewhere(String),
}

#[derive(Clone, Debug)]
pub enum Test {
    Compare(Arc<Comparison>),
    /// Holds for some packets, by something that does not depend on the port: a rate, a time, a hardware address.
    Sometimes(String),
    /// Warden does not know when it holds.
    Unsupported(String),
    /// Never holds for the first packet of a connection from another host.
    Never,
}

#[derive(Debug)]
pub struct Comparison {
    /// More than one is a concatenation.
    pub keys: Vec<Key>,
    pub elements: Vec<Vec<Value>>,
    pub negated: bool,
    /// How the elements are called when there are too many to list.
    pub label: Option<String>,
}

impl Test {
    pub fn one(key: Key, values: impl IntoIterator<Item = Value>, negated: bool) -> Test {
        let elements = values.into_iter().map(|value| vec![value]).collect();
        Test::compare(vec![key], elements, negated, None)
    }

    pub fn compare(keys: Vec<Key>, elements: Vec<Vec<Value>>, negated: bool, label: Option<String>) -> Test {
        Test::Compare(Arc::new(Comparison { keys, elements, negated, label }))
    }

    /// Holds for TCP or UDP, by the number of the protocol.
    pub fn protocol(number: u128) -> Test {
        Test::one(Key::Protocol, [Value::number(number)], false)
    }

    pub fn family(family: Family) -> Test {
        Test::one(Key::Family, [Value::number(family.number())], false)
    }
}

/// What of a packet is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Key {
    Family,
    /// By number (IANA).
    Protocol,
    DestinationPort,
    SourcePort,
    Source(Family),
    Destination(Family),
    InterfaceIn,
    /// Of connection tracking.
    State,
    /// The bits of the packet's mark that this mask leaves.
    Mark(u128),
    /// The bits of the TCP header's flags that this mask leaves.
    TcpFlags(u128),
    /// The same for every first packet of a connection from another host.
    Constant(Value),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// Both ends included.
    Range(u128, u128),
    /// A state, a type; of interfaces a name that may end in `*`.
    Word(String),
    Any,
    /// Warden could not read it.
    Unsupported(String),
}

impl Value {
    pub const fn number(number: u128) -> Value {
        Value::Range(number, number)
    }

    pub fn word(text: &str) -> Value {
        Value::Word(text.to_owned())
    }
}

/// TCP and UDP by number (IANA).
pub const TCP: u128 = 6;
pub const UDP: u128 = 17;

/// A protocol by its name or number; one that is neither TCP nor UDP only has to differ from them.
pub fn protocol_number(name: &str) -> Option<u128> {
    match name {
        "tcp" => Some(TCP),
        "udp" => Some(UDP),
        "icmp" => Some(1),
        "igmp" => Some(2),
        "dccp" => Some(33),
        "ipv6" => Some(41),
        "gre" => Some(47),
        "esp" => Some(50),
        "ah" => Some(51),
        "icmpv6" | "ipv6-icmp" => Some(58),
        "vrrp" => Some(112),
        "comp" => Some(108),
        "sctp" => Some(132),
        "udplite" => Some(136),
        number => number.parse().ok(),
    }
}

/// The flags of the TCP header as a number; `None` for a name that is none.
pub fn tcp_flag(name: &str) -> Option<u128> {
    match name.to_ascii_lowercase().as_str() {
        "fin" => Some(0x01),
        "syn" => Some(0x02),
        "rst" => Some(0x04),
        "psh" => Some(0x08),
        "ack" => Some(0x10),
        "urg" => Some(0x20),
        "ecn" | "ece" => Some(0x40),
        "cwr" => Some(0x80),
        "all" => Some(0x3f),
        "none" => Some(0),
        _ => None,
    }
}

/// An address with or without a prefix length or a mask, or `from-to`; with its family.
pub fn addresses(text: &str) -> Option<(Family, Value)> {
    if let Some((from, to)) = text.split_once('-') {
        let (from, to): (IpAddr, IpAddr) = (from.parse().ok()?, to.parse().ok()?);
        return Some((Family::of(from), Value::Range(address_number(from), address_number(to))));
    }
    let (address, length) =
        text.split_once('/').map_or((text, None), |(address, length)| (address, Some(length)));
    let address: IpAddr = address.parse().ok()?;
    let width = if address.is_ipv4() { 32 } else { 128 };
    let length = match length {
        None => width,
        Some(length) => match length.parse::<u32>() {
            Ok(length) => length,
            // 255.255.255.0; a mask with holes is none that can be judged.
            Err(_) => {
                let mask = address_number(length.parse().ok()?);
                let ones = mask.count_ones();
                (mask == prefix_mask(ones, width)).then_some(ones)?
            }
        },
    };
    Some((Family::of(address), prefix(address, length)?))
}

/// The addresses of a prefix.
pub fn prefix(address: IpAddr, length: u32) -> Option<Value> {
    let width = if address.is_ipv4() { 32 } else { 128 };
    if length > width {
        return None;
    }
    let mask = prefix_mask(length, width);
    let first = address_number(address) & mask;
    Some(Value::Range(first, first | (Family::of(address).last() & !mask)))
}

fn prefix_mask(length: u32, width: u32) -> u128 {
    let all = if width == 32 { u128::from(u32::MAX) } else { u128::MAX };
    match width - length {
        0 => all,
        zeros if zeros >= 128 => 0,
        zeros => all & (u128::MAX << zeros),
    }
}

pub fn address_number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()),
        IpAddr::V6(address) => address.to_bits(),
    }
}

/// `10.0.0.0/8`, `192.0.2.1`, `192.0.2.1-192.0.2.9`.
pub fn shown_addresses(family: Family, first: u128, last: u128) -> String {
    let address = |number: u128| match family {
        Family::V4 => IpAddr::from(std::net::Ipv4Addr::from_bits(number as u32)),
        Family::V6 => IpAddr::from(std::net::Ipv6Addr::from_bits(number)),
    };
    let span = last - first;
    let zeros = (span.wrapping_add(1)).trailing_zeros().min(128);
    let width = if family == Family::V4 { 32 } else { 128 };
    let is_prefix = (span.wrapping_add(1).is_power_of_two() || span == u128::MAX) && (first & span) == 0;
    match (span, is_prefix) {
        (0, _) => address(first).to_string(),
        (_, true) => format!("{}/{}", address(first), width - zeros.min(width)),
        _ => format!("{}-{}", address(first), address(last)),
    }
}
