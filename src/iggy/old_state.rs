//! The state log of 0.8 (`state/log`): every operation on the metadata since the beginning. It holds hashes of
//! passwords and tokens, so that nothing but names and numbers comes out.
//!
//! Read from `core/server/src/state/{file,entry}.rs` of 0.8.0.

use twox_hash::XxHash3_64;

use super::bytes::u64_at;
use super::catalog::{Catalog, Change, Request};

/// Larger ones are not looked into: 100,000 operations have some 10 MiB.
pub const LARGEST: usize = 64 << 20;
/// Bytes before the checksum, which covers them.
const COVERED: usize = 8 + 8 + 4 + 4 + 8 + 8 + 4;

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct OldState {
    pub entries: u64,
    pub catalog: Catalog,
    pub end: End,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum End {
    #[default]
    Whole,
    /// The last entry is not whole.
    Cut { position: u64 },
    /// An entry does not fit its checksum, or its number does not follow.
    Damaged { position: u64 },
    /// The commands are encrypted, and the checksums are over what they were before.
    Encrypted,
}

struct Entry<'b> {
    index: u64,
    checksum: u64,
    found: u64,
    code: u32,
    command: &'b [u8],
}

pub fn read(bytes: &[u8]) -> OldState {
    let mut state = OldState::default();
    let mut request = Request(bytes);
    let (mut previous, mut unsealed, mut misfits) = (None, None, 0u64);
    while !request.0.is_empty() {
        let position = (bytes.len() - request.0.len()) as u64;
        let Some(entry) = entry(&mut request) else {
            state.end = End::Cut { position };
            break;
        };
        // The number of the second entry is not looked at by the server: the first may be of the first user.
        if state.entries > 1
            && previous.is_some_and(|previous: u64| previous.checked_add(1) != Some(entry.index))
        {
            state.end = End::Damaged { position };
            break;
        }
        previous = Some(entry.index);
        if entry.found == entry.checksum {
            if let Some(change) = Change::of_command(entry.code, entry.command) {
                state.catalog.apply(&change);
            }
        } else {
            unsealed.get_or_insert(position);
            misfits += 1;
        }
        state.entries += 1;
    }
    if let Some(position) = unsealed {
        // Where no entry at all fits, and each follows on the one before, they are encrypted.
        let is_encrypted = misfits == state.entries && state.entries > 1 && state.end == End::Whole;
        state.end = if is_encrypted { End::Encrypted } else { End::Damaged { position } };
    }
    state
}

fn entry<'b>(request: &mut Request<'b>) -> Option<Entry<'b>> {
    let head = request.take(COVERED)?;
    let checksum = u64_at(request.take(8)?, 0);
    let context_length = request.u32()?;
    let context = request.take(context_length as usize)?;
    let code = request.u32()?;
    let length = request.u32()?;
    let command = request.take(length as usize)?;
    let mut covered = head.to_vec();
    covered.extend(context_length.to_le_bytes());
    covered.extend(context);
    covered.extend(code.to_le_bytes());
    covered.extend(length.to_le_bytes());
    covered.extend(command);
    let found = XxHash3_64::oneshot(&covered);
    Some(Entry { index: u64_at(head, 0), checksum, found, code, command })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(commands: &[(u32, &[u8])]) -> Vec<u8> {
        let mut log = Vec::new();
        for (index, (code, command)) in commands.iter().enumerate() {
            let mut head = (index as u64).to_le_bytes().to_vec();
            head.resize(COVERED, 3);
            let rest: Vec<u8> =
                [0, *code, command.len() as u32].iter().flat_map(|one| one.to_le_bytes()).collect();
            let covered = [&head[..], &rest, command].concat();
            log.extend(head);
            log.extend(XxHash3_64::oneshot(&covered).to_le_bytes());
            log.extend(rest);
            log.extend(*command);
        }
        log
    }

    /// Where the first and the second entry end.
    const FIRST: usize = 70;
    const SECOND: usize = FIRST + 79;

    fn three() -> Vec<u8> {
        log(&[
            (33, b"a user"),
            (202, b"\x05\0\0\0\x07\0\0\0\x06orders"),
            (204, b"\x01\x04\x05\0\0\0\x05sales"),
        ])
    }

    #[test]
    fn names_come_out_and_every_bit_of_it_is_noticed() {
        let state = read(&three());
        assert_eq!((state.entries, state.end), (3, End::Whole));
        assert_eq!(state.catalog.streams[&5].name.as_deref(), Some("sales"));
        for bit in 0..three().len() * 8 {
            let mut damaged = three();
            damaged[bit / 8] ^= 1 << (bit % 8);
            assert_ne!(read(&damaged).end, End::Whole, "bit {bit}");
        }
        for length in 1..three().len() {
            // At the border of two entries nothing tells that there were more.
            let is_border = [FIRST, SECOND].contains(&length);
            assert_eq!(read(&three()[..length]).end == End::Whole, is_border, "{length} bytes");
        }
    }

    #[test]
    fn an_encrypted_log_is_not_called_damaged() {
        let mut encrypted = three();
        for at in [0, FIRST, SECOND] {
            encrypted[at + COVERED] ^= 1;
        }
        assert_eq!(read(&encrypted).end, End::Encrypted);
    }
}
