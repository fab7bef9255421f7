//! Completion in bash: verbs, and the values that arguments take.

use std::path::Path;
use std::process::Command;

use super::{ctl, text, told};

/// What bash offers for the last of these words.
fn offered(home: &Path, words: &[&str]) -> Vec<String> {
    let program = Path::new(env!("CARGO_BIN_EXE_warden"));
    let folder = program.parent().unwrap().display();
    let list = words.iter().map(|word| format!("'{word}'")).collect::<Vec<_>>().join(" ");
    let [.., before, last] = words else { panic!("two words at least") };
    let script = format!(
        "eval \"$(warden completions bash)\"; COMP_WORDS=({list}); COMP_CWORD={}; \
         _warden warden '{last}' '{before}'; printf '%s\\n' \"${{COMPREPLY[@]}}\"",
        words.len() - 1
    );
    let mut bash = Command::new("bash");
    bash.args(["--norc", "-c", &script]).env_clear().env("HOME", home);
    let output = bash.env("PATH", format!("{folder}:/usr/bin:/bin")).output().unwrap();
    assert_eq!(text(&output.stderr), "");
    text(&output.stdout).lines().map(str::to_owned).collect()
}

#[test]
fn checks_areas_runtimes_and_profiles_are_completed() {
    let home = tempfile::tempdir().unwrap();
    let offered = |words: &[&str]| offered(home.path(), words);
    assert_eq!(offered(&["warden", "snap"]), ["snapshot"]);
    assert_eq!(offered(&["warden", "snapshot", "--only", "disk-sp"]), ["disk-space"]);
    assert!(offered(&["warden", "snapshot", "--skip", "cert"]).contains(&"certificates".to_owned()));
    assert_eq!(offered(&["warden", "checks", "explain", "disk-sp"]), ["disk-space"]);
    assert_eq!(offered(&["warden", "ctl", "snapshots", "create", "--only", "disk-sp"]), ["disk-space"]);
    assert_eq!(offered(&["warden", "ctl", "restart", "ig"]), ["iggy"]);
    assert_eq!(offered(&["warden", "ctl", "activities", "list", "--runtime", "conn"]), ["connectors"]);
    assert_eq!(offered(&["warden", "ctl", "deployments", "update", "--plan", "e"]), ["enterprise"]);
    assert_eq!(offered(&["warden", "ctl", "--profile", ""]), [""], "there is none yet");
    for name in ["prod", "lab"] {
        let set =
            ctl(home.path(), &["profile", "set", name, "--url", "http://127.0.0.1:1"]).output().unwrap();
        assert_eq!(set.status.code(), Some(0), "{set:?}");
    }
    assert_eq!(offered(&["warden", "ctl", "--profile", "p"]), ["prod"]);
    assert_eq!(offered(&["warden", "ctl", "profile", "use", "l"]), ["lab"]);
    let names = ctl(home.path(), &["profile", "list", "--names"]).output().unwrap();
    assert_eq!(told(&names), (Some(0), "lab\nprod\n", ""));
}

#[test]
fn every_shell_asks_the_program_for_the_names_of_profiles() {
    let home = tempfile::tempdir().unwrap();
    for (shell, expected) in [
        ("bash", "compgen -W \"$(warden ctl profile list --names 2>/dev/null)\""),
        ("zsh", ":NAME:{compadd -- $(warden ctl profile list --names 2>/dev/null)}"),
        ("fish", "-a \"(warden ctl profile list --names 2>/dev/null)\""),
    ] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_warden"));
        let output =
            command.args(["completions", shell]).env_clear().env("HOME", home.path()).output().unwrap();
        let script = text(&output.stdout);
        assert!(script.contains(expected), "{shell}");
        assert!(!script.contains("__warden_profiles__"), "{shell}");
    }
}
