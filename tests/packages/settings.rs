//! The settings files of the packages say what the programs do without them.

use std::collections::BTreeSet;
use std::path::Path;

use warden::agent::Settings;
use warden::config::fragments::Fragments;
use warden::config::policy;
use warden::supervisor::settings::{Overrides, Settings as OfSupervisor};

const FILE: &str = include_str!("../../packaging/etc/warden/warden.toml");
const POLICY: &str = include_str!("../../packaging/etc/warden/policy.toml");

/// The file with every `#key = ...` that `choose` takes no longer behind its #.
fn spelt_out(text: &str, choose: impl Fn(&str) -> bool) -> String {
    let line = |line: &str| match line.strip_prefix('#') {
        Some(setting) if !setting.starts_with([' ', '#']) && choose(setting) => setting.to_owned(),
        _ => line.to_owned(),
    };
    text.lines().map(line).collect::<Vec<_>>().join("\n")
}

fn folder(text: &str) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("warden.toml"), text).unwrap();
    folder
}

fn agent(text: &str) -> Settings {
    Settings::load(folder(text).path()).unwrap_or_else(|problems| panic!("{problems}"))
}

fn supervisor(text: &str) -> Result<OfSupervisor, String> {
    let fragments = Fragments::read(folder(text).path());
    OfSupervisor::read(fragments, Overrides::default()).map_err(|problems| problems.to_string())
}

/// Every key of a section, as the refusal of one that is none names them.
fn keys(section: &str) -> BTreeSet<String> {
    let folder = folder(&format!("[{section}]\nno-such-key = 1\n"));
    let told = match section {
        "supervisor" => supervisor(&format!("[{section}]\nno-such-key = 1\n")).unwrap_err(),
        _ => Settings::load(folder.path()).unwrap_err().to_string(),
    };
    let (_, expected) = told.split_once("expected ").unwrap();
    expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
}

fn keys_told(section: &str) -> BTreeSet<String> {
    let all: toml::Table = spelt_out(FILE, |_| true).parse().unwrap();
    all[section].as_table().unwrap().keys().cloned().collect()
}

#[test]
fn the_packaged_settings_are_the_defaults_as_they_are_and_spelt_out() {
    assert_eq!(agent(FILE), Settings::default());
    let defaults = spelt_out(FILE, |setting| !setting.ends_with("# example"));
    assert!(defaults.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count() > 5);
    assert_eq!(agent(&defaults), Settings::default());
}

#[test]
fn every_key_is_told_and_every_example_is_understood() {
    for section in ["agent", "units", "supervisor"] {
        assert_eq!(keys_told(section), keys(section), "{section}");
    }
    assert_ne!(agent(&spelt_out(FILE, |_| true)), Settings::default());
}

#[test]
fn the_packaged_settings_of_the_supervisor_are_its_defaults_and_its_examples_are_understood() {
    let shown = |text: &str| format!("{:?}", supervisor(text).unwrap());
    let defaults = shown("");
    assert_eq!(shown(FILE), defaults);
    assert_eq!(shown(&spelt_out(FILE, |setting| !setting.ends_with("# example"))), defaults);
    let kept = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(kept.path(), "postgres://warden@db/warden\n").unwrap();
    let here = kept.path().to_str().unwrap();
    let all = spelt_out(FILE, |setting| !setting.starts_with("objects_directory"))
        .replace("/etc/warden/database-url", here)
        .replace("/etc/warden/s3-secret", here)
        .replace("/etc/warden/metrics-token", here);
    let shown = shown(&all);
    for part in ["S3(", "Postgres {", "Some(Tls {", "https://warden.example.com", "clients-ca.pem"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    assert!(!shown.contains("postgres://"), "{shown}");
}

#[test]
fn the_packaged_policy_asks_for_nothing_and_its_examples_are_understood() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    let masks = |text: &str| {
        std::fs::write(&path, text).unwrap();
        policy::also_mask(&[Path::new(&path)]).map(|masks| format!("{masks:?}"))
    };
    let nothing = masks("").unwrap();
    assert_eq!(masks(POLICY).unwrap(), nothing);
    assert_ne!(masks(&spelt_out(POLICY, |_| true)).unwrap(), nothing);
}

/// What a policy says of snapshots and of what may be done, or why it is not understood.
fn policy_of(text: &str) -> Result<(policy::Snapshots, Vec<policy::Rule>), String> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("policy.toml");
    std::fs::write(&path, text).unwrap();
    let rules = policy::rules(&path).map_err(|error| format!("{error:#}"))?;
    Ok((policy::snapshots(&path).unwrap(), rules))
}

#[test]
fn the_packaged_policy_is_the_defaults_as_it_is_and_spelt_out() {
    let defaults = (policy::Snapshots::default(), Vec::new());
    assert_eq!(policy_of(POLICY).unwrap(), defaults);
    let spelt = spelt_out(POLICY, |setting| !setting.ends_with("# example"));
    assert_eq!(spelt.lines().filter(|line| line.contains(" = ") && !line.starts_with('#')).count(), 10);
    assert_eq!(policy_of(&spelt).unwrap(), defaults);
    let (snapshots, rules) = policy_of(&spelt_out(POLICY, |_| true)).unwrap();
    assert_eq!(rules.len(), 1);
    assert!(snapshots.upload_hosts.is_some() && snapshots.largest_upload_mib.is_some());
}

#[test]
fn every_key_of_the_policy_is_told() {
    let all: toml::Table = spelt_out(POLICY, |_| true).parse().unwrap();
    let told =
        |table: &toml::Value| -> BTreeSet<String> { table.as_table().unwrap().keys().cloned().collect() };
    // As the refusal of one that is none names them.
    let known = |section: &str, more: &str| -> BTreeSet<String> {
        let refused = policy_of(&format!("{section}\n{more}no-such-key = 1\n")).unwrap_err();
        let (_, expected) = refused.split_once("expected ").unwrap();
        expected.split('`').skip(1).step_by(2).map(str::to_owned).collect()
    };
    let whole = toml::Value::Table(all.clone());
    assert_eq!(told(&whole), known("", ""));
    assert_eq!(told(&all["redaction"]), known("[redaction]", ""));
    assert_eq!(told(&all["snapshot"]), known("[snapshot]", ""));
    assert_eq!(told(&all["snapshot"]["automatic"]), known("[snapshot.automatic]", ""));
    let rule = "name = \"x\"\nthen = \"deny\"\n";
    assert_eq!(told(&all["rule"][0]), known("[[rule]]", rule));
}
