//! Writes a result: readable by its owner only, whole or not at all.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use anyhow::Context;

/// Writes `content` to `path` with mode 0600. It is written beside its place and moved there when it is on
/// disk, so whoever looks sees the old file or the new one, never a part.
pub fn write(path: &Path, content: &[u8]) -> anyhow::Result<()> {
    write_for(path, content, "--output")
}

/// The same for another `option` that named the place.
pub fn write_for(path: &Path, content: &[u8], option: &str) -> anyhow::Result<()> {
    let partial = beside(path);
    let result = write_partial(&partial, content).and_then(|()| std::fs::rename(&partial, path));
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

/// Whether something can be written at `path` at all, found out before the work is done.
pub fn ensure_writable(path: &Path) -> anyhow::Result<()> {
    let partial = beside(path);
    let tried = write_partial(&partial, b"").and_then(|()| std::fs::remove_file(&partial));
    tried.with_context(|| {
        format!("cannot write to {}; choose another place with --output", folder_of(path).display())
    })
}

fn write_partial(path: &Path, content: &[u8]) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

fn beside(path: &Path) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    folder_of(path).join(format!(".{name}.{}.partial", std::process::id()))
}

fn folder_of(path: &Path) -> &Path {
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
        write(&path, b"new").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_a_clear_error() {
        let error = write(Path::new("/proc/nowhere/snapshot.zip"), b"12345").unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot write /proc/nowhere/snapshot.zip (5 B); choose another place with --output: No such file or directory (os error 2)"
        );
    }
}
