//! The audit log of this host: what was asked of it, by whom, what its policy said and what came of it, as a chain of
//! lines in which nothing can be changed, taken out or put in without breaking it.
//!
//! Each line is a JSON object and carries the SHA-256 of the line before it, as it stands there without its end; the
//! first one carries noughts. Where it ended is beside it (`checkpoint`), so that newest lines are missed that were cut off:
//! all but those of requests that had not ended, which are not waited for until they are on disk. Whoever can write
//! all files of the agent can write those too: copy the log elsewhere if that matters.

mod checkpoint;
mod hash_chain;
mod read;
#[cfg(test)]
mod tests;

use std::fs::{self, File, OpenOptions};
use std::io::{self, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

pub use hash_chain::{Broken, Cut, Verification, verify};
use hash_chain::{Hash, Head};
use jiff::Timestamp;
pub use read::{Newest, newest};
use serde::{Deserialize, Serialize};

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
    /// A request is in the ledger and will end. The policy has not been asked yet.
    Received,
    /// The same, in the words of agents before this one.
    Accepted,
    /// systemd is about to be asked.
    Calling,
    /// systemd has taken it.
    Called,
    Completed,
    /// The policy of this host or polkit does not allow it.
    Denied,
    /// Not done, or not well: the code says which.
    Rejected,
    /// The last line had been torn by a crash and was taken out.
    Healed,
    /// The newest lines were not those that had been put on disk when the agent started.
    Cut,
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
        let end = hash_chain::end(&mut file)?;
        file.set_len(end.whole)?;
        file.seek(SeekFrom::End(0))?;
        let head = match end.head {
            Some(head) => head,
            None => hash_chain::head_before(folder)?,
        };
        let mut audit = Audit { folder: folder.to_owned(), file, length: end.whole, head };
        if end.torn > 0 {
            let reason = format!("{} bytes of a line that a crash had torn were taken out", end.torn);
            let healed = Event { reason: Some(reason), ..Event::new(Happened::Healed) };
            audit.add(healed, now)?;
        }
        if let Some(why) = hash_chain::cut(folder, head)? {
            tracing::error!("the audit log was changed while no agent ran: {why}");
            audit.add(Event { reason: Some(why), ..Event::new(Happened::Cut) }, now)?;
            audit.sync()?;
        }
        Ok(audit)
    }

    /// Whether the log is where it was opened, and as this agent has written it: lines in a file that has lost its name are
    /// seen by nobody.
    ///
    /// # Errors
    /// It was removed, replaced or changed, or cannot be looked at.
    pub fn in_place(&self) -> io::Result<()> {
        let path = self.folder.join(FILE);
        let own = self.file.metadata()?;
        let wrong = match fs::symlink_metadata(&path) {
            Ok(there) if (there.dev(), there.ino()) != (own.dev(), own.ino()) => "replaced",
            Ok(_) if own.len() != self.length => "changed",
            Ok(_) => return Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => "removed",
            Err(error) => return Err(error),
        };
        Err(io::Error::other(format!(
            "{} was {wrong} by somebody else while the agent ran; find out by whom, then restart the agent, which goes on \
             with a new line that tells what is missing",
            path.display()
        )))
    }

    /// Adds a line. It survives the end of this process at once, and that of the host when [`Audit::sync`] returned.
    ///
    /// # Errors
    /// The disk is full or broken, or the log is not in its place; the chain is as before.
    pub fn add(&mut self, event: Event, now: Timestamp) -> io::Result<()> {
        self.in_place()?;
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

    /// Puts what was added on disk, and then where the log ends.
    ///
    /// # Errors
    /// The disk is full or broken.
    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_data()?;
        checkpoint::write(&self.folder, &self.head).map_err(io::Error::other)
    }

    fn put_aside(&mut self) -> io::Result<()> {
        self.sync()?;
        let mut files = hash_chain::put_aside(&self.folder)?;
        fs::rename(self.folder.join(FILE), self.folder.join(format!("audit-{:012}.jsonl", self.head.seq)))?;
        let path = self.folder.join(FILE);
        self.file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
        self.length = 0;
        // Lines in it that are on disk are of no use when it has lost its name.
        File::open(&self.folder)?.sync_all()?;
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
