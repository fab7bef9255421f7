//! Matches of iptables, as tests. Source: iptables(8), iptables-extensions(8).

use super::rule::{Family, Key, Test, Value, addresses, protocol_number, tcp_flag};

/// The tests of one rule, from the words before its target.
pub fn tests_of(words: &[String], family: Family) -> Vec<Test> {
    let mut reader = Reader { words, at: 0, family, module: "", tests: Vec::new(), seldom: None };
    while let Some(word) = reader.next() {
        let negated = word == "!";
        let option = if negated { reader.next().unwrap_or_default() } else { word };
        reader.read(option, negated);
    }
    reader.flush();
    reader.tests
}

struct Reader<'a> {
    words: &'a [String],
    at: usize,
    family: Family,
    /// The match whose options follow.
    module: &'a str,
    tests: Vec<Test>,
    /// Options so far of a match that holds for some packets.
    seldom: Option<String>,
}

/// Matches that hold for some packets whatever the port: by rate, number, time, sender or chance.
const SELDOM: [&str; 22] = [
    "limit",
    "hashlimit",
    "recent",
    "connlimit",
    "mac",
    "time",
    "geoip",
    "statistic",
    "length",
    "ttl",
    "hl",
    "string",
    "connbytes",
    "quota",
    "dscp",
    "tos",
    "ecn",
    "rateest",
    "realm",
    "random",
    "nth",
    "condition",
];

impl<'a> Reader<'a> {
    fn next(&mut self) -> Option<&'a str> {
        let word = self.words.get(self.at)?;
        self.at += 1;
        Some(word)
    }

    fn peek(&self) -> Option<&'a str> {
        self.words.get(self.at).map(String::as_str)
    }

    fn value(&mut self) -> &'a str {
        self.next().unwrap_or_default()
    }

    fn push(&mut self, key: Key, values: Vec<Value>, negated: bool) {
        self.tests.push(Test::one(key, values, negated));
    }

    fn unsupported(&mut self, text: impl Into<String>) {
        self.tests.push(Test::Unsupported(format!("Warden does not know the match {}", text.into())));
    }

    /// Ends a match that holds for some packets.
    fn flush(&mut self) {
        if let Some(text) = self.seldom.take() {
            self.tests.push(Test::Sometimes(text));
        }
    }

    fn read(&mut self, option: &str, negated: bool) {
        match option {
            "-p" | "--protocol" => {
                let name = self.value();
                match (name, protocol_number(name)) {
                    ("all" | "0", _) => {}
                    (_, Some(number)) => self.push(Key::Protocol, vec![Value::number(number)], negated),
                    (_, None) => self.unsupported(format!("-p {name}")),
                }
            }
            "-s" | "--source" | "--src" => {
                let text = self.value();
                self.addresses(Key::Source, text, negated);
            }
            "-d" | "--destination" | "--dst" => {
                let text = self.value();
                self.addresses(Key::Destination, text, negated);
            }
            "-i" | "--in-interface" => {
                let name = interface(self.value());
                self.push(Key::InterfaceIn, vec![name], negated);
            }
            "-o" | "--out-interface" => {
                // What is for this host leaves by none.
                let name = interface(self.value());
                let is_any = name == Value::word("*");
                self.push(
                    Key::Constant(Value::word("")),
                    if is_any { vec![Value::Any] } else { vec![name] },
                    negated,
                );
            }
            "-f" | "--fragment" => self.constant(0, 1, negated),
            "-m" | "--match" => {
                self.flush();
                self.module = self.value();
                match self.module {
                    "icmp" | "icmp6" | "igmp" | "sctp" | "dccp" | "ah" | "esp" | "udplite" => {}
                    "rt" | "frag" | "hbh" | "dst" | "ipv6header" | "mh" => {
                        // They are about extension headers, which the first packet of a connection has none of.
                        self.skip_options();
                        self.tests.push(Test::Never);
                    }
                    "socket" | "u32" | "bpf" | "osf" | "policy" | "physdev" | "set" | "helper" | "owner"
                    | "cgroup" | "devgroup" | "cluster" | "nfacct" | "cpu" | "rpfilter" | "conntrack"
                    | "state" | "tcp" | "udp" | "multiport" | "comment" | "mark" | "connmark"
                    | "addrtype" | "pkttype" | "iprange" => {
                        self.module_alone();
                    }
                    module if SELDOM.contains(&module) => self.seldom = Some(module.to_owned()),
                    module => {
                        self.skip_options();
                        self.unsupported(format!("-m {module}"));
                    }
                }
            }
            _ => self.read_of_module(option, negated),
        }
    }

    /// Matches that mean something without an option.
    fn module_alone(&mut self) {
        match self.module {
            "rpfilter" => {
                let mut inverted = false;
                while self.peek().is_some_and(|word| word.starts_with("--")) {
                    inverted |= self.value() == "--invert";
                }
                // A connection is judged that comes in where its answers go out.
                self.constant(1, 1, inverted);
            }
            "socket" | "u32" | "bpf" | "osf" | "helper" | "cgroup" | "cluster" | "nfacct" | "cpu" => {
                let module = self.module;
                self.skip_options();
                self.unsupported(format!("-m {module}"));
            }
            _ => {}
        }
    }

    /// Up to the next option of iptables itself.
    fn skip_options(&mut self) {
        const OWN: [&str; 7] = ["-p", "-s", "-d", "-i", "-o", "-f", "-m"];
        while let Some(word) = self.peek() {
            let next = if word == "!" {
                self.words.get(self.at + 1).map(String::as_str).unwrap_or_default()
            } else {
                word
            };
            if OWN.contains(&next) {
                break;
            }
            self.at += 1;
        }
    }

    fn constant(&mut self, own: u128, asked: u128, negated: bool) {
        self.push(Key::Constant(Value::number(own)), vec![Value::number(asked)], negated);
    }

    fn word(&mut self, own: &str, values: &str, negated: bool) {
        let values = values.split(',').map(Value::word).collect();
        self.push(Key::Constant(Value::word(own)), values, negated);
    }

    fn addresses(&mut self, key: fn(Family) -> Key, text: &str, negated: bool) {
        let parts: Vec<_> = text.split(',').map(addresses).collect();
        let values = parts.into_iter().map(|part| match part {
            Some((family, value)) if family == self.family => value,
            _ => Value::Unsupported(format!("Warden does not understand the address {text}")),
        });
        let values = values.collect();
        self.push(key(self.family), values, negated);
    }

    fn ports(&mut self, key: Key, text: &str, negated: bool) {
        let port =
            |text: &str, missing: u128| if text.is_empty() { Some(missing) } else { text.parse().ok() };
        let range = |text: &str| {
            let (first, last) = text.split_once(':').unwrap_or((text, text));
            Some(Value::Range(port(first, 0)?, port(last, 65_535)?))
        };
        let read = |text: &str| {
            range(text)
                .unwrap_or_else(|| Value::Unsupported(format!("Warden does not understand the port {text}")))
        };
        let values = text.split(',').map(read).collect();
        self.push(key, values, negated);
    }

    fn read_of_module(&mut self, option: &str, negated: bool) {
        match (self.module, option) {
            (_, "--dport" | "--dports" | "--destination-port" | "--destination-ports") => {
                let text = self.value();
                self.ports(Key::DestinationPort, text, negated);
            }
            (_, "--sport" | "--sports" | "--source-port" | "--source-ports") => {
                let text = self.value();
                self.ports(Key::SourcePort, text, negated);
            }
            ("multiport", "--ports" | "--port") => {
                // Either of the two ports; that of the sender is one of thousands.
                let text = self.value();
                self.ports(Key::DestinationPort, text, negated);
            }
            (_, "--syn") => self.push(Key::TcpFlags(0x17), vec![Value::number(2)], negated),
            (_, "--tcp-flags") => {
                let (mask, set) = (flags(self.value()), flags(self.value()));
                match (mask, set) {
                    (Some(mask), Some(set)) => {
                        self.push(Key::TcpFlags(mask), vec![Value::number(set)], negated)
                    }
                    _ => self.unsupported("--tcp-flags"),
                }
            }
            (_, "--tcp-option") => {
                let option = self.value();
                self.tests.push(Test::Sometimes(format!("with TCP option {option}")));
            }
            ("comment", "--comment") => {
                self.value();
            }
            ("conntrack" | "state", "--ctstate" | "--state") => {
                // What destination translation has changed is judged as such where it is changed.
                let values = self.value().split(',').map(Value::word).collect();
                self.push(Key::State, values, negated);
            }
            ("conntrack", "--ctdir") => {
                let text = self.value();
                self.word("ORIGINAL", text, negated);
            }
            ("conntrack", "--ctproto") => {
                let text = self.value();
                match protocol_number(text) {
                    Some(number) => self.push(Key::Protocol, vec![Value::number(number)], negated),
                    None => self.unsupported("--ctproto"),
                }
            }
            ("conntrack", "--ctorigdstport") => {
                let text = self.value();
                self.ports(Key::DestinationPort, text, negated);
            }
            ("conntrack", "--ctorigsrc") => {
                let text = self.value();
                self.addresses(Key::Source, text, negated);
            }
            ("conntrack", "--ctorigdst") => {
                let text = self.value();
                self.addresses(Key::Destination, text, negated);
            }
            ("conntrack", "--ctstatus") => {
                // A new connection has none of them.
                let text = self.value();
                self.word("NONE", text, negated);
            }
            ("mark" | "connmark", "--mark") => {
                let text = self.value();
                let (value, mask) = text.split_once('/').unwrap_or((text, "0xffffffff"));
                match (number(value), number(mask)) {
                    (Some(value), Some(mask)) => {
                        self.push(Key::Mark(mask), vec![Value::number(value)], negated)
                    }
                    _ => self.unsupported("--mark"),
                }
            }
            ("addrtype", "--dst-type") => {
                let text = self.value();
                self.word("LOCAL", text, negated);
            }
            ("addrtype", "--src-type") => {
                let text = self.value();
                self.word("UNICAST", text, negated);
            }
            ("addrtype", "--limit-iface-in" | "--limit-iface-out") => {}
            ("pkttype", "--pkt-type") => {
                let text = self.value();
                self.word("unicast", text, negated);
            }
            ("iprange", "--src-range") => {
                let text = self.value();
                self.addresses(Key::Source, text, negated);
            }
            ("iprange", "--dst-range") => {
                let text = self.value();
                self.addresses(Key::Destination, text, negated);
            }
            ("policy", "--dir") => {
                self.value();
            }
            ("policy", "--pol") => {
                // A connection is judged that IPsec does not carry.
                let text = self.value();
                self.word("none", text, negated);
            }
            ("policy", _) => self.skip_options(),
            ("owner", _) => {
                // Only what this host sends has an owner.
                self.skip_options();
                self.tests.push(Test::Never);
            }
            ("physdev", "--physdev-in") => {
                let name = self.value();
                let text = format!("arriving on bridge port {name}");
                self.tests.push(Test::Sometimes(if negated { format!("not {text}") } else { text }));
            }
            ("physdev", "--physdev-out") => {
                self.value();
                self.constant(0, 1, negated);
            }
            ("physdev", "--physdev-is-bridged" | "--physdev-is-out") => self.constant(0, 1, negated),
            ("physdev", "--physdev-is-in") => {
                self.tests.push(Test::Sometimes("arriving on a bridge port".to_owned()));
            }
            ("set", "--match-set") => {
                let (name, of) = (self.value(), self.value());
                let by_source = of.split(',').all(|part| part == "src");
                let text = format!("source in set {name}");
                self.tests.push(match (by_source, negated) {
                    (true, false) => Test::Sometimes(text),
                    (true, true) => Test::Sometimes(format!("not {text}")),
                    (false, _) => Test::Unsupported(format!("what is in the set {name} ({of})")),
                });
            }
            ("set", _) => {}
            ("recent", "--set") if !negated => {
                // It adds the sender to a list and matches.
                self.seldom = None;
                self.skip_options();
            }
            (_, _) if self.seldom.is_some() => {
                let (so_far, name) = (self.seldom.take().unwrap_or_default(), option.trim_start_matches('-'));
                let mut text = match negated {
                    false if so_far == name => so_far,
                    false => format!("{so_far} {name}"),
                    true => format!("{so_far} not {name}"),
                };
                while self.peek().is_some_and(|word| !word.starts_with('-') && word != "!") {
                    text = format!("{text} {}", self.value());
                }
                self.seldom = Some(text);
            }
            // A rule about ICMP and its like, which its protocol has settled before.
            ("icmp" | "icmp6" | "igmp" | "sctp" | "dccp" | "ah" | "esp" | "udplite", _) => {
                self.skip_options()
            }
            (module, _) => {
                self.skip_options();
                self.unsupported(if module.is_empty() {
                    option.to_owned()
                } else {
                    format!("-m {module} {option}")
                });
            }
        }
    }
}

/// `+` stands for any rest.
fn interface(name: &str) -> Value {
    match name.strip_suffix('+') {
        Some(begin) => Value::Word(format!("{begin}*")),
        None => Value::word(name),
    }
}

fn flags(text: &str) -> Option<u128> {
    text.split(',').map(tcp_flag).try_fold(0, |all, flag| Some(all | flag?))
}

fn number(text: &str) -> Option<u128> {
    match text.strip_prefix("0x") {
        Some(hex) => u128::from_str_radix(hex, 16).ok(),
        None => text.parse().ok(),
    }
}
