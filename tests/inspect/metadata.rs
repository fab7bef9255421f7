//! What a server recovers of its metadata: sound only where it would.

use warden::iggy::report::{Inspection, Severity, Verdict};

use super::{full, kinds, only, warden};
use crate::support::segments::{
    Directory, PARTITION, journal_from, journal_of, old_state, operations, snapshot, snapshot_checksum,
    superblock_of,
};

const JOURNAL: &str = "metadata/journal.wal";
const SNAPSHOT: &str = "metadata/snapshot.bin";

/// As after a checkpoint: the snapshot ends with operation 5, the journal goes on behind it.
fn checkpointed() -> Directory {
    let directory = Directory::edge();
    let snapshot = snapshot(5);
    let checksum = snapshot_checksum(&snapshot[..snapshot.len() - 20]);
    directory.write(SNAPSHOT, &snapshot);
    directory.write("metadata/superblock.a", &superblock_of(5, 5, 5, checksum));
    directory.write("metadata/superblock.b", &superblock_of(6, 8, 5, checksum));
    directory.write(JOURNAL, &journal_from(5, &operations()[4..]));
    directory
}

fn changed(path: &str, change: impl FnOnce(&mut Vec<u8>)) -> Inspection {
    let directory = checkpointed();
    directory.changed(path, change, || full(directory.path()))
}

#[test]
fn a_checkpoint_that_fits_is_sound_and_names_what_it_holds() {
    let seen = full(checkpointed().path());
    assert_eq!((seen.verdict, kinds(&seen)), (Verdict::Sound, vec![]));
    assert_eq!(seen.checkpoint.unwrap().operation, Some(5));
    assert_eq!(seen.streams[0].name.as_deref(), Some("orders"));
    assert_eq!(seen.streams[0].topics[0].name.as_deref(), Some("created"));
}

#[test]
fn every_snapshot_that_the_server_refuses_is_damage() {
    let missing = checkpointed();
    std::fs::remove_file(missing.file(SNAPSHOT)).unwrap();
    assert_eq!(kinds(&full(missing.path())), ["no-snapshot"]);
    assert_eq!(kinds(&changed(SNAPSHOT, |bytes| *bytes = snapshot(4))), ["snapshot-behind"]);
    let other = changed(SNAPSHOT, |bytes| {
        *bytes = snapshot(5);
        let at = bytes.len() - 21;
        bytes[at] = 8;
        let checksum = snapshot_checksum(&bytes[..=at]);
        bytes[at + 5..].copy_from_slice(&checksum.to_le_bytes());
    });
    assert_eq!(kinds(&other), ["damaged-snapshot"]);
    let length = snapshot(5).len();
    for at in 0..length {
        let flipped = changed(SNAPSHOT, |bytes| bytes[at] ^= 0x10);
        assert_eq!((kinds(&flipped), flipped.verdict), (vec!["damaged-snapshot"], Verdict::Damaged), "{at}");
        // Without its trailer it is one of an older server, which the superblock still knows.
        let cut = changed(SNAPSHOT, |bytes| bytes.truncate(at));
        assert_eq!(cut.verdict == Verdict::Sound, at == length - 20, "{at}: {:?}", cut.problems);
    }
}

#[test]
fn operations_that_are_missing_from_the_journal_are_damage() {
    let gone = checkpointed();
    std::fs::remove_file(gone.file(JOURNAL)).unwrap();
    assert_eq!(kinds(&full(gone.path())), ["no-journal"]);
    // Operation 8 was acknowledged.
    let cut = changed(JOURNAL, |bytes| *bytes = journal_from(5, &operations()[4..7]));
    assert_eq!(kinds(&cut), ["journal-behind"]);
    assert!(only(&cut).text.starts_with("it ends with operation 7, and operation 8 was acknowledged"));
    let behind = changed(JOURNAL, |bytes| *bytes = journal_from(7, &operations()[6..]));
    assert_eq!(kinds(&behind), ["journal-gap"]);
    assert!(only(&behind).text.contains("operation 5 is the last before it: 1 operation is missing"));
    let hole = changed(JOURNAL, |bytes| {
        *bytes = [journal_from(5, &operations()[4..6]), journal_from(8, &operations()[7..])].concat();
    });
    assert_eq!(kinds(&hole), ["journal-gap"]);
    assert!(only(&hole).text.ends_with("A 0.9 server drops all from there on at its start"));
    let torn = changed(JOURNAL, |bytes| bytes.truncate(bytes.len() - 3));
    assert_eq!(kinds(&torn), ["journal-behind", "torn-journal"]);
}

#[test]
fn folders_and_metadata_that_do_not_know_each_other_are_damage() {
    let directory = checkpointed();
    directory.write(
        "streams/7/topics/0/partitions/0/00000000000000000000.log",
        &directory.read(&format!("{PARTITION}/{:020}.log", 0)),
    );
    directory.write("streams/7/topics/0/partitions/0/00000000000000000000.index", b"");
    let seen = full(directory.path());
    let unknown = seen.problems.iter().find(|problem| problem.kind == "unknown-topic").unwrap();
    assert_eq!((unknown.file.as_str(), unknown.severity), ("streams/7/topics/0", Severity::Damage));
    assert_eq!(seen.streams[1].name, None);

    let bare = checkpointed();
    std::fs::remove_dir_all(bare.file("streams/1/topics/2")).unwrap();
    assert_eq!(kinds(&full(bare.path())), ["no-topic-folder"]);
}

#[test]
fn what_another_user_asked_for_names_nothing() {
    let directory = Directory::edge();
    let mut operations = operations();
    operations.pop();
    operations.push((129, b"\x01\x04\x01\0\0\0\x05sales".to_vec()));
    let mut journal = journal_of(&operations);
    directory.write(JOURNAL, &journal);
    assert_eq!(full(directory.path()).streams[0].name.as_deref(), Some("sales"));
    let last = journal.len() - (256 + 12);
    journal[last + 224] = 3;
    // The field is covered by the seal; without one, an entry is taken as it stands.
    journal[last..last + 16].fill(0);
    directory.write(JOURNAL, &journal);
    let seen = full(directory.path());
    assert_eq!((seen.streams[0].name.as_deref(), seen.streams[0].topics[0].name.as_deref()), (None, None));
}

#[test]
fn hostile_names_are_shown_escaped() {
    let directory = Directory::edge();
    let mut operations = operations();
    operations[1].1 = b"\x08\x1b[31mred".to_vec();
    directory.write(JOURNAL, &journal_of(&operations));
    let text = String::from_utf8(warden(&[], directory.path()).stdout).unwrap();
    assert!(text.contains("stream 1  \"\\u{1b}[31mred\"\n"), "{text}");
}

#[test]
fn the_state_log_of_0_8_is_read_and_its_damage_is_named() {
    let directory = Directory::old();
    let seen = full(directory.path());
    assert_eq!(seen.streams[0].name.as_deref(), Some("orders"));
    assert_eq!(seen.streams[0].topics[0].name.as_deref(), Some("created"));
    for at in 0..old_state().len() {
        let seen = directory.changed("state/log", |bytes| bytes[at] ^= 1, || full(directory.path()));
        assert_eq!(kinds(&seen), ["damaged-state"], "{at}");
    }
}

#[test]
fn every_file_that_is_not_checked_is_counted() {
    let directory = Directory::edge();
    directory.write("logs/iggy-server.log", b"x");
    directory.write("logs/iggy-server.log.1", b"xy");
    directory.write("runtime/current_config.toml", b"x");
    directory.write("stray", b"xyz");
    directory.write(&format!("{PARTITION}/purge.gen"), &[0; 16]);
    directory.write("streams/1/topics/2/partitions/4.fenced.0/00000000000000000000.log", &[1; 7]);
    let seen = full(directory.path());
    let counted: Vec<_> =
        seen.unchecked.iter().map(|one| (one.what.as_ref(), one.files, one.bytes)).collect();
    assert_eq!(
        counted,
        [
            ("other files", 1, 3),
            ("purge marks", 1, 16),
            ("segments moved aside", 1, 7),
            ("the running configuration", 1, 1),
            ("the server's logs", 2, 3),
        ]
    );
    let text = String::from_utf8(warden(&[], directory.path()).stdout).unwrap();
    assert!(text.contains("not checked: other files (1 file, 3 B), purge marks"), "{text}");
    // Each file is one of them, or is looked into.
    let looked_into = ["metadata/", "state/log", "/offsets/", "/partitions/3/0000"];
    let unchecked: u64 = seen.unchecked.iter().map(|one| one.files).sum();
    let others =
        directory.files().iter().filter(|file| !looked_into.iter().any(|one| file.contains(one))).count();
    assert_eq!(unchecked, others as u64);
}
