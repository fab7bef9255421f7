//! What a text says of its own node: names, addresses and ids become words, so that nodes which say the same, each of
//! itself, say the same.

use std::borrow::Cow;
use std::collections::BTreeMap;

use aho_corasick::{AhoCorasick, MatchKind};
use warden_host::{Evidence, Value};

use crate::diff::Side;
use crate::diff::row_keys::without_keys;

/// A shorter name is too often a part of something else.
const SHORTEST: usize = 3;

/// Addresses of one host; a host that forwards for containers has thousands, and they are no reason to be slow.
const ADDRESSES: usize = 256;

pub struct Own {
    finder: Option<AhoCorasick>,
    /// What stands for each pattern.
    words: Vec<&'static str>,
}

impl Own {
    pub fn of(side: &Side) -> Own {
        let mut known: BTreeMap<String, &'static str> = BTreeMap::new();
        for address in addresses(side).take(ADDRESSES) {
            known.insert(address, "[own address]");
        }
        for (fact, word) in [("machine_id", "[machine id]"), ("boot_id", "[boot id]")] {
            let id = side.fact(fact);
            let bare = id.replace('-', "");
            if bare.len() == 32 && bare.bytes().all(|byte| byte.is_ascii_hexdigit()) {
                known.insert(bare, word);
                known.insert(id, word);
            }
        }
        let name = side.fact("name");
        let short = name.split('.').next().unwrap_or_default();
        // A name that is a mere word may mean anything else: a host called `iggy` has a folder /var/lib/iggy.
        let tells = |name: &str| {
            name.len() >= SHORTEST && name.bytes().any(|byte| byte.is_ascii_digit() || byte == b'.')
        };
        for name in [&name, short] {
            if tells(name) {
                known.insert(name.to_owned(), "[this host]");
            }
        }
        let finder = AhoCorasick::builder()
            .ascii_case_insensitive(true)
            .match_kind(MatchKind::LeftmostLongest)
            .build(known.keys());
        Own { finder: finder.ok(), words: known.into_values().collect() }
    }

    /// The text with everything that is the node's own taken out, process ids and the digits of tokens too.
    pub fn steady<'a>(&self, text: &'a str) -> Cow<'a, str> {
        let text = match without_keys(text) {
            Cow::Borrowed(text) => without_process_ids(text),
            Cow::Owned(text) => Cow::Owned(without_process_ids(&text).into_owned()),
        };
        let Some(finder) = &self.finder else { return text };
        let mut shown = String::new();
        let mut from = 0;
        for found in finder.find_iter(text.as_ref()) {
            if !stands_alone(text.as_bytes(), found.start(), found.end()) {
                continue;
            }
            shown.push_str(&text[from..found.start()]);
            shown.push_str(self.words[found.pattern().as_usize()]);
            from = found.end();
        }
        if from == 0 {
            return text;
        }
        shown.push_str(&text[from..]);
        Cow::Owned(shown)
    }
}

/// Of its interfaces; those that every host has are nobody's own.
fn addresses(side: &Side) -> impl Iterator<Item = String> {
    let evidence = side.checks.iter().filter(|check| check.id == "network-addresses");
    let tables = evidence.flat_map(|check| &check.evidence).filter_map(|evidence| match evidence {
        Evidence::Table(table) if table.title == "Addresses" => Some(table),
        Evidence::Table(_)
        | Evidence::Fields(_)
        | Evidence::Text(_)
        | Evidence::Log(_)
        | Evidence::Series(_) => None,
    });
    let cells = tables.flat_map(|table| {
        let at = table.columns.iter().position(|column| column == "address");
        table.rows.iter().filter_map(move |row| row.cells.get(at?))
    });
    cells.filter_map(|cell| {
        let (Value::Code(text) | Value::Text(text)) = cell else { return None };
        let address = text.split('/').next()?.parse::<core::net::IpAddr>().ok()?;
        (!address.is_loopback() && !address.is_unspecified()).then(|| address.to_string())
    })
}

fn stands_alone(bytes: &[u8], start: usize, end: usize) -> bool {
    let part = |at: usize| bytes.get(at).is_some_and(|byte| byte.is_ascii_alphanumeric() || *byte == b'_');
    !start.checked_sub(1).is_some_and(part) && !part(end)
}

/// `iggy-server (pid 812)` is `iggy-server`.
fn without_process_ids(text: &str) -> Cow<'_, str> {
    const OPENING: &str = " (pid ";
    let mut parts = text.split(OPENING);
    let mut shown = parts.next().unwrap_or_default().to_owned();
    if shown.len() == text.len() {
        return Cow::Borrowed(text);
    }
    for part in parts {
        match part.split_once(')') {
            Some((id, rest)) if !id.is_empty() && id.bytes().all(|byte| byte.is_ascii_digit()) => {
                shown.push_str(rest);
            }
            _ => {
                shown.push_str(OPENING);
                shown.push_str(part);
            }
        }
    }
    Cow::Owned(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn own(name: &str) -> Own {
        let report = serde_json::json!({
            "version": 1,
            "host": { "name": name, "machine_id": "7c1f0a2be0d94c5d8a9e3f4b5c6d7e8f" },
            "checks": [{ "id": "network-addresses", "evidence": [{
                "kind": "table", "title": "Addresses", "columns": ["interface", "address"],
                "rows": [
                    { "cells": [{ "type": "code", "value": "lo" }, { "type": "code", "value": "127.0.0.1/8" }] },
                    { "cells": [{ "type": "code", "value": "eth0" }, { "type": "code", "value": "192.0.2.11/24" }] },
                ],
            }] }],
        });
        Own::of(&Side::of_json(report.to_string().into_bytes()).unwrap())
    }

    #[test]
    fn what_a_node_says_of_itself_is_what_the_others_say_of_themselves() {
        let own = own("node-1.example");
        for (text, steady) in [
            ("/etc/iggy/tls/node-1.pem", "/etc/iggy/tls/[this host].pem"),
            ("CN=NODE-1.example, node-10, node-1x", "CN=[this host], node-10, node-1x"),
            ("tcp 192.0.2.11:8090, 192.0.2.110, 127.0.0.1", "tcp [own address]:8090, 192.0.2.110, 127.0.0.1"),
            ("7C1F0A2BE0D94C5D8A9E3F4B5C6D7E8F.journal", "[machine id].journal"),
            ("iggy-server (pid 812), and (pid x) 7", "iggy-server, and (pid x) 7"),
            ("[secret:password:0123abcd] of node-1", "[secret:password] of [this host]"),
            ("nothing", "nothing"),
        ] {
            assert_eq!(own.steady(text), steady);
        }
    }

    #[test]
    fn a_name_that_is_a_mere_word_stays() {
        for name in ["iggy", "", "a1"] {
            assert_eq!(own(name).steady("/var/lib/iggy a1"), "/var/lib/iggy a1");
        }
    }
}
