//! A directory and the files below it, as far as one user may read them.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use cap_std::fs::Dir;
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;

use super::{Permissions, READ, SEARCH, UserView};

/// A directory that is held open. No name leads out of it, and no link below it is followed.
#[derive(Debug)]
pub struct Directory {
    dir: Dir,
    /// `None`: whatever this process itself may read.
    permissions: Option<Permissions>,
    /// The folder in which a file was opened last: the next one is most often beside it.
    last: Mutex<Option<(PathBuf, Arc<OwnedFd>)>>,
}

impl Directory {
    /// With all rights of this process: for a directory that the user named who started it.
    pub fn open(path: &Path) -> io::Result<Directory> {
        let dir = Dir::open_ambient_dir(path, cap_std::ambient_authority())?;
        Ok(Directory { dir, permissions: None, last: Mutex::default() })
    }

    /// With the rights of the user that it belongs to: who writes there can also put links to the files of others there.
    pub fn of_owner(path: &Path) -> io::Result<Directory> {
        let directory = Directory::open(path)?;
        let owner = directory.dir.try_clone()?.into_std_file().metadata()?.uid();
        Ok(Directory { permissions: Some(Permissions::of_number(owner)), ..directory })
    }

    /// As `view` has it.
    pub fn in_view(view: &UserView, path: &Path) -> io::Result<Directory> {
        let dir = Dir::from_std_file(view.open_directory(path)?);
        Ok(Directory { dir, permissions: Some(view.permissions().clone()), last: Mutex::default() })
    }

    pub fn try_clone(&self) -> io::Result<Directory> {
        let dir = self.dir.try_clone()?;
        Ok(Directory { dir, permissions: self.permissions.clone(), last: Mutex::default() })
    }

    /// To be listed. A folder in it that was opened is to be shown to [`Directory::may_list`].
    pub const fn dir(&self) -> &Dir {
        &self.dir
    }

    /// Fails where the user may not list `folder` and look into it.
    pub fn may_list(&self, folder: &Dir) -> io::Result<()> {
        self.demand(folder, READ | SEARCH)
    }

    /// Opens the regular file at `path`, relative to this directory, for reading. `flags` are added.
    pub fn open_file(&self, path: &Path, flags: OFlags) -> io::Result<File> {
        let name = path.file_name().ok_or(Errno::INVAL)?;
        let folder = self.folder(path.parent().unwrap_or(Path::new("")))?;
        let common = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let file = rustix::fs::openat(&folder, name, common | flags, Mode::empty())?;
        self.demand(&file, READ)?;
        Ok(File::from(file))
    }

    fn folder(&self, path: &Path) -> io::Result<Arc<OwnedFd>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((known, folder)) = &*last
            && known == path
        {
            return Ok(Arc::clone(folder));
        }
        let mut folder = self.dir.as_fd().try_clone_to_owned()?;
        self.demand(&folder, SEARCH)?;
        for part in path {
            folder = below(&folder, part)?;
            self.demand(&folder, SEARCH)?;
        }
        let folder = Arc::new(folder);
        *last = Some((path.to_owned(), Arc::clone(&folder)));
        Ok(folder)
    }

    fn demand(&self, place: impl AsFd, wanted: u32) -> io::Result<()> {
        let Some(permissions) = &self.permissions else { return Ok(()) };
        let place = place.as_fd();
        match permissions.allow(place, &rustix::fs::fstat(place)?, wanted)? {
            true => Ok(()),
            false => Err(Errno::ACCESS.into()),
        }
    }
}

fn below(folder: &OwnedFd, name: &OsStr) -> io::Result<OwnedFd> {
    if name == ".." {
        return Err(Errno::INVAL.into());
    }
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    Ok(rustix::fs::openat(folder, name, flags, Mode::empty())?)
}
