//! What makes lines a chain, and whether a log is one.

use std::fmt::{self, Write as _};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use warden_platform::sha256::hex;

use super::{Event, FILE, Happened, LINE_LIMIT, Line, checkpoint};

/// SHA-256, as 64 hex digits.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Hash([u8; 32]);

/// The newest line.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Head {
    pub seq: u64,
    pub hash: Hash,
}

/// How a file ends.
pub struct End {
    /// Nothing when it has no line.
    pub head: Option<Head>,
    /// Bytes of whole lines.
    pub whole: u64,
    /// Bytes after them.
    pub torn: u64,
}

/// What came of reading a whole log.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verification {
    pub files: usize,
    /// Lines that follow one from the other, up to the end or to where it is broken.
    pub lines: u64,
    /// The number of the oldest line; those before it were removed with their file. Nought: there is none.
    pub first: u64,
    pub broken: Option<Broken>,
    /// Lines at the end that were on disk and are not there, now or when an agent found that.
    pub cut: Vec<Cut>,
    /// The last line has no end, as after a crash: the agent takes it out when it starts.
    pub torn: bool,
}

/// The first place at which a line does not follow from the one before it.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Broken {
    pub file: PathBuf,
    /// In that file, from 1.
    pub line: u64,
    pub why: String,
}

/// The newest lines are not those an agent had put on disk.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Cut {
    /// The line that tells of it; none when no agent was started since.
    pub told_by: Option<u64>,
    pub why: String,
}

/// Reads the log in `folder`, a line at a time.
///
/// # Errors
/// It cannot be read. One that is broken is no error.
pub fn verify(folder: &Path) -> io::Result<Verification> {
    let mut told = Verification::default();
    let mut head: Option<Head> = None;
    let known = match checkpoint::read(folder) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            told.cut.push(Cut { told_by: None, why: checkpoint::UNREADABLE.to_owned() });
            None
        }
        known => known?,
    };
    let mut files = put_aside(folder)?;
    let some_are_gone = !files.is_empty();
    files.extend(Some(folder.join(FILE)).filter(|path| path.exists()));
    for path in files {
        told.files += 1;
        let mut reader = BufReader::new(File::open(&path)?);
        let mut number = 0;
        while let Some(bytes) = next_line(&mut reader)? {
            number += 1;
            let Some(bytes) = bytes.strip_suffix(b"\n") else {
                if bytes.len() < LINE_LIMIT && path.ends_with(FILE) {
                    told.torn = true;
                    break;
                }
                told.broken = Some(broken(path, number, "it has no end".to_owned()));
                return Ok(told);
            };
            let expected = head.or((!some_are_gone).then(Head::default));
            match follows(bytes, expected, number) {
                Ok((next, event)) => {
                    if told.lines == 0 {
                        told.first = next.seq;
                    }
                    told.lines += 1;
                    head = Some(next);
                    if event.event == Happened::Cut {
                        let why = event.reason.unwrap_or_default();
                        told.cut.push(Cut { told_by: Some(next.seq), why });
                    }
                    if let Some(known) =
                        known.filter(|known| known.seq == next.seq && known.hash != next.hash)
                    {
                        told.cut.push(Cut { told_by: None, why: replaced(known.seq) });
                    }
                }
                Err(why) => {
                    told.broken = Some(broken(path, number, why));
                    return Ok(told);
                }
            }
        }
    }
    let last = head.unwrap_or_default().seq;
    if let Some(known) = known.filter(|known| known.seq > last) {
        told.cut.push(Cut { told_by: None, why: missing(last, known.seq) });
    }
    Ok(told)
}

/// What is wrong with the newest lines of the log in `folder`, which ends with `last`, if they are not those that were
/// on disk.
pub fn cut(folder: &Path, last: Head) -> io::Result<Option<String>> {
    let known = match checkpoint::read(folder) {
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            return Ok(Some(checkpoint::UNREADABLE.to_owned()));
        }
        known => known?,
    };
    let Some(known) = known else { return Ok(None) };
    if known.seq >= last.seq {
        let other = (known.hash != last.hash).then(|| replaced(known.seq));
        return Ok(if known.seq > last.seq { Some(missing(last.seq, known.seq)) } else { other });
    }
    // Lines were added since, in this file or in one before it.
    let mut files = put_aside(folder)?;
    files.push(folder.join(FILE));
    while let Some(path) = files.pop() {
        let mut reader = BufReader::new(File::open(&path)?);
        let mut first = None;
        while let Some(bytes) = next_line(&mut reader)? {
            let bytes = bytes.strip_suffix(b"\n").unwrap_or(&bytes);
            let Ok(line) = serde_json::from_slice::<Line>(bytes) else { continue };
            if line.seq == known.seq {
                return Ok((Hash::of(bytes) != known.hash).then(|| replaced(known.seq)));
            }
            first.get_or_insert(line.seq);
        }
        if first.is_some_and(|first| first < known.seq) {
            break;
        }
    }
    Ok(None)
}

fn missing(last: u64, known: u64) -> String {
    format!("lines {} to {known} were on disk and are not there", last + 1)
}

fn replaced(known: u64) -> String {
    format!("line {known} is not the one that was on disk")
}

/// How `file` ends. Reads no more than its last lines.
pub fn end(file: &mut File) -> io::Result<End> {
    let length = file.seek(SeekFrom::End(0))?;
    // A whole line, and before it one that has an end.
    let start = length.saturating_sub(2 * LINE_LIMIT as u64 + 2);
    file.seek(SeekFrom::Start(start))?;
    let mut tail = Vec::new();
    file.read_to_end(&mut tail)?;
    let Some(last_end) = tail.iter().rposition(|byte| *byte == b'\n') else {
        return Ok(End { head: None, whole: start, torn: length - start });
    };
    let whole = start + last_end as u64 + 1;
    let begin = tail[..last_end].iter().rposition(|byte| *byte == b'\n').map_or(0, |before| before + 1);
    let line = &tail[begin..last_end];
    // One that is not understood was not written by an agent; verify tells it, and the chain goes on from it.
    let seq = serde_json::from_slice::<Line>(line).map_or(0, |line| line.seq);
    Ok(End { head: Some(Head { seq, hash: Hash::of(line) }), whole, torn: length - whole })
}

/// The head of the newest file that was put aside.
pub fn head_before(folder: &Path) -> io::Result<Head> {
    match put_aside(folder)?.pop() {
        None => Ok(Head::default()),
        Some(path) => Ok(end(&mut File::open(path)?)?.head.unwrap_or_default()),
    }
}

/// The files that were put aside, the oldest first.
pub fn put_aside(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let number = name.strip_prefix("audit-").and_then(|rest| rest.strip_suffix(".jsonl"));
        if number.is_some_and(|number| !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit()))
        {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}

/// The next line with its end, or without it at the end of the file or when it is too long.
pub fn next_line(reader: &mut impl BufRead) -> io::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    reader.take(LINE_LIMIT as u64).read_until(b'\n', &mut bytes)?;
    Ok(Some(bytes).filter(|bytes| !bytes.is_empty()))
}

/// `expected` is absent for the oldest line that is left: what stood before it is gone.
fn follows(bytes: &[u8], expected: Option<Head>, number: u64) -> Result<(Head, Event), String> {
    let line: Line = serde_json::from_slice(bytes).map_err(|_| "no line of an audit log".to_owned())?;
    if let Some(head) = expected {
        let due = head.seq + 1;
        if line.seq > due && number > 0 {
            return Err(format!("lines {due} to {} are missing", line.seq - 1));
        }
        if line.seq < due {
            let (is, should) = (nth(line.seq), nth(due));
            return Err(format!("a line that says it is the {is} stands where the {should} should"));
        }
        if line.previous != head.hash {
            let why = if head.seq == 0 {
                "the first line of a log does not follow from another".to_owned()
            } else {
                format!("line {due} does not follow from line {}: one of the two was changed", head.seq)
            };
            return Err(why);
        }
    }
    Ok((Head { seq: line.seq, hash: Hash::of(bytes) }, line.event))
}

fn broken(file: PathBuf, line: u64, why: String) -> Broken {
    Broken { file, line, why }
}

fn nth(number: u64) -> String {
    let ending = match (number % 10, number % 100) {
        (_, 11..=13) => "th",
        (1, _) => "st",
        (2, _) => "nd",
        (3, _) => "rd",
        _ => "th",
    };
    format!("{number}{ending}")
}

impl Hash {
    pub fn of(bytes: &[u8]) -> Hash {
        Hash(Sha256::digest(bytes).into())
    }
}

impl fmt::Display for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&hex(&self.0))
    }
}

impl fmt::Debug for Hash {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, formatter)
    }
}

impl Serialize for Hash {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut text = String::with_capacity(64);
        let _ = write!(text, "{self}");
        serializer.serialize_str(&text)
    }
}

impl<'de> Deserialize<'de> for Hash {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        let wrong = || serde::de::Error::custom("expected 64 hex digits");
        let mut bytes = [0; 32];
        if text.len() != 64 || !text.is_ascii() {
            return Err(wrong());
        }
        for (at, byte) in bytes.iter_mut().enumerate() {
            *byte = u8::from_str_radix(&text[2 * at..2 * at + 2], 16).map_err(|_| wrong())?;
        }
        Ok(Hash(bytes))
    }
}
