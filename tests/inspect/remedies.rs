//! What is advised loses nothing that could be kept: docs/iggy-data-remedies.md has what was tried.

use warden::iggy::report::{Inspection, Mode, Severity};
use warden::iggy::{Order, inspect};

use super::{BATCH, full, kinds, only};
use crate::support::segments::{Directory, PARTITION, PAYLOAD, batch, index, index_entry, log};

/// The advice on the only problem there is.
fn advice(inspection: &Inspection) -> &str {
    &only(inspection).advice
}

type Damage = (&'static str, fn(&mut Vec<u8>));

/// Every way of damaging a log.
fn damages() -> Vec<Damage> {
    vec![
        ("zeroed front", |bytes| bytes[..256].fill(0)),
        ("reserved byte", |bytes| bytes[60] ^= 1),
        ("length", |bytes| bytes[33] ^= 0x40),
        ("offset", |bytes| bytes[8] ^= 1),
        ("payload", |bytes| bytes[256 + 60] ^= 1),
        ("last header", |bytes| bytes[2 * BATCH + 60] ^= 1),
        ("cut in the middle", |bytes| bytes.truncate(BATCH + 9)),
        ("cut to three bytes", |bytes| bytes.truncate(3)),
        ("cut at its end", |bytes| bytes.truncate(bytes.len() - 10)),
        ("cut at a border", |bytes| bytes.truncate(2 * BATCH)),
        ("emptied", Vec::clear),
    ]
}

#[test]
fn a_damaged_sealed_log_never_leads_to_an_emptied_index() {
    for mode in [Mode::Full, Mode::Sampled, Mode::None] {
        for (name, damage) in damages() {
            let directory = Directory::edge();
            let look = || inspect(Order::new(directory.path(), mode), &|_| true).unwrap();
            let seen = directory.changed(&log(0), damage, look);
            for problem in &seen.problems {
                assert!(!problem.advice.contains("truncate"), "{name}, {mode:?}: {}", problem.advice);
                assert!(
                    problem.advice.contains("cp -a --reflink=auto"),
                    "{name}, {mode:?}: {}",
                    problem.advice
                );
            }
            assert!(mode == Mode::None || !seen.problems.is_empty(), "{name}, {mode:?}");
        }
    }
}

#[test]
fn what_a_server_does_at_its_start_is_told_by_where_the_damage_is() {
    let directory = Directory::edge();
    let told = |change: fn(&mut Vec<u8>)| {
        advice(&directory.changed(&log(0), change, || full(directory.path()))).to_owned()
    };
    // Before the last entry of the index: what is behind the next entry is served.
    assert!(told(|bytes| bytes[60] ^= 1).contains("Then leave the files as they are"));
    assert!(
        told(|bytes| bytes[256 + 60] ^= 1)
            .contains("from the damaged batch on up to offset 3; store that offset")
    );
    // Where the last entry leads, and behind it.
    let exits =
        "A 0.9 server exits at its next start on it (\"message/index divergence\"). Copy the partition first";
    assert!(told(|bytes| bytes[2 * BATCH + 60] ^= 1).starts_with(exits));
    assert!(told(|bytes| bytes.truncate(BATCH)).starts_with(exits));
    let moved = "Do not restart the server yet: it would move the whole partition aside";
    assert!(told(|bytes| bytes[3 * BATCH + 60] ^= 1).starts_with(moved));
    assert!(told(|bytes| bytes.truncate(3 * BATCH)).starts_with(moved));
    let aside = "move (never delete) this segment and the older ones of the partition, .log and .index, to PLACE: a 0.9 server then \
                 starts and serves the partition from offset 8 on";
    assert!(told(|bytes| bytes.truncate(3 * BATCH)).contains(aside));
}

#[test]
fn damage_in_the_last_log_is_cut_off_where_it_begins() {
    let directory = Directory::edge();
    for (change, position) in [
        ((|bytes| bytes[BATCH + 300] ^= 1) as fn(&mut Vec<u8>), BATCH),
        (|bytes| bytes[60] ^= 1, 0),
        (|bytes| bytes.truncate(2 * BATCH + 40), 2 * BATCH),
        (|bytes| bytes.truncate(3), 0),
        (Vec::clear, 0),
    ] {
        let seen = directory.changed(&log(8), change, || full(directory.path()));
        let remedy = format!("(`truncate -s {position} {}` and `truncate -s 0 {}`)", log(8), index(8));
        for problem in seen.problems.iter().filter(|problem| problem.severity == Severity::Damage) {
            assert!(problem.advice.contains(&remedy), "{position}: {problem:#?}");
            assert!(problem.advice.contains("is given up, and stays in the copy"), "{}", problem.advice);
            assert!(!problem.advice.contains("keeps every message of the log"), "{}", problem.advice);
        }
        assert!(seen.problems.iter().any(|problem| problem.severity == Severity::Damage));
    }
}

#[test]
fn an_index_is_made_anew_only_beside_a_log_that_was_seen_whole() {
    let directory = Directory::edge();
    let wrong = [index_entry(0, 0), index_entry(12, BATCH as u64)].concat();
    for (mode, expected) in [
        (Mode::Full, "That keeps every message of the log"),
        (Mode::Sampled, "That keeps every message of the log"),
        (Mode::None, "Then let `warden inspect --scan full` look into the log"),
    ] {
        let look = || inspect(Order::new(directory.path(), mode), &|_| true).unwrap();
        let seen = directory.changed(&index(0), |bytes| bytes.clone_from(&wrong), look);
        assert!(advice(&seen).contains(expected), "{mode:?}: {}", advice(&seen));
        assert!(advice(&seen).starts_with("Copy the partition first"));
    }
}

#[test]
fn an_index_that_ends_within_an_entry_is_cut_where_a_server_writes_on() {
    let directory = Directory::edge();
    let torn = |path: &str| {
        let seen = directory.changed(path, |bytes| bytes.extend([1; 5]), || full(directory.path()));
        (only(&seen).severity, advice(&seen).to_owned())
    };
    let (severity, remedy) = torn(&index(8));
    assert_eq!(severity, Severity::Damage);
    assert!(remedy.contains(&format!("`truncate -s 48 {}`", index(8))), "{remedy}");
    let (severity, remedy) = torn(&index(0));
    assert_eq!(severity, Severity::Warning);
    assert!(remedy.starts_with("Nothing to do"), "{remedy}");
}

#[test]
fn what_a_server_takes_for_a_segment_is_damage_and_not_a_stranger() {
    let directory = Directory::edge();
    directory.write(&format!("{PARTITION}/77.log"), b"");
    std::os::unix::fs::symlink("/etc/hostname", directory.file(&format!("{PARTITION}/{:020}.log", 14)))
        .unwrap();
    directory.write(&format!("{PARTITION}/notes.log"), b"x");
    let seen = full(directory.path());
    assert_eq!(kinds(&seen), ["stray-segment", "stray-segment", "unknown-file"]);
    assert_eq!(seen.problems[1].severity, Severity::Damage);
    assert!(seen.problems[1].advice.contains(&format!("`mv '{PARTITION}/77.log' PLACE/`")));
}

#[test]
fn an_empty_last_segment_is_moved_away_and_not_those_before_it() {
    let directory = Directory::edge();
    directory.write(&log(14), b"");
    let pair = full(directory.path());
    assert!(advice(&pair).contains(&format!("install -o USER -g GROUP -m 644 /dev/null {}", index(14))));
    std::fs::remove_file(directory.file(&log(14))).unwrap();
    directory.write(&log(99), b"");
    directory.write(&index(99), b"");
    let seen = full(directory.path());
    assert_eq!(kinds(&seen), ["gap"]);
    assert!(
        advice(&seen)
            .contains("move the empty segment 00000000000000000099, .log and .index, out of the partition")
    );
    directory.write(&log(99), &batch(3, 99, &[PAYLOAD]));
    directory.write(&index(99), &index_entry(99, 0));
    assert!(advice(&full(directory.path())).contains("move (never delete) this segment and the older ones"));
}
