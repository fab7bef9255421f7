//! The walls between the parts, where the compiler does not hold them.

use std::path::{Path, PathBuf};

fn sources(below: &str) -> Vec<(PathBuf, String)> {
    fn walk(folder: &Path, found: &mut Vec<(PathBuf, String)>) {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                walk(&path, found);
            } else if path.extension().is_some_and(|ending| ending == "rs") {
                found.push((path.clone(), std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    let mut found = Vec::new();
    walk(&Path::new(env!("CARGO_MANIFEST_DIR")).join(below), &mut found);
    assert!(!found.is_empty(), "{below}");
    found
}

/// The dependencies of a crate of the workspace, without those of its tests.
fn dependencies(folder: &str) -> Vec<String> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder).join("Cargo.toml");
    let manifest = std::fs::read_to_string(&path).unwrap();
    let section = manifest.split("\n[dependencies]\n").nth(1).unwrap().split("\n[").next().unwrap();
    let names = section.lines().filter_map(|line| line.split(['.', ' ', '=']).next());
    names.filter(|name| !name.is_empty()).map(str::to_owned).collect()
}

/// Asserts that a crate uses no more of the workspace than what is listed.
fn assert_knows_only(folder: &str, known: &[&str]) {
    let own =
        dependencies(folder).into_iter().filter_map(|name| name.strip_prefix("warden-").map(str::to_owned));
    let more: Vec<String> = own.filter(|name| !known.contains(&name.as_str())).collect();
    assert_eq!(more, [""; 0], "{folder} knows more than it should");
}

#[test]
fn only_systemd_speaks_d_bus() {
    for folder in FOLDERS {
        let speaks = dependencies(folder).iter().any(|name| name == "zbus");
        assert_eq!(speaks, folder == "src/systemd", "{folder}");
    }
}

const FOLDERS: [&str; 14] = [
    ".",
    "checks",
    "src/agent",
    "src/certificates",
    "src/client",
    "src/config",
    "src/host",
    "src/iggy",
    "src/platform",
    "src/protocol",
    "src/redact",
    "src/snapshot",
    "src/supervisor",
    "src/systemd",
];

#[test]
fn every_crate_knows_only_what_is_below_it() {
    assert_knows_only("src/protocol", &[]);
    assert_knows_only("src/host", &[]);
    assert_knows_only("src/certificates", &["host"]);
    assert_knows_only("checks", &["certificates", "host"]);
    assert_knows_only("src/platform", &["certificates", "host"]);
    assert_knows_only("src/redact", &[]);
    assert_knows_only("src/client", &["platform"]);
    assert_knows_only("src/iggy", &["host", "platform"]);
    assert_knows_only("src/config", &["protocol", "redact"]);
    assert_knows_only("src/systemd", &["config", "host", "protocol"]);
    let parts = ["certificates", "checks", "config", "host", "iggy", "platform", "redact", "systemd"];
    assert_knows_only("src/snapshot", &parts);
    assert_knows_only("src/agent", &[&parts[..], &["protocol", "snapshot"]].concat());
    // It meets the agent in the protocol alone.
    assert_knows_only(
        "src/supervisor",
        &["certificates", "checks", "config", "host", "platform", "protocol", "systemd"],
    );
}

#[test]
fn what_a_check_can_reach_has_no_way_out() {
    for folder in ["checks", "src/certificates", "src/host"] {
        for name in ["tokio", "zbus", "reqwest", "nix", "rustls", "sysinfo", "libc"] {
            // rustls-pki-types holds types and the reader of PEM, without any I/O where its feature `std` is off.
            assert!(!dependencies(folder).iter().any(|known| known == name), "{folder}: {name}");
        }
    }
}

#[test]
fn the_redactor_is_pure() {
    let module =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/redact/lib.rs")).unwrap();
    for (path, text) in sources("src/redact") {
        let name = path.file_stem().unwrap().to_str().unwrap();
        if module.contains(&format!("#[cfg(test)]\nmod {name};")) {
            continue;
        }
        let product = text.split("#[cfg(test)]").next().unwrap();
        for door in ["std::fs", "std::env", "std::net", "Instant::now", "SystemTime"] {
            assert!(!product.contains(door), "{} uses {door}", path.display());
        }
    }
}

#[test]
fn the_course_of_a_request_is_pure() {
    for (path, text) in sources("src/agent/request").into_iter().chain(sources("src/agent/actions")) {
        for door in
            ["std::fs", "std::env", "std::net", "std::time::Instant", "SystemTime", "tokio", "::now()"]
        {
            assert!(!text.contains(door), "{} uses {door}", path.display());
        }
    }
}

#[test]
fn every_file_opens_with_what_it_is_for() {
    for (path, text) in sources("src").into_iter().chain(sources("checks/src")).chain(sources("tests")) {
        assert!(text.starts_with("//! "), "{}", path.display());
    }
}
