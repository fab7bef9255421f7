//! Calls of the kernel and of the C library that have no safe wrapper: the only place where unsafe code stands.

#![expect(
    unsafe_code,
    reason = "ioprio_set, sync_file_range, madvise and adjtimex (2) and mallopt (3) have no safe wrapper"
)]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::libc;
use warden_host::KernelClock;

/// The kernel lets its largest error grow to this when no time service says otherwise (NTP_PHASE_LIMIT, linux/timex.h),
/// in microseconds. That tells; its flag (STA_UNSYNC) may be set only to keep it off the hardware clock, as
/// systemd-timedated knows too.
const NOBODY_KEEPS_IT_US: i64 = 16_000_000;

/// The disk only when nobody else wants it, for the calling thread and those that it starts. A kernel or sandbox that
/// does not let us leaves it as it was.
pub fn idle_disk() {
    const THIS_THREAD: i32 = 0;
    disk_class(THIS_THREAD, true);
}

/// The same for the thread `number` of this process, or, if it is not to be `idle`, behind all others that are in line.
pub fn disk_class(number: i32, idle: bool) {
    const WHO_PROCESS: i32 = 1;
    const CLASS_IDLE: i32 = 3 << 13;
    const LAST_IN_LINE: i32 = (2 << 13) | 7;
    let class = if idle { CLASS_IDLE } else { LAST_IN_LINE };
    // SAFETY: it takes three numbers and no pointer, and only that thread is changed.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, number, class) };
}

/// Has the kernel begin to write these bytes of the file to their disk, and does not wait for it: who syncs later has
/// less to wait for, and no heap of dirty pages grows. A filesystem that cannot do it writes when it likes.
pub fn begin_writing(file: &File, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else { return };
    // SAFETY: it takes numbers and no pointer; the descriptor is open as long as the file is borrowed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE) };
}

/// Has the allocator give each block of 128 KiB and more back to the kernel when it is freed, for good. glibc begins like
/// this, and stops at the first large block that is freed: from then on it keeps up to 64 MiB for the next ones
/// (mallopt(3), `M_MMAP_THRESHOLD`). To be called before there are threads. Other allocators stay as they are.
pub fn give_memory_back() {
    #[cfg(target_env = "gnu")]
    {
        const LARGE: libc::c_int = 128 << 10;
        // SAFETY: it takes two numbers and no pointer, and no other thread allocates meanwhile.
        unsafe { libc::mallopt(libc::M_MMAP_THRESHOLD, LARGE) };
    }
}

/// Takes the pages of code out of this process. They stay in the page cache, where the kernel finds them first when it
/// wants memory, and what is called again is mapped again.
pub fn let_go_of_code() {
    let Ok(maps) = std::fs::read_to_string("/proc/self/maps") else { return };
    for (start, end) in maps.lines().filter_map(code) {
        // SAFETY: what is mapped from a file and executable but not writable is as it is in the file, and comes back
        // from there: this program changes no code.
        unsafe { libc::madvise(start as *mut libc::c_void, end - start, libc::MADV_DONTNEED) };
    }
}

/// Where a line of /proc/PID/maps (proc_pid_maps(5)) tells of code that is mapped from a file.
fn code(line: &str) -> Option<(usize, usize)> {
    let mut fields = line.split_ascii_whitespace();
    let (range, rights, inode) = (fields.next()?, fields.next()?, fields.nth(2)?);
    if rights != "r-xp" || inode == "0" {
        return None;
    }
    let (start, end) = range.split_once('-')?;
    Some((usize::from_str_radix(start, 16).ok()?, usize::from_str_radix(end, 16).ok()?))
}

/// What the kernel holds of its clock (adjtimex(2)); `None` where it does not say.
pub fn clock() -> Option<KernelClock> {
    // SAFETY: a timex is numbers, for which zeros are valid; without modes it is only filled in, and not kept.
    let (state, told) = unsafe {
        let mut told: libc::timex = std::mem::zeroed();
        (libc::adjtimex(&raw mut told), told)
    };
    (state >= 0).then_some(KernelClock {
        synchronised: told.maxerror < NOBODY_KEEPS_IT_US,
        max_error_us: told.maxerror,
        estimated_error_us: told.esterror,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_code_from_a_file_is_let_go_of() {
        let lines = [
            "00400000-00452000 r-xp 00000000 08:02 173521 /usr/bin/warden",
            "00651000-00652000 r--p 00051000 08:02 173521 /usr/bin/warden",
            "00652000-00655000 rw-p 00052000 08:02 173521 /usr/bin/warden",
            "7ffd1000-7ffd2000 r-xp 00000000 00:00 0 [vdso]",
            "35b1a000-35b1c000 rwxp 00000000 08:02 135870 /tmp/written",
        ];
        assert_eq!(lines.into_iter().filter_map(code).collect::<Vec<_>>(), [(0x40_0000, 0x45_2000)]);
    }

    #[test]
    fn the_kernel_tells_of_its_clock_without_any_right() {
        let clock = clock().unwrap();
        assert!(clock.max_error_us >= 0 && clock.estimated_error_us >= 0, "{clock:?}");
    }
}
