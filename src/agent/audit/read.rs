//! The newest lines of an audit log, for a person to read.

use std::collections::VecDeque;
use std::fs::File;
use std::io::{self, BufReader};
use std::path::Path;

use super::hash_chain::{next_line, put_aside};
use super::{FILE, Line};

pub struct Newest {
    /// The oldest first.
    pub lines: Vec<Line>,
    /// Lines among them that are none of an audit log.
    pub unreadable: u64,
}

/// The newest `most` lines of the log in `folder`. It is not held to be whole: [`super::verify`] tells that.
///
/// # Errors
/// It cannot be read.
pub fn newest(folder: &Path, most: usize) -> io::Result<Newest> {
    let mut newest = Newest { lines: Vec::new(), unreadable: 0 };
    let mut files = put_aside(folder)?;
    files.extend(Some(folder.join(FILE)).filter(|path| path.exists()));
    while let Some(path) = files.pop()
        && newest.lines.len() < most
    {
        let wanted = most - newest.lines.len();
        let mut lines = VecDeque::new();
        let mut reader = BufReader::new(File::open(path)?);
        while let Some(bytes) = next_line(&mut reader)? {
            match serde_json::from_slice(&bytes) {
                Ok(line) => lines.push_back(line),
                Err(_) => newest.unreadable += 1,
            }
            if lines.len() > wanted {
                lines.pop_front();
            }
        }
        lines.extend(newest.lines.drain(..));
        newest.lines = lines.into();
    }
    Ok(newest)
}
