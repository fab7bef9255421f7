//! `warden inspect`: what is damaged is found and located, and nothing of a message comes out.

mod damage;
mod metadata;
mod remedies;
mod structure;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Output;
use std::time::Duration;

use serde_json::Value;
use warden::iggy::report::{Generation, Inspection, Mode, Problem, Verdict};
use warden::iggy::{Order, inspect};

use crate::support::segments::{Directory, PAYLOAD, index, log};

/// A batch of two messages: header, two frames, two payloads.
const BATCH: usize = 256 + 2 * (48 + PAYLOAD.len());
/// A message of 0.8.
const MESSAGE: usize = 64 + PAYLOAD.len();

/// Nobody writes to what is made here.
fn full(path: &Path) -> Inspection {
    inspect(Order { settle: Duration::ZERO, ..Order::new(path, Mode::Full) }, &|_| true).unwrap()
}

fn warden(arguments: &[&str], path: &Path) -> Output {
    std::process::Command::new(env!("CARGO_BIN_EXE_warden"))
        .arg("inspect")
        .args(arguments)
        .arg(path)
        .env_clear()
        .output()
        .unwrap()
}

/// The only problem there is.
fn only(inspection: &Inspection) -> &Problem {
    assert_eq!(inspection.problems.len(), 1, "{:#?}", inspection.problems);
    &inspection.problems[0]
}

fn kinds(inspection: &Inspection) -> Vec<&str> {
    inspection.problems.iter().map(|problem| problem.kind.as_ref()).collect()
}

#[test]
fn a_sound_directory_is_told_as_it_is() {
    let directory = Directory::edge();
    let output = warden(&["--json"], directory.path());
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(output.stderr, b"");
    let told: Value = serde_json::from_slice(&output.stdout).unwrap();
    assert_eq!((&told["version"], &told["verdict"]), (&1.into(), &"sound".into()));
    assert_eq!((&told["generation"], &told["problems"]), (&"0.9-edge".into(), &Value::Array(vec![])));
    assert_eq!(told["superblock"], serde_json::json!({"a": 5, "b": 6, "newest": "b"}));
    assert_eq!((&told["journal"]["entries"], &told["journal"]["last_operation"]), (&8.into(), &8.into()));
    assert_eq!((&told["totals"]["messages"], &told["totals"]["segments"]), (&14.into(), &2.into()));
    assert_eq!(told["scan"]["verified_bytes"], 7 * BATCH);
    assert_eq!(
        (&told["scan"]["verified_batches"], &told["scan"]["verified_messages"]),
        (&7.into(), &14.into())
    );
    let partition = &told["streams"][0]["topics"][0]["partitions"][0];
    assert_eq!((&partition["first_offset"], &partition["next_offset"]), (&0.into(), &14.into()));
    assert_eq!(partition["consumers"], serde_json::json!([{"id": "9", "offset": 4, "lag": 9}]));
    assert_eq!(partition["groups"], serde_json::json!([{"id": "0", "offset": 13, "lag": 0}]));
    assert_eq!(
        (&partition["segments"][0]["index_entries"], &partition["segments"][1]["start"]),
        (&2.into(), &8.into())
    );

    let text = String::from_utf8(warden(&["--scan", "full"], directory.path()).stdout).unwrap();
    for line in [
        "is sound\n",
        "written by 0.9-edge, 1 stream, 1 topic",
        "stream 1  \"orders\"\n  topic 2  \"created\"\n",
        "consumer 9  has read up to 4, 9 to go",
    ] {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

fn zipped(directory: &Directory, prefix: &str, method: zip::CompressionMethod, without: &str) -> Vec<u8> {
    let mut archive = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
    let options = zip::write::SimpleFileOptions::default().compression_method(method);
    for file in directory.files().iter().filter(|file| file.as_str() != without) {
        archive.start_file(format!("{prefix}{file}"), options).unwrap();
        archive.write_all(&directory.read(file)).unwrap();
    }
    archive.finish().unwrap().into_inner()
}

#[test]
fn an_archive_is_inspected_in_place_alone_or_in_a_bundle() {
    use zip::CompressionMethod::{Deflated, Stored};
    let folder = tempfile::tempdir().unwrap();
    let at = |name: &str, content: &[u8]| -> PathBuf {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        path
    };
    let directory = Directory::edge();
    let mut damaged = directory.read(&log(0));
    damaged[BATCH + 300] ^= 1;
    directory.write(&log(0), &damaged);
    let expected = "the message at offset 2 does not fit its checksum, in batch 1 at byte 398";

    let deflated = zipped(&directory, "", Deflated, "");
    for (name, content) in [
        ("iggy.zip", deflated.clone()),
        ("stored.zip", zipped(&directory, "", Stored, "")),
        ("prefixed.zip", zipped(&directory, "local_data/", Deflated, "")),
    ] {
        let seen = full(&at(name, &content));
        assert_eq!((only(&seen).text.as_str(), seen.totals.messages), (expected, 14), "{name}");
        assert_eq!(seen.generation, Generation::Edge);
    }
    for (method, ok) in [(Stored, true), (Deflated, false)] {
        let mut bundle = zip::ZipWriter::new(std::io::Cursor::new(Vec::new()));
        let options = zip::write::SimpleFileOptions::default().compression_method(method);
        for (name, content) in [("report.html", &b"page"[..]), ("iggy.zip", &deflated)] {
            bundle.start_file(name, options).unwrap();
            bundle.write_all(content).unwrap();
        }
        let path = at("bundle.zip", &bundle.finish().unwrap().into_inner());
        match inspect(Order::new(&path, Mode::Full), &|_| true) {
            Ok(seen) => assert_eq!((only(&seen).text.as_str(), ok), (expected, true)),
            Err(error) => {
                assert!(error.to_string().starts_with("iggy.zip is compressed within the bundle: unpack it"));
                assert!(!ok);
            }
        }
    }
    let partial = full(&at("partial.zip", &zipped(&directory, "", Deflated, &log(0))));
    assert_eq!((kinds(&partial), partial.verdict), (vec!["log-left-out"], Verdict::Sound));
}

#[test]
fn the_exit_status_tells_sound_from_damaged_from_could_not_run() {
    let directory = Directory::edge();
    let code = |path: &Path| warden(&["--scan", "full"], path).status.code();
    assert_eq!(code(directory.path()), Some(0));
    assert_eq!(directory.changed(&log(0), |bytes| bytes[300] ^= 1, || code(directory.path())), Some(1));
    let empty = tempfile::tempdir().unwrap();
    std::fs::write(empty.path().join("a.zip"), b"no archive").unwrap();
    for (path, message) in [
        (
            empty.path().to_owned(),
            "is no data directory of Iggy: it holds neither streams/ nor metadata/ nor state/",
        ),
        (empty.path().join("a.zip"), "is neither a folder nor a ZIP archive that can be read"),
        (empty.path().join("nowhere"), "No such file or directory"),
    ] {
        let output = warden(&[], &path);
        assert_eq!(output.status.code(), Some(2));
        assert!(String::from_utf8(output.stderr).unwrap().contains(message), "{message}");
    }
}

#[test]
fn a_scan_that_is_stopped_tells_what_it_found_until_then() {
    let directory = Directory::edge();
    let (sealed, sealed_index) = (directory.read(&log(0)), directory.read(&index(0)));
    // More than the two that are looked into at a time: what is begun when it is stopped is looked into to its end.
    const MORE: u64 = 14;
    for number in 1..=MORE {
        directory.write(&log(8 * number + 8), &sealed);
        directory.write(&index(8 * number + 8), &sealed_index);
    }
    let seen = inspect(Order::new(directory.path(), Mode::Full), &|_| false).unwrap();
    assert!(seen.scan.was_cancelled);
    let left_behind = seen.scan.segments_left_behind;
    assert!((MORE..2 + MORE).contains(&left_behind), "{left_behind}");
    assert_eq!(seen.totals.segments, 2 + MORE);
    assert!(seen.scan.verified_bytes < seen.scan.bytes, "{:?}", seen.scan);
}

/// The folder in `WARDEN_IGGY_DATA` holds data directories of real servers, as tar archives packed by zstd.
#[test]
#[ignore = "needs WARDEN_IGGY_DATA: a folder with data directories of real servers"]
fn data_of_real_servers_is_sound_until_it_is_damaged() {
    let folder = std::env::var_os("WARDEN_IGGY_DATA").expect("WARDEN_IGGY_DATA names the folder");
    for (archive, inside, messages, segment, damage) in [
        (
            "data-0.9-edge.tar.zst",
            "iggy-0.9",
            22_213,
            "streams/0/topics/0/partitions/0/00000000000000001600.log",
            1604,
        ),
        (
            "data-0.8.0.tar.zst",
            "iggy-0.8",
            12_000,
            "streams/0/topics/0/partitions/0/00000000000000000000.log",
            3,
        ),
    ] {
        let unpacked = tempfile::tempdir().unwrap();
        let tar = std::process::Command::new("tar")
            .args(["--zstd", "-xf"])
            .arg(Path::new(&folder).join(archive))
            .arg("-C")
            .arg(unpacked.path())
            .status();
        assert!(tar.unwrap().success(), "{archive}");
        let root = unpacked.path().join(inside);
        let sound = full(&root);
        assert_eq!(
            (sound.verdict, sound.problems.len(), sound.totals.messages),
            (Verdict::Sound, 0, messages)
        );
        assert_eq!(sound.scan.verified_bytes, sound.totals.log_bytes);

        let mut bytes = std::fs::read(root.join(segment)).unwrap();
        bytes[4000..4064].fill(0x5a);
        std::fs::write(root.join(segment), bytes).unwrap();
        let seen = full(&root);
        let at = only(&seen).at.as_ref().unwrap();
        assert_eq!((only(&seen).file.as_str(), at.offset), (segment, Some(damage)), "{:#?}", seen.problems);
    }
}
