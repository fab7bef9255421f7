//! Fragments that are right, and all mistakes of others.

use serde::Deserialize;

use super::*;

#[derive(Debug, Default, PartialEq, Deserialize)]
#[serde(default, deny_unknown_fields)]
struct Sample {
    url: Option<String>,
    seconds: Option<u32>,
    names: Vec<String>,
}

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("warden.d")).unwrap();
    for (name, text) in files {
        std::fs::write(folder.path().join(name), text).unwrap();
    }
    folder
}

fn told(folder: &Path, fragments: Fragments) -> Vec<String> {
    let told = fragments.finish().unwrap_err().to_string();
    told.lines().map(|line| line.replace(&format!("{}/", folder.display()), "")).collect()
}

#[test]
fn the_last_file_that_has_a_key_wins_and_the_others_keep_theirs() {
    let folder = folder(&[
        ("warden.toml", "[agent]\nurl = \"a\"\nseconds = 1\nnames = [\"x\", \"y\"]\n"),
        ("warden.d/20-b.toml", "[agent]\nseconds = 3\n"),
        ("warden.d/10-a.toml", "[agent]\nseconds = 2\nnames = [\"z\"]\n"),
        ("warden.d/.30-c.toml.swp", "not toml"),
        ("warden.d/40-d.toml~", "not toml"),
    ]);
    let mut fragments = Fragments::read(folder.path());
    let sample: Sample = fragments.section("agent");
    assert_eq!(sample, Sample { url: Some("a".into()), seconds: Some(3), names: vec!["z".into()] });
    fragments.finish().unwrap();
}

#[test]
fn files_that_are_not_read_are_named_and_keys_and_certificates_are_not() {
    let folder = folder(&[
        ("warden.toml", ""),
        ("policy.toml", ""),
        ("supervisor.pem", ""),
        ("database-url", ""),
        ("agent.toml", ""),
        ("warden.toml.rpmsave", ""),
        ("warden.yaml", ""),
        ("warden.d/10-a.toml", ""),
        ("warden.d/10-a.conf", ""),
        ("warden.d/.20-b.toml", ""),
        ("warden.d/30-c.toml~", ""),
    ]);
    let root = format!("{}/", folder.path().display());
    let told: Vec<String> = unread(folder.path()).iter().map(|line| line.replace(&root, "")).collect();
    let by_name = "is not read: only warden.toml, policy.toml and warden.d/*.toml are";
    let by_ending = "is not read: its name must end in .toml and begin with no dot";
    assert_eq!(
        told,
        [
            format!("agent.toml {by_name}"),
            format!("warden.d/.20-b.toml {by_ending}"),
            format!("warden.d/10-a.conf {by_ending}"),
            format!("warden.d/30-c.toml~ {by_ending}"),
            format!("warden.toml.rpmsave {by_name}"),
            format!("warden.yaml {by_name}"),
        ]
    );
    for number in 0..30 {
        std::fs::write(folder.path().join(format!("warden.d/{number}.bak")), "").unwrap();
    }
    let told = unread(folder.path());
    assert_eq!(told.len(), UNREAD_TOLD + 1);
    assert!(told[UNREAD_TOLD].starts_with("16 more files in /"), "{}", told[UNREAD_TOLD]);
    let missing = unread(&folder.path().join("nowhere"));
    assert!(
        missing[0].starts_with("no configuration is read, every setting has its default: "),
        "{missing:?}"
    );
    assert_eq!(unread(Path::new("/etc/warden")).first().filter(|line| line.starts_with("no ")), None);
}

#[test]
fn no_files_are_the_defaults() {
    let mut fragments = Fragments::read(Path::new("/nonexistent"));
    assert_eq!(fragments.section::<Sample>("agent"), Sample::default());
    fragments.finish().unwrap();
}

#[test]
fn every_problem_of_every_file_is_listed_with_its_place() {
    let folder = folder(&[
        ("warden.toml", "[agent]\nurl = 7\n  secnds = 1\nnames = [\n  \"x\",\n  2]\n[agents]\n"),
        ("warden.d/a.toml", "agent = 1\n"),
        ("warden.d/b.toml", "[agent]\nseconds = \n[units\n"),
        ("warden.d/c.toml", "[agent]\nseconds = 5\n"),
    ]);
    std::fs::create_dir(folder.path().join("warden.d/d.toml")).unwrap();
    let mut fragments = Fragments::read(folder.path());
    let sample: Sample = fragments.section("agent");
    assert_eq!(sample.seconds, Some(5));
    fragments.wrong("agent", "seconds", "must be at least 10");
    assert_eq!(
        told(folder.path(), fragments),
        [
            "9 things are wrong with the configuration",
            "warden.d/d.toml: cannot be read: Is a directory (os error 21)",
            "warden.toml:2:7: invalid type: integer `7`, expected a string",
            "warden.toml:3:3: unknown key `secnds`; did you mean `seconds`?",
            "warden.toml:6:3: invalid type: integer `2`, expected a string",
            "warden.toml:7:2: unknown section `agents`; did you mean `agent`?",
            "warden.d/a.toml:1:9: `agent` must be a section: [agent]",
            "warden.d/b.toml:2:11: string values must be quoted, expected literal string",
            "warden.d/b.toml:3:7: unclosed table, expected `]`",
            "warden.d/c.toml:2:1: agent.seconds must be at least 10",
        ]
    );
}

#[test]
fn a_name_that_is_near_none_is_told_with_all_there_are() {
    let folder = folder(&[("warden.toml", "colour = 1\n[agent]\nverbose = true\n")]);
    let mut fragments = Fragments::read(folder.path());
    let _: Sample = fragments.section("agent");
    assert_eq!(
        told(folder.path(), fragments),
        [
            "2 things are wrong with the configuration",
            "warden.toml:1:1: unknown key `colour`; the sections are agent, supervisor, units",
            "warden.toml:3:1: unknown key `verbose`, expected one of `url`, `seconds`, `names`",
        ]
    );
}

#[test]
fn the_keys_that_two_states_of_the_files_differ_in_are_named() {
    let folder = folder(&[("warden.toml", "[agent]\nurl = \"a\"\nseconds = 1\n[units]\niggy = \"x\"\n")]);
    let before = Fragments::read(folder.path()).values(&["agent", "units"]);
    assert_eq!(before.differences(&Fragments::read(folder.path()).values(&["agent", "units"])), [""; 0]);
    std::fs::write(folder.path().join("warden.d/a.toml"), "[agent]\nseconds = 2\nnames = []\n").unwrap();
    let after = Fragments::read(folder.path()).values(&["agent", "units"]);
    assert_eq!(before.differences(&after), ["agent.names", "agent.seconds"]);
}

#[test]
fn a_file_that_is_no_text_or_far_too_large_is_a_problem() {
    let folder = folder(&[("warden.d/a.toml", &"#".repeat(FILE_LIMIT as usize + 1))]);
    std::fs::write(folder.path().join("warden.toml"), b"\xff\xfe").unwrap();
    assert_eq!(
        told(folder.path(), Fragments::read(folder.path())),
        [
            "2 things are wrong with the configuration",
            "warden.toml: cannot be read: stream did not contain valid UTF-8",
            "warden.d/a.toml: cannot be read: larger than 256 KiB",
        ]
    );
}
