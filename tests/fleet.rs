//! `warden fleet` on recorded hosts, on copies of them that differ in what may differ, and on text that means harm.

use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::{Value, json};

use crate::support::browser::{Script, open};
use crate::support::program::{host, told, warden};
use crate::support::sample_report::{HOSTILE, sample_report};

/// Exit code and everything that `warden fleet --json` told.
fn fleet(snapshots: &[&str], folder: &Path) -> (i32, Value) {
    told(&[&["fleet", "--json"], snapshots].concat(), folder)
}

fn drift(told: &Value) -> Vec<&str> {
    told["drift"].as_array().unwrap().iter().map(|drift| drift["text"].as_str().unwrap()).collect()
}

/// Reports of `count` nodes that are the same but for what every node has for itself: names, addresses, ids, times,
/// and every number that runs.
fn siblings(of: &str, count: usize, folder: &Path) -> Vec<Value> {
    let report = folder.join("of.json");
    let report = report.to_str().unwrap();
    let output = warden(&["snapshot", "--host", &host(of), "--fail-on=never", "-o", report], folder);
    assert!(output.status.success(), "{output:?}");
    let text = std::fs::read_to_string(report).unwrap();
    let first: Value = serde_json::from_str(&text).unwrap();
    let own = |name: &str| first["host"][name].as_str().unwrap().to_owned();
    let (name, machine, boot) = (own("name"), own("machine_id"), own("boot_id"));
    let sibling = |node: usize| {
        let text = text
            .replace(&name, &format!("node-{node}"))
            .replace(&machine, &format!("{node:032x}"))
            .replace(&boot, &format!("{node:08x}-1111-4222-8333-444444444444"))
            .replace("192.0.2.11", &format!("192.0.2.{}", 100 + node))
            .replace("(pid 8", &format!("(pid {node}8"))
            .replace("process 8", &format!("process {node}8"));
        let mut report: Value = serde_json::from_str(&text).unwrap();
        for check in report["checks"].as_array_mut().unwrap() {
            // Durations in directives of units are set, and do not run.
            if check["id"] != "warden-setup" && check["id"] != "units-hardening" {
                check["evidence"].as_array_mut().unwrap().iter_mut().for_each(|one| run_on(one, node as u64));
            }
        }
        report
    };
    (1..=count).map(sibling).collect()
}

/// Moves every time, duration and share, as on another host at another moment.
fn run_on(value: &mut Value, by: u64) {
    if let Some(kind) = value["type"].as_str() {
        let moved = match (kind, &value["value"]) {
            ("time", Value::Number(at)) => json!(at.as_i64().unwrap() + 86_000 * by as i64),
            ("seconds" | "percent" | "number", Value::Number(one)) => {
                json!(one.as_f64().unwrap() * (1.0 + by as f64))
            }
            _ => return,
        };
        value["value"] = moved;
        return;
    }
    match value {
        Value::Array(items) => items.iter_mut().for_each(|item| run_on(item, by)),
        Value::Object(fields) => fields.values_mut().for_each(|field| run_on(field, by)),
        _ => {}
    }
}

fn write(reports: &[Value], folder: &Path) -> Vec<String> {
    let write = |(at, report): (usize, &Value)| {
        let name = format!("{}.json", at + 1);
        std::fs::write(folder.join(&name), report.to_string()).unwrap();
        name
    };
    reports.iter().enumerate().map(write).collect()
}

fn told_of(reports: &[Value], folder: &Path) -> Value {
    let names = write(reports, folder);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    fleet(&names, folder).1
}

/// The cell of a table, by check, first cell and column.
fn cell<'a>(report: &'a mut Value, check: &str, row: &str, column: &str) -> &'a mut Value {
    let check = report["checks"].as_array_mut().unwrap().iter_mut().find(|one| one["id"] == check).unwrap();
    for table in check["evidence"].as_array_mut().unwrap() {
        let Some(at) = table["columns"].as_array().and_then(|all| all.iter().position(|name| name == column))
        else {
            continue;
        };
        let rows = table["rows"].as_array_mut().unwrap();
        if let Some(found) = rows.iter_mut().find(|one| one["cells"][0]["value"] == row) {
            return &mut found["cells"][at]["value"];
        }
    }
    panic!("no {row}, {column}");
}

#[test]
fn nodes_that_differ_only_in_what_is_their_own_do_not_differ() {
    for of in ["healthy-debian", "notable-ubuntu", "strained-debian", "sick-debian"] {
        let folder = tempfile::tempdir().unwrap();
        let told = told_of(&siblings(of, 12, folder.path()), folder.path());
        assert_eq!(drift(&told), Vec::<&str>::new(), "{of}");
        assert_eq!(told["nodes"][11]["name"], "node-12", "{of}");
    }
}

#[test]
fn one_node_that_is_set_up_otherwise_is_named_with_its_value() {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = siblings("healthy-debian", 12, folder.path());
    *cell(&mut reports[6], "kernel-parameters", "vm.max_map_count", "value") = "65530".into();
    *cell(&mut reports[6], "disk-mounts", "/var/lib/iggy", "options") = "rw,relatime".into();
    *cell(&mut reports[2], "network-interfaces", "enp1s0", "MTU") = 9000.into();
    reports[8]["host"]["kernel"] = "6.12.90+deb13-amd64".into();
    let told = told_of(&reports, folder.path());
    assert_eq!(
        drift(&told),
        [
            "node-9 differs from the other 11 in kernel: 6.12.90+deb13-amd64, the others 6.12.86+deb13-amd64",
            "node-3 differs from the other 11 in Interfaces: enp1s0, MTU: 9000, the others 1500",
            "node-7 differs from the other 11 in vm.max_map_count: 65530, the others 1048576",
            "node-7 differs from the other 11 in Mounted: /var/lib/iggy, options: relatime,rw, the others noatime,rw",
        ]
    );
    let topics: Vec<&Value> = told["drift"].as_array().unwrap().iter().map(|drift| &drift["topic"]).collect();
    assert_eq!(topics, ["host", "host", "kernel", "system"]);
    assert_eq!(told["drift"][2]["others"], json!([{ "value": "65530", "nodes": ["node-7"] }]));
    assert_eq!((&told["nodes"][6]["differs_in"], &told["nodes"][0]["differs_in"]), (&json!(2), &json!(0)));
}

#[test]
fn a_problem_that_several_nodes_have_is_told_once() {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = siblings("healthy-debian", 6, folder.path());
    reports.extend(siblings("sick-debian", 9, folder.path()).split_off(6));
    let (code, told) = {
        let names = write(&reports, folder.path());
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        fleet(&names, folder.path())
    };
    assert_eq!(code, 1);
    let full: Vec<&Value> = (told["problems"].as_array().unwrap().iter())
        .filter(|problem| problem["check"] == "disk-space" && problem["severity"] == "fail")
        .collect();
    assert_eq!(full.len(), 1, "{full:#?}");
    assert_eq!(full[0]["nodes"], json!(["node-7", "node-8", "node-9"]));
    assert!(!full[0]["advice"].as_str().unwrap().is_empty());
    assert_eq!((&told["worst"], &told["counts"]["fail"]), (&json!("fail"), &json!(3)));
    let checks = told["checks"].as_array().unwrap();
    let space = checks.iter().find(|row| row["id"] == "disk-space").unwrap();
    assert_eq!((&space["worst"], &space["same"]), (&json!("fail"), &json!(false)));
    assert_eq!(space["said"][0]["nodes"], json!(["node-7", "node-8", "node-9"]));
    assert_eq!(checks[0]["worst"], "fail", "the worst area first");
}

#[test]
fn hosts_of_every_kind_are_compared_and_the_differences_stay_few_enough_to_read() {
    let folder = tempfile::tempdir().unwrap();
    let names = [
        "healthy-debian",
        "sick-debian",
        "strained-debian",
        "notable-ubuntu",
        "real-debian",
        "sick-rhel",
        "container",
        "bare-board",
        "unprivileged",
    ];
    let hosts = names.map(host);
    let hosts: Vec<&str> = hosts.iter().map(String::as_str).collect();
    let (code, told) = fleet(&hosts, folder.path());
    assert_eq!((code, told["nodes"].as_array().unwrap().len()), (1, 9));
    let texts = drift(&told);
    // Nine hosts with little in common but that they exist.
    assert!(texts.len() < 250, "{}:\n{}", texts.len(), texts.join("\n"));
    let noise = ["(pid ", "boot id", "machine id", "2026-11-21T", "192.0.2.11"];
    for text in &texts {
        assert!(!noise.iter().any(|word| text.contains(word)), "{text}");
    }
}

#[test]
fn a_snapshot_that_cannot_be_read_is_missing_and_the_others_are_compared() {
    let folder = tempfile::tempdir().unwrap();
    let reports = siblings("healthy-debian", 2, folder.path());
    let mut names = write(&reports, folder.path());
    std::fs::write(folder.path().join("cut.zip"), "PK").unwrap();
    names.push("cut.zip".to_owned());
    names.push("nowhere".to_owned());
    let (code, told) = fleet(&names.iter().map(String::as_str).collect::<Vec<_>>(), folder.path());
    assert_eq!((code, told["nodes"].as_array().unwrap().len()), (1, 2));
    assert_eq!(
        told["missing"],
        json!([
            { "source": "cut.zip", "why": "cut.zip is neither a bundle nor a report: this is no whole ZIP archive: it is too short" },
            { "source": "nowhere", "why": "cannot open nowhere: No such file or directory (os error 2)" },
        ])
    );
    let output = warden(&["fleet", "cut.zip", "nowhere"], folder.path());
    assert_eq!(output.status.code(), Some(2));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.starts_with("error: no snapshot could be read; of the first: cut.zip is neither"), "{told}");
    assert_eq!(warden(&["fleet", "1.json"], folder.path()).status.code(), Some(2), "one is no fleet");
}

#[test]
fn a_fleet_without_a_flaw_exits_with_0_and_says_so_in_one_line() {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = siblings("healthy-debian", 3, folder.path());
    for check in reports.iter_mut().flat_map(|report| report["checks"].as_array_mut().unwrap()) {
        let outcome = if check["outcome"] == "skip" { "skip" } else { "pass" };
        check["outcome"] = outcome.into();
        check["problems"] = json!([]);
    }
    let names = write(&reports, folder.path());
    let output = warden(&["fleet", &names[0], &names[1], &names[2]], folder.path());
    assert_eq!(output.status.code(), Some(0), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert_eq!(shown, "No problem was found: 3 well, no differences\n");

    *cell(&mut reports[1], "kernel-parameters", "vm.swappiness", "value") = "60".into();
    write(&reports, folder.path());
    let output = warden(&["fleet", &names[0], &names[1], &names[2]], folder.path());
    assert_eq!(output.status.code(), Some(1), "a difference is something to see");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("node-2 differs from the other 2 in vm.swappiness: 60, the others 1\n"),
        "{shown}"
    );
}

#[test]
fn what_should_be_known_of_the_snapshots_is_remarked() {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = siblings("healthy-debian", 4, folder.path());
    reports[1]["run"]["started_at"] = "2026-11-23T12:00:00Z".into();
    reports[2]["warden"] = "0.9.0".into();
    reports[2]["run"]["privileged"] = false.into();
    reports[3]["host"] = reports[0]["host"].clone();
    let told = told_of(&reports, folder.path());
    let remarks: Vec<&str> =
        told["remarks"].as_array().unwrap().iter().map(|remark| remark.as_str().unwrap()).collect();
    assert!(remarks[0].starts_with("the snapshots are up to "), "{remarks:?}");
    assert!(remarks[1].starts_with("judged by different Wardens: "), "{remarks:?}");
    assert_eq!(remarks[2], "without privileges, and so blind to much: node-3");
    assert_eq!(remarks[3], "one machine, or copies with one machine id: node-1 and node-1 (2)");
}

#[test]
fn a_hundred_nodes_take_the_memory_of_one_and_give_one_page() {
    let folder = tempfile::tempdir().unwrap();
    let mut reports = siblings("healthy-debian", 100, folder.path());
    *cell(&mut reports[6], "kernel-parameters", "vm.swappiness", "value") = "60".into();
    let log = "a line of a log that is as long as they are\n".repeat(1 << 15);
    for report in &mut reports {
        let text = json!({ "kind": "text", "title": "a long log", "text": log });
        report["checks"][0]["evidence"].as_array_mut().unwrap().push(text);
    }
    let names = write(&reports, folder.path());
    // All of them have some 160 MiB.
    let limited = format!("ulimit -v 98304; exec {} fleet -o page.html \"$@\"", env!("CARGO_BIN_EXE_warden"));
    let output = Command::new("sh")
        .args(["-c", &limited, "sh"])
        .args(&names)
        .current_dir(folder.path())
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(
        shown.contains("node-7 differs from the other 99 in vm.swappiness: 60, the others 1\n"),
        "{shown}"
    );
    let page = folder.path().join("page.html");
    assert!(page.metadata().unwrap().len() < 4 << 20);
    open(&page, "", Script::On, async |browser| {
        let columns = "return document.querySelectorAll('#matrix thead th').length";
        assert_eq!(browser.run(columns).await, 101);
        assert_eq!(browser.console().await, Vec::<String>::new());
    });
}

/// Reports whose every text is hostile, as files.
fn hostile(folder: &Path) -> Vec<String> {
    let mut report = serde_json::to_value(sample_report()).unwrap();
    let mut reports = vec![report.clone()];
    for node in 0..2 {
        report["host"]["name"] = HOSTILE.concat().into();
        report["warden"] = HOSTILE[node].into();
        report["run"]["started_at"] = HOSTILE[2].into();
        for (at, check) in report["checks"].as_array_mut().unwrap().iter_mut().enumerate() {
            let hostile = HOSTILE[(at + node) % HOSTILE.len()];
            check["outcome"] = ["fail", "warn", "unknown"][at % 3].into();
            for part in ["id", "area", "title", "summary"] {
                check[part] = format!("{hostile}{at}").into();
            }
            check["problems"] = json!([{
                "severity": "fail", "text": hostile, "advice": { "text": hostile, "command": hostile },
            }]);
            check["evidence"] = json!([
                { "kind": "fields", "title": hostile, "rows": [[hostile, { "type": "text", "value": format!("{hostile}{node}") }]] },
            ]);
        }
        reports.push(report.clone());
    }
    write(&reports, folder)
}

#[test]
fn hostile_text_drives_neither_the_terminal_nor_the_page() {
    let folder = tempfile::tempdir().unwrap();
    let names = hostile(folder.path());
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = warden(&[&["fleet", "--html", "page.html"], &names[..]].concat(), folder.path());
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.chars().all(|c| c == '\n' || !c.is_control()), "{shown:?}");
    assert!(!shown.contains('\u{202e}'));
    let path = folder.path().join("page.html");
    let page = std::fs::read_to_string(&path).unwrap();
    assert_eq!((page.matches("<style").count(), page.matches("<script").count()), (1, 0));
    assert!(!page.contains('\u{202e}') && !page.contains('\u{1b}'));
    open(&path, "", Script::On, async |browser| {
        let elements = "return document.querySelectorAll('script').length + document.images.length * 10 + document.querySelectorAll('[onmouseover], [onerror], [style]').length * 100";
        assert_eq!(browser.run(elements).await, 0);
        let doubled = "const ids = [...document.querySelectorAll('[id]')].map(one => one.id); return ids.length - new Set(ids).size";
        assert_eq!(browser.run(doubled).await, 0);
        assert_eq!(browser.console().await, Vec::<String>::new());
        assert_eq!(browser.run("return window.ran === undefined").await, true);
    });
}

/// A page of twelve nodes, one of them with a wrong parameter, one that fails.
fn twelve(folder: &Path) -> PathBuf {
    let mut reports = siblings("healthy-debian", 11, folder);
    *cell(&mut reports[6], "kernel-parameters", "vm.max_map_count", "value") = "65530".into();
    reports.extend(siblings("sick-debian", 12, folder).split_off(11));
    let names = write(&reports, folder);
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let output = warden(&[&["fleet", "-o", "page.html"], &names[..]].concat(), folder);
    assert_eq!(output.status.code(), Some(1), "{output:?}");
    folder.join("page.html")
}

#[test]
fn the_page_shows_every_cell_leads_to_what_it_says_and_asks_nothing_of_anywhere() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = twelve(folder.path());
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
    open(&path, "", Script::Off, async |browser| {
        assert_eq!(browser.shown_text("#verdict").await, "1 of 12 nodes fails");
        let drift = browser.shown_text("#drift").await;
        assert!(drift.contains("vm.max_map_count") && drift.contains("65530"), "{drift}");
        assert!(browser.is_shown("#disk-space").await);
        browser.asked_nothing_of_others(&path).await;
    });
    open(&path, "", Script::On, async |browser| {
        let broken = "return [...document.querySelectorAll('a[href^=\"#\"]')].filter(link => !document.getElementById(decodeURIComponent(link.hash.slice(1)))).map(link => link.outerHTML)";
        assert_eq!(browser.run(broken).await, json!([]));
        let cells = "return [...document.querySelectorAll('#matrix tbody tr:not(.area)')].every(row => row.querySelectorAll('td:not(.rest)').length === 12)";
        assert_eq!(browser.run(cells).await, true);
        let heads = "return [...document.querySelectorAll('#matrix thead a > span:first-child')].map(name => name.textContent).join(' ')";
        assert_eq!(
            browser.run(heads).await,
            (1..=12).map(|node| format!("node-{node}")).collect::<Vec<_>>().join(" ")
        );
        // A cell of the failing node, reached by keyboard, says its sentence at the foot of the window.
        let said = "const cell = document.querySelector('#matrix td.fail > a'); cell.focus({ focusVisible: true }); const tip = getComputedStyle(cell, '::after'); return [tip.position, tip.content]";
        let said = browser.run(said).await;
        assert_eq!(said[0], "fixed");
        assert!(said[1].as_str().unwrap().starts_with("\"node-12, fail: "), "{said}");
        browser.click("#matrix td.fail > a").await;
        browser.wait_for("document.querySelector('.where li:target')").await;
        let seen = "const place = document.querySelector('.where li:target'); const box = place.getBoundingClientRect(); return [place.textContent, place.checkVisibility() && box.height > 0]";
        assert_eq!(browser.run(seen).await, json!(["node-12", true]));
        // Nothing but the matrix, which scrolls by itself, may be wider than a telephone.
        for width in [390, 1280, 2560] {
            browser
                .command(
                    "Emulation.setDeviceMetricsOverride",
                    json!({ "width": width, "height": 900, "deviceScaleFactor": 1, "mobile": false }),
                )
                .await;
            let wider = "return document.documentElement.scrollWidth - document.documentElement.clientWidth";
            assert_eq!(browser.run(wider).await, 0, "{width}");
        }
    });
}
