//! Puts a file in its place whole: whoever looks sees the old one or the new one, also after a power cut.

use std::fs::{DirBuilder, File, OpenOptions, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use anyhow::Context;

/// Readable by its owner alone.
pub const PRIVATE: u32 = 0o600;
/// Readable by everybody on this host.
pub const PUBLIC: u32 = 0o644;

/// Writes `content` to `path`, synced, with this mode. Root gives it to the owner of the directory, so that what root
/// sets up for the agent is the agent's.
pub fn replace(path: &Path, content: &[u8], mode: u32) -> anyhow::Result<()> {
    let directory = path.parent().context("a file stands in a directory")?;
    let name = path.file_name().context("a file has a name")?.to_string_lossy();
    let partial = directory.join(format!(".{name}.{}.partial", std::process::id()));
    let written = write(&partial, directory, content, mode).and_then(|()| std::fs::rename(&partial, path));
    if written.is_err() {
        let _ = std::fs::remove_file(&partial);
    }
    written.with_context(|| format!("cannot write {}", path.display()))?;
    // Some filesystems cannot sync a directory, and the content is safe without it.
    if let Ok(directory) = File::open(directory) {
        let _ = directory.sync_all();
    }
    Ok(())
}

/// Makes a directory for the agent alone, and those above it, where it is not there.
pub fn directory(path: &Path) -> anyhow::Result<()> {
    let made = DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.with_context(|| format!("cannot make the directory {}", path.display()))
}

fn write(partial: &Path, directory: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    // One of the same process id that crashed half-way.
    match std::fs::remove_file(partial) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
        _ => {}
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(mode).open(partial)?;
    // What others shall read they can read, whatever the mask of this process.
    file.set_permissions(Permissions::from_mode(mode))?;
    if nix::unistd::Uid::effective().is_root() {
        let owner = std::fs::metadata(directory)?;
        fchown(&file, Some(owner.uid()), Some(owner.gid()))?;
    }
    file.write_all(content)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_new_content_replaces_the_old_and_nothing_is_left_beside_it() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("identity");
        replace(&path, b"old", PUBLIC).unwrap();
        replace(&path, b"new", PRIVATE).unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"new");
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[test]
    fn a_place_that_cannot_be_written_is_a_clear_error() {
        let error = replace(Path::new("/proc/nowhere/identity"), b"x", PRIVATE).unwrap_err();
        assert_eq!(
            format!("{error:#}"),
            "cannot write /proc/nowhere/identity: No such file or directory (os error 2)"
        );
    }
}
