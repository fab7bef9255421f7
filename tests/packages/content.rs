//! What is in the packages.

use std::collections::BTreeSet;
use std::path::Path;
use std::process::Command;

use super::{build, made, packages};

fn told(program: &str, arguments: &[&str], file: &Path) -> String {
    let output = Command::new(program).args(arguments).arg(file).output().unwrap();
    assert!(output.status.success(), "{program}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// Mode and path of every file, as `ls -l` writes them.
fn in_the_deb() -> BTreeSet<(String, String)> {
    let listed = told("dpkg-deb", &["--contents"], &packages().deb);
    let entries = listed.lines().map(|line| line.split_whitespace().collect::<Vec<_>>());
    let files = entries.filter(|words| !words[5].ends_with('/'));
    files.map(|words| (words[0].to_owned(), words[5].trim_start_matches('.').to_owned())).collect()
}

fn in_the_rpm() -> BTreeSet<(String, String)> {
    let listed =
        told("rpm", &["-qp", "--queryformat", "[%{FILEMODES:perms} %{FILENAMES}\n]"], &packages().rpm);
    listed
        .lines()
        .map(|line| line.split_once(' ').unwrap())
        .map(|(mode, path)| (mode.into(), path.into()))
        .collect()
}

#[test]
fn both_packages_bring_the_same_files_but_for_the_customs_of_each() {
    let (deb, rpm) = (in_the_deb(), in_the_rpm());
    let only = |one: &BTreeSet<(String, String)>, other: &BTreeSet<(String, String)>| {
        one.difference(other).map(|(_, path)| path.clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        only(&deb, &rpm),
        [
            "/usr/share/doc/warden/changelog.Debian.gz",
            "/usr/share/doc/warden/copyright",
            "/usr/share/lintian/overrides/warden",
            "/usr/share/zsh/vendor-completions/_warden",
        ]
    );
    assert_eq!(
        only(&rpm, &deb),
        [
            "/usr/lib/systemd/system-preset/50-warden.preset",
            "/usr/share/licenses/warden/LICENSE",
            "/usr/share/zsh/site-functions/_warden",
        ]
    );
    for path in [
        "/usr/bin/warden",
        "/usr/lib/systemd/system/warden.service",
        "/usr/share/man/man1/warden-ctl-restart.1.gz",
    ] {
        assert!(rpm.iter().any(|(_, known)| known == path), "{path}");
    }
}

#[test]
fn settings_are_never_overwritten() {
    let expected = "/etc/warden/policy.toml\n/etc/warden/warden.toml\n";
    assert_eq!(told("dpkg-deb", &["--info"], &packages().deb).matches("conffiles").count(), 1);
    let output =
        Command::new("dpkg-deb").arg("--info").arg(&packages().deb).arg("conffiles").output().unwrap();
    assert_eq!(String::from_utf8_lossy(&output.stdout), expected);
    assert_eq!(told("rpm", &["-qp", "--configfiles"], &packages().rpm), expected);
    let flags =
        told("rpm", &["-qp", "--queryformat", "[%{FILENAMES} %{FILEFLAGS:fflags}\n]"], &packages().rpm);
    assert!(flags.contains("/etc/warden/policy.toml cn\n"), "{flags}");
}

#[test]
fn what_a_package_needs_is_no_more_than_it_uses() {
    let needs = told("dpkg-deb", &["--field"], &packages().deb);
    let needs = needs.lines().find_map(|line| line.strip_prefix("Depends: ")).unwrap();
    assert_eq!(
        needs,
        "dbus, init-system-helpers (>= 1.54), libc6 (>= 2.34), libgcc-s1, polkitd (>= 121), systemd (>= 250)"
    );
    let needs = told("rpm", &["-qp", "--requires"], &packages().rpm);
    for need in needs.lines().filter(|need| !need.starts_with("rpmlib(")) {
        let known = [
            "/bin/sh",
            "config(warden) = ",
            "dbus",
            "ld-linux",
            "libc.so.6",
            "libgcc_s.so.1",
            "libm.so.6",
            "polkit",
            "rtld(GNU_HASH)",
            "systemd >= 239",
        ];
        assert!(known.iter().any(|known| need.starts_with(known)), "{need}");
    }
    // The newest symbol version of glibc that the program asks for is the one the .deb names.
    let newest = needs.lines().filter_map(|need| need.split_once("GLIBC_2.")?.1.split(')').next());
    assert_eq!(newest.filter_map(|minor| minor.split('.').next()?.parse::<u32>().ok()).max(), Some(34));
}

#[test]
fn the_same_program_is_packed_to_the_same_bytes() {
    let first = packages();
    build();
    for (ending, first) in [("deb", &first.deb), ("rpm", &first.rpm)] {
        assert!(
            std::fs::read(made(ending)).unwrap() == std::fs::read(first).unwrap(),
            "the .{ending} differs"
        );
    }
}

#[test]
fn the_checkers_of_both_worlds_find_no_error_where_they_are_installed() {
    let checks: [(&str, &[&str], &Path); 2] = [
        ("lintian", &["--fail-on", "error", "--allow-root"], &packages().deb),
        ("rpmlint", &["--config", "packaging/rpm/rpmlint.toml"], &packages().rpm),
    ];
    for (program, arguments, package) in checks {
        let output = Command::new(program)
            .args(arguments)
            .arg(package)
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .output();
        match output {
            Ok(output) => assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout)),
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{program}"),
        }
    }
}

#[test]
fn every_verb_has_a_page_and_is_completed() {
    let page = Command::new(env!("CARGO_BIN_EXE_warden")).args(["man", "ctl", "restart"]).output().unwrap();
    assert!(String::from_utf8_lossy(&page.stdout).contains(".TH warden-ctl-restart 1"), "{page:?}");
    let help = Command::new(env!("CARGO_BIN_EXE_warden")).arg("--help").output().unwrap();
    let help = String::from_utf8(help.stdout).unwrap();
    let (verbs, _) = help.split_once("\nOptions:\n").unwrap();
    let verbs =
        verbs.lines().filter_map(|line| line.strip_prefix("  ")).filter(|line| !line.starts_with(' '));
    let verbs: Vec<&str> = verbs.map(|line| line.split(' ').next().unwrap()).collect();
    assert!(verbs.contains(&"ctl") && verbs.contains(&"snapshot"), "{verbs:?}");
    let pages = in_the_deb();
    for shell in ["bash", "zsh", "fish"] {
        let completions =
            Command::new(env!("CARGO_BIN_EXE_warden")).args(["completions", shell]).output().unwrap();
        let completions = String::from_utf8(completions.stdout).unwrap();
        for verb in &verbs {
            assert!(completions.contains(verb), "{shell}: {verb}");
        }
    }
    for verb in verbs.iter().filter(|verb| **verb != "help") {
        let page = format!("/usr/share/man/man1/warden-{verb}.1.gz");
        assert!(pages.iter().any(|(_, known)| *known == page), "{page}");
    }
}
