//! Names of files as every system can unpack them: UTF-8, and within what Windows allows.
//!
//! A byte that is not allowed stands as `%` and two hex digits, as does `%` itself, so that two names stay two.

use std::borrow::Cow;

/// Longest name of one file on the filesystems there are, in bytes.
const NAME_BYTES: usize = 255;
/// What is kept of a name that grew too long; the rest is the mark behind it.
const KEPT_BYTES: usize = 200;
/// Names of devices on Windows, with any ending.
const DEVICES: [&str; 6] = ["con", "prn", "aux", "nul", "conin$", "conout$"];

/// Whether a path may hold a secret or a name. Those that Iggy gives are words and numbers; asking the mask about each
/// of 200,000 would take its time.
pub fn is_telling(path: &str) -> bool {
    const IGGYS: [&str; 20] = [
        "streams",
        "topics",
        "partitions",
        "offsets",
        "consumers",
        "groups",
        "superblock",
        "metadata",
        "runtime",
        "state",
        "logs",
        "log",
        "index",
        "info",
        "tokens",
        "a",
        "b",
        "purge",
        "gen",
        "journal",
    ];
    path.split(['/', '.'])
        .any(|word| !word.bytes().all(|byte| byte.is_ascii_digit()) && !IGGYS.contains(&word))
}

/// One name of a path. `None` where it can stay as it is.
pub fn portable(name: &[u8]) -> Option<String> {
    let text = std::str::from_utf8(name);
    if let Ok(text) = text
        && is_portable(text)
    {
        return None;
    }
    let mut portable = String::with_capacity(name.len() + 8);
    for chunk in name.utf8_chunks() {
        for character in chunk.valid().chars() {
            match is_allowed(character) {
                true => portable.push(character),
                false => {
                    let mut buffer = [0; 4];
                    escape(character.encode_utf8(&mut buffer).as_bytes(), &mut portable);
                }
            }
        }
        escape(chunk.invalid(), &mut portable);
    }
    if is_device(&portable) {
        let first = portable.remove(0);
        portable.insert_str(0, &format!("%{:02X}", u32::from(first)));
    }
    if let Some(last) = portable.pop() {
        match last {
            '.' | ' ' => escape(&[last as u8], &mut portable),
            _ => portable.push(last),
        }
    }
    Some(shortened(portable, name))
}

/// A name that differs from another of its folder only in upper and lower case gets a number.
pub fn told_apart(name: &str, number: usize) -> String {
    format!("{}%~{number}", &name[..name.floor_char_boundary(KEPT_BYTES.min(name.len()))])
}

/// By what Windows and macOS tell names apart.
pub fn folded(name: &str) -> Cow<'_, str> {
    let same = name.bytes().all(|byte| byte.is_ascii() && !byte.is_ascii_uppercase());
    if same { Cow::Borrowed(name) } else { Cow::Owned(name.to_lowercase()) }
}

fn is_portable(text: &str) -> bool {
    text.chars().all(is_allowed) && !text.ends_with(['.', ' ']) && !is_device(text)
}

fn is_allowed(character: char) -> bool {
    // What turns the reading direction would show a name as another one.
    let turns =
        matches!(character, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}');
    !character.is_control() && !turns && !"<>:\"/\\|?*%".contains(character)
}

fn is_device(name: &str) -> bool {
    let stem = name.split('.').next().unwrap_or(name).trim_end().to_lowercase();
    let numbered = |prefix: &str| {
        stem.strip_prefix(prefix).is_some_and(|rest| {
            rest.chars().count() == 1 && rest.starts_with(|c: char| "0123456789¹²³".contains(c))
        })
    };
    DEVICES.contains(&stem.as_str()) || numbered("com") || numbered("lpt")
}

fn escape(bytes: &[u8], into: &mut String) {
    for byte in bytes {
        into.push_str(&format!("%{byte:02X}"));
    }
}

/// Names that escapes made too long keep their beginning, and the CRC of the original tells them apart.
fn shortened(portable: String, name: &[u8]) -> String {
    if portable.len() <= NAME_BYTES {
        return portable;
    }
    let kept = &portable[..portable.floor_char_boundary(KEPT_BYTES)];
    format!("{kept}%~{:08x}", crc32fast::hash(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ordinary_names_stay() {
        for name in
            ["00000000000000000000.log", "superblock.a", "täglich", ".hidden", "console", "com", "com10"]
        {
            assert_eq!(portable(name.as_bytes()), None, "{name}");
        }
    }

    #[test]
    fn names_that_somebody_cannot_unpack_are_escaped_and_stay_different() {
        let escaped = |name: &[u8]| portable(name).unwrap();
        assert_eq!(escaped(b"a\xff\xfeb"), "a%FF%FEb");
        assert_eq!(escaped(b"a:b?\n"), "a%3Ab%3F%0A");
        assert_eq!(escaped(b"50%"), "50%25");
        assert_eq!(escaped(b"..\\evil"), "..%5Cevil");
        assert_eq!(escaped(b"name. "), "name.%20");
        assert_eq!(escaped(b"name."), "name%2E");
        assert_eq!(escaped(b"NUL.txt"), "%4EUL.txt");
        assert_eq!(escaped(b"lpt1"), "%6Cpt1");
        assert_eq!(escaped("gnp\u{202e}exe".as_bytes()), "gnp%E2%80%AEexe");
        let (one, two) = (escaped(&[0xff; 255]), escaped(&[[0xff; 254].as_slice(), &[0xfe]].concat()));
        assert!(one != two && one.len() < NAME_BYTES);
    }

    #[test]
    fn names_in_one_case_are_told_apart_by_a_number() {
        assert_eq!(folded("README.Ä"), "readme.ä");
        assert_eq!(told_apart("README", 2), "README%~2");
    }
}
