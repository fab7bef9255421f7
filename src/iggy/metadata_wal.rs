//! The journal of the metadata (`metadata/journal.wal`): a chain of sealed entries. It holds hashes of passwords,
//! so that nothing but counts and positions comes out.
//!
//! Read from `core/journal/src/prepare_journal.rs` of 0.9.0-edge.5.

use std::borrow::Cow;
use std::io;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::buffered_reader::{BLOCK, Source, Window};
use super::bytes::{u32_at, u64_at, u128_at};
use super::catalog::LONGEST_HEAD;

/// Bytes of an entry before its body.
const HEADER: usize = 256;
/// The server takes no larger entry.
const LARGEST: u64 = 64 << 20;
/// Where fields lie in the header.
const CHECKSUM_BODY: usize = 16;
const SIZE: usize = 48;
const VIEW: usize = 52;
const COMMAND: usize = 60;
const PARENT: usize = 144;
const OPERATION_NUMBER: usize = 176;
const OPERATION: usize = 208;
const USER: usize = 224;
/// The only command that is ever in a journal.
const PREPARE: u8 = 6;

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Journal {
    pub bytes: u64,
    pub entries: u64,
    /// The highest operation number.
    pub last_operation: Option<u64>,
    /// The lowest one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_operation: Option<u64>,
    pub end: End,
}

/// An operation of the journal, whole and sealed.
pub struct Operation<'b> {
    pub number: u64,
    pub kind: u8,
    pub user: u32,
    /// Its beginning: at most [`LONGEST_HEAD`] bytes.
    pub body: &'b [u8],
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "kind")]
pub enum End {
    #[default]
    Whole,
    /// An interrupted write: the server cuts it off at its start and goes on.
    Torn { position: u64, bytes: u64 },
    /// Damage with more entries behind it: the server refuses to start.
    Damaged { position: u64, why: Cow<'static, str> },
}

struct Entry {
    size: u64,
    operation: u64,
    kind: u8,
    user: u32,
    checksum: u128,
    parent: u128,
    body: u128,
    seal_holds: bool,
}

impl Entry {
    fn read(bytes: &[u8]) -> Option<Entry> {
        let size = u64::from(u32_at(bytes, SIZE));
        if bytes[COMMAND] != PREPARE || !(HEADER as u64..=LARGEST).contains(&size) {
            return None;
        }
        let checksum = u128_at(bytes, 0);
        let mut covered = [0; HEADER];
        covered.copy_from_slice(&bytes[..HEADER]);
        // A field cannot cover itself, and the view changes when an entry is sent again.
        covered[..16].fill(0);
        covered[VIEW..VIEW + 4].fill(0);
        Some(Entry {
            size,
            operation: u64_at(bytes, OPERATION_NUMBER),
            kind: bytes[OPERATION],
            user: u32_at(bytes, USER),
            checksum,
            parent: u128_at(bytes, PARENT),
            body: u128_at(bytes, CHECKSUM_BODY),
            seal_holds: checksum == 0 || checksum == u128::from(XxHash3_64::oneshot(&covered)),
        })
    }
}

/// Reads the journal of `size` bytes from `source`, which stands at its beginning, and shows every operation in it.
pub fn read<S: Source>(source: S, size: u64, see: &mut dyn FnMut(Operation<'_>)) -> io::Result<Journal> {
    let mut window = Window::new(source, 0, size);
    let mut journal = Journal { bytes: size, ..Journal::default() };
    let mut previous: Option<(u64, u128)> = None;
    loop {
        let position = window.position();
        let at_hand = window.fill(HEADER)?;
        if at_hand == 0 {
            return Ok(journal);
        }
        let entry = (at_hand >= HEADER).then(|| Entry::read(window.data())).flatten();
        let Some(entry) = entry.filter(|entry| entry.size <= size - position) else {
            // Whether it is a torn end is told by what follows.
            window.consume(1);
            journal.end = match another_follows(&mut window, size)? {
                true => End::Damaged { position, why: "no entry begins here, and one follows".into() },
                false => End::Torn { position, bytes: size - position },
            };
            return Ok(journal);
        };
        let chains = previous.is_none_or(|(operation, checksum)| {
            operation.checked_add(1) != Some(entry.operation) || checksum == 0 || entry.parent == checksum
        });
        window.consume(HEADER);
        let length = entry.size - HEADER as u64;
        let at_hand = window.fill(LONGEST_HEAD)?;
        let head = usize::try_from(length).unwrap_or(LONGEST_HEAD).min(LONGEST_HEAD).min(at_hand);
        let head = window.data()[..head].to_vec();
        let body = window.hash(0, length)?;
        let body_holds = entry.body == 0 || body.map(u128::from) == Some(entry.body);
        let why = match (entry.seal_holds, chains, body_holds) {
            (true, true, true) => None,
            (false, ..) => Some("the header of an entry does not fit its checksum"),
            (_, false, _) => Some("an entry does not follow on the one before"),
            (.., false) => Some("the body of an entry does not fit its checksum"),
        };
        if let Some(why) = why {
            let is_last = window.fill(1)? == 0;
            journal.end = match is_last {
                true => End::Torn { position, bytes: size - position },
                false => End::Damaged { position, why: why.into() },
            };
            return Ok(journal);
        }
        previous = Some((entry.operation, entry.checksum));
        journal.entries += 1;
        journal.last_operation = journal.last_operation.max(Some(entry.operation));
        journal.first_operation =
            Some(journal.first_operation.map_or(entry.operation, |first| first.min(entry.operation)));
        see(Operation { number: entry.operation, kind: entry.kind, user: entry.user, body: &head });
    }
}

fn another_follows<S: Source>(window: &mut Window<S>, size: u64) -> io::Result<bool> {
    loop {
        let at_hand = window.fill(BLOCK)?;
        if at_hand < HEADER {
            return Ok(false);
        }
        let position = window.position();
        let begins = |at: usize| {
            let bytes = &window.data()[at..];
            bytes[COMMAND] == PREPARE
                && Entry::read(bytes).is_some_and(|entry| {
                    entry.seal_holds && entry.checksum != 0 && entry.size <= size - position - at as u64
                })
        };
        if (0..=at_hand - HEADER).any(begins) {
            return Ok(true);
        }
        window.consume(at_hand - HEADER + 1);
    }
}
