//! Writes a ZIP file front to back, without ever going back: APPNOTE.TXT 6.3.10, with its 64-bit sizes where needed.
//!
//! The `zip` crate takes packed bytes only through an unsafe door and keeps every name in memory; here a member's
//! deflate data may come from several workers, and 250,000 members take 10 MB.

use std::io::{self, Write};

/// A member as the list at the end needs it; its name is asked for again then.
struct Record {
    id: u32,
    crc: u32,
    size: u64,
    packed: u64,
    offset: u64,
    kind: Kind,
    streamed: bool,
    wide: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Directory,
    Stored,
    Deflated,
}

/// A member's name within the archive, `/` between its parts, and its time in Unix seconds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Label {
    pub name: String,
    pub modified: i64,
}

pub struct Container<W> {
    out: W,
    at: u64,
    records: Vec<Record>,
}

const LOCAL: u32 = 0x0403_4b50;
const DESCRIPTOR: u32 = 0x0807_4b50;
const CENTRAL: u32 = 0x0201_4b50;
const END_WIDE: u32 = 0x0606_4b50;
const LOCATOR: u32 = 0x0706_4b50;
const END: u32 = 0x0605_4b50;

/// "The sizes follow the data", and "the name is UTF-8".
const STREAMED: u16 = 1 << 3;
const UTF8: u16 = 1 << 11;
/// Needed to read it: 2.0 for directories and deflate, 4.5 for 64-bit sizes.
const VERSION: u16 = 20;
const VERSION_WIDE: u16 = 45;
/// Made on Unix: attributes are a mode.
const MADE_BY: u16 = 3 << 8 | VERSION_WIDE;
const WIDE_FIELD: u16 = 0x0001;
const TIME_FIELD: u16 = 0x5455;
/// In a 32-bit field: look into the 64-bit one.
const ELSEWHERE: u32 = u32::MAX;
/// From this size on a member that is written before its packed size is known gets 64-bit sizes: stored blocks add
/// less than this leaves.
const WIDE_FROM: u64 = 0xf000_0000;

impl<W: Write> Container<W> {
    pub fn new(out: W) -> Container<W> {
        Container { out, at: 0, records: Vec::new() }
    }

    /// Bytes written so far.
    pub fn written(&self) -> u64 {
        self.at
    }

    /// An empty directory; its name ends with `/`.
    pub fn directory(&mut self, id: u32, label: &Label) -> io::Result<()> {
        self.open(id, label, Kind::Directory, 0, 0, 0, false, false)
    }

    /// A member that is whole already; `deflated` tells whether `content` is deflate data of `size` bytes.
    pub fn whole(
        &mut self,
        id: u32,
        label: &Label,
        deflated: bool,
        (size, crc): (u64, u32),
        content: &[&[u8]],
    ) -> io::Result<()> {
        let kind = if deflated { Kind::Deflated } else { Kind::Stored };
        let packed = content.iter().map(|part| part.len() as u64).sum();
        self.open(id, label, kind, size, packed, crc, false, false)?;
        content.iter().try_for_each(|part| self.put(part))
    }

    /// Begins a member whose deflate data follows by [`Container::put`]; `size` is what it may grow to.
    pub fn begin(&mut self, id: u32, label: &Label, size: u64) -> io::Result<()> {
        self.open(id, label, Kind::Deflated, 0, 0, 0, true, size >= WIDE_FROM)
    }

    /// Begins a member of any size that follows as it is. Only the list at the end tells where it ends.
    pub fn begin_stored(&mut self, id: u32, label: &Label) -> io::Result<()> {
        self.open(id, label, Kind::Stored, 0, 0, 0, true, true)
    }

    pub fn put(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.at += bytes.len() as u64;
        Ok(())
    }

    /// Ends the member that was begun last, whose data began at `data_at`.
    pub fn end(&mut self, size: u64, crc: u32, data_at: u64) -> io::Result<()> {
        let packed = self.at - data_at;
        let Some(record) = self.records.last_mut() else { return Ok(()) };
        (record.size, record.packed, record.crc) = (size, packed, crc);
        let mut descriptor = Fields::default();
        descriptor.u32(DESCRIPTOR).u32(crc);
        match record.wide {
            true => descriptor.u64(packed).u64(size),
            false => descriptor.u32(packed as u32).u32(size as u32),
        };
        self.put(&descriptor.0)
    }

    #[expect(clippy::too_many_arguments, reason = "the fields of one header")]
    fn open(
        &mut self,
        id: u32,
        label: &Label,
        kind: Kind,
        size: u64,
        packed: u64,
        crc: u32,
        streamed: bool,
        wide: bool,
    ) -> io::Result<()> {
        let record = Record { id, crc, size, packed, offset: self.at, kind, streamed, wide };
        let mut header = Fields::default();
        header.u32(LOCAL).u16(record.version());
        record.common(label, &mut header);
        match wide {
            true => header.u32(ELSEWHERE).u32(ELSEWHERE),
            false => header.u32(packed as u32).u32(size as u32),
        };
        let mut extra = Fields::default();
        if wide {
            extra.u16(WIDE_FIELD).u16(16).u64(size).u64(packed);
        }
        time_field(label, &mut extra);
        header.u16(label.name.len() as u16).u16(extra.0.len() as u16);
        header.0.extend(label.name.as_bytes());
        header.0.extend(extra.0);
        self.records.push(record);
        self.put(&header.0)
    }

    /// Writes the list of members; `label` gives the label of each once more.
    pub fn finish(mut self, mut label: impl FnMut(u32) -> Label) -> io::Result<(W, u64)> {
        let begin = self.at;
        let records = std::mem::take(&mut self.records);
        for record in &records {
            let label = label(record.id);
            let entry = record.central(&label);
            self.put(&entry)?;
        }
        let (count, bytes, end) = (records.len() as u64, self.at - begin, self.at);
        let mut tail = Fields::default();
        if count >= 0xffff || begin >= ELSEWHERE.into() || bytes >= ELSEWHERE.into() {
            tail.u32(END_WIDE).u64(44).u16(MADE_BY).u16(VERSION_WIDE).u32(0).u32(0);
            tail.u64(count).u64(count).u64(bytes).u64(begin);
            tail.u32(LOCATOR).u32(0).u64(end).u32(1);
        }
        let narrow_count = u16::try_from(count).unwrap_or(u16::MAX);
        tail.u32(END).u16(0).u16(0).u16(narrow_count).u16(narrow_count);
        tail.u32(narrow(bytes)).u32(narrow(begin)).u16(0);
        self.put(&tail.0)?;
        self.out.flush()?;
        Ok((self.out, self.at))
    }
}

impl Record {
    fn version(&self) -> u16 {
        if self.wide { VERSION_WIDE } else { VERSION }
    }

    /// Flags, method, time and CRC: the same in both headers.
    fn common(&self, label: &Label, header: &mut Fields) {
        let (time, date) = dos_time(label.modified);
        let method = if self.kind == Kind::Deflated { 8 } else { 0 };
        header.u16(UTF8 | if self.streamed { STREAMED } else { 0 });
        header.u16(method).u16(time).u16(date).u32(self.crc);
    }

    fn central(&self, label: &Label) -> Vec<u8> {
        let mut wide = Fields::default();
        for value in [self.size, self.packed, self.offset] {
            if value >= ELSEWHERE.into() {
                wide.u64(value);
            }
        }
        let mut extra = Fields::default();
        if !wide.0.is_empty() {
            extra.u16(WIDE_FIELD).u16(wide.0.len() as u16);
            extra.0.extend(&wide.0);
        }
        time_field(label, &mut extra);
        let version = if wide.0.is_empty() { self.version() } else { VERSION_WIDE };
        // Readable by its owner alone, as the bundle is.
        let (mode, dos): (u32, u32) =
            if self.kind == Kind::Directory { (0o40_700, 0x10) } else { (0o100_600, 0) };
        let mut entry = Fields::default();
        entry.u32(CENTRAL).u16(MADE_BY).u16(version);
        self.common(label, &mut entry);
        entry.u32(narrow(self.packed)).u32(narrow(self.size));
        entry.u16(label.name.len() as u16).u16(extra.0.len() as u16);
        entry.u16(0).u16(0).u16(0).u32(mode << 16 | dos).u32(narrow(self.offset));
        entry.0.extend(label.name.as_bytes());
        entry.0.extend(extra.0);
        entry.0
    }
}

fn narrow(value: u64) -> u32 {
    u32::try_from(value).unwrap_or(ELSEWHERE)
}

/// Seconds since 1970 in UTC; what ZIP itself knows is two seconds, without a time zone.
fn time_field(label: &Label, extra: &mut Fields) {
    if let Ok(seconds) = i32::try_from(label.modified) {
        extra.u16(TIME_FIELD).u16(5).0.push(1);
        extra.u32(seconds.cast_unsigned());
    }
}

/// 1980 to 2107; a time outside of it is given as its first day.
fn dos_time(unix_seconds: i64) -> (u16, u16) {
    const FIRST_DAY: (u16, u16) = (0, 1 << 5 | 1);
    let civil =
        jiff::Timestamp::from_second(unix_seconds).map(|at| at.to_zoned(jiff::tz::TimeZone::UTC).datetime());
    let Ok(at) = civil else { return FIRST_DAY };
    let Some(year) = u16::try_from(at.year()).ok().and_then(|year| year.checked_sub(1980)) else {
        return FIRST_DAY;
    };
    if year > 127 {
        return FIRST_DAY;
    }
    let part = |value: i8| value.cast_unsigned().into();
    let (month, day): (u16, u16) = (part(at.month()), part(at.day()));
    let (hour, minute, second): (u16, u16, u16) = (part(at.hour()), part(at.minute()), part(at.second()));
    (hour << 11 | minute << 5 | (second / 2), year << 9 | month << 5 | day)
}

#[derive(Default)]
struct Fields(Vec<u8>);

impl Fields {
    fn u16(&mut self, value: u16) -> &mut Fields {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u32(&mut self, value: u32) -> &mut Fields {
        self.0.extend(value.to_le_bytes());
        self
    }

    fn u64(&mut self, value: u64) -> &mut Fields {
        self.0.extend(value.to_le_bytes());
        self
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Cursor, Read};

    use super::*;

    fn label(name: &str) -> Label {
        Label { name: name.to_owned(), modified: 1_795_257_393 }
    }

    #[test]
    fn every_kind_of_member_is_read_back() {
        let mut container = Container::new(Vec::new());
        container.directory(0, &label("empty/")).unwrap();
        container
            .whole(1, &label("a/ä.index"), false, (5, crc32fast::hash(b"hello")), &[b"hel", b"lo"])
            .unwrap();
        container.begin(2, &label("a/b.log"), WIDE_FROM).unwrap();
        let data_at = container.written();
        for (header, part) in super::super::deflate::stored(b"streamed") {
            container.put(&header).unwrap();
            container.put(part).unwrap();
        }
        container.put(&super::super::deflate::END).unwrap();
        container.end(8, crc32fast::hash(b"streamed"), data_at).unwrap();
        container.begin_stored(3, &label("c.zip")).unwrap();
        let data_at = container.written();
        container.put(b"as it is").unwrap();
        container.end(8, crc32fast::hash(b"as it is"), data_at).unwrap();
        let names = ["empty/", "a/ä.index", "a/b.log", "c.zip"];
        let (bytes, length) = container.finish(|id| label(names[id as usize])).unwrap();
        assert_eq!(bytes.len() as u64, length);
        let mut archive = zip::ZipArchive::new(Cursor::new(bytes)).unwrap();
        let mut read = |name: &str| {
            let mut content = String::new();
            archive.by_name(name).unwrap().read_to_string(&mut content).unwrap();
            content
        };
        assert_eq!([read("a/ä.index"), read("a/b.log"), read("c.zip")], ["hello", "streamed", "as it is"]);
        assert!(archive.by_name("empty/").unwrap().is_dir());
        assert_eq!(archive.by_name("a/b.log").unwrap().unix_mode(), Some(0o100_600));
    }

    #[test]
    fn more_members_than_sixteen_bits_count_are_all_there() {
        let mut container = Container::new(Vec::new());
        for id in 0..70_000 {
            container.whole(id, &label(&id.to_string()), false, (0, 0), &[]).unwrap();
        }
        let (bytes, _) = container.finish(|id| label(&id.to_string())).unwrap();
        assert_eq!(zip::ZipArchive::new(Cursor::new(bytes)).unwrap().len(), 70_000);
    }

    #[test]
    fn times_that_zip_does_not_know_are_its_first_day() {
        assert_eq!(dos_time(0), (0, 33));
        assert_eq!(dos_time(i64::MAX), (0, 33));
        assert_eq!(dos_time(4_354_819_200), (0, 33), "2108");
        assert_eq!(dos_time(1_795_257_393), (10 << 11 | 36 << 5 | 16, 46 << 9 | 11 << 5 | 21));
    }
}
