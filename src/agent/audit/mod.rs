//! The audit log of this host: what was asked of it, by whom, what its policy said and what came of it, as a chain of
//! lines in which nothing can be changed, taken out or put in without breaking it.
//!
//! Each line is a JSON object and carries the SHA-256 of the line before it, as it stands there without its end; the
//! first one carries noughts. What a chain cannot show is that its newest lines were cut off: copy them elsewhere.

mod chain;
mod read;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use chain::{Hash, Head};

pub use chain::{Broken, Verification, verify};
pub use read::{Newest, newest};

/// The file lines are added to; older ones are beside it.
pub const FILE: &str = "audit.jsonl";
/// A file is put aside when it is this large, in bytes: some seven hundred actions.
const FILE_LIMIT: u64 = 1 << 20;
/// Files put aside that are kept: ten thousand actions, as the ledger knows.
const FILES_LIMIT: usize = 15;
/// Bytes of one line. What is longer was not written by an agent.
const LINE_LIMIT: usize = 16 << 10;
/// Bytes of a sentence in it.
const TEXT_LIMIT: usize = 2 << 10;

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Happened {
    /// A request is in the ledger and will end.
    Accepted,
    /// systemd is about to be asked.
    Calling,
    /// systemd has taken it.
    Called,
    Completed,
    /// Not done, or not well: the code says which.
    Rejected,
    /// The last line had been torn by a crash and was taken out.
    Healed,
}

/// A line without what makes it one of a chain.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Event {
    pub event: Happened,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub request: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub author: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub runtime: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub action: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unit: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Line {
    /// From 1, one more with each line.
    pub seq: u64,
    pub at: Timestamp,
    #[serde(flatten)]
    pub event: Event,
    pub previous: Hash,
}

/// The end of the chain, to which lines are added.
#[derive(Debug)]
pub struct Audit {
    folder: PathBuf,
    file: File,
    length: u64,
    head: Head,
}

impl Audit {
    /// Opens the log in `folder`, and mends what a crash tore.
    ///
    /// # Errors
    /// It cannot be read or written.
    pub fn open(folder: &Path, now: Timestamp) -> io::Result<Audit> {
        let path = folder.join(FILE);
        let mut file =
            OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(0o600).open(&path)?;
        let end = chain::end(&mut file)?;
        file.set_len(end.whole)?;
        file.seek(SeekFrom::End(0))?;
        let head = match end.head {
            Some(head) => head,
            None => chain::head_before(folder)?,
        };
        let mut audit = Audit { folder: folder.to_owned(), file, length: end.whole, head };
        if end.torn > 0 {
            let reason = format!("{} bytes of a line that a crash had torn were taken out", end.torn);
            let healed = Event { reason: Some(reason), ..Event::new(Happened::Healed) };
            audit.add(healed, now)?;
        }
        Ok(audit)
    }

    /// Adds a line. It survives the end of this process at once, and that of the host when [`Audit::sync`] returned.
    ///
    /// # Errors
    /// The disk is full or broken; the chain is as before.
    pub fn add(&mut self, event: Event, now: Timestamp) -> io::Result<()> {
        if self.length >= FILE_LIMIT {
            self.put_aside()?;
        }
        let event = event.bounded();
        let line = Line { seq: self.head.seq + 1, at: now, event, previous: self.head.hash };
        let mut bytes = serde_json::to_vec(&line)?;
        let hash = Hash::of(&bytes);
        bytes.push(b'\n');
        if let Err(error) = self.file.write_all(&bytes) {
            // What was written of it would be the beginning of the next line.
            self.file.set_len(self.length)?;
            self.file.seek(SeekFrom::End(0))?;
            return Err(error);
        }
        self.length += bytes.len() as u64;
        self.head = Head { seq: line.seq, hash };
        Ok(())
    }

    /// Puts what was added on disk.
    ///
    /// # Errors
    /// The disk is broken.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.sync()?;
        let mut files = chain::put_aside(&self.folder)?;
        fs::rename(self.folder.join(FILE), self.folder.join(format!("audit-{:012}.jsonl", self.head.seq)))?;
        let path = self.folder.join(FILE);
        self.file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.length = 0;
        while files.len() >= FILES_LIMIT {
            fs::remove_file(files.remove(0))?;
        }
        Ok(())
    }
}

impl Event {
    pub fn new(event: Happened) -> Event {
        Event {
            event,
            request: None,
            author: None,
            runtime: None,
            action: None,
            unit: None,
            code: None,
            reason: None,
        }
    }

    fn bounded(mut self) -> Event {
        for text in [&mut self.author, &mut self.unit, &mut self.code, &mut self.reason].into_iter().flatten()
        {
            text.truncate(text.floor_char_boundary(TEXT_LIMIT));
        }
        self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_795_257_619, 0);

    fn event(request: u64) -> Event {
        Event { request: Some(request), reason: Some("é".repeat(2_000)), ..Event::new(Happened::Accepted) }
    }

    fn log(folder: &Path, lines: u64) {
        let mut audit = Audit::open(folder, NOW).unwrap();
        for request in 0..lines {
            audit.add(event(request), NOW).unwrap();
        }
    }

    fn whole(folder: &Path) -> Verification {
        let verification = verify(folder).unwrap();
        assert_eq!(verification.broken, None);
        verification
    }

    #[test]
    fn the_chain_goes_on_over_starts_of_the_agent() {
        let folder = tempfile::tempdir().unwrap();
        assert_eq!(whole(folder.path()), Verification::default());
        log(folder.path(), 3);
        log(folder.path(), 2);
        let told = whole(folder.path());
        assert_eq!((told.lines, told.files, told.first, told.torn), (5, 1, 1, false));
    }

    #[test]
    fn the_first_line_that_does_not_follow_is_told() {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), 6);
        let path = folder.path().join(FILE);
        let good = fs::read_to_string(&path).unwrap();
        let broken = |text: String| {
            fs::write(&path, text).unwrap();
            let broken = verify(folder.path()).unwrap().broken.unwrap();
            (broken.line, broken.why)
        };
        let lines: Vec<&str> = good.split_inclusive('\n').collect();
        let follows = "line 3 does not follow from line 2: one of the two was changed";
        assert_eq!(broken(good.replace("\"request\":1", "\"request\":9")), (3, follows.into()));
        let without = [&lines[..2], &lines[4..]].concat().concat();
        assert_eq!(broken(without), (3, "lines 3 to 4 are missing".into()));
        let swapped = [lines[0], lines[2], lines[1], lines[3]].concat();
        assert_eq!(broken(swapped).0, 2);
        let twice = [lines[0], lines[0]].concat();
        assert_eq!(broken(twice), (2, "a line that says it is the 1st stands where the 2nd should".into()));
        assert_eq!(
            broken(good.replacen("{\"seq\":4", "{\"seq\":\"4\"", 1)),
            (4, "no line of an audit log".into())
        );
        assert_eq!(
            broken(lines[1..].concat()).0,
            1,
            "nothing was put aside that could have had the first line"
        );
    }

    #[test]
    fn a_line_torn_by_a_crash_is_taken_out_and_that_is_said() {
        let folder = tempfile::tempdir().unwrap();
        log(folder.path(), 3);
        let path = folder.path().join(FILE);
        let good = fs::read(&path).unwrap();
        for torn in [1, 10, 2_000] {
            fs::write(&path, [&good[..], &good[..torn]].concat()).unwrap();
            let told = whole(folder.path());
            assert_eq!((told.lines, told.torn), (3, true));
            drop(Audit::open(folder.path(), NOW).unwrap());
            let told = whole(folder.path());
            assert_eq!((told.lines, told.torn), (4, false));
            let newest = newest(folder.path(), 1).unwrap();
            assert_eq!(newest.lines[0].event.event, Happened::Healed);
            let reason = format!("{torn} bytes of a line that a crash had torn were taken out");
            assert_eq!(newest.lines[0].event.reason.as_deref(), Some(reason.as_str()));
        }
    }

    #[test]
    fn the_chain_goes_on_over_files_and_the_oldest_go() {
        let folder = tempfile::tempdir().unwrap();
        // Some 2.2 KiB a line.
        log(folder.path(), 10_000);
        log(folder.path(), 1);
        let told = whole(folder.path());
        assert_eq!(told.files, FILES_LIMIT + 1);
        assert!(told.first > 1 && told.lines > 6_000 && told.lines < 10_000, "{told:?}");
        let newest = newest(folder.path(), 1_500).unwrap();
        assert_eq!(newest.lines.len(), 1_500);
        assert_eq!(newest.lines.last().map(|line| line.seq), Some(10_001));

        // Killed between putting a file aside and making the next.
        let now = folder.path().join(FILE);
        fs::rename(&now, folder.path().join("audit-000000010001.jsonl")).unwrap();
        log(folder.path(), 1);
        assert_eq!(whole(folder.path()).lines, told.lines + 1);
        fs::remove_file(chain::put_aside(folder.path()).unwrap().remove(4)).unwrap();
        let broken = verify(folder.path()).unwrap().broken.unwrap();
        assert!(broken.why.starts_with("lines ") && broken.why.ends_with(" are missing"), "{broken:?}");
    }

    #[test]
    fn an_event_says_only_what_there_is_and_reads_as_it_was_written() {
        let event = Event { unit: Some("iggy.service".into()), ..Event::new(Happened::Calling) };
        let line = Line { seq: 1, at: NOW, event, previous: Hash::default() };
        let text = serde_json::to_string(&line).unwrap();
        assert_eq!(
            text,
            format!(
                "{{\"seq\":1,\"at\":\"2026-11-21T10:40:19Z\",\"event\":\"calling\",\"unit\":\"iggy.service\",\
                 \"previous\":\"{}\"}}",
                "0".repeat(64)
            )
        );
        assert_eq!(serde_json::from_str::<Line>(&text).unwrap(), line);
    }
}
