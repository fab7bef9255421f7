//! What is a difference between nodes, what is not, and how it is told.

use serde_json::{Value as Json, json};

use super::*;
use crate::diff::Side;
use crate::fleet::nodes::Added;
use crate::report::DATA_DIRECTORY;

/// A node of this name with these checks.
fn node(name: &str, checks: Json) -> Side {
    let report = json!({ "version": 1, "host": { "name": name }, "checks": checks });
    Side::of_json(report.to_string().into_bytes()).unwrap()
}

fn parameter(value: &str) -> Json {
    json!([{ "id": "kernel-parameters", "evidence": [{
        "kind": "table", "title": "Parameters", "columns": ["parameter", "value", "why"],
        "rows": [{ "cells": [
            { "type": "code", "value": "vm.max_map_count" },
            { "type": "code", "value": value },
            { "type": "text", "value": "reasons" },
        ] }],
    }] }])
}

fn fields(check: &str, title: &str, name: &str, value: Json) -> Json {
    json!([{ "id": check, "evidence": [{ "kind": "fields", "title": title, "rows": [[name, value]] }] }])
}

fn of(sides: &[Side]) -> Differences {
    let mut settings = Settings::default();
    for (node, side) in sides.iter().enumerate() {
        settings.add(node, side);
    }
    let added: Vec<Added> = sides.iter().map(|side| Added::new("a.zip", side)).collect();
    differences(settings, &Roster::new(&added), sides.len())
}

fn told(sides: &[Side]) -> Vec<String> {
    of(sides).told.into_iter().map(|drift| drift.text).collect()
}

fn parameters(values: &[&str]) -> Vec<Side> {
    let node = |(at, value): (usize, &&str)| node(&format!("node-{}", at + 1), parameter(value));
    values.iter().enumerate().map(node).collect()
}

#[test]
fn one_node_that_differs_is_named_with_its_value_and_that_of_the_others() {
    assert_eq!(
        told(&parameters(&["262144", "262144", "65530", "262144"])),
        ["node-3 differs from the other 3 in vm.max_map_count: 65530, the others 262144"]
    );
    assert_eq!(
        told(&parameters(&["1", "2", "1", "2", "1"])),
        ["node-2 and node-4 differ from the other 3 in vm.max_map_count: 2, the others 1"]
    );
    assert_eq!(
        told(&parameters(&["1", "2", "1", "3", "1"])),
        ["2 of 5 differ in vm.max_map_count: node-2 2; node-4 3; the others 1"]
    );
    assert!(told(&parameters(&["1", "1", "1"])).is_empty());
}

#[test]
fn without_a_majority_nobody_is_the_odd_one() {
    assert_eq!(told(&parameters(&["1", "2"])), ["node-1 and node-2 differ in vm.max_map_count: 1 and 2"]);
    let split = of(&parameters(&["1", "2", "2", "1"]));
    assert_eq!(
        split.told[0].text,
        "no value of vm.max_map_count is on more than half of 4: node-1 and node-4 1; node-2 and node-3 2"
    );
    assert_eq!(split.of_node, [0, 0, 0, 0]);
    assert_eq!(of(&parameters(&["1", "1", "2"])).of_node, [0, 0, 1]);
}

#[test]
fn numbers_that_run_are_left_and_those_that_are_set_are_not() {
    let unit = |name: &str, seconds: f64| {
        let value = json!({ "type": "seconds", "value": seconds });
        node("a", fields("units-runtimes", "iggy.service", name, value))
    };
    assert!(told(&[unit("CPU time", 1.0), unit("CPU time", 1e6)]).is_empty());
    assert_eq!(
        told(&[unit("watchdog", 30.0), unit("watchdog", 60.0)]),
        ["a and a (2) differ in iggy.service: watchdog: 30 s and 1 min"]
    );
}

#[test]
fn what_every_node_has_for_itself_is_named_and_not_told() {
    let of_unknown = |value: &str| {
        node("a", fields("hyperspace-drive", "Drive", "serial", json!({ "type": "code", "value": value })))
    };
    let found = of(&[of_unknown("x"), of_unknown("y"), of_unknown("z")]);
    assert_eq!((found.told.len(), found.own), (0, vec!["Drive: serial".to_owned()]));
    assert_eq!(
        told(&[of_unknown("x"), of_unknown("x"), of_unknown("z")]),
        ["a (3) differs from the other 2 in Drive: serial: z, the others x"]
    );
    assert_eq!(told(&parameters(&["1", "2", "3"])).len(), 1, "a parameter should be one everywhere");
}

#[test]
fn what_a_node_without_privileges_could_not_see_is_no_difference() {
    let side = |value: Json, privileged: bool| {
        let checks = fields("units-runtimes", "iggy.service", "enabled", value);
        let report = json!({
            "version": 1, "host": { "name": "a" }, "run": { "privileged": privileged }, "checks": checks,
        });
        Side::of_json(report.to_string().into_bytes()).unwrap()
    };
    let (enabled, nothing) = (json!({ "type": "text", "value": "enabled" }), json!({ "type": "nothing" }));
    assert!(told(&[side(enabled.clone(), true), side(nothing.clone(), false)]).is_empty());
    assert_eq!(
        told(&[side(enabled, true), side(nothing, true)]),
        ["a and a (2) differ in iggy.service: enabled: enabled and no value"]
    );
}

#[test]
fn a_row_that_a_node_lacks_is_told_unless_its_table_was_cut() {
    let swap = |areas: &[&str], left_out: u64| {
        let rows: Vec<Json> = areas
            .iter()
            .map(|area| json!({ "cells": [{ "type": "code", "value": area }, { "type": "text", "value": "file" }] }))
            .collect();
        node(
            "a",
            json!([{ "id": "memory-swap", "evidence": [{
            "kind": "table", "title": "Swap areas", "columns": ["area", "type"], "rows": rows, "left_out": left_out,
        }] }]),
        )
    };
    assert_eq!(
        told(&[swap(&["/swapfile"], 0), swap(&["/swapfile"], 0), swap(&[], 0)]),
        ["a (3) differs from the other 2 in Swap areas: /swapfile: not there, the others there (file)"]
    );
    assert!(told(&[swap(&["/swapfile"], 0), swap(&["/swapfile"], 0), swap(&[], 7)]).is_empty());
}

#[test]
fn a_package_of_another_version_is_one_difference() {
    let packages = |line: &str| {
        let rows = json!([{ "cells": [{ "type": "code", "value": line }] }]);
        node(
            "a",
            json!([{ "id": "runtime-versions", "evidence": [
            { "kind": "table", "title": "Packages", "columns": ["state and name"], "rows": rows },
        ] }]),
        )
    };
    let [old, new] = ["ii  iggy-server 0.8.0-1 amd64", "ii  iggy-server 0.9.0-1 amd64"].map(packages);
    assert_eq!(
        told(&[packages("ii  iggy-server 0.9.0-1 amd64"), new, old]),
        ["a (3) differs from the other 2 in Packages: iggy-server: 0.8.0-1 amd64, the others 0.9.0-1 amd64"]
    );
}

#[test]
fn facts_of_the_host_come_first_and_then_topic_by_topic() {
    let side = |kernel: &str, swappiness: &str, version: &str| {
        let mut checks = parameter(swappiness);
        let versions = fields(
            "runtime-versions",
            "Installed programs",
            "iggy-server",
            json!({ "type": "code", "value": version }),
        );
        checks.as_array_mut().unwrap().insert(0, versions[0].clone());
        let report = json!({ "version": 1, "host": { "name": "a", "kernel": kernel }, "checks": checks });
        Side::of_json(report.to_string().into_bytes()).unwrap()
    };
    let found = of(&[side("6.1", "1", "0.9"), side("6.1", "1", "0.9"), side("6.12", "60", "0.8")]);
    let topics: Vec<Topic> = found.told.iter().map(|drift| drift.topic).collect();
    assert_eq!(topics, [Topic::Host, Topic::Kernel, Topic::Version]);
    assert_eq!(found.of_node, [0, 0, 3]);
}

#[test]
fn a_node_that_claims_endless_values_is_cut_off_and_the_others_are_compared() {
    let rows: Vec<Json> =
        (0..30_000).map(|at| json!([format!("key {at}"), { "type": "code", "value": "x" }])).collect();
    let hostile =
        node("evil", json!([{ "id": "z", "evidence": [{ "kind": "fields", "title": "t", "rows": rows }] }]));
    let mut sides = vec![hostile];
    sides.extend(parameters(&["1", "1", "2"]));
    let found = of(&sides);
    assert!(found.not_compared >= 20_000, "{}", found.not_compared);
    assert_eq!(found.told.len(), 1);
}

#[test]
fn every_rule_is_about_evidence_that_some_recorded_host_has() {
    let hosts = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/hosts");
    let mut seen: Vec<(String, String, Vec<String>)> = Vec::new();
    for entry in std::fs::read_dir(hosts).unwrap() {
        let path = entry.unwrap().path();
        if !path.is_dir() {
            continue;
        }
        for check in Side::open(&path).unwrap().checks {
            for evidence in &check.evidence {
                let (title, names) = match evidence {
                    warden_host::Evidence::Fields(fields) => {
                        (&fields.title, fields.rows.iter().map(|(name, _)| name.clone()).collect())
                    }
                    warden_host::Evidence::Table(table) => (&table.title, table.columns.clone()),
                    warden_host::Evidence::Text(_)
                    | warden_host::Evidence::Log(_)
                    | warden_host::Evidence::Series(_) => continue,
                };
                seen.push((check.id.clone(), title.clone(), names));
            }
        }
    }
    let unruled: Vec<_> = (seen.iter())
        .filter(|(check, title, names)| {
            rules::of(check, title).is_none() && names.first().is_none_or(|name| name != "level")
        })
        .map(|(check, title, _)| (check, title))
        .collect();
    assert!(unruled.is_empty(), "decide whether these may differ between nodes: {unruled:?}");
    for block in rules::BLOCKS {
        let of_block: Vec<_> = seen
            .iter()
            .filter(|(check, title, _)| {
                rules::of(check, title).is_some_and(|found| std::ptr::eq(found, block))
            })
            .collect();
        // Only with an access token for Iggy, and with a data directory, which no recording has.
        let unrecorded = block.title == "By Iggy's own count" || block.check == DATA_DIRECTORY;
        assert!(
            !of_block.is_empty() || unrecorded,
            "no recorded host has {} of {}",
            block.title,
            block.check
        );
        for (name, _) in block.named {
            let known = of_block.iter().any(|(_, _, names)| names.iter().any(|known| known == name));
            assert!(known || unrecorded, "no recorded host has {name} in {} of {}", block.title, block.check);
        }
    }
}
