//! Takes addresses and names out of what is already masked: each becomes a token that tells its kind.

use core::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};

use aho_corasick::{AhoCorasick, MatchKind};
use regex::Regex;

use super::placeholders::Tokens;

/// Names shorter than this are ordinary words too often; they go only where they stand alone.
const LONG_NAME: usize = 4;
/// Names of users that every host has or that packages create: they tell nothing of anybody.
const SERVICE_USERS: [&str; 14] = [
    "root",
    "iggy",
    "warden",
    "daemon",
    "nobody",
    "linuxbrew",
    "ubuntu",
    "debian",
    "admin",
    "user",
    "runner",
    "lost+found",
    "ec2-user",
    "app",
];
/// Ends of unit names, which look like the ends of e-mail addresses.
const UNITS: [&str; 11] = [
    "service",
    "socket",
    "target",
    "mount",
    "timer",
    "slice",
    "scope",
    "path",
    "device",
    "swap",
    "automount",
];

/// What is known of a host before its texts are read.
#[derive(Clone, Debug, Default)]
pub struct Known {
    /// Its names, with and without their domain.
    pub hosts: Vec<String>,
    /// machine-id and boot-id.
    pub machines: Vec<String>,
}

pub struct Anonymizer {
    tokens: Tokens,
    /// Literal texts, with their kind.
    names: BTreeMap<String, &'static str>,
    finder: Option<AhoCorasick>,
    order: Vec<(String, &'static str)>,
    shapes: Shapes,
}

struct Shapes {
    v4: Regex,
    v6: Regex,
    mac: Regex,
    mail: Regex,
    home: Regex,
    table: Regex,
}

impl Anonymizer {
    /// With `tokens` of the bundle. `None` if a fixed expression cannot be built, which they rule out.
    pub(super) fn new(tokens: Tokens, known: &Known) -> Option<Anonymizer> {
        let shapes = Shapes {
            v4: Regex::new(r"\d{1,3}(?:\.\d{1,3}){3}").ok()?,
            v6: Regex::new(r"[0-9A-Fa-f]{0,4}(?::[0-9A-Fa-f]{0,4}){2,8}").ok()?,
            mac: Regex::new(r"(?:[0-9A-Fa-f]{2}[:-]){5}[0-9A-Fa-f]{2}").ok()?,
            mail: Regex::new(r"[A-Za-z0-9._%+-]+@[A-Za-z0-9-]+(?:\.[A-Za-z0-9-]+)+").ok()?,
            home: Regex::new(r"/home/([A-Za-z0-9._+-]+)").ok()?,
            table: Regex::new(r"[0-9A-F]{8}(?:[0-9A-F]{24})?:[0-9A-F]{4}\b").ok()?,
        };
        let mut names = BTreeMap::new();
        for host in &known.hosts {
            let host = host.trim().to_ascii_lowercase();
            let short = host.split('.').next().unwrap_or_default().to_owned();
            for name in [short, host] {
                if name.len() > 1 && name != "localhost" && !name.starts_with("localhost.") {
                    names.insert(name, "host");
                }
            }
        }
        for machine in &known.machines {
            let bare = machine.trim().replace('-', "").to_ascii_lowercase();
            if bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                let dashed = [&bare[..8], &bare[8..12], &bare[12..16], &bare[16..20], &bare[20..]].join("-");
                names.insert(dashed, "machine");
                names.insert(bare, "machine");
            }
        }
        let anonymizer = Anonymizer { tokens, names, finder: None, order: Vec::new(), shapes };
        Some(anonymizer.ready())
    }

    /// Takes the names of users from the paths of a text.
    pub fn learn(&mut self, text: &str) {
        let found = self.unknown(text);
        self.learn_users(found);
    }

    pub fn learn_users(&mut self, names: impl IntoIterator<Item = String>) {
        for name in names {
            self.names.entry(name).or_insert("user");
        }
    }

    /// Names of users in the paths of a text that are not known yet.
    pub fn unknown(&self, text: &str) -> BTreeSet<String> {
        self.shapes
            .home
            .captures_iter(text)
            .filter_map(|found| Some(found.get(1)?.as_str().trim_end_matches('.').to_ascii_lowercase()))
            .filter(|name| name.len() > 1 && !SERVICE_USERS.contains(&name.as_str()))
            .filter(|name| !self.names.contains_key(name))
            .collect()
    }

    /// To be called when all is learned.
    pub fn ready(mut self) -> Anonymizer {
        self.order = self.names.iter().map(|(name, kind)| (name.clone(), *kind)).collect();
        self.finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(self.order.iter().map(|(name, _)| name))
            .ok();
        self
    }

    /// The text with every address and every known name replaced. Loopback, wildcard and documentation addresses stay,
    /// and so does what is replaced already.
    pub fn text<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let found = self.find(text);
        if found.is_empty() {
            return Cow::Borrowed(text);
        }
        let mut out = String::with_capacity(text.len());
        let mut at = 0;
        for (start, end, with) in found {
            if start >= at {
                out.push_str(&text[at..start]);
                out.push_str(&with);
                at = end;
            }
        }
        out.push_str(&text[at..]);
        Cow::Owned(out)
    }

    /// How many addresses and names a text still holds.
    pub fn hits(&self, text: &str) -> usize {
        self.find(text).len()
    }

    /// `[ip:0a1b2c3d]`: the same for the same value, in any spelling.
    pub fn token(&self, kind: &str, value: &str) -> String {
        format!("[{kind}:{}]", self.tokens.digits(&format!("{kind} {value}")))
    }

    fn find(&self, text: &str) -> Vec<(usize, usize, String)> {
        let mut found = Vec::new();
        let bytes = text.as_bytes();
        let before = |at: usize| at.checked_sub(1).map_or(b' ', |at| bytes[at]);
        let after = |at: usize| bytes.get(at).copied().unwrap_or(b' ');
        for place in self.shapes.v4.find_iter(text) {
            let (start, end) = (place.start(), place.end());
            let longer =
                after(end) == b'.' && after(end + 1).is_ascii_digit() || after(end).is_ascii_alphanumeric();
            let inside = before(start).is_ascii_alphanumeric() || matches!(before(start), b'.' | b'+' | b'~');
            if let Ok(address) = place.as_str().parse::<Ipv4Addr>()
                && !longer
                && !inside
                && !is_open_v4(address)
            {
                found.push((start, end, self.token("ip", &address.to_string())));
            }
        }
        if text.contains("::") || text.contains(':') {
            self.find_with_colons(text, &mut found);
        }
        for place in self.shapes.mail.find_iter(text) {
            let mail = place.as_str().trim_end_matches('.');
            let end = mail.rsplit('.').next().unwrap_or_default();
            let example =
                ["example.org", "example.com", "example.net"].iter().any(|open| mail.ends_with(open));
            if !UNITS.contains(&end) && !example && end.bytes().all(|byte| byte.is_ascii_alphabetic()) {
                let token = self.token("mail", &mail.to_ascii_lowercase());
                found.push((place.start(), place.start() + mail.len(), token));
            }
        }
        if let Some(finder) = &self.finder {
            for place in finder.find_iter(text) {
                let (name, kind) = &self.order[place.pattern().as_usize()];
                if stands_alone(bytes, place.start(), place.end(), name) {
                    let value = if *kind == "machine" { name.replace('-', "") } else { name.clone() };
                    found.push((place.start(), place.end(), self.token(kind, &value)));
                }
            }
        }
        // The longest of those that begin at the same place.
        found.sort_by(|a, b| a.0.cmp(&b.0).then(b.1.cmp(&a.1)));
        let mut last = 0;
        found.retain(|(start, end, _)| {
            let apart = *start >= last;
            last = if apart { *end } else { last };
            apart
        });
        found
    }

    fn find_with_colons(&self, text: &str, found: &mut Vec<(usize, usize, String)>) {
        let bytes = text.as_bytes();
        let word = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b':' | b'_');
        let apart = |start: usize, end: usize| {
            !start.checked_sub(1).is_some_and(|at| word(bytes[at]))
                && !bytes.get(end).is_some_and(|byte| word(*byte))
        };
        for place in self.shapes.mac.find_iter(text) {
            let address = place.as_str().replace('-', ":").to_ascii_lowercase();
            let open = matches!(address.as_str(), "00:00:00:00:00:00" | "ff:ff:ff:ff:ff:ff");
            if apart(place.start(), place.end()) && !open {
                found.push((place.start(), place.end(), self.token("mac", &address)));
            }
        }
        for place in self.shapes.v6.find_iter(text) {
            // `fe80::1:` at the end of a sentence.
            let address = place.as_str();
            let address = if address.ends_with("::") { address } else { address.trim_end_matches(':') };
            let end = place.start() + address.len();
            let dotted = bytes.get(end) == Some(&b'.');
            // Without a digit it is a path of a program rather than an address.
            let digits = address.bytes().any(|byte| byte.is_ascii_digit());
            if let Ok(address) = address.parse::<Ipv6Addr>()
                && apart(place.start(), place.end())
                && !dotted
                && digits
                && !is_open_v6(address)
            {
                found.push((place.start(), end, self.token("ip", &address.to_string())));
            }
        }
        // Tables of the kernel are read by position: their addresses become others of the same form.
        for place in self.shapes.table.find_iter(text) {
            let (digits, _) = place.as_str().split_once(':').unwrap_or_default();
            if apart(place.start(), place.end())
                && let Some(address) = kernel_address(digits)
                && !is_open(address)
                && !self.is_drawn(digits)
            {
                found.push((place.start(), place.start() + digits.len(), self.drawn(digits)));
            }
        }
    }

    /// An address of the kernel's form that belongs to nobody: 240.0.0.0/4 is not in use.
    fn drawn(&self, digits: &str) -> String {
        let drawn = self.tokens.digits(&format!("ip {digits}")).to_ascii_uppercase();
        format!("{}F{}", &drawn[..7], "0".repeat(digits.len() - 8))
    }

    fn is_drawn(&self, digits: &str) -> bool {
        digits[..8].ends_with('F') && digits[8..].bytes().all(|byte| byte == b'0')
    }
}

/// The address of a table below /proc/net: numbers of 32 bits in the host's order, of which all we run on are little endian.
fn kernel_address(digits: &str) -> Option<IpAddr> {
    let word = |at: usize| u32::from_str_radix(digits.get(at..at + 8)?, 16).ok().map(u32::swap_bytes);
    if digits.len() == 8 {
        return Some(IpAddr::V4(Ipv4Addr::from(word(0)?)));
    }
    let mut whole = 0_u128;
    for at in [0, 8, 16, 24] {
        whole = whole << 32 | u128::from(word(at)?);
    }
    Some(IpAddr::V6(Ipv6Addr::from(whole)))
}

fn is_open(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => is_open_v4(address),
        IpAddr::V6(address) => is_open_v6(address),
    }
}

/// Addresses that are the same on every host, masks of networks, and those of documentation.
fn is_open_v4(address: Ipv4Addr) -> bool {
    let [first, ..] = address.octets();
    address.is_loopback()
        || address.is_documentation()
        || address.is_multicast()
        || address == Ipv4Addr::new(169, 254, 169, 254)
        || first == 0
        || first == 255
}

fn is_open_v6(address: Ipv6Addr) -> bool {
    let [first, second, ..] = address.segments();
    // `::ffff:` before an address that is written with dots.
    let mapped = address == Ipv6Addr::new(0, 0, 0, 0, 0, 0, 0, 0xffff)
        || address.to_ipv4_mapped().is_some_and(is_open_v4);
    let network = address.octets()[2..].iter().all(|byte| *byte == 0);
    mapped
        || network
        || address.is_loopback()
        || address.is_multicast()
        || (first == 0x2001 && second == 0xdb8)
}

fn stands_alone(bytes: &[u8], start: usize, end: usize, name: &str) -> bool {
    let joined: &[u8] = if name.len() < LONG_NAME { b"_-./" } else { b"_" };
    let part = |byte: u8| byte.is_ascii_alphanumeric() || joined.contains(&byte);
    !start.checked_sub(1).is_some_and(|at| part(bytes[at])) && !bytes.get(end).is_some_and(|byte| part(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn anonymizer() -> Anonymizer {
        let known = Known {
            hosts: vec!["db7.corp.internal".to_owned(), "vm".to_owned()],
            machines: vec!["4c4c4544004d3010804cb4c04f564432".to_owned()],
        };
        let mut anonymizer = Anonymizer::new(Tokens::new([3; 32]), &known).unwrap();
        anonymizer.learn("cwd /home/janedoe/iggy and /home/iggy/x");
        anonymizer.ready()
    }

    /// The tokens by kind, without their digits.
    fn shown(text: &str) -> String {
        let anonymizer = anonymizer();
        let done = anonymizer.text(text).into_owned();
        assert_eq!(anonymizer.text(&done), done, "again");
        assert_eq!(anonymizer.hits(&done), 0, "{done}");
        Regex::new(r"\[(ip|mac|host|machine|user|mail):[0-9a-f]{8}\]")
            .unwrap()
            .replace_all(&done, "<$1>")
            .into_owned()
    }

    #[test]
    fn addresses_and_names_become_tokens_of_their_kind() {
        for (text, expected) in [
            ("client 10.0.2.15:8090 up", "client <ip>:8090 up"),
            ("[fd00:1:2::5]:8090 and fe80::5054:ff:feab:cdef/64", "[<ip>]:8090 and <ip>/64"),
            ("link/ether 52:54:00:ab:cd:ef brd ff:ff:ff:ff:ff:ff", "link/ether <mac> brd ff:ff:ff:ff:ff:ff"),
            ("Linux vm 6.18 on DB7.corp.internal, db7: up", "Linux <host> 6.18 on <host>, <host>: up"),
            ("by jane.doe@corp.internal", "by <mail>"),
            ("/home/janedoe/x owned by janedoe", "/home/<user>/x owned by <user>"),
            ("4c4c4544-004d-3010-804c-b4c04f564432 4c4c4544004d3010804cb4c04f564432", "<machine> <machine>"),
            ("::ffff:10.0.2.15", "::ffff:<ip>"),
        ] {
            assert_eq!(shown(text), expected);
        }
    }

    #[test]
    fn what_is_no_address_of_this_host_stays() {
        for text in [
            "127.0.0.1:8090 0.0.0.0:* 255.255.255.0 192.0.2.7 203.0.113.9 224.0.0.1 169.254.169.254",
            "[::1]:3000 :: 2001:db8::7 ff02::1",
            "iggy-server v1.2.3.4 and 4.13+1.2.3.4 at 10:30:53.843359Z",
            "server::http::jwt a::b dead::beefx crate::cafe",
            "vm.swappiness = 60 /proc/sys/vm/x vm-tools",
            "user@1000.service getty@tty1.service bob@example.org",
            "A8:4A:8D:3F:8A:BB:2B:6C:07:1F",
            "[secret:password:0a1b2c3d] /home/iggy/x iggy",
            "   0: 0100007F:1F9A 00000000:0000 0A",
        ] {
            assert_eq!(shown(text), text);
        }
    }

    #[test]
    fn the_same_address_has_the_same_token_in_any_spelling_and_tables_keep_their_form() {
        let anonymizer = anonymizer();
        assert_eq!(anonymizer.text("fd00:0:0::5"), anonymizer.text("FD00::0005"));
        assert_ne!(anonymizer.text("10.0.0.1"), anonymizer.text("10.0.0.2"));
        let table = anonymizer.text("   1: 0F02000A:1F9A 0302000A:01BB 01").into_owned();
        let words: Vec<&str> = table.split_whitespace().collect();
        assert!(words[1].ends_with("F:1F9A") && words[1].len() == 13 && !table.contains("02000A"), "{table}");
        assert_eq!(anonymizer.text(&table), table);
    }
}
