//! `warden verify` on real bundles: whole ones, signed ones, and ones that somebody touched.

use std::io::{Cursor, Read, Write};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use serde_json::Value;
use zip::write::SimpleFileOptions;

fn run(program: &str, arguments: &[&str], folder: &Path) -> Output {
    let path = std::env::var_os("PATH").unwrap_or_default();
    Command::new(program).args(arguments).env_clear().env("PATH", path).current_dir(folder).output().unwrap()
}

fn warden(arguments: &[&str], folder: &Path) -> Output {
    run(env!("CARGO_BIN_EXE_warden"), arguments, folder)
}

fn openssl(arguments: &[&str], folder: &Path) -> Output {
    let output = run("openssl", arguments, folder);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    output
}

/// A folder with `plain.zip`, `signed.zip`, and two key pairs of openssl: `ours` and `other`.
struct Room(tempfile::TempDir);

impl Room {
    fn new() -> Room {
        let room = Room(tempfile::tempdir().unwrap());
        for name in ["ours", "other"] {
            let (key, public) = (format!("{name}.pem"), format!("{name}.pub.pem"));
            openssl(&["genpkey", "-algorithm", "ed25519", "-out", &key], room.path());
            openssl(&["pkey", "-in", &key, "-pubout", "-out", &public], room.path());
        }
        let host = format!("{}/tests/hosts/healthy-debian", env!("CARGO_MANIFEST_DIR"));
        for more in [&["-o", "plain.zip"][..], &["-o", "signed.zip", "--sign", "ours.pem"]] {
            let arguments = [&["snapshot", "--host", &host, "--fail-on=never"], more].concat();
            let output = warden(&arguments, room.path());
            assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        }
        room
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    /// Exit code and what `warden verify --json` told.
    fn verify(&self, arguments: &[&str]) -> (i32, Value) {
        let output = warden(&[&["verify", "--json"], arguments].concat(), self.path());
        let told = serde_json::from_slice(&output.stdout);
        (output.status.code().unwrap(), told.unwrap_or_else(|_| panic!("{output:?}")))
    }

    fn problems(&self, file: &str) -> Vec<String> {
        let (code, told) = self.verify(&[file]);
        assert_eq!(
            (code, &told["good"], &told["whole"]),
            (1, &Value::Bool(false), &Value::Bool(false)),
            "{told:#}"
        );
        told["problems"].as_array().unwrap().iter().map(|text| text.as_str().unwrap().to_owned()).collect()
    }

    fn files(&self, name: &str) -> Vec<(String, Vec<u8>)> {
        let mut archive = zip::ZipArchive::new(std::fs::File::open(self.path().join(name)).unwrap()).unwrap();
        let count = archive.len();
        let read = |index| {
            let mut entry = archive.by_index(index).unwrap();
            let mut content = Vec::new();
            entry.read_to_end(&mut content).unwrap();
            (entry.name().unwrap().into_owned(), content)
        };
        (0..count).map(read).collect()
    }

    /// Writes `files` as a new archive.
    fn zip(&self, name: &str, files: &[(String, Vec<u8>)]) -> PathBuf {
        let mut archive = zip::ZipWriter::new(Cursor::new(Vec::new()));
        for (path, content) in files {
            archive.start_file(path.as_str(), SimpleFileOptions::default()).unwrap();
            archive.write_all(content).unwrap();
        }
        let path = self.path().join(name);
        std::fs::write(&path, archive.finish().unwrap().into_inner()).unwrap();
        path
    }
}

#[test]
fn a_bundle_as_it_was_written_is_whole_and_said_to_be_unsigned() {
    let room = Room::new();
    let (code, told) = room.verify(&["plain.zip"]);
    assert_eq!((code, &told["whole"], &told["problems"]), (0, &Value::Bool(true), &serde_json::json!([])));
    assert_eq!(told["signature"], serde_json::json!({ "is": "unsigned" }));
    assert_eq!(told["files"], room.files("plain.zip").len());
    let shown = String::from_utf8(warden(&["verify", "plain.zip"], room.path()).stdout).unwrap();
    assert!(shown.starts_with("whole: plain.zip, "), "{shown}");
    assert!(shown.ends_with("unsigned: nothing shows who wrote it\n"), "{shown}");
    let (code, told) = room.verify(&["plain.zip", "--key", "ours.pub.pem"]);
    assert_eq!((code, &told["whole"]), (1, &Value::Bool(true)), "with a key, a signature is asked for");
}

#[test]
fn a_signature_is_told_with_the_key_that_made_it() {
    let room = Room::new();
    let fingerprint = room.path().join("der");
    openssl(&["pkey", "-pubin", "-in", "ours.pub.pem", "-outform", "DER", "-out", "der"], room.path());
    let sum = run("sha256sum", &[fingerprint.to_str().unwrap()], room.path());
    let fingerprint = String::from_utf8(sum.stdout).unwrap()[..64].to_owned();

    let (code, told) = room.verify(&["signed.zip", "--key", "other.pub.pem", "--key", "ours.pub.pem"]);
    assert_eq!(code, 0);
    let known = serde_json::json!({ "is": "known", "fingerprint": fingerprint, "by": "ours.pub.pem" });
    assert_eq!(told["signature"], known);
    let (code, told) = room.verify(&["signed.zip"]);
    assert_eq!((code, told["signature"]["is"].as_str()), (0, Some("unknown")));
    let (code, told) = room.verify(&["signed.zip", "--key", "other.pub.pem"]);
    assert_eq!((code, told["signature"]["is"].as_str()), (1, Some("unknown")), "signed, but by a stranger");
    let shown = warden(&["verify", "signed.zip", "--key", "ours.pub.pem"], room.path()).stdout;
    let shown = String::from_utf8(shown).unwrap();
    assert!(shown.ends_with(&format!("signed by ours.pub.pem ({fingerprint})\n")), "{shown}");
}

#[test]
fn openssl_finds_our_signature_good_and_we_find_the_one_of_openssl_good() {
    let room = Room::new();
    let mut files = room.files("signed.zip");
    let of = |name: &str| files.iter().position(|(path, _)| path == name).unwrap();
    let (manifest, signature) = (of("manifest.json"), of("manifest.sig"));
    for at in [manifest, signature] {
        std::fs::write(room.path().join(&files[at].0), &files[at].1).unwrap();
    }
    let verified = openssl(
        &[
            "pkeyutl",
            "-verify",
            "-pubin",
            "-inkey",
            "ours.pub.pem",
            "-rawin",
            "-in",
            "manifest.json",
            "-sigfile",
            "manifest.sig",
        ],
        room.path(),
    );
    assert_eq!(String::from_utf8_lossy(&verified.stdout), "Signature Verified Successfully\n");

    openssl(
        &["pkeyutl", "-sign", "-inkey", "ours.pem", "-rawin", "-in", "manifest.json", "-out", "theirs.sig"],
        room.path(),
    );
    files[signature].1 = std::fs::read(room.path().join("theirs.sig")).unwrap();
    room.zip("resigned.zip", &files);
    let (code, told) = room.verify(&["resigned.zip", "--key", "ours.pub.pem"]);
    assert_eq!((code, told["signature"]["is"].as_str()), (0, Some("known")), "{told:#}");
}

#[test]
fn whatever_is_changed_added_or_taken_away_is_named() {
    let room = Room::new();
    let files = room.files("plain.zip");
    let at = files.iter().position(|(path, _)| path == "host/etc/os-release").unwrap();

    let mut changed = files.clone();
    changed[at].1[0] ^= 1;
    room.zip("x.zip", &changed);
    let name = "host/etc/os-release";
    assert_eq!(room.problems("x.zip"), [format!("{name} was changed: its content has another SHA-256")]);

    let size = files[at].1.len();
    changed[at].1.push(b'x');
    room.zip("x.zip", &changed);
    let longer = format!("{name} holds more than the {size} bytes that the manifest says");
    assert_eq!(room.problems("x.zip"), [longer]);
    changed[at].1.truncate(3);
    room.zip("x.zip", &changed);
    let shorter = format!("{name} holds 3 bytes instead of the {size} bytes that the manifest says");
    assert_eq!(room.problems("x.zip"), [shorter]);

    let mut less = files.clone();
    less.remove(at);
    room.zip("x.zip", &less);
    assert_eq!(room.problems("x.zip"), [format!("{name} is missing")]);

    let mut more = files.clone();
    more.push(("host/etc/extra".to_owned(), b"x".to_vec()));
    room.zip("x.zip", &more);
    let extra = "host/etc/extra is in the archive, and the manifest does not list it";
    assert_eq!(room.problems("x.zip"), [extra]);
    more.last_mut().unwrap().0 = "../../etc/cron.d/x".to_owned();
    room.zip("x.zip", &more);
    assert_eq!(room.problems("x.zip"), ["`../../etc/cron.d/x` is in the archive, and is no safe path"]);

    let mut none = files;
    none.retain(|(path, _)| path != "manifest.json");
    room.zip("x.zip", &none);
    assert_eq!(room.problems("x.zip"), ["there is no manifest.json in it: this is no bundle"]);
}

#[test]
fn a_manifest_that_was_changed_with_the_file_is_betrayed_by_the_signature() {
    let room = Room::new();
    let mut files = room.files("signed.zip");
    let at = files.iter().position(|(path, _)| path == "host/etc/os-release").unwrap();
    let sum = |content: &[u8]| {
        std::fs::write(room.path().join("sum"), content).unwrap();
        String::from_utf8(run("sha256sum", &["sum"], room.path()).stdout).unwrap()[..64].to_owned()
    };
    let before = sum(&files[at].1);
    files[at].1[0] ^= 1;
    let after = sum(&files[at].1);
    let manifest = files.iter_mut().find(|(path, _)| path == "manifest.json").unwrap();
    manifest.1 = String::from_utf8(manifest.1.clone()).unwrap().replace(&before, &after).into_bytes();
    room.zip("x.zip", &files);
    let (code, told) = room.verify(&["x.zip"]);
    assert_eq!((code, &told["whole"]), (1, &Value::Bool(true)));
    assert_eq!(told["signature"]["reason"], "it does not fit the manifest: one of them was changed");

    files.retain(|(path, _)| path != "manifest.sig");
    room.zip("x.zip", &files);
    let (code, told) = room.verify(&["x.zip"]);
    assert_eq!(code, 1);
    assert_eq!(told["signature"]["reason"], "the manifest names who signed it, and the signature is gone");
}

#[test]
fn an_archive_that_is_cut_or_carries_more_than_its_files_is_not_whole() {
    let room = Room::new();
    let whole = std::fs::read(room.path().join("plain.zip")).unwrap();
    for cut in [0, 1, 21, whole.len() / 2, whole.len() - 1] {
        std::fs::write(room.path().join("x.zip"), &whole[..cut]).unwrap();
        let problems = room.problems("x.zip");
        assert!(problems[0].starts_with("this is no whole ZIP archive: "), "{cut}: {problems:?}");
    }
    for (content, expected) in [
        (
            [b"#!/bin/sh\n", &whole[..]].concat(),
            "10 bytes before its first file or its end belong to no file",
        ),
        ([&whole[..], b"rm -rf"].concat(), "6 bytes behind its end belong to no file"),
    ] {
        std::fs::write(room.path().join("x.zip"), content).unwrap();
        assert_eq!(room.problems("x.zip"), [format!("this is no whole ZIP archive: {expected}")]);
    }
    let mut damaged = whole.clone();
    // Inside the content of the first file, the page.
    damaged[2000] ^= 0x55;
    std::fs::write(room.path().join("x.zip"), damaged).unwrap();
    let problems = room.problems("x.zip");
    assert!(problems.len() == 1 && problems[0].starts_with("report.html "), "{problems:?}");
}

#[test]
fn two_files_of_one_name_are_refused() {
    let room = Room::new();
    let mut files = room.files("plain.zip");
    let twin = files[0].0.replace("report", "rePort");
    files.push((twin.clone(), b"evil".to_vec()));
    let path = room.zip("x.zip", &files);
    let renamed: Vec<u8> = replace(&std::fs::read(&path).unwrap(), twin.as_bytes(), b"report.html");
    std::fs::write(path, renamed).unwrap();
    let problems = room.problems("x.zip");
    assert!(problems[0].contains("duplicate file names"), "{problems:?}");
}

fn replace(content: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut content = content.to_vec();
    for at in 0..content.len() - from.len() {
        if &content[at..at + from.len()] == from {
            content[at..at + from.len()].copy_from_slice(to);
        }
    }
    content
}

#[test]
fn a_bomb_is_read_no_further_than_its_manifest_says_and_in_little_memory() {
    let room = Room::new();
    let mut files = room.files("plain.zip");
    let at = files.iter().position(|(path, _)| path == "host/etc/os-release").unwrap();
    let size = files[at].1.len();
    files[at].1 = vec![0; 1 << 30];
    let bomb = room.zip("bomb.zip", &files);
    drop(files);
    assert!(bomb.metadata().unwrap().len() < 4 << 20);
    // 96 MiB of address space: the content would not fit eleven times.
    let limited = format!("ulimit -v 98304; exec {} verify bomb.zip", env!("CARGO_BIN_EXE_warden"));
    let output = run("sh", &["-c", &limited], room.path());
    assert_eq!(output.status.code(), Some(1), "{}", String::from_utf8_lossy(&output.stderr));
    let shown = String::from_utf8(output.stdout).unwrap();
    let expected = format!("host/etc/os-release holds more than the {size} bytes that the manifest says");
    assert!(shown.contains(&expected), "{shown}");
}

#[test]
fn a_manifest_full_of_control_characters_cannot_drive_the_terminal() {
    let room = Room::new();
    let mut files = room.files("plain.zip");
    files.push(("host/\u{1b}]0;title\u{7}\u{202e}x".to_owned(), b"x".to_vec()));
    room.zip("x.zip", &files);
    let shown = warden(&["verify", "x.zip"], room.path()).stdout;
    assert!(!shown.contains(&0x1b) && !shown.contains(&7), "{}", String::from_utf8_lossy(&shown));
}

#[test]
fn what_cannot_be_told_says_why_and_exits_with_2() {
    let room = Room::new();
    std::fs::write(room.path().join("new.zip"), "").unwrap();
    let mut files = room.files("plain.zip");
    let manifest = files.iter_mut().find(|(path, _)| path == "manifest.json").unwrap();
    manifest.1 =
        String::from_utf8(manifest.1.clone()).unwrap().replacen("\"version\": 1", "\"version\": 9", 1).into();
    room.zip("new.zip", &files);
    let snapshot = ["snapshot", "--only=cpu-load", "-o"];
    for (arguments, message) in [
        (vec!["verify", "nowhere.zip"], "error: cannot open nowhere.zip: No such file or directory"),
        (vec!["verify", "."], "error: . is no file; give a bundle as `warden snapshot` writes it"),
        (vec!["verify", "new.zip"], "error: cannot read new.zip: the manifest is of version 9"),
        (
            vec!["verify", "plain.zip", "--key", "ours.pem"],
            "error: cannot take ours.pem as a key: this is a private key, which must stay where it signs",
        ),
        (
            [&snapshot[..], &["x.zip", "--sign", "ours.pub.pem"]].concat(),
            "error: cannot sign with ours.pub.pem: this is the public half; signing needs the private key",
        ),
        (
            [&snapshot[..], &["x.html", "--sign", "ours.pem"]].concat(),
            "error: only a whole bundle is signed; leave --sign out, or write a .zip",
        ),
    ] {
        let output = warden(&arguments, room.path());
        let told = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(2), "{arguments:?} {told}");
        assert!(told.starts_with(message), "{told}");
    }
}
