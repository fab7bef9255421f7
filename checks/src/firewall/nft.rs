//! Reads what `nft -j list ruleset` prints.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value as Json;

use super::Ruleset;
use super::nft_match::{Sets, element_values, implied, key, read_match};
use super::rule::{Base, Chain, Family, Hook, Rule, Statement, TCP, Test, Value, Verdict, VerdictMap};

/// From `nft -j list ruleset`.
pub fn of_nft(text: &str) -> Result<Ruleset, String> {
    let json: Json = serde_json::from_str(text).map_err(|error| error.to_string())?;
    let objects = json["nftables"].as_array().ok_or("no `nftables` list")?;
    let mut ruleset = Ruleset::default();
    let mut sets: Sets = BTreeMap::new();
    for object in objects {
        for kind in ["set", "map"] {
            if object[kind].is_object() {
                let set = &object[kind];
                sets.insert(full_name(set, text_of(&set["name"])), set);
            }
        }
    }
    for chain in objects.iter().map(|object| &object["chain"]).filter(|chain| chain.is_object()) {
        ruleset.chains.push(read_chain(chain));
    }
    let positions: BTreeMap<String, usize> =
        ruleset.chains.iter().enumerate().map(|(at, chain)| (chain.name.clone(), at)).collect();
    for rule in objects.iter().map(|object| &object["rule"]).filter(|rule| rule.is_object()) {
        let expressions = rule["expr"].as_array().map(Vec::as_slice).unwrap_or_default();
        let table = full_name(rule, "").trim_end().to_owned();
        let is_opaque =
            |expression: &Json| expression.get("xt").is_some_and(|xt| xt["name"].as_str() != Some("comment"));
        if expressions.iter().any(is_opaque) && !ruleset.opaque.contains(&table) {
            ruleset.opaque.push(table);
        }
        let Some(&at) = positions.get(&full_name(rule, text_of(&rule["chain"]))) else { continue };
        let chain = &mut ruleset.chains[at];
        let text = match rule["handle"].as_u64() {
            Some(handle) => format!("rule with handle {handle}"),
            None => format!("rule {}", chain.rules.len() + 1),
        };
        let reader = Reader { rule, sets: &sets };
        let statements = expressions.iter().flat_map(|expression| reader.read(expression)).collect();
        chain.rules.push(Rule { text, statements });
    }
    Ok(ruleset)
}

fn text_of(json: &Json) -> &str {
    json.as_str().unwrap_or_default()
}

/// `inet filter input`.
fn full_name(json: &Json, last: &str) -> String {
    format!("{} {} {last}", text_of(&json["family"]), text_of(&json["table"]))
}

fn read_chain(chain: &Json) -> Chain {
    let family = text_of(&chain["family"]);
    // A frame meets the tables of a bridge when it arrives on one, and those of a card on that card.
    let entry = match family {
        "bridge" => vec![Test::Sometimes("arriving over a bridge".to_owned())],
        _ if text_of(&chain["hook"]) == "ingress" => {
            let device = &chain["dev"];
            let names = device.as_array().map_or(std::slice::from_ref(device), Vec::as_slice);
            let devices: Vec<Value> = names.iter().filter_map(Json::as_str).map(Value::word).collect();
            match devices.is_empty() {
                true => vec![Test::Sometimes(
                    format!("arriving on the interface of {}", full_name(chain, "")).trim_end().to_owned(),
                )],
                false => vec![Test::one(super::rule::Key::InterfaceIn, devices, false)],
            }
        }
        _ => Vec::new(),
    };
    let base = Hook::parse(text_of(&chain["hook"])).filter(|_| family != "arp").map(|hook| Base {
        hook,
        priority: chain["prio"].as_i64().unwrap_or_default(),
        family: match family {
            "ip" => Some(Family::V4),
            "ip6" => Some(Family::V6),
            _ => None,
        },
        policy: if text_of(&chain["policy"]) == "drop" { Verdict::Drop } else { Verdict::Accept },
        entry,
    });
    Chain {
        table: full_name(chain, "").trim_end().to_owned(),
        name: full_name(chain, text_of(&chain["name"])),
        base,
        rules: Vec::new(),
    }
}

struct Reader<'a> {
    rule: &'a Json,
    sets: &'a Sets<'a>,
}

impl Reader<'_> {
    fn read(&self, expression: &Json) -> Vec<Statement> {
        let Some((kind, inner)) = expression.as_object().and_then(|object| object.iter().next()) else {
            // `{"counter": null}` of old versions is a bare word.
            return match expression.as_str() {
                Some(word) => self.read_kind(word, &Json::Null, &Json::Null),
                None => Vec::new(),
            };
        };
        self.read_kind(kind, inner, expression)
    }

    fn read_kind(&self, kind: &str, inner: &Json, expression: &Json) -> Vec<Statement> {
        let elsewhere = |text: &str| vec![Statement::Verdict(Verdict::Elsewhere(text.to_owned()))];
        match kind {
            "match" => read_match(inner, |name| self.set(name)).into_iter().map(Statement::Test).collect(),
            "vmap" => {
                let mut statements: Vec<Statement> =
                    implied(&inner["key"]).into_iter().map(Statement::Test).collect();
                statements.push(self.verdict_map(inner));
                statements
            }
            "limit" => vec![Statement::Test(limit(inner))],
            "ct count" => {
                let over = if inner["inv"] == true { "over" } else { "up to" };
                vec![sometimes(format!("{over} {} connections", inner["val"]))]
            }
            "quota" => vec![sometimes("within a quota".to_owned())],
            "set" | "map" | "meter" => self.dynamic(inner),
            "xt" => match inner["name"].as_str() {
                Some("comment") => Vec::new(),
                name => {
                    let text = format!(
                        "a part of iptables that nft does not show, {}",
                        name.unwrap_or("without a name")
                    );
                    vec![Statement::Test(Test::Unsupported(text))]
                }
            },
            "mangle" => match inner["key"]["meta"]["key"] == "mark" || inner["key"]["ct"]["key"] == "mark" {
                true => vec![Statement::SetMark],
                false => Vec::new(),
            },
            "notrack" => vec![Statement::Untrack],
            "dnat" | "redirect" => {
                let mut statements: Vec<Statement> =
                    self.mapped(inner).into_iter().map(Statement::Test).collect();
                statements.extend(elsewhere("the connection is sent to another address or port"));
                statements
            }
            "snat" | "masquerade" => vec![Statement::Verdict(Verdict::Accept)],
            "queue" => elsewhere("a program in user space decides"),
            "tproxy" | "synproxy" => elsewhere("the connection is handed to a proxy"),
            "fwd" => elsewhere("the packet is sent out by another interface"),
            "reject" => {
                // nft leaves out the test that the kind of answer needs.
                let mut statements: Vec<Statement> = match text_of(&inner["type"]) {
                    "icmp" => vec![Statement::Test(Test::family(Family::V4))],
                    "icmpv6" => vec![Statement::Test(Test::family(Family::V6))],
                    "tcp reset" => vec![Statement::Test(Test::protocol(TCP))],
                    _ => Vec::new(),
                };
                statements.push(Statement::Verdict(Verdict::Reject));
                statements
            }
            "counter" | "log" | "comment" | "flow" | "dup" | "ct helper" | "ct timeout"
            | "ct expectation" | "last" | "secmark" | "reset" => Vec::new(),
            _ => match self.verdict(expression) {
                Some(verdict) => vec![Statement::Verdict(verdict)],
                None => vec![Statement::Test(Test::Unsupported(format!(
                    "Warden does not know the statement {kind}"
                )))],
            },
        }
    }

    fn verdict(&self, json: &Json) -> Option<Verdict> {
        let (kind, inner) = match json.as_str() {
            Some(word) => (word, &Json::Null),
            None => json.as_object()?.iter().next().map(|(kind, inner)| (kind.as_str(), inner))?,
        };
        let target = || full_name(self.rule, text_of(&inner["target"]));
        match kind {
            "accept" => Some(Verdict::Accept),
            "drop" => Some(Verdict::Drop),
            "reject" => Some(Verdict::Reject),
            "return" => Some(Verdict::Return),
            "continue" => Some(Verdict::Continue),
            "jump" => Some(Verdict::Jump(target())),
            "goto" => Some(Verdict::Goto(target())),
            "queue" => Some(Verdict::Elsewhere("a program in user space decides".to_owned())),
            _ => None,
        }
    }

    fn set(&self, name: &str) -> Option<&Json> {
        self.sets.get(&full_name(self.rule, name)).copied()
    }

    /// Elements of a map, named or not.
    fn elements<'b>(&'b self, data: &'b Json) -> Option<&'b [Json]> {
        let list = match data.as_str().and_then(|name| name.strip_prefix('@')) {
            // nft lists no elements of an empty map.
            Some(name) => {
                return Some(self.set(name)?["elem"].as_array().map(Vec::as_slice).unwrap_or_default());
            }
            None => &data["set"],
        };
        list.as_array().map(Vec::as_slice)
    }

    fn verdict_map(&self, map: &Json) -> Statement {
        let unsupported = |text: &str| Statement::Test(Test::Unsupported(text.to_owned()));
        let keys = match key(&map["key"]) {
            Ok(keys) => keys,
            Err(text) => return unsupported(&text),
        };
        let Some(elements) = self.elements(&map["data"]) else {
            return unsupported("a map whose elements are not shown");
        };
        let mut read = Vec::new();
        for pair in elements {
            // An element with a comment or a counter wraps its value.
            let value = if pair[0]["elem"].is_object() { &pair[0]["elem"]["val"] } else { &pair[0] };
            let verdict = self.verdict(&pair[1]).unwrap_or_else(|| {
                Verdict::Elsewhere("Warden does not know a verdict of its map".to_owned())
            });
            read.push((element_values(value, &keys), verdict));
        }
        // The one that stands for all others is asked last.
        read.sort_by_key(|(values, _)| *values == [Value::Any]);
        Statement::Map(Arc::new(VerdictMap { keys, elements: read }))
    }

    /// The tests that a translation by a map is: what is not in the map is not translated.
    fn mapped(&self, inner: &Json) -> Vec<Test> {
        let mut maps =
            [&inner["addr"]["map"], &inner["port"]["map"]].into_iter().filter(|map| map.is_object());
        let Some(map) = maps.next() else { return Vec::new() };
        let Ok(keys) = key(&map["key"]) else {
            return vec![Test::Unsupported("a map whose key Warden does not know".to_owned())];
        };
        let Some(elements) = self.elements(&map["data"]) else {
            return vec![Test::Unsupported("a map whose elements are not shown".to_owned())];
        };
        let elements = elements.iter().map(|pair| element_values(&pair[0], &keys)).collect();
        let mut tests = implied(&map["key"]);
        tests.push(Test::compare(keys, elements, false, None));
        tests
    }

    /// A set that the packet path fills: what it counts by decides, and without that it always matches.
    fn dynamic(&self, inner: &Json) -> Vec<Statement> {
        let statement = &inner["stmt"];
        let nested = statement.as_array().map_or(std::slice::from_ref(statement), Vec::as_slice);
        nested.iter().flat_map(|statement| self.read(statement)).collect()
    }
}

fn sometimes(text: String) -> Statement {
    Statement::Test(Test::Sometimes(text))
}

fn limit(inner: &Json) -> Test {
    let over = if inner["inv"] == true { "over" } else { "within" };
    let unit = inner["rate_unit"].as_str().filter(|unit| *unit != "packets").map(|unit| format!(" {unit}"));
    Test::Sometimes(format!(
        "{over} {}{}/{}",
        inner["rate"],
        unit.unwrap_or_default(),
        inner["per"].as_str().unwrap_or("second")
    ))
}
