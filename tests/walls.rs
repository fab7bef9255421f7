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

#[test]
fn only_systemd_speaks_d_bus() {
    for (path, text) in sources("src") {
        if !path.to_str().unwrap().contains("/src/systemd/") {
            assert!(!text.contains("zbus"), "{}", path.display());
        }
    }
}

#[test]
fn the_crate_of_the_checks_has_no_way_out() {
    let manifest =
        std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("checks/Cargo.toml")).unwrap();
    let dependencies = manifest.split("[dependencies]").nth(1).unwrap().split("\n[").next().unwrap();
    for name in ["tokio", "zbus", "reqwest", "nix", "rustls", "sysinfo", "libc"] {
        // rustls-pki-types holds types and the reader of PEM, without any I/O where its feature `std` is off.
        let of_line = |line: &str| line.split(['.', ' ', '=']).next() == Some(name);
        assert!(!dependencies.lines().any(of_line), "{name}");
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
