//! Network links with their traffic, addresses and routes. Source: proc(5) and ip(8), `-json`.

use serde::Deserialize;
use serde::de::DeserializeOwned;
use warden_host::{Cause, Failure, Host, Output, PLACEHOLDER};

use crate::{Error, Result};

/// Rows of the command table.
pub const IP_ADDRESS: &str = "ip-address";
pub const IP_ROUTE: &str = "ip-route";
pub const IP_NEIGHBOUR: &str = "ip-neighbour";

/// A network interface.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    pub name: String,
    pub mtu: u64,
    /// `bond`, `bridge`, `vlan`, `veth`...; empty for a card.
    pub kind: String,
    /// Nothing says that its speed and duplex are made up: it is no software link, and on no bus of a hypervisor.
    pub is_card: bool,
    /// The bond or bridge that it is a member of.
    pub master: Option<String>,
    /// The interface below a VLAN.
    pub parent: Option<String>,
    /// An operator wants it up.
    pub is_up: bool,
    /// And it is.
    pub has_carrier: bool,
    /// Kind of its root queueing discipline.
    pub qdisc: String,
    pub addresses: Vec<Address>,
}

#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Address {
    #[serde(default)]
    pub family: String,
    #[serde(default)]
    pub local: String,
    #[serde(default)]
    pub prefixlen: u8,
    #[serde(default)]
    pub scope: String,
    /// Another host on the link has the same address (RFC 4862).
    #[serde(default, rename = "dadfailed")]
    pub duplicate_on_the_link: bool,
    #[serde(default)]
    pub tentative: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Route {
    /// `unicast` unless said otherwise: `local`, `blackhole`, `unreachable`...
    #[serde(rename = "type")]
    pub kind: Option<String>,
    /// `default` or a prefix.
    #[serde(rename = "dst")]
    pub destination: String,
    pub gateway: Option<String>,
    #[serde(rename = "dev")]
    pub device: Option<String>,
    pub table: Option<String>,
    pub protocol: Option<String>,
    pub metric: Option<i64>,
    #[serde(rename = "prefsrc")]
    pub source: Option<String>,
    /// `linkdown`, `dead`.
    pub flags: Vec<String>,
    /// Of a route with several gateways.
    pub nexthops: Vec<NextHop>,
    pub via: Option<Via>,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct NextHop {
    pub gateway: Option<String>,
    #[serde(rename = "dev")]
    pub device: Option<String>,
    pub flags: Vec<String>,
}

/// A gateway of another address family.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Via {
    pub host: String,
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct Neighbour {
    #[serde(rename = "dst")]
    pub address: String,
    #[serde(rename = "dev")]
    pub device: String,
    #[serde(rename = "lladdr")]
    pub hardware: Option<String>,
    /// `REACHABLE`, `STALE`, `FAILED`, `INCOMPLETE`...
    pub state: Vec<String>,
}

impl Link {
    /// Every interface, in the kernel's order.
    pub fn all(host: &Host) -> Result<Vec<Link>> {
        let output = host.run(IP_ADDRESS)?;
        let rows: Vec<Row> = parse(IP_ADDRESS, &output)?;
        if output.stdout.trim().is_empty() {
            return Err(Error::parse(IP_ADDRESS, "it lists no interface, not even loopback"));
        }
        Ok(rows.into_iter().filter(|row| !row.name.is_empty()).map(Row::into_link).collect())
    }
}

impl Route {
    pub fn all(host: &Host) -> Result<Vec<Route>> {
        parse(IP_ROUTE, &host.run(IP_ROUTE)?)
    }
}

impl Neighbour {
    pub fn all(host: &Host) -> Result<Vec<Neighbour>> {
        parse(IP_NEIGHBOUR, &host.run(IP_NEIGHBOUR)?)
    }
}

/// A line of /proc/net/dev, both directions together except for the bytes (proc(5)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    pub received: u64,
    pub sent: u64,
    pub packets: u64,
    pub errors: u64,
    pub drops: u64,
}

impl Counters {
    pub fn parse_all(text: &str) -> Vec<(String, Counters)> {
        text.lines().filter_map(Counters::parse).collect()
    }

    /// The name of an alias may hold a colon; what follows the last one is numbers.
    fn parse(line: &str) -> Option<(String, Counters)> {
        let (name, rest) = line.rsplit_once(':')?;
        let numbers: Vec<u64> = rest.split_ascii_whitespace().map_while(|word| word.parse().ok()).collect();
        let [
            received,
            in_packets,
            in_errors,
            in_drops,
            _,
            _,
            _,
            _,
            sent,
            out_packets,
            out_errors,
            out_drops,
            ..,
        ] = numbers[..]
        else {
            return None;
        };
        let counters = Counters {
            received,
            sent,
            packets: in_packets.saturating_add(out_packets),
            errors: in_errors.saturating_add(out_errors),
            drops: in_drops.saturating_add(out_drops),
        };
        Some((name.trim().to_owned(), counters))
    }

    /// A counter that stepped back (the driver was reset) counts as zero.
    pub fn since(&self, before: &Counters) -> Counters {
        Counters {
            received: self.received.saturating_sub(before.received),
            sent: self.sent.saturating_sub(before.sent),
            packets: self.packets.saturating_sub(before.packets),
            errors: self.errors.saturating_sub(before.errors),
            drops: self.drops.saturating_sub(before.drops),
        }
    }

    pub fn bytes(&self) -> u64 {
        self.received.saturating_add(self.sent)
    }
}

/// Buses whose devices a hypervisor makes: a speed there is what somebody wrote down.
const HYPERVISOR_BUSES: [&str; 3] = ["virtio", "vmbus", "xen"];

#[derive(Default, Deserialize)]
#[serde(default)]
struct Row {
    #[serde(rename = "ifname")]
    name: String,
    flags: Vec<String>,
    mtu: u64,
    qdisc: String,
    /// `ether`, `none` of a tunnel.
    link_type: String,
    /// `pci`, `virtio`, `vmbus`; newer versions of `ip` say it.
    parentbus: String,
    master: Option<String>,
    link: Option<String>,
    linkinfo: LinkInfo,
    addr_info: Vec<Address>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct LinkInfo {
    info_kind: String,
}

impl Row {
    fn into_link(self) -> Link {
        let has = |flag: &str| self.flags.iter().any(|other| other == flag);
        let on_hypervisor = HYPERVISOR_BUSES.contains(&self.parentbus.as_str());
        Link {
            is_card: self.linkinfo.info_kind.is_empty()
                && ["", "ether", "infiniband"].contains(&self.link_type.as_str())
                && !on_hypervisor,
            is_up: has("UP"),
            has_carrier: has("LOWER_UP"),
            name: self.name,
            mtu: self.mtu,
            kind: self.linkinfo.info_kind,
            master: self.master,
            parent: self.link,
            qdisc: self.qdisc,
            // `ip` prints an empty object for an address that a filter left out.
            addresses: self.addr_info.into_iter().filter(|address| !address.local.is_empty()).collect(),
        }
    }
}

/// The rows of a JSON answer; nothing at all is an empty list, as older versions print it.
pub fn parse<T: DeserializeOwned>(command: &str, output: &Output) -> Result<Vec<T>> {
    if output.status != Some(0) {
        let status = output.status.map_or("a signal".to_owned(), |status| format!("status {status}"));
        let said = output.stderr.lines().next().unwrap_or("no reason given");
        return Err(Error::parse(command, format!("it ended with {status}: {said}")));
    }
    if output.stdout.trim().is_empty() {
        return Ok(Vec::new());
    }
    if output.stdout.contains(PLACEHOLDER) {
        return Err(Failure { what: command.to_owned(), cause: Cause::Masked }.into());
    }
    serde_json::from_str(&output.stdout).map_err(|error| Error::parse(command, error.to_string()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn output(status: i32, stdout: &str, stderr: &str) -> Output {
        Output { status: Some(status), stdout: stdout.to_owned(), stderr: stderr.to_owned(), cut: false }
    }

    #[test]
    fn a_card_and_its_addresses_are_read() {
        let json = r#"[{},{"ifindex":4,"ifname":"eth0","flags":["BROADCAST","UP","LOWER_UP"],"mtu":1400,"qdisc":"pfifo_fast",
            "addr_info":[{},{"family":"inet6","local":"fd00::2","prefixlen":64,"scope":"global","dadfailed":true}]}]"#;
        let rows: Vec<Row> = parse(IP_ADDRESS, &output(0, json, "")).unwrap();
        let link = rows.into_iter().map(Row::into_link).nth(1).unwrap();
        assert_eq!((link.name.as_str(), link.mtu, link.is_up, link.has_carrier), ("eth0", 1400, true, true));
        assert_eq!((link.kind.as_str(), link.qdisc.as_str()), ("", "pfifo_fast"));
        assert_eq!(link.addresses.len(), 1);
        assert!(link.addresses[0].duplicate_on_the_link);
    }

    #[test]
    fn silence_is_an_empty_list_and_an_error_tells_what_was_said() {
        assert_eq!(parse::<Route>(IP_ROUTE, &output(0, "\n", "")), Ok(Vec::new()));
        let error = parse::<Route>(IP_ROUTE, &output(255, "", "Cannot open netlink socket\n")).unwrap_err();
        assert_eq!(
            error.to_string(),
            "cannot understand ip-route: it ended with status 255: Cannot open netlink socket"
        );
        assert!(parse::<Route>(IP_ROUTE, &output(0, "[{", "")).is_err());
    }
}
