//! Small filesystems of their own, mounted for the length of a test.

use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};

pub struct Tmpfs(PathBuf);

impl Tmpfs {
    pub fn new(at: &Path, bytes: u64) -> Tmpfs {
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
