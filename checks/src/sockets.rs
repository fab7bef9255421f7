//! Sockets as /proc/net shows them. Source: Documentation/networking/proc_net_tcp.rst.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use warden_host::{Host, IfAny, Part};

use crate::{Error, Result};

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Socket {
    pub udp: bool,
    /// An IPv4 address that an IPv6 socket holds is shown as IPv4.
    pub address: IpAddr,
    pub port: u16,
    /// `10` (0x0A) listens, `8` waits for its owner to close, `7` of UDP is unconnected.
    pub state: u8,
    /// Bytes not yet read; of a listener, connections not yet accepted.
    pub waiting: u64,
    pub uid: u32,
    pub inode: u64,
}

/// The states of TCP, by number (include/net/tcp_states.h).
pub const STATES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];
pub const CLOSE_WAIT: u8 = 8;
const LISTEN: u8 = 10;
const UDP_UNCONNECTED: u8 = 7;

impl Socket {
    /// Every TCP socket, listeners first, of the network namespace whose files are below `root` (`/proc`, or
    /// `/proc/PID` for the one of a process).
    pub fn tcp(host: &Host, root: &str) -> Result<Vec<Socket>> {
        read(host, root, "tcp", false)
    }

    /// As many TCP sockets as could be read: what is counted of them is the least there is.
    pub fn tcp_part(host: &Host, root: &str) -> Result<Part<Vec<Socket>>> {
        let file = |name: &str| host.read_part(&format!("{root}/net/{name}"));
        let v4 = file("tcp")?;
        let v6 = file("tcp6").if_any()?.unwrap_or(Part { value: String::new(), missing: None });
        let lines = v4.value.lines().chain(v6.value.lines());
        Ok(Part {
            value: lines.filter_map(|line| Socket::parse(line, false)).collect(),
            missing: v4.missing.or(v6.missing),
        })
    }

    pub fn udp(host: &Host, root: &str) -> Result<Vec<Socket>> {
        read(host, root, "udp", true)
    }

    pub fn is_listener(&self) -> bool {
        self.state == if self.udp { UDP_UNCONNECTED } else { LISTEN }
    }

    fn parse(line: &str, udp: bool) -> Option<Socket> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let (address, port) = words.next()?.split_once(':')?;
        let state = u8::from_str_radix(words.nth(1)?, 16).ok()?;
        let (_, waiting) = words.next()?.split_once(':')?;
        let uid = words.nth(2)?.parse().ok()?;
        Some(Socket {
            udp,
            address: parse_address(address)?,
            port: u16::from_str_radix(port, 16).ok()?,
            state,
            waiting: u64::from_str_radix(waiting, 16).ok()?,
            uid,
            inode: words.nth(1)?.parse().ok()?,
        })
    }
}

fn read(host: &Host, root: &str, protocol: &str, udp: bool) -> Result<Vec<Socket>> {
    let path = format!("{root}/net/{protocol}");
    let v4 = host.value(&path)?;
    if v4.is_empty() {
        return Err(Error::parse(path, "it is empty, without even its head"));
    }
    // A kernel without IPv6 has no second file.
    let v6 = host.value(&format!("{root}/net/{protocol}6")).if_any()?.unwrap_or_default();
    Ok(v4.lines().chain(v6.lines()).filter_map(|line| Socket::parse(line, udp)).collect())
}

/// Words of 32 bits, each in the order of the host: little-endian on every machine Iggy runs on.
fn parse_address(text: &str) -> Option<IpAddr> {
    let word = |at: usize| Some(u32::from_str_radix(text.get(at * 8..at * 8 + 8)?, 16).ok()?.swap_bytes());
    match text.len() {
        8 => Some(Ipv4Addr::from(word(0)?).into()),
        32 => {
            let words = [word(0)?, word(1)?, word(2)?, word(3)?];
            let bits = words.into_iter().fold(0u128, |bits, word| bits << 32 | u128::from(word));
            Some(IpAddr::from(Ipv6Addr::from(bits)).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use warden_host::Recorded;

    use super::*;

    #[test]
    fn both_families_are_read_and_torn_lines_are_left_out() {
        let v4 = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n   \
            0: 0100007F:1F9A 00000000:0000 0A 00000000:00000003 00:00000000 00000000   997        0 1465 1 0 100 0 0 10 0\n   \
            1: 0100007F:1F9A 00000000:0000 0A 000";
        let v6 = "   0: 00000000000000000000000001000000:0BB8 00000000000000000000000000000000:0000 08 00000000:00000000 00:00000000 00000000     0        0 77 1\n   \
            1: 0000000000000000FFFF0000020200C0:0050 0:0 0A 0:0 00:0 0 5 0 9 1\n";
        let host = Recorded::complete().file("/proc/net/tcp", v4).file("/proc/net/tcp6", v6).host();
        let sockets = Socket::tcp(&host, "/proc").unwrap();
        let shown: Vec<String> = sockets.iter().map(|one| format!("{}:{}", one.address, one.port)).collect();
        assert_eq!(shown, ["127.0.0.1:8090", "::1:3000", "192.0.2.2:80"]);
        assert_eq!((sockets[0].waiting, sockets[0].uid, sockets[0].inode), (3, 997, 1465));
        assert_eq!([sockets[0].is_listener(), sockets[1].is_listener()], [true, false]);
        assert_eq!(STATES[usize::from(CLOSE_WAIT) - 1], "CLOSE_WAIT");
    }
}
