//! The filesystem as another user sees it: what a privileged process reads of paths that this user chose.
//!
//! Paths are walked component by component. Each is opened without following it (`O_PATH | O_NOFOLLOW`), and the
//! permissions of that very descriptor decide; a file is then read through its descriptor. Nothing is decided on a name
//! and done on another object, so renaming between the two gains nothing, and a link leads no further than its owner
//! could have gone on foot: also below a root directory of its own, which neither `..` nor an absolute link leaves.
//!
//! Taking over the user's identity for the open (setfsuid(2)) would leave the decision to the kernel, but needs
//! CAP_SETUID, with which a process can become anybody. The agent reads with CAP_DAC_READ_SEARCH and must not have
//! that, so there would be two ways to decide, of which one is never run as root. Mode bits and POSIX ACLs, which is
//! what is judged here, are what the kernel judges for a user without capabilities; rights that a security module, a
//! file server or a user namespace adds are not granted, and what one of them takes away still binds this process.

mod directory;
mod permissions;

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

pub use directory::Directory;
use nix::fcntl::OFlag;
pub use permissions::{Permissions, READ, SEARCH};
use rustix::fs::{FileType, Mode, OFlags};
use rustix::io::Errno;

/// Directories that one path may lead through: each is held open meanwhile.
const DEPTH: usize = 64;
/// Symbolic links that one path may lead through, as in the kernel (path_resolution(7)).
const LINKS: usize = 40;
/// linux/magic.h. What a file of /proc shows depends on who asks: it is Warden's own to ask.
const PROC_SUPER_MAGIC: i64 = 0x9fa0;

/// The filesystem below a root directory, as far as the permissions of one user reach.
#[derive(Debug)]
pub struct UserView {
    permissions: Permissions,
    root: OwnedFd,
}

/// What a path leads to, opened as a mere place (`O_PATH`): nothing was asked of a device, fifo or server yet.
#[derive(Debug)]
pub struct Found {
    place: OwnedFd,
    stat: rustix::fs::Stat,
}

impl UserView {
    /// Of the directories of this process.
    pub fn new(permissions: Permissions) -> io::Result<UserView> {
        Ok(UserView { permissions, root: place(rustix::fs::CWD, Path::new("/"))? })
    }

    /// Of a process: below its own root directory, or the working directory if `anchor` says so. `started`, in clock
    /// ticks since boot, must be when it began, if it is given.
    pub fn of_process(pid: u32, started: Option<u64>, anchor: Anchor) -> io::Result<UserView> {
        // Its directory in /proc goes stale with the process: another one with the same number is not behind it.
        let process = place(rustix::fs::CWD, &PathBuf::from(format!("/proc/{pid}")))?;
        let text = |name: &str| {
            io::read_to_string(File::from(rustix::fs::openat(
                &process,
                name,
                OFlags::RDONLY | OFlags::CLOEXEC,
                Mode::empty(),
            )?))
        };
        let stat = text("stat")?;
        let began = warden_host::proc::ProcessStat::parse(&stat).map(|stat| stat.start_ticks);
        if started.is_some() && began != started {
            return Err(Errno::SRCH.into());
        }
        let own_users = std::fs::read_link("/proc/self/ns/user").ok();
        let its_users = rustix::fs::readlinkat(&process, "ns/user", Vec::new()).ok();
        let shares_users = own_users
            .is_some_and(|own| its_users.is_some_and(|its| its.as_bytes() == own.as_os_str().as_bytes()));
        let permissions = Permissions::of_process(&text("status")?, shares_users)
            .ok_or_else(|| io::Error::other("its user cannot be told"))?;
        // A link of the kernel's, to be followed: it leads where the process itself is.
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let root = rustix::fs::openat(&process, anchor.name(), flags, Mode::empty())?;
        Ok(UserView { permissions, root })
    }

    pub fn permissions(&self) -> &Permissions {
        &self.permissions
    }

    /// Goes where `path` leads. A link at its end is followed only if `follow` says so.
    pub fn find(&self, path: &Path, follow: bool) -> io::Result<Found> {
        let mut above: Vec<Found> = Vec::new();
        let mut left = parts(path.as_os_str());
        let mut links = 0;
        let root = Found::new(self.root.try_clone()?)?;
        while let Some(part) = left.pop() {
            match part.as_bytes() {
                b"" | b"." => continue,
                b".." => {
                    above.pop();
                    continue;
                }
                _ => {}
            }
            let at = above.last().unwrap_or(&root);
            self.demand(at, SEARCH)?;
            let found = Found::new(place(&at.place, Path::new(&part))?)?;
            match found.kind() {
                FileType::Symlink if follow || !left.is_empty() => {
                    links += 1;
                    if links > LINKS {
                        return Err(Errno::LOOP.into());
                    }
                    let target = rustix::fs::readlinkat(&found.place, "", Vec::new())?.into_bytes();
                    if target.first() == Some(&b'/') {
                        above.clear();
                    }
                    left.extend(parts(OsStr::from_bytes(&target)));
                }
                FileType::Directory => {
                    above.push(found);
                    if above.len() > DEPTH {
                        return Err(Errno::NAMETOOLONG.into());
                    }
                }
                _ if left.is_empty() => return Ok(found),
                FileType::RegularFile
                | FileType::Symlink
                | FileType::Fifo
                | FileType::Socket
                | FileType::CharacterDevice
                | FileType::BlockDevice
                | FileType::Unknown => return Err(Errno::NOTDIR.into()),
            }
        }
        Ok(above.pop().unwrap_or(root))
    }

    /// Opens a regular file for reading. Anything else would block, or give bytes without end.
    pub fn open(&self, path: &Path) -> io::Result<File> {
        let found = self.find(path, true)?;
        if found.kind() != FileType::RegularFile {
            return Err(io::Error::other("is not a regular file"));
        }
        self.demand(&found, READ)?;
        found.reopen(OFlag::O_NONBLOCK | OFlag::O_NOCTTY)
    }

    /// Opens a directory, to be listed.
    pub fn open_directory(&self, path: &Path) -> io::Result<File> {
        let found = self.find(path, true)?;
        if found.kind() != FileType::Directory {
            return Err(Errno::NOTDIR.into());
        }
        self.demand(&found, READ)?;
        found.reopen(OFlag::O_DIRECTORY)
    }

    fn demand(&self, found: &Found, wanted: u32) -> io::Result<()> {
        match self.permissions.allow(found.place.as_fd(), &found.stat, wanted)? {
            true => Ok(()),
            false => Err(Errno::ACCESS.into()),
        }
    }
}

/// Where the paths of a process begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Anchor {
    Root,
    WorkingDirectory,
}

impl Anchor {
    /// The link of the kernel's in /proc/PID.
    pub const fn name(self) -> &'static str {
        match self {
            Anchor::Root => "root",
            Anchor::WorkingDirectory => "cwd",
        }
    }
}

impl Found {
    fn new(place: OwnedFd) -> io::Result<Found> {
        let kind = rustix::fs::fstatfs(&place)?.f_type;
        if kind == PROC_SUPER_MAGIC {
            return Err(io::Error::other("is not followed into /proc"));
        }
        let stat = rustix::fs::fstat(&place)?;
        Ok(Found { place, stat })
    }

    fn kind(&self) -> FileType {
        FileType::from_raw_mode(self.stat.st_mode)
    }

    /// The same object, to be read. The link in /proc leads to what is open, whatever its name is by now.
    fn reopen(&self, flags: OFlag) -> io::Result<File> {
        let path = format!("/proc/self/fd/{}", self.place.as_raw_fd());
        std::fs::OpenOptions::new().read(true).custom_flags((flags | OFlag::O_CLOEXEC).bits()).open(path)
    }

    /// Where a symbolic link points.
    pub fn target(&self) -> io::Result<OsString> {
        Ok(OsString::from_vec(rustix::fs::readlinkat(&self.place, "", Vec::new())?.into_bytes()))
    }

    /// The number of the user that it belongs to.
    pub fn owner(&self) -> u32 {
        self.stat.st_uid
    }

    /// Only to be asked for its metadata.
    pub fn into_place(self) -> File {
        File::from(self.place)
    }
}

/// Opens whatever is there, without following a link at the end and without asking anything of it.
fn place(at: impl AsFd, path: &Path) -> io::Result<OwnedFd> {
    Ok(rustix::fs::openat(at, path, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())?)
}

/// The components of a path, the last one first.
fn parts(path: &OsStr) -> Vec<OsString> {
    path.as_bytes().split(|&byte| byte == b'/').rev().map(|part| OsStr::from_bytes(part).to_owned()).collect()
}
