//! The files that samples go into: a ring of them, bounded by counts and bytes and by no clock.
//!
//! A file holds an hour of samples and is named by a number that only grows, so a clock that jumps neither deletes
//! what is young nor meets a name again. Nothing is synced: what a power cut tears is passed over by the reader.

use std::collections::VecDeque;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use warden_host::recorder::{ENDING, FILE_BYTES, FILE_SAMPLES, FILES, FORM, TIME};
use warden_platform::atomic_file;

/// Digits of the number in a name.
const DIGITS: usize = 10;
/// Bytes of samples that wait for a disk that is full or broken: half an hour of a usual host.
pub const WAITING: usize = 64 << 10;
/// Headers in one file; a host whose units come and go all the time must not fill it with them.
const HEADERS: u32 = 30;

#[derive(Debug)]
pub struct Tape {
    directory: PathBuf,
    /// `#1 BOOT`, which tells what wrote the lines below it.
    preamble: String,
    current: Option<Current>,
    /// What could not be written yet, oldest first, and its bytes.
    waiting: VecDeque<Sample>,
    bytes: usize,
}

#[derive(Debug)]
struct Sample {
    header: Arc<str>,
    lines: String,
}

#[derive(Debug)]
struct Current {
    file: File,
    bytes: u64,
    samples: u32,
    headers: u32,
    /// The columns that its newest line has; nothing before the first.
    header: Option<Arc<str>>,
    /// Its last line was torn, and could not be taken back.
    torn: bool,
}

impl Tape {
    /// Goes on with the newest file in `directory`, if that has room.
    pub fn open(directory: &Path, boot_id: &str) -> Tape {
        let newest = numbered(directory).ok().and_then(|files| files.into_iter().next_back());
        // What cannot be gone on with is followed by a new one.
        let current = newest.and_then(|(_, path)| Current::resume(&path).ok());
        Tape {
            directory: directory.to_owned(),
            preamble: format!("{FORM}{boot_id}\n"),
            current,
            waiting: VecDeque::new(),
            bytes: 0,
        }
    }

    /// Whether the next sample begins a file, and may come with whatever columns.
    pub fn begins_file(&self) -> bool {
        self.waiting.is_empty() && self.current.as_ref().is_none_or(|current| !current.has_room())
    }

    /// Whether there is room for another header.
    pub fn takes_header(&self) -> bool {
        self.begins_file() || self.current.as_ref().is_none_or(|current| current.headers < HEADERS)
    }

    /// Appends the lines of one sample, below their header. `now` in Unix seconds is for the name of a new file, and
    /// for nothing else.
    ///
    /// # Errors
    /// The disk is full or broken. Then the newest lines wait, and go with the next that can be written.
    pub fn append(&mut self, header: &Arc<str>, lines: &str, now: i64) -> io::Result<()> {
        let has_ended = |current: &Current| !current.has_room() || current.is_gone();
        if self.waiting.is_empty() && self.current.as_ref().is_some_and(has_ended) {
            self.current = None;
        }
        let sample = Sample { header: header.clone(), lines: lines.to_owned() };
        self.bytes += sample.bytes();
        self.waiting.push_back(sample);
        while self.bytes > WAITING && self.waiting.len() > 1 {
            self.bytes -= self.waiting.pop_front().map_or(0, |oldest| oldest.bytes());
        }
        let current = match &mut self.current {
            Some(current) => current,
            none => none.insert(begin(&self.directory, now)?),
        };
        current.write(&self.preamble, &self.waiting)?;
        (self.waiting, self.bytes) = (VecDeque::new(), 0);
        Ok(())
    }
}

impl Sample {
    /// With its header, which it may need.
    fn bytes(&self) -> usize {
        self.header.len() + self.lines.len()
    }
}

impl Current {
    fn resume(path: &Path) -> io::Result<Current> {
        let file = OpenOptions::new().read(true).append(true).open(path)?;
        let mut content = Vec::new();
        (&file).take(FILE_BYTES).read_to_end(&mut content)?;
        let whole = content.iter().rposition(|byte| *byte == b'\n').map_or(0, |end| end + 1);
        content.truncate(whole);
        // Torn by a power cut, or by a disk that was full.
        file.set_len(whole as u64)?;
        let (samples, headers) = counted(&String::from_utf8_lossy(&content));
        Ok(Current { file, bytes: whole as u64, samples, headers, header: None, torn: false })
    }

    /// With the largest of what may wait it stays within the limit.
    fn has_room(&self) -> bool {
        self.samples < FILE_SAMPLES && self.bytes + (WAITING as u64) < FILE_BYTES
    }

    /// Somebody has removed it.
    fn is_gone(&self) -> bool {
        self.file.metadata().map_or(true, |file| file.nlink() == 0)
    }

    fn write(&mut self, preamble: &str, samples: &VecDeque<Sample>) -> io::Result<()> {
        let mut header = self.header.clone();
        let mut text = String::from(if self.torn { "\n" } else { "" });
        for sample in samples {
            if header.as_ref() != Some(&sample.header) {
                text.push_str(if header.is_none() { preamble } else { "" });
                text.push_str(&sample.header);
                header = Some(sample.header.clone());
            }
            text.push_str(&sample.lines);
        }
        if let Err(error) = self.file.write_all(text.as_bytes()) {
            self.torn = self.file.set_len(self.bytes).is_err();
            return Err(error);
        }
        let (samples, headers) = counted(&text);
        self.bytes += text.len() as u64;
        (self.samples, self.headers) = (self.samples + samples, self.headers + headers);
        (self.header, self.torn) = (header, false);
        Ok(())
    }
}

/// How many lines are samples, and how many name columns.
fn counted(text: &str) -> (u32, u32) {
    let mut counts = (0, 0);
    for line in text.lines() {
        counts.0 += u32::from(line.starts_with(|first: char| first.is_ascii_digit() || first == '-'));
        counts.1 += u32::from(line.starts_with(TIME));
    }
    counts
}

/// A new file, and the oldest removed where there are too many.
fn begin(directory: &Path, now: i64) -> io::Result<Current> {
    atomic_file::directory(directory).map_err(|error| io::Error::other(format!("{error:#}")))?;
    let files = numbered(directory)?;
    let number = files.last().map_or(1, |(number, _)| number.saturating_add(1));
    for (_, path) in &files[..files.len().saturating_sub(FILES - 1)] {
        std::fs::remove_file(path)?;
    }
    let path = directory.join(format!("{number:0DIGITS$}-{}{ENDING}", moment(now)));
    let file = OpenOptions::new().append(true).create_new(true).mode(atomic_file::PRIVATE).open(path)?;
    Ok(Current { file, bytes: 0, samples: 0, headers: 0, header: None, torn: false })
}

/// The recorder's own files, oldest first.
fn numbered(directory: &Path) -> io::Result<Vec<(u64, PathBuf)>> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory)? {
        let entry = entry?;
        let name = entry.file_name();
        let number = name.to_str().and_then(|name| {
            let (digits, rest) = name.split_once('-')?;
            let is_ours =
                digits.len() == DIGITS && rest.ends_with(ENDING) && entry.file_type().ok()?.is_file();
            is_ours.then(|| digits.parse().ok())?
        });
        files.extend(number.map(|number| (number, entry.path())));
    }
    files.sort();
    Ok(files)
}

/// `20261121T160000Z`, for who looks at the names.
fn moment(now: i64) -> String {
    let text = jiff::Timestamp::from_second(now).map_or_else(|_| now.to_string(), |at| at.to_string());
    text.replace(['-', ':'], "")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use warden_host::recorder::Recording;

    use super::*;

    const HEADER: &str = "time\tup\tload\n";

    fn append(tape: &mut Tape, number: u64) {
        tape.append(&HEADER.into(), &format!("{number}\t{number}\t1\n"), 1_795_262_400).unwrap();
    }

    fn read(directory: &Path) -> Recording {
        let mut recording = Recording::default();
        for (_, path) in numbered(directory).unwrap() {
            recording.read(&String::from_utf8_lossy(&std::fs::read(path).unwrap()));
        }
        recording
    }

    fn times(directory: &Path) -> Vec<i64> {
        read(directory).samples.iter().map(|stamp| stamp.time).collect()
    }

    #[test]
    fn a_day_is_kept_and_the_oldest_goes_first_whatever_the_clock_says() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("recorder");
        let mut tape = Tape::open(&directory, "boot");
        let clocks = [1_795_262_400, 0, -9_000_000_000, 4_000_000_000, i64::MAX, 1_795_262_400];
        let all = 30 * u64::from(FILE_SAMPLES);
        for number in 0..all {
            let clock = clocks[number as usize % clocks.len()];
            tape.append(&HEADER.into(), &format!("{clock}\t{number}\t1\n"), clock).unwrap();
        }
        let ups: Vec<i64> = read(&directory).samples.iter().map(|stamp| stamp.up).collect();
        let kept = FILES as i64 * i64::from(FILE_SAMPLES);
        assert_eq!(
            (ups.len() as i64, ups.first(), ups.last()),
            (kept, Some(&(all as i64 - kept)), Some(&(all as i64 - 1)))
        );
        assert_eq!(std::fs::read_dir(&directory).unwrap().count(), FILES);
    }

    #[test]
    fn a_new_start_goes_on_with_the_file_and_takes_back_a_torn_line() {
        let folder = tempfile::tempdir().unwrap();
        let mut tape = Tape::open(folder.path(), "one");
        (0..10).for_each(|number| append(&mut tape, number));
        let (_, path) = numbered(folder.path()).unwrap().remove(0);
        let mut file = OpenOptions::new().append(true).open(&path).unwrap();
        file.write_all(b"10\t10").unwrap();
        let mut tape = Tape::open(folder.path(), "two");
        append(&mut tape, 11);
        assert_eq!(numbered(folder.path()).unwrap().len(), 1);
        assert_eq!(times(folder.path()), [0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11]);
        let text = std::fs::read_to_string(&path).unwrap();
        assert!(text.ends_with("9\t9\t1\n#1 two\ntime\tup\tload\n11\t11\t1\n"), "{text}");
        (12..400).for_each(|number| append(&mut tape, number));
        assert_eq!(numbered(folder.path()).unwrap().len(), 2, "a file has no more than an hour of samples");
    }

    #[test]
    fn a_header_is_written_when_the_columns_change_and_not_without_end() {
        let folder = tempfile::tempdir().unwrap();
        let mut tape = Tape::open(folder.path(), "boot");
        append(&mut tape, 1);
        append(&mut tape, 2);
        tape.append(&"time\tup\tcpu\n".into(), "3\t3\t7\n", 0).unwrap();
        let (_, path) = numbered(folder.path()).unwrap().remove(0);
        assert_eq!(
            std::fs::read_to_string(path).unwrap(),
            "#1 boot\ntime\tup\tload\n1\t1\t1\n2\t2\t1\ntime\tup\tcpu\n3\t3\t7\n"
        );
        for number in 0..HEADERS {
            assert_eq!(tape.takes_header(), number + 2 < HEADERS, "{number}");
            tape.append(&format!("time\tup\tx{number}\n").into(), "4\t4\t4\n", 0).unwrap();
        }
    }

    #[test]
    fn what_a_full_disk_does_not_take_waits_and_no_more_of_it_than_has_a_limit() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("recorder");
        std::fs::write(&directory, "in the way").unwrap();
        let mut tape = Tape::open(&directory, "boot");
        let line = |number: u64| format!("{number}\t{number}\t1\n");
        for number in 0..10_000 {
            assert!(tape.append(&HEADER.into(), &line(number), 0).is_err());
            assert!(tape.bytes <= WAITING);
        }
        std::fs::remove_file(&directory).unwrap();
        append(&mut tape, 10_000);
        let times = times(&directory);
        assert_eq!(times.last(), Some(&10_000));
        assert!(times.windows(2).all(|pair| pair[0] + 1 == pair[1]), "the newest, without a hole");
        assert!((2000..2700).contains(&times.len()), "{}", times.len());
    }

    #[test]
    fn a_directory_that_is_taken_away_is_made_again() {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("recorder");
        let mut tape = Tape::open(&directory, "boot");
        append(&mut tape, 1);
        std::fs::remove_dir_all(&directory).unwrap();
        append(&mut tape, 2);
        assert_eq!(times(&directory), [2]);
    }

    #[test]
    fn foreign_files_are_left_alone() {
        let folder = tempfile::tempdir().unwrap();
        for name in ["notes.tsv", "0000000001-x.txt", "1-x.tsv", "9999999999x.tsv"] {
            std::fs::write(folder.path().join(name), "mine\n").unwrap();
        }
        std::fs::create_dir(folder.path().join("0000000007-x.tsv")).unwrap();
        let mut tape = Tape::open(folder.path(), "boot");
        (0..30 * u64::from(FILE_SAMPLES)).for_each(|number| append(&mut tape, number));
        assert_eq!(numbered(folder.path()).unwrap().len(), FILES);
        assert_eq!(std::fs::read_to_string(folder.path().join("notes.tsv")).unwrap(), "mine\n");
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), FILES + 5);
    }

    proptest! {
        /// Whatever a crash leaves of the newest file, the next start goes on, and what was whole before is there.
        #[test]
        fn a_file_cut_or_spoilt_anywhere_is_gone_on_with(cut in 0usize..200, junk in prop::collection::vec(any::<u8>(), 0..40)) {
            let folder = tempfile::tempdir().unwrap();
            let mut tape = Tape::open(folder.path(), "boot");
            (0..10).for_each(|number| append(&mut tape, number));
            let (_, path) = numbered(folder.path()).unwrap().remove(0);
            let mut content = std::fs::read(&path).unwrap();
            content.truncate(cut);
            let whole = content.split(|byte| *byte == b'\n').count().saturating_sub(3).min(10);
            content.extend(&junk);
            std::fs::write(&path, &content).unwrap();
            let mut tape = Tape::open(folder.path(), "boot");
            append(&mut tape, 99);
            let times = times(folder.path());
            prop_assert_eq!(times.last(), Some(&99));
            let expected: Vec<i64> = (0..whole as i64).collect();
            prop_assert_eq!(&times[..whole], &expected[..]);
        }
    }
}
