//! Rules of nftables and iptables that decide over ports. Source: libnftables-json(5), iptables-save(8).

use std::collections::BTreeMap;
use std::ops::RangeInclusive;

use serde_json::Value as Json;

/// A rule that lets through or turns away what arrives for some ports of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule {
    /// `inet filter input`, `iptables filter INPUT`.
    pub chain: String,
    pub action: Action,
    /// `tcp` or `udp`; both when there is none.
    pub protocol: Option<String>,
    pub ports: Vec<RangeInclusive<u16>>,
    /// It is about every port but these.
    pub negated: bool,
    /// It holds for some packets only: by source, interface, rate...
    pub conditional: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Accept,
    Drop,
    Reject,
}

impl Action {
    pub const fn name(self) -> &'static str {
        match self {
            Action::Accept => "accept",
            Action::Drop => "drop",
            Action::Reject => "reject",
        }
    }
}

impl Rule {
    pub fn is_about(&self, port: u16, udp: bool) -> bool {
        let protocol = if udp { "udp" } else { "tcp" };
        let named = self.ports.iter().any(|range| range.contains(&port));
        self.protocol.as_deref().is_none_or(|own| own == protocol)
            && !self.ports.is_empty()
            && named != self.negated
    }
}

/// What a firewall does with what arrives.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ruleset {
    /// Rules about ports that packets for this host meet, in their order.
    pub rules: Vec<Rule>,
    /// Base chains that packets for this host meet, and their policy.
    pub policies: Vec<(String, String)>,
    /// Rules of any kind.
    pub count: usize,
}

/// Chains by name, whether a packet for this host meets each only under a condition; what is missing is never met.
type Met = BTreeMap<String, bool>;

/// Follows the jumps (from, to, conditional) from the chains that everything meets.
fn follow(begin: &[String], jumps: &[(String, String, bool)]) -> Met {
    let mut met: Met = begin.iter().map(|chain| (chain.clone(), false)).collect();
    loop {
        let mut changed = false;
        for (from, to, conditional) in jumps {
            let Some(reached) = met.get(from).map(|from| *from || *conditional) else { continue };
            if met.get(to).is_none_or(|known| *known && !reached) {
                met.insert(to.clone(), reached);
                changed = true;
            }
        }
        // Each round reaches a chain or frees one of its condition, so it ends.
        if !changed {
            return met;
        }
    }
}

fn settle(mut ruleset: Ruleset, jumps: &[(String, String, bool)]) -> Ruleset {
    let begin: Vec<String> = ruleset.policies.iter().map(|(chain, _)| chain.clone()).collect();
    let met = follow(&begin, jumps);
    ruleset.rules.retain_mut(|rule| match met.get(&rule.chain) {
        Some(conditional) => {
            rule.conditional |= conditional;
            true
        }
        None => false,
    });
    ruleset
}

/// From `nft -j list ruleset`.
pub fn of_nft(text: &str) -> Result<Ruleset, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let objects = json["nftables"].as_array().ok_or("no `nftables` list")?;
    let name = |json: &Json, last: &str| {
        let word = |key: &str| json[key].as_str().unwrap_or_default().to_owned();
        format!("{} {} {last}", word("family"), word("table"))
    };
    let text = |json: &Json| json.as_str().unwrap_or_default().to_owned();
    let mut sets: BTreeMap<String, Vec<RangeInclusive<u16>>> = BTreeMap::new();
    let (mut ruleset, mut jumps) = (Ruleset::default(), Vec::new());
    for set in objects.iter().map(|object| &object["set"]).filter(|set| set.is_object()) {
        sets.insert(name(set, &text(&set["name"])), ranges(&set["elem"]));
    }
    for object in objects {
        let (chain, rule) = (&object["chain"], &object["rule"]);
        if ["input", "prerouting", "ingress"].contains(&chain["hook"].as_str().unwrap_or_default()) {
            ruleset.policies.push((
                name(chain, &text(&chain["name"])),
                chain["policy"].as_str().unwrap_or("accept").to_owned(),
            ));
        }
        if rule.is_object() {
            ruleset.count += 1;
            let chain = name(rule, &text(&rule["chain"]));
            let named = |set: &str| sets.get(&name(rule, set)).cloned().unwrap_or_default();
            read_nft_rule(
                rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default(),
                &chain,
                &named,
                &mut ruleset,
                |target, conditional| {
                    jumps.push((chain.clone(), name(rule, target), conditional));
                },
            );
        }
    }
    Ok(settle(ruleset, &jumps))
}

fn read_nft_rule(
    expressions: &[Json],
    chain: &str,
    named: &dyn Fn(&str) -> Vec<RangeInclusive<u16>>,
    ruleset: &mut Ruleset,
    mut jump: impl FnMut(&str, bool),
) {
    let (mut protocol, mut ports, mut negated, mut conditional) = (None, Vec::new(), false, false);
    let mut by_port: Vec<(Vec<RangeInclusive<u16>>, Action)> = Vec::new();
    let mut action = None;
    for expression in expressions {
        let test = &expression["match"];
        if test.is_object() {
            let (left, right) = (&test["left"], &test["right"]);
            let excludes = test["op"] == "!=";
            if left["payload"]["field"] == "dport" {
                protocol = protocol.or_else(|| transport(&left["payload"]["protocol"]));
                ports = match right.as_str().and_then(|set| set.strip_prefix('@')) {
                    Some(set) => named(set),
                    None => ranges(right),
                };
                negated = excludes;
            } else if left["meta"]["key"] == "l4proto" && right.is_string() && !excludes {
                protocol = transport(right);
            } else if !(left["ct"]["key"] == "state" && right.to_string().contains("\"new\"") && !excludes) {
                conditional = true;
            }
        }
        let map = &expression["vmap"];
        if map["key"]["payload"]["field"] == "dport" {
            protocol = protocol.or_else(|| transport(&map["key"]["payload"]["protocol"]));
            for pair in map["data"]["set"].as_array().into_iter().flatten() {
                by_port.extend(verdict(&pair[1]).map(|action| (ranges(&pair[0]), action)));
            }
        }
        // Other maps, limits and what iptables left opaque decide for some packets only.
        conditional |= expression.get("limit").is_some() || expression.get("xt").is_some();
        action = action.or_else(|| verdict(expression));
        for target in ["jump", "goto"].iter().filter_map(|kind| expression[*kind]["target"].as_str()) {
            jump(target, conditional || !ports.is_empty() || protocol.is_some());
        }
        for pair in map["data"]["set"].as_array().into_iter().flatten() {
            for target in ["jump", "goto"].iter().filter_map(|kind| pair[1][*kind]["target"].as_str()) {
                jump(target, true);
            }
        }
    }
    by_port.extend(action.map(|action| (ports, action)));
    for (ports, action) in by_port.into_iter().filter(|(ports, _)| !ports.is_empty()) {
        let (chain, protocol) = (chain.to_owned(), protocol.clone());
        ruleset.rules.push(Rule { chain, action, protocol, ports, negated, conditional });
    }
}

/// `th` is the transport header of any protocol.
fn transport(json: &Json) -> Option<String> {
    json.as_str().filter(|&name| name != "th").map(str::to_owned)
}

fn verdict(json: &Json) -> Option<Action> {
    let actions = [("accept", Action::Accept), ("drop", Action::Drop), ("reject", Action::Reject)];
    actions.into_iter().find(|(name, _)| json.get(name).is_some()).map(|(_, action)| action)
}

/// A port, `{"range": [1, 2]}`, `{"set": [...]}`, a list of these, or an element with more to it.
fn ranges(json: &Json) -> Vec<RangeInclusive<u16>> {
    let port = |json: &Json| u16::try_from(json.as_u64()?).ok();
    if let Some(port) = port(json) {
        return vec![port..=port];
    }
    if let Some([from, to]) = json["range"].as_array().map(Vec::as_slice) {
        return port(from).zip(port(to)).map(|(from, to)| from..=to).into_iter().collect();
    }
    let inner = json["elem"].get("val");
    let many = json.as_array().or_else(|| json["set"].as_array());
    inner.map(ranges).unwrap_or_else(|| many.into_iter().flatten().flat_map(ranges).collect())
}

/// From `iptables-save` or `ip6tables-save`.
pub fn of_iptables(text: &str) -> Ruleset {
    let (mut ruleset, mut jumps, mut table) = (Ruleset::default(), Vec::new(), String::new());
    for line in text.lines() {
        if let Some(name) = line.strip_prefix('*') {
            name.trim().clone_into(&mut table);
        } else if let Some(chain) = line.strip_prefix(':') {
            let mut words = chain.split(' ');
            let (name, policy) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
            if ["INPUT", "PREROUTING"].contains(&name) {
                ruleset.policies.push((format!("iptables {table} {name}"), policy.to_lowercase()));
            }
        } else if line.starts_with("-A ") {
            ruleset.count += 1;
            read_iptables_rule(&words(line), &table, &mut ruleset, &mut jumps);
        }
    }
    settle(ruleset, &jumps)
}

fn read_iptables_rule(
    words: &[String],
    table: &str,
    ruleset: &mut Ruleset,
    jumps: &mut Vec<(String, String, bool)>,
) {
    let mut rule = Rule {
        chain: format!("iptables {table} {}", words.get(1).map(String::as_str).unwrap_or_default()),
        action: Action::Accept,
        protocol: None,
        ports: Vec::new(),
        negated: false,
        conditional: false,
    };
    let (mut target, mut at) = (None, 2);
    while let Some(word) = words.get(at) {
        let value = words.get(at + 1).map(String::as_str).unwrap_or_default();
        let not = words[at - 1] == "!";
        at += 2;
        match word.as_str() {
            "-p" if !not => rule.protocol = Some(value.to_owned()),
            "--dport" | "--dports" | "--destination-ports" => {
                rule.ports = value.split(',').filter_map(port_range).collect();
                rule.negated = not;
            }
            "-j" | "-g" => target = Some(value.to_owned()),
            // These only load what the next option belongs to, or say how and why.
            "-m" if !["limit", "hashlimit", "recent"].contains(&value) => {}
            "--comment" | "--reject-with" | "--set-xmark" => {}
            "--ctstate" | "--state" if value.contains("NEW") && !not => {}
            "!" => at -= 1,
            _ => rule.conditional = true,
        }
    }
    let action = match target.as_deref() {
        Some("ACCEPT") => Action::Accept,
        Some("DROP") => Action::Drop,
        Some("REJECT") => Action::Reject,
        Some(chain) => {
            let conditional = rule.conditional || !rule.ports.is_empty() || rule.protocol.is_some();
            jumps.push((rule.chain, format!("iptables {table} {chain}"), conditional));
            return;
        }
        None => return,
    };
    if !rule.ports.is_empty() {
        ruleset.rules.push(Rule { action, ..rule });
    }
}

/// `8090` or `3000:3010`.
fn port_range(text: &str) -> Option<RangeInclusive<u16>> {
    let (from, to) = text.split_once(':').unwrap_or((text, text));
    Some(from.parse().ok()?..=to.parse().ok()?)
}

/// Words of a line; a comment in double quotes is one.
fn words(line: &str) -> Vec<String> {
    let mut words = Vec::new();
    for (at, part) in line.split('"').enumerate() {
        match at % 2 {
            0 => words.extend(part.split_ascii_whitespace().map(str::to_owned)),
            _ => words.push(part.to_owned()),
        }
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(ruleset: &Ruleset) -> Vec<String> {
        let one = |rule: &Rule| {
            let (conditional, negated) =
                (if rule.conditional { "?" } else { "" }, if rule.negated { "!" } else { "" });
            let protocol = rule.protocol.as_deref().unwrap_or("any");
            format!(
                "{}: {} {protocol} {negated}{:?}{conditional}",
                rule.chain,
                rule.action.name(),
                rule.ports
            )
        };
        ruleset.rules.iter().map(one).collect()
    }

    #[test]
    fn rules_of_nftables_are_read_where_packets_meet_them() {
        let port = |right: &str| {
            format!(
                r#"{{"match":{{"op":"==","left":{{"payload":{{"protocol":"tcp","field":"dport"}}}},"right":{right}}}}}"#
            )
        };
        let rule = |chain: &str, expressions: &str| {
            format!(
                r#"{{"rule":{{"family":"inet","table":"filter","chain":"{chain}","expr":[{expressions}]}}}}"#
            )
        };
        let source = r#"{"match":{"op":"==","left":{"payload":{"protocol":"ip","field":"saddr"}},"right":"10.0.0.1"}}"#;
        let vmap = r#"{"vmap":{"key":{"payload":{"protocol":"udp","field":"dport"}},"data":{"set":[[8080,{"drop":null}],[53,{"accept":null}]]}}}"#;
        let objects = [
            r#"{"metainfo":{"version":"1.0.6"}}"#.to_owned(),
            r#"{"chain":{"family":"inet","table":"filter","name":"input","hook":"input","policy":"drop"}}"#.to_owned(),
            r#"{"chain":{"family":"inet","table":"filter","name":"output","hook":"output","policy":"accept"}}"#.to_owned(),
            r#"{"chain":{"family":"inet","table":"filter","name":"apart"}}"#.to_owned(),
            r#"{"set":{"family":"inet","table":"filter","name":"closed","elem":[8090,{"elem":{"val":8092,"counter":1}}]}}"#.to_owned(),
            rule("input", &format!(r#"{source},{},{{"accept":null}}"#, port("8090"))),
            rule("input", &format!(r#"{},{{"counter":{{}}}},{{"reject":{{"type":"tcp reset"}}}}"#, port(r#"{"set":[3000,{"range":[8090,8099]}]}"#))),
            rule("input", vmap),
            rule("input", r#"{"jump":{"target":"apart"}}"#),
            rule("output", &format!(r#"{},{{"drop":null}}"#, port("1"))),
            rule("apart", &format!(r#"{},{{"drop":null}}"#, port(r#""@closed""#))),
        ];
        let ruleset = of_nft(&format!(r#"{{"nftables":[{}]}}"#, objects.join(","))).unwrap();
        assert_eq!(
            shown(&ruleset),
            [
                "inet filter input: accept tcp [8090..=8090]?",
                "inet filter input: reject tcp [3000..=3000, 8090..=8099]",
                "inet filter input: drop udp [8080..=8080]",
                "inet filter input: accept udp [53..=53]",
                "inet filter apart: drop tcp [8090..=8090, 8092..=8092]",
            ]
        );
        assert_eq!(
            (ruleset.count, ruleset.policies),
            (6, vec![("inet filter input".to_owned(), "drop".to_owned())])
        );
        assert!(of_nft("{}").is_err() && of_nft("Operation not permitted").is_err());
    }

    #[test]
    fn rules_of_iptables_are_read_where_packets_meet_them() {
        let ruleset = of_iptables(
            "# Generated\n*filter\n:INPUT DROP [0:0]\n:OUTPUT ACCEPT [0:0]\n:ufw - [0:0]\n\
             -A INPUT -s 10.0.0.0/8 -p tcp -m tcp --dport 8090 -j ACCEPT\n\
             -A INPUT -p tcp -m multiport --dports 8090,3000:3010 -m comment --comment \"no -s here\" -j REJECT --reject-with tcp-reset\n\
             -A INPUT -i eth1 -j ufw\n-A OUTPUT -p tcp --dport 1 -j DROP\n\
             -A ufw -p udp ! --dport 53 -j DROP\n-A INPUT\nCOMMIT\n",
        );
        assert_eq!(
            shown(&ruleset),
            [
                "iptables filter INPUT: accept tcp [8090..=8090]?",
                "iptables filter INPUT: reject tcp [8090..=8090, 3000..=3010]",
                "iptables filter ufw: drop udp ![53..=53]?",
            ]
        );
        assert!(ruleset.rules[1].is_about(3005, false) && !ruleset.rules[1].is_about(3005, true));
        assert!(ruleset.rules[2].is_about(8080, true) && !ruleset.rules[2].is_about(53, true));
    }

    #[test]
    fn chains_that_jump_in_a_circle_end() {
        let jump = |from: &str, to: &str, conditional| (from.to_owned(), to.to_owned(), conditional);
        let met = follow(
            &["a".to_owned()],
            &[jump("a", "b", true), jump("b", "a", false), jump("a", "b", false), jump("x", "y", false)],
        );
        assert_eq!(met, BTreeMap::from([("a".to_owned(), false), ("b".to_owned(), false)]));
    }
}
