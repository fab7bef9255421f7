//! Files that do not fit each other, are missing, or do not belong there.

use std::os::unix::ffi::OsStrExt;

use warden::iggy::report::{Generation, Mode, Severity, Slot, Verdict};
use warden::iggy::{Order, inspect};

use super::{BATCH, full, kinds, only, warden};
use crate::support::segments::{
    Directory, PARTITION, PAYLOAD, batch, index, index_entry, journal, log, offset_record, superblock,
};

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
            let look = || inspect(Order::new(directory.path(), mode), &|_| true).unwrap();
            let seen = directory.changed(&index(8), |bytes| bytes.clone_from(content), look);
            assert_eq!(
                (only(&seen).kind.as_ref(), only(&seen).file.as_str()),
                (*kind, index(8).as_str()),
                "{mode:?}"
            );
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
        (only(&emptied).kind.as_ref(), emptied.verdict),
        ("empty-index", Verdict::Sound),
        "the server walks the log"
    );
    std::fs::remove_file(directory.file(&index(0))).unwrap();
    assert_eq!(only(&full(directory.path())).kind, "log-without-index");
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
        assert_eq!((only(&seen).kind.as_ref(), only(&seen).severity), (kind, severity));
    }
}

#[test]
fn superblocks_and_journal_are_held_against_their_checksums() {
    let directory = Directory::edge();
    let change = |file: &str, change: fn(&mut Vec<u8>)| {
        let seen = directory.changed(file, change, || full(directory.path()));
        (only(&seen).kind.to_string(), only(&seen).severity, only(&seen).text.clone())
    };
    let text = |text: &str| text.to_owned();
    assert_eq!(
        change("metadata/superblock.a", |bytes| bytes[40] ^= 1),
        (text("damaged-superblock"), Severity::Damage, text("it does not fit its checksum"))
    );
    assert_eq!(
        change("metadata/superblock.b", |bytes| bytes[4] = 2),
        (
            text("foreign-superblock"),
            Severity::Warning,
            text("it is of version 2, written by a newer server")
        )
    );
    assert_eq!(
        change("metadata/journal.wal", |bytes| bytes.extend([1; 14])),
        (
            text("torn-journal"),
            Severity::Damage,
            text(
                "its last 14 bytes from byte 2182 on are no whole entry: an operation is cut off. Where a crash interrupted its writing it was never acknowledged; where the file was cut otherwise it was, and is undone (a stream that was deleted comes back). A 0.9 server starts and cuts it off for good"
            )
        )
    );
    assert_eq!(
        change("metadata/journal.wal", |bytes| bytes[260] ^= 1).2,
        "the body of an entry does not fit its checksum, at byte 0, with entries behind it: a 0.9 server exits at its start (\"WAL corruption\")"
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
    assert_eq!(newer.streams[0].topics[0].partitions[0].superblock.as_ref().unwrap().newest, Some(Slot::A));
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
    assert_eq!(seen.problems[0].text, "the server moved damaged segments aside: 1 file with 100 B");
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
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(text.matches("this is a link, where only files and folders belong").count(), 1, "{text}");
    assert_eq!(text.matches("takes this for a segment by its name").count(), 2, "{text}");
    assert!(text.contains("no server writes a file of this name") && !text.contains('\x1b'), "{text}");
    assert!(!text.contains("OUTSIDE"));
}
