//! Whoever can name a secret on the host should not have a bundle refused: words of our own documents and of the host are
//! masked where they stand, or are no secrets.

use std::collections::BTreeSet;
use std::io::Cursor;

use warden::redact::Shape;
use warden::snapshot::bundle::Bundle;
use warden::snapshot::second_scan::SecondScan;

use crate::hosts::{all, replay};

/// Longest piece of a document that is named as a secret.
const LONGEST: usize = 120;

/// Words of a document, and lines of the manifest, the shortest one.
fn pieces(path: &str, text: &str) -> BTreeSet<String> {
    let part = |letter: char| letter.is_alphanumeric() || "_-./:".contains(letter);
    let words = text.split(|letter| !part(letter));
    let lines = text.lines().filter(|_| path == "manifest.json");
    let lines = lines.flat_map(|line| [line, line.trim(), line.trim_matches(|letter| !part(letter))]);
    let fits = |piece: &&str| (6..=LONGEST).contains(&piece.len()) && !piece.contains('\0');
    words.chain(lines).filter(fits).map(str::to_owned).collect()
}

#[test]
fn no_word_of_a_bundle_named_as_a_secret_stops_the_bundle() {
    let host = &all()["healthy-debian"];
    let plain = Bundle::new(&replay(host)).unwrap();
    let mut named = BTreeSet::new();
    for path in ["report.html", "report.json", "manifest.json"] {
        named.extend(pieces(path, std::str::from_utf8(plain.file(path).unwrap()).unwrap()));
    }
    for name in [
        "iggy-server",
        "manifest",
        "manifest.json",
        "host/proc",
        "outcome",
        "second_scan",
        "true",
        "iggy.zip",
    ] {
        named.insert(name.to_owned());
    }
    assert!(named.len() > 1000, "{}", named.len());
    // Many at a time, for each has the search built anew.
    let named: Vec<String> = named.into_iter().collect();
    for some in named.chunks(1500) {
        let snapshot = replay(host);
        let environment: String =
            some.iter().enumerate().map(|(number, value)| format!("N{number}_PASSWORD={value}\0")).collect();
        let masked = snapshot.redactor.redact(Shape::Environ, &environment).into_owned();
        assert!(masked.contains("[secret:password:"), "{masked}");
        let bundle = Bundle::new(&snapshot).unwrap_or_else(|error| panic!("{error:#}: one of {some:?}"));
        let scan = SecondScan { redactor: &snapshot.redactor, anonymizer: None, iggy_as_it_is: false };
        scan.archive(Cursor::new(bundle.zip().unwrap())).unwrap_or_else(|error| panic!("{error:#}"));
    }
}

#[test]
fn a_checksum_of_a_bundle_named_as_a_secret_does_not_stop_it() {
    let host = &all()["healthy-debian"];
    let manifest = Bundle::new(&replay(host)).unwrap().file("manifest.json").unwrap().to_vec();
    let manifest: serde_json::Value = serde_json::from_slice(&manifest).unwrap();
    let snapshot = replay(host);
    for file in manifest["files"].as_array().unwrap() {
        snapshot.redactor.redact(Shape::Log, &format!("password={}", file["sha256"].as_str().unwrap()));
    }
    Bundle::new(&snapshot).unwrap();
}

#[test]
fn a_secret_in_a_report_is_still_found_by_the_second_scan() {
    let host = &all()["healthy-debian"];
    let plain = Bundle::new(&replay(host)).unwrap();
    let name = serde_json::from_slice::<serde_json::Value>(plain.file("report.json").unwrap()).unwrap();
    let name = name["host"]["name"].as_str().unwrap().to_owned();
    let snapshot = replay(host);
    snapshot.redactor.redact(Shape::Environ, &format!("SOME_PASSWORD={name}\0"));
    let scan = SecondScan { redactor: &snapshot.redactor, anonymizer: None, iggy_as_it_is: false };
    for (path, found) in [("report.json", true), ("report.html", true), ("manifest.json", true)] {
        assert_eq!(scan.file(path, plain.file(path).unwrap()).is_err(), found, "{path}");
    }
    let masked = Bundle::new(&snapshot).unwrap();
    assert!(scan.archive(Cursor::new(masked.zip().unwrap())).is_ok());
}
