//! Archives on their way to the Supervisor, in a folder of the agent's.

use std::fs::{self, File};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::agent::upload;

/// Read at once while an archive is hashed.
const BLOCK: usize = 1 << 20;

/// How much may wait. Reached, no further snapshot is taken until one is sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    pub archives: usize,
    pub bytes: u64,
}

#[derive(Debug)]
pub struct Outbox {
    folder: PathBuf,
    limits: Limits,
}

/// An archive that is whole.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Taken {
    pub archive: PathBuf,
    pub size: u64,
    /// 64 hex digits.
    pub sha256: String,
    /// The worst finding.
    pub verdict: String,
}

#[derive(Serialize, Deserialize)]
struct Label {
    size: u64,
    sha256: String,
    verdict: String,
}

impl Outbox {
    /// # Errors
    /// The folder cannot be made.
    pub fn open(folder: &Path, limits: Limits) -> anyhow::Result<Outbox> {
        fs::DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(folder)
            .with_context(|| format!("cannot keep archives in {}", folder.display()))?;
        Ok(Outbox { folder: folder.to_owned(), limits })
    }

    /// The archive of a request, if it was finished. One that was cut off, or does not fit its label, is none.
    pub fn taken(&self, request: u64) -> Option<Taken> {
        let archive = self.archive(request);
        let label: Label = serde_json::from_slice(&fs::read(label(&archive)).ok()?).ok()?;
        let size = fs::metadata(&archive).ok()?.len();
        let Label { sha256, verdict, .. } = label;
        (size == label.size).then_some(Taken { archive, size, sha256, verdict })
    }

    /// Where the archive of a request is to be written; nothing is there.
    ///
    /// # Errors
    /// The outbox is full.
    pub fn place(&self, request: u64) -> anyhow::Result<PathBuf> {
        self.remove(request);
        let (mut archives, mut bytes) = (0, 0);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|ending| ending == "zip") {
                archives += 1;
                bytes += entry.metadata()?.len();
            }
        }
        let Limits { archives: most, bytes: most_bytes } = self.limits;
        ensure!(archives < most, "{archives} archives wait to be sent, the limit is {most}");
        ensure!(bytes < most_bytes, "{bytes} bytes wait to be sent, the limit is {most_bytes}");
        Ok(self.archive(request))
    }

    /// Labels the archive that was written to its [`Outbox::place`]: from now on it is whole.
    ///
    /// # Errors
    /// It cannot be read, or the label not be written.
    pub async fn keep(&self, request: u64, verdict: String) -> anyhow::Result<Taken> {
        let archive = self.archive(request);
        let path = archive.clone();
        let taken = tokio::task::spawn_blocking(move || -> anyhow::Result<Taken> {
            let (size, sha256) = hash(&path)?;
            let label_of = Label { size, sha256: sha256.clone(), verdict: verdict.clone() };
            let fresh = path.with_extension("json.new");
            let mut file =
                fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&fresh)?;
            file.write_all(&serde_json::to_vec(&label_of)?)?;
            file.sync_all()?;
            fs::rename(fresh, label(&path))?;
            Ok(Taken { archive: path, size, sha256, verdict })
        });
        taken.await?.with_context(|| format!("{}", archive.display()))
    }

    /// Removes whatever there is of a request. What cannot be removed now is swept later.
    pub fn remove(&self, request: u64) {
        let archive = self.archive(request);
        let gone = |path: &Path| match fs::remove_file(path) {
            Err(error) if error.kind() != ErrorKind::NotFound => {
                tracing::warn!(request, %error, "an archive of the outbox cannot be removed");
            }
            _ => {}
        };
        // The label first: without it there is no archive.
        gone(&label(&archive));
        gone(&archive);
        if let Err(error) = upload::forget(&archive) {
            tracing::warn!(request, %error, "the notes of an upload cannot be removed");
        }
    }

    /// Removes what is of no request in `open`: what a crash left behind.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sweep(&self, open: &[u64]) -> std::io::Result<()> {
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let request = path.file_name().and_then(|name| name.to_str()?.split('.').next()?.parse().ok());
            if !request.is_some_and(|request| open.contains(&request)) {
                fs::remove_file(&path)?;
            }
        }
        Ok(())
    }

    fn archive(&self, request: u64) -> PathBuf {
        self.folder.join(format!("{request}.zip"))
    }
}

fn label(archive: &Path) -> PathBuf {
    archive.with_extension("json")
}

fn hash(path: &Path) -> std::io::Result<(u64, String)> {
    let mut file = File::open(path)?;
    let (mut hash, mut size, mut block) = (Sha256::new(), 0, vec![0; BLOCK]);
    loop {
        match file.read(&mut block)? {
            0 => break,
            read => {
                hash.update(&block[..read]);
                size += read as u64;
            }
        }
    }
    let digest = hash.finalize();
    Ok((size, digest.iter().map(|byte| format!("{byte:02x}")).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn outbox(folder: &Path, archives: usize, bytes: u64) -> Outbox {
        Outbox::open(folder, Limits { archives, bytes }).unwrap()
    }

    #[tokio::test]
    async fn an_archive_is_whole_only_with_a_label_that_fits() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(folder.path(), 3, 1000);
        let place = outbox.place(7).unwrap();
        fs::write(&place, "abc").unwrap();
        assert_eq!(outbox.taken(7), None);
        let taken = outbox.keep(7, "warn".to_owned()).await.unwrap();
        assert_eq!(taken.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(outbox.taken(7), Some(taken));
        fs::write(&place, "abcd").unwrap();
        assert_eq!(outbox.taken(7), None);
    }

    #[tokio::test]
    async fn a_full_outbox_takes_no_more_until_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(folder.path(), 2, 5);
        fs::write(outbox.place(1).unwrap(), "abcde").unwrap();
        let full = outbox.place(2).unwrap_err().to_string();
        assert_eq!(full, "5 bytes wait to be sent, the limit is 5");
        fs::write(outbox.place(1).unwrap(), "a").unwrap();
        fs::write(outbox.place(2).unwrap(), "a").unwrap();
        let full = outbox.place(3).unwrap_err().to_string();
        assert_eq!(full, "2 archives wait to be sent, the limit is 2");
        outbox.remove(1);
        outbox.place(3).unwrap();
    }

    #[tokio::test]
    async fn what_a_crash_left_behind_is_swept_and_what_is_open_stays() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(folder.path(), 9, 1000);
        for request in [1, 2] {
            fs::write(outbox.place(request).unwrap(), "abc").unwrap();
            outbox.keep(request, "pass".to_owned()).await.unwrap();
        }
        fs::write(folder.path().join("3.zip.partial"), "").unwrap();
        fs::write(folder.path().join("stray"), "").unwrap();
        outbox.sweep(&[2]).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["2.json", "2.zip"]);
    }
}
