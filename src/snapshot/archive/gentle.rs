//! Reads beside a running Iggy without being felt: last in line for the disk and the cores, and with no trace in the
//! page cache.

use std::fs::File;
use std::io::{self, IoSliceMut};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;

use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

/// The last of the kernel's 40 steps.
const NICE: i32 = 19;

/// For the calling thread and those that it starts: the disk only when nobody else wants it, the cores likewise.
/// A kernel or sandbox that does not let us only makes it less gentle.
pub fn be_gentle() {
    let _ = rustix::process::setpriority_process(None, NICE);
    idle_disk();
}

#[expect(unsafe_code, reason = "ioprio_set(2) has no wrapper; it takes three numbers and touches no memory")]
fn idle_disk() {
    const WHO_PROCESS: i32 = 1;
    const THIS_THREAD: i32 = 0;
    const CLASS_IDLE: i32 = 3 << 13;
    // SAFETY: no pointer is passed, and only the calling thread is changed.
    unsafe { nix::libc::syscall(nix::libc::SYS_ioprio_set, WHO_PROCESS, THIS_THREAD, CLASS_IDLE) };
}

/// Each read asks for all it wants: what the kernel would read ahead could not be told from what was there before.
pub fn without_readahead(file: &File) {
    let _ = fadvise(file, 0, None, Advice::Random);
}

/// Fills `buffer` from `offset` on as far as the file goes, and returns how far that was. What was not in the page
/// cache before is not there afterwards; what was, stays.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut filled = 0;
    let (mut cold_from, mut cold_to) = (u64::MAX, 0);
    let mut can_tell = true;
    while filled < buffer.len() {
        let at = offset + filled as u64;
        let rest = &mut buffer[filled..];
        let resident = match can_tell {
            true => preadv2(file, &mut [IoSliceMut::new(rest)], at, ReadWriteFlags::NOWAIT),
            false => Err(Errno::AGAIN),
        };
        let length = match resident {
            Ok(length) => length,
            Err(Errno::INTR) => continue,
            // The rest of this block is read with one question more, not with one for each page that is there.
            Err(Errno::AGAIN) => {
                let length = match file.read_at(rest, at) {
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
                    length => length?,
                };
                if can_tell {
                    (cold_from, cold_to) = (cold_from.min(at), at + length as u64);
                }
                length
            }
            // Filesystems that cannot tell keep what they keep.
            Err(_) => {
                can_tell = false;
                continue;
            }
        };
        if length == 0 {
            break;
        }
        filled += length;
    }
    if let Some(length) = cold_to.checked_sub(cold_from).and_then(NonZeroU64::new) {
        let _ = fadvise(file, cold_from, Some(length), Advice::DontNeed);
    }
    Ok(filled)
}

/// Forgets written pages: they are on disk, and nobody here reads them again.
pub fn forget(file: &File) {
    let _ = fadvise(file, 0, None, Advice::DontNeed);
}
