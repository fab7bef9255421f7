//! Writes data directories as Iggy does, small ones: batches, messages, indexes, offsets, superblocks, journals.
//! The real server reads what 0.9 ones say; the formats are told in `src/iggy`.

use std::path::{Path, PathBuf};

use twox_hash::XxHash3_64;

/// Microseconds since 1970: a fixed day, so that everything written is the same each time.
pub const TIME: u64 = 1_795_000_000_000_000;

/// A batch of 0.9, with its checksums.
pub fn batch(partition: u64, base_offset: u64, payloads: &[&[u8]]) -> Vec<u8> {
    let mut frames = Vec::new();
    let mut checksums = Vec::new();
    for (number, payload) in payloads.iter().enumerate() {
        let mut frame = vec![0; 48];
        frame[8..24].copy_from_slice(&u128::from(base_offset + number as u64 + 1).to_le_bytes());
        frame[24..28].copy_from_slice(&(number as u32).to_le_bytes());
        frame[36..40].copy_from_slice(&(payload.len() as u32).to_le_bytes());
        frame.extend_from_slice(payload);
        let checksum = XxHash3_64::oneshot(&frame[8..]).to_le_bytes();
        frame[..8].copy_from_slice(&checksum);
        checksums.extend(checksum);
        frames.extend(frame);
    }
    let mut covered = Vec::new();
    let length = 256 + frames.len() as u64;
    for field in [partition, base_offset, TIME + base_offset, TIME, length] {
        covered.extend(field.to_le_bytes());
    }
    let mut header = covered.clone();
    covered.extend((payloads.len() as u32).to_le_bytes());
    covered.extend(checksums);
    header.extend(XxHash3_64::oneshot(&covered).to_le_bytes());
    header.extend((payloads.len() as u32).to_le_bytes());
    header.resize(256, 0);
    header.extend(frames);
    header
}

/// A message of 0.8, with its checksum.
pub fn old_message(offset: u64, payload: &[u8]) -> Vec<u8> {
    let mut message = vec![0; 8];
    message.extend(u128::from(offset + 1).to_le_bytes());
    for field in [offset, TIME + offset, TIME] {
        message.extend(field.to_le_bytes());
    }
    message.extend(0u32.to_le_bytes());
    message.extend((payload.len() as u32).to_le_bytes());
    message.extend([0; 8]);
    message.extend(payload);
    let checksum = XxHash3_64::oneshot(&message[8..]).to_le_bytes();
    message[..8].copy_from_slice(&checksum);
    message
}

pub fn index_entry(offset: u64, position: u64) -> Vec<u8> {
    [offset, TIME + offset, position].into_iter().flat_map(u64::to_le_bytes).collect()
}

pub fn old_index_entry(offset: u32, end: u32) -> Vec<u8> {
    let mut entry: Vec<u8> = [offset, end].into_iter().flat_map(u32::to_le_bytes).collect();
    entry.extend(TIME.to_le_bytes());
    entry
}

pub fn offset_record(offset: u64) -> Vec<u8> {
    let mut record = offset.to_le_bytes().to_vec();
    let checksum = XxHash3_64::oneshot(&record);
    record.extend(checksum.to_le_bytes());
    record
}

/// Of a server without a cluster and before its first snapshot.
pub fn superblock(sequence: u64) -> Vec<u8> {
    superblock_of(sequence, 0, 0, 0)
}

/// One that says which operation was acknowledged, and which snapshot belongs to it.
pub fn superblock_of(sequence: u64, acknowledged: u64, checkpoint: u64, checksum: u128) -> Vec<u8> {
    let mut state = [0; 66];
    state[17] = 1;
    state[26..34].copy_from_slice(&acknowledged.to_le_bytes());
    state[34..42].copy_from_slice(&checkpoint.to_le_bytes());
    state[42..58].copy_from_slice(&checksum.to_le_bytes());
    let mut record = b"KLBS\x01\0\0\0".to_vec();
    record.extend(sequence.to_le_bytes());
    record.extend([0; 8]);
    record.extend(66u32.to_le_bytes());
    record.extend(state);
    let checksum = XxHash3_64::oneshot(&record);
    record.extend(checksum.to_le_bytes());
    record
}

/// A journal of `count` entries, each sealed and chained to the one before, that change no streams.
pub fn journal(count: u64) -> Vec<u8> {
    let bodies: Vec<(u8, Vec<u8>)> =
        (1..=count).map(|operation| (141, format!("the body of entry {operation}").into_bytes())).collect();
    journal_of(&bodies)
}

/// What leaves the streams 0 and 1 and, in the latter, the topic 2; and then a user, of whom nothing may be shown.
pub fn operations() -> Vec<(u8, Vec<u8>)> {
    const STREAM: &[u8] = b"\x01\x04\x01\0\0\0";
    let named = |name: &str| [&[name.len() as u8], name.as_bytes()].concat();
    let topic = |name: &str| {
        let request = [STREAM, b"\x01\0\0\0", &named(name)].concat();
        (64, [&(request.len() as u32).to_le_bytes()[..], &request, &[0; 8]].concat())
    };
    let deleted = |number: u8| (134, [STREAM, &[1, 4, number, 0, 0, 0]].concat());
    vec![
        (128, named("first")),
        (128, named("orders")),
        topic("a"),
        topic("b"),
        topic("created"),
        deleted(0),
        deleted(1),
        (141, b"the body of entry 8".to_vec()),
    ]
}

/// A snapshot of what [`operations`] leaves, up to this operation.
pub fn snapshot(operation: u8) -> Vec<u8> {
    let mut snapshot = vec![0x97, 3, 5, operation, 0xc0, 0x92, 0x92];
    snapshot.extend(b"\x92\x00\x96\x00\xa5first\x05\x93\0\0\0\x90\x80");
    snapshot.extend(b"\x92\x01\x96\x01\xa6orders\x05\x93\0\0\0\x91");
    snapshot.extend(b"\x92\x02\x9b\x02\xa7created\x05\0\0\0\x93\0\0\0\x90\x90\0\x80");
    snapshot.extend(b"\x80\x07\xc0\x09");
    let checksum = snapshot_checksum(&snapshot);
    snapshot.extend(0x4953_4e50u32.to_le_bytes());
    snapshot.extend(checksum.to_le_bytes());
    snapshot
}

/// Of the bytes before the trailer.
pub fn snapshot_checksum(payload: &[u8]) -> u128 {
    u128::from(XxHash3_64::oneshot(payload))
}

/// The state log of 0.8: a user, the stream 1 and in it the topic 2.
pub fn old_state() -> Vec<u8> {
    let topic = [&b"\x02\0\0\0\x27\0\0\0\x01\x04\x01\0\0\0\x01\0\0\0"[..], &[0; 18], b"\x07created"].concat();
    let commands: [(u32, &[u8]); 3] =
        [(33, b"a user"), (202, b"\x01\0\0\0\x07\0\0\0\x06orders"), (302, &topic)];
    let mut log = Vec::new();
    for (index, (code, command)) in commands.iter().enumerate() {
        let mut head = (index as u64).to_le_bytes().to_vec();
        head.resize(44, 3);
        let rest: Vec<u8> =
            [0, *code, command.len() as u32].iter().flat_map(|one| one.to_le_bytes()).collect();
        log.extend(&head);
        log.extend(XxHash3_64::oneshot(&[&head[..], &rest, command].concat()).to_le_bytes());
        log.extend(rest);
        log.extend(*command);
    }
    log
}

/// A journal of these operations.
pub fn journal_of(operations: &[(u8, Vec<u8>)]) -> Vec<u8> {
    journal_from(1, operations)
}

/// A journal whose first operation has this number.
pub fn journal_from(first: u64, operations: &[(u8, Vec<u8>)]) -> Vec<u8> {
    let mut journal = Vec::new();
    let mut parent = 0u128;
    for (operation, (kind, body)) in (first..).zip(operations) {
        let mut header = vec![0; 256];
        header[16..32].copy_from_slice(&u128::from(XxHash3_64::oneshot(body)).to_le_bytes());
        header[208] = *kind;
        header[48..52].copy_from_slice(&(256 + body.len() as u32).to_le_bytes());
        header[60] = 6;
        header[144..160].copy_from_slice(&parent.to_le_bytes());
        header[176..184].copy_from_slice(&operation.to_le_bytes());
        parent = u128::from(XxHash3_64::oneshot(&header));
        header[..16].copy_from_slice(&parent.to_le_bytes());
        // The view is no part of what is sealed.
        header[52] = 3;
        journal.extend(header);
        journal.extend(body);
    }
    journal
}

/// A data directory that goes away with the test.
pub struct Directory {
    folder: tempfile::TempDir,
}

pub const PARTITION: &str = "streams/1/topics/2/partitions/3";

/// The log of the segment at `start` in [`PARTITION`].
pub fn log(start: u64) -> String {
    format!("{PARTITION}/{start:020}.log")
}

pub fn index(start: u64) -> String {
    format!("{PARTITION}/{start:020}.index")
}

/// Every message of a directory made here has this in it: it must never be shown.
pub const PAYLOAD: &[u8] = b"CANARY-4111111111111111";

impl Directory {
    /// As 0.9-edge leaves it after a clean stop: one partition with offsets 0 to 7 in a sealed segment and 8 to 13
    /// in the last, batches of two messages, an index entry for the first and third batch of each.
    pub fn edge() -> Directory {
        let directory = Directory::empty();
        directory.write("metadata/journal.wal", &journal_of(&operations()));
        directory.write("metadata/superblock.a", &superblock(5));
        directory.write("metadata/superblock.b", &superblock(6));
        directory.write("state/log", b"");
        directory.write(&format!("{PARTITION}/offsets/consumers/9"), &offset_record(4));
        directory.write(&format!("{PARTITION}/offsets/groups/0"), &offset_record(13));
        for (start, batches) in [(0, 4), (8, 3)] {
            let (mut log_bytes, mut index_bytes) = (Vec::new(), Vec::new());
            for number in 0..batches {
                let offset = start + 2 * number;
                if number % 2 == 0 {
                    index_bytes.extend(index_entry(offset, log_bytes.len() as u64));
                }
                log_bytes.extend(batch(3, offset, &[PAYLOAD, PAYLOAD]));
            }
            directory.write(&log(start), &log_bytes);
            directory.write(&index(start), &index_bytes);
        }
        directory
    }

    /// As 0.8 leaves it: six messages in one segment.
    pub fn old() -> Directory {
        let directory = Directory::empty();
        directory.write("state/log", &old_state());
        directory.write("state/info", b"made-up");
        let (mut log_bytes, mut index_bytes) = (Vec::new(), Vec::new());
        for offset in 0..6 {
            log_bytes.extend(old_message(u64::from(offset), PAYLOAD));
            index_bytes.extend(old_index_entry(offset, log_bytes.len() as u32));
        }
        directory.write(&log(0), &log_bytes);
        directory.write(&index(0), &index_bytes);
        directory.write(&format!("{PARTITION}/offsets/consumers/9"), &2u64.to_le_bytes());
        directory
    }

    pub fn empty() -> Directory {
        Directory { folder: tempfile::tempdir().unwrap() }
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn file(&self, path: &str) -> PathBuf {
        self.folder.path().join(path)
    }

    pub fn write(&self, path: &str, content: &[u8]) {
        let path = self.file(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, content).unwrap();
    }

    pub fn read(&self, path: &str) -> Vec<u8> {
        std::fs::read(self.file(path)).unwrap()
    }

    /// Changes a file and puts it back at the end.
    pub fn changed<T>(&self, path: &str, change: impl FnOnce(&mut Vec<u8>), look: impl FnOnce() -> T) -> T {
        let whole = self.read(path);
        let mut changed = whole.clone();
        change(&mut changed);
        std::fs::write(self.file(path), &changed).unwrap();
        let seen = look();
        std::fs::write(self.file(path), &whole).unwrap();
        seen
    }

    /// The paths of all files, sorted.
    pub fn files(&self) -> Vec<String> {
        fn walk(folder: &Path, root: &Path, files: &mut Vec<String>) {
            for entry in std::fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    walk(&path, root, files);
                } else {
                    files.push(path.strip_prefix(root).unwrap().to_str().unwrap().to_owned());
                }
            }
        }
        let mut files = Vec::new();
        walk(self.path(), self.path(), &mut files);
        files.sort();
        files
    }
}
