//! Archives on their way to the Supervisor, in a folder of the agent's.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, ensure};
use serde::{Deserialize, Serialize};
use warden_platform::atomic_file::{PRIVATE, replace};
use warden_platform::sha256;
use warden_protocol::Trigger;

use crate::upload;

/// How the files of offers begin, and how what is written down of one ends.
const OFFER: &str = "offer-";
const NOTE: &str = "offer";

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

/// What an archive is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum For {
    Request(u64),
    /// Taken by this host by itself, and not yet asked for.
    Offer(u64),
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

/// What is to be known of an offer, beside its archive.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    pub trigger: Trigger,
    pub reason: String,
    /// When it became due, in milliseconds since 1970 UTC.
    pub taken_at_ms: i64,
    /// How often it was begun to be taken.
    pub begun: u32,
    /// How often the Supervisor did not want it for now.
    pub refused: u32,
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

    /// The archive, if it was finished. One that was cut off, or does not fit its label, is none.
    pub fn taken(&self, what: For) -> Option<Taken> {
        let archive = self.archive(what);
        let label: Label = serde_json::from_slice(&fs::read(label(&archive)).ok()?).ok()?;
        let size = fs::metadata(&archive).ok()?.len();
        let Label { sha256, verdict, .. } = label;
        (size == label.size).then_some(Taken { archive, size, sha256, verdict })
    }

    /// Where the archive is to be written; nothing is there. One place is kept for what is asked for.
    ///
    /// # Errors
    /// The outbox is full.
    pub fn place(&self, what: For) -> anyhow::Result<PathBuf> {
        self.remove(what);
        let (mut archives, mut bytes) = (0, 0);
        for entry in fs::read_dir(&self.folder)? {
            let entry = entry?;
            if entry.path().extension().is_some_and(|ending| ending == "zip") {
                archives += 1;
                bytes += entry.metadata()?.len();
            }
        }
        let Limits { archives: most, bytes: most_bytes } = self.limits;
        let most = most.saturating_sub(usize::from(matches!(what, For::Offer(_))));
        ensure!(archives < most, "{archives} archives wait to be sent, the limit is {most}");
        ensure!(bytes < most_bytes, "{bytes} bytes wait to be sent, the limit is {most_bytes}");
        Ok(self.archive(what))
    }

    /// Labels the archive that was written to its [`Outbox::place`]: from now on it is whole.
    ///
    /// # Errors
    /// It cannot be read, or the label not be written.
    pub async fn keep(&self, what: For, verdict: String) -> anyhow::Result<Taken> {
        let archive = self.archive(what);
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

    /// The archive of an offer becomes that of the request that asks for it. Cut off and called again, it goes on.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn adopt(&self, offer: u64, request: u64) -> std::io::Result<()> {
        let (from, to) = (self.archive(For::Offer(offer)), self.archive(For::Request(request)));
        for (from, to) in [(from.clone(), to.clone()), (label(&from), label(&to))] {
            match fs::rename(from, to) {
                Err(error) if error.kind() != ErrorKind::NotFound => return Err(error),
                _ => {}
            }
        }
        self.forget(offer);
        Ok(())
    }

    /// Removes the archive and its label. What cannot be removed now is swept later.
    pub fn remove(&self, what: For) {
        let archive = self.archive(what);
        // The label first: without it there is no archive.
        gone(&label(&archive));
        gone(&archive);
        if let Err(error) = upload::forget(&archive) {
            tracing::warn!(%what, %error, "the notes of an upload cannot be removed");
        }
    }

    /// What has been written down of the offers of this host, the oldest first.
    pub fn offers(&self) -> Vec<(u64, Note)> {
        let entries = fs::read_dir(&self.folder).into_iter().flatten().flatten();
        let offer = |path: PathBuf| {
            let Some(For::Offer(offer)) = of(&path) else { return None };
            let is_note = path.extension().is_some_and(|ending| ending == NOTE);
            is_note.then(|| Some((offer, serde_json::from_slice(&fs::read(path).ok()?).ok()?)))?
        };
        let mut offers: Vec<(u64, Note)> = entries.filter_map(|entry| offer(entry.path())).collect();
        offers.sort_by_key(|(offer, note)| (note.taken_at_ms, *offer));
        offers
    }

    /// Writes down what is to be known of an offer, also after a crash.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn note(&self, offer: u64, note: &Note) -> anyhow::Result<()> {
        replace(&self.archive(For::Offer(offer)).with_extension(NOTE), &serde_json::to_vec(note)?, PRIVATE)
    }

    /// It is no offer any more.
    pub fn forget(&self, offer: u64) {
        gone(&self.archive(For::Offer(offer)).with_extension(NOTE));
    }

    /// Removes what a crash left behind: what is of no request in `open`, and of no offer that is written down. `asked`
    /// are the offers that a request in `open` asks for.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub fn sweep(&self, open: &[u64], asked: &[u64]) -> std::io::Result<()> {
        asked.iter().for_each(|offer| self.forget(*offer));
        let offers = self.offers();
        for entry in fs::read_dir(&self.folder)? {
            let path = entry?.path();
            let stays = match of(&path) {
                Some(For::Request(request)) => open.contains(&request),
                Some(For::Offer(offer)) => {
                    asked.contains(&offer) || offers.iter().any(|(known, _)| *known == offer)
                }
                None => false,
            };
            if !stays {
                gone(&path);
            }
        }
        Ok(())
    }

    fn archive(&self, what: For) -> PathBuf {
        self.folder.join(format!("{what}.zip"))
    }
}

impl std::fmt::Display for For {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            For::Request(request) => write!(formatter, "{request}"),
            For::Offer(offer) => write!(formatter, "{OFFER}{offer}"),
        }
    }
}

/// What a file of the outbox is for.
fn of(path: &Path) -> Option<For> {
    let stem = path.file_name()?.to_str()?.split('.').next()?;
    match stem.strip_prefix(OFFER) {
        Some(offer) => offer.parse().ok().map(For::Offer),
        None => stem.parse().ok().map(For::Request),
    }
}

fn gone(path: &Path) {
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => {
            tracing::warn!(path = %path.display(), %error, "a file of the outbox cannot be removed");
        }
        _ => {}
    }
}

fn label(archive: &Path) -> PathBuf {
    archive.with_extension("json")
}

fn hash(path: &Path) -> std::io::Result<(u64, String)> {
    let (size, digest) = sha256::of(File::open(path)?)?;
    Ok((size, sha256::hex(&digest)))
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
        let place = outbox.place(For::Request(7)).unwrap();
        fs::write(&place, "abc").unwrap();
        assert_eq!(outbox.taken(For::Request(7)), None);
        let taken = outbox.keep(For::Request(7), "warn".to_owned()).await.unwrap();
        assert_eq!(taken.sha256, "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(outbox.taken(For::Request(7)), Some(taken));
        fs::write(&place, "abcd").unwrap();
        assert_eq!(outbox.taken(For::Request(7)), None);
    }

    #[tokio::test]
    async fn a_full_outbox_takes_no_more_until_one_is_gone() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(folder.path(), 2, 5);
        fs::write(outbox.place(For::Request(1)).unwrap(), "abcde").unwrap();
        let full = outbox.place(For::Request(2)).unwrap_err().to_string();
        assert_eq!(full, "5 bytes wait to be sent, the limit is 5");
        fs::write(outbox.place(For::Request(1)).unwrap(), "a").unwrap();
        fs::write(outbox.place(For::Request(2)).unwrap(), "a").unwrap();
        let full = outbox.place(For::Request(3)).unwrap_err().to_string();
        assert_eq!(full, "2 archives wait to be sent, the limit is 2");
        outbox.remove(For::Request(1));
        outbox.place(For::Request(3)).unwrap();
    }

    #[tokio::test]
    async fn what_a_crash_left_behind_is_swept_and_what_is_open_stays() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(folder.path(), 9, 1000);
        for request in [1, 2] {
            fs::write(outbox.place(For::Request(request)).unwrap(), "abc").unwrap();
            outbox.keep(For::Request(request), "pass".to_owned()).await.unwrap();
        }
        fs::write(folder.path().join("3.zip.partial"), "").unwrap();
        fs::write(folder.path().join("stray"), "").unwrap();
        outbox.sweep(&[2], &[]).unwrap();
        let mut left: Vec<_> =
            fs::read_dir(folder.path()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
        left.sort();
        assert_eq!(left, ["2.json", "2.zip"]);
    }

    fn note(at: i64) -> Note {
        let (trigger, reason) = (Trigger::UnitFailed, "iggy.service failed".to_owned());
        Note { trigger, reason, taken_at_ms: at, begun: 0, refused: 0 }
    }

    fn files(folder: &Path) -> Vec<String> {
        let name = |entry: std::io::Result<fs::DirEntry>| entry.unwrap().file_name().into_string().unwrap();
        let mut files: Vec<String> = fs::read_dir(folder).unwrap().map(name).collect();
        files.sort();
        files
    }

    #[tokio::test]
    async fn an_offer_becomes_the_archive_of_the_request_that_asks_for_it_whatever_cuts_it_off() {
        // How many of the renames were done when it was cut off.
        for done in 0..=2 {
            let folder = tempfile::tempdir().unwrap();
            let outbox = outbox(folder.path(), 3, 1000);
            outbox.note(5, &note(1)).unwrap();
            fs::write(outbox.place(For::Offer(5)).unwrap(), "abc").unwrap();
            let taken = outbox.keep(For::Offer(5), "fail".to_owned()).await.unwrap();
            for ending in ["zip", "json"].iter().take(done) {
                let at = |stem: &str| folder.path().join(format!("{stem}.{ending}"));
                fs::rename(at("offer-5"), at("9")).unwrap();
            }
            // The agent starts anew, with the request in its ledger.
            outbox.sweep(&[9], &[5]).unwrap();
            assert_eq!(outbox.offers(), [], "it is not offered, and not taken again");
            outbox.adopt(5, 9).unwrap();
            let adopted = outbox.taken(For::Request(9)).unwrap();
            assert_eq!((adopted.sha256, adopted.verdict), (taken.sha256, taken.verdict));
            assert_eq!(files(folder.path()), ["9.json", "9.zip"]);
        }
    }

    #[tokio::test]
    async fn offers_stay_over_a_restart_and_leave_a_place_for_what_is_asked_for() {
        let folder = tempfile::tempdir().unwrap();
        let outbox = outbox(folder.path(), 2, 1000);
        outbox.note(7, &note(20)).unwrap();
        outbox.note(8, &note(10)).unwrap();
        fs::write(outbox.place(For::Offer(7)).unwrap(), "a").unwrap();
        outbox.keep(For::Offer(7), "warn".to_owned()).await.unwrap();
        fs::write(folder.path().join("offer-6.zip"), "of none").unwrap();
        outbox.sweep(&[], &[]).unwrap();
        assert_eq!(files(folder.path()), ["offer-7.json", "offer-7.offer", "offer-7.zip", "offer-8.offer"]);
        assert_eq!(outbox.offers(), [(8, note(10)), (7, note(20))]);
        let full = outbox.place(For::Offer(8)).unwrap_err().to_string();
        assert_eq!(full, "1 archives wait to be sent, the limit is 1");
        outbox.place(For::Request(9)).unwrap();
        outbox.forget(8);
        assert_eq!(outbox.offers(), [(7, note(20))]);
    }
}
