//! `warden inspect`: what is damaged is found and located, and nothing of a message comes out.

use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};
use std::process::Output;

use serde_json::Value;
use warden::iggy::report::{Generation, Inspection, Mode, Problem, Severity, Verdict};
use warden::iggy::{Order, inspect};

use crate::support::segments::{
    Directory, PARTITION, PAYLOAD, batch, index, index_entry, journal, log, offset_record, superblock,
};

/// A batch of two messages: header, two frames, two payloads.
const BATCH: usize = 256 + 2 * (48 + PAYLOAD.len());
/// A message of 0.8.
const MESSAGE: usize = 64 + PAYLOAD.len();

fn full(path: &Path) -> Inspection {
    inspect(Order { path, mode: Mode::Full }, &|_| true).unwrap()
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

fn kinds(inspection: &Inspection) -> Vec<&'static str> {
    inspection.problems.iter().map(|problem| problem.kind).collect()
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
    assert_eq!((&told["journal"]["entries"], &told["journal"]["last_operation"]), (&3.into(), &3.into()));
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
    for line in
        ["is sound\n", "written by 0.9-edge, 1 stream, 1 topic", "consumer 9  has read up to 4, 9 to go"]
    {
        assert!(text.contains(line), "{line}\n{text}");
    }
}

#[test]
fn every_flipped_bit_of_a_batch_is_found_in_its_place() {
    let directory = Directory::edge();
    // One within a sealed segment, and the last of all, behind which nothing tells where it ends.
    for (start, number) in [(0, 1), (8, 2)] {
        let path = log(start);
        for bit in number * BATCH * 8..(number + 1) * BATCH * 8 {
            let seen =
                directory.changed(&path, |bytes| bytes[bit / 8] ^= 1 << (bit % 8), || full(directory.path()));
            let batch = bit / 8 / BATCH;
            assert_eq!(seen.verdict, Verdict::Damaged, "bit {bit} of {path}");
            let found = seen.problems.iter().find(|problem| {
                let at = problem.at.as_ref();
                problem.file == path && at.is_some_and(|at| at.position == (batch * BATCH) as u64)
            });
            let at = found
                .unwrap_or_else(|| panic!("bit {bit} of {path}: {:#?}", seen.problems))
                .at
                .as_ref()
                .unwrap();
            assert_eq!(at.batch, Some(batch as u64), "bit {bit} of {path}");
            let others = seen.problems.iter().filter_map(|problem| problem.at.as_ref()).count();
            assert_eq!(others, 1, "bit {bit} of {path}: {:#?}", seen.problems);
            // Within a frame, the message is named too, unless it is its length that changed.
            let in_batch = bit / 8 % BATCH;
            let frame = (in_batch >= 256).then(|| (in_batch - 256) / (48 + PAYLOAD.len()));
            if let Some(message) = frame {
                assert_eq!(at.offset, Some(start + 2 * batch as u64 + message as u64), "bit {bit} of {path}");
            }
        }
    }
}

#[test]
fn every_flipped_bit_of_an_old_message_is_found_in_its_place() {
    let directory = Directory::old();
    for bit in 4 * MESSAGE * 8..6 * MESSAGE * 8 {
        let seen =
            directory.changed(&log(0), |bytes| bytes[bit / 8] ^= 1 << (bit % 8), || full(directory.path()));
        let message = (bit / 8 / MESSAGE) as u64;
        let places: Vec<_> = seen
            .problems
            .iter()
            .filter_map(|problem| problem.at.as_ref())
            .map(|at| (at.position, at.offset))
            .collect();
        let position = message * MESSAGE as u64;
        assert_eq!(places, [(position, Some(message))], "bit {bit}: {:#?}", seen.problems);
        assert_eq!(seen.verdict, Verdict::Damaged);
    }
}

#[test]
fn a_log_cut_anywhere_is_torn_there_and_never_a_panic() {
    let directory = Directory::edge();
    let whole = directory.read(&log(8)).len();
    for length in 0..whole {
        let seen = directory.changed(&log(8), |bytes| bytes.truncate(length), || full(directory.path()));
        let rest = length % BATCH;
        let torn = seen
            .problems
            .iter()
            .any(|problem| problem.kind == "torn-tail" && problem.severity == Severity::Note);
        assert_eq!(torn, rest != 0, "{length}: {:#?}", seen.problems);
        // The index leads to the third batch.
        let index_behind = length < 2 * BATCH + BATCH;
        assert_eq!(seen.verdict == Verdict::Damaged, index_behind, "{length}: {:#?}", seen.problems);
        let segment = &seen.streams[0].topics[0].partitions[0].segments[1];
        assert_eq!(segment.torn_bytes, rest as u64, "{length}");
    }
    for length in 0..directory.read(&log(0)).len() {
        let seen = directory.changed(&log(0), |bytes| bytes.truncate(length), || full(directory.path()));
        assert_eq!(seen.verdict, Verdict::Damaged, "a sealed segment cut at {length}");
    }
}

#[test]
fn the_torn_end_of_the_newest_segment_is_a_note_and_no_damage() {
    let directory = Directory::edge();
    let next = batch(3, 14, &[PAYLOAD]);
    for length in 1..next.len() {
        let add = |bytes: &mut Vec<u8>| bytes.extend(&next[..length]);
        let seen = directory.changed(&log(8), add, || full(directory.path()));
        assert_eq!((only(&seen).kind, seen.verdict), ("torn-tail", Verdict::Sound), "{length}");
        assert_eq!(seen.streams[0].topics[0].partitions[0].next_offset, Some(14));
    }
}

#[test]
fn every_other_file_cut_or_flipped_anywhere_is_never_a_panic() {
    for directory in [Directory::edge(), Directory::old()] {
        for file in directory.files().iter().filter(|file| !file.ends_with(".log")) {
            let length = directory.read(file).len();
            for at in 0..length {
                directory.changed(file, |bytes| bytes.truncate(at), || full(directory.path()));
                directory.changed(file, |bytes| bytes[at] ^= 0x80, || full(directory.path()));
            }
        }
    }
}

#[test]
fn noise_in_any_file_is_never_a_panic() {
    let directory = Directory::edge();
    let files = directory.files();
    let mut seed = 0x9e37_79b9_7f4a_7c15u64;
    let mut random = || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed as usize
    };
    for _ in 0..500 {
        let file = &files[random() % files.len()];
        let noise = |bytes: &mut Vec<u8>| {
            for _ in 0..1 + random() % 64 {
                let length = bytes.len().max(1);
                match bytes.get_mut(random() % length) {
                    Some(byte) => *byte = random() as u8,
                    None => bytes.push(random() as u8),
                }
            }
        };
        directory.changed(file, noise, || full(directory.path()));
    }
}

#[test]
fn reading_goes_on_behind_damage_and_says_what_was_lost() {
    let directory = Directory::edge();
    let noise = |bytes: &mut Vec<u8>| bytes[BATCH..BATCH + 200].fill(0xa5);
    let seen = directory.changed(&log(0), noise, || full(directory.path()));
    let problem = seen.problems.iter().find(|problem| problem.at.is_some()).unwrap();
    let at = problem.at.as_ref().unwrap();
    assert_eq!(
        (problem.kind, at.position, at.bytes),
        ("damaged-batch-header", BATCH as u64, Some(BATCH as u64))
    );
    assert_eq!((at.batch, at.offset, at.messages), (Some(1), Some(2), Some(2)));
    assert_eq!(seen.scan.verified_messages, 12, "the batches behind it were read");
    assert!(problem.advice.starts_with("Copy the data directory aside before the server is restarted"));
}

#[test]
fn a_length_that_lies_is_damage_of_the_header() {
    let directory = Directory::edge();
    for length in [256 + 50, BATCH - 1, BATCH + 1, BATCH + 100, 1 << 40] {
        let lie = |bytes: &mut Vec<u8>| {
            bytes[BATCH + 32..BATCH + 40].copy_from_slice(&(length as u64).to_le_bytes())
        };
        let seen = directory.changed(&log(0), lie, || full(directory.path()));
        let told =
            "the header of batch 1 at byte 398 is damaged; its messages begin with offset 2 (2 messages)";
        assert_eq!(only(&seen).text, told, "{length}");
    }
}

#[test]
fn two_damaged_messages_in_two_batches_are_two_problems() {
    let directory = Directory::edge();
    let two = |bytes: &mut Vec<u8>| {
        bytes[256 + 60] ^= 1;
        bytes[3 * BATCH + 256 + 48 + PAYLOAD.len() + 60] ^= 1;
    };
    let seen = directory.changed(&log(0), two, || full(directory.path()));
    let texts: Vec<_> = seen.problems.iter().map(|problem| problem.text.as_str()).collect();
    assert_eq!(
        texts,
        [
            "the message at offset 0 does not fit its checksum, in batch 0 at byte 0",
            "the message at offset 7 does not fit its checksum, in batch 3 at byte 1194",
        ]
    );
}

#[test]
fn zeros_set_aside_end_the_log_and_zeros_in_its_middle_are_damage() {
    let directory = Directory::edge();
    let ahead = |bytes: &mut Vec<u8>| bytes.resize(bytes.len() + 3_000_000, 0);
    let seen = directory.changed(&log(8), ahead, || full(directory.path()));
    assert_eq!((seen.verdict, seen.problems.len()), (Verdict::Sound, 0));
    assert_eq!(seen.streams[0].topics[0].partitions[0].segments[1].preallocated_bytes, 3_000_000);

    let hole = |bytes: &mut Vec<u8>| bytes[BATCH..2 * BATCH].fill(0);
    let seen = directory.changed(&log(8), hole, || full(directory.path()));
    let at = only(&seen).at.as_ref().unwrap();
    assert_eq!(
        (only(&seen).kind, at.position, at.offset, at.messages),
        ("zeros", BATCH as u64, Some(10), Some(2))
    );
}

#[test]
fn index_and_log_that_do_not_fit_are_named() {
    let directory = Directory::edge();
    let cases: [(&str, Vec<u8>); 5] = [
        ("index-start", index_entry(8, BATCH as u64)),
        ("index-order", [index_entry(8, 0), index_entry(8, BATCH as u64)].concat()),
        ("index-behind-log", [index_entry(8, 0), index_entry(10, 1 << 40)].concat()),
        ("index-astray", [index_entry(8, 0), index_entry(12, BATCH as u64)].concat()),
        ("torn-index", [index_entry(8, 0), vec![1; 5]].concat()),
    ];
    for mode in [Mode::Full, Mode::Sampled, Mode::None] {
        for (kind, content) in &cases {
            let look = || inspect(Order { path: directory.path(), mode }, &|_| true).unwrap();
            let seen = directory.changed(&index(8), |bytes| bytes.clone_from(content), look);
            assert_eq!((only(&seen).kind, only(&seen).file.as_str()), (*kind, index(8).as_str()), "{mode:?}");
        }
    }
}

#[test]
fn what_is_missing_between_and_beside_segments_is_named() {
    let directory = Directory::edge();
    let seen = directory.changed(&log(0), |bytes| bytes.truncate(3 * BATCH), || full(directory.path()));
    assert_eq!(
        only(&seen).text,
        "it ends before offset 6 and the next segment begins at 8: 2 messages are missing"
    );
    let emptied = directory.changed(&index(0), Vec::clear, || full(directory.path()));
    assert_eq!(
        (only(&emptied).kind, emptied.verdict),
        ("empty-index", Verdict::Sound),
        "the server walks the log"
    );
    std::fs::remove_file(directory.file(&index(0))).unwrap();
    assert_eq!((only(&full(directory.path())).kind), "log-without-index");
    std::fs::remove_file(directory.file(&log(0))).unwrap();
    assert_eq!(full(directory.path()).verdict, Verdict::Sound, "retention removes the oldest segments");
    std::fs::remove_file(directory.file(&log(8))).unwrap();
    assert_eq!(kinds(&full(directory.path())), ["index-without-log"]);
    directory.write(&log(8), b"");
    directory.write(&index(8), b"");
    let seen = full(directory.path());
    assert_eq!((seen.problems.len(), seen.streams[0].topics[0].partitions[0].next_offset), (1, Some(8)));
    directory.write(&log(20), &batch(3, 20, &[PAYLOAD]));
    directory.write(&index(20), &index_entry(20, 0));
    assert_eq!(kinds(&full(directory.path()))[0], "empty-segment");
}

#[test]
fn offsets_of_consumers_are_held_against_their_checksum_and_the_log() {
    let directory = Directory::edge();
    let file = format!("{PARTITION}/offsets/consumers/9");
    let cases = [
        ("torn-offset", Severity::Warning, vec![1, 2, 3]),
        (
            "damaged-offset",
            Severity::Damage,
            [offset_record(4), vec![]].concat().iter().map(|byte| byte ^ 1).collect(),
        ),
        ("long-offset", Severity::Warning, [offset_record(4), vec![0]].concat()),
        ("offset-behind-log", Severity::Note, offset_record(14)),
    ];
    for (kind, severity, content) in cases {
        let seen = directory.changed(&file, |bytes| bytes.clone_from(&content), || full(directory.path()));
        assert_eq!((only(&seen).kind, only(&seen).severity), (kind, severity));
    }
}

#[test]
fn superblocks_and_journal_are_held_against_their_checksums() {
    let directory = Directory::edge();
    let change = |file: &str, change: fn(&mut Vec<u8>)| {
        let seen = directory.changed(file, change, || full(directory.path()));
        (only(&seen).kind, only(&seen).severity, only(&seen).text.clone())
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(
        change("metadata/superblock.a", |bytes| bytes[40] ^= 1),
        ("damaged-superblock", Severity::Damage, text("it does not fit its checksum"))
    );
    assert_eq!(
        change("metadata/superblock.b", |bytes| bytes[4] = 2),
        ("foreign-superblock", Severity::Warning, text("it is of version 2, written by a newer server"))
    );
    assert_eq!(
        change("metadata/journal.wal", |bytes| bytes.extend([1; 14])),
        ("torn-journal", Severity::Note, text("its last 14 bytes from byte 825 on are no whole entry"))
    );
    assert_eq!(
        change("metadata/journal.wal", |bytes| bytes[260] ^= 1).2,
        "the body of an entry does not fit its checksum, at byte 0, with entries behind it"
    );
    assert_eq!(
        change("metadata/journal.wal", |bytes| bytes[48] ^= 0x80).1,
        Severity::Damage,
        "a size that lies hides no entries"
    );
    assert_eq!(
        change("metadata/journal.wal", |bytes| *bytes = journal(3)[277..].repeat(2)).0,
        "damaged-journal"
    );
}

#[test]
fn the_generation_is_told_by_what_lies_there() {
    let edge = Directory::edge();
    assert_eq!(full(edge.path()).generation, Generation::Edge);
    edge.write(&format!("{PARTITION}/superblock.a"), &superblock(1));
    let newer = full(edge.path());
    assert_eq!((newer.generation, newer.problems.len()), (Generation::New, 0));
    assert_eq!(newer.streams[0].topics[0].partitions[0].superblock.as_ref().unwrap().newest, Some("a"));
    edge.write("state/log", b"made-up");
    assert_eq!(kinds(&full(edge.path())), ["mixed-generations"]);

    let old = full(Directory::old().path());
    assert_eq!((old.generation, old.verdict, old.totals.messages), (Generation::Old, Verdict::Sound, 6));
    assert_eq!(old.streams[0].topics[0].partitions[0].consumers[0].lag, Some(3));

    let bare = Directory::edge();
    std::fs::remove_dir_all(bare.file("metadata")).unwrap();
    assert_eq!(kinds(&full(bare.path())), ["no-metadata"]);
}

#[test]
fn quarantine_remains_and_strangers_are_named() {
    let directory = Directory::edge();
    directory.write("streams/1/topics/2/partitions/3.fenced.0/00000000000000000000.log", &[1; 100]);
    directory.write(&format!("{PARTITION}/00000000000000000014.log.staging"), b"x");
    directory.write(&format!("{PARTITION}/purge.gen"), &[0; 16]);
    directory.write(&format!("{PARTITION}/notes.txt"), b"x");
    let seen = full(directory.path());
    assert_eq!(kinds(&seen), ["fenced-partition", "unknown-file", "staging"]);
    assert_eq!(seen.problems[0].text, "the server moved damaged segments aside: 1 files with 100 B");
}

#[test]
fn links_fifos_and_names_that_are_no_text_are_named_and_not_followed() {
    let directory = Directory::edge();
    let outside = tempfile::tempdir().unwrap();
    std::fs::write(outside.path().join("secret"), b"OUTSIDE").unwrap();
    let at = |name: &str| directory.file(&format!("{PARTITION}/{name}"));
    std::os::unix::fs::symlink(outside.path().join("secret"), at("00000000000000000014.log")).unwrap();
    std::os::unix::fs::symlink(directory.path(), at("loop")).unwrap();
    nix::unistd::mkfifo(&at("00000000000000000016.log"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let name = std::ffi::OsStr::from_bytes(b"\xff\x1b[31m.log");
    std::fs::write(directory.file(PARTITION).join(name), b"x").unwrap();

    let output = warden(&[], directory.path());
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(text.matches("this is a link, where only files and folders belong").count(), 2, "{text}");
    assert_eq!(text.matches("this is a fifo, socket or device").count(), 1, "{text}");
    assert!(text.contains("no server writes a file of this name") && !text.contains('\x1b'), "{text}");
    assert!(!text.contains("OUTSIDE"));
}

#[test]
fn a_claimed_length_or_count_asks_for_nothing() {
    for (at, claim) in
        [(32, u64::MAX), (32, 1 << 62), (48, u64::from(u32::MAX)), (256 + 32, u64::MAX), (0, 0)]
    {
        let directory = Directory::edge();
        let change = |bytes: &mut Vec<u8>| bytes[at..at + 4].copy_from_slice(&claim.to_le_bytes()[4..]);
        let seen = directory.changed(&log(0), change, || full(directory.path()));
        assert!(seen.scan.verified_messages >= 6, "{at}: the batches behind it were read");
        let change = |bytes: &mut Vec<u8>| bytes[at..at + 8].copy_from_slice(&claim.to_le_bytes());
        directory.changed(&log(0), change, || full(directory.path()));
    }
    let directory = Directory::edge();
    // A terabyte of claimed log, of which there is nothing.
    std::fs::OpenOptions::new()
        .write(true)
        .open(directory.file(&index(8)))
        .unwrap()
        .set_len(1 << 40)
        .unwrap();
    assert_eq!(
        inspect(Order { path: directory.path(), mode: Mode::None }, &|_| true).unwrap().verdict,
        Verdict::Damaged
    );
}

#[test]
fn nothing_of_a_message_comes_out_however_damaged_it_is() {
    let canary = std::str::from_utf8(PAYLOAD).unwrap();
    for step in [40, 97, 201] {
        let directory = Directory::edge();
        let change =
            |bytes: &mut Vec<u8>| bytes.iter_mut().skip(7).step_by(step).for_each(|byte| *byte ^= 0x11);
        for file in [log(0), index(8), "metadata/journal.wal".to_owned()] {
            let look = || [warden(&["--scan=full"], directory.path()), warden(&["--json"], directory.path())];
            for output in directory.changed(&file, change, look) {
                let all = [output.stdout, output.stderr].concat();
                let text = String::from_utf8(all).unwrap();
                for part in [canary, "CANARY", "4111", "the body of"] {
                    assert!(!text.contains(part), "{part} in {text}");
                }
            }
        }
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
        match inspect(Order { path: &path, mode: Mode::Full }, &|_| true) {
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
    let seen = inspect(Order { path: directory.path(), mode: Mode::Full }, &|_| false).unwrap();
    assert!(seen.scan.was_cancelled || seen.scan.verified_bytes <= seen.scan.bytes);
    assert_eq!(seen.totals.segments, 2);
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
