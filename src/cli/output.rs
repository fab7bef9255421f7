//! Writes a result: readable by its owner only, whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

use crate::snapshot::archive;

/// Writes `content` to `path` with mode 0600. It is written beside its place and moved there when it is on
/// disk, so whoever looks sees the old file or the new one, never a part. `option` is what named the place.
pub fn write_for(path: &Path, content: &[u8], option: &str) -> anyhow::Result<()> {
    write_checked(path, content, option, |_| Ok(()))
}

/// The same, if `check` agrees to what is on disk before it is moved to its place.
pub fn write_checked(
    path: &Path,
    content: &[u8],
    option: &str,
    check: impl FnOnce(File) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let partial = beside(path);
    let written = write_partial(&partial, content).and_then(|()| File::open(&partial));
    let result = match written.map(check) {
        Ok(Ok(())) => std::fs::rename(&partial, path),
        Ok(Err(refused)) => {
            let _ = std::fs::remove_file(&partial);
            return Err(refused);
        }
        Err(error) => Err(error),
    };
    if result.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    result.with_context(|| {
        let size = warden_checks::quantity::bytes(content.len() as u64);
        format!("cannot write {} ({size}); choose another place with {option}", path.display())
    })?;
    sync_folder(path);
    Ok(())
}

/// Hands a new file to `fill`, and puts it to `path` when that is done and `check` agrees to what is on disk, whole or
/// not at all; says how large it got.
/// It goes to disk as it grows, and does not stay in the page cache.
pub fn write_with<T>(
    path: &Path,
    fill: impl FnOnce(Steady) -> anyhow::Result<T>,
    check: impl FnOnce(File) -> anyhow::Result<()>,
) -> anyhow::Result<(u64, T)> {
    let partial = beside(path);
    let filled = || -> anyhow::Result<(u64, T)> {
        let file = create(&partial)?;
        let told = fill(Steady { file: file.try_clone()?, waiting: 0 })?;
        file.sync_all()?;
        check(File::open(&partial)?)?;
        archive::forget(&file);
        std::fs::rename(&partial, path)?;
        Ok((file.metadata()?.len(), told))
    };
    let result = filled();
    if result.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    let result = result
        .with_context(|| format!("cannot write {}; choose another place with --output", path.display()))?;
    sync_folder(path);
    Ok(result)
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
        let written = self.file.write(bytes)?;
        self.waiting += written;
        if self.waiting >= WAITING {
            self.waiting = 0;
            self.file.sync_data()?;
            archive::forget(&self.file);
        }
        Ok(written)
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

impl Seek for Steady {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.file.seek(to)
    }
}

/// Whether something can be written at `path` at all, found out before the work is done.
pub fn ensure_writable(path: &Path) -> anyhow::Result<()> {
    let partial = beside(path);
    let tried = write_partial(&partial, b"").and_then(|()| std::fs::remove_file(&partial));
    tried.with_context(|| {
        format!("cannot write to {}; choose another place with --output", folder_of(path).display())
    })
}

fn write_partial(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = create(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
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
        write_for(&path, b"new", "--output").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
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
