//! Reads beside a running Iggy without being felt: last in line for the disk and the cores, and with no trace in the
//! page cache.

use std::cell::Cell;
use std::fs::File;
use std::io::{self, IoSliceMut, Read};
use std::num::NonZeroU64;
use std::os::unix::fs::FileExt;
use std::sync::Once;
use std::time::{Duration, Instant};

use nix::unistd::{getpid, getsid, setsid};
use rustix::fs::{Advice, fadvise};
use rustix::io::{Errno, ReadWriteFlags, preadv2};

use crate::syscalls;

/// The last of the kernel's 40 steps.
const NICE: i32 = 19;
/// Where the niceness of a whole session stands (sched(7), "The autogroup feature").
const SESSION: &str = "/proc/self/autogroup";
/// Without rights the kernel takes a new one ten times a second, from all of the host together.
const SESSION_TRIES: u32 = 3;
const SESSION_PAUSE: Duration = Duration::from_millis(100);
/// Bytes of the smallest page there is.
const PAGE: u64 = 4096;

mod pace;

/// Puts the calling thread, and those that it starts, behind all others: the disk only when nobody else wants it, the
/// cores likewise. A kernel or sandbox that does not let us only makes it less gentle.
pub fn step_back() {
    let _ = rustix::process::setpriority_process(None, NICE);
    syscalls::idle_disk();
}

/// The same for this whole process and its children, for good. Between sessions the niceness of threads does not count,
/// only that of sessions; so it needs one of its own ([`own_session`]), and nothing happens in somebody else's. Where
/// that leaves less than a floor (`pace::FLOOR`), a thread of its own moves it up as far as needed.
pub fn step_back_as_session() {
    static KEPT: Once = Once::new();
    step_back();
    // In a container it can have begun outside, and has the number 0 then: rustix takes that for impossible.
    let is_own = getsid(None) == Ok(getpid());
    // From then on the floor decides on it.
    KEPT.call_once(|| {
        if is_own {
            set_session_niceness(NICE);
        }
        // Without it, it is only slower.
        let _ = std::thread::Builder::new().name("pace".to_owned()).spawn(move || pace::keep(is_own));
    });
}

fn set_session_niceness(nice: i32) {
    for _ in 0..SESSION_TRIES {
        match std::fs::write(SESSION, nice.to_string()) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => std::thread::sleep(SESSION_PAUSE),
            // A kernel without sessions in its scheduler has nothing to be told.
            _ => return,
        }
    }
}

/// Makes this process a session. One that leads a group of processes cannot be, and stays in the one that it is in.
pub fn own_session() {
    let _ = setsid();
}

/// Lets go of the core if somebody else waits for it, once in a turn (`pace::Level`). The kernel itself looks only every
/// few milliseconds, which is longer than Iggy needs to answer: what computes for long asks this often. On a host that is
/// all taken, who lets go waits a millisecond and more for the next turn, and so must have used the one before.
pub fn make_way() {
    thread_local! {
        static LET_GO: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    }
    // Of the time on a core: who was off it has just come.
    let now = computed();
    if now.saturating_sub(LET_GO.get()) >= pace::level().turn {
        std::thread::yield_now();
        LET_GO.set(now);
    }
}

/// Time that the calling thread has been on a core. Where the kernel does not say, time passes.
fn computed() -> Duration {
    let clock = nix::time::ClockId::CLOCK_THREAD_CPUTIME_ID;
    nix::time::clock_gettime(clock).map_or(Duration::MAX, Duration::from)
}

/// How long threads of this process, without the calling one and those that have ended, have computed or have waited for
/// a core: whoever steps back waits long where all cores are taken. Zero where the kernel does not say.
pub fn at_work() -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let own = rustix::thread::gettid().as_raw_nonzero().to_string();
    let others = threads.flatten().filter(|thread| thread.file_name() != own.as_str());
    others
        .filter_map(|thread| scheduled(&std::fs::read_to_string(thread.path().join("schedstat")).ok()?))
        .map(|(computed, waited)| computed + waited)
        .sum()
}

/// How long threads of this process that still run have waited for a core.
fn waited() -> Duration {
    let Ok(threads) = std::fs::read_dir("/proc/self/task") else { return Duration::ZERO };
    let schedstat = |thread: std::fs::DirEntry| std::fs::read_to_string(thread.path().join("schedstat")).ok();
    threads.flatten().filter_map(|thread| scheduled(&schedstat(thread)?)).map(|(_, waited)| waited).sum()
}

/// Time on a core and time waiting for one (the kernel's Documentation/scheduler/sched-stats.rst), of one thread.
fn scheduled(schedstat: &str) -> Option<(Duration, Duration)> {
    let mut nanoseconds = schedstat.split_ascii_whitespace().map(str::parse::<u64>);
    let mut next = || Some(Duration::from_nanos(nanoseconds.next()?.ok()?));
    Some((next()?, next()?))
}

/// Each read asks for all it wants: what the kernel would read ahead could not be told from what was there before.
pub fn without_readahead(file: &File) {
    let _ = fadvise(file, 0, None, Advice::Random);
}

/// Fills `buffer` from `offset` on as far as the file goes, and returns how far that was. What was not in the page
/// cache before is not there afterwards; what was, stays. A cold block with warm pages in its middle loses those:
/// blocks are small.
pub fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
    make_way();
    let (warm, can_tell) = loop {
        match preadv2(file, &mut [IoSliceMut::new(buffer)], offset, ReadWriteFlags::NOWAIT) {
            Ok(warm) => break (warm, true),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => break (0, true),
            // Filesystems that cannot tell keep what they keep.
            Err(_) => break (0, false),
        }
    };
    // The question alone may have begun to bring in the rest: it was not there before.
    let mut filled = warm;
    let began = (filled < buffer.len()).then(Instant::now);
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], offset + filled as u64) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            read => match read? {
                0 => break,
                read => filled += read,
            },
        }
    }
    pace::done(filled as u64);
    // At the end of a file nothing was waited for.
    if let Some(began) = began.filter(|_| filled > warm) {
        pace::at_disk(began.elapsed());
    }
    // The kernel keeps a page of which only a part is named: at the end of a file, the last.
    let (from, to) = (offset + warm as u64, (offset + filled as u64).next_multiple_of(PAGE));
    if let (true, Some(length)) = (can_tell && filled > warm, NonZeroU64::new(to - from)) {
        let _ = fadvise(file, from, Some(length), Advice::DontNeed);
    }
    Ok(filled)
}

/// Forgets written pages: they are on disk, and nobody here reads them again.
pub fn forget(file: &File) {
    forget_from(file, 0, None);
}

/// The same of `length` bytes from `offset` on, or of all there.
pub fn forget_from(file: &File, offset: u64, length: Option<NonZeroU64>) {
    let _ = fadvise(file, offset, length, Advice::DontNeed);
}

/// A file read from front to end, and not behind `limit`.
pub struct Gentle {
    file: File,
    position: u64,
    limit: u64,
}

impl Gentle {
    pub fn new(file: File, limit: u64) -> Gentle {
        without_readahead(&file);
        Gentle { file, position: 0, limit }
    }

    /// Goes on `bytes` further without reading them.
    pub fn skip(&mut self, bytes: u64) {
        self.position = self.position.saturating_add(bytes);
    }
}

impl Read for Gentle {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let left = usize::try_from(self.limit.saturating_sub(self.position)).unwrap_or(usize::MAX);
        let wanted = buffer.len().min(left);
        let read = read_at(&self.file, &mut buffer[..wanted], self.position)?;
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[test]
    fn a_thread_that_computes_is_at_work() {
        static ENOUGH: AtomicBool = AtomicBool::new(false);
        let before = at_work();
        let computing = || {
            while !ENOUGH.load(Ordering::Relaxed) {
                std::hint::spin_loop();
            }
        };
        let thread = std::thread::spawn(computing);
        while at_work().saturating_sub(before) < Duration::from_millis(50) {
            std::thread::sleep(Duration::from_millis(1));
        }
        ENOUGH.store(true, Ordering::Relaxed);
        thread.join().unwrap();
    }

    #[test]
    fn time_on_a_core_and_time_before_it_is_work() {
        let expected = (Duration::from_nanos(116_754), Duration::from_nanos(2_539_667));
        assert_eq!(scheduled("116754 2539667 2\n"), Some(expected));
        for torn in ["", "1", "1 x 3", "18446744073709551616 1 1"] {
            assert_eq!(scheduled(torn), None, "{torn}");
        }
    }
}
