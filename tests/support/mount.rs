//! Small filesystems of their own, mounted for the length of a test.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};

/// Gives this test's thread, and what it starts, mounts of its own: no other test sees them.
fn apart() {
    unshare(CloneFlags::CLONE_NEWNS).expect("this test mounts a filesystem: run it as root");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(None::<&str>, "/", None::<&str>, private, None::<&str>).unwrap();
}

pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn new(at: &Path, bytes: u64) -> Tmpfs {
        apart();
        let options = format!("size={bytes},mode=0755");
        mount(Some("none"), at, Some("tmpfs"), MsFlags::empty(), Some(options.as_str()))
            .expect("this test mounts a filesystem: run it as root");
        Tmpfs(at.to_owned())
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        let _ = umount2(&self.0, MntFlags::MNT_DETACH);
    }
}

/// A mount whose server took the first question and never answers: whoever asks it anything hangs in the kernel,
/// beyond the reach of SIGKILL, until this is dropped.
pub struct DeadMount {
    at: PathBuf,
    /// Closing it aborts the connection, and all who wait for it are freed.
    device: Option<std::fs::File>,
}

impl DeadMount {
    pub fn new(at: &Path) -> DeadMount {
        use std::os::fd::AsRawFd;
        apart();
        let device = std::fs::File::options()
            .read(true)
            .write(true)
            .open("/dev/fuse")
            .expect("this test needs /dev/fuse");
        let options = format!("fd={},rootmode=40000,user_id=0,group_id=0", device.as_raw_fd());
        mount(Some("dead"), at, Some("fuse.dead"), MsFlags::empty(), Some(options.as_str()))
            .expect("this test mounts a filesystem: run it as root");
        answer_init(&device);
        // Takes every question off the queue, so that it can no longer be withdrawn by a signal.
        let mut questions = device.try_clone().unwrap();
        std::thread::spawn(move || {
            let mut question = vec![0; 1 << 20];
            while std::io::Read::read(&mut questions, &mut question).is_ok_and(|length| length > 0) {}
        });
        DeadMount { at: at.to_owned(), device: Some(device) }
    }
}

/// linux/fuse.h: FUSE_INIT, answered with version 7.31.
fn answer_init(mut device: &std::fs::File) {
    use std::io::{Read, Write};
    let mut question = vec![0; 1 << 20];
    assert!(device.read(&mut question).unwrap() >= 16, "a request begins with its header");
    let mut answer = [0_u8; 16 + 64];
    answer[0..4].copy_from_slice(&80_u32.to_le_bytes());
    answer[8..16].copy_from_slice(&question[8..16]);
    answer[16..20].copy_from_slice(&7_u32.to_le_bytes());
    answer[20..24].copy_from_slice(&31_u32.to_le_bytes());
    answer[36..40].copy_from_slice(&4096_u32.to_le_bytes());
    device.write_all(&answer).unwrap();
}

impl Drop for DeadMount {
    fn drop(&mut self) {
        let _ = umount2(&self.at, MntFlags::MNT_FORCE);
        let _ = umount2(&self.at, MntFlags::MNT_DETACH);
        drop(self.device.take());
    }
}
