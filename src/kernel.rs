//! Calls of the kernel that have no safe wrapper: the only place where unsafe code stands.

#![expect(unsafe_code, reason = "ioprio_set(2), sync_file_range(2) and adjtimex(2) have no safe wrapper")]

use std::fs::File;
use std::os::fd::AsRawFd;

use nix::libc;
use warden_checks::host::KernelClock;

/// The kernel lets its largest error grow to this when no time service says otherwise (NTP_PHASE_LIMIT, linux/timex.h),
/// in microseconds. That tells; its flag (STA_UNSYNC) may be set only to keep it off the hardware clock, as
/// systemd-timedated knows too.
const NOBODY_KEEPS_IT_US: i64 = 16_000_000;

/// The disk only when nobody else wants it, for the calling thread and those that it starts. A kernel or sandbox that
/// does not let us leaves it as it was.
pub fn idle_disk() {
    const WHO_PROCESS: i32 = 1;
    const THIS_THREAD: i32 = 0;
    const CLASS_IDLE: i32 = 3 << 13;
    // SAFETY: it takes three numbers and no pointer, and only the calling thread is changed.
    unsafe { libc::syscall(libc::SYS_ioprio_set, WHO_PROCESS, THIS_THREAD, CLASS_IDLE) };
}

/// Has the kernel begin to write these bytes of the file to their disk, and does not wait for it: who syncs later has
/// less to wait for, and no heap of dirty pages grows. A filesystem that cannot do it writes when it likes.
pub fn begin_writing(file: &File, offset: u64, bytes: u64) {
    let (Ok(offset), Ok(bytes)) = (i64::try_from(offset), i64::try_from(bytes)) else { return };
    // SAFETY: it takes numbers and no pointer; the descriptor is open as long as the file is borrowed.
    unsafe { libc::sync_file_range(file.as_raw_fd(), offset, bytes, libc::SYNC_FILE_RANGE_WRITE) };
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
    fn the_kernel_tells_of_its_clock_without_any_right() {
        let clock = clock().unwrap();
        assert!(clock.max_error_us >= 0 && clock.estimated_error_us >= 0, "{clock:?}");
    }
}
