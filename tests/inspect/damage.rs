//! Damage within files, down to the single bit.

use warden::iggy::report::{Mode, Severity, Verdict};
use warden::iggy::{Order, inspect};

use super::{BATCH, MESSAGE, full, only, warden};
use crate::support::segments::{Directory, PAYLOAD, batch, index, log};

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
            .any(|problem| problem.kind == "torn-tail" && problem.severity == Severity::Damage);
        assert_eq!(torn, rest != 0, "{length}: {:#?}", seen.problems);
        // The index leads to the third batch.
        let index_behind = length < 2 * BATCH + BATCH;
        let damaged = index_behind || torn;
        assert_eq!(seen.verdict == Verdict::Damaged, damaged, "{length}: {:#?}", seen.problems);
        let segment = &seen.streams[0].topics[0].partitions[0].segments[1];
        assert_eq!(segment.torn_bytes, rest as u64, "{length}");
    }
    for length in 0..directory.read(&log(0)).len() {
        let seen = directory.changed(&log(0), |bytes| bytes.truncate(length), || full(directory.path()));
        assert_eq!(seen.verdict, Verdict::Damaged, "a sealed segment cut at {length}");
    }
}

#[test]
fn the_torn_end_of_the_newest_segment_is_damage_where_nobody_writes_it() {
    let directory = Directory::edge();
    let next = batch(3, 14, &[PAYLOAD]);
    for length in 1..next.len() {
        let add = |bytes: &mut Vec<u8>| bytes.extend(&next[..length]);
        let seen = directory.changed(&log(8), add, || full(directory.path()));
        assert_eq!((only(&seen).kind.as_ref(), seen.verdict), ("torn-tail", Verdict::Damaged), "{length}");
        assert_eq!(seen.streams[0].topics[0].partitions[0].next_offset, Some(14));
    }
}

#[test]
fn the_torn_end_of_a_log_that_grows_is_a_note() {
    let directory = Directory::edge();
    let path = directory.file(&log(8));
    let add = |bytes: &[u8]| {
        use std::io::Write;
        std::fs::OpenOptions::new().append(true).open(&path).unwrap().write_all(bytes).unwrap();
    };
    let next = batch(3, 14, &[PAYLOAD]);
    add(&next[..100]);
    // Progress is told after the log was looked into, and before its end is looked at again.
    let seen = inspect(
        Order { settle: std::time::Duration::ZERO, ..Order::new(directory.path(), Mode::Full) },
        &|progress| {
            if progress.done == progress.total
                && std::fs::metadata(&path).unwrap().len() < (3 * BATCH + next.len()) as u64
            {
                add(&next[100..]);
            }
            true
        },
    );
    let seen = seen.unwrap();
    assert_eq!((only(&seen).kind.as_ref(), only(&seen).severity), ("torn-tail", Severity::Note));
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
        (problem.kind.as_ref(), at.position, at.bytes),
        ("damaged-batch-header", BATCH as u64, Some(BATCH as u64))
    );
    assert_eq!((at.batch, at.offset, at.messages), (Some(1), Some(2), Some(2)));
    assert_eq!(seen.scan.verified_messages, 12, "the batches behind it were read");
    assert!(problem.advice.starts_with("Copy the partition first"));
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
        (only(&seen).kind.as_ref(), at.position, at.offset, at.messages),
        ("zeros", BATCH as u64, Some(10), Some(2))
    );
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
        inspect(Order::new(directory.path(), Mode::None), &|_| true).unwrap().verdict,
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
                for part in [canary, "CANARY", "41111111", "the body of"] {
                    assert!(!text.contains(part), "{part} in {text}");
                }
            }
        }
    }
}
