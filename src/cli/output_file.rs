//! Writes a result: readable by its owner only, whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, Write};
use std::os::fd::AsRawFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;
use rustix::fs::{AtFlags, CWD, Mode, OFlags, linkat, open};
use rustix::io::Errno;

use crate::background_io;

/// Writes `content` to `path` with mode 0600. It gets its name when it is on disk, so whoever looks sees the old file
/// or the new one, never a part. `option` is what named the place.
pub fn write_for(path: &Path, content: &[u8], option: &str) -> anyhow::Result<()> {
    write_checked(path, content, option, |_| Ok(()))
}

/// The same, if `check` agrees to what is on disk before it gets its name.
pub fn write_checked(
    path: &Path,
    content: &[u8],
    option: &str,
    check: impl FnOnce(File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let fill = |mut file: Steady| Ok(file.write_all(content)?);
    write(path, fill, |file, ()| check(file)).map(|_| ()).map_err(|error| {
        let size = warden_host::quantity::bytes(content.len() as u64);
        explained(error, path, &format!(" ({size})"), option)
    })
}

/// Hands a new file to `fill`, and names it `path` when that is done and `check` agrees to what is on disk and to what
/// `fill` returned, whole or not at all; says how large it got.
/// It goes to disk as it grows, and does not stay in the page cache.
pub fn write_with<T>(
    path: &Path,
    fill: impl FnOnce(Steady) -> anyhow::Result<T>,
    check: impl FnOnce(File, &T) -> anyhow::Result<()>,
) -> anyhow::Result<(u64, T)> {
    write(path, fill, check).map_err(|error| explained(error, path, "", "--output"))
}

/// What the disk says is told with the place; what was refused is told as it is.
fn explained(error: anyhow::Error, path: &Path, size: &str, option: &str) -> anyhow::Error {
    let from_disk = |cause: &(dyn std::error::Error + 'static)| {
        cause.downcast_ref::<io::Error>().is_some_and(|error| error.raw_os_error().is_some())
    };
    if !error.chain().any(from_disk) {
        return error;
    }
    error.context(format!("cannot write {}{size}; choose another place with {option}", path.display()))
}

fn write<T>(
    path: &Path,
    fill: impl FnOnce(Steady) -> anyhow::Result<T>,
    check: impl FnOnce(File, &T) -> anyhow::Result<()>,
) -> anyhow::Result<(u64, T)> {
    let fresh = Fresh::beside(path)?;
    let told = fill(Steady { file: fresh.file.try_clone()?, waiting: 0 })?;
    fresh.file.sync_all()?;
    let mut again = fresh.file.try_clone()?;
    again.rewind()?;
    check(again, &told)?;
    background_io::forget(&fresh.file);
    let bytes = fresh.file.metadata()?.len();
    fresh.name(path)?;
    sync_folder(path);
    Ok((bytes, told))
}

/// A file that has no name yet: whatever ends this process, nothing is left of it. Where the filesystem knows no such
/// files, it has one that tells that it is not whole, and loses it again unless the process is killed.
struct Fresh {
    file: File,
    partial: Option<PathBuf>,
}

impl Fresh {
    fn beside(path: &Path) -> io::Result<Fresh> {
        let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
        if let Ok(file) = open(folder_of(path), flags, Mode::RUSR | Mode::WUSR) {
            return Ok(Fresh { file: File::from(file), partial: None });
        }
        let partial = beside(path);
        let file = OpenOptions::new().read(true).write(true).create_new(true).mode(0o600).open(&partial)?;
        Ok(Fresh { file, partial: Some(partial) })
    }

    /// Gives it its name, in the place of a file that has it already.
    fn name(mut self, path: &Path) -> io::Result<()> {
        if self.partial.is_none() {
            match self.link(path) {
                Err(Errno::EXIST) => {
                    // No call does both: link the new, and take the name of the old.
                    let partial = beside(path);
                    self.link(&partial)?;
                    self.partial = Some(partial);
                }
                done => return Ok(done?),
            }
        }
        let Some(partial) = &self.partial else { return Ok(()) };
        std::fs::rename(partial, path)?;
        self.partial = None;
        Ok(())
    }

    fn link(&self, path: &Path) -> Result<(), Errno> {
        let own = format!("/proc/self/fd/{}", self.file.as_raw_fd());
        match linkat(CWD, own.as_str(), CWD, path, AtFlags::SYMLINK_FOLLOW) {
            // Without /proc it takes a right that root has.
            Err(Errno::NOENT) => linkat(&self.file, "", CWD, path, AtFlags::EMPTY_PATH),
            done => done,
        }
    }
}

impl Drop for Fresh {
    fn drop(&mut self) {
        if let Some(partial) = &self.partial {
            let _ = std::fs::remove_file(partial);
        }
    }
}

/// Bytes handed to the kernel at once.
pub const WRITTEN_AT_ONCE: usize = 256 << 10;
/// Bytes that may wait in memory for the disk: more at once would make others wait for theirs.
const WAITING: usize = 64 << 20;

/// A file that does not let its bytes pile up in memory.
pub struct Steady {
    file: File,
    waiting: usize,
}

impl Write for Steady {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        background_io::make_way();
        let written = self.file.write(bytes)?;
        self.waiting += written;
        if self.waiting >= WAITING {
            self.waiting = 0;
            self.file.sync_data()?;
            background_io::forget(&self.file);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

/// Whether something can be written at `path` at all, found out before the work is done.
pub fn ensure_writable(path: &Path) -> anyhow::Result<()> {
    Fresh::beside(path).map(drop).with_context(|| {
        format!("cannot write to {}; choose another place with --output", folder_of(path).display())
    })
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder_of(path).join(format!(".{name}.{}.partial", std::process::id()))
}

pub fn folder_of(path: &Path) -> &Path {
    path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// The name is on disk too. Some filesystems cannot sync a folder, and the content is safe without it.
fn sync_folder(path: &Path) {
    if let Ok(folder) = File::open(folder_of(path)) {
        let _ = folder.sync_all();
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn the_file_is_its_owners_alone_and_replaces_the_old_one_whole() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.zip");
        std::fs::write(&path, "old").unwrap();
        for new in ["new", "newer"] {
            write_for(&path, new.as_bytes(), "--output").unwrap();
            assert_eq!(std::fs::read_to_string(&path).unwrap(), new);
            assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
            assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
        }
    }

    #[test]
    fn until_it_is_whole_it_has_no_name() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.zip");
        let names = || std::fs::read_dir(folder.path()).unwrap().count();
        let (bytes, seen) = write_with(
            &path,
            |mut file| {
                file.write_all(b"whole")?;
                Ok(names())
            },
            |mut file, _| {
                assert_eq!(io::read_to_string(&mut file)?, "whole");
                anyhow::ensure!(names() == 0, "it is named before it is checked");
                Ok(())
            },
        )
        .unwrap();
        assert_eq!((bytes, seen, names()), (5, 0, 1));
    }

    #[test]
    fn where_files_without_a_name_are_unknown_it_is_the_same_but_for_a_kill() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.zip");
        let partial = |content: &[u8]| {
            let partial = beside(&path);
            std::fs::write(&partial, content).unwrap();
            Fresh { file: File::open(&partial).unwrap(), partial: Some(partial) }
        };
        partial(b"new").name(&path).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        drop(partial(b"refused"));
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn what_a_check_refuses_leaves_nothing_behind() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("snapshot.zip");
        let refused = write_checked(&path, b"x", "--output", |_| anyhow::bail!("no"));
        assert_eq!(refused.unwrap_err().to_string(), "no");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 0);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_a_clear_error() {
        let error = write_for(Path::new("/proc/nowhere/snapshot.zip"), b"12345", "--output").unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot write /proc/nowhere/snapshot.zip (5 B); choose another place with --output: No such file or directory (os error 2)"
        );
    }
}
