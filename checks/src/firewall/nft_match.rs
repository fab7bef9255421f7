//! Matches of nftables, as tests. Source: libnftables-json(5), nft(8).

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde_json::Value as Json;

use super::rule::{Family, Key, TCP, Test, UDP, Value, addresses, prefix, protocol_number, tcp_flag};

/// Named sets and maps, by their full name.
pub type Sets<'a> = BTreeMap<String, &'a Json>;

/// The tests that a `match` stands for; `set` finds a named set of the table.
pub fn read_match<'a>(test: &Json, set: impl Fn(&str) -> Option<&'a Json>) -> Vec<Test> {
    let (left, right) = (&test["left"], &test["right"]);
    let op = test["op"].as_str().unwrap_or("==");
    let mut tests = implied(left);
    if let Some(special) = seldom(left, right, op) {
        tests.push(special);
        return tests;
    }
    // `tcp flags syn` asks for any of the bits, `tcp flags ! syn` for none of them.
    if left["payload"]["field"] == "flags" && ["in", "!"].contains(&op) {
        tests.push(match bits(right) {
            Some(mask) => Test::one(Key::TcpFlags(mask), [Value::number(0)], op == "in"),
            None => Test::Unsupported(format!("Warden does not know the flags {right}")),
        });
        return tests;
    }
    let keys = match key(left) {
        Ok(keys) => keys,
        Err(text) => {
            tests.push(Test::Unsupported(text));
            return tests;
        }
    };
    if keys.contains(&Key::Constant(Value::Any)) {
        tests.push(Test::Never);
        return tests;
    }
    let negated = match op {
        "==" | "in" => false,
        "!=" => true,
        "<" | ">" | "<=" | ">=" => {
            tests.push(ordered(keys, right, op));
            return tests;
        }
        other => {
            tests.push(Test::Unsupported(format!("Warden does not know the operator {other}")));
            return tests;
        }
    };
    let named = right.as_str().and_then(|name| name.strip_prefix('@'));
    let (elements, label) = match named {
        None => (list(right, &keys), None),
        Some(name) => match set(name) {
            // nft lists no elements of an empty set.
            Some(set) => (list(&set["elem"], &keys), Some(format!("set {name}"))),
            None => {
                tests.push(Test::Unsupported(format!("there is no set {name}")));
                return tests;
            }
        },
    };
    tests.push(Test::compare(keys, elements, negated, label));
    tests
}

/// `meta mark > 5` and its like: as a range.
fn ordered(keys: Vec<Key>, right: &Json, op: &str) -> Test {
    match (&keys[..], value(right, keys.first())) {
        ([_], Value::Range(first, last)) => {
            let range = match op {
                "<" => first.checked_sub(1).map(|last| Value::Range(0, last)),
                "<=" => Some(Value::Range(0, last)),
                ">" => last.checked_add(1).map(|first| Value::Range(first, u128::MAX)),
                _ => Some(Value::Range(first, u128::MAX)),
            };
            range.map_or(Test::Never, |range| Test::compare(keys, vec![vec![range]], false, None))
        }
        _ => Test::Unsupported(format!("Warden does not know the comparison {op} {right}")),
    }
}

/// What a payload of a protocol asks for before its field is compared.
pub fn implied(left: &Json) -> Vec<Test> {
    let inner = [&left["payload"], &left["&"][0]["payload"]];
    let parts = left["concat"].as_array().into_iter().flatten().flat_map(implied);
    let own = inner.into_iter().filter_map(|payload| match payload["protocol"].as_str()? {
        "tcp" => Some(Test::protocol(TCP)),
        "udp" => Some(Test::protocol(UDP)),
        "ip" => Some(Test::family(Family::V4)),
        "ip6" => Some(Test::family(Family::V6)),
        "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah" | "udplite" | "comp" | "arp" => {
            Some(Test::Never)
        }
        _ => None,
    });
    own.chain(parts).collect()
}

/// Tests that hold for some packets whatever the port.
fn seldom(left: &Json, right: &Json, op: &str) -> Option<Test> {
    let shown = right.as_str().map_or_else(|| right.to_string(), str::to_owned);
    let not = if op == "!=" { "not " } else { "" };
    let text = |name: &str| Some(Test::Sometimes(format!("{not}{name} {shown}")));
    let payload = &left["payload"];
    match (payload["protocol"].as_str(), payload["field"].as_str()) {
        (Some("ether"), Some(field @ ("saddr" | "daddr"))) => return text(&format!("ether {field}")),
        (Some("vlan"), Some(field)) => return text(&format!("vlan {field}")),
        (
            Some("ip" | "ip6"),
            Some(field @ ("ttl" | "hoplimit" | "length" | "dscp" | "ecn" | "id" | "flowlabel")),
        ) => {
            return text(&format!("IP {field}"));
        }
        (Some("tcp"), Some(field @ ("window" | "sequence"))) => return text(&format!("TCP {field}")),
        (Some("udp"), Some("length")) => return text("UDP length"),
        _ => {}
    }
    match left["meta"]["key"].as_str() {
        Some("time" | "hour" | "day") => return Some(Test::Sometimes("at some times".to_owned())),
        Some(key @ ("length" | "iifgroup" | "iifkind" | "sdif" | "sdifname" | "priority" | "cpu")) => {
            return text(key);
        }
        Some("ibrname" | "ibridgename" | "ibrpvid" | "ibrvproto") => {
            return Some(Test::Sometimes("arriving over a bridge".to_owned()));
        }
        _ => {}
    }
    if left.get("tcp option").is_some() || left.get("numgen").is_some() || left.get("osf").is_some() {
        return Some(Test::Sometimes(
            "some packets, by their options, their number or their system".to_owned(),
        ));
    }
    None
}

/// What is compared; `Constant(Any)` for what no first packet has. The text says what is not known.
pub fn key(left: &Json) -> Result<Vec<Key>, String> {
    if let Some(parts) = left["concat"].as_array() {
        let mut keys = Vec::new();
        for part in parts {
            keys.extend(key(part)?);
        }
        return Ok(keys);
    }
    one_key(left).map(|key| vec![key])
}

fn one_key(left: &Json) -> Result<Key, String> {
    let constant = |number| Key::Constant(Value::number(number));
    let word = |word: &str| Key::Constant(Value::word(word));
    let unknown = || Err(format!("Warden does not know the expression {left}"));
    if let Some(masked) = left["&"].as_array() {
        let mask = || bits(&masked[1]).ok_or_else(|| format!("Warden does not know the mask {}", masked[1]));
        return match (one_key(&masked[0])?, masked.len()) {
            (Key::TcpFlags(_), 2) => Ok(Key::TcpFlags(mask()?)),
            (Key::Mark(_), 2) => Ok(Key::Mark(mask()?)),
            (Key::Constant(Value::Range(0, 0)), _) => Ok(constant(0)),
            _ => unknown(),
        };
    }
    let (payload, meta, ct, fib) = (&left["payload"], &left["meta"], &left["ct"], &left["fib"]);
    if payload.is_object() {
        let family = match payload["protocol"].as_str() {
            Some("ip6") => Family::V6,
            _ => Family::V4,
        };
        let at = (payload["base"].as_str(), payload["offset"].as_u64(), payload["len"].as_u64());
        return match (payload["protocol"].as_str(), payload["field"].as_str(), at) {
            (Some("tcp" | "udp" | "th"), Some("dport"), _) => Ok(Key::DestinationPort),
            (_, _, (Some("th"), Some(16), Some(16))) => Ok(Key::DestinationPort),
            (Some("tcp" | "udp" | "th"), Some("sport"), _) => Ok(Key::SourcePort),
            (Some("tcp"), Some("flags"), _) => Ok(Key::TcpFlags(0xff)),
            (Some("ip" | "ip6"), Some("saddr"), _) => Ok(Key::Source(family)),
            (Some("ip" | "ip6"), Some("daddr"), _) => Ok(Key::Destination(family)),
            (Some("ip"), Some("protocol"), _) | (Some("ip6"), Some("nexthdr"), _) => Ok(Key::Protocol),
            // The first packet of a connection is no fragment.
            (Some("ip"), Some("frag-off"), _) => Ok(constant(0)),
            (Some("ip"), Some("version"), _) => Ok(Key::Family),
            (
                Some(
                    "icmp" | "icmpv6" | "igmp" | "sctp" | "dccp" | "esp" | "ah" | "udplite" | "comp" | "arp",
                ),
                ..,
            ) => Ok(Key::Constant(Value::Any)),
            (Some("ether"), Some("type"), _) => Ok(Key::Family),
            _ => unknown(),
        };
    }
    if meta.is_object() {
        return match meta["key"].as_str() {
            Some("l4proto") => Ok(Key::Protocol),
            Some("nfproto" | "protocol") => Ok(Key::Family),
            Some("iif" | "iifname") => Ok(Key::InterfaceIn),
            Some("iiftype") => Ok(word("ether")),
            // What is for this host leaves by none.
            Some("oif" | "oifname") => Ok(word("")),
            Some("mark") => Ok(Key::Mark(u128::MAX)),
            Some("pkttype") => Ok(word("host")),
            Some("secpath" | "ipsec") => Ok(constant(0)),
            _ => unknown(),
        };
    }
    if ct.is_object() {
        return match ct["key"].as_str() {
            Some("state") => Ok(Key::State),
            Some("mark") => Ok(Key::Mark(u128::MAX)),
            Some("direction") => Ok(word("original")),
            Some("status") => Ok(word("none")),
            Some("l3proto") => Ok(Key::Family),
            Some("protocol" | "l4proto") => Ok(Key::Protocol),
            Some("proto-dst") if ct["dir"] != "reply" => Ok(Key::DestinationPort),
            Some("ip saddr") if ct["dir"] == "original" => Ok(Key::Source(Family::V4)),
            Some("ip daddr") if ct["dir"] == "original" => Ok(Key::Destination(Family::V4)),
            Some("ip6 saddr") if ct["dir"] == "original" => Ok(Key::Source(Family::V6)),
            Some("ip6 daddr") if ct["dir"] == "original" => Ok(Key::Destination(Family::V6)),
            _ => unknown(),
        };
    }
    if fib.is_object() {
        let of_source = fib["flags"].as_array().is_some_and(|flags| flags.iter().any(|flag| flag == "saddr"));
        return match (fib["result"].as_str(), of_source) {
            (Some("type"), false) => Ok(word("local")),
            (Some("type"), true) => Ok(word("unicast")),
            // A connection is judged that comes in where its answers go out.
            (Some("oif" | "oifname"), true) => Ok(constant(1)),
            _ => unknown(),
        };
    }
    if left.get("exthdr").is_some() || left.get("rt").is_some() {
        // The first packet of a connection has no such header.
        return Ok(Key::Constant(Value::number(0)));
    }
    unknown()
}

/// The elements of a set, an anonymous set, or a single value.
fn list(right: &Json, keys: &[Key]) -> Vec<Vec<Value>> {
    // A list of flags is all of them at once.
    if right.is_array() && matches!(keys, [Key::TcpFlags(_)]) {
        return vec![element_values(right, keys)];
    }
    let many = right["set"].as_array().or_else(|| right.as_array());
    match many {
        Some(elements) => elements.iter().map(|element| element_values(element, keys)).collect(),
        None if right.is_null() => Vec::new(),
        None => vec![element_values(right, keys)],
    }
}

/// The values of one element, a value for each key.
pub fn element_values(element: &Json, keys: &[Key]) -> Vec<Value> {
    if element == "*" {
        return vec![Value::Any];
    }
    if element["elem"].is_object() {
        return element_values(&element["elem"]["val"], keys);
    }
    match element["concat"].as_array() {
        Some(parts) => parts.iter().enumerate().map(|(at, part)| value(part, keys.get(at))).collect(),
        None => vec![value(element, keys.first())],
    }
}

fn value(json: &Json, key: Option<&Key>) -> Value {
    let unsupported = || Value::Unsupported(format!("Warden does not know the value {json}"));
    if let Some(number) = json.as_u64() {
        return Value::number(u128::from(number));
    }
    if let Some(flag) = json.as_bool() {
        return Value::number(u128::from(flag));
    }
    if let Some([from, to]) = json["range"].as_array().map(Vec::as_slice) {
        return match (value(from, key), value(to, key)) {
            (Value::Range(first, _), Value::Range(_, last)) => Value::Range(first, last),
            _ => unsupported(),
        };
    }
    if let Some(address) = json["prefix"]["addr"].as_str() {
        let length = json["prefix"]["len"].as_u64().and_then(|length| u32::try_from(length).ok());
        let read = |length| prefix(address.parse::<IpAddr>().ok()?, length);
        return length.and_then(read).unwrap_or_else(unsupported);
    }
    if ["|", "&"].iter().any(|op| json.get(op).is_some()) || json.is_array() {
        return bits(json).map_or_else(unsupported, Value::number);
    }
    let Some(text) = json.as_str() else { return unsupported() };
    match key {
        Some(Key::Protocol) => Value::number(protocol_number(text).unwrap_or(u128::from(u8::MAX))),
        Some(Key::Family) => match text {
            "ip" | "ipv4" => Value::number(4),
            "ip6" | "ipv6" => Value::number(6),
            _ => Value::number(0),
        },
        Some(Key::Source(_) | Key::Destination(_)) => {
            addresses(text).map_or_else(unsupported, |(_, value)| value)
        }
        Some(Key::TcpFlags(_)) => bits(json).map_or_else(unsupported, Value::number),
        Some(Key::DestinationPort | Key::SourcePort | Key::Mark(_)) => {
            number(text).map_or_else(unsupported, Value::number)
        }
        Some(Key::Constant(Value::Range(..))) => {
            number(text).map_or_else(|| Value::word(text), Value::number)
        }
        _ => Value::word(text),
    }
}

/// Flags or a mask as a number.
fn bits(json: &Json) -> Option<u128> {
    match json {
        Json::Number(number) => number.as_u64().map(u128::from),
        Json::String(text) => tcp_flag(text).or_else(|| number(text)),
        Json::Array(parts) => parts.iter().try_fold(0, |all, part| Some(all | bits(part)?)),
        Json::Object(object) => bits(object.get("|").or_else(|| object.get("set"))?),
        Json::Null | Json::Bool(_) => None,
    }
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
