//! Reads MessagePack front to back: what the server's snapshot of its metadata is written in. Nothing is built of
//! what it claims; a value that is not asked for is passed over.
//!
//! The format: <https://github.com/msgpack/msgpack/blob/master/spec.md>.

pub struct Reader<'b> {
    bytes: &'b [u8],
}

/// What a value begins with.
enum Head<'b> {
    Nil,
    Unsigned(u64),
    /// Text or bytes.
    Text(&'b [u8]),
    Array(u64),
    /// Pairs of a key and a value.
    Map(u64),
    /// A number of another kind, a boolean, an extension.
    Other,
}

impl<'b> Reader<'b> {
    pub const fn new(bytes: &'b [u8]) -> Reader<'b> {
        Reader { bytes }
    }

    /// Length of the array that begins here; `None` for anything else.
    pub fn array(&mut self) -> Option<u64> {
        match self.head()? {
            Head::Array(length) => Some(length),
            Head::Nil | Head::Unsigned(_) | Head::Text(_) | Head::Map(_) | Head::Other => None,
        }
    }

    /// Like [`Reader::array`], where nothing may stand in its place.
    pub fn array_or_nil(&mut self) -> Option<Option<u64>> {
        match self.head()? {
            Head::Array(length) => Some(Some(length)),
            Head::Nil => Some(None),
            Head::Unsigned(_) | Head::Text(_) | Head::Map(_) | Head::Other => None,
        }
    }

    pub fn unsigned(&mut self) -> Option<u64> {
        match self.head()? {
            Head::Unsigned(number) => Some(number),
            Head::Nil | Head::Text(_) | Head::Array(_) | Head::Map(_) | Head::Other => None,
        }
    }

    pub fn text(&mut self) -> Option<&'b str> {
        match self.head()? {
            Head::Text(bytes) => std::str::from_utf8(bytes).ok(),
            Head::Nil | Head::Unsigned(_) | Head::Array(_) | Head::Map(_) | Head::Other => None,
        }
    }

    /// Passes over `values` whole values; `None` where they end too early.
    pub fn skip(&mut self, values: u64) -> Option<()> {
        // Each value takes a byte at least, so that a claimed length ends with the bytes.
        let mut left = values;
        while left > 0 {
            left -= 1;
            let inner = match self.head()? {
                Head::Array(length) => length,
                Head::Map(pairs) => pairs.checked_mul(2)?,
                Head::Nil | Head::Unsigned(_) | Head::Text(_) | Head::Other => 0,
            };
            left = left.checked_add(inner)?;
        }
        Some(())
    }

    fn head(&mut self) -> Option<Head<'b>> {
        let first = self.number(1)? as u8;
        Some(match first {
            0x00..=0x7f => Head::Unsigned(u64::from(first)),
            0x80..=0x8f => Head::Map(u64::from(first & 0x0f)),
            0x90..=0x9f => Head::Array(u64::from(first & 0x0f)),
            0xa0..=0xbf => Head::Text(self.take(u64::from(first & 0x1f))?),
            0xc0 => Head::Nil,
            0xcc..=0xcf => Head::Unsigned(self.number(1 << (first - 0xcc))?),
            0xc4..=0xc6 => {
                let length = self.number(1 << (first - 0xc4))?;
                Head::Text(self.take(length)?)
            }
            0xd9..=0xdb => {
                let length = self.number(1 << (first - 0xd9))?;
                Head::Text(self.take(length)?)
            }
            0xdc | 0xdd => Head::Array(self.number(2 << (first - 0xdc))?),
            0xde | 0xdf => Head::Map(self.number(2 << (first - 0xde))?),
            // Extensions carry a byte of type besides.
            0xc7..=0xc9 => {
                let length = self.number(1 << (first - 0xc7))?;
                self.take(length.checked_add(1)?)?;
                Head::Other
            }
            0xd4..=0xd8 => {
                self.take((1 << (first - 0xd4)) + 1)?;
                Head::Other
            }
            0xca => self.other(4)?,
            0xcb => self.other(8)?,
            0xd0..=0xd3 => self.other(1 << (first - 0xd0))?,
            0xc2 | 0xc3 | 0xe0..=0xff => Head::Other,
            // Never used, by the format.
            0xc1 => return None,
        })
    }

    fn other(&mut self, bytes: u64) -> Option<Head<'b>> {
        self.take(bytes).map(|_| Head::Other)
    }

    fn number(&mut self, bytes: u64) -> Option<u64> {
        let taken = self.take(bytes)?;
        Some(taken.iter().fold(0, |number, &byte| number << 8 | u64::from(byte)))
    }

    fn take(&mut self, bytes: u64) -> Option<&'b [u8]> {
        let (taken, rest) = self.bytes.split_at_checked(usize::try_from(bytes).ok()?)?;
        self.bytes = rest;
        Some(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_of_every_kind_are_read_or_passed_over() {
        let mut reader = Reader::new(b"\x95\x07\xcd\x01\x00\xa3abc\xc0\xd9\x01x!");
        assert_eq!((reader.array(), reader.unsigned(), reader.unsigned()), (Some(5), Some(7), Some(256)));
        assert_eq!(
            (reader.text(), reader.array_or_nil(), reader.text()),
            (Some("abc"), Some(None), Some("x"))
        );
        assert_eq!(reader.bytes, b"!");
        for value in [
            &b"\xc3"[..],
            b"\xe0",
            b"\xca1234",
            b"\xcb12345678",
            b"\xd3\xff\xff\xff\xff\xff\xff\xff\xff",
            b"\xc4\x02ab",
            b"\xc7\x02Tab",
            b"\xd5Tab",
            b"\x82\xa1a\x01\xa1b\x92\x01\x02",
            b"\xdc\x00\x02\x01\x02",
            b"\xdf\x00\x00\x00\x01\x01\x02",
        ] {
            let mut reader = Reader::new(value);
            assert_eq!((reader.skip(1), reader.bytes.len()), (Some(()), 0), "{value:?}");
            for cut in 0..value.len() {
                assert_eq!(Reader::new(&value[..cut]).skip(1), None, "{value:?} cut at {cut}");
            }
        }
    }

    #[test]
    fn a_claimed_length_asks_for_nothing() {
        for claim in
            [&b"\xdd\xff\xff\xff\xff\x01"[..], b"\xdf\xff\xff\xff\xff", b"\xdb\xff\xff\xff\xffx", b"\xc1"]
        {
            assert_eq!(Reader::new(claim).skip(1), None);
        }
        assert_eq!(Reader::new(&[0x91; 4096]).skip(1), None, "depth takes no stack");
    }
}
